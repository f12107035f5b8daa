"""The arguments of `aredun export`, `import`, `sync` and `verify`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aredun.cli.path_arguments import FileArgument

if TYPE_CHECKING:
    from aredun.cli.common import Commands


def add_parser(subparsers: Commands) -> None:
    """Add the four commands to the parser."""
    _add_export(subparsers)
    _add_import(subparsers)
    _add_sync(subparsers)
    _add_verify(subparsers)


def _add_export(subparsers: Commands) -> None:
    description = "Write what some records own as JSON lines, for 'aredun import' or 'redun import'."
    parser = subparsers.add_parser("export", help="write records as JSON lines", description=description)
    parser.add_argument(
        "ids", nargs="*", default=[], metavar="ID", help="records to start from (default: all executions)"
    )
    parser.add_argument(
        "-f", "--file", action=FileArgument, default="-", help="where to write (default: standard output)"
    )
    parser.add_argument("--dry-run", action="store_true", help="count the records, write none")
    parser.set_defaults(run="aredun.cli.sync:run_export")


def _add_import(subparsers: Commands) -> None:
    description = (
        "Read records as JSON lines, from 'aredun export' or 'redun export'. Records that are forged or"
        " damaged, or that refer to records which are nowhere, are named and left out; all others go in."
    )
    parser = subparsers.add_parser("import", help="read records from JSON lines", description=description)
    parser.add_argument(
        "-f", "--file", action=FileArgument, default="-", help="where to read (default: standard input)"
    )
    parser.add_argument("--dry-run", action="store_true", help="check and count the records, write none")
    parser.set_defaults(run="aredun.cli.sync:run_import")


def _add_sync(subparsers: Commands) -> None:
    description = (
        "Copy what some records own from one repository to another, newest executions first. A sync that was"
        " broken off goes on where it stopped. A repository is a name from the section [repos] of redun.ini"
        " ('default' is this one), a database URI, a configuration directory or a sqlite file."
    )
    parser = subparsers.add_parser("sync", help="copy records between repositories", description=description)
    parser.add_argument("source", action=FileArgument, metavar="SRC", help="repository to read")
    parser.add_argument(
        "destination",
        action=FileArgument,
        metavar="DST",
        help="repository to write; a sqlite file may be new",
    )
    parser.add_argument(
        "ids", nargs="*", default=[], metavar="ID", help="records to start from (default: all executions)"
    )
    parser.add_argument("--workers", type=int, default=4, help="batches under way at a time (default: 4)")
    parser.add_argument("--batch-size", type=int, default=1000, help="records in a batch (default: 1000)")
    parser.add_argument("--dry-run", action="store_true", help="count what would be copied, copy nothing")
    parser.set_defaults(run="aredun.cli.sync:run_sync")


def _add_verify(subparsers: Commands) -> None:
    description = (
        "Check every hash that can be computed without running a pickle, that every reference leads"
        " somewhere, that values have their bytes, and that the flags of tags are right. Exits with 1 if"
        " something is wrong."
    )
    parser = subparsers.add_parser("verify", help="check a repository", description=description)
    parser.add_argument(
        "--repair",
        action="store_true",
        help="mend what follows from the rest: flags of tags, subtree tasks, evaluations, rows without owner",
    )
    parser.set_defaults(run="aredun.cli.sync:run_verify")
