"""Recording: the rows that redun would have written, atomically, as often as one likes."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections import namedtuple
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
import redun
import sqlalchemy as sa
from redun.backends.base import TagEntity as OriginalTagEntity
from redun.backends.db import RedunBackendDb as OriginalBackend
from redun.backends.db import Task as OriginalTask
from redun.expression import SchedulerExpression, TaskExpression
from redun.value import get_type_registry as get_original_registry

from aredun.backend import RedunBackendDb
from aredun.errors import RedunDatabaseError, UsageError
from aredun.formats.hashing import hash_call_node
from aredun.models import Execution
from aredun.recording import recorder as recording
from aredun.recording.call_rows import find_upstream_calls
from tests.support.databases import redun_uri
from tests.support.recording import FakeExecution, FakeJob, at, count_rows, execute, other_database, read_rows

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Pair = namedtuple("Pair", ["left", "right"])


@redun.task(name="main", namespace="recording")
def main_task(samples: list[int], depth: int = 3) -> list[int]:
    return samples * depth


@redun.task(name="align", namespace="recording")
def align(sample: int, *, depth: int = 3) -> dict[str, int]:
    return {"sample": sample * depth}


@redun.task(name="hidden", namespace="recording", prov=False)
def hidden(sample: int) -> int:
    return sample


@pytest.fixture
def other_url(dialect: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A second migrated database of the same kind."""
    with other_database(dialect, request, tmp_path) as url:
        yield url


class Calls:
    """Calls methods by name, awaiting what has to be awaited."""

    def __init__(self, backend: Any) -> None:
        self.backend = backend

    async def __call__(self, name: str, *args: Any, **kwargs: Any) -> Any:
        result = getattr(self.backend, name)(*args, **kwargs)
        return await result if inspect.isawaitable(result) else result


def evaluated(expression: Any, call_hash: str) -> Any:
    """Return a task expression as it is once its call was recorded."""
    expression.call_hash = call_hash
    return expression


async def record_workflow(call: Calls, folder: Path) -> dict[str, str]:
    """Record every shape of job, call, argument and value that redun has; returns the hashes."""
    execution = FakeExecution("execution-1")
    root = FakeJob(main_task, execution, id="job-root")
    await call("record_execution", execution.id, ["redun", "run", "workflow.py", "main"])
    await call("record_updated_time", execution.id)
    await call("record_job_start", root, now=at(0))

    hashes = await record_values(call, redun.File(str(folder / "in.txt")))
    child = FakeJob(align, execution, root, id="job-child")
    await call("record_job_start", child, now=at(1))
    result_hash = await call("record_value", {"sample": 6})
    child.call_hash = await call(
        "record_call_node",
        align.fullname,
        align.hash,
        "a" * 40,
        ((2,), {}),
        ((2,), {"depth": 3}),
        result_hash,
        [],
        {align},
    )
    await call("set_eval_cache", "e" * 40, align.hash, "a" * 40, {"sample": 5})
    await call("set_eval_cache", "e" * 40, align.hash, "a" * 40, {"sample": 6}, result_hash)
    await call("record_job_end", child, now=at(2))
    assert child.call_hash is not None
    hashes["child"] = child.call_hash
    hashes |= await record_lineage(call, child.call_hash, result_hash)

    cached = FakeJob(align, execution, root, id="job-cached", was_cached=True, call_hash=child.call_hash)
    await call("record_job_end", cached, now=at(3))
    hashes["context"] = await call("record_call_node_context", child.call_hash, None, {"lane": 1})

    unrecorded = hash_call_node(hidden.hash, "b" * 40, hashes["value0"], [])
    root.call_hash = await call(
        "record_call_node",
        main_task.fullname,
        main_task.hash,
        "c" * 40,
        (([1, 2],), {}),
        (([1, 2],), {"depth": 3}),
        hashes["value4"],
        [child.call_hash, unrecorded, child.call_hash],
        {main_task, align, hidden},
    )
    hashes["root"] = root.call_hash
    await call("record_job_end", root, now=at(4), status="DONE")
    await call("record_tags", OriginalTagEntity.Job, root.id, [("user", "ada"), ("n", {"b": [1]})])
    return hashes


