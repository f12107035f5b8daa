"""The settings of a backend: redun's `[backend]` section, as redun reads it, plus aredun's own options."""

from __future__ import annotations

import math
import os
import re
import sys
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from aredun.config.uri import mask_db_uri, parse_db_uri
from aredun.errors import RedunDatabaseError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from aredun.config.uri import DatabaseUrl

DEFAULT_DB_URI = "sqlite:///.redun/redun.db"
DEFAULT_CONFIG_DIR = ".redun"
_CHOICES = {
    "journal_mode": ("auto", "keep", "wal", "delete", "truncate", "persist"),
    "synchronous": ("auto", "normal", "full", "extra"),
}
_MINIMUMS = {"pool_size": 1, "queue_rows": 1, "queue_bytes": 1}
# Settings that are more than an option as its default says.
_NOT_PLAIN = {"db_uri", "url", "automigrate", "value_store_path", "config_dir", "echo"}

# redun compares `sys.getsizeof(data)` with `value_store_min_size`: the object header counts.
_BYTES_HEADER = sys.getsizeof(b"")

Number = TypeVar("Number", int, float)


class SectionLike(Protocol):
    """What a `[backend]` section must offer: a dict, a configparser section and redun's `Config` all do."""

    def get(self, key: str, default: Any = None, /) -> Any: ...


