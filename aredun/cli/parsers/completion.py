"""The arguments of `aredun completion`."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aredun.cli.common import Commands

SHELLS = ("bash", "zsh", "tcsh")


def add_parser(subparsers: Commands) -> None:
    """Add `completion` to the parser."""
    parser = subparsers.add_parser(
        "completion",
        help="write a script by which a shell completes this command",
        description="Write a script by which the shell completes the commands, options and files of aredun.",
        epilog='In ~/.bashrc: eval "$(aredun completion bash)"',
    )
    parser.add_argument("shell", choices=SHELLS, metavar="SHELL", help=f"one of {', '.join(SHELLS)}")
    parser.set_defaults(run="aredun.cli.completion:run")
