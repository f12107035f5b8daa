"""Who gets in, what a browser is told, and what hostile repositories can do: nothing."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa
import websockets

from aredun.cli import main
from aredun.cli.serve import get_allowed_hosts, is_loopback
from aredun.errors import UsageError
from aredun.server import ServerSettings
from aredun.server.security import COOKIE, make_session_key
from tests.support.hostile import make_hostile_repository
from tests.support.server import receive, serve

if TYPE_CHECKING:
    from pathlib import Path

    from aredun.backend import RedunBackendDb
    from tests.support.server import Served

TOKEN = "s3cret-token"
BEARER = {"Authorization": f"Bearer {TOKEN}"}


async def test_a_token_is_demanded(backend: RedunBackendDb) -> None:
    """In a header, a cookie or the first message; without it there is only the page and its health."""
    async with serve(backend, token=TOKEN) as served:
        http = served.http
        for path in ("/api/executions", "/openapi.json", "/metrics", "/api/nothing"):
            answer = await http.get(path)
            assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
            wrong = await http.get(path, headers={"Authorization": "Bearer wrong"})
            assert wrong.status_code == 401
        for path in ("/", "/static/main.js", "/healthz", "/readyz"):
            assert (await http.get(path)).status_code == 200
        assert (await http.get("/api/executions", headers=BEARER)).status_code == 200
        assert (await http.post("/api/session")).status_code == 401
        opened = await http.post("/api/session", headers=BEARER)
        cookie = opened.headers["set-cookie"]
        assert TOKEN not in cookie
        assert "HttpOnly" in cookie
        assert "SameSite=strict" in cookie
        assert (await http.get("/api/executions")).status_code == 200
        await _check_sockets(served)


async def _check_sockets(served: Served) -> None:
    key = {"Cookie": f"{COOKIE}={make_session_key(TOKEN)}"}
    for headers in (BEARER, key):
        async with served.connect("/ws/executions", additional_headers=headers) as websocket:
            assert (await receive(websocket))["type"] == "snapshot"
    with pytest.raises(websockets.InvalidStatus):
        await served.connect("/ws/executions", additional_headers={"Authorization": "Bearer wrong"})
    for text in (json.dumps({"type": "auth", "token": TOKEN}), TOKEN):
        async with served.connect("/ws/executions") as websocket:
            await websocket.send(text)
            assert (await receive(websocket))["type"] == "snapshot"
    for text in (json.dumps({"token": "no"}), "[" * 5000, "\\ud800", '{"token": 3}'):
        async with served.connect("/ws/executions") as websocket:
            await websocket.send(text)
            assert (await receive(websocket))["error"] == "unauthorized"
            await websocket.wait_closed()
            assert websocket.close_code == 4401


async def test_a_token_of_digits(backend: RedunBackendDb) -> None:
    """A bare token that reads as a number opens a stream as any other does."""
    async with serve(backend, token="271828") as served:
        for text in ("271828", '"271828"', '{"token": "271828"}'):
            async with served.connect("/ws/executions") as websocket:
                await websocket.send(text)
                assert (await receive(websocket))["type"] == "snapshot"


async def test_origins_and_hosts(backend: RedunBackendDb) -> None:
    """Pages of other origins open no stream, and other names do not lead here."""
    options: dict[str, Any] = {
        "allowed_hosts": ("127.0.0.1",),
        # Written as people write addresses; a browser sends them in lower case, without slash or port.
        "allowed_origins": ("HTTPS://Lab.Example:443/", "http://pages.example:8000"),
    }
    async with serve(backend, **options) as served:
        for origin in (served.url, "https://lab.example", "http://pages.example:8000"):
            async with served.connect("/ws/executions", origin=origin) as websocket:
                assert (await receive(websocket))["type"] == "snapshot"
        for origin in (
            "https://evil.example",
            "null",
            "http://pages.example",
            "http://127.0.0.1:1",
            "http://[bad",
        ):
            with pytest.raises(websockets.InvalidStatus):
                await served.connect("/ws/executions", origin=origin)
        answer = await served.http.get("/api/executions", headers={"Host": "evil.example"})
        assert answer.status_code == 421


async def test_headers_and_limits(backend: RedunBackendDb) -> None:
    """Every answer carries the headers that keep a browser safe; large requests are refused."""
    async with serve(backend, max_connections=2) as served:
        for path in ("/", "/api/executions", "/api/nothing", "/static/main.js", "/healthz"):
            answer = await served.http.get(path)
            policy = answer.headers["content-security-policy"]
            assert "default-src 'none'" in policy
            assert "unsafe" not in policy
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["x-frame-options"] == "DENY"
            assert "server" not in answer.headers or "uvicorn" in answer.headers["server"]
        page = (await served.http.get("/")).text
        assert "<script>" not in page
        assert "style=" not in page
        assert (await served.http.get("/api/jobs", params={"cursor": "x" * 20_000})).status_code == 414
        assert (await served.http.post("/api/session", content=b"x" * 100_000)).status_code == 413
        etag = (await served.http.get("/static/main.js")).headers["etag"]
        again = await served.http.get("/static/main.js", headers={"If-None-Match": etag})
        assert again.status_code == 304
        first, second = await served.connect("/ws/executions"), await served.connect("/ws/executions")
        with pytest.raises(websockets.InvalidStatus):
            await served.connect("/ws/executions")
        await first.send("x" * 20_000)
        await first.wait_closed()
        assert first.close_code == 1009
        await second.close()


def make_cursor(*parts: Any) -> str:
    """Return a cursor of a client's own."""
    return base64.urlsafe_b64encode(json.dumps(parts).encode()).decode()


