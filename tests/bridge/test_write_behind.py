"""The queue of writes that nobody waits for, and the event loop of threads that have none."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa

from aredun.backend import RedunBackendDb
from aredun.bridge.loop_thread import LoopThread, complete, get_loop_thread
from aredun.bridge.write_behind import LINGER, WriteBehind
from aredun.errors import RedunDatabaseError
from aredun.models import Value
from aredun.storage import Write
from aredun.storage.rows import CALL_NODE, VALUE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator


@pytest.fixture
def opened(database_url: str) -> Iterator[RedunBackendDb]:
    """A backend on the loop of the loop thread."""
    backend = RedunBackendDb(database_url)
    get_loop_thread().run(backend.load())
    yield backend
    get_loop_thread().run(backend.close())


@pytest.fixture
def queue(opened: RedunBackendDb) -> WriteBehind:
    """A queue of writes to that backend."""
    return WriteBehind(get_loop_thread(), opened.database, logging.getLogger("tests.write_behind"))


def make_value(name: str) -> Write:
    """Return a write of one value."""
    return Write(rows=((VALUE, (name.ljust(40, "0"), "builtins.str", "application/python-pickle", b"")),))


def make_orphan(name: str) -> Write:
    """Return a write that no database takes: a call whose value is missing."""
    row = (name.ljust(40, "0"), "task", "t" * 40, "a" * 40, "missing".ljust(40, "0"), None)
    return Write(rows=((CALL_NODE, row),))


def read_names(backend: RedunBackendDb) -> list[str]:
    """Return the values that are written."""

    async def read() -> list[str]:
        async with backend.session() as session:
            return sorted(name.rstrip("0") for name in await session.scalars(sa.select(Value.value_hash)))

    return get_loop_thread().run(read())


def test_flush_waits_until_all_is_written(queue: WriteBehind, opened: RedunBackendDb) -> None:
    for name in ("a", "b", "c"):
        queue.put(make_value(name), [name])
    assert queue.concerns("a", "z")
    assert not queue.concerns("z")
    queue.flush()
    assert read_names(opened) == ["a", "b", "c"]
    assert not queue.concerns("a")


def test_what_nobody_waits_for_is_written_soon(queue: WriteBehind, opened: RedunBackendDb) -> None:
    queue.put(make_value("a"))
    queue.put(make_value("b"))
    while read_names(opened) != ["a", "b"]:
        time.sleep(LINGER / 4)


def test_refused_unit_does_not_take_others_along(queue: WriteBehind, opened: RedunBackendDb) -> None:
    queue.put(make_value("a"))
    queue.put(make_orphan("x"))
    queue.put(make_value("b"))
    with pytest.raises(RedunDatabaseError):
        queue.flush()
    assert read_names(opened) == ["a", "b"]
    # It is told once.
    queue.flush()


def test_error_is_raised_by_whatever_is_recorded_next(queue: WriteBehind, opened: RedunBackendDb) -> None:
    queue.put(make_orphan("x"))

    def record_on() -> None:
        for number in range(10_000):
            queue.put(make_value(f"{number}x"))
            time.sleep(0.001)

    with pytest.raises(RedunDatabaseError):
        record_on()
    queue.flush()


def test_group_of_rows_goes_in_one_transaction(queue: WriteBehind, opened: RedunBackendDb) -> None:
    before = opened.database.counts.commits
    for number in range(500):
        queue.put(make_value(f"{number}x"))
    queue.flush()
    assert opened.database.counts.commits - before <= 5


def test_loop_thread_hands_results_and_errors_back() -> None:
    loop_thread = get_loop_thread()
    assert loop_thread is get_loop_thread()

    async def answer() -> int:
        await asyncio.sleep(0)
        return 42

    async def fail() -> None:
        raise ValueError("no")

    assert loop_thread.run(answer()) == 42
    with pytest.raises(ValueError, match="no"):
        loop_thread.run(fail())

    async def wait_for_itself() -> None:
        loop_thread.run(answer())

    with pytest.raises(RuntimeError, match="own thread"):
        loop_thread.run(wait_for_itself())


def test_leaving_an_iteration_early_closes_the_generator() -> None:
    closed = threading.Event()

    async def count() -> AsyncIterator[int]:
        try:
            for number in range(10_000):
                yield number
        finally:
            closed.set()

    numbers = get_loop_thread().iterate(count())
    assert [next(numbers), next(numbers)] == [0, 1]
    numbers.close()  # type: ignore[attr-defined]  # it is a generator
    assert closed.is_set()
    assert len(list(get_loop_thread().iterate(count()))) == 10_000


def test_complete_runs_what_never_waits() -> None:
    async def at_once() -> int:
        return 1

    async def later() -> None:
        await asyncio.sleep(1)

    assert complete(at_once()) == 1
    with pytest.raises((RuntimeError, AssertionError)):
        complete(later())


def test_loop_of_another_process_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    loop_thread = LoopThread()
    usable = [loop_thread.is_usable]
    monkeypatch.setattr("os.getpid", lambda: -1)
    usable.append(loop_thread.is_usable)
    monkeypatch.undo()
    assert usable == [True, False]
    loop_thread.loop.call_soon_threadsafe(loop_thread.loop.stop)
    loop_thread._thread.join()
    loop_thread.loop.close()
