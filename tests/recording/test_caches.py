"""The caches: every scope, validity, context and allowed result, as redun answers."""

from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING, Any

import pytest
import redun
from redun.task import CacheCheckValid as OriginalCheckValid
from redun.task import CacheResult as OriginalResult
from redun.task import CacheScope as OriginalScope

from aredun.backend import RedunBackendDb
from aredun.errors import RedunDatabaseError, UsageError
from aredun.values import CacheCheckValid, CacheResult, CacheScope
from tests.support.recording import FakeExecution, FakeJob, at, execute

if TYPE_CHECKING:
    from pathlib import Path


@redun.task(name="inner", namespace="caches")
def inner(number: int) -> int:
    return number + 1


@redun.task(name="outer", namespace="caches")
def outer(number: int) -> int:
    return int(inner(number)) * 2


NO_ARGUMENTS: tuple[tuple[Any, ...], dict[str, Any]] = ((), {})


class Workflow:
    """Records calls by hand."""

    def __init__(self, backend: RedunBackendDb, execution_id: str) -> None:
        self.backend = backend
        self.execution = FakeExecution(execution_id)
        self.root = FakeJob(outer, self.execution)

    async def start(self) -> None:
        await self.backend.record_execution(self.execution.id, [])
        await self.backend.record_job_start(self.root, now=at(0))

    async def call(
        self,
        task: Any,
        args_hash: str,
        result: Any,
        *,
        tasks: Any = None,
        children: Any = (),
        evaluation: bool = True,
        context: dict[str, Any] | None = None,
        seconds: float = 1,
    ) -> str:
        job = FakeJob(task, self.execution, self.root)
        await self.backend.record_job_start(job, now=at(seconds))
        result_hash = await self.backend.record_value(result)
        if evaluation:
            await self.backend.set_eval_cache(eval_hash(args_hash), task.hash, args_hash, result)
        job.call_hash = await self.backend.record_call_node(
            task.fullname,
            task.hash,
            args_hash,
            NO_ARGUMENTS,
            NO_ARGUMENTS,
            result_hash,
            list(children),
            [task] if tasks is None else tasks,
        )
        if context is not None:
            await self.backend.record_call_node_context(job.call_hash, None, context)
        await self.backend.record_job_end(job, now=at(seconds + 1))
        return job.call_hash


def eval_hash(args_hash: str) -> str:
    return "e" * 20 + args_hash[:20]


async def test_every_combination_answers_as_redun_does(
    backend: RedunBackendDb, redun_backend: Any, database_url: str
) -> None:
    first = Workflow(backend, "execution-1")
    await first.start()
    await first.call(inner, "1" * 40, "plain", seconds=1)
    await first.call(outer, "2" * 40, "whole", tasks=[inner, outer], evaluation=False, seconds=2)
    await first.call(outer, "3" * 40, "step", tasks=[inner], seconds=3)
    await first.call(inner, "4" * 40, "context", context={"lane": 1}, seconds=4)
    await first.call(inner, "1" * 40, "newer", seconds=20)
    context_hash = await backend.record_value({"lane": 1})

    scopes = list(zip(OriginalScope, CacheScope, strict=True))
    valids = list(zip(OriginalCheckValid, CacheCheckValid, strict=True))
    allowed: list[Any] = [None, {"CSE"}, {"SINGLE", "ULTIMATE"}, {"MISS"}]
    cases = itertools.product(
        ((inner, "1"), (outer, "2"), (outer, "3"), (inner, "4"), (inner, "5")),
        scopes,
        valids,
        ("execution-1", "execution-2"),
        ({outer.hash}, {inner.hash, outer.hash}, set()),
        (None, context_hash),
        allowed,
    )
    questions, expected = [], []
    for (task, digit), scope, valid, execution_id, tasks, context, names in cases:
        args_hash = digit * 40
        key = (task.hash, args_hash, eval_hash(args_hash), execution_id, tasks)
        results = None if names is None else {OriginalResult(name) for name in names}
        original = redun_backend.check_cache(*key, scope[0], valid[0], context, results)
        expected.append((*original[:2], original[2].name))
        own = None if names is None else {CacheResult(name) for name in names}
        questions.append((*key, scope[1], valid[1], context, own))
    answers = await asyncio.gather(*(backend.check_cache(*question) for question in questions))
    for question, answer, right in zip(questions, answers, expected, strict=True):
        assert (*answer[:2], answer[2].name) == right, question
    assert {answer[2] for answer in answers} == set(CacheResult)


async def test_redun_enums_and_their_values_are_taken(backend: RedunBackendDb) -> None:
    workflow = Workflow(backend, "execution-1")
    await workflow.start()
    await workflow.call(inner, "1" * 40, 7)
    key = (inner.hash, "1" * 40, eval_hash("1" * 40), "another", {inner.hash})
    for scope, valid in (
        (OriginalScope.BACKEND, OriginalCheckValid.FULL),
        (CacheScope.BACKEND, CacheCheckValid.FULL),
        ("BACKEND", "full"),
    ):
        assert await backend.check_cache(*key, scope, valid) == (7, None, CacheResult.SINGLE)
    with pytest.raises(UsageError, match="CacheScope"):
        await backend.check_cache(*key, "EVERYWHERE", "full")


