"""The database behind a backend: engines, sessions, transactions that are retried, and the write queue."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from sqlalchemy.exc import SQLAlchemyError

from aredun.errors import RedunDatabaseError
from aredun.models import RedunSession
from aredun.storage import postgresql
from aredun.storage.connections import Counts
from aredun.storage.fetch import ask, ask_related, make_rows
from aredun.storage.retry import find_refused_parameter, is_outage, is_stale, name_damage, retry
from aredun.storage.sqlite import SqliteStorage
from aredun.storage.writer import Writer
from aredun.storage.writes import Write

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    import sqlalchemy as sa
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession

    from aredun.config import BackendConfig
    from aredun.storage.batch import Batch, InnerBatch
    from aredun.storage.connections import KeptConnection, WriteConnection
    from aredun.storage.sqlite import SqliteFile

T = TypeVar("T")


def translate_error(error: Exception) -> Exception:
    """Make a `RedunDatabaseError` of one line of what a driver raised; any other error stays what it is."""
    if not isinstance(error, _get_driver_errors()):
        return error
    refused = find_refused_parameter(error)
    if refused is not None:
        translated = RedunDatabaseError(_say_refused(refused))
        translated.__cause__ = error
        return translated
    damage = name_damage(error)
    if damage is not None:
        damage.__cause__ = error
        return damage
    lines = str(getattr(error, "orig", None) or error).strip().splitlines() or [type(error).__name__]
    message = lines[0].rpartition(">: ")[2].strip()
    detail = next((line for line in lines[1:] if line.startswith("DETAIL")), "")
    reason = "cannot be reached" if is_outage(error) else "refused"
    translated = RedunDatabaseError(f"the database {reason}: {message} {detail}".rstrip())
    translated.__cause__ = error
    return translated


def _get_driver_errors() -> tuple[type[Exception], ...]:
    # Only who has an error to look at waits for asyncpg: its import takes 15 ms of a run on sqlite.
    import asyncpg

    return (
        SQLAlchemyError,
        sqlite3.Error,
        asyncpg.PostgresError,
        asyncpg.InterfaceError,
        OSError,
        # sqlite's driver raises it for half a surrogate pair; asyncpg has an error of its own.
        UnicodeEncodeError,
    )


def _say_refused(parameter: str) -> str:
    if parameter == "redun.version":
        advice = "set prepared_statements = false in [backend]"
    else:
        advice = f"leave it out, or name it in the pooler's ignore_startup_parameters ({parameter})"
    return f"the pooler in front of the database refuses the parameter {parameter}: {advice}"


class Storage(Protocol):
    """What differs between the two databases; nothing else asks which one it is."""

    dialect_name: str
    engine: AsyncEngine
    reading: AsyncEngine
    takes_many_writers: bool
    belongs_to_loop: bool
    # Ids that are asked about at a time.
    ids_at_once: int

    @property
    def file(self) -> SqliteFile | None:
        """The file of the database, None on a server."""

    def make_writer(self, counts: Counts, backend: Any, *, is_kept: bool = True) -> WriteConnection:
        """Return a way for one writer's transactions, kept or used once; nothing is opened yet."""

    def make_reader(self) -> KeptConnection:
        """Return a connection to keep for reading; nothing is opened yet."""

    async def identify(self) -> object:
        """Return what is equal for the same database only, however it is spelled."""

    def open_for_migration(self) -> AbstractAsyncContextManager[AsyncConnection]:
        """Open a connection whose transactions keep all other writers out."""

    async def set_foreign_keys(self, writer: WriteConnection, enabled: bool) -> None:
        """Switch the checks of foreign keys on or off for a writer, where that is possible."""

    async def close(self, *, at_once: bool = False) -> None:
        """Close all connections; at once: without waiting for an answer of a server."""


