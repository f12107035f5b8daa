"""sqlite behind asyncio: its file, the connections to it, and what differs from PostgreSQL."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import tempfile
import threading
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import aiosqlite
from sqlalchemy import event
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool

from aredun.database.connections import KeptConnection, WriteConnection
from aredun.database.inserts import SqliteInserts
from aredun.database.turns import working_threads
from aredun.errors import RedunDatabaseError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy.engine import Connection
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

    from aredun.config import BackendConfig
    from aredun.database.connections import Counts

# Statements that one connection keeps compiled; the package itself uses about a hundred.
CACHED_STATEMENTS = 512
# Page cache of the connection that writes, and of each of those that read.
CACHE_KIBIBYTES = 32 * 1024
READER_CACHE_KIBIBYTES = 4 * 1024
# Pages that the write-ahead log gathers before they go into the file: 64 MB.
CHECKPOINT_PAGES = 16_000
_BEGIN = "BEGIN IMMEDIATE"


class _Sqlite(sqlite3.Connection):
    """A connection that lets go of its locks when it is closed.

    SQLAlchemy closes a connection that was interrupted; while rows of a cursor are left, sqlite puts the end
    of its transaction off until somebody collects them.
    """

    def close(self) -> None:
        """Roll back and close."""
        if self.in_transaction:
            self.rollback()
        super().close()


class FileConnection(aiosqlite.Connection):
    """An aiosqlite connection whose cursors take one hop to its thread for a statement, and one for its rows.

    aiosqlite's own take a hop to be made and another one to be closed: twice the time of a small transaction
    (`benchmarks.record`, one caller).

    Parameters
    ----------
    raw : sqlite3.Connection
        Open already, so that aiosqlite's thread has nothing to fail at.
    """

    def __init__(self, raw: sqlite3.Connection) -> None:
        super().__init__(lambda: raw, iter_chunk_size=64)

    def cursor(self) -> FileCursor:  # type: ignore[override]  # aiosqlite's is awaited
        """Return a cursor; no hop to make one."""
        return FileCursor(self)

    async def commit(self) -> None:
        """Commit; no hop where nothing has begun."""
        if self.in_transaction:
            await super().commit()

    async def rollback(self) -> None:
        """Roll back; no hop where nothing has begun."""
        if self.in_transaction:
            await super().rollback()


class FileCursor:
    """What SQLAlchemy's aiosqlite dialect asks of a cursor, answered by that of the latest statement."""

    def __init__(self, connection: FileConnection) -> None:
        self._connection = connection
        self._latest: aiosqlite.Cursor | None = None
        self.arraysize = 1

    async def __aenter__(self) -> FileCursor:
        return self

    @property
    def description(self) -> Any:
        """Names of the columns of the rows; None if the statement has no rows."""
        return self._latest.description if self._latest is not None else None

    @property
    def rowcount(self) -> int:
        """Rows that the statement changed."""
        return self._latest.rowcount if self._latest is not None else -1

    @property
    def lastrowid(self) -> int | None:
        """Number of the row that was inserted last."""
        return self._latest.lastrowid if self._latest is not None else None

    async def execute(self, statement: str, parameters: Any = ()) -> None:
        """Execute one statement."""
        with working_threads:
            self._latest = await self._connection.execute(statement, parameters)

    async def executemany(self, statement: str, parameters: Iterable[Any]) -> None:
        """Execute one statement for many rows of parameters."""
        with working_threads:
            self._latest = await self._connection.executemany(statement, parameters)

    async def fetchall(self) -> Iterable[Any]:
        """Return all rows."""
        if self._latest is None:
            return []
        with working_threads:
            return await self._latest.fetchall()

    async def close(self) -> None:
        """Forget the statement, which ended with its last row."""
        self._latest = None


