"""However a workflow ends, its jobs have ended, and nothing of it is left or heard of afterwards."""

from __future__ import annotations

import asyncio
import gc
import sqlite3
import threading
from concurrent.futures import CancelledError as FutureCancelled
from contextlib import closing
from typing import TYPE_CHECKING, Any, ClassVar

import anyio
import pytest

from aredun import RedunBackendDb, RedunDatabaseError, Scheduler, UsageError, task
from tests.support.commands import run_aredun
from tests.support.scheduling import get_statuses, inc

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

redun_namespace = "endings"


class Panic(BaseException):
    """What an extension raises that is at its end."""


@pytest.fixture(autouse=True)
async def complaints() -> AsyncIterator[list[str]]:
    """What asyncio has to say about tasks that are lost; nothing at all is right."""
    heard: list[str] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: heard.append(repr(context)))
    before = asyncio.all_tasks()
    yield heard
    await asyncio.sleep(0)
    gc.collect()
    left = [each for each in asyncio.all_tasks() - before if "aredun/workflow" in repr(each.get_coro())]
    assert (heard, left) == ([], [])


def raise_panic() -> None:
    raise Panic("index out of bounds")


def raise_cancelled() -> None:
    raise asyncio.CancelledError


def raise_future_cancelled() -> None:
    raise FutureCancelled


def raise_interrupt() -> None:
    raise KeyboardInterrupt


def raise_exit() -> None:
    raise GeneratorExit


async def await_panic() -> None:
    raise_panic()


async def await_exit() -> None:
    raise_exit()


async def await_cancelled() -> None:
    helper = asyncio.create_task(asyncio.sleep(3600))
    helper.cancel()
    await helper


async def cancel_itself() -> None:
    current = asyncio.current_task()
    assert current is not None
    current.cancel()
    await asyncio.sleep(3600)


FAILURES = {
    raise_panic: "raised Panic: index out of bounds",
    await_panic: "raised Panic: index out of bounds",
    raise_cancelled: "raised CancelledError though nobody cancelled it: what it waited for was",
    raise_future_cancelled: "raised CancelledError though nobody cancelled it: what it waited for was",
    await_cancelled: "raised CancelledError though nobody cancelled it: what it waited for was",
    cancel_itself: "raised CancelledError though nobody cancelled it: what it waited for was",
    raise_interrupt: "raised KeyboardInterrupt",
    raise_exit: "raised GeneratorExit",
    await_exit: "raised GeneratorExit",
}


@pytest.mark.parametrize("function", FAILURES, ids=lambda function: function.__name__)
async def test_what_is_no_exception_fails_the_job(
    scheduler: Scheduler, backend: RedunBackendDb, function: Any
) -> None:
    """It neither ends the event loop, nor looks like a cancellation, nor leaves jobs running."""
    failing = task(name="failing", version="1")(function)

    @task()
    def call() -> Any:
        return failing()

    @task()
    async def handle() -> str:
        try:
            return str(await failing())
        except RuntimeError as error:
            return f"handled: {error}"

    message = f"task endings.failing {FAILURES[function]}"
    with pytest.raises(RuntimeError) as raised:
        await scheduler.run(call())
    assert str(raised.value) == message
    assert scheduler.traceback is not None
    assert [frame.name for frame in scheduler.traceback.frames][:2] == ["endings.call", "endings.failing"]
    assert function.__name__ in [frame.name for frame in scheduler.traceback.frames]
    assert await get_statuses(backend) == {"call": ["FAILED"], "failing": ["FAILED"]}
    assert await scheduler.run(handle()) == f"handled: {message}"


async def test_errors_at_once_are_all_recorded(scheduler: Scheduler, backend: RedunBackendDb) -> None:
    """The first one ends the workflow while the others are being recorded."""
    ready = asyncio.Barrier(20)

    @task()
    async def fail_late(x: int) -> None:
        await ready.wait()
        raise ValueError(f"no {x}")

    with pytest.raises(ValueError, match="no "):
        await scheduler.run([fail_late(x) for x in range(20)])
    assert await get_statuses(backend) == {"fail_late": ["FAILED"] * 20, "root_task": ["FAILED"]}


