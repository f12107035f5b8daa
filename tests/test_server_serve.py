"""`aredun serve` as a process: it starts, says where, serves, and ends its streams when it is told to."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
import websockets

from aredun.cli import main

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

AREDUN = str(Path(sys.executable).with_name("aredun"))

pytestmark = pytest.mark.parametrize("dialect", ["sqlite"], indirect=True)


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
