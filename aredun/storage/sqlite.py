"""sqlite behind asyncio: its file, the connections to it, and what differs from PostgreSQL."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from sqlalchemy import URL, event
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool

from aredun.errors import DatabaseMovedError, RedunDatabaseError
from aredun.storage.connections import KeptConnection, WriteConnection
from aredun.storage.inserts import SqliteInserts
from aredun.storage.memory_folders import MemoryFolder
from aredun.storage.sqlite_connection import FileConnection, RawConnection, close_unused, make_connection

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from sqlalchemy.engine import Connection
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

    from aredun.config import BackendConfig
    from aredun.storage.connections import Counts

# Statements that one connection keeps compiled; the package itself uses about a hundred.
CACHED_STATEMENTS = 512
# Page cache of the connection that writes, and of each of those that read.
CACHE_KIBIBYTES = 32 * 1024
READER_CACHE_KIBIBYTES = 4 * 1024
# Pages that the write-ahead log gathers before they go into the file: 64 MB.
CHECKPOINT_PAGES = 16_000
_BEGIN = "BEGIN IMMEDIATE"
# Seconds between two attempts of a thread to switch the journal mode.
_LOOK_AGAIN = 0.005


class SqliteFile:
    """A sqlite file, its engines' settings, and how to connect to it.

    Parameters
    ----------
    config : BackendConfig
        Its URL names the file; `:memory:` becomes a private file in a memory file system where there is one,
        so that readers and the writer are as independent as on any file. It goes with this object.
    """

    def __init__(self, config: BackendConfig) -> None:
        url = config.get_url()
        self._config = config
        self._memory = MemoryFolder() if url.is_memory else None
        # What tells the file that the first connection was opened to from any other.
        self._identity: tuple[int, ...] | None = None
        # Whether sqlite was told that nobody writes, because it could not take part in the locking.
        self.is_immutable = url.query.get("immutable") == "1"
        self._options: dict[str, Any] = {} if self._memory else dict(url.query)
        self._mode = self._options.pop("mode", None)
        self._can_write = True
        if self._memory is not None:
            self.path = self._memory.path / "redun.db"
        else:
            # The program may change its folder before another connection is opened.
            self.path = Path(url.database or "").absolute()

    @property
    def exists(self) -> bool:
        """Whether there is a file with something in it."""
        return self._identity is not None or (self.path.exists() and self.path.stat().st_size > 0)

    def require_same(self, raw: sqlite3.Connection | None = None) -> None:
        """Check that the path still leads to the file that was opened (blocks for a microsecond).

        Parameters
        ----------
        raw : sqlite3.Connection, optional
            A connection to that file, whose log is put away if it is another one by now.

        Raises
        ------
        DatabaseMovedError
            It was replaced or removed.
        """
        if self._identity is None:
            return
        found = self._identify()
        if found == self._identity:
            return
        if raw is not None:
            self._put_log_away(raw)
        what = "removed" if found is None else "replaced by another one"
        if found is not None and found[:2] == self._identity[:2]:
            raise DatabaseMovedError(
                f"somebody has written to {self.path}, which is read without permission to take part:"
                " close what uses it and open it again"
            )
        raise DatabaseMovedError(
            f"the file {self.path} was {what} while it was open: put the first one back,"
            " or close what uses it and open it again"
        )

    def require_writable(self) -> None:
        """Refuse to write to a file that was opened without permission to."""
        if not self._can_write:
            raise RedunDatabaseError(
                f"{self.path} cannot be written to: there is no permission to write to it and its folder"
            )

    def create_folder(self) -> None:
        """Make the folder that the file is to be in (blocks: call it in a thread)."""
        self.path.parent.mkdir(parents=True, exist_ok=True)

    def create(self) -> None:
        """Make the file if it is missing (blocks: call it in a thread)."""
        if not self.exists:
            self._open(create=True).close()

    def _identify(self) -> tuple[int, ...] | None:
        try:
            status = os.stat(self.path)
        except FileNotFoundError:
            return None
        if not self.is_immutable:
            return status.st_dev, status.st_ino
        return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, self._measure_log()

    def _measure_log(self) -> int:
        """Return how many bytes lie in logs beside the file, of either kind."""
        logs = (Path(f"{self.path}-{kind}") for kind in ("wal", "journal"))
        return sum(log.stat().st_size for log in logs if log.exists())

    def get_sync_url(self) -> URL:
        """Return the file as a synchronous engine opens it (blocks)."""
        reading = self.find_reading_options()
        # Versions of SQLAlchemy differ in how they read a quoted path: here nothing is quoted.
        url = URL.create("sqlite", database=str(self.path))
        return url if reading is None else url.set(database=self.get_uri(reading), query={"uri": "true"})

    def find_reading_options(self) -> dict[str, str] | None:
        """Return how a file is opened that can only be read, as options of its URI; None for any other.

        Blocks: it opens the file.

        Raises
        ------
        RedunDatabaseError
            The file cannot be read without writing.
        """
        folder = self.path.parent
        if not self._config.read_only and (not self.path.exists() or _may_write(self.path, folder)):
            return None
        options = {"mode": "ro"}
        if self.is_immutable:
            return {**options, "immutable": "1"}
        try:
            with closing(self._connect(options)) as raw:
                raw.execute("PRAGMA schema_version").fetchone()
        except sqlite3.OperationalError as error:
            # With WAL sqlite wants to make two files in the folder, to read as to write.
            if error.sqlite_errorcode & 0xFF not in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY):
                raise
            if self._measure_log():
                raise RedunDatabaseError(
                    f"{self.path} cannot be read without permission to write in {folder}: commits in the log"
                    " beside it are not in the file yet; run 'aredun db info' where it may write, once nobody"
                    " uses the file, or copy the file and its log elsewhere"
                ) from error
            self.is_immutable, self._identity = True, None
            options["immutable"] = "1"
        return options

    def _put_log_away(self, raw: sqlite3.Connection) -> None:
        # The log lies beside the path. Whoever opened the file that is there now would have the old pages
        # written over it; so they go where they belong, into the file that was moved.
        if not raw.in_transaction:
            with suppress(sqlite3.Error):
                cursor = raw.cursor()
                cursor.execute("PRAGMA busy_timeout=0")
                cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                cursor.execute(f"PRAGMA busy_timeout={round(self._config.busy_timeout * 1000)}")

    def identify(self) -> object:
        """Return what only this file is, however it is spelled (blocks: call it in a thread)."""
        found = self._identify()
        return object() if found is None else found[:2]

    def discard(self) -> None:
        """Delete what stands for `:memory:`; a file proper stays."""
        if self._memory is not None:
            self._memory.remove()

    async def connect(self, *, create: bool = False) -> FileConnection:
        """Open a connection in a thread of its own.

        Parameters
        ----------
        create : bool
            Make the file if it is missing; without it that is an error.
        """
        opening = asyncio.ensure_future(asyncio.to_thread(self._open, create))
        try:
            raw = await asyncio.shield(opening)
        except asyncio.CancelledError:
            opening.add_done_callback(close_unused)
            raise
        connection = make_connection(raw, self)
        await connection
        return connection

    def _open(self, create: bool) -> RawConnection:
        # Before the file is opened: sqlite writes a log that lies beside it into whatever file is there.
        self.require_same()
        created = not self.exists
        if not create and not self.path.exists():
            raise RedunDatabaseError(f"there is no database at {self.path}: load(migrate=True) makes one")
        reading = self.find_reading_options()
        raw = self._connect(reading or {"mode": self._mode or ("rwc" if create else "rw")})
        try:
            self._configure(raw)
            if reading is None:
                self._set_journal(raw, created)
            self._identity = self._identity or self._identify()
            self._can_write = reading is None
            raw.file = self
        except BaseException:
            raw.close()
            raise
        return raw

    def get_uri(self, options: Mapping[str, str]) -> str:
        """Return sqlite's own URI of the file, which is not that of a database URL."""
        return f"file://{quote(os.fsencode(self.path))}?{urlencode({**self._options, **options})}"

    def _connect(self, options: Mapping[str, str]) -> RawConnection:
        raw: RawConnection = sqlite3.connect(
            self.get_uri(options),
            uri=True,
            timeout=self._config.busy_timeout,
            # The driver takes the write lock with the first change, never with a mere question.
            isolation_level="IMMEDIATE",
            check_same_thread=False,
            cached_statements=CACHED_STATEMENTS,
            factory=RawConnection,
        )
        return raw

    def _configure(self, raw: sqlite3.Connection) -> None:
        raw.execute("PRAGMA foreign_keys=ON")
        raw.execute(f"PRAGMA cache_size=-{READER_CACHE_KIBIBYTES}")
        raw.execute(f"PRAGMA wal_autocheckpoint={CHECKPOINT_PAGES}")

    def _set_journal(self, raw: sqlite3.Connection, created: bool) -> None:
        wanted = self._config.journal_mode
        if wanted == "auto":
            # Somebody else's file keeps the mode that its other users count on.
            wanted = "wal" if created else "keep"
        if wanted != "keep":
            self._switch_journal(raw, wanted)
        synchronous = self._config.synchronous
        if self._memory is not None:
            raw.execute("PRAGMA synchronous=OFF")
        elif synchronous != "auto":
            raw.execute(f"PRAGMA synchronous={synchronous}")
        elif raw.execute("PRAGMA journal_mode").fetchone()[0] == "wal":
            # With WAL a commit survives the process; only a power cut can take the last commits back.
            raw.execute("PRAGMA synchronous=NORMAL")

    def _switch_journal(self, raw: sqlite3.Connection, mode: str) -> None:
        """Set the journal mode; sqlite itself would not wait for others who open the file at that moment."""
        deadline = time.monotonic() + self._config.busy_timeout
        while True:
            try:
                raw.execute(f"PRAGMA journal_mode={mode}")
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                    raise
                time.sleep(_LOOK_AGAIN)
            else:
                return

    def create_engine(self) -> AsyncEngine:
        """Create the engine: connections for readers, who hold no transaction, and two that are kept."""
        return create_async_engine(
            "sqlite+aiosqlite://",
            async_creator=self.connect,
            poolclass=AsyncAdaptedQueuePool,
            pool_size=self._config.pool_size + 2,
            max_overflow=0,
            pool_timeout=self._config.pool_timeout,
            echo=self._config.echo,
        )


