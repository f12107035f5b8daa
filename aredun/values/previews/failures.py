"""Recorded errors as they are shown: class, message, and where they were raised, from a preview."""

from __future__ import annotations

from typing import Any, NamedTuple

from aredun.values.previews.stubs import Stub


class ShownFrame(NamedTuple):
    """
    A line of a recorded traceback.

    Attributes
    ----------
    job_id : str | None
        The job whose task this is; None of the lines within a task's function.
    filename, line : str
        Where it is, and the source there; empty where it is not known.
    lineno : int | None
        Counted from one.
    name : str
        Of the task, or of the function.
    variables : dict[str, str]
        The task's arguments as texts.
    """

    job_id: str | None
    filename: str
    lineno: int | None
    name: str
    line: str
    variables: dict[str, str]


class ShownFailure(NamedTuple):
    """
    A recorded error.

    Attributes
    ----------
    error_type, message, text : str
        Name of its class, what it was raised with, and both as Python writes them.
    frames : list[ShownFrame]
        Outermost first.
    logs : list[str]
        The last lines that the task wrote.
    """

    error_type: str
    message: str
    text: str
    frames: list[ShownFrame]
    logs: list[str]


def read_failure(preview: Any) -> ShownFailure:
    """
    Return what the preview of an `ErrorValue` shows; nothing of it is run.

    Parameters
    ----------
    preview : Any
        Of `preview_value`, whoever wrote the bytes; whatever it lacks is left out.
    """
    error = getattr(preview, "error", preview)
    traceback = getattr(preview, "traceback", None)
    frames, logs = getattr(traceback, "frames", None), getattr(traceback, "logs", None)
    error_type, message = _read_error(error)
    return ShownFailure(
        error_type,
        message,
        repr(error),
        [_read_frame(frame) for frame in frames] if isinstance(frames, list | tuple) else [],
        [str(line).rstrip("\n") for line in logs] if isinstance(logs, list) else [],
    )


def _read_error(error: Any) -> tuple[str, str]:
    if not isinstance(error, Stub):
        return "", repr(error)
    args = error._preview_args
    name = error._preview_global.name.rpartition(".")[2]
    # A KeyError writes its key as Python does.
    if len(args) == 1 and name != "KeyError":
        return name, str(args[0])
    return name, ", ".join(map(repr, args))


def _read_frame(frame: Any) -> ShownFrame:
    job_id = getattr(getattr(frame, "job", None), "id", None)
    number = getattr(frame, "lineno", None)
    variables = getattr(frame, "locals", None)
    return ShownFrame(
        job_id if isinstance(job_id, str) else None,
        str(getattr(frame, "filename", "?")),
        number if isinstance(number, int) else None,
        str(getattr(frame, "name", "?")),
        _read_line(frame),
        {str(key): str(text) for key, text in sorted(variables.items(), key=lambda item: str(item[0]))}
        if isinstance(variables, dict)
        else {},
    )


def _read_line(frame: Any) -> str:
    """Return the source of a frame; Python 3.13 records it under another name, all lines of a statement."""
    text = getattr(frame, "_line", None) or getattr(frame, "_lines", None)
    return text.strip().partition("\n")[0].rstrip() if isinstance(text, str) else ""
