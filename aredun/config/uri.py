"""Database URIs as redun writes them, taken apart for the asyncio drivers."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, quote, unquote, urlencode

from aredun.errors import RedunDatabaseError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

DRIVERS = {
    "sqlite": "sqlite+aiosqlite",
    "sqlite+aiosqlite": "sqlite+aiosqlite",
    "sqlite+pysqlite": "sqlite+aiosqlite",
    "postgresql": "postgresql+asyncpg",
    "postgresql+asyncpg": "postgresql+asyncpg",
    "postgresql+psycopg2": "postgresql+asyncpg",
    "postgresql+psycopg": "postgresql+asyncpg",
}
_RIGHT_URI = "give sqlite:///relative/path.db, sqlite:////absolute/path.db or postgresql://host/database"
_RIGHT_FILE_OPTIONS = "give mode=ro or timeout=SECONDS, and write a question mark in a file's name as %3F"
# Options of sqlite's own for a file; then those that SQLAlchemy reads for redun, and nothing here does.
_FILE_OPTIONS = {
    "mode": {"ro", "rw", "rwc", "memory"},
    "immutable": {"0", "1"},
    "nolock": {"0", "1"},
    "psow": {"0", "1"},
    "cache": {"shared", "private"},
}
_IGNORED_FILE_OPTIONS = {"uri", "check_same_thread", "cached_statements"}
# Characters that a URI has to quote; Python reads bytes that are no UTF-8 as half characters.
_QUOTED = re.compile("[%?\x00-\x1f\x7f\udc80-\udcff]")
SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")

# SQLAlchemy itself understands these two in the query of a PostgreSQL URL (unix sockets, several hosts).
_URL_OPTIONS = {"host", "port"}
# libpq's options that asyncpg reads from a DSN only.
_DSN_OPTIONS = {
    "passfile",
    "service",
    "sslcert",
    "sslkey",
    "sslrootcert",
    "sslcrl",
    "sslnegotiation",
    "ssl_min_protocol_version",
    "ssl_max_protocol_version",
    "krbsrvname",
    "gsslib",
}
_SERVER_SETTINGS = {"application_name", "options", "search_path", "timezone", "client_encoding"}
# What is told to the kernel, for a connection's socket.
_KEEPALIVES = {"keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count", "tcp_user_timeout"}
_NUMBERS: dict[str, type[int] | type[float]] = {
    "prepared_statement_cache_size": int,
    "statement_cache_size": int,
    "command_timeout": float,
    "timeout": float,
    "connect_timeout": float,
    **dict.fromkeys(_KEEPALIVES, int),
}
# What asyncpg has no equivalent for and what does not change the meaning of a connection.
_IGNORED = {"channel_binding", "gssencmode", "fallback_application_name"}


@dataclass(frozen=True)
class DatabaseUrl:
    """
    A database URI in parts, for the asyncio driver; `sqlalchemy.URL.create(**url.parts())` takes it.

    Attributes
    ----------
    drivername : str
        One of the values of `DRIVERS`.
    username, password, host, database : str | None
        Without quoting. The password never shows in the repr.
    port : int | None
    query : Mapping[str, str | tuple[str, ...]]
        What SQLAlchemy or the driver reads from the query of a URL.
    connect_args : Mapping[str, Any]
        Keyword arguments for the driver's `connect`, translated from the rest of the query.
    keepalives : Mapping[str, int]
        libpq's options for the watching of a connection's socket, as far as the query has them.
    """

    drivername: str
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    host: str | None = None
    port: int | None = None
    database: str | None = None
    query: Mapping[str, str | tuple[str, ...]] = field(default_factory=dict)
    connect_args: Mapping[str, Any] = field(default_factory=dict, repr=False)
    keepalives: Mapping[str, int] = field(default_factory=dict)

    @property
    def dialect_name(self) -> str:
        """The scheme without the driver."""
        return self.drivername.partition("+")[0]

    @property
    def is_file(self) -> bool:
        """True if the database is a file, or lives in this process's memory."""
        return self.dialect_name == "sqlite"

    @property
    def is_memory(self) -> bool:
        """True if the database lives in memory and goes with its connection."""
        if not self.is_file:
            return False
        return self.database in (None, ":memory:") or self.query.get("mode") == "memory"

    @property
    def is_read_only(self) -> bool:
        """True if the URI says that the file is only to be read."""
        return self.is_file and (self.query.get("mode") == "ro" or self.query.get("immutable") == "1")

    @property
    def file_path(self) -> Path | None:
        """The file of the database; None for a server, and for a database in memory."""
        if not self.is_file or self.is_memory or not self.database:
            return None
        return Path(self.database)

    def parts(self) -> dict[str, Any]:
        """Return the arguments for `sqlalchemy.URL.create`, the password included."""
        names = ("drivername", "username", "password", "host", "port", "database", "query")
        return {name: getattr(self, name) for name in names}


