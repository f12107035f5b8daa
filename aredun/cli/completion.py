"""`aredun completion SHELL`: write the script by which a shell completes the command."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from aredun.cli.parsers import make_parser
from aredun.errors import UsageError

if TYPE_CHECKING:
    import argparse

    from rich.console import Console


async def run(args: argparse.Namespace, console: Console) -> None:
    """Write the script; a console would change its tabs."""
    try:
        import shtab
    except ImportError:
        raise UsageError("completion needs shtab: install aredun[completion]") from None
    sys.stdout.write(f"{shtab.complete(make_parser(), args.shell)}\n")
