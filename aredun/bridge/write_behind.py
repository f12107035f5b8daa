"""Writes that nobody waits for: queued by threads, written in groups on an event loop."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, NamedTuple

from aredun.storage import Write
from aredun.storage.retry import halve, is_passing, split_at_fault

if TYPE_CHECKING:
    import logging
    from collections.abc import Hashable, Iterable, Sequence

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
    is_complete: bool
    rows: int
    size: int
    is_spare: bool = False


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
        self._writing: set[Hashable] | None = None
        self._is_scheduled = False
        self._failure: Exception | None = None
        self._drains = asyncio.Lock()
        # The loop itself holds them weakly.
        self._tasks: set[asyncio.Task[None]] = set()

    def put(
        self,
        write: Write,
        subjects: Iterable[Hashable] = (),
        *,
        is_complete: bool = True,
        is_spare: bool = False,
    ) -> None:
        """Queue a write (any thread).

        Parameters
        ----------
        write : Write
            What to write; without an operation.
        subjects : iterable of hashable
            What `concerns` is asked about.
        is_complete : bool
            False for a part of something whose rest follows at once: they are written together if possible.
        is_spare : bool
            True for what a workflow can do without: where it is refused, the log tells, and no call raises.

        Raises
        ------
        RedunDatabaseError
            An earlier write was refused; this one is queued all the same.
        """
        rows, size = write.measure()
        with self._lock:
            self._queued.append(_Queued(write, is_complete, rows, size, is_spare))
            self._subjects.update(subjects)
            self._rows += rows
            self._bytes += size
            is_full = self._rows > MAX_ROWS or self._bytes > MAX_BYTES
            has_to_start = not self._is_scheduled
            self._is_scheduled = True
        if has_to_start:
            self._loop_thread.call_soon(self._start)
        if is_full:
            self.flush()
        self._raise_failure()

    def concerns(self, *subjects: Hashable) -> bool:
        """Tell whether anything that is not written yet says something about one of these."""
        with self._lock:
            waiting = self._subjects.union(self._writing) if self._writing else self._subjects
            return not waiting.isdisjoint(subjects)

    def flush(self) -> None:
        """Wait until all that has been queued is written (any thread but the loop's).

        Raises
        ------
        RedunDatabaseError
            The first error of a write since this was last told.
        """
        with self._lock:
            is_pending = bool(self._queued) or self._writing is not None
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
        self._loop_thread.loop.call_later(LINGER, self._drain_soon)

    def _drain_soon(self) -> None:
        task = self._loop_thread.loop.create_task(self._drain_complete(), name="aredun-write-behind")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _drain_complete(self) -> None:
        """Write what is complete; the beginning of something waits for its rest, once."""
        async with self._drains:
            group = self._take(only_complete=True) or self._take()
            if group:
                await self._write(group)
        with self._lock:
            self._is_scheduled = bool(self._queued)
            has_more = self._is_scheduled
        if has_more:
            self._start()

    async def drain(self) -> None:
        """Write all that is queued by now (on the loop)."""
        # In a task of its own: a caller that is interrupted must not take half of the queue along.
        task = asyncio.create_task(self._drain_all(), name="aredun-write-behind")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        await asyncio.shield(task)

    async def _drain_all(self) -> None:
        async with self._drains:
            while group := self._take():
                await self._write(group)

    def _take(self, *, only_complete: bool = False) -> list[_Queued]:
        with self._lock:
            end = len(self._queued)
            if only_complete:
                while end and not self._queued[end - 1].is_complete:
                    end -= 1
            group, self._queued = self._queued[:end], self._queued[end:]
            if not group:
                return []
            self._rows -= sum(queued.rows for queued in group)
            self._bytes -= sum(queued.size for queued in group)
            self._writing = self._subjects
            # Ids are not kept by write, so while writes stay in the queue all ids count for both.
            self._subjects = set(self._writing) if self._queued else set()
            return group

    async def _write(self, group: Sequence[_Queued]) -> None:
        try:
            await split_at_fault(group, self._attempt)
        finally:
            with self._lock:
                self._writing = None

    async def _attempt(self, group: Sequence[_Queued]) -> Sequence[Sequence[_Queued]]:
        """Write a group in one transaction; return its halves if one of it is at fault."""
        together = Write()
        for queued in group:
            together.extend(queued.write)
        try:
            await self._database.write_rows(together)
        except Exception as error:
            if len(group) == 1 or _is_outage(error):
                if len(group) == 1 and group[0].is_spare and not _is_outage(error):
                    self._logger.warning("a tag was left out: %s", error)
                else:
                    self._note(error, len(group))
                return ()
            return halve(group)
        return ()

    def _note(self, error: Exception, count: int) -> None:
        self._logger.error("%s queued write(s) failed: %s", count, error)
        with self._lock:
            if self._failure is None:
                self._failure = error


def _is_outage(error: Exception) -> bool:
    cause = error.__cause__
    return is_passing(cause if isinstance(cause, Exception) else error)
