"""The arguments of `aredun dataflow`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aredun.cli.path_arguments import FileArgument

if TYPE_CHECKING:
    from aredun.cli.common import Commands


FORMATS = ("text", "json", "mermaid", "dot", "svg")


def add_parser(subparsers: Commands) -> None:
    """Add `dataflow` to the parser."""
    parser = subparsers.add_parser(
        "dataflow",
        help="show what a value came from, or what was derived from it",
        description="Show the dataflow of a value, file, task, job, call or execution.",
    )
    parser.add_argument(
        "id",
        action=FileArgument,
        metavar="ID|PATH",
        help="first characters of an id, a task's name or a file's path",
    )
    parser.add_argument("--format", choices=FORMATS, default="text", help="what to write (default: text)")
    parser.add_argument(
        "--downstream",
        action="store_true",
        help="show what was derived from it: what to redo if it was wrong",
    )
    parser.add_argument(
        "--depth", type=int, metavar="N", help="leave out what is N edges or more away from the start"
    )
    parser.add_argument("--max-edges", type=int, metavar="N", help="end after N edges")
    parser.set_defaults(run="aredun.cli.dataflow:run")
