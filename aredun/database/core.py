"""The database behind a backend: engines, sessions, transactions that are retried, and the write queue."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import asyncpg
from sqlalchemy import event
from sqlalchemy.exc import SQLAlchemyError

from aredun.config import BackendConfig
from aredun.database import postgresql
from aredun.database.bulk import Counts, PostgresLane, SqliteLane
from aredun.database.fetch import PostgresReadLane, SqliteReadLane
from aredun.database.retry import is_outage, retry
from aredun.database.sqlite import SqliteFile
from aredun.database.unit import Unit
from aredun.database.writer import Writer
from aredun.errors import RedunDatabaseError
from aredun.models import RedunSession

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
    from pathlib import Path

    import sqlalchemy as sa
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession

    from aredun.database.batch import Batch, InnerBatch
    from aredun.database.fetch import ReadLane

T = TypeVar("T")

_DRIVER_ERRORS = (
    SQLAlchemyError,
    sqlite3.Error,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    OSError,
    # What sqlite's driver says to half a character; that of PostgreSQL has an error of its own.
    UnicodeEncodeError,
)


def get_file_path(db_uri: str) -> Path | None:
    """Return the file that a URI names, None for a server or a database in memory."""
    url = BackendConfig.parse(db_uri=db_uri, environ={}).url
    return url.file_path if url is not None else None


def translate_error(error: Exception) -> Exception:
    """Make a `RedunDatabaseError` of one line of what a driver raised; any other error stays what it is."""
    if not isinstance(error, _DRIVER_ERRORS):
        return error
    lines = str(getattr(error, "orig", None) or error).strip().splitlines() or [type(error).__name__]
    message = lines[0].rpartition(">: ")[2].strip()
    detail = next((line for line in lines[1:] if line.startswith("DETAIL")), "")
    reason = "cannot be reached" if is_outage(error) else "refused"
    translated = RedunDatabaseError(f"the database {reason}: {message} {detail}".rstrip())
    translated.__cause__ = error
    return translated


def _is_same_file(here: Path, there: Path) -> bool:
    return here.exists() and there.exists() and here.samefile(there)


class Database:
    """A database, open for one event loop.

    Parameters
    ----------
    config : BackendConfig
        With its `url`.
    backend : Any
        What models that a session loads find as their backend.
    logger : logging.Logger, optional
        Gets the warnings about retries.

    Attributes
    ----------
    dialect_name : str
        "sqlite" or "postgresql".
    engine : AsyncEngine
        The engine of the sessions.
    counts : Counts
        What has been sent so far.
    """

    def __init__(
        self, config: BackendConfig, backend: Any = None, logger: logging.Logger | None = None
    ) -> None:
        if config.url is None:
            raise RedunDatabaseError(f"{config.display_uri} has not been fetched: load the backend first")
        self.config = config
        self.backend = backend
        self.counts = Counts()
        self.dialect_name = config.url.dialect_name
        self._logger = logger or logging.getLogger("aredun")
        self._closed = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._file: SqliteFile | None = None
        self._lane: SqliteLane | PostgresLane
        if config.url.is_file:
            self._file = SqliteFile(config)
            self.engine = self._read_engine = self._file.create_reader()
            self._lane = SqliteLane(self._file, self.counts, backend)
            self._read_lane: ReadLane = SqliteReadLane(self._file)
            self._count(self._lane.engine)
        else:
            self.engine = postgresql.create_engine(config)
            if config.read_only:
                self.engine = self.engine.execution_options(postgresql_readonly=True)
            # A single statement needs no transaction around it: one round trip instead of three.
            self._read_engine = self.engine.execution_options(isolation_level="AUTOCOMMIT")
            self._lane = PostgresLane(self.engine, self.counts, backend)
            self._read_lane = PostgresReadLane(self.engine)
        self._count(self.engine)
        self.writer = Writer(self._lane, config, self._logger, self.counts, translate_error, self._discard)

    def _count(self, engine: AsyncEngine) -> None:
        counts = self.counts

        def count_statement(*_: Any) -> None:
            counts.statements += 1

        def count_commit(*_: Any) -> None:
            counts.commits += 1

        event.listen(engine.sync_engine, "before_cursor_execute", count_statement)
        event.listen(engine.sync_engine, "commit", count_commit)

    @property
    def file(self) -> SqliteFile | None:
        """The file of the database, None on a server."""
        return self._file

    @property
    def exists(self) -> bool:
        """False where the file of the database is missing or empty; opening a session would create it."""
        return self._file is None or self._file.exists

    @property
    def can_copy(self) -> bool:
        """Whether a transaction that is written `apart` is one of its own, on a server that knows COPY."""
        return self._file is None and not self.writer.in_batch

    @property
    def file_path(self) -> Path | None:
        """The file of the database (that which stands for `:memory:` too), None for a server."""
        return self._file.path if self._file is not None else None

    async def is_same(self, other: Database) -> bool:
        """Tell whether another one is this database, however either was spelled."""
        if other is self:
            return True
        here, there = self.file_path, other.file_path
        if here is not None and there is not None:
            return await asyncio.to_thread(_is_same_file, here, there)
        if here is not None or there is not None:
            return False
        identities = [await each.fetch(postgresql.IDENTITY, {}) for each in (self, other)]
        return identities[0] == identities[1]

    def require_same_file(self) -> None:
        """Raise `DatabaseMovedError` if another file, or none, is where the open one was."""
        if self._file is not None:
            self._file.require_same()

    def create_folder(self) -> None:
        """Create the folder that the file of the database is to be in (blocks: call it in a thread)."""
        if self._file is not None:
            self._file.path.parent.mkdir(parents=True, exist_ok=True)

    @property
    def checked_out(self) -> int:
        """Connections in use right now, without those that the queues of writes and reads keep."""
        lent: int = self.engine.sync_engine.pool.checkedout()  # type: ignore[attr-defined]  # QueuePool's
        return lent - self._lane.held - self._read_lane.held

    def _require_open(self) -> None:
        """Refuse what would open connections again after `close`, or use those of another event loop."""
        self._require_not_closed()
        # A file's connections answer to whoever asks; a server's hang on the loop that opened them.
        if self._file is None:
            loop = asyncio.get_running_loop()
            if self._loop is None:
                self._loop = loop
            elif loop is not self._loop:
                raise RedunDatabaseError("the backend belongs to another event loop: open one for each loop")

    def _require_writable(self) -> None:
        self._require_open()
        if self.config.read_only:
            raise RedunDatabaseError(f"{self.config.display_uri} is open read-only: nothing can be written")

    async def is_read_only(self) -> bool:
        """Tell whether nothing can be written, by the settings or for want of permission."""
        if self._file is None or self.config.read_only:
            return self.config.read_only
        return await asyncio.to_thread(self._file.find_reading_options) is not None

    def get_reading_uri(self) -> str | None:
        """Return sqlite's own URI of a file that can only be read, None for anything else (blocks)."""
        reading = self._file.find_reading_options() if self._file is not None else None
        return self._file.get_uri(reading) if self._file is not None and reading is not None else None

    def _require_not_closed(self) -> None:
        if self._closed:
            raise RedunDatabaseError("the backend is closed: await backend.load() first")

    def session(self) -> RedunSession:
        """Return a session for reading: `async with database.session() as session`; keep it short.

        On sqlite it is on a connection of its own and never waits for the writer. What it writes itself is
        committed by its own `commit()`, beside the write queue.
        """
        self._require_not_closed()
        return RedunSession(self.backend, self.engine)

    async def read(
        self, operation: Callable[[AsyncSession], Awaitable[T]], *, transaction: bool = False
    ) -> T:
        """Run an operation that reads on a session of its own, again if it failed for a passing reason.

        Parameters
        ----------
        operation : callable
            Takes the session; on PostgreSQL each of its statements sees what is committed by then.
        transaction : bool
            Run it in a transaction, where what it sets (`SET LOCAL`) ends with it.

        Returns
        -------
        T
            What the operation returned.

        Raises
        ------
        RedunDatabaseError
            The database cannot be reached, or refused.
        """

        self._require_open()

        async def attempt() -> T:
            try:
                engine = self.engine if transaction else self._read_engine
                async with RedunSession(self.backend, engine) as session:
                    return await operation(session)
            except Exception as error:
                await self._discard(error)
                raise

        self.counts.reads += 1
        try:
            return await retry(attempt, self.config, self._logger, "a read")
        except _DRIVER_ERRORS as error:
            raise translate_error(error) from error

    async def fetch(self, statement: sa.SelectBase, parameters: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        """Return all rows of a statement that is asked often; retried like `read`.

        Parameters
        ----------
        statement : SelectBase
            Always the same object: it is compiled once and sent without a session.
        parameters : mapping
            The values of its named parameters.

        Returns
        -------
        list of tuple

        Raises
        ------
        RedunDatabaseError
            The database cannot be reached, or refused.
        """

        self._require_open()

        async def attempt() -> list[tuple[Any, ...]]:
            try:
                return await self._read_lane.fetch(statement, parameters)
            except Exception as error:
                await self._discard(error)
                raise

        self.counts.reads += 1
        self.counts.statements += 1
        try:
            return await retry(attempt, self.config, self._logger, "a read")
        except _DRIVER_ERRORS as error:
            raise translate_error(error) from error

    async def write(self, operation: Callable[[AsyncSession], Awaitable[T]], *, apart: bool = False) -> T:
        """Run an operation in a transaction: when this returns, all that it did is durable.

        It shares the transaction with whoever writes at the same time, behind a savepoint; inside a batch it
        is part of the batch.

        Parameters
        ----------
        operation : callable
            Takes the session and must not commit. It may run more than once, each time from the beginning.
        apart : bool
            Take a transaction of its own, for what takes long: on PostgreSQL it then runs beside the queue.

        Returns
        -------
        T
            What the operation returned.

        Raises
        ------
        RedunDatabaseError
            The database cannot be reached, or refused.
        """
        self._require_writable()
        if apart and self._file is None and not self.writer.in_batch:
            return await self._write_apart(operation)
        result: T = await self.writer.write(Unit(operation=operation))
        return result

    async def _write_apart(self, operation: Callable[[AsyncSession], Awaitable[T]]) -> T:
        async def attempt() -> T:
            lane = PostgresLane(self.engine, self.counts, self.backend)
            try:
                async with lane.transaction() as transaction:
                    result: T = await transaction.run(operation, savepoint=False)
                    return result
            except Exception as error:
                await self._discard(error)
                raise
            finally:
                await lane.close()

        try:
            return await retry(attempt, self.config, self._logger, "a write transaction")
        except _DRIVER_ERRORS as error:
            raise translate_error(error) from error

    async def migrate(self, operation: Callable[[AsyncConnection], Awaitable[T]]) -> T:
        """Run an operation on a connection of its own, for it to begin and commit transactions on."""
        self._require_writable()
        engine = self.engine
        if self._file is not None:
            # Not the queue's connection, which may be in the middle of something else.
            engine = self._file.create_writer(partial(self._file.connect, None, create=True))
        try:
            async with engine.connect() as connection:
                return await operation(connection)
        except _DRIVER_ERRORS as error:
            raise translate_error(error) from error
        finally:
            if engine is not self.engine:
                await engine.dispose()

    async def set_foreign_keys(self, enabled: bool) -> None:
        """Switch the checks of foreign keys on or off for what is written from now on (only sqlite can)."""
        if isinstance(self._lane, SqliteLane):
            await self._lane.set_foreign_keys(enabled)

    async def write_unit(self, unit: Unit) -> Any:
        """Write rows; when this returns they are durable, all of them (inside a batch: at its end)."""
        self._require_writable()
        return await self.writer.write(unit)

    @asynccontextmanager
    async def batch(self) -> AsyncIterator[Batch | InnerBatch]:
        """Collect what is written inside the block into one transaction."""
        self._require_writable()
        async with self.writer.batch() as batch:
            yield batch

    async def _discard(self, error: BaseException) -> None:
        """Throw away connections to a server that is gone, so that the next attempt opens new ones."""
        if self._file is None and is_outage(error):
            await self._lane.discard()
            await self._read_lane.discard()
            await self.engine.dispose()

    async def close(self) -> None:
        """Write what is queued and close all connections."""
        await self.writer.close()
        self._closed = True
        await self._lane.close()
        await self._read_lane.close()
        await self.engine.dispose()
        if self._file is not None:
            await asyncio.to_thread(self._file.discard)
