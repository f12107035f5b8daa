"""Batches: what one caller writes in one transaction of its own choosing."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from aredun.database.unit import Unit
from aredun.errors import RedunDatabaseError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from aredun.database.connections import Transaction


class Batch:
    """What one caller writes inside `async with backend.batch()`.

    Rows wait until the end. The first operation, whose answer the caller waits for, opens the transaction:
    from then on it is this batch's alone, and whatever else is written waits for its end.
    """

    def __init__(
        self,
        enqueue: Callable[[Unit], Awaitable[Any]],
        write: Callable[[Transaction, Sequence[Unit]], Awaitable[Any]],
    ) -> None:
        self._enqueue = enqueue
        self._write = write
        self._unit = Unit()
        self._all_on_commit: list[Callable[[], None]] = []
        self._lock = asyncio.Lock()
        self._transaction: asyncio.Future[Transaction] | None = None
        self._end: asyncio.Future[bool] | None = None
        self._held: asyncio.Future[Any] | None = None
        self._is_spoiled = False
        self.outer = None
        self.closed = False

    async def add(self, unit: Unit) -> Any:
        """Add a unit; one with an operation is run at once, and its answer returned."""
        if self.closed:
            # A batch inside this one has outlived it, in a task of its own.
            return await self._enqueue(unit)
        operation, unit.operation = unit.operation, None
        self._unit.extend(unit)
        if operation is None:
            return None
        async with self._lock:
            transaction = await self._open()
            await self._flush(transaction)
            return await transaction.run(operation)

    @property
    def is_open(self) -> bool:
        """Whether the batch has a transaction."""
        return self._transaction is not None and self._transaction.done()

    async def _open(self) -> Transaction:
        if self._transaction is None:
            loop = asyncio.get_running_loop()
            self._transaction, self._end = loop.create_future(), loop.create_future()
            self._held = asyncio.ensure_future(self._enqueue(Unit(held=self)))
            self._held.add_done_callback(self._pass_failure_on)
        return await asyncio.shield(self._transaction)

    def _pass_failure_on(self, held: asyncio.Future[Any]) -> None:
        assert self._transaction is not None
        if not self._transaction.done() and not held.cancelled() and held.exception() is not None:
            self._transaction.set_exception(held.exception())  # type: ignore[arg-type]  # just found not None

    async def serve(self, transaction: Transaction) -> None:
        """Lend the writer's transaction to the batch until its end (called by the writer)."""
        assert self._transaction is not None
        assert self._end is not None
        self._transaction.set_result(transaction)
        if not await self._end:
            raise _AbortedError

    async def _flush(self, transaction: Transaction) -> None:
        unit, self._unit = self._unit, Unit()
        self._all_on_commit += unit.on_commit
        await self._write(transaction, [unit])

    def spoil(self) -> None:
        """Note that a batch inside this one failed and cannot be taken back alone."""
        self._is_spoiled = True

    async def finish(self) -> None:
        """Write and commit."""
        if self._is_spoiled:
            await self.abort()
            raise RedunDatabaseError(
                "nothing of the batch is written: a batch inside it failed, after its first rows were sent"
            )
        if self._held is None:
            if self._unit:
                await self._enqueue(self._unit)
            return
        assert self._end is not None
        try:
            await self._flush(await self._open())
        except BaseException:
            await self.abort()
            raise
        self._end.set_result(True)
        await asyncio.shield(self._held)
        for callback in self._all_on_commit:
            callback()

    async def abort(self) -> None:
        """Write nothing."""
        if self._held is None:
            return
        assert self._end is not None
        if not self._end.done():
            self._end.set_result(False)
        await asyncio.wait([self._held])
        if not self._held.cancelled():
            self._held.exception()


class InnerBatch:
    """A batch inside another one: what is in it joins the other when it ends well.

    Once an operation has sent its rows they cannot be taken back alone: then its failure is that of both.
    """

    def __init__(self, outer: Batch | InnerBatch) -> None:
        self.outer = outer
        self._unit = Unit()
        self._has_sent = False
        self.closed = False

    async def add(self, unit: Unit) -> Any:
        """Add a unit; one with an operation is run at once, and its answer returned."""
        if self.closed:
            return await self.outer.add(unit)
        operation, unit.operation = unit.operation, None
        self._unit.extend(unit)
        if operation is None:
            return None
        joined, self._unit = self._unit, Unit()
        joined.operation = operation
        self._has_sent = True
        return await self.outer.add(joined)

    def spoil(self) -> None:
        """Note that a part of it failed that cannot be taken back."""
        self._has_sent = True
        self.outer.spoil()

    async def finish(self) -> None:
        """Hand all over to the outer batch."""
        if self._unit:
            await self.outer.add(self._unit)

    async def abort(self) -> None:
        """Forget what has not been sent."""
        if self._has_sent:
            self.outer.spoil()


class _AbortedError(Exception):
    """Rolls a held transaction back."""
