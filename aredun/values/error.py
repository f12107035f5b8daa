"""Errors that tasks raised, as values, with their tracebacks."""

from __future__ import annotations

import linecache
import os
import re
import sys
import traceback
from concurrent.futures import CancelledError
from itertools import takewhile
from typing import TYPE_CHECKING, Any, ClassVar

from aredun.formats.describe import describe, describe_error
from aredun.formats.hashing import hash_struct
from aredun.values.base import StoredAttributes, Value, get_type_registry
from aredun.values.pickling import stands_for

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
# Files whose frames call a task: the frames after theirs are the task's own.
_RUNNER_PREFIXES = tuple(os.path.join(_PACKAGE, name) for name in ("workflow", "cli"))
MAX_LOCAL = 200
_DEF_LINE = re.compile(r"(async )? *def ")


def is_runner(filename: str) -> bool:
    """Tell whether the code of a file runs tasks: the frames below it are a task's own."""
    return filename.startswith(_RUNNER_PREFIXES)


@stands_for("redun.scheduler", "Job")
class FrameJob:
    """
    The job that a frame of a traceback belongs to, as stored within it.

    Parameters
    ----------
    id : str
        The job's id.
    """

    def __init__(self, id: str) -> None:
        self.id = id

    def __repr__(self) -> str:
        return f"Job(id={self.id})"


def _skip_decorators(filename: str, lineno: int) -> int:
    """Return the line of the `def` that a function's decorators begin before."""
    line = linecache.getline(filename, lineno).strip()
    if not line.startswith("@"):
        return lineno
    last = len(linecache.getlines(filename))
    for number in range(lineno + 1, last + 1):
        if _DEF_LINE.match(linecache.getline(filename, number).strip()):
            return number
    return lineno


@stands_for("redun.scheduler", "Frame")
class Frame(traceback.FrameSummary, Value):
    """
    The frame of a task in a traceback (mirrors redun's `Frame`).

    Parameters
    ----------
    filename, lineno, name : str, int, str
        Where the task is defined; the line of a decorator is exchanged for that of the function.
    locals : dict
        The task's arguments; kept as text.
    lookup_line, line : bool, str, optional
        As for `traceback.FrameSummary`.
    job : Any
        The job that ran the task; whatever has an `id`.
    """

    type_name = "redun.Frame"

    def __init__(
        self,
        filename: str,
        lineno: int,
        name: str,
        locals: dict[str, Any],
        lookup_line: bool = True,
        line: str | None = None,
        job: Any = None,
    ) -> None:
        if job is None:
            raise ValueError(f"the frame of task {name} needs the job that ran it")
        lineno = _skip_decorators(filename, lineno)
        traceback.FrameSummary.__init__(self, filename, lineno, name, lookup_line=lookup_line, line=line)
        self.locals = {key: describe(value, MAX_LOCAL) for key, value in locals.items()}
        self.job = FrameJob(job.id)

    def __getstate__(self) -> dict[str, Any]:
        return {
            "filename": self.filename,
            "lineno": self.lineno,
            "name": self.name,
            "_line": self.line,
            "locals": self.locals,
            "job": self.job,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        traceback.FrameSummary.__init__(
            self,
            state["filename"],
            state["lineno"],
            state["name"],
            lookup_line=False,
            line=state["_line"] if isinstance(state["_line"], str) else "",
        )
        self.locals = state["locals"]
        self.job = state["job"]


@stands_for("redun.scheduler", "Traceback")
class Traceback(StoredAttributes, Value):
    """
    The traceback of a task that failed (mirrors redun's `Traceback`).

    Parameters
    ----------
    error : Any
        The exception.
    frames : Sequence[traceback.FrameSummary]
        Outermost first; the frames of tasks are `Frame`.
    logs : list of str, optional
        The last lines that the task wrote, with their line ends.
    """

    type_name = "redun.Traceback"
    _stored: ClassVar[dict[str, str]] = {"error": "error", "frames": "frames", "logs": "logs"}

    def __init__(
        self, error: Any, frames: Sequence[traceback.FrameSummary], logs: list[str] | None = None
    ) -> None:
        self.error = error
        self.frames = list(frames)
        self.logs = logs or []

    def __repr__(self) -> str:
        return f"Traceback(error={describe(self.error)}, frames={len(self.frames)})"

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "frames": list(map(_without_code, self.frames))}

    @classmethod
    def from_error(cls, error: BaseException, trim_frames: bool = True) -> Traceback:
        """
        Make the traceback of an exception.

        Parameters
        ----------
        error : BaseException
            The exception, as raised.
        trim_frames : bool
            Leave out the frames up to the one of aredun's scheduler that called the task.
        """
        frames = list(traceback.extract_tb(error.__traceback__))
        return cls(error, cls.trim_frames(frames) if trim_frames else frames)

    @classmethod
    def trim_frames(cls, frames: list[traceback.FrameSummary]) -> list[traceback.FrameSummary]:
        """Return the innermost frames, those within the task's own code."""
        own = takewhile(lambda frame: not is_runner(frame.filename), reversed(frames))
        return list(reversed(list(own)))

    def format(self) -> Iterator[str]:
        """Yield the text of the traceback in pieces, frame by frame, then the error and the last logs."""
        for frame in self.frames:
            if isinstance(frame, Frame):
                yield (
                    f'  Job {frame.job.id[:8]}: File "{frame.filename}", line {frame.lineno}, '
                    f"in {frame.name}\n"
                )
            else:
                yield f'  File "{frame.filename}", line {frame.lineno}, in {frame.name}\n'
            yield f"    {frame.line}\n"
            if frame.locals:
                width = max(map(len, frame.locals))
                for key, text in sorted(frame.locals.items()):
                    yield f"    {key.ljust(width)} = {text}\n"
        yield describe_error(self.error)
        if self.logs:
            yield "\n"
            yield "Latest logs:\n"
            yield from self.logs


