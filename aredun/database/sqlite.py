"""sqlite behind asyncio: one hop to the driver's thread per statement, or per whole transaction."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import tempfile
import weakref
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast
from urllib.parse import quote, urlencode

import aiosqlite
from sqlalchemy import event
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool, StaticPool

from aredun.database.turns import working_threads
from aredun.errors import DatabaseMovedError, RedunDatabaseError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

    from sqlalchemy.engine import Connection
    from sqlalchemy.ext.asyncio import AsyncEngine

    from aredun.config import BackendConfig

T = TypeVar("T")

# Statements that one connection keeps compiled; the package itself uses about a hundred.
CACHED_STATEMENTS = 512
# Page cache of the connection that writes, and of each of those that read.
CACHE_KIBIBYTES = 32 * 1024
READER_CACHE_KIBIBYTES = 4 * 1024
# Pages that the write-ahead log gathers before they go into the file: 64 MB.
CHECKPOINT_PAGES = 16_000


class HopConnection(aiosqlite.Connection):
    """An aiosqlite connection that runs any function on the driver's connection in one hop to its thread.

    Attributes
    ----------
    file : SqliteFile
        What it is a connection to.
    """

    file: SqliteFile

    @property
    def is_open(self) -> bool:
        """False once it is closed: SQLAlchemy does that to a connection that was interrupted."""
        return self._running and self._connection is not None

    async def hop(self, function: Callable[[sqlite3.Connection], T]) -> T:
        """Run `function(connection)` in the driver's thread and return what it returns.

        Raises
        ------
        DatabaseMovedError
            The file is no longer where it was: what is written would go nowhere.
        """
        with working_threads:
            return cast("T", await self._execute(self._run, function, self._conn))  # type: ignore[no-untyped-call]  # aiosqlite's

    def _run(self, function: Callable[[sqlite3.Connection], T], raw: sqlite3.Connection) -> T:
        self.file.require_same(raw)
        before = raw.in_transaction, raw.total_changes
        result = function(raw)
        if self.file.is_immutable or (raw.in_transaction, raw.total_changes) != before:
            # What was committed to a file that went away meanwhile is not kept.
            self.file.require_same(raw)
        return result

    def cursor(self) -> HopCursor:  # type: ignore[override]  # aiosqlite's hops to make one
        """Return a cursor whose `execute` also fetches: one hop instead of four."""
        return HopCursor(self)

    async def commit(self) -> None:
        """Commit; no hop where nothing has begun."""
        if self._conn.in_transaction:
            await self.hop(lambda raw: raw.commit())

    async def rollback(self) -> None:
        """Roll back; no hop where nothing has begun."""
        if self._conn.in_transaction:
            await super().rollback()

    async def close(self) -> None:
        """Close, leaving no log beside a file that has come into the place of this one."""
        if self.is_open:
            await self._execute(self.file.leave, self._conn)  # type: ignore[no-untyped-call]  # aiosqlite's
        await super().close()


class HopCursor:
    """The cursor that SQLAlchemy's aiosqlite dialect drives; rows are fetched along with the execution."""

    def __init__(self, connection: HopConnection) -> None:
        self._connection = connection
        self._rows: list[Any] = []
        self.description: Any = None
        self.rowcount = -1
        self.lastrowid = 0
        self.arraysize = 1

    async def __aenter__(self) -> HopCursor:
        return self

    def _run(self, statement: str, parameters: Any, many: bool, raw: sqlite3.Connection) -> None:
        cursor = raw.cursor()
        try:
            if many:
                cursor.executemany(statement, parameters)
            else:
                cursor.execute(statement, parameters)
            self.description = cursor.description
            self.rowcount = cursor.rowcount
            self.lastrowid = cursor.lastrowid or 0
            self._rows = cursor.fetchall() if cursor.description else []
        finally:
            cursor.close()

    async def execute(self, statement: str, parameters: Sequence[Any] = ()) -> HopCursor:
        """Execute one statement and fetch its rows."""
        await self._connection.hop(partial(self._run, statement, parameters, False))
        return self

    async def executemany(self, statement: str, parameters: Iterable[Sequence[Any]]) -> HopCursor:
        """Execute one statement for many rows of parameters."""
        await self._connection.hop(partial(self._run, statement, parameters, True))
        return self

    async def fetchall(self) -> list[Any]:
        """Return the rows that are left."""
        rows, self._rows = self._rows, []
        return rows

    async def fetchmany(self, size: int | None = None) -> list[Any]:
        """Return up to `size` of the rows that are left."""
        count = self.arraysize if size is None else size
        rows, self._rows = self._rows[:count], self._rows[count:]
        return rows

    async def fetchone(self) -> Any:
        """Return the next row, None at the end."""
        rows = await self.fetchmany(1)
        return rows[0] if rows else None

    async def close(self) -> None:
        """Drop the rows; the driver's cursor is closed already."""
        self._rows = []