async def record_values(call: Calls, file: redun.File) -> dict[str, str]:
    """Record values of all kinds; returns their hashes."""
    containers = [{"a": [1.5, (True, None)]}, {3, 4}, [file, {"again": file}]]
    values = [1, "text", b"bytes", None, *containers, file, align]
    hashes = {f"value{number}": await call("record_value", value) for number, value in enumerate(values)}
    hashes["data"] = await call("record_value", 5, data=get_original_registry().serialize(5))
    return hashes


async def record_lineage(call: Calls, upstream: str, result_hash: str) -> dict[str, str]:
    """Record a call whose arguments came from another one, each in another way."""
    lazy = evaluated(align(2), upstream)
    plain = {"sample": 6}
    expressions = (lazy, [lazy["sample"], 7], {"nested": Pair(lazy, {"deep": lazy})}, lazy["sample"] + 1, 8)
    values = (plain, [6, 7], {"nested": Pair(plain, {"deep": plain})}, 7, 8)
    keywords = {"z": SchedulerExpression("redun.catch", (lazy, ValueError), {}), "b": 1}
    call_hash = await call(
        "record_call_node",
        align.fullname,
        align.hash,
        "d" * 40,
        (expressions, keywords),
        (values, {"z": plain, "b": 1, "default": 2}),
        result_hash,
        [upstream],
        {align},
    )
    return {"lineage": call_hash}


@pytest.mark.parametrize("registry", ["own", "redun's"])
async def test_rows_are_those_of_redun(
    redun_backend: OriginalBackend,
    database_url: str,
    other_url: str,
    registry: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "in.txt").write_text("reads")
    monkeypatch.setattr("redun.backends.db.utcnow", lambda: at(9))
    monkeypatch.setattr(recording, "utcnow", lambda: at(9))
    expected = await record_workflow(Calls(redun_backend), tmp_path)
    own_registry = get_original_registry() if registry == "redun's" else None
    async with RedunBackendDb(other_url, type_registry=own_registry) as backend:
        assert await record_workflow(Calls(backend), tmp_path) == expected
        again = read_rows(other_url)
        await record_workflow_again(backend, tmp_path)
    original, own = read_rows(database_url), read_rows(other_url)
    assert own == again
    assert own.keys() == original.keys()
    for table, rows in original.items():
        assert own[table] == rows, table


async def record_workflow_again(backend: RedunBackendDb, folder: Path) -> None:
    """Record parts of the same once more, later: nothing may change."""
    execution = FakeExecution("execution-1")
    root = FakeJob(main_task, execution, id="job-root")
    await backend.record_execution(execution.id, ["redun", "run", "workflow.py", "main"])
    await backend.record_job_start(root, now=at(0))
    await backend.record_job_start(FakeJob(align, execution, root, id="job-child"), now=at(70))
    file = redun.File(str(folder / "in.txt"))
    await backend.record_value([file, {"again": file}])
    result_hash = await backend.record_value({"sample": 6})
    arguments: tuple[Any, Any] = ((2,), {"depth": 3})
    call: Any = (align.fullname, align.hash, "a" * 40, ((2,), {}), arguments, result_hash, [], {align})
    await asyncio.gather(*(backend.record_call_node(*call) for _ in range(10)))


async def test_redun_reads_what_was_recorded(
    backend: RedunBackendDb, database_url: str, tmp_path: Path
) -> None:
    (tmp_path / "in.txt").write_text("reads")
    hashes = await record_workflow(Calls(backend), tmp_path)
    original = OriginalBackend(db_uri=redun_uri(database_url))
    original.load(migrate=False)
    assert original.get_call_cache(hashes["child"]) == ({"sample": 6}, True)
    assert original.get_eval_cache("e" * 40) == ({"sample": 6}, True)
    assert original.get_subtree_tasks(hashes["root"]) == {main_task.hash, align.hash, hidden.hash}
    assert original.get_job("job-child") == await backend.get_job("job-child")
    original.session.close()
    original.engine.dispose()


