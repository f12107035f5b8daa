"""Awaited calls without a result in time: what becomes of equal ones, and of what their task returns."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
import sqlalchemy as sa

from aredun import RedunBackendDb, Scheduler, task
from aredun.models import CallNode, CallSubtreeTask
from aredun.models import Task as TaskRow
from aredun.workflow.operators import catch
from tests.support.scheduling import calls, get_statuses, select
from tests.support.verification import verify

redun_namespace = "waits"


class Gate:
    """Lets the first calls of a function wait for ever."""

    def __init__(self, blocked: int = 1) -> None:
        self.begun = asyncio.Event()
        self.opened = asyncio.Event()
        self.left = asyncio.Event()
        self.blocked = blocked

    async def __call__(self) -> None:
        calls["gate"] += 1
        if calls["gate"] > self.blocked:
            return
        self.begun.set()
        try:
            await self.opened.wait()
        except asyncio.CancelledError:
            self.left.set()
            raise


async def wait(call: Any) -> Any:
    return await call


async def give_up(call: Any, gate: Gate) -> str:
    """Await a call until its function runs, and cancel it, as a timeout would."""
    waiting = asyncio.create_task(wait(call))
    await gate.begun.wait()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    return "gave up"


async def until_fetched_twice(backend: RedunBackendDb) -> None:
    """Wait until a second, equal call waits for the first one."""
    statuses: dict[str, list[str]] = {}
    while statuses.get("fetch") != ["RUNNING", "RUNNING"]:
        await asyncio.sleep(0.01)
        statuses = await get_statuses(backend)


async def get_subtrees(backend: RedunBackendDb) -> dict[str, set[str]]:
    """Return the names of the tasks below each task."""
    statement = (
        sa.select(CallNode.task_name, TaskRow.name)
        .join(CallSubtreeTask, CallSubtreeTask.call_hash == CallNode.call_hash)
        .join(TaskRow, TaskRow.hash == CallSubtreeTask.task_hash)
    )
    found: dict[str, set[str]] = {}
    async with backend.session() as session:
        for name, below in await session.execute(statement):
            found.setdefault(name.removeprefix("waits."), set()).add(below)
    return found


async def test_call_that_timed_out_is_made_anew(scheduler: Scheduler, backend: RedunBackendDb) -> None:
    gate = Gate(blocked=2)

    @task()
    async def fetch(url: str) -> str:
        await gate()
        return f"page of {url}"

    @task()
    async def patient(url: str) -> Any:
        await give_up(fetch(url), gate)
        gate.begun.clear()
        await give_up(fetch(url), gate)
        return await fetch(url)

    assert await scheduler.run(patient("a")) == "page of a"
    assert calls["gate"] == 3
    assert await get_statuses(backend) == {"fetch": ["DONE", "FAILED", "FAILED"], "patient": ["DONE"]}


async def test_call_that_timed_out_elsewhere_is_made_anew(
    scheduler: Scheduler, backend: RedunBackendDb
) -> None:
    """The recorded cancellation is no result of the same execution."""
    gate = Gate()

    @task()
    async def fetch(url: str) -> str:
        await gate()
        return f"page of {url}"

    @task()
    async def hasty(url: str) -> str:
        return await give_up(fetch(url), gate)

    @task()
    async def patient(url: str, after: str) -> Any:
        return await fetch(url)

    @task()
    async def both() -> Any:
        return await patient("a", await hasty("a"))

    assert await scheduler.run(both()) == "page of a"
    assert await get_statuses(backend) == {
        "both": ["DONE"],
        "fetch": ["DONE", "FAILED"],
        "hasty": ["DONE"],
        "patient": ["DONE"],
    }


async def test_others_that_wait_keep_a_call_going(scheduler: Scheduler, backend: RedunBackendDb) -> None:
    """The first waiter gives up; a job elsewhere gets the result, of the one call that was made."""
    gate = Gate()
    followed = asyncio.Event()

    @task()
    async def fetch(url: str) -> str:
        await gate()
        return f"page of {url}"

    @task()
    async def hasty(url: str) -> str:
        waiting = asyncio.create_task(wait(fetch(url)))
        await gate.begun.wait()
        await followed.wait()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        gate.opened.set()
        return "gave up"

    @task()
    async def patient(url: str) -> Any:
        await gate.begun.wait()
        waiting = asyncio.create_task(wait(fetch(url)))
        await until_fetched_twice(backend)
        followed.set()
        return await waiting

    assert await scheduler.run([hasty("a"), patient("a")]) == ["gave up", "page of a"]
    assert calls["gate"] == 1
    assert (await get_statuses(backend))["fetch"] == ["CACHED", "DONE"]


async def test_call_ends_when_the_last_one_gives_up(scheduler: Scheduler, backend: RedunBackendDb) -> None:
    gate = Gate()

    @task()
    async def fetch(url: str) -> str:
        await gate()
        return f"page of {url}"

    @task()
    async def two_who_give_up(url: str) -> Any:
        first, second = (asyncio.create_task(wait(hasty(i, url))) for i in range(2))
        await until_fetched_twice(backend)
        for waiting in (first, second):
            assert not gate.left.is_set()
            waiting.cancel()
            await asyncio.wait([waiting])
        await gate.left.wait()
        return await fetch(url)

    @task()
    async def hasty(i: int, url: str) -> Any:
        return await fetch(url)

    assert await scheduler.run(two_who_give_up("a")) == "page of a"
    assert calls["gate"] == 2
    assert (await get_statuses(backend))["fetch"] == ["DONE", "FAILED", "FAILED"]


def define_slow(kind: str, way: str, gate: Gate, thread_gate: threading.Event) -> Any:
    """Define a task whose inner call does not end before it returns, by one way or another."""

    loop = asyncio.get_running_loop()

    async def slow() -> str:
        await gate()
        return "page"

    def slow_in_thread() -> str:
        calls["gate"] += 1
        if kind == "old":
            loop.call_soon_threadsafe(gate.begun.set)
            thread_gate.wait(30)
        return "page"

    function: Any = slow_in_thread if way == "thread" else slow
    inner: Any = task(name="slow", version=kind)(function)

    @task(version="1")
    async def impatient() -> Any:
        waiting = asyncio.create_task(wait(inner()))
        begun = asyncio.create_task(gate.begun.wait())
        await asyncio.wait([waiting, begun], return_when=asyncio.FIRST_COMPLETED)
        begun.cancel()
        if waiting.done():
            return waiting.result()
        if way in ("cancelled", "thread"):
            waiting.cancel()
            await asyncio.wait([waiting])
        else:
            waiting.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
        return "fallback"

    @task(version="1")
    async def main() -> Any:
        return await impatient()

    return main


@pytest.mark.parametrize("way", ["cancelled", "left behind", "thread"])
async def test_edit_of_an_unfinished_call_is_noticed(
    scheduler: Scheduler, backend: RedunBackendDb, way: str
) -> None:
    """A call that its task did not wait for to the end is among the tasks that the result depends on."""
    thread_gate = threading.Event()
    assert await scheduler.run(define_slow("old", way, Gate(), thread_gate)()) == "fallback"
    thread_gate.set()
    subtrees = await get_subtrees(backend)
    assert subtrees["impatient"] >= {"impatient", "slow"}
    assert subtrees["main"] >= {"main", "impatient", "slow"}
    assert await scheduler.run(define_slow("new", way, Gate(0), thread_gate)()) == "page"
    assert calls["gate"] == 2
    assert await scheduler.run(define_slow("new", way, Gate(0), thread_gate)()) == "page"
    assert calls["gate"] == 2
    assert (await verify(backend)).problems == []


async def test_result_in_spite_of_an_error_is_not_used_later(
    scheduler: Scheduler, backend: RedunBackendDb, redun_backend: Any
) -> None:
    """The error that a task handled may have passed: no execution uses errors of earlier ones.

    That goes for what is above it too, and for redun; the calls that had a result are not made again.
    """
    from redun.backends.base import CacheResult
    from redun.backends.db import Task as RedunTask
    from redun.task import CacheCheckValid, CacheScope

    errors = iter([OSError("down"), OSError("down"), None])

    @task(version="1")
    def load(name: str) -> str:
        calls[f"load {name}"] += 1
        error = next(errors) if name == "flaky" else None
        if error is not None:
            raise error
        return name

    @task(version="1")
    async def load_all() -> list[str]:
        calls["load_all"] += 1
        loaded = await asyncio.gather(load("flaky"), load("solid"), return_exceptions=True)
        return [repr(each) for each in loaded]

    @task(version="1")
    async def main() -> Any:
        return [await load_all(), await load_all()]

    for expected in ("OSError('down')", "OSError('down')"):
        assert await scheduler.run(main()) == [[expected, "'solid'"]] * 2
    assert calls == {"load flaky": 2, "load solid": 1, "load_all": 2}
    [args_hash] = set(await select(backend, CallNode.args_hash, where=CallNode.task_hash == load_all.hash))
    *_, answer = redun_backend.check_cache(
        load_all.hash,
        args_hash,
        "no step",
        "no execution",
        {load.hash, load_all.hash, main.hash},
        CacheScope.BACKEND,
        CacheCheckValid.SHALLOW,
    )
    assert answer == CacheResult.MISS
    names = [each.fullname for each in redun_backend.session.query(RedunTask).all()]
    assert "aredun.call_without_result" in names
    redun_backend.session.rollback()

    for _ in range(2):
        assert await scheduler.run(main()) == [["'flaky'", "'solid'"]] * 2
    assert calls == {"load flaky": 3, "load solid": 1, "load_all": 3}
    assert (await verify(backend)).problems == []


async def test_error_that_catch_recovered_from_is_cached_as_in_redun(scheduler: Scheduler) -> None:
    @task(version="1")
    def load() -> str:
        calls["load"] += 1
        raise OSError("down")

    @task(version="1")
    def recover(error: OSError) -> str:
        return "recovered"

    @task(version="1")
    async def main() -> Any:
        calls["main"] += 1
        return await catch(load(), OSError, recover)

    for _ in range(2):
        assert await scheduler.run(main()) == "recovered"
    assert calls == {"load": 1, "main": 1}


@pytest.mark.parametrize("kind", ["without provenance", "answered from the run"])
async def test_edit_below_a_call_is_noticed(scheduler: Scheduler, kind: str) -> None:
    """What a call depends on is known too where it left no record, or was not made again."""
    options = {"prov": False} if kind == "without provenance" else {}

    def define(version: str) -> Any:
        @task(version=version)
        def inner(x: int) -> str:
            return version

        @task(version="1")
        def middle(x: int) -> Any:
            return inner(x)

        @task(version="1")
        async def outer(name: str) -> Any:
            return await middle.options(**options)(1)

        @task(version=version)
        async def main() -> Any:
            return [await outer("a"), await outer("b")]

        return main

    assert await scheduler.run(define("old")()) == ["old", "old"]
    assert await scheduler.run(define("new")()) == ["new", "new"]


async def test_wait_that_outlives_its_task_takes_no_slot(backend: RedunBackendDb) -> None:
    """Neither does one that begins while another has ended: each slot that is taken is given back."""
    begun, opened = asyncio.Event(), asyncio.Event()

    @task()
    async def leaf(x: int) -> int:
        return x

    @task()
    async def slow() -> None:
        begun.set()
        await opened.wait()

    left: list[asyncio.Task[Any]] = []

    @task()
    async def hasty() -> str:
        left.append(asyncio.create_task(wait(slow())))
        await begun.wait()
        return "gone"

    @task()
    async def twice() -> list[int]:
        async def one_after_the_other(first: int) -> int:
            return int(await leaf(first)) + int(await leaf(first + 1))

        return await asyncio.gather(*(one_after_the_other(10 * i) for i in range(5)))

    @task()
    async def main() -> Any:
        gone = await hasty()
        opened.set()
        await asyncio.wait(left)
        return [gone, await twice(), await leaf(1), await leaf(2)]

    both = asyncio.Barrier(2)

    @task()
    async def meet(x: int) -> int:
        await both.wait()
        return x

    async with Scheduler(backend, max_concurrency=2) as scheduler:
        expected = ["gone", [20 * i + 1 for i in range(5)], 1, 2]
        assert await asyncio.wait_for(scheduler.run(main()), 30) == expected
        assert await asyncio.wait_for(scheduler.run([meet(1), meet(2)]), 30) == [1, 2]
