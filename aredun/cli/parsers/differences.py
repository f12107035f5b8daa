"""The arguments of `aredun why` and `aredun diff`."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aredun.cli.common import Commands


def add_parser(subparsers: Commands) -> None:
    """Add both commands to the parser."""
    why = subparsers.add_parser(
        "why",
        help="tell why a job ran, and was not taken from the cache",
        description="Tell which argument, file, source or version is another than in the earlier call of "
        "the task that the job is most like.",
    )
    why.add_argument("id", metavar="JOB", help="first characters of a job's id")
    why.add_argument("--no-pager", action="store_true", help="write to the terminal directly")
    why.set_defaults(run="aredun.cli.differences:run_why")
    diff = subparsers.add_parser(
        "diff",
        help="tell in what two executions differ",
        description="Tell task by task which calls of two executions differ, and in what.",
    )
    diff.add_argument(
        "before", metavar="EXEC1", help="first characters of an execution's id; - is the newest"
    )
    diff.add_argument("after", metavar="EXEC2", help="the execution to compare it with")
    diff.add_argument("--no-pager", action="store_true", help="write to the terminal directly")
    diff.set_defaults(run="aredun.cli.differences:run_diff")
