"""Noticing that somebody, in whatever process, has committed something."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Any, Protocol

import sqlalchemy as sa

from aredun.models import Job
from aredun.storage import postgresql
from aredun.storage.inserts import CHANNEL
from aredun.storage.retry import is_outage
from aredun.storage.sql_log import sql_logger

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from sqlalchemy.ext.asyncio import AsyncEngine

    from aredun.storage.core import Database
    from aredun.storage.sqlite_connection import FileConnection

logger = logging.getLogger("aredun.storage")

_READ_VERSION = "PRAGMA data_version"


class Watch(Protocol):
    """Waits for commits, on a connection of its own that no pool counts."""

    async def wait(self, timeout: float) -> bool:
        """Wait for a commit, at most so many seconds; tells whether there may have been one."""


class _SqliteWatch:
    """Asks the file's change counter, which costs one read of a memory page."""

    def __init__(self, connection: FileConnection) -> None:
        self._connection = connection
        self._version: int | None = None

    async def wait(self, timeout: float) -> bool:
        if self._version is None:
            self._version = await self._read_version()
            return True
        await asyncio.sleep(timeout)
        version = await self._read_version()
        changed = version != self._version
        self._version = version
        return changed

    async def _read_version(self) -> int:
        sql_logger.debug(_READ_VERSION)
        ((version,),) = await self._connection.execute_fetchall(_READ_VERSION)
        return int(version)


class _PostgresWatch:
    """Listens to aredun's writers; those of redun announce nothing, so every timeout may be a commit."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._announced = asyncio.Event()
        self._driver: Any = None

    async def wait(self, timeout: float) -> bool:
        if self._driver is None or self._driver.is_closed():
            await self._listen()
            if self._driver is not None:
                # What was committed before, nobody has heard.
                return True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._announced.wait()
        self._announced.clear()
        return True

    async def _listen(self) -> None:
        await self.close()
        try:
            connection = await self._engine.connect()
            self._connection = connection
            self._driver = (await connection.get_raw_connection()).driver_connection
            sql_logger.debug('LISTEN "%s"', CHANNEL)
            await self._driver.add_listener(CHANNEL, self._hear)
        except Exception as error:
            # Without a listener changes are still found, only later; if the server is away, a look tells.
            level = logging.DEBUG if is_outage(error) else logging.WARNING
            logger.log(level, "cannot listen for changes, looking for them instead: %s", type(error).__name__)
            await self.close()

    def _hear(self, *_: Any) -> None:
        self._announced.set()

    async def close(self) -> None:
        if self._driver is not None:
            self._driver = None
            await self._connection.invalidate()
            await self._connection.close()


@contextlib.asynccontextmanager
async def open_watch(database: Database) -> AsyncIterator[Watch]:
    """Open a watch on a database.

    Parameters
    ----------
    database : Database
        What to watch.

    Yields
    ------
    Watch
        Its first `wait` returns at once.
    """
    if database.file is not None:
        connection = await database.file.connect()
        try:
            yield _SqliteWatch(connection)
        finally:
            await connection.close()
        return
    engine = postgresql.create_engine(database.config)
    watch = _PostgresWatch(engine)
    try:
        yield watch
    finally:
        await watch.close()
        await engine.dispose()


def get_arrival_order(database: Database) -> sa.ColumnElement[int] | None:
    """Return a column of `job` that grows with every insert, in the order of commits; None without any."""
    return sa.literal_column(f"{Job.__tablename__}.rowid", sa.Integer) if database.file is not None else None


def is_announced(database: Database) -> bool:
    """Tell whether writers may be heard: then only those that announce nothing have to be looked for."""
    return database.file is None
