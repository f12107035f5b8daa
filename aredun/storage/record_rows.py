"""Rows of records in bulk: one statement per table, whatever the number of rows, on both databases.

Rows are those of records (`RowTable.record_row`), neutral as `aredun.transfer.record_fields` makes them. On
PostgreSQL they go in by COPY, which knows no ON CONFLICT: a transaction that finds one of its rows there is
run again with arrays, unnested by the server, which measures the same as COPY into a temporary table and
needs no table. On sqlite hundreds go in with one statement: that is faster than `executemany`, which is a
step of the statement for each row and fights for the interpreter's lock before each of them, and than a JSON
list that the database takes apart.
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cache
from itertools import chain, islice, repeat
from typing import TYPE_CHECKING, Any, Final, TypeVar

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from aredun.errors import RedunDatabaseError
from aredun.loop.pacing import iter_parts, take_turn
from aredun.models import Base
from aredun.storage.fetch import KEEP_PLANS, PLANNED_ANEW
from aredun.storage.retry import is_refusal
from aredun.storage.rows import JOB, ROW_TABLES, VALUE
from aredun.storage.sql_log import sql_logger
from aredun.tables.column_types import JSON, DateTimeUTC, TextList, in_list

if TYPE_CHECKING:
    from collections.abc import (
        AsyncIterator,
        Awaitable,
        Callable,
        Collection,
        Iterable,
        Iterator,
        Mapping,
        Sequence,
    )

    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

    from aredun.storage.core import Database
    from aredun.storage.rows import Row, RowTable

T = TypeVar("T")

# Rows in one statement over arrays: enough to hide the round trip, few enough not to hold the event loop up.
ROWS_PER_STATEMENT = 1000
KEYS_PER_READ = 2000

# Rows in one statement on sqlite, and bytes of values up to which those go so.
ROWS_PER_INSERT: Final = 1024
_KEPT_BYTES: Final = 1 << 20

TABLES: dict[str, sa.Table] = dict(Base.metadata.tables)

# Tables whose rows may be there although the records that they come from are new.
_SHARED: Final = {"evaluation"}

# Tables that have rows for few of the ids that they are asked for.
_SPARSE: Final = {"subvalue", "tag", "tag_edit"}


class _Statements:
    """The statements for each table, made once."""

    def __init__(self) -> None:
        self._values: dict[tuple[RowTable, int], str] = {}
        self._arrays: dict[RowTable, sa.TextClause] = {}

    def get_values(self, table: RowTable, count: int) -> str:
        """Return the statement that takes the cells of so many rows, one after the other."""
        key = table, count
        if key not in self._values:
            row = f"({', '.join([*('?' for _ in table.record_columns), *table.defaults.values()])})"
            self._values[key] = (
                f"{_begin_insert(table)} VALUES {', '.join([row] * count)} ON CONFLICT DO NOTHING"
            )
        return self._values[key]

    def get_arrays(self, table: RowTable) -> sa.TextClause:
        """Return the statement that takes one array per column."""
        if table not in self._arrays:
            types = [_WireType(table.table.c[name].type) for name in table.record_columns]
            cells = [kind.cell(f"r.c{i}") for i, kind in enumerate(types)]
            cells += table.defaults.values()
            arrays = ", ".join(f"CAST(:a{i} AS {kind.name}[])" for i, kind in enumerate(types))
            names = ", ".join(f"c{i}" for i in range(len(types)))
            statement = sa.text(
                f"{_begin_insert(table)} SELECT {', '.join(cells)}"
                f" FROM unnest({arrays}) AS r({names}) ON CONFLICT {_get_conflict_action(table)}"
            )
            self._arrays[table] = statement.bindparams(
                *(sa.bindparam(f"a{i}", type_=kind.type) for i, kind in enumerate(types))
            )
        return self._arrays[table]


class _WireType:
    """What a column's cells travel as in an array, and how the server makes the column's type of it."""

    def __init__(self, column_type: sa.types.TypeEngine[Any]) -> None:
        self.type: sa.types.TypeEngine[Any] = TextList()
        self.name = "text"
        self._cast = ""
        if isinstance(column_type, DateTimeUTC):
            self._cast = "timestamp AT TIME ZONE 'UTC'"
        elif isinstance(column_type, JSON):
            self._cast = "jsonb"
        elif isinstance(column_type, sa.Enum):
            self._cast = str(column_type.name)
        elif isinstance(column_type, sa.LargeBinary):
            self.type, self.name = postgresql.ARRAY(sa.LargeBinary()), "bytea"
        elif isinstance(column_type, sa.Boolean):
            self.type, self.name = postgresql.ARRAY(sa.Boolean()), "boolean"
        elif isinstance(column_type, sa.Integer):
            self.type, self.name = postgresql.ARRAY(sa.Integer()), "integer"

    def cell(self, name: str) -> str:
        """Return the expression that gives one cell of the column."""
        return f"({name})\\:\\:{self._cast}" if self._cast else name


def _names(columns: Iterable[str]) -> str:
    return ", ".join(f'"{name}"' for name in columns)


def _begin_insert(table: RowTable) -> str:
    return f'INSERT INTO "{table.name}" ({_names((*table.record_columns, *table.defaults))})'


def _get_conflict_action(table: RowTable) -> str:
    """Return what becomes of a row that is there: a record only finishes what was under way before."""
    name = table.changes.decisive
    if not name or not table.table.c[name].nullable:
        return "DO NOTHING"
    changed = ", ".join(f"{each} = excluded.{each}" for each in table.changes.columns)
    unfinished = f"{table.name}.{name} IS NULL AND excluded.{name} IS NOT NULL"
    return f"({_names(table.key)}) DO UPDATE SET {changed} WHERE {unfinished}"


_statements = _Statements()
# What PostgreSQL does on a conflict, as a statement of its own: an upsert takes sqlite twice as long as an
# insert even where all is new.
_END_JOB: Final = str(
    sa.update(JOB.table)
    .values({name: sa.bindparam(f"new_{name}") for name in JOB.changes.columns})
    .where(JOB.table.c.id == sa.bindparam("job_id"), JOB.table.c.end_time.is_(None))
    .compile(dialect=sqlite.dialect(paramstyle="qmark"))
)


async def write_new(database: Database, operation: Callable[[AsyncSession, bool], Awaitable[T]]) -> T:
    """Run an operation that writes what is probably new in a transaction of its own.

    Parameters
    ----------
    database : Database
        Where to write.
    operation : callable
        Takes the session, and whether to take all of its rows for new (`insert_rows`). If that is refused it
        is run again, in another transaction, without taking anything for granted.

    Returns
    -------
    T
        What the operation returned.
    """
    if database.can_copy:
        try:
            return await database.write(lambda session: operation(session, True), own_transaction=True)
        except (RedunDatabaseError, ValueError, OverflowError) as error:
            if not is_refusal(error):
                raise
    return await database.write(lambda session: operation(session, False), own_transaction=True)


async def insert_rows(
    session: AsyncSession, rows: Mapping[str, Sequence[Row]], *, all_new: bool = False
) -> dict[str, int]:
    """Insert rows that are not there yet, table by table in the order of their foreign keys.

    Parameters
    ----------
    session : AsyncSession
        An open session in a transaction.
    rows : mapping
        Neutral rows by table. Rows of one table must be sorted by key, so that concurrent writers wait for
        each other instead of forming a deadlock; jobs go parents first instead.
    all_new : bool
        None of the rows is there: one that is fails the transaction on PostgreSQL, where it is then faster.

    Returns
    -------
    dict[str, int]
        Number of rows that were new, by table; a job that was under way and has ended since counts as new.
    """
    connection = await session.connection()
    if connection.dialect.name == "sqlite":
        return await _insert_values(connection, rows)
    new: dict[str, int] = {}
    for name, table in ROW_TABLES.items():
        cells = rows.get(name)
        if not cells:
            continue
        if all_new and name not in _SHARED:
            await _copy(connection, table, cells)
            new[name] = len(cells)
            continue
        new[name] = 0
        for part in iter_parts(cells, ROWS_PER_STATEMENT):
            arrays = {f"a{i}": list(cell) for i, cell in enumerate(zip(*part, strict=True))}
            result = await connection.execute(_statements.get_arrays(table), arrays)
            new[name] += max(result.rowcount, 0)
    return new


async def _copy(connection: AsyncConnection, table: RowTable, rows: Sequence[Row]) -> None:
    """Copy rows into a table of PostgreSQL's, in the transaction that the connection is in."""
    # COPY is the driver's own: SQLAlchemy has no statement for it, and its events do not tell of it.
    raw = await connection.get_raw_connection()
    driver: Any = raw.driver_connection
    if not driver.is_in_transaction():
        # The driver begins one with the first statement that comes through SQLAlchemy.
        await connection.exec_driver_sql(KEEP_PLANS)
    columns = (*table.record_columns, *table.defaults)
    sql_logger.debug("COPY %s (%s): %d rows", table.name, ", ".join(columns), len(rows))
    await driver.copy_records_to_table(table.name, records=_iter_copied(table, rows), columns=columns)