class Forest:
    """A workflow that ends when it is cancelled only."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.opened = threading.Event()
        begun = asyncio.Semaphore(0)
        loop = asyncio.get_running_loop()

        @task()
        async def endless(x: int) -> None:
            begun.release()
            await asyncio.sleep(3600)

        @task()
        def block() -> None:
            loop.call_soon_threadsafe(begun.release)
            self.opened.wait(30)

        @task()
        async def parent(x: int) -> Any:
            return await asyncio.gather(endless(x), endless(x + 1))

        @task()
        async def main() -> Any:
            first = asyncio.gather(*(parent(x) for x in range(3)), block())
            for _ in range(5):
                await begun.acquire()
            self.begun.set()
            return await first

        self.call = main

    statuses: ClassVar = {
        "block": ["FAILED"],
        "endless": ["FAILED"] * 6,
        "main": ["FAILED"],
        "parent": ["FAILED"] * 3,
    }


async def test_cancelled_again_and_again(backend: RedunBackendDb) -> None:
    """As `anyio` does it: what is awaited in a scope that has ended is cancelled at each turn of the loop."""
    forest = Forest()
    with anyio.CancelScope() as scope:
        async with Scheduler(backend) as scheduler:
            run = scheduler.run(forest.call())
            asyncio.get_running_loop().create_task(forest.begun.wait()).add_done_callback(
                lambda _: scope.cancel()
            )
            await run
    forest.opened.set()
    assert scope.cancelled_caught
    assert await get_statuses(backend) == forest.statuses


@pytest.mark.parametrize("turns", range(6))
async def test_cancelled_twice(backend: RedunBackendDb, turns: int) -> None:
    forest = Forest()

    async def run() -> None:
        async with Scheduler(backend) as scheduler:
            await scheduler.run(forest.call())

    running = asyncio.create_task(run())
    await forest.begun.wait()
    for _ in range(2):
        running.cancel()
        for _ in range(turns):
            await asyncio.sleep(0)
    with pytest.raises(asyncio.CancelledError):
        await running
    forest.opened.set()
    assert await get_statuses(backend) == forest.statuses


@pytest.mark.parametrize("turns", [0, 1, 2, 5, 10, 20, 50, 100])
async def test_cancelled_at_any_time(backend: RedunBackendDb, turns: int) -> None:
    @task()
    async def leaf(x: int) -> int:
        return x

    @task()
    async def main() -> Any:
        return [await asyncio.gather(*(leaf(10 * y + x) for x in range(10))) for y in range(10)]

    async with Scheduler(backend) as scheduler:
        running = asyncio.create_task(scheduler.run([main(), inc(1)]))
        for _ in range(turns):
            await asyncio.sleep(0)
        running.cancel()
        await asyncio.sleep(0)
        running.cancel()
        await asyncio.wait([running])
        assert running.cancelled()
        statuses = await get_statuses(backend)
    assert not [name for name, found in statuses.items() if "RUNNING" in found]


async def test_cancelled_while_threads_finish(backend: RedunBackendDb) -> None:
    """A failed run waits for plain functions to finish, unless it is cancelled meanwhile."""
    begun, opened = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    @task()
    def block() -> None:
        loop.call_soon_threadsafe(begun.set)
        opened.wait(30)

    @task()
    async def fail_at_last() -> None:
        await begun.wait()
        raise ValueError("no")

    async def run() -> None:
        async with Scheduler(backend) as scheduler:
            await scheduler.run([block(), fail_at_last()])

    running = asyncio.create_task(run())
    statuses: dict[str, list[str]] = {}
    while statuses.get("root_task") != ["FAILED"]:
        await asyncio.sleep(0.01)
        statuses = await get_statuses(backend)
    assert statuses["block"] == ["RUNNING"]
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert not opened.is_set()
    opened.set()
    assert (await get_statuses(backend))["block"] == ["FAILED"]


async def test_scheduler_that_closes_under_a_run(backend: RedunBackendDb) -> None:
    forest = Forest()
    async with Scheduler(backend) as scheduler:
        running = asyncio.create_task(scheduler.run(forest.call()))
        await forest.begun.wait()
        forest.opened.set()
    with pytest.raises(UsageError, match="the scheduler was closed while the workflow was running"):
        await running
    statuses = await get_statuses(backend)
    assert {**statuses, "block": None} == {**forest.statuses, "block": None}
    assert statuses["block"] != ["RUNNING"]
    async with scheduler:
        assert await scheduler.run(inc(1)) == 2


async def test_close_that_is_cancelled_ends_all_the_same() -> None:
    """A second one waits for the first; a database of the scheduler's own is closed."""
    begun, opened = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    @task()
    def block() -> None:
        loop.call_soon_threadsafe(begun.set)
        opened.wait(30)

    @task()
    async def hasty() -> str:
        waiting = asyncio.ensure_future(_await(block()))
        await begun.wait()
        waiting.cancel()
        return "gone"

    scheduler = Scheduler()
    await scheduler.__aenter__()
    assert await scheduler.run(hasty()) == "gone"
    first, second = (asyncio.create_task(scheduler.__aexit__(None, None, None)) for _ in range(2))
    await asyncio.sleep(0.05)
    assert not first.done()
    assert not second.done()
    first.cancel()
    await asyncio.wait([first, second])
    assert first.cancelled()
    assert second.exception() is None
    opened.set()
    with pytest.raises(RedunDatabaseError, match="the backend is closed"):
        await scheduler.backend.get_value("0" * 40)
    with pytest.raises(UsageError, match="not open"):
        await scheduler.run(inc(1))


async def _await(call: Any) -> Any:
    return await call


WORKFLOW = """
from aredun import task

redun_namespace = "ends"


class Panic(BaseException):
    pass


@task()
def panic():
    raise Panic("index out of bounds")


@task()
async def interrupt():
    raise KeyboardInterrupt


@task()
def main(name: str):
    return globals()[name]()
"""


@pytest.mark.parametrize(
    ("name", "code", "expected"),
    [
        ("panic", 1, "RuntimeError: task ends.panic raised Panic: index out of bounds"),
        ("interrupt", 130, "aredun: interrupted"),
    ],
)
def test_command_says_what_a_task_raised(tmp_path: Path, name: str, code: int, expected: str) -> None:
    (tmp_path / "workflow.py").write_text(WORKFLOW)
    done = run_aredun("run", "workflow.py", "main", "--name", name, cwd=tmp_path)
    assert done.returncode == code, done.stderr
    assert expected in done.stderr.splitlines()
    assert "aredun/workflow" not in done.stderr
    with closing(sqlite3.connect(tmp_path / ".redun" / "redun.db")) as connection:
        ends = connection.execute("select end_time is not null, call_hash is not null from job").fetchall()
    assert ends == [(1, 1), (1, 1)]
