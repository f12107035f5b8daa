"""What ends a command from outside: Ctrl-C, and SIGTERM where that has to be recorded."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator


class Terminated(BaseException):
    """SIGTERM has ended the command."""


@contextmanager
def cancel_on_sigterm() -> Iterator[None]:
    """Let SIGTERM cancel the task that runs the block, as Ctrl-C does.

    Raises
    ------
    Terminated
        The block was cancelled by SIGTERM.
    """
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    assert task is not None
    is_terminated = False

    def terminate() -> None:
        nonlocal is_terminated
        is_terminated = True
        task.cancel()

    # Only the main thread of a program gets signals, and not on every system does the loop hand them on.
    with suppress(NotImplementedError, RuntimeError):
        loop.add_signal_handler(signal.SIGTERM, terminate)
    try:
        yield
    except asyncio.CancelledError:
        if is_terminated:
            raise Terminated from None
        raise
    finally:
        with suppress(NotImplementedError, RuntimeError):
            loop.remove_signal_handler(signal.SIGTERM)


def leave(code: int, earlier: Collection[threading.Thread]) -> int:
    """Return an exit code, or exit with it at once if threads of the command still run.

    Functions of tasks cannot be interrupted, and Python would wait for them at its end, although what they
    were called for is recorded as failed.

    Parameters
    ----------
    code : int
        The program's exit code.
    earlier : Collection[threading.Thread]
        Threads that ran before the command did.
    """
    if any(not thread.daemon and thread not in earlier for thread in threading.enumerate()):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return code
