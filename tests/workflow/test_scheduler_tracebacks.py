"""What is kept of an error: its texts, for as long as the error itself, and nothing of what was at work."""

from __future__ import annotations

import asyncio
import gc
import re
import traceback
import uuid
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from aredun import Scheduler, task
from aredun.workflow.operators import catch
from tests.support.scheduling import inc

redun_namespace = "traces"

tables: list[weakref.ref[Any]] = []


class Table:
    """What a function works on."""

    def __init__(self) -> None:
        tables.append(weakref.ref(self))

    def __truediv__(self, other: Any) -> Any:
        table = Table()
        raise ZeroDivisionError(id(table))


@pytest.fixture(autouse=True)
def forget_tables() -> None:
    """Watch no table of another test."""
    tables.clear()


def count_tables() -> int:
    """Count the tables that something still holds."""
    gc.collect()
    return sum(table() is not None for table in tables)


@task
def inner_note() -> int:
    worth = [3]
    raise ValueError(f"bad {len(worth)}")


@task
async def outer_note() -> int:
    return await inner_note()


async def work() -> None:
    """Fail at work, called by a function of a task."""
    table = Table()
    await asyncio.sleep(0)
    raise ValueError(f"at work on {type(table).__name__}")


@task()
async def attempt(_: Any) -> None:
    """Fail because something else failed."""
    table = Table()
    try:
        await work()
    except ValueError as error:
        raise LookupError(type(table).__name__) from error


@task()
def attempt_in_thread(_: Any) -> None:
    """Fail in a thread, for two reasons."""
    table = Table()
    try:
        raise ValueError(type(table).__name__)
    except ValueError as error:
        raise ExceptionGroup("both", [error, KeyError(1)]) from None


@task()
def make_table() -> Table:
    """Return a table."""
    return Table()


@task()
async def middle(n: int) -> int:
    """Handle the failure of a call, with a table at hand."""
    table = Table()
    try:
        await attempt(n)
    except LookupError:
        return n if table else 0
    return 0


@task()
def recover(error: Exception) -> str:
    """Return the text of an error."""
    return str(error)


@task()
async def handle_all() -> list[Any]:
    """Handle failures in all ways that there are; what is found is how many tables are left."""
    found: list[Any] = []
    kept = await asyncio.gather(attempt(1), attempt_in_thread(2), attempt(1), return_exceptions=True)
    found.append(count_tables())
    found.append([type(error).__name__ for error in kept])
    await catch(attempt(3), LookupError, recover)
    found.append(count_tables())
    await middle(4)
    found.append(count_tables())
    with pytest.raises(LookupError):
        await attempt(Table())
    found.append(count_tables())
    return found


async def test_handled_failures_keep_nothing_of_what_was_at_work(scheduler: Scheduler) -> None:
    found = await scheduler.run(handle_all())
    # The last one is the argument, which belongs to the call that is kept for equal ones.
    assert found == [0, ["LookupError", "ExceptionGroup", "LookupError"], 0, 0, 1]


async def test_an_operation_that_fails_keeps_nothing(scheduler: Scheduler) -> None:
    @task(namespace="traces")
    async def divide() -> int:
        with pytest.raises(ZeroDivisionError):
            await (make_table() / inc(1))
        return count_tables()

    # The table that was to be divided is the result of a call that is kept for equal ones.
    assert await scheduler.run(divide()) == 1


async def test_an_error_shows_the_lines_where_it_was_raised(scheduler: Scheduler) -> None:
    for call in (attempt(1), attempt_in_thread(1)):
        with pytest.raises((LookupError, ExceptionGroup)) as raised:
            await scheduler.run(call)
        text = "".join(traceback.format_exception(raised.value))
        for line in ("raise ValueError(f", "await work()", "raise LookupError(type(table).__name__) from"):
            assert (line in text) == (call.task_name == "traces.attempt")
        assert ("raise ExceptionGroup(" in text) == (call.task_name == "traces.attempt_in_thread")


async def test_an_error_that_is_raised_again_leaves_those_alone_that_wait(scheduler: Scheduler) -> None:
    shared = LookupError("shared")
    is_told = asyncio.Event()

    @task(namespace="traces")
    async def wait() -> str:
        try:
            raise shared
        except LookupError:
            await is_told.wait()
        return "waited"

    @task(namespace="traces")
    async def raise_it_too() -> str:
        await asyncio.sleep(0)
        raise shared

    @task(namespace="traces")
    async def both() -> Any:
        waiting = asyncio.ensure_future(wait())
        with pytest.raises(LookupError):
            await raise_it_too()
        is_told.set()
        return await waiting

    assert await scheduler.run(both()) == "waited"


async def test_a_traceback_belongs_to_its_error(scheduler: Scheduler) -> None:
    results = await asyncio.gather(
        scheduler.run(attempt(1)), scheduler.run(attempt_in_thread(1)), return_exceptions=True
    )
    assert await scheduler.run(inc(1)) == 2
    names = []
    for error in results:
        assert isinstance(error, Exception)
        found = scheduler.get_traceback(error)
        assert found is not None
        assert found.error is error
        names.append(found.frames[0].name)
    assert names == ["traces.attempt", "traces.attempt_in_thread"]
    assert scheduler.traceback in [
        scheduler.get_traceback(error) for error in results if isinstance(error, Exception)
    ]
    assert scheduler.get_traceback(ValueError("of no run")) is None


@dataclass(frozen=True)
class Refused(Exception):
    """Takes no attribute, not even the traceback that contextlib sets."""

    code: int


@task(limits=["db"])
async def refuse() -> None:
    """Fail while a limit is held."""
    raise Refused(3)


@task()
async def ask() -> None:
    """Pass on the error of a child, for which the slot is lent meanwhile."""
    await refuse()


async def test_errors_of_frozen_classes_are_raised_as_they_are(scheduler: Scheduler) -> None:
    with pytest.raises(Refused) as raised:
        await scheduler.run(ask())
    assert raised.value.code == 3
    found = scheduler.get_traceback(raised.value)
    assert found is not None
    assert [frame.name for frame in found.frames][:2] == ["traces.ask", "traces.refuse"]


async def test_an_error_names_its_task_and_shows_the_users_frames(scheduler: Scheduler) -> None:
    """The note is not recorded; in between there is only the frame of `Scheduler.run`."""
    execution_id = str(uuid.uuid4())
    with pytest.raises(ValueError, match="bad") as caught:
        await scheduler.run(outer_note(), execution_id=execution_id)
    [note] = caught.value.__notes__
    assert re.fullmatch(rf"in task \S*inner_note, job \w{{8}} of execution {execution_id}", note)
    files = [Path(frame.filename).name for frame in traceback.extract_tb(caught.value.__traceback__)]
    assert files == ["test_scheduler_tracebacks.py", "core.py", "test_scheduler_tracebacks.py"]


async def test_locals_are_kept_for_a_debugger_only(scheduler: Scheduler) -> None:
    for keeps in (True, False):
        with pytest.raises(ValueError, match="bad") as caught:
            await scheduler.run(outer_note(), cache=False, keep_locals=keeps)
        *_, (frame, _) = traceback.walk_tb(caught.value.__traceback__)
        assert frame.f_locals.get("worth") == ([3] if keeps else None)
        assert keeps or frame.f_back is None