HALF = "\ud800"
TIME = "2024-01-01T00:00:00+00:00"
DEEP = base64.urlsafe_b64encode(b"[" * 3_000).decode()
TAMPERED = [
    *(
        f"/api/executions?cursor={make_cursor('Execution', 'time', place)}"
        for place in (
            [TIME, HALF],
            [TIME, "a\0"],
            [TIME, {}],
            ["2024-01-01", "a"],
            ["0001-01-01T00:00:00+23:59", "a"],
            ["9999-12-31T23:59:59-23:59", "a"],
        )
    ),
    f"/api/values?cursor={make_cursor('Value', None, [HALF])}",
    f"/api/tags?cursor={make_cursor('Tag', None, [HALF])}",
    f"/api/jobs?cursor={DEEP}",
    f"/api/tags?cursor={DEEP}",
    f"/api/executions?tag=a={'[' * 2_000}",
    f"/api/find/~{'9' * 30}",
    "/api/find/~99999999999999999999",
]


async def test_what_was_tampered_with_is_refused(backend: RedunBackendDb) -> None:
    """What no database can look for is the client's mistake, not the server's."""
    async with serve(backend) as served:
        for path in TAMPERED:
            answer = await served.http.get(path)
            assert (answer.status_code, answer.json()["error"]) == (400, "bad_request"), path
        # A number of any size is a tag's value.
        assert (await served.get(f"/api/executions?tag=a={'9' * 2_000}"))["items"] == []
        assert (await served.http.get("/api/executions/", headers={"Host": "[::1"})).status_code == 421
        with pytest.raises(websockets.InvalidStatus):
            await served.connect("/ws/executions", additional_headers={"Host": "[::1"})


@pytest.mark.parametrize("dialect", ["sqlite"], indirect=True)
async def test_servers_of_one_host_share_its_cookies(backend: RedunBackendDb) -> None:
    """They open with the key of each, beside whatever other apps keep there."""
    async with serve(backend, token="one") as one, serve(backend, token="other", prefix="/lab") as other:
        keys = []
        for served, token in ((one, "one"), (other, "other")):
            opened = await served.http.post("/api/session", headers={"Authorization": f"Bearer {token}"})
            keys.append(opened.headers["set-cookie"].partition(";")[0])
        cookies = {"Cookie": "; ".join(['prefs={"a": 1}', *keys])}
        for served in (one, other):
            assert (await served.http.get("/api/executions", headers=cookies)).status_code == 200
            async with served.connect("/ws/executions", additional_headers=cookies) as websocket:
                assert (await receive(websocket))["type"] == "snapshot"


