"""`aredun serve`: the HTTP API, the websockets and the viewer of a repository."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import os
import re
import signal
import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from aredun.cli.common import open_backend
from aredun.cli.parsers import DEFAULT_HOST, TOKEN_VARIABLE
from aredun.cli.signals import catch_signals
from aredun.errors import UsageError

if TYPE_CHECKING:
    import argparse
    from contextlib import AbstractContextManager
    from types import FrameType

    from fastapi import FastAPI
    from rich.console import Console


# Websocket clients send a token at most.
_MAX_MESSAGE_SIZE = 16 * 1024
# A client that reads slowly answers a ping only once it has read what is before it.
_PING_TIMEOUT = 180.0
_PING_INTERVAL = 30.0
_SHUTDOWN_TIMEOUT = 5
_SEND_BUFFER = 256 * 1024


async def run(args: argparse.Namespace, console: Console) -> None:
    """Serve until interrupted, or until SIGTERM, which is how a server is told that it is done."""
    try:
        import uvicorn

        from aredun.server import ServerSettings, create_app
    except ImportError as error:
        raise UsageError(
            f"serving takes more packages: pip install 'aredun[server]' ({error.name} is missing)"
        ) from None

    # In an address an IPv6 host has brackets; whoever copies it from there means the host.
    args.host = re.sub(r"^\[(.*)\]$", r"\1", args.host)
    token = args.token if args.token is not None else os.environ.get(TOKEN_VARIABLE) or None
    if token is None and not is_loopback(args.host):
        raise UsageError(f"{args.host} can be reached by others: give a --token, or serve on {DEFAULT_HOST}")
    if not 0 <= args.port <= 65535:
        raise UsageError(f"invalid port {args.port}: give one between 0 and 65535")
    settings = ServerSettings(
        token=token,
        allowed_hosts=get_allowed_hosts(args.host, args.allow_host, token),
        allowed_origins=tuple(args.allow_origin),
    )
    if args.access_log:
        _log_to_stderr()
    async with open_backend(args) as backend:
        app = create_app(backend, settings=settings)
        server = _make_server(uvicorn, app)
        listener = listen(args.host, args.port)
        host = f"[{args.host}]" if ":" in args.host else args.host
        address = f"http://{host}:{listener.getsockname()[1]}/"
        console.print(f"aredun serves {backend.db_uri} at {address} (Ctrl-C ends it)", soft_wrap=True)
        await server.serve(sockets=[listener])
    if signal.SIGINT in server.caught:
        raise KeyboardInterrupt


def is_loopback(host: str) -> bool:
    """Tell whether an address is reached from this machine only."""
    with suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"


def get_allowed_hosts(host: str, more: list[str], token: str | None) -> tuple[str, ...] | None:
    """Return the names that requests may be addressed to; None for any.

    Without a token, a page elsewhere whose name leads to loopback could read everything.
    """
    if token is not None and not more:
        return None
    return ("localhost", "127.0.0.1", "::1", host, *more)


def _log_to_stderr() -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(message)s"))
    log = logging.getLogger("aredun.access")
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens, on which the system holds little for clients that do not read.

    Raises
    ------
    UsageError
        The address is not this machine's, or is taken.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise UsageError(f"cannot listen on {host}, port {port}: {error.strerror}") from None
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
    # asyncio sets it only on sockets that name their protocol: without it the body of each answer waits 40 ms
    # until the client has acknowledged the headers.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def _make_server(uvicorn: Any, app: FastAPI) -> Any:
    config = uvicorn.Config(
        app,
        access_log=False,
        log_level="warning",
        server_header=False,
        ws_max_size=_MAX_MESSAGE_SIZE,
        # Compressing every edge would take more time than walking it.
        ws_per_message_deflate=False,
        ws_ping_interval=_PING_INTERVAL,
        ws_ping_timeout=_PING_TIMEOUT,
        # The last resort, of which uvicorn tells as of an error.
        timeout_graceful_shutdown=_SHUTDOWN_TIMEOUT + 1,
        lifespan="on",
    )

    class Server(uvicorn.Server):  # type: ignore[misc]  # the module is imported on demand
        def __init__(self, config: Any) -> None:
            super().__init__(config)
            self.caught: list[int] = []

        def capture_signals(self) -> AbstractContextManager[None]:
            # uvicorn would raise them again, and end the process before the backend is closed.
            return catch_signals((signal.SIGINT, signal.SIGTERM), self.handle_exit)

        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            self.caught.append(sig)
            super().handle_exit(sig, frame)

        async def shutdown(self, sockets: Any = None) -> None:
            # Streams end with a close code before their connections are taken from them.
            await app.state.close()
            self._drop_broken()
            await asyncio.sleep(0)
            abort = asyncio.get_running_loop().call_later(_SHUTDOWN_TIMEOUT, self._abort)
            await super().shutdown(sockets)
            abort.cancel()

        def _drop_broken(self) -> None:
            # uvicorn waits for more of websockets whose handshake made no sense, and fails to end them.
            for connection in list(self.server_state.connections):
                if getattr(getattr(connection, "conn", None), "handshake_exc", None) is not None:
                    connection.transport.abort()

        def _abort(self) -> None:
            # A client that reads nothing would never come to the close code.
            for connection in list(self.server_state.connections):
                connection.transport.abort()

    return Server(config)
