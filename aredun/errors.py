"""The errors that aredun raises on purpose; each message is one line that says what would be right."""

from __future__ import annotations


def describe_os_error(error: OSError) -> str:
    """Return what the system refused as text for people.

    Parameters
    ----------
    error : OSError
        What the system raised.

    Returns
    -------
    str
        `data.json: No such file or directory`; without the path where the error has none.
    """
    if error.strerror is None:
        return str(error)
    return error.strerror if error.filename is None else f"{error.filename}: {error.strerror}"


class AredunError(Exception):
    """Base of every error that aredun raises on purpose."""


class RedunDatabaseError(AredunError):
    """The database cannot be used as asked (mirrors redun's `RedunDatabaseError`)."""


class DatabaseMovedError(RedunDatabaseError):
    """The file of the database was replaced or removed while it was open."""


class RedunVersionError(RedunDatabaseError):
    """The database is too new, too old without automigration, or not redun's.

    Mirrors redun's `RedunVersionError`.
    """


class InvalidValueError(AredunError):
    """A value cannot be stored, or its stored bytes cannot be read back.

    Mirrors redun's `InvalidValueError`.
    """


class UnknownTypeError(AredunError):
    """A type name names nothing that is registered or importable (mirrors redun's `TypeError`)."""


class InvalidRecordError(RedunDatabaseError):
    """A record is malformed, forged or damaged; the message names the record."""


class UsageError(AredunError, ValueError):
    """A bad argument, id, path or option; the command prints the message alone and exits with 2.

    It is a `ValueError` too, which is what redun raises for most of these.
    """


class UnknownIdError(UsageError):
    """An id, a name or a path fits no record."""


class AmbiguousIdError(UsageError):
    """An id or a name fits several records."""


class ExecutorError(AredunError):
    """A call of a task was lost where it ran: its worker has died, or cannot be reached."""