@dataclass(frozen=True)
class BackendConfig:
    """
    The settings of one backend (mirrors what redun's `RedunBackendDb.__init__` reads from `[backend]`).

    Build it with `BackendConfig.parse`. Times are in seconds, sizes in bytes.

    Attributes
    ----------
    db_uri : str
        The URI as it was given, or the default. It never holds a password.
    url : DatabaseUrl | None
        The parts of the URI for the asyncio driver, credentials included; its repr hides the password. None
        while an AWS secret has still to be fetched (see `resolve_secret`).
    db_username_env, db_password_env : str
        Names of the environment variables that hold the credentials.
    db_aws_secret_name : str
        Name of an AWS Secrets Manager secret that replaces the URI; "" for none.
    automigrate : bool
        Upgrade the schema on load (default: True on sqlite, False elsewhere).
    value_store_path : str | None
        Where large values are stored, made absolute; None keeps all values in the database.
    value_store_min_size : int
        Values of this many bytes or more, counted as redun does, go to the value store (see `stores_value`).
    max_value_size : int
        Larger values are refused.
    db_retries : int
        How often a failed transaction is tried again.
    db_retries_backoff, db_retries_backoff_max : float
        The n-th retry waits `db_retries_backoff * 2 ** n`, at most `db_retries_backoff_max`.
    config_dir : str
        The folder that relative paths are relative to.
    pool_size : int
        Connections held open for reading (PostgreSQL: for reading and writing).
    pool_timeout : float
        How long a caller waits for a free connection.
    pool_recycle : float
        Age at which a PostgreSQL connection is replaced; 0 for never.
    busy_timeout : float
        How long sqlite waits for another process's lock.
    statement_timeout : float
        Longest run time of one statement on PostgreSQL; 0 for no limit.
    connect_timeout : float
        Longest time to open a connection.
    ping_after, ping_timeout : float
        A PostgreSQL connection that has been idle for longer than the first is asked whether it lives before
        it is used, and replaced if no answer comes within the second (0 for no bound);
        0 as the first for never.
    close_timeout : float
        Longest time that `close` waits for what is queued, before it ends the connections; 0 for no bound.
    prepared_statements : bool
        False switches the statement caches off, as pgbouncer in transaction mode needs.
    queue_rows, queue_bytes : int
        Bounds of the write queue; a caller that would exceed them waits.
    retry_deadline : float
        No retry starts later than this after the first attempt.
    abandoned_after : float
        A run that has been silent for longer shows as ABANDONED.
    journal_mode : str
        sqlite's journal mode: "auto" (WAL for a file that aredun creates, else as found), "keep" or a mode.
    synchronous : str
        sqlite's `synchronous`: "auto" ("normal" with WAL, else sqlite's own default) or a mode.
    read_only : bool
        Refuse whatever would write; `mode=ro` in a sqlite URI says the same.
    echo : bool
        Log every statement (environment variable `REDUN_DB_ECHO`).
    """

    db_uri: str = DEFAULT_DB_URI
    url: DatabaseUrl | None = None
    db_username_env: str = "REDUN_DB_USERNAME"
    db_password_env: str = "REDUN_DB_PASSWORD"
    db_aws_secret_name: str = ""
    automigrate: bool = True
    value_store_path: str | None = None
    value_store_min_size: int = 1024
    max_value_size: int = 1_000_000_000
    db_retries: int = 3
    db_retries_backoff: float = 1.0
    db_retries_backoff_max: float = 60.0
    config_dir: str = DEFAULT_CONFIG_DIR
    pool_size: int = 5
    pool_timeout: float = 30.0
    pool_recycle: float = 0.0
    busy_timeout: float = 30.0
    statement_timeout: float = 0.0
    connect_timeout: float = 30.0
    ping_after: float = 30.0
    ping_timeout: float = 2.0
    close_timeout: float = 60.0
    prepared_statements: bool = True
    queue_rows: int = 50_000
    queue_bytes: int = 64 * 1024 * 1024
    retry_deadline: float = 300.0
    abandoned_after: float = 600.0
    journal_mode: str = "auto"
    synchronous: str = "auto"
    read_only: bool = False
    echo: bool = False

    @classmethod
    def parse(
        cls,
        section: SectionLike | BackendConfig | None = None,
        db_uri: str | None = None,
        *,
        environ: Mapping[str, str] | None = None,
    ) -> BackendConfig:
        """
        Read a `[backend]` section (mirrors redun's `RedunBackendDb.__init__` and `_get_uri`).

        Parameters
        ----------
        section : mapping of strings, optional
            A dict, a configparser section or redun's `Config`. Missing options get redun's defaults; options
            that nobody knows are ignored, as redun ignores them. A `BackendConfig` is handed back, with the
            database of `db_uri` if that is given.
        db_uri : str, optional
            Takes precedence over the section's `db_uri`, but not over `db_aws_secret_name` (redun's order).
        environ : mapping, optional
            Environment to take credentials from (default: `os.environ`).

        Returns
        -------
        BackendConfig

        Raises
        ------
        UsageError
            If an option has a value that it cannot have, or the URI is malformed.
        RedunDatabaseError
            If the URI holds a password.
        """
        environ = os.environ if environ is None else environ
        if isinstance(section, BackendConfig):
            return section._with_db_uri(db_uri, environ) if db_uri else section
        if section is not None and not hasattr(section, "get"):
            raise UsageError(
                f"config must be a mapping of option names to strings, not {type(section).__name__}"
            )
        options = _Options({} if section is None else section)
        config_dir = options.text("config_dir", os.path.join(os.getcwd(), DEFAULT_CONFIG_DIR))
        root_dir = config_dir if "://" in config_dir else str(Path(config_dir).absolute())
        value_store_path = options.text("value_store_path", "")
        uri = str(db_uri or options.text("db_uri", DEFAULT_DB_URI))
        plain = {
            field.name: options.read(field.name) for field in fields(cls) if field.name not in _NOT_PLAIN
        }
        secret_name = plain["db_aws_secret_name"]
        config = cls(
            db_uri=DEFAULT_DB_URI if secret_name else uri,
            automigrate=options.flag("automigrate", uri.startswith("sqlite") and not secret_name),
            value_store_path=get_abs_path(root_dir, value_store_path) if value_store_path else None,
            config_dir=config_dir,
            echo=bool(environ.get("REDUN_DB_ECHO")),
            **plain,
        )
        return config if secret_name else config._with_db_uri(uri, environ)

    def _with_db_uri(self, db_uri: str, environ: Mapping[str, str]) -> BackendConfig:
        username, password = environ.get(self.db_username_env), environ.get(self.db_password_env)
        url = parse_db_uri(db_uri, username=username, password=password)
        waits = url.connect_args.get("timeout", self.busy_timeout) if url.is_file else self.busy_timeout
        read_only = self.read_only or url.is_read_only
        return replace(
            self, db_uri=db_uri, db_aws_secret_name="", url=url, busy_timeout=waits, read_only=read_only
        )

    def get_url(self) -> DatabaseUrl:
        """Return the parts of the URI; raises RedunDatabaseError while a secret has still to be fetched."""
        if self.url is None:
            raise RedunDatabaseError(f"{self.display_uri} has not been fetched: load the backend first")
        return self.url

    @property
    def display_uri(self) -> str:
        """The URI to show to people: as it was given, without the driver; it never shows a password."""
        if self.db_aws_secret_name:
            return f"AWS secret {self.db_aws_secret_name}"
        return re.sub(r"^(\w+)\+\w+:", r"\1:", mask_db_uri(self.db_uri))

    def stores_value(self, size: int) -> bool:
        """
        Tell whether a value belongs in the value store (redun's rule: the header of a bytes object counts).

        Parameters
        ----------
        size : int
            Length of the serialized value in bytes.

        Returns
        -------
        bool
            False whenever there is no value store.
        """
        return self.value_store_path is not None and size + _BYTES_HEADER >= self.value_store_min_size

    def retry_delay(self, attempt: int) -> float:
        """
        Give the longest wait before a retry, in seconds (the caller adds jitter below it).

        Parameters
        ----------
        attempt : int
            1 for the first retry.

        Returns
        -------
        float
            `db_retries_backoff * 2 ** attempt`, at most `db_retries_backoff_max`.
        """
        return min(self.db_retries_backoff * 2.0 ** min(attempt, 64), self.db_retries_backoff_max)