def _may_write(*paths: Path) -> bool:
    effective = os.access in os.supports_effective_ids
    return all(os.access(path, os.W_OK, effective_ids=effective) for path in paths)


class SqliteStorage:
    """`Storage` on a sqlite file.

    Parameters
    ----------
    config : BackendConfig
        Its URL names the file.
    """

    dialect_name = "sqlite"
    # sqlite locks the file for one writer at a time.
    takes_many_writers = False
    # aiosqlite's connections serve any event loop.
    belongs_to_loop = False
    # Each question is a turn to the driver's thread: with half as many `get_records` would be a fifth slower.
    ids_at_once = 2000

    def __init__(self, config: BackendConfig) -> None:
        self.file = SqliteFile(config)
        self.engine = self.reading = self.file.create_engine()

    def make_writer(self, counts: Counts, backend: Any, *, is_kept: bool = True) -> WriteConnection:
        """See `Storage.make_writer`."""
        kept = KeptConnection(self.engine, self._prepare_writer)
        # Who looks before it writes takes the lock first: nobody else may write in between.
        return WriteConnection(kept, kept, SqliteInserts(), _BEGIN, counts, backend)

    def make_reader(self) -> KeptConnection:
        """See `Storage.make_reader`."""
        # More connections are more threads, which fight for the interpreter's lock: a sync would take a tenth
        # longer.
        return KeptConnection(self.reading, waits=True)

    async def _prepare_writer(self, connection: AsyncConnection) -> None:
        """Give the connection that writes its own page cache."""
        self.file.require_writable()
        await connection.exec_driver_sql(f"PRAGMA cache_size=-{CACHE_KIBIBYTES}")
        # The setting outlives the transaction that SQLAlchemy has begun for it.
        await connection.rollback()

    async def identify(self) -> object:
        """See `Storage.identify`."""
        return await asyncio.to_thread(self.file.identify)

    @asynccontextmanager
    async def open_for_migration(self) -> AsyncIterator[AsyncConnection]:
        """See `Storage.open_for_migration`."""
        await asyncio.to_thread(self.file.create)
        async with self.engine.connect() as connection:
            self.file.require_writable()
            sync_connection = connection.sync_connection
            if sync_connection is not None:
                event.listen(sync_connection, "begin", _begin_immediate)
            yield connection

    async def set_foreign_keys(self, writer: WriteConnection, enabled: bool) -> None:
        """See `Storage.set_foreign_keys`; within a transaction that has no effect."""
        await writer.set_up(f"PRAGMA foreign_keys={'ON' if enabled else 'OFF'}")

    async def close(self, *, at_once: bool = False) -> None:
        """See `Storage.close`."""
        await self.engine.dispose()
        await asyncio.to_thread(self.file.discard)


def _begin_immediate(connection: Connection) -> None:
    connection.exec_driver_sql(_BEGIN)
