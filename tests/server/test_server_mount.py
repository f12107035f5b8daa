"""The app mounted in another one: addresses, counters and what is logged are the same as alone."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING

import pytest
import websockets

from tests.support.server import receive, serve

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aredun.backend import RedunBackendDb
    from tests.support.server import Served

TOKEN = "s3cret-token"
BEARER = {"Authorization": f"Bearer {TOKEN}"}

pytestmark = pytest.mark.parametrize("dialect", ["sqlite"], indirect=True)


@pytest.fixture
async def served(backend: RedunBackendDb) -> AsyncIterator[Served]:
    """The app, somewhere inside another one."""
    async with serve(backend, token=TOKEN, prefix="/lab/provenance") as served:
        yield served


async def test_everything_is_there(served: Served) -> None:
    """The page, its files, the API, its schema and the streams; and the same doors are open and shut."""
    for path in ("/", "/static/main.js", "/healthz", "/readyz"):
        answer = await served.http.get(path)
        assert answer.status_code == 200, path
        assert "default-src 'none'" in answer.headers["content-security-policy"]
    for path in ("/api/executions", "/metrics", "/openapi.json", "/static/../api/executions"):
        assert (await served.http.get(path)).status_code in (401, 404), path
        assert (await served.http.get(path, headers=BEARER)).status_code in (200, 404), path
    schema = (await served.http.get("/openapi.json", headers=BEARER)).json()
    assert schema["servers"] == [{"url": "/lab/provenance"}]
    slash = await served.http.get("/api/executions/", headers=BEARER)
    assert slash.headers["location"] == f"{served.url}/api/executions"
    origin = served.url.removesuffix("/lab/provenance")
    async with served.connect("/ws/executions", additional_headers=BEARER, origin=origin) as websocket:
        assert (await receive(websocket))["type"] == "snapshot"
    with pytest.raises(websockets.InvalidStatus):
        await served.connect("/ws/executions", additional_headers=BEARER, origin="http://evil.example")


async def test_counters_and_log(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    """Requests count under the app's own routes, refused streams too."""
    caplog.set_level(logging.INFO, "aredun.access")
    await served.http.get("/api/executions", headers=BEARER)
    await served.http.head("/api/executions", headers=BEARER)
    await served.http.get("/api/nothing", headers=BEARER)
    with pytest.raises(websockets.InvalidStatus):
        await served.connect("/ws/executions", additional_headers={"Authorization": "Bearer wrong"})
    text = (await served.http.get("/metrics", headers=BEARER)).text
    for labels in (
        '{method="GET",route="/api/executions",status="200"} 1.0',
        '{method="HEAD",route="/api/executions",status="200"} 1.0',
        '{method="GET",route="other",status="404"} 1.0',
    ):
        assert f"aredun_http_requests_total{labels}" in text
    assert 'aredun_streams_closed_total{code="1008",endpoint="executions"} 1.0' in text
    entries = [json.loads(record.message) for record in caplog.records if record.name == "aredun.access"]
    assert [entry.get("status", entry.get("code")) for entry in entries[:4]] == [200, 200, 404, 1008]
    assert entries[0]["path"] == "/lab/provenance/api/executions"
