"""The statements that write the rows of a transaction, and their parameters as each driver takes them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects.postgresql.asyncpg import dialect as AsyncpgDialect
from sqlalchemy.dialects.sqlite.aiosqlite import dialect as AiosqliteDialect

from aredun.models import Execution
from aredun.storage.rows import EXECUTION, JOB, ROW_TABLES
from aredun.tables.column_types import DateTimeUTC

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from aredun.storage.row_set import RowSet
    from aredun.storage.rows import Row, RowTable

# Where writers on PostgreSQL announce that jobs have changed.
CHANNEL = "aredun_changes"
APPLICATION_NAME = "aredun"
# The trigger on `job` takes a session without this setting for an old redun, and shifts its times.
SAY_VERSION = f"set_config('redun.version', '{APPLICATION_NAME}', true)"

_TIME_FORMAT = "%04d-%02d-%02d %02d:%02d:%02d.%06d"


class Inserts(Protocol):
    """Makes of rows the statements that write them; their texts are compiled once and kept."""

    def build(self, rows: RowSet) -> Iterator[tuple[str, Any]]:
        """Yield (text, parameters) in the order in which they are to be executed."""


class SqliteInserts:
    """One statement for each table, executed for many rows."""

    def __init__(self) -> None:
        dialect = AiosqliteDialect()
        self._inserts = {table: _SqliteInsert(table, dialect) for table in ROW_TABLES.values()}
        self._heartbeat = str(
            sa.update(Execution)
            .values(updated_time=sa.bindparam("time"))
            .where(Execution.id == sa.bindparam("key"))
            .compile(dialect=dialect)
        )

    def build(self, rows: RowSet) -> Iterator[tuple[str, Any]]:
        """See `Inserts.build`."""
        for table, table_rows in rows.tables():
            insert = self._inserts[table]
            yield insert.text, insert.convert(table_rows)
        if rows.heartbeats:
            yield self._heartbeat, [(format_time(time), key) for key, time in sorted(rows.heartbeats.items())]


class _SqliteInsert:
    """The INSERT of one table, and the rows as the driver takes them."""

    def __init__(self, table: RowTable, dialect: Any) -> None:
        self.text = str(table.insert().compile(dialect=dialect, column_keys=list(table.columns)))
        processors = [_processor(table.table.c[name].type, dialect) for name in table.columns]
        self._processors = [(place, process) for place, process in enumerate(processors) if process]

    def convert(self, rows: Sequence[Row]) -> Sequence[Row]:
        if not self._processors:
            return rows
        converted = []
        for row in rows:
            values = list(row)
            for place, process in self._processors:
                values[place] = process(values[place])
            converted.append(tuple(values))
        return converted


def _processor(column_type: sa.types.TypeEngine[Any], dialect: Any) -> Callable[[Any], Any] | None:
    """Return what makes of a cell what the driver takes; None where it takes the cell as it is."""
    if isinstance(column_type, sa.LargeBinary):
        # The type's own processor would copy the bytes.
        return None
    if isinstance(column_type, DateTimeUTC) and dialect.name == "sqlite":
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


class PostgresInserts:
    """One statement for all tables, over one array for each column.

    It is a chain of data-modifying CTEs: it happens as a whole or not at all, in one round trip, and foreign
    keys are checked at its end.

    Parameters
    ----------
    says_version : bool
        The connection does not say `redun.version`: the statement does, for its own transaction.
    """

    def __init__(self, *, says_version: bool = False) -> None:
        self._says_version = says_version
        self._dialect = AsyncpgDialect()  # type: ignore[no-untyped-call]  # SQLAlchemy leaves it untyped
        # By the tables that have rows, and whether there are heartbeats.
        self._texts: dict[tuple[tuple[RowTable, ...], bool], str] = {}
        self._processors = {
            (table, name): _processor(table.table.c[name].type, self._dialect)
            for table in ROW_TABLES.values()
            for name in table.columns
        }

    def build(self, rows: RowSet) -> Iterator[tuple[str, Any]]:
        """See `Inserts.build`."""
        tables = rows.tables()
        heartbeats = sorted(rows.heartbeats.items())
        shape = (tuple(table for table, _ in tables), bool(heartbeats))
        if shape not in self._texts:
            self._texts[shape] = self._compile(*shape)
        arrays: list[Any] = []
        for table, table_rows in tables:
            for name, cells in zip(table.columns, zip(*table_rows, strict=True), strict=True):
                process = self._processors[table, name]
                arrays.append(list(cells) if process is None else list(map(process, cells)))
        if heartbeats:
            arrays.extend(map(list, zip(*heartbeats, strict=True)))
        if arrays:
            yield self._texts[shape], tuple(arrays)

    def _compile(self, tables: Sequence[RowTable], with_heartbeats: bool) -> str:
        """Return the text, whose parameters are in the order of the tables, their columns, and heartbeats."""
        parts: list[Any] = []
        for table in tables:
            columns = [table.table.c[name] for name in table.columns]
            source = _unnest(table.name, columns)
            new_rows = sa.select(*(source.c[name] for name in table.columns))
            if self._says_version and table is JOB:
                # It is evaluated for each row before the table's trigger sees the row.
                new_rows = new_rows.where(sa.literal_column(SAY_VERSION).is_not(None))
            insert = table.insert().from_select(list(table.columns), new_rows)
            parts.append(insert.cte(f"write_{table.name}"))
        if with_heartbeats:
            execution = Execution.__table__
            source = _unnest("heartbeat", [execution.c["id"], execution.c["updated_time"]])
            update = (
                sa.update(Execution)
                .values(updated_time=source.c.updated_time)
                .where(execution.c["id"] == source.c.id)
            )
            parts.append(update.cte("write_heartbeat"))
        # One announcement a transaction: whoever watches jobs need not wait for the next look.
        announced = JOB in tables or EXECUTION in tables
        last: sa.ColumnElement[Any] = sa.literal_column(f"pg_notify('{CHANNEL}', '')" if announced else "1")
        return str(sa.select(last).add_cte(*parts).compile(dialect=self._dialect))


def _unnest(table: str, columns: Sequence[sa.ColumnElement[Any]]) -> Any:
    """Return the derived table of rows whose columns are bound as one array each."""
    arrays = [
        sa.bindparam(f"{table}_{column.name}", type_=_array_type(column), value=None) for column in columns
    ]
    names = [column.name for column in columns]
    return sa.func.unnest(*arrays).table_valued(*names, name=f"new_{table}").render_derived()


def _array_type(column: sa.ColumnElement[Any]) -> postgresql.ARRAY[Any]:
    """Return the type of an array of a column's cells."""
    # Casting to varchar(n) would cut a long text off; without a length the table itself refuses it.
    is_text = isinstance(column.type, sa.String) and not isinstance(column.type, sa.Enum)
    return postgresql.ARRAY(sa.String() if is_text else column.type)