async def test_an_empty_subtree_is_a_miss(backend: RedunBackendDb, database_url: str) -> None:
    workflow = Workflow(backend, "execution-1")
    await workflow.start()
    call_hash = await workflow.call(outer, "1" * 40, 7, tasks=[inner, outer], evaluation=False)
    key = (outer.hash, "1" * 40, "e" * 40, "another", {inner.hash, outer.hash})
    found = await backend.check_cache(*key, CacheScope.BACKEND, CacheCheckValid.SHALLOW)
    assert found == (7, call_hash, CacheResult.ULTIMATE)
    # As redun's sync leaves it at the destination.
    execute(database_url, "DELETE FROM call_subtree_task")
    missed = await backend.check_cache(*key, CacheScope.BACKEND, CacheCheckValid.SHALLOW)
    assert missed == (None, None, CacheResult.MISS)


async def test_the_last_evaluation_counts(backend: RedunBackendDb) -> None:
    workflow = Workflow(backend, "execution-1")
    await workflow.start()
    await workflow.call(inner, "1" * 40, 7)
    await backend.set_eval_cache(eval_hash("1" * 40), inner.hash, "1" * 40, 8)
    assert await backend.get_eval_cache(eval_hash("1" * 40)) == (8, True)
    assert await backend.get_eval_cache("0" * 40) == (None, False)


async def test_calls_are_looked_up(backend: RedunBackendDb) -> None:
    workflow = Workflow(backend, "execution-1")
    await workflow.start()
    call_hash = await workflow.call(inner, "1" * 40, {"a": 1})
    assert await backend.get_call_cache(call_hash) == ({"a": 1}, True)
    assert await backend.get_call_cache("0" * 40) == (None, False)
    assert await backend.get_subtree_tasks(call_hash) == {inner.hash}
    assert await backend.get_subtree_tasks("0" * 40) == set()
    assert await backend.get_job("nobody") is None


async def test_misses_are_explained_as_by_redun(backend: RedunBackendDb, redun_backend: Any) -> None:
    workflow = Workflow(backend, "execution-1")
    await workflow.start()
    await workflow.call(inner, "1" * 40, 1)

    @redun.task(name="inner", namespace="caches", version="2")
    def changed(number: int) -> int:
        return number

    for task, args_hash in ((changed, "1"), (inner, "2"), (changed, "2"), (outer, "1")):
        own = await backend.explain_cache_miss(task, args_hash * 40)
        assert own == redun_backend.explain_cache_miss(task, args_hash * 40)


async def test_concurrent_checks_are_one_statement(backend: RedunBackendDb) -> None:
    workflow = Workflow(backend, "execution-1")
    await workflow.start()
    for number in range(50):
        await workflow.call(inner, f"{number:040}", number)
    await backend.get_eval_cache("warm up")
    before = backend.database.counts.statements
    answers = await asyncio.gather(
        *(
            backend.check_cache(
                inner.hash,
                f"{number:040}",
                eval_hash(f"{number:040}"),
                "another",
                {inner.hash},
                CacheScope.BACKEND,
                CacheCheckValid.FULL,
            )
            for number in range(50)
        )
    )
    assert [kind for _, _, kind in answers] == [CacheResult.SINGLE] * 50
    assert backend.database.counts.statements - before == 1


async def test_a_cancelled_reader_takes_nothing_from_the_others(backend: RedunBackendDb) -> None:
    value_hash = await backend.record_value("shared")
    readers = [asyncio.create_task(backend.get_value(value_hash)) for _ in range(10)]
    await asyncio.sleep(0)
    readers[0].cancel()
    assert await asyncio.gather(*readers[1:]) == [("shared", True)] * 9
    with pytest.raises(asyncio.CancelledError):
        await readers[0]


@pytest.mark.parametrize("bad", ["nul \0 inside", "half \ud800", 5, b"bytes"], ids=repr)
async def test_a_bad_question_takes_nothing_from_the_others(backend: RedunBackendDb, bad: Any) -> None:
    hashes = [await backend.record_value(["asked", number]) for number in range(10)]

    def check(eval_hash: Any) -> Any:
        return backend.check_cache(
            "t" * 40, "a" * 40, eval_hash, "e", set(), CacheScope.BACKEND, CacheCheckValid.FULL
        )

    answers = await asyncio.gather(
        *map(backend.get_value, hashes[:5]),
        backend.get_value(bad),
        check(bad),
        *map(backend.get_value, hashes[5:]),
        *(check(str(number) * 40) for number in range(5)),
        return_exceptions=True,
    )
    # What cannot be a hash is not recorded (sqlite), or the question is refused.
    assert answers[5] == (None, False) or isinstance(answers[5], Exception)
    assert answers[:5] + answers[7:12] == [(["asked", number], True) for number in range(10)]
    assert answers[12:] == [(None, None, CacheResult.MISS)] * 5
    assert backend.database.checked_out == 0


async def test_values_in_a_value_store(database_url: str, tmp_path: Path) -> None:
    config = {"value_store_path": str(tmp_path / "values"), "value_store_min_size": "200"}
    async with RedunBackendDb(database_url, config) as backend:
        large = await backend.record_value("x" * 1000)
        small = await backend.record_value("x")
        assert await backend.get_value(large) == ("x" * 1000, True)
        assert await backend.get_value(small) == ("x", True)
        path = tmp_path / "values" / large[:2] / large[2:]
        assert path.exists()
        path.unlink()
        assert await backend.get_value(large) == (None, False)
    async with RedunBackendDb(database_url) as backend:
        with pytest.raises(RedunDatabaseError, match="value_store_path"):
            await backend.get_value(large)


async def test_values_that_cannot_be_read_are_not_there(backend: RedunBackendDb, database_url: str) -> None:
    value_hash = await backend.record_value([1, 2])
    damaged = "x'80'" if database_url.startswith("sqlite") else r"'\x80'::bytea"
    execute(database_url, f"UPDATE value SET value = {damaged.replace(':', chr(92) + ':')}")
    assert await backend.get_value(value_hash) == (None, False)
