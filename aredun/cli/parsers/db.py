"""The arguments of `aredun db info|versions|upgrade|downgrade|index`."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aredun.cli.common import Commands


def add_parser(subparsers: Commands) -> None:
    """Add `db` and its commands to the parser."""
    description = "Show and change the schema of a database."
    commands = subparsers.add_parser(
        "db", help="show and change the schema", description=description
    ).add_subparsers(title="commands", metavar="COMMAND", required=True)
    info = commands.add_parser("info", help="show the database's version and whether aredun can use it")
    info.set_defaults(run="aredun.cli.db:run_info")
    versions = commands.add_parser("versions", help="list all schema versions, oldest first")
    versions.set_defaults(run="aredun.cli.db:run_versions")
    upgrade = commands.add_parser("upgrade", help="bring the database to a newer version")
    upgrade.add_argument("version", nargs="?", default="latest", help="such as 3.5 (default: latest)")
    upgrade.set_defaults(run="aredun.cli.db:run_upgrade")
    downgrade = commands.add_parser("downgrade", help="take the database back to an older version")
    downgrade.add_argument("version", help="such as 2.2; what that version cannot hold is dropped")
    downgrade.set_defaults(run="aredun.cli.db:run_downgrade")
    index = commands.add_parser("index", help="make an index that finds the calls with certain arguments")
    index.add_argument("--drop", action="store_true", help="drop it")
    index.set_defaults(run="aredun.cli.db:run_index")