async def test_errors_of_the_database_stay_in_the_log(
    backend: RedunBackendDb, caplog: pytest.LogCaptureFixture
) -> None:
    """A client learns nothing of tables, paths and queries."""
    async with serve(backend) as served:

        async def drop(session: Any) -> None:
            await session.execute(sa.text("ALTER TABLE tag RENAME TO gone"))

        await backend.database.write(drop)
        answer = await served.http.get("/api/tags")
        assert answer.status_code == 500
        assert set(answer.json()) == {"error", "message"}
        assert "tag" not in answer.text
        assert "SELECT" not in answer.text
        assert "tag" in caplog.text


async def test_a_defect_is_answered_like_any_error(
    backend: RedunBackendDb, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Even what nobody expected carries the headers, and says nothing."""

    async def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("/secret/path")

    async with serve(backend) as served:
        for way in ("read", "fetch"):
            monkeypatch.setattr(backend.database, way, fail)
        answer = await served.http.get("/api/executions")
        assert answer.status_code == 500
        assert answer.json()["error"] == "internal"
        assert "secret" not in answer.text
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert answer.headers["cache-control"] == "no-store"
        assert "/secret/path" in caplog.text
        assert (await served.http.get("/readyz")).status_code == 503


async def test_hostile_repositories_are_shown_and_not_run(
    backend: RedunBackendDb, redun_backend: Any, tmp_path: Path
) -> None:
    """Scripts, ANSI, huge texts, numbers and pickles come out as JSON of bounded size."""
    mark = tmp_path / "mark"
    result = make_hostile_repository(redun_backend, mark)
    async with serve(backend) as served:
        paths = ["executions", "jobs", "call-nodes", "values", "tasks", "tags", "query", "count"]
        paths += ["executions/hostile-run", "executions/hostile-run/tree", "executions/hostile-run/jobs"]
        paths += ["jobs/hostile-job", "matches/hostile", "find/..%2F..%2Fetc%2Fpasswd"]
        for listed, key, kind in (
            ("tasks", "hash", "tasks"),
            ("values", "value_hash", "values"),
            ("call-nodes", "call_hash", "call-nodes"),
        ):
            page = await served.get(f"/api/{listed}", params={"limit": 100})
            paths += [f"{kind}/{item[key]}" for item in page["items"]]
        for path in paths:
            answer = await served.http.get(f"/api/{path}")
            assert answer.status_code == 200, (path, answer.text[:300])
            assert answer.headers["content-type"] == "application/json"
            assert len(answer.content) < 2_000_000
        edges = await served.receive_all(f"/ws/dataflow/{result}?batch=50")
        assert edges[-1]["type"] == "end"
        assert edges[-1]["edges"] > 50
        async with served.connect("/ws/executions") as websocket:
            assert (await receive(websocket))["type"] == "snapshot"
    assert not mark.exists()


def test_an_address_beyond_loopback_takes_a_token(capsys: pytest.CaptureFixture[str]) -> None:
    """The command refuses to serve everybody."""
    assert main(["serve", "--host", "0.0.0.0"]) == 2
    assert "--token" in capsys.readouterr().err
    assert is_loopback("127.0.0.9")
    assert is_loopback("::1")
    assert not is_loopback("example.org")
    assert get_allowed_hosts("127.0.0.1", [], "token") is None
    assert "evil.example" not in (get_allowed_hosts("127.0.0.1", [], None) or ())
    for token in ("", " ", "tökén", "a b", "a\n"):
        with pytest.raises(UsageError, match="ASCII"):
            ServerSettings(token=token)
