"""A command in a real terminal: the bytes of its pty, rendered as a person sees them."""

from __future__ import annotations

import os
import pty
import signal
import struct
import sys
from fcntl import ioctl
from pathlib import Path
from subprocess import Popen
from termios import TIOCSCTTY, TIOCSWINSZ
from typing import TYPE_CHECKING

import pyte

if TYPE_CHECKING:
    from collections.abc import Sequence

BIN = Path(sys.executable).parent


def run_in_terminal(
    *arguments: str,
    cwd: Path,
    program: Path | None = None,
    columns: int = 80,
    lines: int = 24,
    scrollback: bool = False,
    stdout: Path | None = None,
    typed: Sequence[tuple[str, bytes]] = (),
    **environment: str,
) -> tuple[int, list[str]]:
    """Run `aredun` on a pty; return its exit code and the lines of the final screen that are not empty.

    Parameters
    ----------
    *arguments : str
        What follows the program's name.
    cwd : Path
        The working folder.
    program : Path | None
        A Python file to run in place of `aredun`.
    columns, lines : int
        Size of the terminal.
    scrollback : bool
        Return what has scrolled away, too.
    stdout : Path | None
        File that stdout is redirected to; stdin and stderr stay on the terminal.
    typed : Sequence[tuple[str, bytes]]
        Texts to wait for on the screen, one after the other, and the keys that are pressed then.
    **environment : str
        Variables to set, beside those of the test run.
    """
    variables = {name: value for name, value in os.environ.items() if name not in ("REDUN_CONFIG", "COLUMNS")}
    ours, theirs = pty.openpty()
    ioctl(theirs, TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
    output = theirs if stdout is None else os.open(stdout, os.O_WRONLY | os.O_CREAT)
    command = [str(BIN / "aredun"), *arguments] if program is None else [sys.executable, str(program)]
    variables = {**variables, "TERM": "xterm", **environment}
    process = Popen(
        command,
        cwd=cwd,
        env=variables,
        stdin=theirs,
        stdout=output,
        stderr=theirs,
        start_new_session=True,
        preexec_fn=_take_terminal,
    )
    for descriptor in {theirs, output}:
        os.close(descriptor)
    screen = pyte.HistoryScreen(columns, lines, history=1000)
    stream = pyte.ByteStream(screen)
    waiting = list(typed)
    try:
        while data := os.read(ours, 65536):
            stream.feed(data)
            if waiting and any(waiting[0][0] in line for line in screen.display):
                os.write(ours, waiting.pop(0)[1])
    except OSError:
        # Linux answers with EIO once the last process has closed the terminal.
        pass
    os.close(ours)
    assert not screen.cursor.hidden
    assert waiting == []
    shown = list(screen.display)
    if scrollback:
        shown[:0] = ["".join(line[column].data for column in range(columns)) for line in screen.history.top]
    return process.wait(), [line.rstrip() for line in shown if line.strip()]


def _take_terminal() -> None:
    """Make stdin the terminal of the new process, whose Ctrl-C interrupts it."""
    ioctl(0, TIOCSCTTY, 0)
    # A shell that runs the tests in the background hands on that SIGINT is ignored.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
