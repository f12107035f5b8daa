"""The rows of a table that were written last, which no column of redun's tells.

Databases keep rows about in the order in which they were written: sqlite numbers them, PostgreSQL fills one
page after the other. What is looked for in a part of a text, which no index serves, is looked for in the last
of them, and that costs the same however large the table is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import sqlalchemy as sa

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.ext.asyncio import AsyncSession

    from aredun.storage.core import Database

# How many rows a page of PostgreSQL is taken for: of 8 kB, with texts of some 80 characters in a row.
_ROWS_PER_PAGE = 60
# PostgreSQL cannot read backwards, so it first looks at this part of the rows, where what is frequent is.
_FIRST_PART = 20


class Seen(NamedTuple):
    """The rows that fit, the last one first, and how many were looked at if that is not all of the table."""

    rows: Sequence[Any]
    looked_at: int | None


class _Last(NamedTuple):
    """Where a row lies, the condition that it is among the last, and whether there are rows before those."""

    place: Any
    condition: Any
    is_cut: Any


async def find_recorded(
    database: Database, columns: Sequence[Any], fits: sa.ColumnElement[bool], most: int, limit: int
) -> Seen:
    """
    Look for rows among those of a table that were written last.

    Parameters
    ----------
    database : Database
        Where to look.
    columns : Sequence[InstrumentedAttribute]
        What to return of each row, all of one table.
    fits : ColumnElement[bool]
        What a row must meet; no index is used for it.
    most : int
        About how many rows are looked at: on PostgreSQL as many pages as such rows usually take.
    limit : int
        How many rows are returned at most.
    """
    model = columns[0].class_
    is_sqlite = database.dialect_name == "sqlite"
    make_last = _get_last_of_sqlite if is_sqlite else _get_last_of_postgresql
    # sqlite reads backwards, and ends with the last row that is wanted.
    for part in (most,) if is_sqlite else (max(most // _FIRST_PART, 1), most):
        last = make_last(model.__tablename__, part)
        cut = sa.select(last.is_cut.label("is_cut")).cte("cut")
        found = sa.select(*columns).where(last.condition, fits).order_by(last.place.desc()).limit(limit)
        hits = found.add_columns(last.place.label("place")).cte("hits").prefix_with("MATERIALIZED")
        query = sa.select(cut.c.is_cut, hits).select_from(cut.outerjoin(hits, sa.true()))
        count = sa.select(sa.func.count()).select_from(model).where(last.condition)

        async def operation(session: AsyncSession, query: Any = query, count: Any = count) -> Seen:
            rows = (await session.execute(query.order_by(sa.desc("place")))).all()
            looked_at = await session.scalar(count) if rows[0].is_cut else None
            return Seen([row for row in rows if row.place is not None], looked_at)

        seen: Seen = await database.read(operation)
        if seen.looked_at is None or len(seen.rows) >= limit:
            break
    return seen


def _get_last_of_sqlite(table: str, rows: int) -> _Last:
    number: Any = sa.literal_column(f'"{table}".rowid')
    highest = f'(SELECT coalesce(max(rowid), 0) FROM "{table}")'
    return _Last(
        number,
        number > sa.literal_column(f"{highest} - {rows}"),
        sa.literal_column(f"{highest} > {rows}", sa.Boolean()),
    )


def _get_last_of_postgresql(table: str, rows: int) -> _Last:
    place: Any = sa.literal_column(f'"{table}".ctid')
    pages = max(rows // _ROWS_PER_PAGE, 1)
    size = f"pg_relation_size('\"{table}\"') / current_setting('block_size')::int"
    # Selected, so that it is a constant of the statement, which a scan of a range of pages demands.
    first = f"(SELECT ('(' || greatest({size} - {pages}, 0) || ',0)')::tid)"
    return _Last(
        place, place >= sa.literal_column(first), sa.literal_column(f"{size} > {pages}", sa.Boolean())
    )
