"""How records look on a screen: styles, times, statuses, tags, and the pager."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from rich.text import Text

from aredun.cli.common import make_console
from aredun.formats import statuses
from aredun.formats.tag_syntax import format_tag_key_value
from aredun.values.previews import read_failure

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import datetime, timedelta

    from rich.console import Console

# Text, plain or with a style.
Part = str | tuple[str, str]

STATUS_STYLES = {
    statuses.RUNNING: "yellow",
    statuses.FAILED: "bold red",
    statuses.CACHED: "cyan",
    statuses.DONE: "green",
    statuses.ABANDONED: "magenta",
}
STATUS_WIDTH = 6
ID_LENGTH = 8
MAX_PREVIEW = 200
DEFAULT_PAGER = "less -F -K -R -S -X"

# What is shown was written by anybody: no character of it may steer the terminal.
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")

_UNITS = (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1))


def clean(text: str) -> str:
    """Return text with control characters (line ends and tabs aside) written out as escapes."""
    return _CONTROLS.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def clean_line(text: str) -> str:
    """Return text on one line, control characters written out as escapes."""
    return clean(text).replace("\n", "\\n").replace("\t", "\\t")


def trim(text: str, max_length: int = MAX_PREVIEW) -> str:
    """Return text cut to `max_length` characters, with three dots at the end if it was."""
    return text if len(text) <= max_length else text[: max_length - 3] + "..."


def show_preview(value: Any) -> str:
    """Return a value's preview as text on one line."""
    return clean_line(trim(repr(value)))


def show_id(record_id: str, detail: bool = False) -> str:
    """Return an id, cut to what is needed to tell it from others unless in detail."""
    return clean_line(record_id if detail else record_id[:ID_LENGTH])


def show_status(status: str) -> tuple[Part, Part, Part]:
    """Return a status in brackets, in its colour, as parts of a line."""
    # As in redun, RUN stands for RUNNING so that the columns stay in line.
    word = "RUN " if status == statuses.RUNNING else status
    return "[", (word.center(STATUS_WIDTH), STATUS_STYLES.get(status, "")), "]"


def show_time(time: datetime | None, now: datetime) -> str:
    """Return a time in the local time zone and how long ago it was."""
    if time is None:
        return "no time"
    return f"{time.astimezone():%Y-%m-%d %H:%M:%S} ({show_age(now - time)})"


def show_age(age: timedelta) -> str:
    """Return how long ago something was, in its largest unit: `3m ago`."""
    seconds = int(age.total_seconds())
    for unit, length in _UNITS:
        if abs(seconds) >= length:
            count = abs(seconds) // length
            return f"{count}{unit} ago" if seconds > 0 else f"in {count}{unit}"
    return "now"


def show_duration(duration: timedelta | None) -> str:
    """Return a duration as redun writes it, `h:mm:ss.cc`; days count as hours."""
    if duration is None:
        return "Unknown"
    hundredths = int(duration.total_seconds() * 100)
    seconds, hundredths = divmod(hundredths, 100)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}.{hundredths:02}"


def show_tags(tags: Iterable[tuple[str, Any]]) -> Part:
    """Return tags in parentheses, sorted; the empty text without tags."""
    shown = sorted(clean_line(format_tag_key_value(key, value)) for key, value in tags)
    return (f" ({', '.join(shown)})", "blue") if shown else ""


def _join(parts: Iterable[Part]) -> str:
    """Return parts of a line without their styles."""
    return "".join(part if isinstance(part, str) else part[0] for part in parts)


class Printer:
    """Writes lines, many in one go: a call of rich per line would take longer than reading the records.

    Parameters
    ----------
    console : Console
        Where to write; with colours where it has them.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._has_colours = console.color_system is not None
        self._pending: list[Part] = []

    def line(self, *parts: Part, indent: int = 0) -> None:
        """Add a line made of the parts; where they hold line ends it becomes several lines, all indented."""
        margin = " " * indent
        if margin and "\n" in (text := _join(parts)):
            self._pending += [f"{margin}{line}\n" if line else "\n" for line in text.split("\n")]
        else:
            self._pending += [margin, *parts, "\n"]

    def flush(self) -> None:
        """Write what has been added."""
        if not self._pending:
            return
        if self._has_colours:
            self._console.print(Text.assemble(*self._pending), soft_wrap=True, end="")
        else:
            # Laying plain text out would change nothing, and take most of the time.
            self._console.file.write(_join(self._pending))
        self._console.file.flush()
        self._pending = []


@contextmanager
def paged(console: Console, enabled: bool = True) -> Iterator[Console]:
    """
    Write to a pager if a person is looking (`$AREDUN_PAGER`, `$PAGER`, else less).

    Parameters
    ----------
    console : Console
        Where to write otherwise: to a file or a pipe, or without a pager on this machine.
    enabled : bool
        False never starts a pager.

    Yields
    ------
    Console
        What to write to; lines reach the pager as they are written.
    """
    command = shlex.split(os.environ.get("AREDUN_PAGER") or os.environ.get("PAGER") or DEFAULT_PAGER)
    if not enabled or not console.is_terminal or not command or shutil.which(command[0]) is None:
        yield console
        return
    # `less` without options would show colours as escapes.
    environment = {"LESS": "FRSX"} | os.environ
    with (
        # The person has seen enough.
        suppress(BrokenPipeError),
        subprocess.Popen(
            command, stdin=subprocess.PIPE, encoding="utf-8", errors="backslashreplace", env=environment
        ) as pager,
    ):
        try:
            yield make_console(
                file=pager.stdin,
                force_terminal=True,
                color_system=console.color_system,
                width=console.width,
            )
        finally:
            pager.communicate()


def format_traceback(error: Any) -> list[str]:
    """
    Return the lines of a recorded error's traceback, from its preview; nothing of it is run.

    Parameters
    ----------
    error : Any
        The preview of an `ErrorValue`; whatever it lacks is left out.
    """
    failure = read_failure(error)
    lines: list[str] = []
    for frame in failure.frames:
        origin = f"Job {frame.job_id[:ID_LENGTH]}: " if frame.job_id is not None else ""
        number = "?" if frame.lineno is None else frame.lineno
        lines.append(f'  {origin}File "{frame.filename}", line {number}, in {frame.name}')
        if frame.line:
            lines.append(f"    {frame.line}")
        lines += [f"    {key} = {trim(text)}" for key, text in frame.variables.items()]
    lines.append(trim(failure.text, 10_000))
    if failure.logs:
        lines += ["", "Latest logs:", *failure.logs]
    return lines
