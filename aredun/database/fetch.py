"""Reads that are asked thousands of times: compiled once, and sent straight through the driver."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import suppress
from functools import lru_cache
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Protocol

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql.asyncpg import dialect as AsyncpgDialect
from sqlalchemy.dialects.sqlite.aiosqlite import dialect as AiosqliteDialect

from aredun.column_types import ShortBinary
from aredun.database.text_rows import iter_rows, select_text
from aredun.database.turns import ROWS_AT_ONCE, iter_parts, take_turn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

    from aredun.database.sqlite import HopConnection, SqliteFile

# An execution option of statements over tables that grow while they are asked: PostgreSQL keeps the plan that
# it made when a table was small, which reads all of it, until the statistics are next renewed.
PLANNED_ANEW = {"aredun_planned_anew": True}
# Rows that take no turn of their own.
_FEW_ROWS = 50
# Makes a tuple of one of asyncpg's records in half the time that `tuple` takes.
_ALL_CELLS: Callable[[Any], tuple[Any, ...]] = itemgetter(slice(None))

# Connections that a server's read lane keeps; what comes meanwhile is gathered into the next reads.
READ_CONNECTIONS = 2


class _Compiled:
    """A statement's text, and what its parameters and rows go through."""

    def __init__(
        self, statement: sa.SelectBase, dialect: Any, to_tuple: Callable[[Any], tuple[Any, ...]] = tuple
    ) -> None:
        compiled: Any = statement.compile(dialect=dialect)
        self._to_tuple = to_tuple
        self.text = str(compiled)
        self.is_planned_anew = compiled.execution_options.keys() >= PLANNED_ANEW.keys()
        self._parameters = [
            (name, compiled.params.get(name), _bind_processor(compiled.binds[name].type, dialect))
            for name in compiled.positiontup
        ]
        columns = enumerate(statement.selected_columns)
        processors = ((index, _result_processor(column.type, dialect)) for index, column in columns)
        self._processors = [(index, process) for index, process in processors if process is not None]

    def bind(self, parameters: Mapping[str, Any]) -> list[Any]:
        """Return the parameters by position, as the driver takes them."""
        bound = []
        for name, default, process in self._parameters:
            value = parameters.get(name, default)
            bound.append(value if process is None else process(value))
        return bound

    async def convert_in_turns(self, rows: Sequence[Any]) -> list[tuple[Any, ...]]:
        """Return rows as SQLAlchemy would, letting the loop run on now and then."""
        if len(rows) <= _FEW_ROWS:
            return self.convert(rows)
        converted: list[tuple[Any, ...]] = []
        for part in iter_parts(rows, ROWS_AT_ONCE):
            await take_turn()
            converted += self.convert(part)
        return converted

    def convert(self, rows: Sequence[Any]) -> list[tuple[Any, ...]]:
        """Return rows as SQLAlchemy would."""
        if not self._processors:
            return list(map(self._to_tuple, rows))
        converted = []
        for row in rows:
            values = list(row)
            for index, process in self._processors:
                values[index] = process(values[index])
            converted.append(tuple(values))
        return converted


class _CompiledText:
    """A statement for sqlite whose rows come as one text (see `aredun.database.text_rows`)."""

    def __init__(self, rows: _Compiled, types: Sequence[sa.types.TypeEngine[Any]]) -> None:
        self._rows = rows
        self._binary = [place for place, kind in enumerate(types) if isinstance(kind, ShortBinary)]
        self.text = select_text(rows.text, len(types), self._write_cell)

    @staticmethod
    def can_hold(types: Sequence[sa.types.TypeEngine[Any]]) -> bool:
        """Tell whether JSON holds such cells as they are: not bytes, and sqlite cuts floats to 15 digits."""
        return not any(isinstance(kind, sa.LargeBinary | sa.Float) for kind in types)

    def _write_cell(self, place: int, name: str) -> str:
        return f"iif({name} IS NULL, NULL, hex({name}))" if place in self._binary else name

    def iter_rows(self, text: str | None) -> Iterator[list[tuple[Any, ...]]]:
        """Yield the rows of an answer, so many at a time as one turn of the event loop may take."""
        for rows in iter_rows(text):
            for place in self._binary:
                for row in rows:
                    if row[place] is not None:
                        row[place] = bytes.fromhex(row[place])
            yield self._rows.convert(rows)


def _bind_processor(column_type: Any, dialect: Any) -> Callable[[Any], Any] | None:
    process: Callable[[Any], Any] | None = column_type.dialect_impl(dialect).bind_processor(dialect)
    return process


def _result_processor(column_type: Any, dialect: Any) -> Callable[[Any], Any] | None:
    process: Callable[[Any], Any] | None = column_type.dialect_impl(dialect).result_processor(dialect, None)
    return process


