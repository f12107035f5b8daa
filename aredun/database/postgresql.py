"""PostgreSQL behind asyncio: all rows of a transaction in one statement, over arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects.postgresql.asyncpg import dialect as AsyncpgDialect
from sqlalchemy.ext.asyncio import create_async_engine

from aredun.models import Execution

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy.ext.asyncio import AsyncEngine

    from aredun.config import BackendConfig
    from aredun.database.rows import RowSet, RowTable

APPLICATION_NAME = "aredun"
# Where writers announce that jobs have changed.
CHANNEL = "aredun_changes"
# Which database this is: when the server started, to the microsecond, and the database's number on it.
IDENTITY = (
    sa.select(sa.func.pg_postmaster_start_time(), sa.column("oid"))
    .select_from(sa.table("pg_database"))
    .where(sa.column("datname") == sa.func.current_database())
)


def create_engine(config: BackendConfig) -> AsyncEngine:
    """Create the engine with its pool; no connection is opened yet."""
    assert config.url is not None
    arguments: dict[str, Any] = dict(config.url.connect_args)
    settings = {"application_name": APPLICATION_NAME, **arguments.pop("server_settings", {})}
    if config.statement_timeout:
        settings["statement_timeout"] = str(round(config.statement_timeout * 1000))
    arguments.setdefault("timeout", config.connect_timeout)
    if config.prepared_statements:
        # Without it the trigger on `job` takes us for an old redun and shifts our times from its zone.
        # A pooler in between would refuse it; there the role needs it (ALTER ROLE ... SET redun.version).
        settings["redun.version"] = APPLICATION_NAME
    else:
        # A pooler in between hands every transaction another connection: nothing may be kept on one.
        arguments["statement_cache_size"] = 0
        arguments["prepared_statement_cache_size"] = 0
        arguments["prepared_statement_name_func"] = _unique_name()
    return create_async_engine(
        sa.URL.create(**config.url.parts()),
        connect_args={**arguments, "server_settings": settings},
        pool_size=config.pool_size,
        max_overflow=config.pool_size,
        pool_timeout=config.pool_timeout,
        pool_recycle=config.pool_recycle or -1,
        echo=config.echo,
    )


def _unique_name() -> Any:
    import uuid

    return lambda: f"aredun_{uuid.uuid4().hex}"


def _array_type(column: sa.ColumnElement[Any]) -> postgresql.ARRAY[Any]:
    # Casting to varchar(n) would cut a long text off; without a length the table itself refuses it.
    is_text = isinstance(column.type, sa.String) and not isinstance(column.type, sa.Enum)
    element = sa.String() if is_text else column.type
    return postgresql.ARRAY(element)


def _unnest(table: str, columns: Sequence[sa.ColumnElement[Any]]) -> Any:
    arrays = [
        sa.bindparam(f"{table}_{column.name}", type_=_array_type(column), value=None) for column in columns
    ]
    names = [column.name for column in columns]
    return sa.func.unnest(*arrays).table_valued(*names, name=f"new_{table}").render_derived()


class BulkStatements:
    """Compiles one statement per combination of tables, and keeps it."""

    def __init__(self) -> None:
        self._dialect = AsyncpgDialect()  # type: ignore[no-untyped-call]  # SQLAlchemy leaves it untyped
        self._compiled: dict[tuple[Any, ...], str] = {}
        self._processors: dict[tuple[RowTable, str], Callable[[Any], Any] | None] = {}

    def build(self, rows: RowSet) -> tuple[str, list[Any]]:
        """Return one statement that writes all rows, and its array parameters.

        It is a chain of data-modifying CTEs: it happens as a whole or not at all, in one round trip, and
        foreign keys are checked at its end.
        """
        tables = rows.tables()
        heartbeats = sorted(rows.heartbeats.items())
        shape = (*(table for table, _ in tables), bool(heartbeats))
        if shape not in self._compiled:
            self._compiled[shape] = self._compile([table for table, _ in tables], bool(heartbeats))
        arrays: list[Any] = []
        for table, table_rows in tables:
            for name, values in zip(table.columns, zip(*table_rows, strict=True), strict=True):
                process = self._processor(table, name)
                arrays.append(list(values) if process is None else list(map(process, values)))
        if heartbeats:
            arrays.extend(map(list, zip(*heartbeats, strict=True)))
        return self._compiled[shape], arrays

    def _processor(self, table: RowTable, name: str) -> Callable[[Any], Any] | None:
        """Return what makes of a column's value what the driver takes, None for nothing."""
        key = (table, name)
        if key not in self._processors:
            kind = table.table.c[name].type.dialect_impl(self._dialect)
            self._processors[key] = kind.bind_processor(self._dialect)
        return self._processors[key]

    def compile_one(self, statement: sa.SelectBase) -> str:
        """Return the text of a statement for the driver."""
        return str(statement.compile(dialect=self._dialect))

    def _compile(self, tables: list[RowTable], heartbeats: bool) -> str:
        parts = []
        order: list[str] = []
        for table in tables:
            columns = [table.table.c[name] for name in table.columns]
            source = _unnest(table.table.name, columns)
            insert = table.insert().from_select(
                list(table.columns), sa.select(*(source.c[name] for name in table.columns))
            )
            parts.append(insert.cte(f"write_{table.table.name}"))
            order.extend(f"{table.table.name}_{name}" for name in table.columns)
        if heartbeats:
            execution = Execution.__table__
            source = _unnest("heartbeat", [execution.c["id"], execution.c["updated_time"]])
            update = (
                sa.update(Execution)
                .values(updated_time=source.c.updated_time)
                .where(execution.c["id"] == source.c.id)
            )
            parts.append(update.cte("write_heartbeat"))
            order.extend(["heartbeat_id", "heartbeat_updated_time"])
        # One announcement a transaction: whoever watches jobs need not wait for the next look.
        announced = any(table.table.name in ("job", "execution") for table in tables)
        last: sa.ColumnElement[Any] = sa.literal_column(f"pg_notify('{CHANNEL}', '')" if announced else "1")
        compiled = sa.select(last).add_cte(*parts).compile(dialect=self._dialect)
        if list(compiled.positiontup or []) != order:
            raise RuntimeError(
                f"SQLAlchemy orders parameters otherwise than expected: {compiled.positiontup}"
            )
        return str(compiled)
