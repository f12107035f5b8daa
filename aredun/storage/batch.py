"""Batches: what one caller writes in one transaction of its own choosing."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from aredun.errors import RedunDatabaseError
from aredun.storage.writes import HeldTransaction, Write

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from aredun.storage.connections import Transaction


class Batch:
    """What one caller writes inside `async with backend.batch()`.

    Rows wait until the end. The first operation, whose answer the caller waits for, opens the transaction:
    from then on it is this batch's alone, and whatever else is written waits for its end.
    """

    def __init__(
        self,
        enqueue: Callable[[Write], Awaitable[Any]],
        write: Callable[[Transaction, Sequence[Write]], Awaitable[Any]],
    ) -> None:
        self._enqueue = enqueue
        self._write = write
        self._collected = Write()
        self._all_on_commit: list[Callable[[], None]] = []
        self._lock = asyncio.Lock()
        self._held: HeldTransaction | None = None
        self._is_spoiled = False
        self.outer = None
        self.closed = False

    async def add(self, write: Write) -> Any:
        """Add a write; one with an operation is run at once, and its answer returned."""
        if self.closed:
            # An inner batch, in a task of its own, has outlived this one.
            return await self._enqueue(write)
        operation, write.operation = write.operation, None
        self._collected.extend(write)
        if operation is None:
            return None
        async with self._lock:
            if self._held is None:
                self._held = HeldTransaction(self._enqueue)
            transaction = await self._held.get()
            await self._flush(transaction)
            return await transaction.run(operation)

    async def _flush(self, transaction: Transaction) -> None:
        write, self._collected = self._collected, Write()
        self._all_on_commit += write.on_commit
        await self._write(transaction, [write])

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
            if self._collected:
                await self._enqueue(self._collected)
            return
        try:
            await self._flush(await self._held.get())
        except BaseException:
            await self.abort()
            raise
        await self._held.commit(self._all_on_commit)

    async def abort(self) -> None:
        """Write nothing."""
        if self._held is not None:
            await self._held.abort()


class InnerBatch:
    """A batch inside another one: what is in it joins the other when it ends well.

    Once an operation has sent its rows they cannot be taken back alone: then its failure is that of both.
    """

    def __init__(self, outer: Batch | InnerBatch) -> None:
        self.outer = outer
        self._collected = Write()
        self._has_sent = False
        self.closed = False

    async def add(self, write: Write) -> Any:
        """Add a write; one with an operation is run at once, and its answer returned."""
        if self.closed:
            return await self.outer.add(write)
        operation, write.operation = write.operation, None
        self._collected.extend(write)
        if operation is None:
            return None
        joined, self._collected = self._collected, Write()
        joined.operation = operation
        self._has_sent = True
        return await self.outer.add(joined)

    def spoil(self) -> None:
        """Note that a part of it failed that cannot be taken back."""
        self._has_sent = True
        self.outer.spoil()

    async def finish(self) -> None:
        """Hand all over to the outer batch."""
        if self._collected:
            await self.outer.add(self._collected)

    async def abort(self) -> None:
        """Forget what has not been sent."""
        if self._has_sent:
            self.outer.spoil()
