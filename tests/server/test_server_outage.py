"""A database that goes away and comes back: quick answers meanwhile, and nothing lost."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Any

import pytest

from aredun.backend import RedunBackendDb
from aredun.errors import RedunDatabaseError
from aredun.search.loading import load_all
from aredun.server import change_poll
from tests.server.test_server_changes import TASK, describe, start
from tests.support.recording import FakeJob
from tests.support.server import receive, receive_until, serve

if TYPE_CHECKING:
    from tests.support.databases import PostgresCluster
    from tests.support.server import Served

# Seconds between attempts: the configured ones are two, four and eight.
SOON = 0.5


@pytest.mark.parametrize("dialect", ["postgresql"], indirect=True)
async def test_a_server_that_restarts(
    backend: RedunBackendDb, database_url: str, postgres: PostgresCluster, caplog: pytest.LogCaptureFixture
) -> None:
    """Everything says so at once, and works again by itself; a stream that was open goes on."""
    async with serve(backend) as served, RedunBackendDb(database_url) as writer:
        root = FakeJob(TASK)
        await start(writer, root)
        assert await served.get("/readyz") == {"status": "ready"}
        async with served.connect("/ws/executions") as websocket:
            await receive(websocket)
            await asyncio.to_thread(postgres.stop)
            try:
                await asyncio.gather(
                    _check_answer(served, "/readyz", "not_ready"),
                    _check_answer(served, f"/api/find/{root.id}", "unavailable"),
                    *(_check_stream(served, path) for path in ("executions", "executions/-", "dataflow/-")),
                )
                assert await served.get("/healthz") == {"status": "ok"}
                delays = re.findall(r"again in ([\d.]+) s", caplog.text)
                assert delays
                assert max(map(float, delays)) < SOON
            finally:
                await asyncio.to_thread(postgres.start)
            assert await served.get("/readyz") == {"status": "ready"}
            assert (await served.get(f"/api/find/{root.id}"))["record"]["id"] == root.id
            await writer.record_job_end(root)
            changes = await receive_until(websocket, "execution:ended")
            assert [describe(change)[:2] for change in changes] == [("job", "ended"), ("execution", "ended")]
    # An outage is told in lines; traces are for defects.
    assert not [record for record in caplog.records if record.exc_info]


async def _check_answer(served: Served, path: str, error: str) -> None:
    answer = await served.http.get(path)
    assert (answer.status_code, answer.json()["error"]) == (503, error)
    assert int(answer.headers["retry-after"]) > 0
    assert "socket" not in answer.text


async def _check_stream(served: Served, path: str) -> None:
    async with served.connect(f"/ws/{path}") as websocket:
        assert (await receive(websocket))["error"] == "unavailable"
        await websocket.wait_closed()
        assert websocket.close_code == 1013


async def test_a_look_that_fails_half_way_loses_nothing(
    backend: RedunBackendDb, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What could not be read whole is looked for again."""
    failures = 2

    async def fail(backend: RedunBackendDb, model: Any, ids: Any) -> dict[str, Any]:
        nonlocal failures
        if ids and failures:
            failures -= 1
            raise RedunDatabaseError("gone") from ConnectionResetError()
        return await load_all(backend, model, ids)

    monkeypatch.setattr(change_poll, "load_all", fail)
    monkeypatch.setattr("aredun.server.changes._RETRY_PAUSE", 0.05)
    async with serve(backend) as served, RedunBackendDb(database_url) as writer:
        async with served.connect("/ws/executions") as websocket:
            await receive(websocket)
            root = FakeJob(TASK)
            await start(writer, root)
            await writer.record_job_end(root)
            changes = await receive_until(websocket, "execution:ended")
            assert failures == 0
            assert [describe(change)[:2] for change in changes] == [
                ("execution", "started"),
                ("job", "started"),
                ("job", "ended"),
                ("execution", "ended"),
            ]


@pytest.mark.parametrize("dialect", ["sqlite"], indirect=True)
async def test_who_comes_while_the_feed_ends(
    backend: RedunBackendDb, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A feed that cleans up after its last subscriber does not take in another one."""
    monkeypatch.setattr("aredun.server.changes._LINGER", 0.0)
    async with serve(backend) as served, RedunBackendDb(database_url) as writer:
        feed = served.app.state.feed
        async with feed.subscribe() as (subscription, _, _):
            await start(writer, FakeJob(TASK))
            await asyncio.wait_for(subscription.take(), 5)
        # It has decided to end, and has yet to close what it watches with.
        while feed._poll is not None:  # noqa: ASYNC110  # nothing tells
            await asyncio.sleep(0)
        ending = feed._task
        assert not ending.done()
        async with feed.subscribe() as (subscription, _, _):
            root = FakeJob(TASK)
            await start(writer, root)
            first = await asyncio.wait_for(subscription.take(), 5)
            assert feed._task is not ending
            assert first.execution_id == root.execution.id
