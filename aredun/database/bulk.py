"""Writing all rows of a transaction at once, on one connection of either database."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import sqlalchemy as sa
from sqlalchemy.dialects.sqlite.aiosqlite import dialect as AiosqliteDialect

from aredun.column_types import DateTimeUTC, in_array
from aredun.database.postgresql import BulkStatements
from aredun.database.rows import ROW_TABLES
from aredun.database.turns import DRAFTS_AT_ONCE, Turns
from aredun.models import CallNode, CallSubtreeTask, Execution, RedunSession

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
    from contextlib import AbstractAsyncContextManager

    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession

    from aredun.database.rows import Row, RowSet, RowTable
    from aredun.database.sqlite import HopConnection, SqliteFile

T = TypeVar("T")

_TIME_FORMAT = "%04d-%02d-%02d %02d:%02d:%02d.%06d"


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


class Lookup(Protocol):
    """What rows depend on calls that are recorded already: asked and answered within the transaction."""

    @property
    def call_hashes(self) -> Sequence[str]:
        """The calls to look up."""

    @property
    def with_tasks(self) -> bool:
        """Whether the tasks of their subtrees are asked for too."""

    def resolve(self, found: Sequence[tuple[str, str | None]]) -> Iterator[None]:
        """Complete the rows in steps, given (call_hash, a task_hash of its subtree or None) of calls."""


def _lookup_statement(with_tasks: bool) -> sa.SelectBase:
    if not with_tasks:
        return sa.select(CallNode.call_hash, sa.null()).where(in_array(CallNode.call_hash, []))
    return (
        sa.select(CallNode.call_hash, CallSubtreeTask.task_hash)
        .outerjoin(CallSubtreeTask, CallSubtreeTask.call_hash == CallNode.call_hash)
        .where(in_array(CallNode.call_hash, []))
    )


class Lane(Protocol):
    """The way that one writer's transactions take to the database, one after the other."""

    async def write(self, rows: RowSet, lookup: Lookup | None = None) -> None:
        """Write all rows in a transaction of their own: when this returns they are durable, all of them."""

    def transaction(self) -> AbstractAsyncContextManager[Transaction]:
        """Open a transaction (`async with`), which commits at the end of the block."""

    async def discard(self) -> None:
        """Drop the connection, after an error that may have broken it; the next use opens another one."""

    async def close(self) -> None:
        """Give the connection back."""


class Transaction:
    """A write transaction in progress: rows and operations, one after the other.

    Parameters
    ----------
    connection : AsyncConnection
        In a transaction.
    write : callable
        Writes rows on that connection, without beginning or committing anything.
    backend : Any
        What the models of the operations' sessions find as their backend.
    """

    def __init__(
        self,
        connection: AsyncConnection,
        write: Callable[[RowSet, Lookup | None], Awaitable[None]],
        backend: Any,
    ) -> None:
        self._connection = connection
        self.write = write
        self._backend = backend

    async def run(self, operation: Callable[[AsyncSession], Awaitable[T]], *, savepoint: bool = True) -> T:
        """Run an operation on a session of this transaction; behind a savepoint it fails alone."""
        # An operation that commits all the same ends its savepoint, never everybody's transaction.
        mode: Any = "create_savepoint" if savepoint else "rollback_only"
        async with RedunSession(self._backend, self._connection, join_transaction_mode=mode) as session:
            result = await operation(session)
            await session.commit()
            return result


