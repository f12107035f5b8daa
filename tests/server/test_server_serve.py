"""`aredun serve` as a process: it starts, says where, serves, and ends its streams when it is told to."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import uvicorn
import websockets

from aredun.cli import main
from aredun.cli.serve import _make_server, listen
from aredun.cli.signals import catch_signals
from aredun.server import create_app
from tests.support.dataflow import make_chains

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aredun.backend import RedunBackendDb

HANDSHAKE = (
    b"GET /ws/dataflow/%s HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
AREDUN = str(Path(sys.executable).with_name("aredun"))

on_sqlite = pytest.mark.parametrize("dialect", ["sqlite"], indirect=True)


@pytest.fixture
async def process(database_url: str, tmp_path: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """The command, serving on a free port."""
    process = await asyncio.create_subprocess_exec(
        AREDUN,
        "serve",
        "--db",
        database_url,
        "--port",
        "0",
        "--access-log",
        cwd=tmp_path,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    yield process
    if process.returncode is None:
        process.kill()
        await process.wait()


@on_sqlite
async def test_serve_until_terminated(process: asyncio.subprocess.Process) -> None:
    """The page, the API and a stream, which ends with a close code on SIGTERM."""
    assert process.stdout is not None
    line = (await asyncio.wait_for(process.stdout.readline(), 60)).decode()
    found = re.search(r"http://127\.0\.0\.1:(\d+)/", line)
    assert found, line
    port = int(found[1])
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30) as http:
        assert "<title>aredun</title>" in (await http.get("/")).text
        answer = await http.get("/api/executions")
        assert answer.json() == {"items": [], "cursor": None}
        assert "server" not in answer.headers
        evil = await http.get("/api/executions", headers={"Host": "evil.example"})
        assert evil.status_code == 421
    websocket = await websockets.connect(f"ws://127.0.0.1:{port}/ws/executions", proxy=None)
    assert json.loads(await websocket.recv())["type"] == "snapshot"
    process.send_signal(signal.SIGTERM)
    await asyncio.wait_for(websocket.wait_closed(), 30)
    assert websocket.close_code in (1001, 1012)
    _, errors = await asyncio.wait_for(process.communicate(), 30)
    entries = [json.loads(entry) for entry in errors.decode().splitlines()]
    assert [entry["path"] for entry in entries if entry["event"] == "request"][:2] == ["/", "/api/executions"]
    [stream] = [entry for entry in entries if entry["event"] == "stream"]
    assert stream["code"] in (1001, 1012)
    # It came to its end, with the backend closed, instead of being ended by the signal.
    assert process.returncode == 0


@on_sqlite
async def test_clients_that_read_nothing_do_not_hold_up_the_end(
    backend: RedunBackendDb, redun_backend: Any, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    """They are dropped in time, and nothing is told of it as of an error."""
    monkeypatch.setattr("aredun.cli.serve._SHUTDOWN_TIMEOUT", 0.2)
    monkeypatch.setattr("aredun.cli.serve._SEND_BUFFER", 4_096)
    graph, value_hash = make_chains(20, 30)
    graph.insert(redun_backend)
    server = _make_server(uvicorn, create_app(backend))
    listener = listen("127.0.0.1", 0)
    port = listener.getsockname()[1]
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    while not server.started:  # noqa: ASYNC110  # nothing tells
        await asyncio.sleep(0.01)
    url = f"ws://127.0.0.1:{port}/ws/dataflow/{value_hash}"
    websocket = await websockets.connect(url, proxy=None, max_queue=1)
    await websocket.recv()
    websocket.transport.pause_reading()
    # Longer than a handshake may be: uvicorn leaves it open, and fails when it is to end it.
    _, broken = await asyncio.open_connection("127.0.0.1", port)
    broken.write(HANDSHAKE % (b"x" * 9_000))
    await asyncio.sleep(0.3)
    signal.raise_signal(signal.SIGTERM)
    await asyncio.wait_for(serving, 10)
    websocket.transport.abort()
    broken.close()
    assert server.caught == [signal.SIGTERM]
    assert not [record for record in caplog.records if record.levelname == "ERROR"]
    assert backend.database.checked_out == 0


def test_answers_leave_at_once() -> None:
    """What is accepted does not hold an answer's body back until its headers are acknowledged (40 ms)."""
    with listen("127.0.0.1", 0) as listener, socket.create_connection(listener.getsockname()):
        accepted, _ = listener.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_signals_are_caught_while_a_server_runs() -> None:
    """They are handed on, and afterwards do again what they did before."""
    handled: list[int] = []
    before = signal.getsignal(signal.SIGINT)
    with catch_signals((signal.SIGINT, signal.SIGTERM), lambda number, _: handled.append(number)):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGTERM)
    assert handled == [signal.SIGINT, signal.SIGTERM]
    assert signal.getsignal(signal.SIGINT) == before


@on_sqlite
def test_bad_arguments_get_one_line(database_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A port that is none, an address that is not ours, an empty token."""
    for arguments, text in (
        (["--port", "70000"], "port"),
        (["--host", "203.0.113.7", "--token", "secret"], "203.0.113.7"),
        (["--token", ""], "token"),
    ):
        assert main(["serve", "--db", database_url, *arguments]) == 2
        error = capsys.readouterr().err
        assert text in error
        assert len(error.splitlines()) == 1
