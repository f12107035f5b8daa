"""The arguments of `aredun log`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aredun.cli.path_arguments import FileArgument
from aredun.search.arguments import setup_query_parser

if TYPE_CHECKING:
    import argparse

    from aredun.cli.common import Commands


def add_parser(subparsers: Commands) -> None:
    """Add `log` to the parser."""
    parser = subparsers.add_parser(
        "log",
        help="show executions, jobs, call nodes, tasks, values and files",
        description="Show the history of a repository. Without arguments: the executions, newest first.",
        epilog="ID is the beginning of any id, the name of a task, the path of a file, - for the newest "
        "execution, ~2 for the one before it, and so on.",
    )
    parser.add_argument("id", action=FileArgument, nargs="?", metavar="ID", help="show this record in detail")
    add_output_options(parser)
    parser.add_argument("--detail", action="store_true", help="show all records in detail")
    parser.add_argument("--full", action="store_true", help="fold no jobs, cut no dataflow")
    setup_query_parser(parser)
    parser.set_defaults(run="aredun.cli.log:run")


def add_format_options(group: Any, what: str) -> None:
    """Add `--format` and its short form to a parser, or a group of options."""
    group.add_argument(
        "--format", choices=["text", "json"], default="text", help=f"json: {what} on each line"
    )
    group.add_argument(
        "--json", dest="format", action="store_const", const="json", help="short for --format json"
    )


def add_output_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that `log` and other commands which show records have in common."""
    output = parser.add_argument_group("output")
    output.add_argument("--count", action="store_true", help="show how many records there are of each type")
    add_format_options(output, "a record")
    output.add_argument("-n", "--limit", type=int, metavar="N", help="show the first N records only")
    output.add_argument("--no-pager", action="store_true", help="write to the terminal directly")
    output.add_argument(
        "--abandoned-after",
        metavar="SECONDS",
        help="how long a run may be silent before it counts as ABANDONED (default: the setting "
        "'abandoned_after', else 600)",
    )
