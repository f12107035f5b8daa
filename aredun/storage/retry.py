"""Which failures pass, how a whole transaction is tried again, and in parts if one of it is at fault."""

from __future__ import annotations

import asyncio
import errno
import random
import re
import sqlite3
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, TypeVar

from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from aredun.errors import RedunDatabaseError, RedunVersionError

if TYPE_CHECKING:
    import logging
    from collections.abc import Awaitable, Callable, Iterator, Sequence

    from aredun.config import BackendConfig

T = TypeVar("T")

# Two transactions were in each other's way: serialization failure, deadlock, lock not available.
CONFLICTS = {"40001", "40P01", "55P03"}
# The server stops, is gone, starts, or has no connection left (PostgreSQL's classes 08 and 57P, 53300).
OUTAGES = {"57P01", "57P02", "57P03", "57P04", "57P05", "53300", "25006"}
# What a server (whose state is only "internal error") and the driver say of objects that have been replaced.
STALE_TEXTS = (
    "cache lookup failed for type",
    "cache lookup failed for relation",
    "could not open relation with OID",
    "cached plan must not change result type",
)
STALE_ERRORS = {"InvalidCachedStatementError", "OutdatedSchemaCacheError"}
# A conflict is over as soon as the other transaction is; only an outage takes the configured delays.
CONFLICT_DELAY = 0.05

_retries_briefly = ContextVar("aredun_retries_briefly", default=False)


@contextmanager
def retry_briefly() -> Iterator[None]:
    """Try the transactions of the block again in quick succession only, as after a conflict.

    Whoever waits for an answer can ask again: better to be told soon that there is none.
    """
    token = _retries_briefly.set(True)
    try:
        yield
    finally:
        _retries_briefly.reset(token)


def walk_causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and what it came from, the driver's own error among them."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = getattr(error, "orig", None) or error.__cause__


def _states(error: BaseException | None) -> set[str]:
    """Return the SQLSTATEs of an error and of what it came from."""
    states = (getattr(each, "sqlstate", None) for each in walk_causes(error))
    return {state for state in states if isinstance(state, str)}


def _is_locked(error: BaseException) -> bool:
    origin = getattr(error, "orig", error)
    if not isinstance(origin, sqlite3.OperationalError):
        return False
    code = getattr(origin, "sqlite_errorcode", 0) & 0xFF
    return code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def is_conflict(error: BaseException) -> bool:
    """Tell whether a transaction failed because another one was in its way."""
    return _is_locked(error) or bool(_states(error) & CONFLICTS)


def name_damage(error: BaseException) -> RedunDatabaseError | None:
    """Return what to raise for a sqlite file that is damaged or none at all; None for any other error."""
    for each in walk_causes(error):
        # The low byte is the code, the others tell where it was found.
        code = getattr(each, "sqlite_errorcode", 0) & 0xFF
        if code == sqlite3.SQLITE_CORRUPT:
            return RedunDatabaseError(f"the file of the database is damaged ({each}): restore it from a copy")
        if code == sqlite3.SQLITE_NOTADB:
            return RedunVersionError(f"not a redun database: {each}, or its beginning is damaged")
    return None


def is_outage(error: BaseException) -> bool:
    """Tell whether a transaction failed because the server, or the way to it, went away."""
    if isinstance(error, DBAPIError) and error.connection_invalidated:
        return True
    if find_refused_parameter(error) is not None:
        return False
    states = _states(error)
    if states & OUTAGES or any(state.startswith("08") for state in states):
        return True
    if isinstance(error, ConnectionError | PoolTimeout) or _is_lost(error):
        return True
    if isinstance(error, FileNotFoundError):
        # The socket of a server that restarts is gone for a moment. Of other files the name is known.
        return error.errno == errno.ENOENT and error.filename is None
    # A refused or reset socket, a server that does not answer in time: asyncpg raises the system's own
    # errors.
    return isinstance(error, TimeoutError | OSError)