def parse_db_uri(db_uri: str, *, username: str | None = None, password: str | None = None) -> DatabaseUrl:
    """
    Turn a URI as redun writes it into a URL of the asyncio driver.

    Mirrors redun's `RedunBackendDb._get_credentialed_uri`.

    Parameters
    ----------
    db_uri : str
        `sqlite:///path`, `sqlite:///:memory:` or `postgresql://[user@]host[:port]/database[?options]`; the
        scheme may name one of the drivers of `DRIVERS`.
    username : str, optional
        Replaces the URI's user, as redun's environment variable does. Not used on sqlite.
    password : str, optional
        Used where there is a user.

    Returns
    -------
    DatabaseUrl

    Raises
    ------
    UsageError
        If the URI is malformed or of a kind that is not supported. The message never shows a password.
    RedunDatabaseError
        If the URI holds a password.
    """
    given = _split(db_uri)
    if given.password or not given.query.keys().isdisjoint({"password", "sslpassword"}):
        raise RedunDatabaseError(
            "a database URI must not hold a password: put it into an environment variable "
            "(REDUN_DB_USERNAME and REDUN_DB_PASSWORD by default)"
        )
    if given.is_file:
        if given.host or given.username:
            raise UsageError(f"{mask_db_uri(db_uri)!r} names a host, which a file has not: {_RIGHT_URI}")
        return _with_file_options(given, db_uri)
    return _with_server_options(given, username, password)


def quote_path(path: str | os.PathLike[str]) -> str:
    """Quote a path for a database URI; what needs no quoting stays readable."""
    return _QUOTED.sub(lambda found: quote(os.fsencode(found[0]), safe=""), os.fspath(path))


def make_file_uri(path: str | os.PathLike[str]) -> str:
    """Return the URI of a sqlite file, whatever characters its path has."""
    return f"sqlite:///{quote_path(path)}"


def mask_db_uri(db_uri: str) -> str:
    """Replace the password of a URI, well-formed or not, by three stars (it may reach up to the last `@`)."""
    masked = re.sub(r"(://[^:/@]*):.*@", r"\1:***@", db_uri)
    return re.sub(r"([?&](?:ssl)?password=)[^&]*", r"\1***", masked)


def get_sync_uri(db_uri: str) -> str:
    """Return a URI with the driver that redun needs in place of any other.

    Parameters
    ----------
    db_uri : str
        With or without a driver in its scheme.

    Returns
    -------
    str
        For a file without a driver. For PostgreSQL with psycopg2, or psycopg where that is what is installed:
        SQLAlchemy 2.1 takes psycopg for a scheme that names none. Any other URI as it is.
    """
    if re.match(r"sqlite(\+\w+)?:", db_uri):
        return re.sub(r"^[^:]+:", "sqlite:", db_uri)
    if re.match(r"postgres(ql)?(\+asyncpg)?:", db_uri):
        driver = "psycopg2" if find_spec("psycopg2") else "psycopg"
        return re.sub(r"^[^:]+:", f"postgresql+{driver}:", db_uri)
    return db_uri


def _split(db_uri: str) -> DatabaseUrl:
    """Take a URI apart, undoing the quoting."""
    scheme, separator, rest = db_uri.partition("://")
    if not separator:
        raise UsageError(f"{mask_db_uri(db_uri)!r} is not a database URI: {_RIGHT_URI}")
    if scheme not in DRIVERS:
        raise UsageError(f"{mask_db_uri(db_uri)!r} has an unsupported scheme: {_RIGHT_URI}")
    before_query, _, query = rest.partition("?")
    authority, _, database = before_query.partition("/")
    user_info, _, address = authority.rpartition("@")
    username, _, password = user_info.partition(":")
    address_match = re.fullmatch(r"(\[[^\]]*\]|[^:\[\]]*)(?::(\d*))?", address)
    if not address_match:
        raise UsageError(f"{mask_db_uri(db_uri)!r} has no valid host and port: {_RIGHT_URI}")
    host, port = address_match.groups()
    return DatabaseUrl(
        DRIVERS[scheme],
        unquote(username) or None,
        unquote(password) or None,
        host.strip("[]") or None,
        int(port) if port else None,
        unquote(database, errors="surrogateescape") or None,
        _parse_query(query),
    )


