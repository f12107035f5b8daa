"""Reads that are asked thousands of times, whose rows keep nobody else on the event loop waiting."""

from __future__ import annotations

import sqlite3
from functools import lru_cache, partial
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple, cast

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

# An execution option of statements over growing tables. PostgreSQL would keep a plan for a small table, which
# reads all of it, until it renews its statistics.
PLANNED_ANEW = {"aredun_planned_anew": True}
# An execution option of engines whose connections keep plans. A pooler that changes connections after each
# transaction keeps none, and no connection behind it may be set up.
KEEPS_PLANS = "aredun_keeps_plans"
_PLANS_ANEW = "aredun_plans_anew"

_SQLITE = AiosqliteDialect()
# Makes a tuple of one of SQLAlchemy's rows in half the time that `tuple` takes.
_ALL_CELLS: Callable[[Any], tuple[Any, ...]] = itemgetter(slice(None))


async def ask(
    connection: AsyncConnection, statement: sa.SelectBase, parameters: Mapping[str, Any]
) -> Iterable[Rows]:
    """Ask for all rows of a statement; what they are made of is here when this returns.

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
    iterable
        Of parts for `make_rows`, which needs no connection: the next one may be asked on it meanwhile.
    """
    if connection.dialect.name == "sqlite":
        return await _ask_for_text(connection, statement, parameters)
    # SQLAlchemy types only subclasses of it as what can be executed.
    keeps_plans = connection.engine.get_execution_options().get(KEEPS_PLANS)
    if keeps_plans and cast("sa.Executable", statement).get_execution_options().keys() >= PLANNED_ANEW.keys():
        await _plan_anew(connection)
    return await _ask_for_rows(connection, statement, parameters)


async def ask_related(
    connection: AsyncConnection, own: sa.SelectBase, related: tuple[sa.SelectBase, ...], ids: Sequence[str]
) -> list[Iterable[Rows]]:
    """Ask for the rows with the given ids, and for those of other statements that belong to them.

    sqlite is asked for all of it at once: a turn to its thread and back takes as long as some hundred rows.

    Parameters
    ----------
    connection : AsyncConnection
        An open connection.
    own, related : SelectBase
        Statements like those of `ask`, whose one parameter is `ids`; the id is the first cell of `own`.
    ids : sequence of str
        What is asked for.

    Returns
    -------
    list
        For each statement what `ask` returns.
    """
    packed = _pack_all((own, *related)) if connection.dialect.name == "sqlite" else None
    if packed is not None:
        texts = await _fetch_texts(connection, packed, {"ids": ids})
        if texts is not None:
            return texts
    rows = await make_rows(await ask(connection, own, {"ids": ids}))
    # What belongs to no row needs no asking for.
    found = {"ids": [row[0] for row in rows]}
    return [[rows], *[await ask(connection, statement, found) if rows else [] for statement in related]]


async def make_rows(parts: Iterable[Rows]) -> Rows:
    """Return the rows of what was asked for, letting the loop run on now and then.

    Returns
    -------
    list
        Tuples, which the garbage collector lets be: to unpack, or to name by `name_rows`.
    """
    rows: Rows = []
    for part in parts:
        if rows:
            await take_turn()
        rows += part
    return rows


async def _ask_for_rows(
    connection: AsyncConnection, statement: sa.SelectBase, parameters: Mapping[str, Any]
) -> list[Rows]:
    """Fetch the rows as the driver gives them."""
    result = await connection.execute(cast("sa.Executable", statement), parameters)
    parts: list[Rows] = []
    while part := result.fetchmany(PIECE_SIZE):
        if parts:
            await take_turn()
        parts.append(list(map(_ALL_CELLS, part)))
    return parts


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


async def _ask_for_text(
    connection: AsyncConnection, statement: sa.SelectBase, parameters: Mapping[str, Any]
) -> Iterable[Rows]:
    """Fetch the rows from sqlite as one text, where that is possible (see `aredun.storage.text_rows`)."""
    packed = _pack_all((statement,))
    texts = None if packed is None else await _fetch_texts(connection, packed, parameters)
    return await _ask_for_rows(connection, statement, parameters) if texts is None else texts[0]


async def _fetch_texts(
    connection: AsyncConnection, packed: _PackedRows, parameters: Mapping[str, Any]
) -> list[Iterable[Rows]] | None:
    """Fetch the rows of some statements as a text each, None if those are longer than sqlite allows."""
    try:
        texts = (await connection.execute(packed.statement, parameters)).one()
    except DBAPIError as error:
        if not isinstance(error.orig, sqlite3.DataError):
            raise
        # A text longer than a gigabyte is refused: rows have no such bound.
        return None
    return [map(cells.convert, iter_rows(text)) for cells, text in zip(packed.cells, texts, strict=True)]


class _PackedCells:
    """The statement for all rows of another one as one text, and what makes rows of it again."""

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


class _PackedRows(NamedTuple):
    """The statement for the rows of several others, each in a text of its own, and what those hold."""

    statement: sa.Select[Any]
    cells: tuple[_PackedCells, ...]


@lru_cache(maxsize=256)
def _pack_all(statements: tuple[sa.SelectBase, ...]) -> _PackedRows | None:
    """Return the packed form of statements, None if their rows have cells that no text holds."""
    for statement in statements:
        # JSON holds no bytes, and sqlite cuts floats to 15 digits in it.
        kinds = [
            column.type for column in statement.selected_columns if not isinstance(column.type, ShortBinary)
        ]
        if any(isinstance(kind, sa.LargeBinary | sa.Float) for kind in kinds):
            return None
    cells = tuple(map(_PackedCells, statements))
    return _PackedRows(sa.select(*(each.statement.scalar_subquery() for each in cells)), cells)


def _result_processor(column_type: sa.types.TypeEngine[Any]) -> Callable[[Any], Any] | None:
    """Return what SQLAlchemy makes of a cell of a type on sqlite, None if it leaves it as it is."""
    return column_type.dialect_impl(_SQLITE).result_processor(_SQLITE, None)
