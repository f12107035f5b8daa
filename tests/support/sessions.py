"""Plain sessions on a test database, for rooms below the backend, whole tables to compare, leaks."""

from __future__ import annotations

import asyncio
import threading
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession, create_async_engine
from sqlalchemy.pool import NullPool

from aredun.config import BackendConfig
from aredun.models import Base

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from aredun.storage import Database

T = TypeVar("T")


class PlainDatabase:
    """The least that an operation needs: one transaction per call on an engine of its own."""

    def __init__(self, url: str) -> None:
        parsed = BackendConfig.parse({}, url).url
        assert parsed is not None
        driver_args: dict[str, Any] = dict(parsed.connect_args)
        if parsed.is_file:
            driver_args |= {"timeout": 30, "isolation_level": None}
        engine_url = sa.URL.create(**parsed.parts())
        self.engine = create_async_engine(engine_url, connect_args=driver_args, poolclass=NullPool)
        if parsed.is_file:
            sa.event.listen(self.engine.sync_engine, "connect", _enforce_foreign_keys)
            sa.event.listen(self.engine.sync_engine, "begin", _begin_immediate)

    async def write(self, operation: Callable[[AsyncSession], Awaitable[T]]) -> T:
        """Run one operation in a transaction of its own."""
        async with AsyncSession(self.engine, expire_on_commit=False) as session, session.begin():
            return await operation(session)

    read = write

    async def rows(self, table: Any) -> list[tuple[Any, ...]]:
        """Return all rows of a table, sorted."""
        async with self.engine.connect() as connection:
            return await table_rows(connection, table)


async def table_rows(connection: AsyncConnection, table: Any) -> list[tuple[Any, ...]]:
    """Return all rows of a model's table, sorted."""
    return sorted(map(tuple, await connection.execute(sa.select(table.__table__))), key=repr)


def redun_rows(redun_backend: Any, name: str) -> list[tuple[Any, ...]]:
    """Return all rows of a table as redun's connection reads them, in the order of `PlainDatabase.rows`."""
    table = Base.metadata.tables[name]
    redun_backend.session.commit()
    rows = redun_backend.session.execute(sa.select(table)).all()
    redun_backend.session.commit()
    return sorted(map(tuple, rows), key=repr)


@asynccontextmanager
async def open_plain(url: str) -> AsyncIterator[PlainDatabase]:
    """Yield a `PlainDatabase`; its connections are closed at the end."""
    database = PlainDatabase(url)
    try:
        yield database
    finally:
        await database.engine.dispose()


def _enforce_foreign_keys(connection: Any, _: Any) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()


def _begin_immediate(connection: Any) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")


async def _until_none_left(list_left: Callable[[], Any], what: str) -> None:
    """Wait until nothing is left; nothing tells of that. Fail if something stays."""
    try:
        async with asyncio.timeout(10):
            while list_left():  # noqa: ASYNC110
                await asyncio.sleep(0.001)
    except TimeoutError:
        pytest.fail(f"{what} left: {list_left()}")


async def until_connections_return(database: Database) -> None:
    """Wait until no connection is checked out; fail if one is not given back.

    A read goes on for a moment after its caller was cancelled, a connection that leaks stays for ever.
    """
    await _until_none_left(lambda: database.checked_out, "connections were")


async def until_threads_end(before: set[threading.Thread]) -> None:
    """Wait until no other threads are left; fail if one stays.

    A connection's thread ends a moment after it has said that it is closed. Those that lend themselves to
    `asyncio.to_thread` belong to the loop.
    """

    def list_left() -> list[threading.Thread]:
        return [each for each in set(threading.enumerate()) - before if not each.name.startswith("asyncio_")]

    await _until_none_left(list_left, "threads were")