class SqliteFile:
    """A sqlite file, its engines' settings, and how to connect to it.

    Parameters
    ----------
    config : BackendConfig
        Its URL names the file; `:memory:` becomes a private file in a memory file system where there is one,
        so that readers and the writer are as independent as on any file. It goes with this object.
    """

    def __init__(self, config: BackendConfig) -> None:
        if config.url is None:
            raise RedunDatabaseError(f"{config.display_uri} has not been fetched: load the backend first")
        self._config = config
        self._memory = config.url.is_memory
        self._uri = None
        if self._memory:
            folder = _memory_folder()
            self._finalizer = weakref.finalize(self, _remove_folder, folder, os.getpid())
            self.path: Path | None = Path(folder) / "redun.db"
        else:
            self.path = config.url.file_path
            if self.path is None:
                options = {name: value for name, value in config.url.query.items() if name != "uri"}
                self._uri = f"{config.url.database}?{urlencode(options, doseq=True)}"
            else:
                # The program may change its folder before another connection is opened.
                self.path = self.path.absolute()

    @property
    def exists(self) -> bool:
        """Whether there is a file with something in it (a `file:` URI is taken to name one)."""
        return self.path is None or (self.path.exists() and self.path.stat().st_size > 0)

    def identify(self) -> object:
        """Return what only this file is, however it is spelled (blocks: call it in a thread)."""
        if self.path is None or not self.path.exists():
            return object()
        status = self.path.stat()
        return status.st_dev, status.st_ino

    def discard(self) -> None:
        """Delete what stands for `:memory:`; a file proper stays."""
        if self._memory:
            self._finalizer()

    async def connect(self) -> FileConnection:
        """Open a connection in a thread of its own."""
        opening = asyncio.ensure_future(asyncio.to_thread(self._open))
        try:
            raw = await asyncio.shield(opening)
        except asyncio.CancelledError:
            opening.add_done_callback(_close_unused)
            raise
        connection = _make_connection(raw)
        await connection
        return connection

    def _open(self) -> sqlite3.Connection:
        created = not self.exists
        raw = sqlite3.connect(
            self._uri or str(self.path),
            uri=self._uri is not None,
            timeout=self._config.busy_timeout,
            # The driver takes the write lock with the first change, never with a mere question.
            isolation_level="IMMEDIATE",
            check_same_thread=False,
            cached_statements=CACHED_STATEMENTS,
            factory=_Sqlite,
        )
        try:
            self._configure(raw, created)
        except BaseException:
            raw.close()
            raise
        return raw

    def _configure(self, raw: sqlite3.Connection, created: bool) -> None:
        raw.execute("PRAGMA foreign_keys=ON")
        raw.execute(f"PRAGMA cache_size=-{READER_CACHE_KIBIBYTES}")
        raw.execute(f"PRAGMA wal_autocheckpoint={CHECKPOINT_PAGES}")
        self._set_journal(raw, created)

    def _set_journal(self, raw: sqlite3.Connection, created: bool) -> None:
        wanted = self._config.journal_mode
        if wanted == "auto":
            # Somebody else's file keeps the mode that its other users count on.
            wanted = "wal" if created else "keep"
        if wanted != "keep":
            raw.execute(f"PRAGMA journal_mode={wanted}")
        synchronous = self._config.synchronous
        if self._memory:
            raw.execute("PRAGMA synchronous=OFF")
        elif synchronous != "auto":
            raw.execute(f"PRAGMA synchronous={synchronous}")
        elif raw.execute("PRAGMA journal_mode").fetchone()[0] == "wal":
            # With WAL a commit survives the process; only a power cut can take the last commits back.
            raw.execute("PRAGMA synchronous=NORMAL")

    def create_engine(self) -> AsyncEngine:
        """Create the engine: connections for readers, who hold no transaction, and one for the writer."""
        return create_async_engine(
            "sqlite+aiosqlite://",
            async_creator=self.connect,
            poolclass=AsyncAdaptedQueuePool,
            pool_size=self._config.pool_size + 1,
            max_overflow=0,
            pool_timeout=self._config.pool_timeout,
            echo=self._config.echo,
        )


def _make_connection(raw: sqlite3.Connection) -> FileConnection:
    """Make a connection whose thread does not keep a program that forgets to close it from ending."""
    made: list[FileConnection] = []
    # A thread is a daemon if the one that makes it is.
    maker = threading.Thread(target=lambda: made.append(FileConnection(raw)), daemon=True)
    maker.start()
    maker.join()
    return made[0]


def _close_unused(opening: asyncio.Future[sqlite3.Connection]) -> None:
    if not opening.cancelled() and opening.exception() is None:
        opening.result().close()


def _remove_folder(folder: str, pid: int) -> None:
    # A process that was forked from the owner's leaves it alone.
    if os.getpid() == pid:
        shutil.rmtree(folder, ignore_errors=True)


def _memory_folder() -> str:
    shared_memory = Path("/dev/shm")
    return tempfile.mkdtemp(prefix="aredun-", dir=shared_memory if shared_memory.is_dir() else None)


class SqliteStorage:
    """`Storage` on a sqlite file.

    Parameters
    ----------
    config : BackendConfig
        Its URL names the file.
    """

    dialect_name = "sqlite"
    # There is one writer at a time.
    runs_apart = False
    # A connection answers to whoever asks.
    belongs_to_loop = False

    def __init__(self, config: BackendConfig) -> None:
        self.file = SqliteFile(config)
        self.engine = self.reading = self.file.create_engine()

    def make_writer(self, counts: Counts, backend: Any) -> WriteConnection:
        """See `Storage.make_writer`."""
        kept = KeptConnection(self.engine, _prepare_writer)
        # Who looks before it writes takes the lock first: nobody else may write in between.
        return WriteConnection(kept, kept, SqliteInserts(), _BEGIN, counts, backend)

    async def identify(self) -> object:
        """See `Storage.identify`."""
        return await asyncio.to_thread(self.file.identify)

    async def prepare_migration(self, connection: AsyncConnection) -> None:
        """See `Storage.prepare_migration`."""
        sync_connection = connection.sync_connection
        if sync_connection is not None:
            event.listen(sync_connection, "begin", _begin_immediate)

    async def set_foreign_keys(self, writer: WriteConnection, enabled: bool) -> None:
        """See `Storage.set_foreign_keys`; within a transaction that has no effect."""
        await writer.set_up(f"PRAGMA foreign_keys={'ON' if enabled else 'OFF'}")

    async def close(self) -> None:
        """See `Storage.close`."""
        await self.engine.dispose()
        await asyncio.to_thread(self.file.discard)


def _begin_immediate(connection: Connection) -> None:
    connection.exec_driver_sql(_BEGIN)


async def _prepare_writer(connection: AsyncConnection) -> None:
    """Give the connection that writes its own page cache."""
    await connection.exec_driver_sql(f"PRAGMA cache_size=-{CACHE_KIBIBYTES}")
    # Setting it is no part of a transaction.
    await connection.rollback()
