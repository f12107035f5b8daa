"""What stands between a client and its PostgreSQL: a proxy that forgets its connections, and pgbouncer."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pwd
import shutil
import socket
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

MISSING = "the tests of the pooler need pgbouncer: apt-get install pgbouncer"


class ForgetfulProxy:
    """A TCP proxy that can stop forwarding for the connections that are open, without closing them.

    Parameters
    ----------
    folder : str
        Of the server's socket.
    """

    def __init__(self, folder: str) -> None:
        self._socket = f"{folder}/.s.PGSQL.5432"
        self._open: set[asyncio.Event] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0

    def forget(self) -> int:
        """Swallow everything on the connections that are open now; returns how many."""
        for forgotten in self._open:
            forgotten.set()
        return len(self._open)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Forward one connection."""
        forgotten = asyncio.Event()
        self._open.add(forgotten)
        task = asyncio.current_task()
        if task is not None:
            self._tasks.add(task)
        # The end of the proxy cancels it, which the stream server would report.
        with contextlib.suppress(asyncio.CancelledError):
            await self._serve(reader, writer, forgotten)

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, forgotten: asyncio.Event
    ) -> None:
        server_reader, server_writer = await asyncio.open_unix_connection(self._socket)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._forward(reader, server_writer, forgotten))
                group.create_task(self._forward(server_reader, writer, forgotten))
        finally:
            self._open.discard(forgotten)
            writer.close()
            server_writer.close()

    async def _forward(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, forgotten: asyncio.Event
    ) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                if not forgotten.is_set():
                    writer.write(data)
                    await writer.drain()
        if not forgotten.is_set():
            writer.close()

    async def close(self) -> None:
        """End all connections."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@contextlib.asynccontextmanager
async def open_proxy(folder: str) -> AsyncIterator[ForgetfulProxy]:
    """Run a proxy in front of the server whose socket is in a folder."""
    proxy = ForgetfulProxy(folder)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        await proxy.close()


@contextlib.asynccontextmanager
async def open_pgbouncer(folder: str) -> AsyncIterator[int]:
    """Run pgbouncer in transaction mode before the server whose socket is in a folder; yields its port."""
    program = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin:/usr/local/sbin")
    if program is None:
        pytest.fail(MISSING)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="aredun-pgbouncer-") as place:
        settings = Path(place) / "pgbouncer.ini"
        settings.write_text(
            f"[databases]\n* = host={folder} user=postgres\n[pgbouncer]\nlisten_addr = 127.0.0.1\n"
            f"listen_port = {port}\nunix_socket_dir =\nauth_type = any\npool_mode = transaction\n"
        )
        # It refuses to run as root.
        owner = pwd.getpwuid(os.stat(folder).st_uid if os.getuid() == 0 else os.getuid())
        user = owner.pw_name if owner.pw_uid else "nobody"
        os.chmod(place, 0o755)  # the other user reads it
        process = await asyncio.create_subprocess_exec(
            program,
            "-q",
            str(settings),
            user=user if os.getuid() == 0 else None,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            while process.returncode is None:
                with contextlib.suppress(OSError):
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                    writer.close()
                    break
                await asyncio.sleep(0.02)
            if process.returncode is not None:
                pytest.fail(f"pgbouncer ended with {process.returncode}")
            yield port
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()