def _parse_query(query: str) -> dict[str, str | tuple[str, ...]]:
    """Parse a query string; a name that is repeated gets all its values."""
    return {
        name: values[0] if len(values) == 1 else tuple(values)
        for name, values in parse_qs(query, keep_blank_values=True).items()
    }


def _with_file_options(url: DatabaseUrl, db_uri: str) -> DatabaseUrl:
    """Turn a `file:` URI into its path, and check the options: one that is dropped would go unnoticed."""
    database = url.database
    if database is not None and database.startswith("file:"):
        path = re.sub(r"^//(localhost)?(?=/)", "", database.removeprefix("file:"))
        database = unquote(path, errors="surrogateescape")
    query: dict[str, str | tuple[str, ...]] = {}
    connect_args: dict[str, Any] = {}
    for name in url.query:
        value = _last(url.query, name)
        if name == "timeout":
            connect_args[name] = _number(name, value)
        elif name == "vfs" or value in _FILE_OPTIONS.get(name, ()):
            query[name] = value
        elif name not in _IGNORED_FILE_OPTIONS:
            raise UsageError(f"option {name}={value!r} of {db_uri!r} is not known: {_RIGHT_FILE_OPTIONS}")
    if "?" in db_uri and not url.query:
        raise UsageError(f"{db_uri!r} has no options after its question mark: {_RIGHT_FILE_OPTIONS}")
    return replace(url, database=database, query=query, connect_args=connect_args)


def _with_server_options(url: DatabaseUrl, username: str | None, password: str | None) -> DatabaseUrl:
    """Move credentials and libpq's options to where asyncpg takes them from."""
    user = username or url.username or _last(url.query, "user")
    options = {name: _last(url.query, name) for name in url.query}
    for name in ("user", "dbname", *_URL_OPTIONS):
        options.pop(name, None)
    keepalives = {name: int(_number(name, options.pop(name))) for name in _KEEPALIVES & options.keys()}
    return replace(
        url,
        keepalives=keepalives,
        username=user or None,
        password=password if user else None,
        database=url.database or _last(url.query, "dbname") or None,
        query={name: value for name, value in url.query.items() if name in _URL_OPTIONS},
        connect_args=_connect_args(options),
    )


def _connect_args(options: dict[str, str]) -> dict[str, Any]:
    """Translate libpq's connection options into arguments of `asyncpg.connect`."""
    arguments: dict[str, Any] = {}
    dsn_options: dict[str, str] = {}
    server_settings: dict[str, str] = {}
    for name, value in options.items():
        if name in {"sslmode", "ssl"}:
            arguments["ssl"] = _ssl_mode(value)
        elif name == "target_session_attrs":
            arguments[name] = value
        elif name in _NUMBERS:
            arguments["timeout" if name == "connect_timeout" else name] = _number(name, value)
        elif name in _SERVER_SETTINGS:
            server_settings[name] = value
        elif name in _DSN_OPTIONS:
            dsn_options[name] = value
        elif name not in _IGNORED or (name, value) == ("channel_binding", "require"):
            raise UsageError(f"option {name}={value!r} of the database URI is not supported: leave it out")
    if server_settings:
        arguments["server_settings"] = server_settings
    if dsn_options:
        # asyncpg merges a DSN with the arguments beside it, and reads certificates from a DSN only.
        arguments["dsn"] = f"postgresql://?{urlencode(dsn_options)}"
    return arguments


def _ssl_mode(value: str) -> str:
    mode = {"true": "require", "false": "disable"}.get(value.lower(), value)
    if mode not in SSL_MODES:
        raise UsageError(
            f"option sslmode={value!r} of the database URI is not valid: give one of {', '.join(SSL_MODES)}"
        )
    return mode


def _number(name: str, value: str) -> int | float:
    try:
        return _NUMBERS[name](value)
    except ValueError:
        raise UsageError(f"option {name}={value!r} of the database URI is not valid: give a number") from None


def _last(query: Mapping[str, str | tuple[str, ...]], name: str) -> str:
    """The last value that the query gives for a name, "" for none (libpq: the last one wins)."""
    value = query.get(name, "")
    return value if isinstance(value, str) else value[-1]
