"""`aredun init [DIR]`: make `redun.ini` and the repository (mirrors `redun init`)."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

from aredun.cli.common import choose_migration, connect, refuse_read_only
from aredun.cli.levels import quiet_retries
from aredun.config import load_config, write_default_config
from aredun.config.backend import DEFAULT_CONFIG_DIR
from aredun.config.ini import absolute_db_uri
from aredun.errors import UsageError
from aredun.formats.versions import null_db_version

if TYPE_CHECKING:
    import argparse

    from rich.console import Console

    from aredun.config import BackendConfig


async def run(args: argparse.Namespace, console: Console) -> None:
    """Make what is missing, and tell of each part whether it was made; the database first, as it may fail."""
    refuse_read_only(args)
    ini = await asyncio.to_thread(load_config, _choose_folder(args))
    if "://" in ini.config_dir:
        raise UsageError(f"cannot make {ini.path}: give a local folder")
    uri = args.db
    config = ini.backend(uri)
    is_there = await asyncio.to_thread(os.path.exists, ini.path)
    if uri and is_there and config.url != ini.backend().url:
        raise UsageError(f"{ini.path} names another database: change its db_uri, or leave --db out")
    done = await _make_repository(config)
    # In the file `$` begins the name of a variable, and a path is relative to the file.
    written = absolute_db_uri(uri, os.getcwd()).replace("$", "$$") if uri else None
    is_new = await asyncio.to_thread(write_default_config, ini.config_dir, written)
    console.print(f"{'made' if is_new else 'found'} {ini.path}", soft_wrap=True)
    console.print(done, soft_wrap=True)


def _choose_folder(args: argparse.Namespace) -> str | None:
    if args.folder is not None and args.config is not None:
        raise UsageError("give DIR or --config, not both")
    return args.config if args.folder is None else os.path.join(args.folder, DEFAULT_CONFIG_DIR)


async def _make_repository(config: BackendConfig) -> str:
    """Make or upgrade the database and return what was done; a server's that has records is left alone."""
    async with connect(config, create=True) as backend:
        with quiet_retries():
            before = await backend.get_db_version()
            is_empty = before == null_db_version
            await backend.load(migrate=True if is_empty else choose_migration(config))
        after = await backend.get_db_version()
        if is_empty:
            return f"made the repository {backend.db_uri}, version {after}"
        if before != after:
            return f"upgraded the repository {backend.db_uri} from version {before} to {after}"
        return f"found the repository {backend.db_uri}, version {after}"
