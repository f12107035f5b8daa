"""What the commands share: one-line messages, the consoles, and opening the repository."""

from __future__ import annotations

import asyncio
import os
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from rich.console import Console

from aredun.cli.levels import quiet_retries
from aredun.errors import UsageError
from aredun.formats.describe import describe_error

if TYPE_CHECKING:
    import argparse
    from collections.abc import AsyncIterator
    from contextlib import AbstractAsyncContextManager

    from aredun.backend import RedunBackendDb
    from aredun.config import BackendConfig, RedunIni

# Tables that are piped to a file or another program are not cut to the width of a terminal.
PIPED_WIDTH = 1000


def one_line(message: object) -> str:
    """Return the text of an error or message on a single line."""
    text = describe_error(message).partition(": ")[2] if isinstance(message, Exception) else str(message)
    return " ".join(text.split()) or type(message).__name__


class PipeConsole(Console):
    """A console that tells when its reader is gone, where rich would end the program with exit code 1."""

    def on_broken_pipe(self) -> None:
        """Raise `BrokenPipeError`."""
        raise BrokenPipeError


def make_console(**settings: Any) -> Console:
    """Return a console, on stdout unless the settings say otherwise, that prints text as it is.

    Markup, emoji codes and highlighting are off: names and values come from a database that anybody may have
    written. Lines are wrapped at a terminal's width only.

    Parameters
    ----------
    **settings : Any
        What rich's own console takes.
    """
    console = PipeConsole(markup=False, emoji=False, highlight=False, **settings)
    if not console.is_terminal:
        console.width = PIPED_WIDTH
    return console


def get_ini(args: argparse.Namespace, *, create: bool = False) -> RedunIni:
    """Return the `redun.ini` that the arguments choose, as redun finds it; an empty one if there is none.

    Parameters
    ----------
    args : argparse.Namespace
        Parsed arguments.
    create : bool
        Whether the command makes the folder of `--config` if it is missing; otherwise that is an error.
    """
    from aredun.config import load_config

    folder = args.config
    if folder is not None and not create and "://" not in folder and not os.path.exists(folder):
        raise UsageError(f"no folder {folder}: --config takes one that has a redun.ini")
    return load_config(folder)


def get_backend_config(args: argparse.Namespace, *, create: bool = False) -> BackendConfig:
    """Return the backend's settings: those of `redun.ini`, with `--db` in place of its URI."""
    return apply_read_only(args, get_ini(args, create=create).backend(args.db))


def apply_read_only(args: argparse.Namespace, config: BackendConfig) -> BackendConfig:
    """Return the settings of a database with what `--read-only` says of it."""
    return replace(config, read_only=True) if args.read_only else config


def refuse_read_only(args: argparse.Namespace) -> None:
    """Raise `UsageError` where a command that always writes is told not to."""
    if args.read_only:
        raise UsageError("this command writes to the database: leave --read-only out")


def open_backend(
    args: argparse.Namespace, *, create: bool = False
) -> AbstractAsyncContextManager[RedunBackendDb]:
    """Open the repository that the arguments choose; closed at the end.

    Parameters
    ----------
    args : argparse.Namespace
        Parsed arguments.
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
    if not create:
        return open_repository(get_backend_config(args))
    refuse_read_only(args)
    config = get_backend_config(args, create=True)
    return open_repository(config, migrate=choose_migration(config))


def choose_migration(config: BackendConfig) -> bool | None:
    """Return what `load` takes: a local database is migrated, another's server if the settings say so."""
    return True if config.url is not None and config.url.is_file else None


@asynccontextmanager
async def open_repository(
    config: BackendConfig, *, migrate: bool | None = False
) -> AsyncIterator[RedunBackendDb]:
    """Open the repository of some settings; closed at the end.

    Parameters
    ----------
    config : BackendConfig
        The settings.
    migrate : bool | None
        As `RedunBackendDb.load` has it. With False the database has to be there.
    """
    async with connect(config, create=migrate is not False) as backend:
        with quiet_retries():
            await backend.load(migrate=migrate)
        yield backend


@asynccontextmanager
async def connect(config: BackendConfig, *, create: bool = False) -> AsyncIterator[RedunBackendDb]:
    """Give a backend of whatever schema version, which is not loaded; closed at the end.

    Parameters
    ----------
    config : BackendConfig
        The settings.
    create : bool
        Whether a file may be missing. Otherwise that is an error, before a driver creates it.
    """
    from aredun.backend import RedunBackendDb
    from aredun.config import resolve_secret

    path = config.url.file_path if config.url is not None else None
    if not create and path is not None and not path.exists():
        raise UsageError(f"no database at {path}: 'aredun run' makes one, '--db URI' names another")
    if config.db_aws_secret_name:
        config = await asyncio.to_thread(resolve_secret, config)
    backend = RedunBackendDb(config=config)
    backend.create_engine()
    try:
        yield backend
    finally:
        await backend.close()
