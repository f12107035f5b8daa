"""Connections that the network forgot: found by a short question, ended without waiting for an answer."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from sqlalchemy import event
from sqlalchemy.exc import InvalidatePoolError

from aredun.storage.sql_log import sql_logger

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

    from aredun.config import BackendConfig

# Keys of a pooled connection's own dictionary: when it was last used, and whether it was kept idle.
_USED = "aredun_used"
_IDLE = "aredun_idle"
# The statement that a living connection answers.
_QUESTION = "SELECT 1"
# After one connection has not answered in time, no other is waited for during so many seconds.
_SUSPICION = 5.0

# libpq's options, and what they are where the URI does not say; times are in seconds, that of
# `tcp_user_timeout` in milliseconds. The kernel then ends a dead connection within about a minute.
KEEPALIVES = {
    "keepalives": 1,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,
}
# The names that the socket module has for them, where the system knows them.
_SOCKET_OPTIONS = {
    "keepalives_idle": "TCP_KEEPIDLE",
    "keepalives_interval": "TCP_KEEPINTVL",
    "keepalives_count": "TCP_KEEPCNT",
    "tcp_user_timeout": "TCP_USER_TIMEOUT",
}


class Liveness:
    """Looks after the connections of one engine.

    Parameters
    ----------
    engine : AsyncEngine
        Of PostgreSQL.
    config : BackendConfig
        `ping_after` and `ping_timeout`.
    keepalives : mapping
        Values for `KEEPALIVES`' names; what is missing has those.
    """

    def __init__(self, engine: AsyncEngine, config: BackendConfig, keepalives: Mapping[str, int]) -> None:
        self._after = config.ping_after
        self._timeout = config.ping_timeout or None
        self._keepalives = {**KEEPALIVES, **keepalives}
        self._suspected = float("-inf")
        self._drivers: WeakSet[Any] = WeakSet()
        for name in ("do_connect", "connect", "checkout", "checkin", "close"):
            event.listen(engine.sync_engine, name, getattr(self, f"_on_{name}"))

    def _on_do_connect(self, dialect: Any, record: Any, arguments: Any, options: dict[str, Any]) -> None:
        options["loop"] = _Loop(asyncio.get_running_loop(), self._keepalives)

    def _on_connect(self, connection: Any, record: Any) -> None:
        self._drivers.add(connection.driver_connection)
        record.info[_USED] = asyncio.get_running_loop().time()

    def _on_checkin(self, connection: Any, record: Any) -> None:
        record.info[_USED] = asyncio.get_running_loop().time()

    def _on_checkout(self, connection: Any, record: Any, proxy: Any) -> None:
        now = asyncio.get_running_loop().time()
        idle = record.info.pop(_IDLE, False) or now - record.info.get(_USED, now) > self._after
        if self._after and idle:
            connection.run_async(self._ping)

    async def _ping(self, driver: Any) -> None:
        try:
            async with asyncio.timeout(self._timeout):
                sql_logger.debug(_QUESTION)
                await driver.execute(_QUESTION)
        except Exception as error:
            self._suspect()
            driver.terminate()
            # Whatever ended this one may have ended all: none that is older is used again.
            raise InvalidatePoolError("an idle connection does not answer any more") from error
        except BaseException:
            driver.terminate()
            raise

    def _suspect(self) -> None:
        self._suspected = asyncio.get_running_loop().time()

    def _on_close(self, connection: Any, record: Any) -> None:
        connection.run_async(self._end)

    async def _end(self, driver: Any) -> None:
        """Say goodbye to the server, which may not be there any more."""
        if driver.is_closed():
            return
        if asyncio.get_running_loop().time() - self._suspected < _SUSPICION:
            driver.terminate()
            return
        try:
            await driver.close(timeout=self._timeout)
        except TimeoutError:
            self._suspect()
            driver.terminate()
        except OSError:
            # The server has ended it a moment ago, and nobody has heard of that yet.
            driver.terminate()
        except BaseException:
            driver.terminate()
            raise

    def terminate(self) -> None:
        """End all connections at once; who waits for an answer gets an error."""
        self._suspect()
        for driver in list(self._drivers):
            if not driver.is_closed():
                driver.terminate()


def mark_idle(connection: AsyncConnection) -> None:
    """Have a connection that goes back to its pool asked whether it lives before it is used again."""
    if not connection.invalidated:
        connection.info[_IDLE] = True


class _Loop:
    """An event loop that has the kernel watch its TCP connections; asyncpg has no other way to say it."""

    def __init__(self, loop: asyncio.AbstractEventLoop, keepalives: Mapping[str, int]) -> None:
        self._loop = loop
        self._keepalives = keepalives

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)

    async def create_connection(self, *arguments: Any, **options: Any) -> Any:
        """See `AbstractEventLoop.create_connection`."""
        transport, protocol = await self._loop.create_connection(*arguments, **options)
        set_keepalives(transport.get_extra_info("socket"), self._keepalives)
        return transport, protocol


def set_keepalives(connection: socket.socket, keepalives: Mapping[str, int]) -> None:
    """Have the kernel watch a connection, as libpq does; 0 leaves the system's own value."""
    if connection.family not in (socket.AF_INET, socket.AF_INET6):
        return
    enabled = bool(keepalives["keepalives"])
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, enabled)
    for name, option in _SOCKET_OPTIONS.items():
        is_wanted = enabled or name == "tcp_user_timeout"
        if is_wanted and keepalives[name] > 0 and hasattr(socket, option):
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), keepalives[name])
