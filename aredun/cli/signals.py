"""What ends a command from outside: Ctrl-C, and SIGTERM where something has to be done before."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator
    from types import FrameType


class Terminated(BaseException):
    """SIGTERM has ended the command."""


# A loop that has not answered a signal after so many seconds is busy with a function.
_PATIENCE = 1.0


@contextmanager
def cancel_on(number: signal.Signals) -> Iterator[None]:
    """Let a signal cancel the task that runs the block; coming again, it cancels what is waited for then.

    Python's own second Ctrl-C raises wherever the loop is, and what is being recorded is lost. Here it does
    so only where a function holds the loop, which no cancellation reaches.

    Parameters
    ----------
    number : signal.Signals
        SIGINT, which Ctrl-C sends, or SIGTERM.

    Raises
    ------
    KeyboardInterrupt
        The block was cancelled by SIGINT.
    Terminated
        The block was cancelled by SIGTERM.
    """
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    stop = KeyboardInterrupt if number == signal.SIGINT else Terminated
    is_caught = False
    asked: float | None = None

    def catch(number: int, frame: FrameType | None) -> None:
        nonlocal is_caught, asked
        is_caught = True
        if asked is None:
            asked = time.monotonic()
            loop.call_soon_threadsafe(cancel)
        elif time.monotonic() - asked > _PATIENCE:
            raise stop

    def cancel() -> None:
        nonlocal asked
        asked = None
        if task is not None:
            task.cancel()

    # A shell has Ctrl-C ignored by what it runs in the background.
    is_heard = signal.getsignal(number) not in (None, signal.SIG_IGN)
    with catch_signals((number,) if is_heard else (), catch):
        try:
            yield
        except asyncio.CancelledError:
            if is_caught:
                raise stop from None
            raise


@contextmanager
def catch_signals(
    numbers: Iterable[signal.Signals], handler: Callable[[int, FrameType | None], None]
) -> Iterator[None]:
    """Have a function handle signals while the block runs; none, in another thread, where none comes.

    Parameters
    ----------
    numbers : iterable of Signals
        Which ones.
    handler : callable
        Takes the signal's number and the frame that it came in, as `signal.signal` has it.
    """
    if threading.current_thread() is not threading.main_thread():
        numbers = ()
    earlier = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, before in earlier.items():
            signal.signal(number, before)


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
