"""The arguments of `aredun init`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aredun.cli.path_arguments import FolderArgument

if TYPE_CHECKING:
    from aredun.cli.common import Commands


def add_parser(subparsers: Commands) -> None:
    """Add `init` to the parser."""
    parser = subparsers.add_parser(
        "init",
        help="make redun.ini and the repository",
        description="Make a configuration directory with redun.ini, and the database that it names; what is "
        "there already stays as it is. With --db the new redun.ini names that database.",
    )
    parser.add_argument(
        "folder",
        action=FolderArgument,
        nargs="?",
        metavar="DIR",
        help="make DIR/.redun (default: the configuration directory)",
    )
    parser.set_defaults(run="aredun.cli.init:run")