async def _iter_copied(table: RowTable, rows: Sequence[Row]) -> AsyncIterator[Row]:
    """Yield rows as the driver copies them, letting the loop run on now and then."""
    times = [
        place
        for place, name in enumerate(table.record_columns)
        if isinstance(table.table.c[name].type, DateTimeUTC)
    ]
    more = (True,) * len(table.defaults)
    for part in iter_parts(rows):
        await take_turn()
        for row in _parse_times(part, times) if times else part:
            yield (*row, *more)


def _parse_times(rows: Iterable[Row], places: Sequence[int]) -> Iterator[Row]:
    for row in rows:
        cells = list(row)
        for place in places:
            if cells[place] is not None:
                cells[place] = _parse_time(cells[place])
        yield tuple(cells)


def _parse_time(text: str) -> datetime:
    """Return the time that a neutral row holds."""
    try:
        # A sixth of what it takes to give a datetime another zone.
        return datetime.fromisoformat(f"{text}+00:00")
    except ValueError:
        return datetime.fromisoformat(text).replace(tzinfo=UTC)


async def _insert_values(connection: AsyncConnection, rows: Mapping[str, Sequence[Row]]) -> dict[str, int]:
    """Insert rows on sqlite."""
    new: dict[str, int] = {}
    for name, table in ROW_TABLES.items():
        cells = rows.get(name)
        if not cells:
            continue
        count = await _insert_table(connection, table, cells)
        if table is JOB and count < len(cells):
            ended = [
                (row.end_time, row.cached, row.call_hash, row.id) for row in cells if row.end_time is not None
            ]
            if ended:
                count += max((await connection.exec_driver_sql(_END_JOB, ended)).rowcount, 0)
        new[name] = count
    return new


