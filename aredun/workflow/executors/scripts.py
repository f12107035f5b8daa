"""Shell scripts as processes: what a script task returns is run, and its output is the result."""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import signal
import subprocess
import tempfile
import threading
from textwrap import dedent
from typing import IO, TYPE_CHECKING, Any, cast

from aredun.errors import UsageError
from aredun.formats.describe import describe_class, shorten
from aredun.values.pickling import stands_for

if TYPE_CHECKING:
    from collections.abc import Callable

# redun's; it is part of the hash of a call of `script`.
DEFAULT_SHELL = "#!/usr/bin/env bash\nset -exo pipefail"
_PIPE_SIZE = 1 << 16

logger = logging.getLogger("aredun")


@stands_for("redun.scripting", "ScriptError")
class ScriptError(Exception):
    """A script ended with another exit code than 0 (mirrors redun's `ScriptError`).

    Parameters
    ----------
    stderr : bytes
        What it wrote to stderr.
    """

    def __init__(self, stderr: bytes) -> None:
        self.message: bytes | str
        try:
            self.message = stderr.decode("utf8")
        except UnicodeDecodeError:
            self.message = stderr

    def __str__(self) -> str:
        if isinstance(self.message, bytes):
            return ""
        return "Last line: " + self.message.rstrip("\n").rpartition("\n")[2]

    def __repr__(self) -> str:
        return f"ScriptError('{self}')"


class ScriptProcess:
    """The process of a script, which may be killed from any thread, and before it has begun."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: subprocess.Popen[bytes] | None = None
        self._is_killed = False

    def kill(self) -> None:
        """Kill the script with all that it has started."""
        with self._lock:
            self._is_killed = True
            if self._running is not None and self._running.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self._running.pid, signal.SIGKILL)

    def run(self, command: str, name: str, *, own_group: bool) -> bytes:
        """Run a script, each line of its output to the log; blocks.

        Parameters
        ----------
        command : str
            The script, with its interpreter in the first line.
        name : str
            The task's, for the log.
        own_group : bool
            Give it a group of processes, which `kill` ends; else it ends with the group of this process.

        Returns
        -------
        bytes
            What it wrote to stdout.

        Raises
        ------
        ScriptError
            It failed.
        """
        with tempfile.NamedTemporaryFile("w", encoding="utf-8", prefix="aredun-", suffix=".script") as file:
            file.write(command)
            file.flush()
            # The interpreter is named here: a file that is open for writing, here or for a moment in a child
            # of another thread, cannot be executed.
            interpreter = command.partition("\n")[0].removeprefix("#!").strip().split(maxsplit=1)
            with self._lock:
                if self._is_killed:
                    raise ScriptError(b"killed before it began")
                process = self._running = subprocess.Popen(
                    [*interpreter, file.name],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    start_new_session=own_group,
                )
            with process:
                output, errors = _read(process, name)
        if process.returncode != 0:
            raise ScriptError(errors)
        return output


def prepare_command(command: str) -> str:
    """Return a script without what indents all its lines, and with an interpreter (mirrors redun's).

    Parameters
    ----------
    command : str
        What a script task returned, or what `script` was given.

    Raises
    ------
    UsageError
        It is no text.
    """
    if not isinstance(command, str):
        raise UsageError(f"a script is {describe_class(command)}: a script task returns the text of one")
    command = dedent(command).strip()
    return command if command.startswith("#!") else f"{DEFAULT_SHELL}\n{command}"


def _read(process: subprocess.Popen[bytes], name: str) -> tuple[bytes, bytes]:
    """Read both streams to their ends, and log their lines as they come."""
    collected: dict[Any, list[bytes]] = {}
    with selectors.DefaultSelector() as selector:
        for stream in (process.stdout, process.stderr):
            collected[stream] = []
            selector.register(cast("IO[bytes]", stream), selectors.EVENT_READ, _make_line_logger(name))
        while selector.get_map():
            for key, _ in selector.select():
                chunk = os.read(key.fd, _PIPE_SIZE)
                if not chunk:
                    selector.unregister(key.fileobj)
                collected[key.fileobj].append(chunk)
                key.data(chunk)
    output, errors = (b"".join(chunks) for chunks in collected.values())
    return output, errors


def _make_line_logger(name: str) -> Callable[[bytes], None]:
    rest = b""

    def log(chunk: bytes) -> None:
        nonlocal rest
        if not logger.isEnabledFor(logging.INFO):
            return
        *lines, rest = (rest + chunk).split(b"\n")
        if not chunk and rest:
            lines.append(rest)
        for line in lines:
            logger.info("%s: %s", name, shorten(line.decode(errors="replace")))

    return log