@dataclass(frozen=True)
class _Options:
    """Reads typed options out of a section."""

    section: SectionLike

    def text(self, name: str, default: str) -> str:
        value = self.section.get(name, None)
        return default if value is None or value == "" else str(value).strip()

    def flag(self, name: str, default: bool) -> bool:
        text = self.text(name, str(default)).lower()
        if text not in {"true", "false"}:
            raise _bad_value(name, text, "true or false")
        return text == "true"

    def read(self, name: str) -> Any:
        """Read an option as the type of its default says."""
        default = getattr(BackendConfig, name)
        if name in _CHOICES:
            return self._choice(name, default)
        if isinstance(default, str):
            return self.text(name, default)
        if isinstance(default, bool):
            return self.flag(name, default)
        if isinstance(default, int):
            return self._number(name, default, int, "a whole number")
        return self._number(name, default, float, "a number of seconds")

    def _choice(self, name: str, default: str) -> str:
        text = self.text(name, default).lower()
        if text not in _CHOICES[name]:
            raise _bad_value(name, text, f"one of {', '.join(_CHOICES[name])}")
        return text

    def _number(self, name: str, default: Number, convert: Callable[[str], Number], kind: str) -> Number:
        text = self.text(name, str(default))
        minimum = _MINIMUMS.get(name, 0)
        expected = f"{kind}, {minimum} or more"
        try:
            number = convert(text)
        except ValueError:
            raise _bad_value(name, text, expected) from None
        if not (number >= minimum and math.isfinite(number)):
            raise _bad_value(name, text, expected)
        return number


def _bad_value(name: str, value: str, expected: str) -> UsageError:
    return UsageError(f"[backend] {name} = {value!r} is not valid: give {expected}")


def get_abs_path(root_dir: str, path: str) -> str:
    """Return a local path below a folder, if it is relative (mirrors redun's `get_abs_path`).

    Parameters
    ----------
    root_dir : str
        The folder.
    path : str
        A path or a URL; URLs and absolute paths stay as they are.

    Returns
    -------
    str
        The path, joined to the folder if it is relative.
    """
    return path if "://" in path or os.path.isabs(path) else os.path.join(root_dir, path)
