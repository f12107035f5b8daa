"""What is not run again: equal calls of one run or of an earlier one, while what they are made of stands."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import pytest

from aredun import File, Handle, RedunBackendDb, Scheduler, task
from aredun.models import CallEdge, Tag
from aredun.workflow.operators import get_context, merge_handles
from tests.support.scheduling import add, calls, double, fail, get_statuses, inc, select

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

redun_namespace = "sched"


async def test_equal_calls_in_one_job_are_one_job(scheduler: Scheduler, backend: RedunBackendDb) -> None:
    assert await scheduler.run([inc(1), inc(1), inc(1)]) == [2, 2, 2]
    assert calls["inc"] == 1
    assert (await get_statuses(backend))["inc"] == ["DONE"]


async def test_equal_calls_of_several_jobs_run_once(scheduler: Scheduler, backend: RedunBackendDb) -> None:
    """Common subexpressions: calls that are under way are waited for, finished ones are looked up."""

    @task()
    def slow(x: int) -> int:
        calls["slow"] += 1
        time.sleep(0.1)
        return x

    @task()
    def parent(name: str) -> Any:
        return slow(1)

    assert await scheduler.run([parent("a"), parent("b"), parent("c"), slow(add(0, 1))]) == [1, 1, 1, 1]
    assert calls["slow"] == 1
    assert (await get_statuses(backend))["slow"] == ["CACHED", "CACHED", "CACHED", "DONE"]
    edges = await select(backend, CallEdge.child_id)
    assert len({*edges}) == 1 + 3 + 1


async def test_second_run_is_cached(scheduler: Scheduler, backend: RedunBackendDb) -> None:
    assert await scheduler.run(add(inc(1), inc(2))) == 5
    first = {*calls.elements()}
    calls.clear()
    assert await scheduler.run(add(inc(1), inc(2))) == 5
    assert first == {"inc", "add"}
    assert calls == {}
    assert (await get_statuses(backend))["inc"] == ["CACHED", "CACHED", "DONE", "DONE"]
    assert await scheduler.run(add(inc(1), inc(2)), cache=False) == 5
    assert calls == {"inc": 2, "add": 1}


@pytest.mark.parametrize("kind", ["def", "async def"])
async def test_change_of_an_inner_task_is_a_miss(scheduler: Scheduler, kind: str) -> None:
    """A task whose own source is the same is evaluated again once a call below it changes."""

    def define(version: str, result: int) -> Callable[..., Any]:
        @task(version=version)
        def inner(x: int) -> int:
            calls["inner"] += 1
            return result

        @task(version="1")
        def middle(x: int) -> Any:
            return inner(x)

        @task(version="1")
        def plain_outer(x: int) -> Any:
            return middle(x)

        @task(version="1")
        async def async_outer(x: int) -> int:
            return int(await middle(x))

        return plain_outer if kind == "def" else async_outer

    assert await scheduler.run(define("1", 1)(0)) == 1
    assert await scheduler.run(define("1", 1)(0)) == 1
    assert calls["inner"] == 1
    assert await scheduler.run(define("2", 2)(0)) == 2
    assert await scheduler.run(define("1", 1)(0)) == 1
    assert calls["inner"] == 2


async def test_cached_file_must_be_unchanged(scheduler: Scheduler, tmp_path: Path) -> None:
    @task()
    def write(path: str) -> dict[str, File]:
        calls["write"] += 1
        file = File(path)
        file.write("original")
        return {"file": file}

    path = tmp_path / "result.txt"
    for _ in range(2):
        await scheduler.run(write(str(path)))
    assert calls["write"] == 1
    path.write_text("edited")
    await scheduler.run(write(str(path)))
    assert calls["write"] == 2
    assert path.read_text() == "original"


async def test_changed_input_file_is_a_miss(scheduler: Scheduler, tmp_path: Path) -> None:
    @task()
    async def read(file: File) -> str:
        calls["read"] += 1
        return str(await asyncio.to_thread(file.read))

    path = tmp_path / "input.txt"
    path.write_text("one")
    assert await scheduler.run(read(File(str(path)))) == "one"
    assert await scheduler.run(read(File(str(path)))) == "one"
    assert calls["read"] == 1
    path.write_text("three")
    assert await scheduler.run(read(File(str(path)))) == "three"


async def test_failure_is_not_cached_for_the_next_run(scheduler: Scheduler) -> None:
    for _ in range(2):
        with pytest.raises(ValueError, match="again"):
            await scheduler.run([fail("again"), fail("again")])
    assert calls["fail"] == 2


async def test_context_is_inherited_and_part_of_what_is_cached(backend: RedunBackendDb) -> None:
    @task()
    def ask() -> Any:
        return get_context("color.name", "none")

    @task()
    def outer() -> list[Any]:
        return [ask(), ask.update_context(color={"name": "blue"})()]

    async with Scheduler(backend, context={"color": {"name": "red"}}) as scheduler:
        assert await scheduler.run(outer()) == ["red", "blue"]
        assert await scheduler.run(outer(), context={"color": {"name": "green"}}) == ["green", "blue"]
        assert await scheduler.run(outer()) == ["red", "blue"]
    assert await select(backend, Tag.key, where=Tag.key == "redun.context")


async def test_without_provenance_nothing_is_recorded(scheduler: Scheduler, backend: RedunBackendDb) -> None:
    @task()
    def outer() -> Any:
        return add.options(prov=False)(inc(1))

    assert await scheduler.run(outer()) == 7
    assert await get_statuses(backend) == {"inc": ["DONE"], "outer": ["DONE"]}
    assert await scheduler.run(inc.options(prov=False)(1)) == 2
    assert calls["inc"] == 2


class Counted(Handle):
    """A handle with a type name of its own."""

    type_name = "sched.Counted"

    def __init__(self, name: str) -> None:
        self.instance = name


async def test_handles_advance_and_roll_back(scheduler: Scheduler, backend: RedunBackendDb) -> None:
    """A state that a later version of a step replaced is not used again."""

    def define(version: str) -> Any:
        @task(version=version)
        def step(handle: Counted) -> Counted:
            calls[f"step{version}"] += 1
            return handle

        @task(version="1")
        def last(handle: Counted) -> Counted:
            calls["last"] += 1
            return handle

        @task(version=version)
        def flow() -> Any:
            return last(step(Counted("db")))

        return flow

    for version in ("1", "1", "2", "1"):
        result = await scheduler.run(define(version)())
        assert await backend.is_valid_handle(result)
    assert calls["step1"] == 2
    assert calls["step2"] == 1


async def test_merged_handles(scheduler: Scheduler, backend: RedunBackendDb) -> None:
    @task()
    def use(handle: Counted, x: int) -> Counted:
        return handle

    @task()
    def flow() -> Any:
        handle = Counted("merged")
        return merge_handles([use(handle, 1), use(handle, 2)])

    assert await backend.is_valid_handle(await scheduler.run(flow()))


async def test_cached_async_calls_share_their_reads(scheduler: Scheduler, backend: RedunBackendDb) -> None:
    """What a cached call consists of is asked for many calls at a time, as the caches are."""

    @task()
    async def spread(n: int) -> Any:
        return await asyncio.gather(*(double(i) for i in range(n)))

    assert await scheduler.run(spread(40)) == [2 * i for i in range(40)]
    before = backend.database.counts.reads
    assert await scheduler.run(spread(41)) == [2 * i for i in range(41)]
    assert calls["double"] == 41
    assert backend.database.counts.reads - before < 40
