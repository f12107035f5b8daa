"""`.redun/redun.ini`: found, read and interpolated as redun does it."""

from __future__ import annotations

import os
import re
from configparser import ConfigParser, Error, ExtendedInterpolation
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from aredun.config.backend import DEFAULT_CONFIG_DIR, DEFAULT_DB_URI, BackendConfig
from aredun.config.uri import parse_db_uri, quote_path
from aredun.errors import UsageError

CONFIG_DIR_ENV = "REDUN_CONFIG"
INI_FILE = "redun.ini"
# The default of an ini file is relative to its folder; older files have the other one.
DEFAULT_INI_DB_URI = "sqlite:///redun.db"

_INI_TEMPLATE = """\
# Configuration of redun and aredun.

[backend]
db_uri = {db_uri}

[executors.default]
type = local
max_workers = 20
"""


class _EnvironmentInterpolation(ExtendedInterpolation):
    """`${NAME}` means the environment variable if there is one, else the option of the section."""

    # configparser calls this hook with its own, loosely typed, mappings.
    def before_get(self, parser: Any, section: str, option: str, value: str, defaults: Any) -> str:
        return super().before_get(parser, section, option, value, {**defaults, **os.environ})


class _CaseSensitiveParser(ConfigParser):
    def optionxform(self, optionstr: str) -> str:
        return optionstr


@dataclass(frozen=True)
class RedunIni:
    """
    The contents of one `redun.ini` (mirrors redun's `Config` after `setup_config`).

    Attributes
    ----------
    config_dir : str
        The folder (or remote location) of the file; relative paths in the file are relative to it.
    parser : ConfigParser
        The sections; option names are case-sensitive and values interpolate environment variables when read.
    """

    config_dir: str
    parser: ConfigParser

    def section(self, name: str) -> dict[str, str]:
        """
        Return a section with all values interpolated.

        Parameters
        ----------
        name : str
            Full name of the section, e.g. `scheduler` or `executors.default`.

        Returns
        -------
        dict[str, str]
            Empty if there is no such section.

        Raises
        ------
        UsageError
            If a value refers to a variable that is nowhere defined.
        """
        if not self.parser.has_section(name):
            return {}
        try:
            return dict(self.parser.items(name))
        except Error as error:
            raise UsageError(f"{self.path}, section [{name}]: {_one_line(error)}") from None

    def subsections(self, name: str) -> dict[str, dict[str, str]]:
        """Return the sections `name.*` by what follows the dot, in the order of the file."""
        prefix = f"{name}."
        return {
            full[len(prefix) :]: self.section(full)
            for full in self.parser.sections()
            if full.startswith(prefix)
        }

    def backend(self, db_uri: str | None = None) -> BackendConfig:
        """
        Return the settings of the repository's database (mirrors redun's `postprocess_config`).

        Parameters
        ----------
        db_uri : str, optional
            Overrides the file's `db_uri`, as `--db` does; a relative path in it is relative to the working
            directory, whereas one in the file is relative to `config_dir`.

        Returns
        -------
        BackendConfig

        Raises
        ------
        UsageError, RedunDatabaseError
            As `BackendConfig.parse`.
        """
        section = self.section("backend")
        uri = section.get("db_uri") or DEFAULT_INI_DB_URI
        if uri == DEFAULT_DB_URI:
            uri = DEFAULT_INI_DB_URI
        section["db_uri"] = absolute_db_uri(uri, self.config_dir)
        section["config_dir"] = self.config_dir
        if db_uri:
            section.pop("db_aws_secret_name", None)
        return BackendConfig.parse(section, db_uri)

    def repository(self, name: str) -> RedunIni:
        """
        Read the configuration of another repository that this one names in `[repos.NAME]`.

        Parameters
        ----------
        name : str
            Name of the repository; `default` is this one.

        Returns
        -------
        RedunIni

        Raises
        ------
        UsageError
            If there is no such repository, or it has no `config_dir`, or no configuration is found there.
        """
        if name == "default":
            return self
        repositories = self.subsections("repos")
        if name not in repositories:
            known = ", ".join(sorted({"default", *repositories}))
            raise UsageError(f"unknown repository {name!r}: {self.path} names {known}")
        config_dir = repositories[name].get("config_dir")
        if not config_dir:
            raise UsageError(f"{self.path}, section [repos.{name}]: config_dir is missing")
        return load_config(config_dir, required=True)

    @property
    def path(self) -> str:
        """Where the file is."""
        return f"{self.config_dir.rstrip('/')}/{INI_FILE}"


def find_config() -> str | None:
    """
    Search the working directory and its parents for `.redun` (mirrors redun's `find_config_dir`).

    Returns
    -------
    str | None
        Path of the nearest `.redun`, None if there is none.
    """
    base = Path.cwd()
    for folder in (base, *base.parents):
        candidate = folder / DEFAULT_CONFIG_DIR
        if candidate.exists():
            return str(candidate)
    return None


