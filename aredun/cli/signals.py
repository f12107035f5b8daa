"""What ends a command from outside: Ctrl-C, and SIGTERM where something has to be done before."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator
    from types import FrameType


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
    is_terminated = False

    def terminate() -> None:
        nonlocal is_terminated
        is_terminated = True
        if task is not None:
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


@contextmanager
def catch_signals(handle: Callable[[int, FrameType | None], object], caught: list[int]) -> Iterator[None]:
    """Hand Ctrl-C and SIGTERM to a function while the block runs.

    Parameters
    ----------
    handle : callable
        Takes the signal's number and the frame that it came in, as `signal.signal` has it.
    caught : list of int
        Gets the numbers.
    """

    def catch(number: int, frame: FrameType | None) -> None:
        caught.append(number)
        handle(number, frame)

    if threading.current_thread() is not threading.main_thread():
        # No signal comes here.
        yield
        return
    earlier = {number: signal.signal(number, catch) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)


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
