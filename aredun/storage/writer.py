"""Group commit: one task drains all that is queued into one transaction and answers after its commit."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, TypeVar

from aredun.errors import RedunDatabaseError
from aredun.loop.pacing import ANSWER_SECONDS, take_turn
from aredun.storage.batch import Batch, InnerBatch
from aredun.storage.grouping import GroupDelay
from aredun.storage.refusals import name_cause
from aredun.storage.retry import halve, is_passing, retry, split_at_fault
from aredun.storage.row_set import RowSet
from aredun.storage.writes import Write, add_writes

if TYPE_CHECKING:
    import logging
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence

    from sqlalchemy.ext.asyncio import AsyncSession

    from aredun.config import BackendConfig
    from aredun.storage.connections import Counts, Transaction, WriteConnection
    from aredun.storage.writes import HeldTransaction

T = TypeVar("T")

# A drain takes no more than this, so that the transaction of a flood stays short; the rest is the next
# drain's.
DRAIN_ROWS = 20_000
# Hashes that a writer remembers as recorded; forgetting them costs a few repeated rows.
KNOWN_VALUES = 50_000

# The innermost batch around a task (and around the tasks that it starts), by writer.
_batches: ContextVar[Mapping[int, Batch | InnerBatch]] = ContextVar("aredun_batches")


# A write, the future of its caller, its rows and its bytes.
_Queued = tuple[Write, "asyncio.Future[Any]", int, int]


class Writer:
    """The write queue of a database.

    Parameters
    ----------
    connection : WriteConnection
        The way to the database.
    config : BackendConfig
        Bounds of the queue and settings of the retries.
    logger : logging.Logger
        Gets the warnings about retries.
    counts : Counts
        Where drains are counted.
    translate : callable
        Makes of a driver's error the error that the caller gets.
    discard : callable
        Told of every error, drops connections that it shows to be broken.
    """

    def __init__(
        self,
        connection: WriteConnection,
        config: BackendConfig,
        logger: logging.Logger,
        counts: Counts,
        translate: Callable[[Exception], Exception],
        discard: Callable[[BaseException], Awaitable[None]],
    ) -> None:
        self._connection = connection
        self._discard = discard
        self._config = config
        self._logger = logger
        self._counts = counts
        self._translate = translate
        self._queue: deque[_Queued] = deque()
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._task: asyncio.Task[None] | None = None
        self._rows = 0
        self._bytes = 0
        self._closed = False
        self._delay = GroupDelay()
        self._known: dict[str, None] = {}

    async def write(self, write: Write) -> Any:
        """Queue a write; when this returns it is durable, unless inside a batch, which is at its end.

        Returns
        -------
        Any
            What the write's operation returned.
        """
        batch = self._get_batch()
        if batch is not None:
            return await batch.add(write)
        return await self._enqueue(write)

    @property
    def in_batch(self) -> bool:
        """Whether the caller is inside a batch of this writer."""
        return self._get_batch() is not None

    def _get_batch(self) -> Batch | InnerBatch | None:
        """Return the innermost batch that the caller is inside of."""
        batch = _batches.get({}).get(id(self))
        while batch is not None and batch.closed:
            batch = batch.outer
        return batch

    async def _enqueue(self, write: Write) -> Any:
        rows, size = write.measure()
        while self._queue_is_full(rows, size):
            waiter = asyncio.get_running_loop().create_future()
            self._waiting.append(waiter)
            await waiter
        if self._closed:
            raise RedunDatabaseError("the backend is closed: nothing can be written through it any more")
        self._rows += rows
        self._bytes += size
        future = asyncio.get_running_loop().create_future()
        self._queue.append((write, future, rows, size))
        if self._task is None:
            self._task = asyncio.create_task(self._drain(), name="aredun-writer")
        return await future

    def _queue_is_full(self, rows: int, size: int) -> bool:
        if not self._rows:
            # A write larger than the bounds goes alone.
            return False
        return self._rows + rows > self._config.queue_rows or self._bytes + size > self._config.queue_bytes

    async def _drain(self) -> None:
        """Write until nothing is queued; the task lives no longer than that."""
        try:
            while self._queue:
                await self._delay.wait(self._queue)
                await self._write_queued()
        finally:
            self._task = None

    def _take(self) -> list[_Queued]:
        taken: list[_Queued] = []
        rows = 0
        while self._queue and rows < DRAIN_ROWS:
            write, _, count, _ = self._queue[0]
            if write.held is not None and taken:
                break
            taken.append(self._queue.popleft())
            rows += count
            if write.held is not None:
                break
        return taken

    async def _write_queued(self) -> None:
        taken = self._take()
        self._counts.drains += 1
        try:
            write, future, _, _ = taken[0]
            if write.held is not None:
                await self._hold(write.held, future)
            else:
                await self._write_group(taken)
        except BaseException as error:
            for _, future, _, _ in taken:
                _fail(future, error)
            raise
        finally:
            for _, _, rows, size in taken:
                self._rows -= rows
                self._bytes -= size
            while self._waiting:
                waiter = self._waiting.popleft()
                if not waiter.done():
                    waiter.set_result(None)

    async def _write_group(self, group: Sequence[_Queued]) -> None:
        """Write a group in one transaction; if one of it is at fault, find it and fail it alone."""
        await split_at_fault(group, self._attempt_group)

    async def _attempt_group(self, group: Sequence[_Queued]) -> Sequence[Sequence[_Queued]]:
        """Write a group in one transaction; return its halves if one of it is at fault."""
        writes = [write for write, _, _, _ in group]
        try:
            failed = await retry(
                lambda: self._write_all(writes), self._config, self._logger, "a write transaction"
            )
        except Exception as error:
            if len(group) == 1 or is_passing(error):
                if len(group) == 1 and self._known and not is_passing(error):
                    # What was known to be there may have been deleted behind our back.
                    self._known.clear()
                    return [group]
                translated = self._translate(error)
                if len(group) == 1:
                    translated = await name_cause(translated, writes[0])
                for _, future, _, _ in group:
                    _fail(future, translated)
                return ()
            self._known.clear()
            return halve(group)
        for write, future, _, _ in group:
            if write in failed:
                _fail(future, self._translate(failed[write]))
                continue
            for callback in write.on_commit:
                callback()
            if not future.done():
                future.set_result(write.result)
            await take_turn(ANSWER_SECONDS)
        return ()

    async def _write_all(self, writes: Sequence[Write]) -> dict[Write, Exception]:
        """Write all in one transaction; returns those whose operation failed, with its error."""
        failed: dict[Write, Exception] = {}
        operations = [write for write in writes if write.operation is not None]
        try:
            if operations:
                async with self._connection.transaction() as transaction:
                    rows = await self._write_rows(transaction, writes)
                    for write in operations:
                        error = await self._run_operation(transaction, write, alone=len(writes) == 1)
                        if error is not None:
                            failed[write] = error
            else:
                async with self._connection.open_session() as session:
                    rows = await self._make_rows(session, writes)
                    await self._connection.write(session, rows, commit=True)
        except BaseException as error:
            await self._discard(error)
            raise
        self._remember(rows)
        return failed

    async def _make_rows(self, session: AsyncSession, writes: Sequence[Write]) -> RowSet:
        """Put the rows of writes together; what they have to ask for is asked on the session."""
        rows = RowSet(self._known)
        calls = await add_writes(rows, writes)
        if calls:
            await calls[0].complete(session, calls, rows)
        return rows

    async def _write_rows(self, transaction: Transaction, writes: Sequence[Write]) -> RowSet:
        """Write rows within a transaction; returns them."""
        if not any(writes):
            return RowSet()
        async with transaction.open_session(savepoint=False) as session:
            rows = await self._make_rows(session, writes)
            await transaction.write(session, rows)
            return rows

    async def _run_operation(
        self, transaction: Transaction, write: Write, *, alone: bool
    ) -> Exception | None:
        try:
            if write.operation is not None:
                write.result = await transaction.run(write.operation, savepoint=not alone)
        except Exception as error:
            if alone or is_passing(error):
                raise
            return error
        return None

    def _remember(self, rows: RowSet) -> None:
        if len(self._known) > KNOWN_VALUES:
            self._known.clear()
        self._known.update(dict.fromkeys(rows.implied))

    async def _hold(self, held: HeldTransaction, future: asyncio.Future[Any]) -> None:
        """Keep a transaction open for a batch that needs answers before its end."""
        if future.cancelled():
            return

        async def attempt() -> None:
            try:
                async with self._connection.transaction() as transaction:
                    await held.serve(transaction)
            except Exception as error:
                await self._discard(error)
                if held.is_open:
                    # The caller has read from this transaction; a second one might answer otherwise.
                    raise _BrokenError(error) from error
                raise

        try:
            await retry(attempt, self._config, self._logger, "a batch")
        except _BrokenError as error:
            _fail(future, self._translate(error.cause))
        except Exception as error:
            _fail(future, self._translate(error))
        else:
            if not future.done():
                future.set_result(None)

    @asynccontextmanager
    async def batch(self) -> AsyncIterator[Batch | InnerBatch]:
        """Collect what is written inside the block into one transaction: all or nothing."""
        outer = self._get_batch()
        batch: Batch | InnerBatch
        if outer is not None:
            batch = InnerBatch(outer)
        else:
            batch = Batch(self._enqueue, self._write_rows)
        token = _batches.set({**_batches.get({}), id(self): batch})
        try:
            try:
                yield batch
            finally:
                _batches.reset(token)
                batch.closed = True
        except BaseException:
            await batch.abort()
            raise
        await batch.finish()

    async def close(self) -> None:
        """Write what is queued, then refuse everything."""
        self._closed = True
        while self._task is not None:
            await asyncio.wait([self._task])

    def abort(self) -> None:
        """Write nothing more; whoever waits gets a cancellation."""
        self._closed = True
        if self._task is not None:
            self._task.cancel()
        while self._queue:
            _fail(
                self._queue.popleft()[1], RedunDatabaseError("the backend was closed before this was written")
            )


class _BrokenError(Exception):
    """A held transaction failed after it had given answers."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(str(cause))
        self.cause = cause


def _fail(future: asyncio.Future[Any], error: BaseException) -> None:
    if future.done():
        return
    if isinstance(error, asyncio.CancelledError):
        future.cancel()
    else:
        future.set_exception(error)