class SqliteBulk:
    """Writes a whole transaction in one hop to the driver's thread."""

    def __init__(self, counts: Counts) -> None:
        dialect = AiosqliteDialect()
        self._counts = counts
        self._inserts = {table: _SqliteInsert(table, dialect) for table in ROW_TABLES}
        self._heartbeat = str(
            sa.update(Execution)
            .values(updated_time=sa.bindparam("time"))
            .where(Execution.id == sa.bindparam("key"))
            .compile(dialect=dialect)
        )
        self._lookups = {
            flag: str(_lookup_statement(flag).compile(dialect=dialect)) for flag in (False, True)
        }

    def execute(self, rows: RowSet, lookup: Lookup | None, whole: bool, raw: sqlite3.Connection) -> None:
        """Write rows, and begin and commit if they are a `whole` transaction (in the driver's thread)."""
        if not whole:
            self._write(rows, lookup, raw)
            return
        self._counts.statements += 2
        raw.execute("BEGIN IMMEDIATE")
        try:
            self._write(rows, lookup, raw)
            raw.execute("COMMIT")
        except BaseException:
            if raw.in_transaction:
                raw.execute("ROLLBACK")
            raise
        self._counts.commits += 1

    def _write(self, rows: RowSet, lookup: Lookup | None, raw: sqlite3.Connection) -> None:
        counts = self._counts
        if lookup is not None:
            counts.statements += 1
            hashes = json.dumps(list(lookup.call_hashes))
            found = raw.execute(self._lookups[lookup.with_tasks], (hashes,)).fetchall()
            for _ in lookup.resolve(found):
                pass
        for table, table_rows in rows.tables():
            counts.statements += 1
            counts.rows += len(table_rows)
            insert = self._inserts[table]
            raw.executemany(insert.statement, insert.convert(table_rows))
        if rows.heartbeats:
            counts.statements += 1
            beats = [(format_time(time), key) for key, time in sorted(rows.heartbeats.items())]
            raw.executemany(self._heartbeat, beats)


class SqliteLane:
    """`Lane` on sqlite: one connection, whose transactions are whole hops to its thread where they can be.

    Parameters
    ----------
    file : SqliteFile
        What to connect to.
    counts : Counts
        Counts statements and commits.
    backend : Any
        What the models of the operations' sessions find as their backend.
    """

    def __init__(self, file: SqliteFile, counts: Counts, backend: Any) -> None:
        self._file = file
        self._bulk = SqliteBulk(counts)
        self._backend = backend
        self._driver: HopConnection | None = None
        self.held = 0
        # For operations, SQLAlchemy drives the same connection.
        self.engine = file.create_writer(self._connect)

    async def _connect(self) -> HopConnection:
        if self._driver is None or not self._driver.is_open:
            self._driver = await self._file.connect(None)
        return self._driver

    async def _hop(self, rows: RowSet, lookup: Lookup | None, *, whole: bool) -> None:
        driver = await self._connect()
        await driver.hop(partial(self._bulk.execute, rows, lookup, whole))

    async def write(self, rows: RowSet, lookup: Lookup | None = None) -> None:
        """See `Lane.write`."""
        await self._hop(rows, lookup, whole=True)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        """See `Lane.transaction`."""
        async with self.engine.begin() as connection:
            yield Transaction(connection, partial(self._hop, whole=False), self._backend)

    async def set_foreign_keys(self, enabled: bool) -> None:
        """Switch the checks of foreign keys on or off; within a transaction that has no effect."""
        driver = await self._connect()
        await driver.hop(lambda raw: raw.execute(f"PRAGMA foreign_keys={'ON' if enabled else 'OFF'}"))

    async def discard(self) -> None:
        """See `Lane.discard`; a file does not go away."""

    async def close(self) -> None:
        """See `Lane.close`."""
        await self.engine.dispose()
        if self._driver is not None:
            driver, self._driver = self._driver, None
            await driver.close()


class _SqliteInsert:
    """The INSERT of one table, compiled once, and the rows as the driver takes them."""

    def __init__(self, table: RowTable, dialect: Any) -> None:
        compiled = table.insert().compile(dialect=dialect, column_keys=list(table.columns))
        self.statement = str(compiled)
        if tuple(compiled.positiontup or ()) != table.columns:
            raise RuntimeError(f"SQLAlchemy orders columns otherwise than expected: {compiled.positiontup}")
        self._processors = []
        for index, name in enumerate(table.columns):
            column_type = table.table.c[name].type
            processor = _processor(column_type, dialect)
            if processor is not None:
                self._processors.append((index, processor))

    def convert(self, rows: Sequence[Row]) -> Iterable[Sequence[Any]]:
        if not self._processors:
            return rows
        converted = []
        for row in rows:
            values = list(row)
            for index, processor in self._processors:
                values[index] = processor(values[index])
            converted.append(values)
        return converted


