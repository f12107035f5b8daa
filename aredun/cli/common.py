"""What the commands share: the parser's habits, the consoles, and opening the repository."""

from __future__ import annotations

import argparse
import logging
import os
import re
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

from rich.console import Console

from aredun.cli.levels import add_level_options
from aredun.cli.path_arguments import FolderArgument
from aredun.errors import UsageError
from aredun.formats.describe import describe_error
from aredun.formats.spelling import ask_whether, find_near

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Container, Iterator
    from contextlib import AbstractAsyncContextManager

    from aredun.backend import RedunBackendDb
    from aredun.config import BackendConfig, RedunIni

# argparse's message for an unknown command or value.
_INVALID_CHOICE = re.compile(r"invalid choice: '(.*)' \(choose from (.*)\)")
# Tables that are piped to a file or another program are not cut to the width of a terminal.
PIPED_WIDTH = 1000


class Commands(Protocol):
    """What `add_subparsers` returns, whose class argparse keeps to itself."""

    def add_parser(self, name: str, **options: Any) -> argparse.ArgumentParser:
        """Add a command."""


class CommandParser(argparse.ArgumentParser):
    """A parser whose errors are `UsageError` and whose commands all take what `add_common_options` adds.

    These options are accepted before and after the command's name, at every level.
    """

    def __init__(self, *args: Any, common_options: bool = True, **kwargs: Any) -> None:
        kwargs.setdefault("allow_abbrev", False)
        super().__init__(*args, **kwargs)
        if common_options:
            add_common_options(self)

    def error(self, message: str) -> NoReturn:
        """Raise `UsageError`, where argparse would print the usage and exit."""
        text = one_line(message)
        found = _INVALID_CHOICE.search(text)
        near = find_near(found[1], re.findall(r"[\w.-]+", found[2])) if found else []
        hint = f", {ask_whether(near)}" if near else ""
        raise UsageError(f"{text}{hint} (see '{self.prog} --help')")


def add_common_options(parser: argparse.ArgumentParser, taken: Container[str] = ()) -> None:
    """Add `--db URI`, `-c/--config DIR`, `--read-only`, `--log-level` and its short forms.

    Absent ones leave no attribute.

    Parameters
    ----------
    parser : argparse.ArgumentParser
        The parser of a command, or of what follows it.
    taken : Container[str]
        Options that mean something else there, and are left alone.
    """
    options = parser.add_argument_group("repository")

    def add(*names: str, metavar: str, text: str, **settings: Any) -> None:
        if names[-1] not in taken:
            options.add_argument(*names, metavar=metavar, default=argparse.SUPPRESS, help=text, **settings)

    if "--read-only" not in taken:
        options.add_argument(
            "--read-only",
            action="store_true",
            default=argparse.SUPPRESS,
            help="refuse whatever would write to the database",
        )
    add("--db", metavar="URI", text="database to use, instead of redun.ini's")
    add(
        "-c",
        "--config",
        metavar="DIR",
        action=FolderArgument,
        text="configuration directory (default: $REDUN_CONFIG, else .redun here or in a parent directory)",
    )
    add_level_options(parser, taken)


def one_line(message: object) -> str:
    """Return the text of an error or message on a single line."""
    text = describe_error(message).partition(": ")[2] if isinstance(message, Exception) else str(message)
    return " ".join(text.split()) or type(message).__name__


class PipeConsole(Console):
    """A console that tells when its reader is gone, where rich would end the program with exit code 1."""

    def on_broken_pipe(self) -> None:
        """Raise `BrokenPipeError`."""
        raise BrokenPipeError


def make_console(*, stderr: bool = False) -> Console:
    """Return a console on stdout (or stderr) that prints text as it is.

    Markup, emoji codes and highlighting are off: names and values come from a database that anybody may have
    written. Lines are wrapped at a terminal's width only.
    """
    console = PipeConsole(stderr=stderr, markup=False, emoji=False, highlight=False)
    if not console.is_terminal:
        console.width = PIPED_WIDTH
    return console


