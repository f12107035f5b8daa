"""Tracebacks of errors that say where they were raised, and hold nothing of what was there."""

from __future__ import annotations

import functools
import threading
import traceback
from types import FrameType, TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_KEPT_FRAMES = 1024


def forget_locals(error: BaseException) -> None:
    """Replace the frames of an error, and of those that it came from, by ones without local variables.

    An error that is handled may be kept for long, and whatever its functions worked on with it. The frames
    themselves are left alone: clearing one that waits in a coroutine would end that.

    Parameters
    ----------
    error : BaseException
        What was raised; it shows the same lines afterwards.
    """
    seen: set[int] = set()
    stack: list[BaseException | None] = [error]
    while stack:
        raised = stack.pop()
        if raised is None or id(raised) in seen:
            continue
        seen.add(id(raised))
        # Not assigned: an error of a frozen dataclass refuses that.
        BaseException.with_traceback(raised, _copy_lines(raised.__traceback__))
        stack += (raised.__cause__, raised.__context__)
        if isinstance(raised, BaseExceptionGroup):
            stack += raised.exceptions


def find_own_frames(raised: TracebackType | None, is_runner: Callable[[str], bool]) -> TracebackType | None:
    """Return the part of a traceback below the last frame of a file that runs tasks.

    Parameters
    ----------
    raised : TracebackType | None
        Of an error.
    is_runner : Callable[[str], bool]
        Tells the files that run tasks by their names.
    """
    own = raised
    while raised is not None:
        if is_runner(raised.tb_frame.f_code.co_filename):
            own = raised.tb_next
        raised = raised.tb_next
    return own


def _copy_lines(raised: TracebackType | None) -> TracebackType | None:
    made = None
    for frame, lineno in reversed(list(traceback.walk_tb(raised))):
        code = frame.f_code
        module = str(frame.f_globals.get("__name__", ""))
        ghost = _make_frame(code.co_filename, code.co_name, code.co_qualname, code.co_firstlineno, module)
        made = TracebackType(made, ghost, -1, lineno)
    return made


@functools.lru_cache(maxsize=_KEPT_FRAMES)
def _make_frame(filename: str, name: str, qualname: str, first_line: int, module: str) -> FrameType:
    """Return a frame of a function of that name; only code that has run has one."""
    code = compile("raise Exception", filename, "exec")
    code = code.replace(co_name=name, co_qualname=qualname, co_firstlineno=first_line)
    frames: list[FrameType] = []

    def run() -> None:
        try:
            exec(code, {"__name__": module})
        except Exception as error:
            frames.extend(frame for frame, _ in traceback.walk_tb(error.__traceback__))

    # A frame keeps its callers: in a thread of its own it has none.
    thread = threading.Thread(target=run, name="aredun-frame", daemon=True)
    thread.start()
    thread.join()
    return frames[-1]