async def test_subtree_tasks_are_inferred(backend: RedunBackendDb) -> None:
    execution = FakeExecution()
    await backend.record_execution(execution.id, [])
    root = FakeJob(main_task, execution)
    await backend.record_job_start(root)
    await backend.record_job_start(FakeJob(align, execution, root))
    result = await backend.record_value(1)
    arguments: tuple[tuple[Any, ...], dict[str, Any]] = ((), {})

    async def node(task: Any, args_hash: str, children: list[str], tasks: Any = None) -> str:
        return await backend.record_call_node(
            task.fullname, task.hash, args_hash, arguments, arguments, result, children, tasks
        )

    leaf = await node(align, "1" * 40, [])
    assert await backend.get_subtree_tasks(leaf) == {align.hash}
    parent = await node(main_task, "2" * 40, [leaf, leaf])
    assert await backend.get_subtree_tasks(parent) == {align.hash, main_task.hash}
    # Within one transaction too, where the child is not in the database yet.
    async with backend.batch():
        leaf2 = await node(align, "3" * 40, [])
        parent2 = await node(main_task, "4" * 40, [leaf2])
    assert await backend.get_subtree_tasks(parent2) == {align.hash, main_task.hash}
    # What is not known of a child is not known of its parent.
    unknown = await node(align, "5" * 40, [], [])
    above = await node(main_task, "6" * 40, [unknown])
    assert await backend.get_subtree_tasks(above) == set()


async def test_a_recorded_call_keeps_its_subtree(backend: RedunBackendDb, redun_backend: Any) -> None:
    """An equal call may depend on more tasks (of calls that had not ended); those above the first do not."""
    arguments: tuple[tuple[Any, ...], dict[str, Any]] = ((), {})
    execution = FakeExecution()
    await backend.record_execution(execution.id, [])
    for task in (main_task, align):
        await backend.record_job_start(FakeJob(task, execution))

    async def record_twice(call: Calls, args_hash: str) -> str:
        value_hash = await call("record_value", 1)
        row: tuple[Any, ...] = (align.fullname, align.hash, args_hash, arguments, arguments, value_hash, [])
        call_hash: str = await call("record_call_node", *row, {align})
        assert call_hash == await call("record_call_node", *row, {align, main_task})
        return call_hash

    original = await record_twice(Calls(redun_backend), "1" * 40)
    apart = await record_twice(Calls(backend), "2" * 40)
    async with backend.batch():
        together = await record_twice(Calls(backend), "3" * 40)
    for call_hash in (original, apart, together):
        assert await backend.get_subtree_tasks(call_hash) == {align.hash}


async def test_lineage_to_a_call_that_kept_no_provenance_is_left_out(
    backend: RedunBackendDb, database_url: str
) -> None:
    execution = FakeExecution()
    await backend.record_execution(execution.id, [])
    await backend.record_job_start(FakeJob(align, execution))
    result = await backend.record_value(1)
    lazy = evaluated(hidden(1), "f" * 40)
    await backend.record_call_node(
        align.fullname, align.hash, "a" * 40, ((lazy,), {}), ((1,), {}), result, ["f" * 40], [align, hidden]
    )
    assert count_rows(database_url, "argument") == 1
    assert count_rows(database_url, "argument_result") == 0
    assert count_rows(database_url, "call_edge") == 0
    assert count_rows(database_url, "task") == 2


def test_lineage_is_found_as_redun_finds_it() -> None:
    original = OriginalBackend("sqlite:///:memory:")
    first, second = evaluated(align(1), "1" * 40), evaluated(align(2), "2" * 40)
    expressions: list[Any] = [
        first,
        first["sample"],
        [first, {second: 1}],
        Pair(first["a"]["b"], (second + 1, {first})),
        SchedulerExpression("redun.cond", (first, [second]), {"key": first["x"]}),
        evaluated(SchedulerExpression("redun.cond", (first,), {}), "3" * 40),
        TaskExpression("recording.align", (first,), {}),
        [1, "text", None, {"a": (2.5, b"x")}],
        object(),
    ]
    for expression in expressions:
        assert find_upstream_calls(expression) == set(original._find_arg_upstreams(expression)), expression