def is_refusal(error: Exception) -> bool:
    """Tell whether the database did not like the data, rather than failed: a full disk refuses no record."""
    if is_outage(error.__cause__ or error):
        return False
    return any(
        isinstance(each, _REFUSALS) or str(getattr(each, "sqlstate", None))[:2] in _REFUSAL_CLASSES
        for each in walk_causes(error)
    )


_REFUSALS = (
    ValueError,
    OverflowError,
    sqlite3.IntegrityError,
    sqlite3.DataError,
    sqlite3.InterfaceError,
    sqlite3.ProgrammingError,
)
# PostgreSQL's data exceptions, violated constraints, and limits exceeded.
_REFUSAL_CLASSES = {"22", "23", "54"}


def find_refused_parameter(error: BaseException) -> str | None:
    """Return the name of the startup parameter that a pooler refuses, which it does every time."""
    for each in walk_causes(error):
        found = re.search(r"unsupported startup parameter(?: in options)?: (\S+)", str(each))
        if found:
            return found[1].rstrip(".,")
    return None


def _is_lost(error: BaseException) -> bool:
    text = str(error)
    kind = type(getattr(error, "orig", error)).__name__
    if kind == "InternalClientError":
        # asyncpg's protocol is out of step with a server that went away between two messages.
        return True
    return kind in ("InterfaceError", "ConnectionDoesNotExistError") and (
        "closed" in text or "lost" in text or "terminated" in text
    )


def is_stale(error: BaseException) -> bool:
    """Tell whether a connection remembers types or plans that a restore or a migration has replaced."""
    for each in walk_causes(error):
        names = {kind.__name__ for kind in type(each).__mro__}
        if names & STALE_ERRORS or any(text in str(each) for text in STALE_TEXTS):
            return True
    return False


def is_passing(error: BaseException) -> bool:
    """Tell whether the same transaction may succeed when it is tried again."""
    return is_conflict(error) or is_outage(error) or is_stale(error)


async def retry(
    attempt: Callable[[], Awaitable[T]], config: BackendConfig, logger: logging.Logger, what: str
) -> T:
    """Run a whole transaction, again if it failed for a reason that passes.

    Parameters
    ----------
    attempt : callable
        Begins, runs and commits the transaction; it may run several times.
    config : BackendConfig
        `db_retries`, `db_retries_backoff`, `db_retries_backoff_max` (redun's meanings) and `retry_deadline`.
    logger : logging.Logger
        Gets a warning for every retry.
    what : str
        What the transaction does, for that warning.

    Returns
    -------
    T
        What the attempt that succeeded returned.

    Raises
    ------
    Exception
        The error of the last attempt, or at once one that would come again.
    """
    loop = asyncio.get_running_loop()
    started = loop.time()
    number = 0
    while True:
        try:
            return await attempt()
        except Exception as error:
            number += 1
            if number > config.db_retries or not is_passing(error):
                raise
            delay = config.retry_delay(number)
            if is_conflict(error) or is_stale(error) or _retries_briefly.get():
                delay = min(delay, CONFLICT_DELAY * 2**number)
            # Jitter, so that callers that failed together do not try again together.
            delay *= random.uniform(0.5, 1.0)
            if loop.time() - started + delay > config.retry_deadline:
                raise
            logger.warning(
                "%s failed (attempt %d of %d), again in %.1f s: %s",
                what,
                number,
                config.db_retries + 1,
                delay,
                " ".join(str(error).split())[:300],
            )
            await asyncio.sleep(delay)


async def split_at_fault(group: T, attempt: Callable[[T], Awaitable[Sequence[T]]]) -> None:
    """Attempt something as a whole, and where a part of it is at fault, in ever smaller parts, in order.

    Parameters
    ----------
    group : T
        What is attempted first.
    attempt : callable
        Tells what is to be attempted in its place: mostly `halve`, and nothing where it succeeded, or where
        what is at fault stands alone.
    """
    waiting = [group]
    while waiting:
        waiting += reversed(await attempt(waiting.pop()))


def halve(items: Sequence[T]) -> list[Sequence[T]]:
    """Return the halves of several items, nothing of a single one."""
    middle = len(items) // 2
    return [items[:middle], items[middle:]] if middle else []