def get_ini(args: argparse.Namespace, *, create: bool = False) -> RedunIni:
    """Return the `redun.ini` that the arguments choose, as redun finds it; an empty one if there is none.

    Parameters
    ----------
    args : argparse.Namespace
        Parsed arguments, with `config` where given.
    create : bool
        Whether the command makes the folder of `--config` if it is missing; otherwise that is an error.
    """
    from aredun.config import load_config

    folder = getattr(args, "config", None)
    if folder is not None and not create and "://" not in folder and not os.path.exists(folder):
        raise UsageError(f"no folder {folder}: --config takes one that has a redun.ini")
    return load_config(folder)


def get_backend_config(args: argparse.Namespace, *, create: bool = False) -> BackendConfig:
    """Return the backend's settings: those of `redun.ini`, with `--db` in place of its URI.

    Parameters
    ----------
    args : argparse.Namespace
        Parsed arguments, with `db`, `config` and `read_only` where given.
    create : bool
        As for `get_ini`.
    """
    return apply_read_only(args, get_ini(args, create=create).backend(getattr(args, "db", None)))


def apply_read_only(args: argparse.Namespace, config: BackendConfig) -> BackendConfig:
    """Return the settings of a database with what `--read-only` says of it."""
    return replace(config, read_only=True) if getattr(args, "read_only", False) else config


def refuse_read_only(args: argparse.Namespace) -> None:
    """Raise `UsageError` where a command that always writes is told not to."""
    if getattr(args, "read_only", False):
        raise UsageError("this command writes to the database: leave --read-only out")


def require_database(config: BackendConfig) -> None:
    """Raise `UsageError` where the database is a file that is not there, before a driver creates it."""
    path = config.url.file_path if config.url is not None else None
    if path is not None and not path.exists():
        raise UsageError(f"no database at {path}: 'aredun run' makes one, '--db URI' names another")


@contextmanager
def quiet_retries() -> Iterator[None]:
    """Keep warnings of retries off the terminal: a server that cannot be reached is one line, at the end.

    Whoever asked for more than warnings is told of the retries too.
    """
    logger = logging.getLogger("aredun")
    level = logger.level
    if level == logging.NOTSET or level >= logging.WARNING:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def open_backend(
    args: argparse.Namespace, *, create: bool = False
) -> AbstractAsyncContextManager[RedunBackendDb]:
    """Open the repository that the arguments choose; closed at the end.

    Parameters
    ----------
    args : argparse.Namespace
        Parsed arguments, with `db` and `config` where given.
    create : bool
        Make the database if it is missing and migrate a local one, as `redun run` does. Without it nothing
        is ever created or migrated: a missing file is an error.

    Returns
    -------
    AbstractAsyncContextManager[RedunBackendDb]
        Gives the loaded backend.

    Raises
    ------
    UsageError
        There is no database at the place named.
    RedunDatabaseError
        The database cannot be reached, is not redun's, or has another schema version.
    """
    if create:
        refuse_read_only(args)
    config = get_backend_config(args, create=create)
    # Someone else's server is migrated only if the configuration says so.
    is_ours = config.url is not None and config.url.is_file
    return open_repository(config, create=create, migrate=(is_ours or None) if create else False)


@asynccontextmanager
async def open_repository(
    config: BackendConfig, *, create: bool, migrate: bool | None
) -> AsyncIterator[RedunBackendDb]:
    """Open the repository of some settings, migrated as `RedunBackendDb.load` has it; closed at the end."""
    if not create:
        require_database(config)
    async with connect(config) as backend:
        with quiet_retries():
            await backend.load(migrate=migrate)
        yield backend


@asynccontextmanager
async def connect(config: BackendConfig) -> AsyncIterator[RedunBackendDb]:
    """Give a backend of whatever schema version, which is not loaded; closed at the end."""
    from aredun.backend import RedunBackendDb

    backend = RedunBackendDb(config=config)
    backend.create_engine()
    try:
        yield backend
    finally:
        await backend.close()