async def _insert_table(connection: AsyncConnection, table: RowTable, rows: Sequence[Row]) -> int:
    """Insert the rows of one table on sqlite, going to its thread once; returns how many were new."""
    parts = list(iter_parts(rows, ROWS_PER_INSERT))
    if table is VALUE and any(sum(len(row.value) for row in part) > _KEPT_BYTES for part in parts):
        # A statement that is kept keeps a copy of its last parameters.
        parts = list(iter_parts(rows, 1))
    # Each size is a statement, so parts are filled up to one of few sizes: a repeated row goes in once.
    size = 1 << (len(parts[0]) - 1).bit_length()
    cells = [tuple(chain.from_iterable(islice(chain(part, repeat(part[-1])), size))) for part in parts]
    result = await connection.exec_driver_sql(_statements.get_values(table, size), cells)
    return result.rowcount


async def get_existing(session: AsyncSession, column: Any, keys: Collection[str]) -> set[str]:
    """Return those of `keys` that a text column holds."""
    found: set[str] = set()
    for part in iter_parts(sorted(list_storable(keys)), ROWS_PER_STATEMENT):
        connection = await session.connection()
        result = await connection.execute(sa.select(column).where(in_list(column, part, sparse=True)))
        found.update(result.scalars())
    return found


async def find_existing(database: Database, table: str, key: str, keys: Collection[str]) -> set[str]:
    """Return those of `keys` that a text column holds, read outside of any transaction."""
    statement = _select_present(table, key)
    found: set[str] = set()
    for part in iter_parts(sorted(list_storable(keys)), KEYS_PER_READ):
        found.update(found_key for (found_key,) in await database.fetch(statement, {"ids": part}))
    return found


def list_storable(keys: Iterable[str]) -> list[str]:
    """Return those of the keys that a database could hold: any other would fail the whole statement."""
    storable = [key for key in keys if "\0" not in key]
    try:
        "".join(storable).encode()
    except UnicodeEncodeError:
        return [key for key in storable if not any("\ud800" <= sign <= "\udfff" for sign in key)]
    return storable


def plain(column: Any) -> Any:
    """Return a column whose cells arrive as the driver gives them: neutral, but for timestamps."""
    if isinstance(column.type, JSON | sa.Enum):
        # The driver would ask each connection for what an enum is.
        return sa.cast(column, sa.Text).label(column.key)
    if isinstance(column.type, sa.LargeBinary):
        return column.label(column.key)
    return sa.type_coerce(column, sa.types.NullType()).label(column.key)


@cache
def select_rows(table: str, key: str, order: tuple[str, ...] = ()) -> sa.Select[Any]:
    """Return the statement for the rows of a table whose `key` is among `ids`, as records have them.

    It is always the same object: `Database.fetch` compiles it once.
    """
    columns = TABLES[table].c
    wanted = [plain(columns[name]) for name in ROW_TABLES[table].record_columns]
    statement = sa.select(*wanted).where(_is_among(columns[key]))
    return statement.order_by(*(columns[name] for name in order))


@cache
def _select_present(table: str, key: str) -> sa.Select[Any]:
    """Return the statement for those of `ids` that a column holds; the table may grow meanwhile."""
    column = TABLES[table].c[key]
    present = sa.select(plain(column)).where(in_list(column, "ids", sparse=True))
    return present.execution_options(**PLANNED_ANEW)


@cache
def select_column(table: str, column: str, key: str) -> sa.Select[Any]:
    """Return the statement for one column of the rows whose `key` is among `ids`; always the same object."""
    columns = TABLES[table].c
    return sa.select(plain(columns[column])).where(_is_among(columns[key]))


def _is_among(column: Any) -> sa.ColumnElement[bool]:
    return in_list(column, "ids", sparse=column.table.name in _SPARSE)
