"""The arguments of `aredun tag list|add|update|rm`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aredun.cli.common import CommandParser
from aredun.cli.parsers.log import add_format_options

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from aredun.cli.common import Commands


class TagParser(CommandParser):
    """A parser that hands on what comes after `--`, which stands between ids and keys."""

    def parse_known_args(  # type: ignore[override]  # argparse has overloads that differ by the namespace only
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[Any, list[str]]:
        """Split the arguments at the first `--`, which argparse would drop."""
        given = list(args or ())
        position = given.index("--") if "--" in given else len(given)
        parsed, rest = super().parse_known_args(given[:position], namespace)
        if "--" in given:
            parsed.keys = given[position + 1 :]
        return parsed, rest


def add_parser(subparsers: Commands) -> None:
    """Add `tag` and its commands to the parser."""
    description = "Show and change the tags of executions, jobs, call nodes, tasks and values."
    commands = subparsers.add_parser(
        "tag", help="show and change tags", description=description
    ).add_subparsers(title="commands", metavar="COMMAND", required=True, parser_class=TagParser)
    show = commands.add_parser("list", help="list tags, or the records that have them")
    show.add_argument(
        "tags", nargs="*", default=[], metavar="KEY[=VALUE]", help="show the records with all of these tags"
    )
    show.add_argument(
        "--values", action="store_true", help="list values too; KEY[=VALUE] chooses among the tags"
    )
    add_format_options(show, "an object")
    show.add_argument("--no-pager", action="store_true", help="write to the terminal directly")
    show.set_defaults(run="aredun.cli.tag:run_list")
    for name, runner, text in (
        ("add", "run_add", "add tags to records, beside those that they have"),
        ("update", "run_update", "set tags of records, in place of those with the same keys"),
    ):
        command = commands.add_parser(name, help=text, description=f"{text.capitalize()}.")
        command.add_argument("items", nargs="+", metavar="ID ... KEY=VALUE", help="records, then tags")
        command.set_defaults(run=f"aredun.cli.tag:{runner}")
    remove = commands.add_parser(
        "rm",
        help="delete tags from records",
        description="Delete tags from records: KEY=VALUE one tag, KEY alone (after --) all tags of that key.",
    )
    remove.add_argument("items", nargs="+", metavar="ID ... [--] KEY[=VALUE]", help="records, then tags")
    remove.set_defaults(run="aredun.cli.tag:run_remove", keys=[])
