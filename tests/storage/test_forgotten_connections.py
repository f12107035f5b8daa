"""Connections that the network forgot: nothing waits for an answer that never comes."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
import sqlalchemy as sa

from aredun.backend import RedunBackendDb
from aredun.errors import RedunDatabaseError
from aredun.storage.liveness import KEEPALIVES, set_keepalives
from tests.support.network import open_proxy
from tests.support.server import serve

if TYPE_CHECKING:
    from tests.support.databases import PostgresCluster

pytestmark = pytest.mark.parametrize("dialect", ["postgresql"], indirect=True)
# What a test waits at most; the code on which it is to fail waits without end.
BOUND = 15.0


def proxied(database_url: str, port: int, options: str = "") -> str:
    """Return the URI of the same database behind a proxy."""
    return f"postgresql://postgres@127.0.0.1:{port}{urlsplit(database_url).path}?sslmode=disable{options}"


def settings(**others: str) -> dict[str, str]:
    return {"ping_after": "0.02", "ping_timeout": "0.1", "db_retries_backoff": "0.01", **others}


async def test_idle_connections_are_forgotten(database_url: str, postgres: PostgresCluster) -> None:
    """Reads, writes and the end go on over new connections."""
    async with asyncio.timeout(BOUND), open_proxy(postgres.socket_folder) as proxy:
        backend = RedunBackendDb(proxied(database_url, proxy.port), config=settings())
        await backend.load()
        first = await backend.record_value([1])
        assert await backend.get_value(first) == ([1], True)
        assert proxy.forget() >= 2
        await asyncio.sleep(0.05)
        assert await backend.get_value(first) == ([1], True)
        second = await backend.record_value([2])
        assert await backend.get_value(second) == ([2], True)
        assert proxy.forget() >= 2
        await backend.close()
    async with RedunBackendDb(database_url) as check:
        assert await check.get_value(second) == ([2], True)


async def test_close_says_what_may_be_missing(database_url: str, postgres: PostgresCluster) -> None:
    """A write whose answer never comes does not keep `close` waiting for ever."""
    async with asyncio.timeout(BOUND), open_proxy(postgres.socket_folder) as proxy:
        uri = proxied(database_url, proxy.port)
        backend = RedunBackendDb(uri, config=settings(ping_after="0", close_timeout="0.2"))
        await backend.load()
        await backend.record_value([1])
        proxy.forget()
        write = asyncio.create_task(backend.record_value([2]))
        await asyncio.sleep(0.05)
        with pytest.raises(RedunDatabaseError, match=r"within close_timeout \(0\.2 s\).*may be missing"):
            await backend.close()
        await asyncio.wait([write])
        assert write.cancelled() or isinstance(write.exception(), RedunDatabaseError)


async def test_a_server_whose_connections_are_forgotten(
    database_url: str, postgres: PostgresCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every request gets an answer: what is ready, or that it is not."""
    monkeypatch.setattr("aredun.server.app._READY_TIMEOUT", 0.3)
    async with asyncio.timeout(BOUND), open_proxy(postgres.socket_folder) as proxy:
        uri = proxied(database_url, proxy.port)
        async with (
            RedunBackendDb(uri, config=settings(ping_after="0", ping_timeout="0.1")) as backend,
            serve(backend, request_timeout=0.6) as served,
        ):
            assert await served.get("/readyz") == {"status": "ready"}
            proxy.forget()
            answer = await served.http.get("/readyz")
            assert (answer.status_code, answer.json()["error"]) == (503, "not_ready")
            proxy.forget()
            # Each connection that is lost costs at most one answer.
            while (answer := await served.http.get("/api/executions")).status_code == 504:
                assert answer.json()["error"] == "timeout"
            assert answer.status_code == 200


async def test_old_kept_connections_are_replaced(database_url: str, postgres: PostgresCluster) -> None:
    """`pool_recycle` holds for the connection of the write queue too."""
    async with RedunBackendDb(database_url, config=settings(pool_recycle="0.05")) as backend:
        await backend.record_value([1])
        before = await _list_servers(backend)
        await asyncio.sleep(0.1)
        await backend.record_value([2])
        assert not before & await _list_servers(backend)


async def _list_servers(backend: RedunBackendDb) -> set[int]:
    statement = sa.text("SELECT pid FROM pg_stat_activity WHERE datname = current_database()")
    async with backend.database.session() as session:
        return set((await session.execute(statement)).scalars())


def test_the_kernel_watches_a_connection(dialect: str) -> None:
    """The options of libpq reach the socket."""
    with socket.socket() as connection:
        set_keepalives(connection, {**KEEPALIVES, "keepalives_idle": 7, "tcp_user_timeout": 9_000})
        assert connection.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 7
        assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 9_000