@dataclass
class LazyCall:
    """Anything that knows its call, or what it was made of: here a container as redun sees it."""

    call_hash: str | None = None
    _upstreams: Any = ()
    note: Any = None


LazyPair = namedtuple("LazyPair", ["call_hash", "value"])


def test_lineage_is_found_on_containers_too() -> None:
    assert find_upstream_calls(LazyCall("1" * 40)) == {"1" * 40}
    assert find_upstream_calls({"a": [LazyPair("2" * 40, 1)]}) == {"2" * 40}
    made_of = LazyCall(_upstreams=[LazyCall("1" * 40), (LazyCall("2" * 40), 5)])
    assert find_upstream_calls([made_of, {3: LazyCall("3" * 40)}]) == {digit * 40 for digit in "123"}
    # One that came from nowhere is a container like any other.
    assert find_upstream_calls(LazyCall(_upstreams=None, note=[LazyCall("4" * 40)])) == {"4" * 40}


def test_a_long_sum_of_expressions_is_followed() -> None:
    total = evaluated(align(1), "1" * 40)["sample"]
    for number in range(3000):
        total = total + total if number % 2 else total + 1
    assert find_upstream_calls(total) == {"1" * 40}


async def test_the_execution_waits_for_its_root_job(backend: RedunBackendDb, database_url: str) -> None:
    execution = FakeExecution()
    await backend.record_execution(execution.id, ["main"])
    await backend.record_updated_time()
    assert count_rows(database_url, "execution") == 0
    await backend.record_job_start(FakeJob(main_task, execution, id="root"))
    async with backend.session() as session:
        row = (await session.scalars(sa.select(Execution))).one()
    assert (row.args, row.job_id) == ('["main"]', "root")
    assert row.updated_time is not None
    await backend.record_updated_time(execution.id)
    async with backend.session() as session:
        later = (await session.scalars(sa.select(Execution.updated_time))).one()
    assert later is not None
    assert later > row.updated_time


async def test_a_heartbeat_needs_an_execution(backend: RedunBackendDb) -> None:
    with pytest.raises(UsageError, match="execution_id"):
        await backend.record_updated_time()


async def test_a_failed_root_job_keeps_its_execution_for_the_next_try(
    backend: RedunBackendDb, database_url: str
) -> None:
    execution = FakeExecution()
    await backend.record_execution(execution.id, ["main"])
    orphan = FakeJob(main_task, FakeExecution("nowhere"))
    with pytest.raises(RedunDatabaseError):
        await backend.record_job_start(orphan)
    bad = FakeJob(main_task, execution, call_hash="0" * 40)
    with pytest.raises(RedunDatabaseError):
        await backend.record_job_end(bad)
    assert count_rows(database_url, "execution") == 0
    await backend.record_job_start(FakeJob(main_task, execution))
    assert count_rows(database_url, "execution") == 1


async def test_a_value_is_never_there_without_its_parts(
    backend: RedunBackendDb, database_url: str, tmp_path: Path
) -> None:
    (tmp_path / "a").write_text("a")
    files = [redun.File(str(tmp_path / "a"))]
    value_hash = await backend.record_value(files)
    execute(database_url, "DELETE FROM subvalue", "DELETE FROM file")
    # redun leaves the links lost for good: the value is there, so nothing of it is written again.
    assert await backend.record_value(files) == value_hash
    assert count_rows(database_url, "subvalue") == 1
    assert count_rows(database_url, "file") == 1


async def test_bad_values_fail_alone(backend: RedunBackendDb) -> None:
    results: list[Any] = await asyncio.gather(
        *(backend.record_value(number) for number in range(20)),
        backend.record_value(lambda: None),
        backend.set_eval_cache("e" * 40, "no such task", "a" * 40, 1),
        backend.record_job_start(FakeJob(align, FakeExecution("nul \x00 inside"))),
        return_exceptions=True,
    )
    assert [result for result in results[:20] if not isinstance(result, str)] == []
    assert isinstance(results[20], Exception)
    assert isinstance(results[21], RedunDatabaseError)
    assert isinstance(results[22], RedunDatabaseError)
    for number in range(20):
        assert await backend.get_value(results[number]) == (number, True)


