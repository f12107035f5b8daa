"""The connections that one writer keeps, and the transactions on them."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import event

from aredun.models import RedunSession
from aredun.storage.liveness import mark_idle
from aredun.storage.sql_log import sql_logger

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from contextlib import AbstractAsyncContextManager

    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession
    from sqlalchemy.orm import Session

    from aredun.storage.inserts import Inserts
    from aredun.storage.row_set import RowSet

T = TypeVar("T")


@dataclass
class Counts:
    """What a database has been asked to do so far.

    Attributes
    ----------
    statements : int
        Statements sent; one for many rows counts once.
    commits : int
        Transactions committed, those of single statements included.
    rows : int
        Rows sent in bulk.
    drains : int
        Times that the write queue was emptied into a transaction.
    reads : int
        Reading statements among `statements`.
    """

    statements: int = 0
    commits: int = 0
    rows: int = 0
    drains: int = 0
    reads: int = 0

    def listen(self, engine: AsyncEngine) -> None:
        """Count the statements and commits of an engine from now on."""
        event.listen(engine.sync_engine, "before_cursor_execute", self._count_statement)
        event.listen(engine.sync_engine, "commit", self._count_commit)

    def _count_statement(self, *_: object) -> None:
        self.statements += 1

    def _count_commit(self, *_: object) -> None:
        self.commits += 1


class KeptConnection:
    """A connection of a pool that is taken once and kept: its user never waits for others.

    Parameters
    ----------
    engine : AsyncEngine
        Where it comes from.
    prepare : callable, optional
        Sets a new connection up.
    waits : bool
        Who finds it lent waits for it, instead of taking one more connection of the pool's.
    max_idle, max_age : float
        After so many seconds without use, or since it was taken, it goes through its pool again, which
        looks whether it lives and how old it is; 0 for never.
    """

    def __init__(
        self,
        engine: AsyncEngine,
        prepare: Callable[[AsyncConnection], Awaitable[None]] | None = None,
        *,
        waits: bool = False,
        max_idle: float = 0.0,
        max_age: float = 0.0,
    ) -> None:
        self._engine = engine
        self._waits = waits
        # The lock of the event loop that asked last.
        self._turn: tuple[asyncio.AbstractEventLoop, asyncio.Lock] | None = None
        self._max_idle = max_idle
        self._max_age = max_age
        self._taken = self._used = 0.0
        self._prepare = prepare
        self._connection: AsyncConnection | None = None
        self._is_lent = False

    @property
    def held(self) -> int:
        """How many connections of the pool it keeps."""
        return 0 if self._connection is None else 1

    async def get(self) -> AsyncConnection:
        """Return the connection, another one if it was interrupted."""
        if self._connection is not None and (self._connection.invalidated or self._is_old()):
            await self.close()
        if self._connection is None:
            connection = await self._engine.connect()
            self._taken = self._used = asyncio.get_running_loop().time()
            if self._prepare is not None:
                await self._prepare(connection)
            self._connection = connection
        return self._connection

    def _is_old(self) -> bool:
        """Tell whether the connection is to go through its pool before its next use."""
        now = asyncio.get_running_loop().time()
        if self._connection is not None and self._max_idle and now - self._used > self._max_idle:
            mark_idle(self._connection)
            return True
        return bool(self._max_age) and now - self._taken > self._max_age

    @asynccontextmanager
    async def lend(self) -> AsyncIterator[AsyncConnection]:
        """Lend the connection; after an error it goes back to its pool, which ends what was begun on it."""
        self._is_lent = True
        try:
            yield await self.get()
        except BaseException:
            await self.close()
            raise
        finally:
            self._is_lent = False
        if self._max_idle:
            self._used = asyncio.get_running_loop().time()

    @asynccontextmanager
    async def lend_or_connect(self) -> AsyncIterator[AsyncConnection]:
        """Lend the connection; while it is lent already, as `waits` says."""
        async with self._get_turn():
            lending = self._engine.connect() if self._is_lent else self.lend()
            async with lending as connection:
                yield connection

    def _get_turn(self) -> AbstractAsyncContextManager[Any]:
        if not self._waits:
            return nullcontext()
        loop = asyncio.get_running_loop()
        if self._turn is None or self._turn[0] is not loop:
            self._turn = loop, asyncio.Lock()
        return self._turn[1]

    async def discard(self) -> None:
        """Drop the connection, after an error that may have broken it."""
        if self._connection is not None:
            connection, self._connection = self._connection, None
            await connection.invalidate()
            await connection.close()

    async def close(self) -> None:
        """Give the connection back."""
        if self._connection is not None:
            connection, self._connection = self._connection, None
            await connection.close()


class WriteConnection:
    """The way that one writer's transactions take to the database, one after the other.

    Parameters
    ----------
    plain : KeptConnection
        On which a session's rows become durable with its commit.
    transactional : KeptConnection
        On which a transaction may hold more than one statement; may be the same.
    inserts : Inserts
        Makes the statements for rows.
    begin : str
        The statement that begins a transaction which may look before it writes; "" where none is needed.
    counts : Counts
        Where rows are counted.
    backend : Any
        What the models of the operations' sessions find as their backend.
    """

    def __init__(
        self,
        plain: KeptConnection,
        transactional: KeptConnection,
        inserts: Inserts,
        begin: str,
        counts: Counts,
        backend: Any,
    ) -> None:
        self._plain = plain
        self._transactional = transactional
        self._inserts = inserts
        self._begin = begin
        self._counts = counts
        self._backend = backend
        self._session: RedunSession | None = None

    @property
    def held(self) -> int:
        """Connections of the pool that it keeps."""
        return sum(kept.held for kept in {self._plain, self._transactional})

    @asynccontextmanager
    async def open_session(self) -> AsyncIterator[RedunSession]:
        """Lend the session of the write queue, for one transaction of rows alone; they are committed by it.

        The session is kept, like its connection: to make one takes longer than to write a row.
        """
        async with self._plain.lend() as connection:
            if self._session is None or self._session.bind is not connection:
                self._session = RedunSession(self._backend, connection)
            try:
                yield self._session
            except BaseException:
                session, self._session = self._session, None
                await session.close()
                raise

    async def write(self, session: AsyncSession, rows: RowSet, *, commit: bool = False) -> None:
        """Send all rows on a session; once they are committed they are durable, all of them."""
        await session.run_sync(self._insert, rows, commit=commit)

    def _insert(self, session: Session, rows: RowSet, *, commit: bool) -> None:
        connection = session.connection()
        for text, parameters in self._inserts.build(rows):
            connection.exec_driver_sql(text, parameters)
        self._counts.rows += len(rows)
        if commit:
            session.commit()

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        """Open a transaction (`async with`) for rows and operations; it commits at the end of the block."""
        async with self._transactional.lend() as connection, connection.begin():
            if self._begin:
                await connection.exec_driver_sql(self._begin)
            yield Transaction(connection, self)

    def make_session(self, connection: AsyncConnection, *, savepoint: bool) -> RedunSession:
        """Return a session within a transaction; behind a savepoint it fails alone."""
        # An operation that commits all the same ends its savepoint, never everybody's transaction.
        mode: Any = "create_savepoint" if savepoint else "rollback_only"
        return RedunSession(self._backend, connection, join_transaction_mode=mode)

    async def set_up(self, statement: str) -> None:
        """Execute a statement on the driver's connection, beside any transaction."""
        raw = await (await self._plain.get()).get_raw_connection()
        if raw.driver_connection is not None:
            sql_logger.debug(statement)
            await raw.driver_connection.execute(statement)

    async def discard(self) -> None:
        """Drop the connections, after an error that may have broken them; the next use opens others."""
        self._session = None
        await self._plain.discard()
        await self._transactional.discard()

    async def close(self) -> None:
        """Give the connections back."""
        self._session = None
        await self._plain.close()
        await self._transactional.close()


class Transaction:
    """A write transaction in progress: rows and operations, one after the other.

    Parameters
    ----------
    connection : AsyncConnection
        In a transaction.
    writer : WriteConnection
        What it is a transaction of.
    """

    def __init__(self, connection: AsyncConnection, writer: WriteConnection) -> None:
        self._connection = connection
        self._writer = writer

    @asynccontextmanager
    async def open_session(self, *, savepoint: bool = True) -> AsyncIterator[RedunSession]:
        """Open a session of this transaction; what it did is kept at the end of the block."""
        async with self._writer.make_session(self._connection, savepoint=savepoint) as session:
            yield session
            await session.commit()

    async def run(self, operation: Callable[[AsyncSession], Awaitable[T]], *, savepoint: bool = True) -> T:
        """Run an operation on a session of this transaction; behind a savepoint it fails alone."""
        async with self.open_session(savepoint=savepoint) as session:
            return await operation(session)

    async def write(self, session: AsyncSession, rows: RowSet) -> None:
        """Send rows on a session of this transaction."""
        await self._writer.write(session, rows)