def get_config_dir(config_dir: str | os.PathLike[str] | None = None) -> str:
    """
    Decide on the configuration folder (mirrors redun's `get_config_dir`).

    Parameters
    ----------
    config_dir : path, optional
        What the user asked for; it wins.

    Returns
    -------
    str
        The first of: `config_dir`, the environment variable `REDUN_CONFIG`, the nearest `.redun` in the
        working directory or above it, `.redun`. It need not exist.
    """
    if config_dir:
        return os.fspath(config_dir)
    return os.environ.get(CONFIG_DIR_ENV) or find_config() or DEFAULT_CONFIG_DIR


def load_config(config_dir: str | os.PathLike[str] | None = None, *, required: bool = False) -> RedunIni:
    """
    Read `redun.ini` (mirrors redun's `setup_config`). Reads a file: call it in a thread from an event loop.

    Parameters
    ----------
    config_dir : path, optional
        See `get_config_dir`. The path of a `redun.ini` itself will do, and so will a remote location.
    required : bool
        True to refuse a folder without `redun.ini`; otherwise it counts as an empty file.

    Returns
    -------
    RedunIni

    Raises
    ------
    UsageError
        If the file is required and missing, or cannot be read or parsed.
    """
    folder = get_config_dir(config_dir)
    if os.path.basename(folder) == INI_FILE:
        folder = os.path.dirname(folder)
    folder = folder.rstrip("/") or ("/" if folder else ".")
    if "://" not in folder:
        folder = os.path.abspath(folder)
    ini = RedunIni(folder, _CaseSensitiveParser(interpolation=_EnvironmentInterpolation()))
    try:
        with _open_text(ini.path) as file:
            ini.parser.read_string(file.read(), ini.path)
    except FileNotFoundError:
        if required:
            raise UsageError(f"no {INI_FILE} in {folder}: give a folder that has one") from None
    except OSError as error:
        raise UsageError(f"cannot read {ini.path}: {error.strerror or _one_line(error)}") from None
    except (Error, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read {ini.path}: {_one_line(error)}") from None
    return ini


def write_default_config(config_dir: str | os.PathLike[str], db_uri: str | None = None) -> bool:
    """
    Create `redun.ini` with redun's defaults unless it is there (mirrors what redun's `setup_config` does).

    Parameters
    ----------
    config_dir : path
        Local folder, created if needed.
    db_uri : str, optional
        The URI to write (default: `sqlite:///redun.db`, in the same folder).

    Returns
    -------
    bool
        True if the file was created.

    Raises
    ------
    UsageError
        If the URI is malformed.
    RedunDatabaseError
        If the URI holds a password, which must not come into the file.
    """
    if db_uri:
        parse_db_uri(db_uri)
    folder = Path(config_dir)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with (folder / INI_FILE).open("x", encoding="utf-8") as file:
            file.write(_INI_TEMPLATE.format(db_uri=db_uri or DEFAULT_INI_DB_URI))
    except FileExistsError:
        return False
    return True


def absolute_db_uri(db_uri: str, config_dir: str) -> str:
    """
    Make the path of a file database absolute (mirrors redun's `get_abs_db_uri`).

    Parameters
    ----------
    db_uri : str
        Any URI; one that names a host, an absolute path or a database in memory stays as it is.
    config_dir : str
        What a relative path is relative to.

    Returns
    -------
    str
    """
    relative = re.fullmatch(r"(sqlite(?:\+\w+)?):///(?!/)(.+)", db_uri, re.DOTALL)
    if not relative or relative[2].partition("?")[0] == ":memory:" or relative[2].startswith("file:"):
        return db_uri
    scheme, path = relative.groups()
    return f"{scheme}:///{quote_path(os.path.abspath(config_dir))}/{path}"


def quote_config_dir(db_uri: str, config_dir: str) -> str:
    """
    Quote the folder in a URI that redun has made absolute: redun joins the path as it is to the URI's.

    Parameters
    ----------
    db_uri : str
        Any URI, as it is in the `[backend]` section of redun's `Config`.
    config_dir : str
        The folder of the `redun.ini`, which may be relative.

    Returns
    -------
    str
        A URI of a file in that folder, with all characters of its path; any other URI as it is.
    """
    folder = os.path.abspath(config_dir)
    joined = re.match(rf"(sqlite(?:\+\w+)?:///){re.escape(folder)}/", db_uri)
    return f"{joined[1]}{quote_path(folder)}/{db_uri[joined.end() :]}" if joined else db_uri


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _open_text(path: str) -> IO[str]:
    """Open a file by its path or URL: to fsspec some characters of a path are others than to the shell."""
    if "://" not in path:
        return open(path, encoding="utf-8-sig")
    # Whoever has a local folder does not wait for this import, which takes 20 ms.
    import fsspec

    opened: IO[str] = fsspec.open(path, "r", encoding="utf-8-sig").open()
    return opened
