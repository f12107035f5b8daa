"""Reads that are asked thousands of times, whose rows keep nobody else on the event loop waiting."""

from __future__ import annotations

import sqlite3
from functools import lru_cache, partial
from operator import itemgetter
from typing import TYPE_CHECKING, Any, cast

import sqlalchemy as sa
from sqlalchemy.dialects.sqlite.aiosqlite import dialect as AiosqliteDialect
from sqlalchemy.exc import DBAPIError

from aredun.loop.pacing import PIECE_SIZE, take_turn
from aredun.storage.rows import make_row_type
from aredun.storage.text_rows import iter_rows, pack_rows
from aredun.tables.column_types import ShortBinary

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from sqlalchemy.ext.asyncio import AsyncConnection

    # Plain tuples, each of the cells of the columns of a statement.
    Rows = list[Any]

# An execution option of statements over tables that grow while they are asked: PostgreSQL keeps the plan that
# it made when a table was small, which reads all of it, until the statistics are next renewed.
PLANNED_ANEW = {"aredun_planned_anew": True}
# Of the connections of an engine that keep plans: behind a pooler that hands each transaction another one,
# nothing is kept, and nothing may be set.
KEEPS_PLANS = "aredun_keeps_plans"
_PLANS_ANEW = "aredun_plans_anew"

_SQLITE = AiosqliteDialect()
# Makes a tuple of one of SQLAlchemy's rows in half the time that `tuple` takes.
_ALL_CELLS: Callable[[Any], tuple[Any, ...]] = itemgetter(slice(None))


async def fetch_rows(
    connection: AsyncConnection, statement: sa.SelectBase, parameters: Mapping[str, Any]
) -> Rows:
    """Return all rows of a statement, letting the loop run on now and then.

    Parameters
    ----------
    connection : AsyncConnection
        An open connection.
    statement : SelectBase
        Of columns, not of models; always the same object, so that it is compiled once.
    parameters : mapping
        The values of its named parameters.

    Returns
    -------
    list
        Tuples, which the garbage collector lets be: to unpack, or to name by `name_rows`.
    """
    if connection.dialect.name == "sqlite":
        return await _fetch_text(connection, statement, parameters)
    # SQLAlchemy types only subclasses of it as what can be executed.
    keeps_plans = connection.engine.get_execution_options().get(KEEPS_PLANS)
    if keeps_plans and cast("sa.Executable", statement).get_execution_options().keys() >= PLANNED_ANEW.keys():
        await _plan_anew(connection)
    return await _fetch_plain(connection, statement, parameters)


async def _fetch_plain(
    connection: AsyncConnection, statement: sa.SelectBase, parameters: Mapping[str, Any]
) -> Rows:
    """Fetch the rows as the driver gives them."""
    result = await connection.execute(cast("sa.Executable", statement), parameters)
    rows: Rows = []
    while part := result.fetchmany(PIECE_SIZE):
        if rows:
            await take_turn()
        rows += map(_ALL_CELLS, part)
    return rows


def name_rows(statement: sa.SelectBase, rows: Iterable[Sequence[Any]]) -> Rows:
    """Return rows of a statement as tuples whose cells have the names of its columns.

    To make one takes ten times as long as to unpack a plain tuple.
    """
    return list(map(_get_row_maker(statement), rows))


@lru_cache(maxsize=256)
def _get_row_maker(statement: sa.SelectBase) -> Callable[[Iterable[Any]], Any]:
    # `_make` is a function of Python's, and slower.
    return partial(tuple.__new__, make_row_type("Row", statement.selected_columns.keys()))


async def _plan_anew(connection: AsyncConnection) -> None:
    """Have a connection of PostgreSQL's make a plan for each execution, from now on."""
    if not connection.info.get(_PLANS_ANEW):
        await connection.exec_driver_sql("SET plan_cache_mode = force_custom_plan")
        connection.info[_PLANS_ANEW] = True


# The checks of foreign keys are statements, too: if a plan were made for each row, a sync would take half as
# long again (`benchmarks.sync`).
KEEP_PLANS = "SET LOCAL plan_cache_mode = auto"


async def plan_as_usual(connection: AsyncConnection) -> None:
    """Have a connection of PostgreSQL's keep its plans again, for one that is going to write."""
    if connection.info.get(_PLANS_ANEW):
        await connection.exec_driver_sql("SET plan_cache_mode = auto")
        await connection.commit()
        connection.info[_PLANS_ANEW] = False


async def _fetch_text(
    connection: AsyncConnection, statement: sa.SelectBase, parameters: Mapping[str, Any]
) -> Rows:
    """Fetch the rows from sqlite as one text, where that is possible (see `aredun.storage.text_rows`)."""
    packed = _pack(statement)
    if packed is None:
        return await _fetch_plain(connection, statement, parameters)
    try:
        text: str | None = (await connection.execute(packed.statement, parameters)).scalar_one()
    except DBAPIError as error:
        if not isinstance(error.orig, sqlite3.DataError):
            raise
        # A text longer than a gigabyte is refused: rows have no such bound.
        return await _fetch_plain(connection, statement, parameters)
    rows: Rows = []
    for part in iter_rows(text):
        if rows:
            await take_turn()
        rows += packed.convert(part)
    return rows


class _PackedRows:
    """The statement for all rows of another one as one text, and what makes rows of it again.

    Parameters
    ----------
    statement : SelectBase
        Has columns that JSON holds as they are, or that are `ShortBinary`.
    """

    def __init__(self, statement: sa.SelectBase) -> None:
        types = [column.type for column in statement.selected_columns]
        self._binary = [place for place, kind in enumerate(types) if isinstance(kind, ShortBinary)]
        self._processors = [
            (place, process)
            for place, process in enumerate(map(_result_processor, types))
            if process is not None and place not in self._binary
        ]
        cells: list[Any] = list(statement.subquery("f").c)
        for place in self._binary:
            cells[place] = sa.func.iif(cells[place].is_(None), sa.null(), sa.func.hex(cells[place]))
        self.statement = pack_rows(cells)

    def convert(self, rows: list[list[Any]]) -> Rows:
        """Return rows of a text as the statement itself gives them."""
        for place in self._binary:
            for row in rows:
                if row[place] is not None:
                    row[place] = bytes.fromhex(row[place])
        for place, process in self._processors:
            for row in rows:
                row[place] = process(row[place])
        return list(map(tuple, rows))


@lru_cache(maxsize=256)
def _pack(statement: sa.SelectBase) -> _PackedRows | None:
    """Return the packed form of a statement, None if its rows have cells that no text holds."""
    # JSON holds no bytes, and sqlite cuts floats to 15 digits in it.
    kinds = [column.type for column in statement.selected_columns if not isinstance(column.type, ShortBinary)]
    return (
        None if any(isinstance(kind, sa.LargeBinary | sa.Float) for kind in kinds) else _PackedRows(statement)
    )


def _result_processor(column_type: sa.types.TypeEngine[Any]) -> Callable[[Any], Any] | None:
    """Return what SQLAlchemy makes of a cell of a type on sqlite, None if it leaves it as it is."""
    return column_type.dialect_impl(_SQLITE).result_processor(_SQLITE, None)
