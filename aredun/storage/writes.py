"""What one caller writes, and how the rows of many callers come together."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from aredun.loop.ending import finish
from aredun.loop.pacing import take_turn

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from datetime import datetime

    from sqlalchemy.ext.asyncio import AsyncSession

    from aredun.storage.connections import Transaction
    from aredun.storage.row_set import RowSet, ValueRows
    from aredun.storage.rows import Row, RowTable

T = TypeVar("T")


class IncompleteCall(Protocol):
    """A call whose rows depend on which calls are recorded already."""

    @property
    def size(self) -> int:
        """Bytes of data in it."""

    def add_rows(self, recorded: dict[str, set[str]], rows: RowSet) -> None:
        """Add its rows, given the recorded calls with their subtrees' tasks; then itself to those."""

    @staticmethod
    async def complete(session: AsyncSession, calls: Sequence[Any], rows: RowSet) -> None:
        """Add the rows of calls of this class, in their order; the session is that of their transaction."""


@dataclass(slots=True, eq=False)
class Write:
    """What one caller writes: all of it or none of it.

    Attributes
    ----------
    rows : Sequence[tuple[RowTable, Row]]
        Rows to write.
    values : Sequence[ValueRows]
        Values that the rows refer to.
    calls : Sequence[IncompleteCall]
        Calls that are completed on the session of the transaction; all of one class.
    heartbeats : Sequence[tuple[str, datetime]]
        New `updated_time` of executions.
    operation : callable, optional
        Runs on a session of the transaction, after the rows of all writes.
    on_commit : Sequence[callable]
        Called without arguments once the write is durable.
    result : Any
        What the operation returned.
    extra_size : int
        Bytes of data in `rows`.
    held : HeldTransaction, optional
        What keeps the transaction of this write open for a batch.
    """

    # Empty tuples, which cost nothing: thousands of writes are waiting at a time.
    rows: Sequence[tuple[RowTable, Row]] = ()
    values: Sequence[ValueRows] = ()
    calls: Sequence[IncompleteCall] = ()
    heartbeats: Sequence[tuple[str, datetime]] = ()
    operation: Callable[[AsyncSession], Awaitable[Any]] | None = None
    on_commit: Sequence[Callable[[], None]] = ()
    result: Any = None
    extra_size: int = 0
    held: HeldTransaction | None = None

    def measure(self) -> tuple[int, int]:
        """Return about how many rows it amounts to, and the bytes of data in them."""
        rows, size = len(self.rows) + 1, self.extra_size
        for value in self.values:
            rows += len(value.rows)
            size += value.size
        for call in self.calls:
            rows += 4
            size += call.size
        return rows, size

    def __bool__(self) -> bool:
        return bool(self.rows or self.values or self.calls or self.heartbeats)

    def extend(self, other: Write) -> None:
        """Take over what another write, without an operation, writes."""
        self.rows = _join(self.rows, other.rows)
        self.values = _join(self.values, other.values)
        self.calls = _join(self.calls, other.calls)
        self.heartbeats = _join(self.heartbeats, other.heartbeats)
        self.on_commit = _join(self.on_commit, other.on_commit)
        self.extra_size += other.extra_size


def _join(mine: Sequence[T], others: Sequence[T]) -> Sequence[T]:
    """Return both, reusing a list that is `mine` alone: batches grow by one write at a time."""
    if not others:
        return mine
    joined = mine if isinstance(mine, list) else list(mine)
    joined.extend(others)
    return joined


class HeldTransaction:
    """A transaction of the writer's that a batch keeps open until its end.

    Parameters
    ----------
    enqueue : callable
        Puts a write into the queue.
    """

    def __init__(self, enqueue: Callable[[Write], Awaitable[Any]]) -> None:
        loop = asyncio.get_running_loop()
        self._transaction: asyncio.Future[Transaction] = loop.create_future()
        self._is_kept: asyncio.Future[bool] = loop.create_future()
        self._task = asyncio.ensure_future(enqueue(Write(held=self)))
        self._task.add_done_callback(self._pass_failure_on)

    @property
    def is_open(self) -> bool:
        """Whether the batch has been given the transaction."""
        return self._transaction.done()

    async def get(self) -> Transaction:
        """Wait for the transaction."""
        return await asyncio.shield(self._transaction)

    async def serve(self, transaction: Transaction) -> None:
        """Lend the transaction to the batch until its end (called by the writer)."""
        self._transaction.set_result(transaction)
        if not await self._is_kept:
            raise _AbortedError

    async def commit(self, on_commit: Sequence[Callable[[], None]]) -> None:
        """Commit; what is called then is called although whoever waits for it is cancelled meanwhile."""

        def tell(task: asyncio.Future[Any]) -> None:
            if not task.cancelled() and task.exception() is None:
                for callback in on_commit:
                    callback()

        self._task.add_done_callback(tell)
        self._is_kept.set_result(True)
        await asyncio.shield(self._task)

    async def abort(self) -> None:
        """Roll back, and wait for that however often the caller is cancelled."""
        if not self._is_kept.done():
            self._is_kept.set_result(False)
        await finish(asyncio.wait([self._task]))

    def _pass_failure_on(self, task: asyncio.Future[Any]) -> None:
        # Retrieved even if nobody needs it any more, or asyncio would log it.
        error = task.exception() if not task.cancelled() else None
        if self._transaction.done():
            return
        if error is None:
            self._transaction.cancel()
            return
        self._transaction.set_exception(error)
        self._transaction.exception()


class _AbortedError(Exception):
    """Rolls a held transaction back."""


async def add_writes(rows: RowSet, writes: Sequence[Write]) -> list[IncompleteCall]:
    """Put the rows of writes together; returns the calls that are still to be completed."""
    calls: list[IncompleteCall] = []
    for write in writes:
        for value in write.values:
            rows.add_value(value)
        rows.add(write.rows)
        calls += write.calls
        await take_turn()
    for write in writes:
        for execution_id, time in write.heartbeats:
            rows.add_heartbeat(execution_id, time)
    return calls
