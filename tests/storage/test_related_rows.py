"""Rows with what belongs to them: in one statement on sqlite, and without a bound where a text has one."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from aredun.backend import RedunBackendDb
from tests.support.record_shapes import dispose, get_all, get_id, open_original

if TYPE_CHECKING:
    from pathlib import Path


async def read_all(backend: RedunBackendDb, ids: list[str]) -> tuple[list[dict[str, Any]], int]:
    """Return the records, and with how many statements they were read."""
    before = backend.database.counts.statements
    records = [record async for record in backend.get_records(ids)]
    return records, backend.database.counts.statements - before


async def test_one_statement_a_kind_of_record(shapes_path: Path) -> None:
    original = open_original(f"sqlite:///{shapes_path}")
    expected = get_all(original)
    dispose(original)
    async with RedunBackendDb(f"sqlite:///{shapes_path}") as backend:
        records, statements = await read_all(backend, [get_id(record) for record in expected])
    assert [get_id(record) for record in records] == [get_id(record) for record in expected]
    # Values, calls, jobs, executions and tags; none of the values is large.
    assert statements == 5


async def test_rows_that_fit_in_no_text(shapes_path: Path) -> None:
    async with RedunBackendDb(f"sqlite:///{shapes_path}") as backend:
        async with backend.session() as session:
            roots = list(await session.scalars(sa.text("SELECT id FROM execution")))
        ids = [record_id async for record_id in backend.iter_record_ids(roots)]
        expected, few = await read_all(backend, ids)
    async with RedunBackendDb(f"sqlite:///{shapes_path}") as backend:

        @sa.event.listens_for(backend.database.engine.sync_engine, "checkout")
        def limit_texts(connection: Any, *_: Any) -> None:
            # A gigabyte is what sqlite allows if it is not told otherwise.
            connection.driver_connection.raw.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 20_000)

        records, many = await read_all(backend, ids)
    assert records == expected
    assert many > few
