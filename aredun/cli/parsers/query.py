"""The arguments of `aredun query`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aredun.cli.parsers.log import add_output_options
from aredun.search.arguments import setup_query_parser

if TYPE_CHECKING:
    from aredun.cli.common import Commands


def add_parser(subparsers: Commands) -> None:
    """Add `query` to the parser."""
    parser = subparsers.add_parser(
        "query",
        help="find records of any type",
        description="Find records: those that meet all filters, of every type unless types are chosen.",
        epilog="For programs: --json writes an object per record with its status and times (redun's own "
        "records: 'aredun log --json'); --select id writes bare columns; --page reads page by page.",
    )
    parser.add_argument(
        "id", nargs="?", metavar="ID", help="records whose id begins so, or tasks of that name"
    )
    add_output_options(parser)
    parser.add_argument("--select", metavar="COLUMN,...", help="write these columns only: id, type")
    parser.add_argument(
        "--order-by", choices=["id", "time"], default="time", help="default: time, newest first"
    )
    parser.add_argument(
        "--page",
        nargs="?",
        const="",
        metavar="CURSOR",
        help="write one page of --limit records as a JSON object with the next page's cursor",
    )
    setup_query_parser(parser)
    parser.set_defaults(run="aredun.cli.query:run")
