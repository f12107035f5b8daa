"""`aredun db info|versions|upgrade|downgrade|index`: the schema of a database (mirrors `redun db`)."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from rich.table import Table

from aredun.backend import RedunBackendDb
from aredun.cli.common import connect, get_backend_config, open_backend, refuse_read_only
from aredun.cli.levels import quiet_retries
from aredun.errors import UsageError
from aredun.formats.versions import parse_db_version
from aredun.storage.call_index import has_call_index, set_call_index

if TYPE_CHECKING:
    import argparse
    from collections.abc import AsyncIterator

    from rich.console import Console
    from sqlalchemy.ext.asyncio import AsyncSession


async def run_info(args: argparse.Namespace, console: Console) -> None:
    """Show where the database is, its version, and whether aredun can use it; nothing is changed."""

    async def is_indexed(session: AsyncSession) -> bool:
        return await has_call_index(await session.connection())

    async with _open_any_version(args) as backend:
        version = await backend.get_db_version()
        oldest, newest = backend.get_db_version_required()
        compatible = await backend.is_db_compatible()
        indexed = compatible and await backend.database.read(is_indexed)
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_row("database", str(backend.db_uri))
    table.add_row("version", f"{version} ({version.description})")
    table.add_row("required", f">={oldest},<{newest.major + 1}")
    table.add_row("compatible", "yes" if compatible else "no")
    table.add_row("call index", "yes" if indexed else "no")
    console.print(table)


async def run_versions(args: argparse.Namespace, console: Console) -> None:
    """List all schema versions; needs no database."""
    table = Table("Version", "Migration", "Description", box=None, pad_edge=False)
    for version in RedunBackendDb.get_all_db_versions():
        table.add_row(str(version), version.migration_id, version.description)
    console.print(table)


async def run_index(args: argparse.Namespace, console: Console) -> None:
    """Make or drop the index of calls by their arguments."""
    refuse_read_only(args)
    wanted = not args.drop
    async with open_backend(args) as backend:
        changed = await backend.database.migrate(lambda connection: set_call_index(connection, wanted))
    state = ("made" if wanted else "dropped") if changed else ("there already" if wanted else "not there")
    console.print(f"The call index is {state}.")


async def run_migrate(args: argparse.Namespace, console: Console) -> None:
    """Migrate to a newer version or an older one; an empty database gets the whole schema."""
    try:
        desired = parse_db_version(args.version)
    except ValueError as error:
        raise UsageError(f"invalid version {args.version!r}: give one such as 3.5, or 'latest'") from error
    async with _open_any_version(args) as backend:
        version = await backend.get_db_version()
        if desired == version:
            console.print(f"The database is at {version}: nothing to do.")
            return
        verb = "upgrade" if desired > version else "downgrade"
        if args.verb != verb:
            raise UsageError(f"the database is at {version}: use 'aredun db {verb} {desired}' to get there")
        await backend.migrate(desired)
        console.print(f"The database went from {version} to {await backend.get_db_version()}.")


@asynccontextmanager
async def _open_any_version(args: argparse.Namespace) -> AsyncIterator[RedunBackendDb]:
    """Connect without demanding the schema version that aredun works with."""
    with quiet_retries():
        async with connect(get_backend_config(args)) as backend:
            yield backend