def _open_storage(config: BackendConfig) -> Storage:
    return SqliteStorage(config) if config.get_url().is_file else postgresql.PostgresStorage(config)


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
        The engine of all sessions; its events tell of every statement that is sent.
    counts : Counts
        What has been sent so far.
    """

    def __init__(
        self, config: BackendConfig, backend: Any = None, logger: logging.Logger | None = None
    ) -> None:
        self.config = config
        self.backend = backend
        self.counts = Counts()
        self._storage = _open_storage(config)
        self.dialect_name = self._storage.dialect_name
        self.engine = self._storage.engine
        self._logger = logger or logging.getLogger("aredun")
        self._closed = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._writer = self._storage.make_writer(self.counts, backend)
        self._reader = self._storage.make_reader()
        self.counts.listen(self.engine)
        self.writer = Writer(self._writer, config, self._logger, self.counts, translate_error, self._discard)

    @property
    def file(self) -> SqliteFile | None:
        """The file of the database, None on a server."""
        return self._storage.file

    @property
    def exists(self) -> bool:
        """False where the file of the database is missing or empty; opening a session would create it."""
        return self.file is None or self.file.exists

    @property
    def can_copy(self) -> bool:
        """Whether a write can have a transaction of its own, on a server that knows COPY."""
        return self._storage.takes_many_writers and not self.writer.in_batch

    @property
    def ids_at_once(self) -> int:
        """How many ids to ask about at a time: a driver reads all that is answered at one go."""
        return self._storage.ids_at_once

    @property
    def file_path(self) -> Path | None:
        """The file of the database (that which stands for `:memory:` too), None for a server."""
        return self.file.path if self.file is not None else None

    async def is_same(self, other: Database) -> bool:
        """Tell whether another one is this database, however either was spelled."""
        if other is self:
            return True
        if self.dialect_name != other.dialect_name:
            return False
        return await self._identify() == await other._identify()

    async def _identify(self) -> object:
        return await self._retry(self._storage.identify, "a read")

    @property
    def checked_out(self) -> int:
        """Connections in use right now, without those that are kept for the write queue and for `fetch`.

        A read that many may share goes on although whoever asked first is cancelled.
        """
        lent: int = self.engine.sync_engine.pool.checkedout()  # type: ignore[attr-defined]  # QueuePool's
        return max(lent - self._writer.held - self._reader.held, 0)

    def _require_open(self) -> None:
        """Refuse what would open connections again after `close`, or use those of another event loop."""
        self._require_not_closed()
        if self._storage.belongs_to_loop:
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
        if self.file is None or self.config.read_only:
            return self.config.read_only
        return await asyncio.to_thread(self.file.find_reading_options) is not None

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

        async def attempt() -> T:
            engine = self.engine if transaction else self._storage.reading
            async with RedunSession(self.backend, engine) as session:
                return await operation(session)

        return await self._read(attempt)

    async def _read(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """Run a read, again if it failed for a passing reason."""
        self._require_open()
        self.counts.reads += 1
        return await self._retry(attempt, "a read")

    async def _retry(self, attempt: Callable[[], Awaitable[T]], what: str) -> T:
        """Run an attempt, again if it failed for a passing reason; its last error is of one line."""

        async def discard_broken() -> T:
            try:
                return await attempt()
            except Exception as error:
                await self._discard(error)
                raise

        try:
            return await retry(discard_broken, self.config, self._logger, what)
        except _get_driver_errors() as error:
            raise translate_error(error) from error

    async def fetch(self, statement: sa.SelectBase, parameters: Mapping[str, Any]) -> list[Any]:
        """Return all rows of a statement that is asked often; retried like `read`.

        Parameters
        ----------
        statement : SelectBase
            Of columns, not of models; always the same object, so that it is compiled once.
        parameters : mapping
            The values of its named parameters.

        Returns
        -------
        list
            Tuples of their cells, in the order of the columns.

        Raises
        ------
        RedunDatabaseError
            The database cannot be reached, or refused.
        """

        async def attempt() -> Iterable[list[Any]]:
            # A kept connection without a session halves the time of a read by one caller.
            async with self._reader.lend_or_connect() as connection:
                return await ask(connection, statement, parameters)

        # Whoever waits for the connection has it while the rows are made.
        return await make_rows(await self._read(attempt))

    async def fetch_related(
        self, own: sa.SelectBase, related: tuple[sa.SelectBase, ...], ids: Sequence[str]
    ) -> list[list[Any]]:
        """Return the rows with some ids, and for each of other statements those that belong to them.

        Parameters
        ----------
        own : SelectBase
            Like that of `fetch`; `ids` is its only parameter, and the id its first column.
        related : tuple of SelectBase
            The others, with the same parameter.
        ids : sequence of str
            The ids.

        Returns
        -------
        list
            For each statement what `fetch` returns.

        Raises
        ------
        RedunDatabaseError
            The database cannot be reached, or refused.
        """

        async def attempt() -> list[Iterable[list[Any]]]:
            async with self._reader.lend_or_connect() as connection:
                return await ask_related(connection, own, related, ids)

        return [await make_rows(parts) for parts in await self._read(attempt)]

    async def write(
        self, operation: Callable[[AsyncSession], Awaitable[T]], *, own_transaction: bool = False
    ) -> T:
        """Run an operation in a transaction: when this returns, all that it did is durable.

        It shares the transaction with whoever writes at the same time, behind a savepoint; inside a batch it
        is part of the batch.

        Parameters
        ----------
        operation : callable
            Takes the session and must not commit. It may run more than once, each time from the beginning.
        own_transaction : bool
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
        if own_transaction and self.can_copy:
            return await self._write_in_own_transaction(operation)
        result: T = await self.writer.write(Write(operation=operation))
        return result

    async def _write_in_own_transaction(self, operation: Callable[[AsyncSession], Awaitable[T]]) -> T:
        async def attempt() -> T:
            writer = self._storage.make_writer(self.counts, self.backend, is_kept=False)
            try:
                async with writer.transaction() as transaction:
                    result: T = await transaction.run(operation, savepoint=False)
                    return result
            finally:
                await writer.close()

        return await self._retry(attempt, "a write transaction")

    async def migrate(self, operation: Callable[[AsyncConnection], Awaitable[T]]) -> T:
        """Run an operation on a connection of its own, for it to begin and commit transactions on."""
        self._require_writable()
        try:
            async with self._storage.open_for_migration() as connection:
                return await operation(connection)
        except _get_driver_errors() as error:
            raise translate_error(error) from error

    async def set_foreign_keys(self, enabled: bool) -> None:
        """Switch the checks of foreign keys on or off for what is written from now on (only sqlite can)."""
        await self._storage.set_foreign_keys(self._writer, enabled)

    async def write_rows(self, write: Write) -> Any:
        """Write rows; when this returns they are durable, all of them (inside a batch: at its end)."""
        self._require_writable()
        return await self.writer.write(write)

    @asynccontextmanager
    async def batch(self) -> AsyncIterator[Batch | InnerBatch]:
        """Collect what is written inside the block into one transaction."""
        self._require_writable()
        async with self.writer.batch() as batch:
            yield batch

    async def _discard(self, error: BaseException) -> None:
        """Throw away connections that lead nowhere or know an old schema; the next attempt opens new ones."""
        if self._storage.belongs_to_loop and (is_outage(error) or is_stale(error)):
            await self._writer.discard()
            await self._reader.discard()
            await self.engine.dispose()

    async def close(self) -> None:
        """Write what is queued and close all connections, within `close_timeout`.

        Raises
        ------
        RedunDatabaseError
            The database did not take it in time: what had not been awaited may be unwritten.
        """
        bound = self.config.close_timeout or None
        try:
            async with asyncio.timeout(bound):
                await self.writer.close()
                self._closed = True
                await self._close_connections()
        except TimeoutError:
            self._closed = True
            self.writer.abort()
            await self._storage.close(at_once=True)
            await self.writer.close()
            await self._close_connections()
            raise RedunDatabaseError(
                f"the database did not answer within close_timeout ({bound:g} s): "
                "writes that had not been answered may be missing"
            ) from None

    async def _close_connections(self) -> None:
        await self._writer.close()
        await self._reader.close()
        await self._storage.close()