async def test_half_a_character_is_refused_in_one_line(backend: RedunBackendDb) -> None:
    with pytest.raises(RedunDatabaseError, match="surrogates not allowed"):
        await backend.get_job("half \ud800")
    with pytest.raises(RedunDatabaseError, match="half a character"):
        await backend.record_job_start(FakeJob(align, FakeExecution(), id="half \ud800"))


@dataclass(frozen=True)
class FakeTask:
    """What backends read of a task."""

    name: str = "align"
    namespace: str = "somewhere.else"
    source: str = "def align(): ..."
    hash: str = "ab" * 20

    @property
    def fullname(self) -> str:
        return f"{self.namespace}.{self.name}"


@pytest.mark.parametrize("registry", [None, get_original_registry()], ids=["own", "redun's"])
async def test_what_looks_like_a_task_is_recorded_as_one(
    database_url: str, redun_backend: Any, registry: Any
) -> None:
    task = FakeTask()
    job = FakeJob(task, FakeExecution())
    async with RedunBackendDb(database_url, type_registry=registry) as backend:
        await backend.record_execution(job.execution.id, ["main"])
        await backend.record_job_start(job)
        result_hash = await backend.record_value(1)
        job.call_hash = await backend.record_call_node(
            task.fullname, task.hash, "a" * 40, ((), {}), ((), {}), result_hash, [], {task}
        )
        await backend.record_job_end(job)
        assert await backend.get_subtree_tasks(job.call_hash) == {task.hash}
    recorded = redun_backend.session.query(OriginalTask).one()
    assert (recorded.hash, recorded.fullname, recorded.source) == (task.hash, task.fullname, task.source)
    value, is_there = redun_backend.get_value(task.hash)
    assert is_there
    assert isinstance(value, redun.Task)
    assert (value.fullname, value.hash) == (task.fullname, task.hash)


async def test_too_large_values_are_refused(database_url: str) -> None:
    async with RedunBackendDb(database_url, {"max_value_size": "1000"}) as backend:
        await backend.record_value("x" * 900)
        with pytest.raises(RedunDatabaseError, match="max_value_size"):
            await backend.record_value("x" * 1100)
        with pytest.raises(RedunDatabaseError, match="max_value_size"):
            await backend.record_value([1], data=b"x" * 1100)


class Watched:
    """Notes the threads that it is pickled and read back in."""

    threads: ClassVar[list[int]] = []

    def __getstate__(self) -> dict[str, int]:
        self.threads.append(threading.get_ident())
        return {"number": 1}

    def __setstate__(self, state: dict[str, int]) -> None:
        self.threads.append(threading.get_ident())


async def test_large_and_unknown_values_leave_the_loop_alone(backend: RedunBackendDb) -> None:
    Watched.threads.clear()
    await backend.record_value(Watched())
    value_hash = await backend.record_value([Watched(), "x" * 100_000])
    assert (await backend.get_value(value_hash))[1]
    assert len(Watched.threads) >= 3
    assert threading.get_ident() not in Watched.threads


async def test_a_job_without_task_or_execution_is_refused(backend: RedunBackendDb) -> None:
    job = FakeJob(None)
    with pytest.raises(UsageError, match="task"):
        await backend.record_job_start(job)
    job = FakeJob(main_task)
    job.execution = None  # type: ignore[assignment]  # that is the point
    with pytest.raises(UsageError, match="execution"):
        await backend.record_job_end(job)


async def test_the_job_that_starts_is_returned(backend: RedunBackendDb) -> None:
    execution = FakeExecution()
    await backend.record_execution(execution.id, [])
    job = await backend.record_job_start(FakeJob(main_task, execution, id="root"), now=at(1))
    assert (job.id, job.start_time, job.end_time, job.cached) == ("root", at(1), None, False)
    assert job.execution_id == execution.id