@stands_for("redun.scheduler", "ErrorValue")
class ErrorValue(StoredAttributes, Value):
    """
    An error as the result of a call (mirrors redun's `ErrorValue`).

    Parameters
    ----------
    error : Exception
        What the task raised.
    traceback : Traceback, optional
        Where.
    """

    type_name = "redun.ErrorValue"
    _stored: ClassVar[dict[str, str]] = {"error": "error", "traceback": "traceback"}

    def __init__(self, error: Exception, traceback: Traceback | None = None) -> None:
        if not isinstance(error, Exception):
            raise TypeError(f"an ErrorValue needs an exception, not {type(error).__name__}")
        self.error = error
        self.traceback = traceback

    def __repr__(self) -> str:
        return f"ErrorValue({describe(self.error)})"

    def get_hash(self, data: bytes | None = None) -> str:
        """Hash the error and its traceback."""
        registry = get_type_registry()
        return hash_struct(
            ["redun.ErrorValue", registry.get_hash(self.error), registry.get_hash(self.traceback)]
        )


def make_cancellation() -> ErrorValue:
    """Return the result of a call that was cancelled from outside: of all of them the same one."""
    error = CancelledError("the job was cancelled")
    return ErrorValue(error, Traceback(error, []))


def is_cancellation(result: Any) -> bool:
    """Tell whether a call came to no end: its waiter gave up, which is no answer for another one."""
    return isinstance(result, ErrorValue) and isinstance(result.error, CancelledError)


def _without_code(frame: traceback.FrameSummary) -> traceback.FrameSummary:
    """Return a frame without the code that it may hold from Python 3.13 on, and that cannot be pickled."""
    if sys.version_info >= (3, 13):
        return traceback.FrameSummary(
            frame.filename,
            frame.lineno,
            frame.name,
            lookup_line=False,
            locals=frame.locals,
            line=frame.line,
            end_lineno=frame.end_lineno,
            colno=frame.colno,
            end_colno=frame.end_colno,
        )
    return frame
