"""The arguments of `aredun run`."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from aredun.cli.path_arguments import FileArgument

if TYPE_CHECKING:
    from collections.abc import Iterable

    from aredun.cli.common import Commands


def add_parser(subparsers: Commands) -> None:
    """Add `run` to the parser."""
    parser = subparsers.add_parser(
        "run",
        help="run a workflow",
        description="Run a workflow and record it; calls that were made before are taken from the cache.",
        epilog="'aredun run FILE help' lists the tasks, 'aredun run FILE TASK --help' the arguments of one. "
        "Options are accepted after TASK too, unless the task has an argument of that name.",
    )
    add_run_options(parser)
    parser.add_argument(
        "script", action=FileArgument, metavar="FILE", help="Python file or module that defines the task"
    )
    parser.add_argument("task", metavar="TASK", help="name of the task")
    parser.add_argument(
        "arguments", nargs=argparse.REMAINDER, metavar="--arg value ...", help="the task's arguments"
    )
    parser.set_defaults(run="aredun.cli.run:run")


def add_run_options(parser: argparse.ArgumentParser, taken: Iterable[str] = ()) -> None:
    """Add the options of `run`, except those whose name an argument of the task has."""

    def add(*names: str, **settings: Any) -> None:
        if names[-1] not in taken:
            parser.add_argument(*names, default=argparse.SUPPRESS, **settings)

    add("--no-cache", action="store_true", help="use no result of earlier executions")
    add("--no-prov", action="store_true", help="record no provenance")
    add("-o", "--option", action="append", metavar="KEY=VALUE", help="override an option of the task")
    add("-t", "--tag", action="append", metavar="KEY=VALUE", help="tag the execution")
    add("-p", "--project", help="project tag (default: the task's namespace)")
    add("--doc", help="documentation tag of the execution")
    add("-u", "--user", help="user tag (default: $REDUN_USER, else the login name)")
    add("--execution-id", metavar="UUID", help="id of the execution")
    add("--context", action="append", metavar="KEY=VALUE", help="set a context variable; dots nest")
    add("--context-file", action=FileArgument, metavar="PATH", help="JSON file of context variables")
    add("-i", "--input", action=FileArgument, metavar="PATH", help="pickle of (args, kwargs) for the task")
    add("--rerun", action="store_true", help="TASK is the id of a job or execution: call its task again so")
    add("--dryrun", action="store_true", help="tell which calls would run; run and record nothing")
    add("--pdb", action="store_true", help="debug where the workflow failed")
    add("--max-concurrency", type=_read_positive, metavar="N", help="how many functions run at once")


def _read_positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of 1 or more")
    return int(text)
