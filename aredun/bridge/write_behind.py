"""Writes that nobody waits for: queued by threads, written in groups on an event loop."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any, NamedTuple

from aredun.storage import Write
from aredun.storage.retry import halve, is_passing

if TYPE_CHECKING:
    import logging
    from collections.abc import Coroutine, Hashable, Iterable, Sequence

    from aredun.bridge.loop_thread import LoopThread
    from aredun.storage import Database

# Seconds that the first write of a group waits for others. A crash loses the writes of that time, and those
# that came while the group before was being written.
LINGER = 0.1
# Rows and bytes that may wait; whoever adds more waits until they are written.
MAX_ROWS = 20_000
MAX_BYTES = 32 * 1024 * 1024


class _Queued(NamedTuple):
    write: Write
    is_spare: bool


class WriteBehind:
    """A queue of writes; what depends on one that is not written yet can tell, and wait for it.

    Every write happens as a whole or not at all. A write that is refused does not take others along: its
    error is raised by the next call of `put` or `flush`.

    Parameters
    ----------
    loop_thread : LoopThread
        Where the database belongs to.
    database : Database
        Where they go.
    logger : logging.Logger
        Is told of every error.
    """

    def __init__(self, loop_thread: LoopThread, database: Database, logger: logging.Logger) -> None:
        self._loop_thread = loop_thread
        self._database = database
        self._logger = logger
        self._lock = threading.Lock()
        self._queued: list[_Queued] = []
        self._rows = 0
        self._bytes = 0
        # Ids that queued writes change; ids that the writes under way change.
        self._subjects: set[Hashable] = set()
        self._writing: set[Hashable] = set()
        self._is_scheduled = False
        self._failure: Exception | None = None
        self._drains = asyncio.Lock()
        # The loop itself holds them weakly.
        self._tasks: set[asyncio.Task[None]] = set()

    def put(self, write: Write, subjects: Iterable[Hashable] = (), *, is_spare: bool = False) -> None:
        """Queue a write (any thread).

        Parameters
        ----------
        write : Write
            What to write; without an operation.
        subjects : iterable of hashable
            What `concerns` is asked about.
        is_spare : bool
            True for what a workflow can do without: where it is refused, the log tells, and no call raises.

        Raises
        ------
        RedunDatabaseError
            An earlier write was refused; this one is queued all the same.
        """
        rows, size = write.measure()
        with self._lock:
            self._queued.append(_Queued(write, is_spare))
            self._subjects.update(subjects)
            self._rows += rows
            self._bytes += size
            is_full = self._rows > MAX_ROWS or self._bytes > MAX_BYTES
            has_to_start = not self._is_scheduled
            self._is_scheduled = True
        if has_to_start:
            self._loop_thread.loop.call_soon_threadsafe(self._start)
        if is_full:
            self.flush()
        self._raise_failure()

    def concerns(self, *subjects: Hashable) -> bool:
        """Tell whether anything that is not written yet says something about one of these."""
        with self._lock:
            return not (self._subjects.isdisjoint(subjects) and self._writing.isdisjoint(subjects))

    def flush(self) -> None:
        """Wait until all that has been queued is written (any thread but the loop's).

        Raises
        ------
        RedunDatabaseError
            The first error of a write since this was last told.
        """
        with self._lock:
            is_pending = bool(self._queued) or self._drains.locked()
        if is_pending:
            self._loop_thread.run(self.drain())
        self._raise_failure()

    def _raise_failure(self) -> None:
        if self._failure is not None:
            with self._lock:
                failure, self._failure = self._failure, None
            if failure is not None:
                raise failure

    def _start(self) -> None:
        loop = self._loop_thread.loop
        loop.call_later(LINGER, lambda: self._create_task(self._drain_scheduled()))

    async def _drain_scheduled(self) -> None:
        await self._drain()
        with self._lock:
            self._is_scheduled = has_more = bool(self._queued)
        if has_more:
            self._start()

    async def drain(self) -> None:
        """Write all that is queued by now (on the loop)."""
        # In a task of its own: a caller that is interrupted must not take half of the queue along.
        await asyncio.shield(self._create_task(self._drain()))

    def _create_task(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(coroutine, name="aredun-write-behind")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _drain(self) -> None:
        async with self._drains:
            with self._lock:
                group, self._queued = self._queued, []
                self._writing, self._subjects = self._subjects, set()
                self._rows = self._bytes = 0
            try:
                if group:
                    await self._write(group)
            finally:
                with self._lock:
                    self._writing = set()

    async def _write(self, group: Sequence[_Queued]) -> None:
        """Write a group in one transaction; if one of it is at fault, its halves."""
        together = Write()
        for queued in group:
            together.extend(queued.write)
        try:
            await self._database.write_rows(together)
        except Exception as error:
            cause = error.__cause__ if isinstance(error.__cause__, Exception) else error
            if len(group) > 1 and not is_passing(cause):
                for half in halve(group):
                    await self._write(half)
            elif group[0].is_spare and not is_passing(cause):
                self._logger.warning("a tag was left out: %s", error)
            else:
                self._logger.error("%s queued write(s) failed: %s", len(group), error)
                with self._lock:
                    self._failure = self._failure or error
