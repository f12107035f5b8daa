"""A real server on loopback, and clients of it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from typing import TYPE_CHECKING, Any

import httpx
import uvicorn
import websockets
from starlette.applications import Starlette
from starlette.routing import Mount

from aredun.server import create_app

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from fastapi import FastAPI


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        # Signals stay the test runner's.
        yield


class Served:
    """A running app: its address, and short ways to talk to it.

    Parameters
    ----------
    app : FastAPI
        The app.
    port : int
        Where it listens on loopback.
    server : uvicorn.Server
        What runs it.
    prefix : str
        Where it is mounted.
    """

    def __init__(self, app: FastAPI, port: int, server: uvicorn.Server, prefix: str = "") -> None:
        self.app = app
        self.port = port
        self.server = server
        self.prefix = prefix
        self.url = f"http://127.0.0.1:{port}{prefix}"
        self.http = httpx.AsyncClient(base_url=self.url, timeout=30)

    async def get(self, path: str, **options: Any) -> Any:
        """Return the JSON of a path that must be there."""
        answer = await self.http.get(path, **options)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def connect(self, path: str, **options: Any) -> Any:
        """Return a websocket (`async with`)."""
        options.setdefault("max_size", None)
        options.setdefault("proxy", None)
        return websockets.connect(f"ws://127.0.0.1:{self.port}{self.prefix}{path}", **options)

    async def receive_all(self, path: str, **options: Any) -> list[dict[str, Any]]:
        """Return all messages of a stream, those in batches one by one."""
        messages: list[dict[str, Any]] = []
        async with self.connect(path, **options) as websocket:
            async for text in websocket:
                message = json.loads(text)
                messages.extend(message if isinstance(message, list) else [message])
        return messages


@contextlib.asynccontextmanager
async def serve(
    backend: Any, *, send_buffer: int | None = None, prefix: str = "", **options: Any
) -> AsyncIterator[Served]:
    """Serve a backend on a free port of loopback, in the test's own event loop.

    Parameters
    ----------
    backend : RedunBackendDb
        The repository.
    send_buffer : int, optional
        What the system may hold for a client that does not read, in bytes.
    prefix : str
        Where the app is mounted in another one, such as "/provenance".
    **options
        For `create_app`.
    """
    app = create_app(backend, **options)
    host = Starlette(routes=[Mount(prefix, app)]) if prefix else app
    config = uvicorn.Config(
        host,
        host="127.0.0.1",
        log_config=None,
        access_log=False,
        ws_per_message_deflate=False,
        ws_max_size=16 * 1024,
        timeout_graceful_shutdown=5,
        lifespan="on",
    )
    server = _Server(config)
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if send_buffer is not None:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
    task = asyncio.create_task(server.serve(sockets=[listener]))
    while not server.started:
        await asyncio.sleep(0.005)
        if task.done():
            await task
    served = Served(app, listener.getsockname()[1], server, prefix)
    try:
        yield served
    finally:
        await served.http.aclose()
        await app.state.close()
        server.should_exit = True
        await task


async def receive(websocket: Any, timeout: float = 20.0) -> dict[str, Any]:
    """Return the next message of a websocket."""
    message: dict[str, Any] = json.loads(await asyncio.wait_for(websocket.recv(), timeout))
    return message


async def receive_until(websocket: Any, *kinds: str, timeout: float = 20.0) -> list[dict[str, Any]]:
    """Return the next messages of a websocket, up to one whose "type:change" is among `kinds`."""
    messages = []
    while True:
        message = await receive(websocket, timeout)
        messages.append(message)
        if f"{message['type']}:{message.get('change')}" in kinds:
            return messages