def _processor(column_type: sa.types.TypeEngine[Any], dialect: Any) -> Callable[[Any], Any] | None:
    if isinstance(column_type, sa.LargeBinary):
        # The driver takes bytes as they are: no need for the copy that the type's processor makes.
        return None
    if isinstance(column_type, DateTimeUTC):
        return format_time
    return column_type.dialect_impl(dialect).bind_processor(dialect)


def format_time(time: datetime | None) -> str | None:
    """Return a time as SQLAlchemy stores it on sqlite, in a third of the time that it takes."""
    if time is None:
        return None
    if time.tzinfo is None:
        raise ValueError(f"a datetime without a time zone cannot be stored: {time}; give it tzinfo=UTC")
    if time.tzinfo is not UTC:
        time = time.astimezone(UTC)
    return _TIME_FORMAT % (
        time.year,
        time.month,
        time.day,
        time.hour,
        time.minute,
        time.second,
        time.microsecond,
    )


class PostgresLane:
    """`Lane` on PostgreSQL: one connection of the pool, kept; all rows of a transaction are one statement.

    Parameters
    ----------
    engine : AsyncEngine
        Where the connection comes from.
    counts : Counts
        Counts statements and commits.
    backend : Any
        What the models of the operations' sessions find as their backend.
    """

    def __init__(self, engine: AsyncEngine, counts: Counts, backend: Any) -> None:
        self._engine = engine
        self._counts = counts
        self._backend = backend
        self._statements = BulkStatements()
        self._lookups = {
            flag: self._statements.compile_one(_lookup_statement(flag)) for flag in (False, True)
        }
        self._connection: AsyncConnection | None = None
        self._driver: Any = None

    @property
    def held(self) -> int:
        """Connections that it keeps."""
        return 0 if self._connection is None else 1

    async def _open(self) -> AsyncConnection:
        if self._connection is not None and self._driver.is_closed():
            # SQLAlchemy closes a connection that was interrupted.
            await self.discard()
        if self._connection is None:
            connection = await self._engine.connect()
            self._driver = (await connection.get_raw_connection()).driver_connection
            self._connection = connection
        return self._connection

    async def _write(self, rows: RowSet, lookup: Lookup | None = None) -> None:
        driver = self._driver
        if lookup is not None:
            self._counts.statements += 1
            # Calls are never deleted: asking before the transaction is as good as asking within it.
            found = await driver.fetch(self._lookups[lookup.with_tasks], list(lookup.call_hashes))
            turns = Turns(DRAFTS_AT_ONCE)
            for _ in lookup.resolve([tuple(record) for record in found]):
                await turns.pause_after()
        if len(rows):
            self._counts.statements += 1
            self._counts.rows += len(rows)
            statement, arrays = self._statements.build(rows)
            await driver.execute(statement, *arrays)

    async def write(self, rows: RowSet, lookup: Lookup | None = None) -> None:
        """See `Lane.write`; a single statement is a transaction by itself."""
        await self._open()
        await self._write(rows, lookup)
        self._counts.commits += 1

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        """See `Lane.transaction`."""
        connection = await self._open()
        async with connection.begin():
            # The driver begins with the first statement that goes through SQLAlchemy; rows go around it.
            await connection.exec_driver_sql("SELECT 1")
            yield Transaction(connection, self._write, self._backend)

    async def discard(self) -> None:
        """See `Lane.discard`."""
        if self._connection is not None:
            connection, self._connection, self._driver = self._connection, None, None
            await connection.invalidate()
            await connection.close()

    async def close(self) -> None:
        """See `Lane.close`."""
        if self._connection is not None:
            connection, self._connection, self._driver = self._connection, None, None
            await connection.close()