class SqliteFile:
    """A sqlite file, its engines' settings, and how to connect to it.

    Parameters
    ----------
    config : BackendConfig
        Its URL names the file; `:memory:` becomes a private file in a memory file system where there is one,
        so that readers and the writer are as independent as on any file. It goes with this object.
    """

    def __init__(self, config: BackendConfig) -> None:
        assert config.url is not None
        self._config = config
        self._memory = config.url.is_memory
        # What tells the file that the first connection was opened to from any other.
        self._identity: tuple[int, ...] | None = None
        # Whether sqlite was told that nobody writes, because it could not take part in the locking.
        self.is_immutable = config.url.query.get("immutable") == "1"
        self._options = {} if self._memory else dict(config.url.query)
        self._mode = self._options.pop("mode", None)
        if self._memory:
            folder = _memory_folder()
            self._finalizer = weakref.finalize(self, _remove_folder, folder, os.getpid())
            self.path = Path(folder) / "redun.db"
        else:
            # The program may change its folder before another connection is opened.
            self.path = Path(config.url.database or "").absolute()

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
            with closing(self._connect(None, options)) as raw:
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

    def leave(self, raw: sqlite3.Connection) -> None:
        """Do what has to be done before a connection is closed (in the driver's thread)."""
        with suppress(DatabaseMovedError):
            self.require_same(raw)

    def _put_log_away(self, raw: sqlite3.Connection) -> None:
        # The log lies beside the path. Whoever opened the file that is there now would have the old pages
        # written over it; so they go where they belong, into the file that was moved.
        if not raw.in_transaction:
            with suppress(sqlite3.Error):
                raw.execute("PRAGMA busy_timeout=0")
                raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                raw.execute(f"PRAGMA busy_timeout={round(self._config.busy_timeout * 1000)}")

    def discard(self) -> None:
        """Delete what stands for `:memory:`; a file proper stays."""
        if self._memory:
            self._finalizer()

    async def connect(self, isolation_level: str | None, *, create: bool = False) -> HopConnection:
        """Open a connection in a thread of its own.

        Parameters
        ----------
        isolation_level : str | None
            `None` leaves transactions to explicit BEGINs; "IMMEDIATE" begins one before the first change
            only, so that a reader holds none.
        create : bool
            Make the file if it is missing; without it that is an error.
        """
        connection = HopConnection(partial(self._open, isolation_level, create), iter_chunk_size=64)
        connection.file = self
        # A program that forgets to close the backend must still be able to exit.
        connection._thread.daemon = True
        try:
            await connection
        except BaseException:
            # aiosqlite tells its thread to stop and does not wait for it; a thread that answers to a loop
            # that has been closed meanwhile ends with a traceback.
            await asyncio.to_thread(connection._thread.join)
            raise
        return connection

    def _open(self, isolation_level: str | None, create: bool) -> sqlite3.Connection:
        # Not after: to open it is to have an old log written over another file.
        self.require_same()
        created = not self.exists
        if not create and not self.path.exists():
            raise RedunDatabaseError(f"there is no database at {self.path}: load(migrate=True) makes one")
        reading = self.find_reading_options()
        if reading is not None and isolation_level is None:
            raise RedunDatabaseError(
                f"{self.path} cannot be written to: there is no permission to write to it and its folder"
            )
        raw = self._connect(isolation_level, reading or {"mode": self._mode or ("rwc" if create else "rw")})
        try:
            self._configure(raw, isolation_level)
            if reading is None:
                self._set_journal(raw, created)
            self._identity = self._identity or self._identify()
        except BaseException:
            raw.close()
            raise
        return raw

    def get_uri(self, options: Mapping[str, str]) -> str:
        """Return sqlite's own URI of the file, which is not that of a database URL."""
        return f"file://{quote(os.fsencode(self.path))}?{urlencode({**self._options, **options})}"

    def _connect(self, isolation_level: str | None, options: Mapping[str, str]) -> sqlite3.Connection:
        return sqlite3.connect(
            self.get_uri(options),
            uri=True,
            timeout=self._config.busy_timeout,
            isolation_level=isolation_level,  # type: ignore[arg-type]  # a literal that the callers guarantee
            check_same_thread=False,
            cached_statements=CACHED_STATEMENTS,
        )

    def _configure(self, raw: sqlite3.Connection, isolation_level: str | None) -> None:
        raw.execute("PRAGMA foreign_keys=ON")
        # Hash keys scatter over all pages: the more of them stay in memory, and the more commits a checkpoint
        # takes together, the less is written.
        cache = CACHE_KIBIBYTES if isolation_level is None else READER_CACHE_KIBIBYTES
        raw.execute(f"PRAGMA cache_size=-{cache}")
        raw.execute(f"PRAGMA wal_autocheckpoint={CHECKPOINT_PAGES}")

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

    def create_reader(self) -> AsyncEngine:
        """Create the engine that reads: several connections, which hold no transaction to read."""
        return create_async_engine(
            "sqlite+aiosqlite://",
            async_creator=partial(self.connect, "IMMEDIATE"),
            poolclass=AsyncAdaptedQueuePool,
            pool_size=self._config.pool_size,
            max_overflow=0,
            pool_timeout=self._config.pool_timeout,
            echo=self._config.echo,
        )

    def create_writer(self, connect: Callable[[], Awaitable[HopConnection]]) -> AsyncEngine:
        """Create an engine on one connection whose transactions take the write lock as they begin."""
        engine = create_async_engine(
            "sqlite+aiosqlite://", async_creator=connect, poolclass=StaticPool, echo=self._config.echo
        )

        @event.listens_for(engine.sync_engine, "begin")
        def begin_immediate(connection: Connection) -> None:
            connection.exec_driver_sql("BEGIN IMMEDIATE")

        return engine


def _may_write(*paths: Path) -> bool:
    effective = os.access in os.supports_effective_ids
    return all(os.access(path, os.W_OK, effective_ids=effective) for path in paths)


def _remove_folder(folder: str, pid: int) -> None:
    # A process that was forked from the owner's leaves it alone.
    if os.getpid() == pid:
        shutil.rmtree(folder, ignore_errors=True)


def _memory_folder() -> str:
    shared_memory = Path("/dev/shm")
    return tempfile.mkdtemp(prefix="aredun-", dir=shared_memory if shared_memory.is_dir() else None)
