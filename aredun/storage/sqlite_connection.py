"""Connections of aiosqlite to a file that may go away, and cursors that go to their thread once."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import aiosqlite

from aredun.errors import DatabaseMovedError
from aredun.loop.pacing import pause_between_turns

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator


class WatchedFile(Protocol):
    """The file of a database, as far as a connection to it has to know."""

    @property
    def is_immutable(self) -> bool:
        """Whether sqlite was told that nobody writes."""

    def require_same(self, raw: RawConnection | None = None) -> None:
        """Raise `DatabaseMovedError` if another file, or none, is where the open one was."""


class _Executed(NamedTuple):
    """What a cursor tells of the statement that it has executed."""

    description: Any
    rowcount: int
    lastrowid: int | None


_NOTHING = _Executed(None, -1, None)


class RawConnection(sqlite3.Connection):
    """A connection that looks whether its file is still there, and lets go of its locks when it is closed.

    SQLAlchemy closes a connection that was interrupted; while rows of a cursor are left, sqlite puts the end
    of its transaction off until somebody collects them.

    Attributes
    ----------
    file : WatchedFile
        What it is a connection to, once it is set up.
    latest : _Executed
        What is known of the latest statement. Its cursor, if it was kept, might keep sqlite busy.
    """

    file: WatchedFile | None = None
    latest = _NOTHING
    _is_closed = False

    def _require_same(self) -> None:
        """Raise DatabaseMovedError if the file is no longer where it was: writes would go nowhere."""
        if self.file is not None:
            self.file.require_same(self)

    def execute(self, *args: Any) -> sqlite3.Cursor:
        """Execute a statement, if the file is still there."""
        self._require_same()
        return self._note(super().execute(*args))

    def executemany(self, *args: Any) -> sqlite3.Cursor:
        """Execute a statement for many rows of parameters, if the file is still there."""
        self._require_same()
        return self._note(super().executemany(*args))

    def _note(self, cursor: sqlite3.Cursor) -> sqlite3.Cursor:
        self.latest = _Executed(cursor.description, cursor.rowcount, cursor.lastrowid)
        return cursor

    def commit(self) -> None:
        """Commit; what was committed to a file that went away meanwhile is not kept."""
        self._require_same()
        super().commit()
        self._require_same()

    def close(self) -> None:
        """Roll back and close, leaving no log beside a file that has come into the place of this one.

        Who is interrupted while it closes a connection closes it again.
        """
        if self._is_closed:
            return
        self._is_closed = True
        if self.in_transaction:
            self.rollback()
        with suppress(DatabaseMovedError):
            self._require_same()
        super().close()


class FileConnection(aiosqlite.Connection):
    """An aiosqlite connection whose cursors go to its thread once for a statement and all of its rows.

    aiosqlite's own go there four times: to be made, for the statement, for the rows, and to be closed. That
    is twice the time of a small transaction or read (`benchmarks.record`, one caller).

    Parameters
    ----------
    raw : RawConnection
        Open already, so that aiosqlite's thread has nothing to fail at.
    file : WatchedFile
        What it is a connection to.
    """

    def __init__(self, raw: RawConnection, file: WatchedFile) -> None:
        super().__init__(lambda: raw, iter_chunk_size=64)
        self.raw = raw
        self.file = file
        self._end: asyncio.Future[Any] | None = None

    def cursor(self) -> FileCursor:  # type: ignore[override]  # aiosqlite's is awaited
        """Return a cursor, without going to the thread."""
        return FileCursor(self)

    def stop(self) -> asyncio.Future[Any] | None:
        """Stop the thread, once: it would not answer whoever asked it again, as an interrupted close does."""
        if self._end is None:
            self._end = super().stop()
        return self._end

    async def commit(self) -> None:
        """Commit, if anything has begun."""
        if self.in_transaction:
            with pause_between_turns():
                await super().commit()

    async def rollback(self) -> None:
        """Roll back, if anything has begun."""
        if self.in_transaction:
            await super().rollback()


class FileCursor:
    """What SQLAlchemy's aiosqlite dialect asks of a cursor; the rows of a statement are there at once."""

    def __init__(self, connection: FileConnection) -> None:
        self._connection = connection
        self._latest = _NOTHING
        self._rows: Iterator[Any] = iter(())
        self.arraysize = 1

    # SQLAlchemy 2.0 awaits a new cursor, 2.1 enters it: aiosqlite's allows both.
    def __await__(self) -> Generator[None, None, FileCursor]:
        yield from ()
        return self

    async def __aenter__(self) -> FileCursor:
        return self

    @property
    def description(self) -> Any:
        """Names of the columns of the rows; None if the statement has no rows."""
        return self._latest.description

    @property
    def rowcount(self) -> int:
        """Rows that the statement changed."""
        return self._latest.rowcount

    @property
    def lastrowid(self) -> int | None:
        """Number of the row that was inserted last."""
        return self._latest.lastrowid

    async def execute(self, statement: str, parameters: Any = ()) -> None:
        """Execute one statement, and fetch its rows."""
        with pause_between_turns():
            self._rows = iter(await self._connection.execute_fetchall(statement, parameters))
        self._latest = self._connection.raw.latest
        if self._connection.file.is_immutable and self.description is not None:
            # sqlite would not notice that somebody wrote while it read.
            await asyncio.to_thread(self._connection.file.require_same)

    async def executemany(self, statement: str, parameters: Iterable[Any]) -> None:
        """Execute one statement for many rows of parameters."""
        with pause_between_turns():
            await self._connection.executemany(statement, parameters)
        self._latest = self._connection.raw.latest

    async def fetchone(self) -> Any:
        """Return the next row, None after the last one."""
        return next(self._rows, None)

    async def fetchmany(self, size: int | None = None) -> list[Any]:
        """Return the next rows, at most `size`."""
        return list(islice(self._rows, size or self.arraysize))

    async def fetchall(self) -> list[Any]:
        """Return all rows that are left."""
        return list(self._rows)

    async def close(self) -> None:
        """Forget the statement, which ended with its last row."""
        self._latest, self._rows = _NOTHING, iter(())


def make_connection(raw: RawConnection, file: WatchedFile) -> FileConnection:
    """Make a connection whose thread does not keep a program that forgets to close it from ending."""
    made: list[FileConnection] = []
    # A thread is a daemon if the one that makes it is.
    maker = threading.Thread(target=lambda: made.append(FileConnection(raw, file)), daemon=True)
    maker.start()
    maker.join()
    return made[0]


def close_unused(opening: asyncio.Future[RawConnection]) -> None:
    if not opening.cancelled() and opening.exception() is None:
        opening.result().close()
