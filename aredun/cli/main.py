"""The entry point: finds the command, runs it on an event loop, and answers with an exit code."""

from __future__ import annotations

import asyncio
import io
import os
import pkgutil
import signal
import sys
import threading
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from aredun.cli.collector import collect_rarely
from aredun.cli.common import make_console, one_line
from aredun.cli.levels import keep_levels, set_level
from aredun.cli.parsers import make_parser
from aredun.cli.signals import Terminated, cancel_on, leave
from aredun.errors import AredunError, UsageError, describe_os_error

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence
    from contextlib import AbstractContextManager

EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130
EXIT_BROKEN_PIPE = 141
EXIT_TERMINATED = 143


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Parameters
    ----------
    argv : Sequence[str] | None
        The arguments after the program's name; `sys.argv[1:]` by default. Without them the process is the
        command's own, and so is its garbage collector.

    Returns
    -------
    int
        0 when it went well, 1 when a workflow failed or a check found something, 2 for bad input (one line
        on stderr says what is wrong), 130 after Ctrl-C, 143 after SIGTERM. The process ends at once after
        these if functions of tasks still run in threads.
    """
    _open_missing_streams()
    arguments = list(sys.argv[1:] if argv is None else argv)
    threads = threading.enumerate()
    try:
        with keep_levels():
            return _execute(arguments, nullcontext if argv is not None else collect_rarely)
    except BrokenPipeError:
        # The reader is gone (`aredun log | head`): nothing that is still buffered may be written at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_BROKEN_PIPE
    except (AredunError, OSError) as error:
        message = describe_os_error(error) if isinstance(error, OSError) else error
        sys.stderr.write(f"aredun: {one_line(message)}\n")
        return EXIT_BAD_INPUT
    except (KeyboardInterrupt, Terminated) as stop:
        is_terminated = isinstance(stop, Terminated)
        sys.stderr.write(f"aredun: {'terminated' if is_terminated else 'interrupted'}\n")
        return leave(EXIT_TERMINATED if is_terminated else EXIT_INTERRUPTED, threads)
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 0


def _open_missing_streams() -> None:
    """Take nothing from standard streams that were closed (`aredun import <&-`), and let nothing out."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))


def _execute(arguments: list[str], collector: Callable[[], AbstractContextManager[None]]) -> int:
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A terminal's encoding may lack characters of a name or a value: that must not end the command.
        sys.stdout.reconfigure(errors="backslashreplace")
    args = make_parser().parse_args(arguments or ["--help"])
    if args.run is None:
        raise UsageError("no command given: see 'aredun --help'")
    args.argv = arguments
    set_level(args.log_level)
    with collector():
        run_command = pkgutil.resolve_name(args.run)
    # What a workflow's own tasks expect of the collector is not ours to change.
    with nullcontext() if args.command == "run" else collector():
        ending = asyncio.run(_attend(run_command(args, make_console())))
    if isinstance(ending, BaseException):
        raise ending
    sys.stdout.flush()
    return ending or 0


async def _attend(work: Coroutine[Any, Any, int | None]) -> int | KeyboardInterrupt | Terminated | None:
    """Run a command until it ends or a signal ends it; return its exit code (None is 0) or what ended it."""
    try:
        with cancel_on(signal.SIGINT):
            return await work
    except (KeyboardInterrupt, Terminated) as stop:
        # Raised, it would go through the loop, which may be ending already.
        return stop