class ReadLane(Protocol):
    """The way that small reads take to the database."""

    held: int

    async def fetch(self, statement: sa.SelectBase, parameters: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        """Return all rows of a statement; the same statement object is compiled once."""

    async def discard(self) -> None:
        """Drop connections that may be broken."""

    async def close(self) -> None:
        """Close all connections."""


_SQLITE = AiosqliteDialect()


@lru_cache(maxsize=256)
def _compile_sqlite(statement: sa.SelectBase) -> tuple[_Compiled, _CompiledText | None]:
    """Compile a statement, once for all files: that takes milliseconds, on the loop."""
    in_rows = _Compiled(statement, _SQLITE)
    types = [column.type for column in statement.selected_columns]
    return in_rows, _CompiledText(in_rows, types) if _CompiledText.can_hold(types) else None


class SqliteReadLane:
    """`ReadLane` on sqlite: one connection of its own, one hop per read."""

    def __init__(self, file: SqliteFile) -> None:
        self.held = 0
        self._file = file
        self._opening: asyncio.Task[HopConnection] | None = None

    async def _connect(self) -> HopConnection:
        if self._opening is None:
            self._opening = asyncio.create_task(self._file.connect("IMMEDIATE"))
            self._opening.add_done_callback(self._forget_failure)
        return await asyncio.shield(self._opening)

    def _forget_failure(self, opening: asyncio.Task[HopConnection]) -> None:
        if opening.cancelled() or opening.exception() is not None:
            self._opening = None

    async def fetch(self, statement: sa.SelectBase, parameters: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        """See `ReadLane.fetch`."""
        in_rows, in_text = _compile_sqlite(statement)
        bound = in_rows.bind(parameters)
        # A text longer than a gigabyte is refused: rows have no such bound.
        with suppress(sqlite3.DataError):
            if in_text is not None:
                return await self._fetch_text(in_text, bound)
        return await in_rows.convert_in_turns(await self._fetch_all(in_rows.text, bound))

    async def _fetch_text(self, statement: _CompiledText, bound: Sequence[Any]) -> list[tuple[Any, ...]]:
        ((text,),) = await self._fetch_all(statement.text, bound)
        rows: list[tuple[Any, ...]] = []
        for part in statement.iter_rows(text):
            if rows:
                await asyncio.sleep(0)
            rows += part
        return rows

    async def _fetch_all(self, statement: str, bound: Sequence[Any]) -> list[Any]:
        driver = await self._connect()
        return await driver.hop(lambda raw: raw.execute(statement, bound).fetchall())

    async def discard(self) -> None:
        """See `ReadLane.discard`; a file does not go away."""

    async def close(self) -> None:
        """See `ReadLane.close`."""
        if self._opening is not None:
            opening, self._opening = self._opening, None
            await (await opening).close()


_POSTGRESQL = AsyncpgDialect()  # type: ignore[no-untyped-call]  # SQLAlchemy leaves it untyped


@lru_cache(maxsize=256)
def _compile_postgresql(statement: sa.SelectBase) -> _Compiled:
    """Compile a statement, once for all databases: that takes milliseconds, on the loop."""
    return _Compiled(statement, _POSTGRESQL, _ALL_CELLS)


async def _fetch_rows(driver: Any, compiled: _Compiled, parameters: Mapping[str, Any]) -> list[Any]:
    bound = compiled.bind(parameters)
    if compiled.is_planned_anew:
        # One without a name is not kept, and takes no round trip to close.
        rows: list[Any] = await (await driver.prepare(compiled.text, name="")).fetch(*bound)
    else:
        rows = await driver.fetch(compiled.text, *bound)
    return rows


class PostgresReadLane:
    """`ReadLane` on PostgreSQL: a few connections of the pool, kept."""

    def __init__(self, engine: AsyncEngine) -> None:
        self.held = 0
        self._engine = engine
        self._idle: list[tuple[AsyncConnection, Any]] = []
        self._slots = asyncio.Semaphore(READ_CONNECTIONS)
        self._generation = 0

    async def fetch(self, statement: sa.SelectBase, parameters: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        """See `ReadLane.fetch`."""
        compiled = _compile_postgresql(statement)
        async with self._slots:
            generation = self._generation
            connection, driver = self._idle.pop() if self._idle else await self._open()
            try:
                rows = await _fetch_rows(driver, compiled, parameters)
            except BaseException:
                await self._drop(connection)
                raise
            if generation == self._generation:
                self._idle.append((connection, driver))
            else:
                await self._drop(connection)
        return await compiled.convert_in_turns(rows)

    async def _open(self) -> tuple[AsyncConnection, Any]:
        connection = await self._engine.connect()
        self.held += 1
        return connection, (await connection.get_raw_connection()).driver_connection

    async def _drop(self, connection: AsyncConnection) -> None:
        self.held -= 1
        await connection.invalidate()
        await connection.close()

    async def discard(self) -> None:
        """See `ReadLane.discard`; connections in use are dropped when they come back."""
        self._generation += 1
        idle, self._idle = self._idle, []
        for connection, _ in idle:
            await self._drop(connection)

    async def close(self) -> None:
        """See `ReadLane.close`."""
        await self.discard()
