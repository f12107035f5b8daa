"""Programs of the virtual environment that begin with their imports done.

Most of the second that a command takes is the import of what it is made of. A process that has imported
that waits here for each program and forks: what runs then is the program's own script in a process of its
own, with its own folder, environment, arguments, outputs and exit code. This file is that process, too.
"""

from __future__ import annotations

import array
import atexit
import gc
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
from functools import cache
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryFile

BIN = Path(sys.executable).parent
# What each program imports whatever it is asked to do, or for what tests ask most.
IMPORTS = {
    "aredun": ["aredun.cli.run", "aredun.cli.log", "aiosqlite", "asyncpg"],
    "redun": ["redun.cli", "psycopg2"],
}


class WarmProgram:
    """A program whose imports are done.

    Parameters
    ----------
    name : str
        Its name in the virtual environment.
    """

    def __init__(self, name: str) -> None:
        self._channel, theirs = socket.socketpair()
        self._script = str(BIN / name)
        command = [sys.executable, __file__, str(theirs.fileno()), self._script, *IMPORTS[name]]
        self._process = subprocess.Popen(command, pass_fds=[theirs.fileno()], stdout=subprocess.DEVNULL)
        theirs.close()
        atexit.register(self.close)

    def run(
        self, *arguments: str, cwd: Path, environment: dict[str, str], timeout: float
    ) -> subprocess.CompletedProcess[str]:
        """Run it in a folder; its output is captured."""
        with TemporaryFile() as stdout, TemporaryFile() as stderr:
            request = json.dumps([arguments, str(cwd), environment]).encode()
            files = array.array("i", [stdout.fileno(), stderr.fileno()])
            head = len(request).to_bytes(8, "big")
            self._channel.sendmsg([head], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, files)])
            self._channel.sendall(request)
            number = self._receive()
            self._channel.settimeout(timeout)
            try:
                code = self._receive()
            except TimeoutError:
                os.kill(number, signal.SIGKILL)
                self._channel.settimeout(None)
                self._receive()
                raise
            self._channel.settimeout(None)
            outputs = []
            for file in (stdout, stderr):
                file.seek(0)
                outputs.append(file.read().decode())
        return subprocess.CompletedProcess([self._script, *arguments], code, *outputs)

    def close(self) -> None:
        """End the process that waits."""
        self._channel.close()
        self._process.wait()

    def _receive(self) -> int:
        return int.from_bytes(_read(self._channel, 8), "big", signed=True)


@cache
def warm(name: str) -> WarmProgram:
    """Return a program of the virtual environment; the first time waits for its imports."""
    return WarmProgram(name)


def _read(channel: socket.socket, length: int) -> bytes:
    """Read so many bytes."""
    parts = b""
    while len(parts) < length:
        part = channel.recv(length - len(parts))
        if not part:
            raise EOFError
        parts += part
    return parts


def _fork_for(channel: socket.socket, program: str) -> bool:
    """Take a request and have a child begin it; True in the child, as soon as it is what was asked for."""
    head, files, *_ = socket.recv_fds(channel, 8, 2)
    if not head:
        sys.exit()
    arguments, folder, environment = json.loads(_read(channel, int.from_bytes(head, "big")))
    child = os.fork()
    if child:
        for file in files:
            os.close(file)
        channel.sendall(child.to_bytes(8, "big"))
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        channel.sendall(code.to_bytes(8, "big", signed=True))
        return False
    channel.close()
    for number, file in zip((1, 2), files, strict=True):
        os.dup2(file, number)
        os.close(file)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = [program, *arguments]
    sys.path[0] = str(BIN)
    return True


if __name__ == "__main__":
    _channel = socket.socket(fileno=int(sys.argv[1]))
    _program, *_imports = sys.argv[2:]
    for _name in _imports:
        import_module(_name)
    # A child would copy each page of what is there already to look whether it is garbage.
    gc.freeze()
    while not _fork_for(_channel, _program):
        pass
    runpy.run_path(_program, run_name="__main__")
