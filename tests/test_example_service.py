"""The example service: redun's workflows on aredun inside a running web service."""

from __future__ import annotations

import asyncio
import json
import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import httpx
import uvicorn

from benchmarks.support import measure_lag, percentile
from examples.service import create_app

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from fastapi import FastAPI

SAMPLES = 60


@asynccontextmanager
async def serve(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    """Serve an app on a port of its own, on the test's event loop."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    config = uvicorn.Config(app, log_level="warning", ws="none")
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    while not server.started:
        assert not serving.done(), "the service did not start"
        await asyncio.sleep(0.01)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    async with httpx.AsyncClient(base_url=url, timeout=60) as client:
        yield client
    server.should_exit = True
    await serving
    listener.close()


async def follow(client: httpx.AsyncClient, samples: int) -> list[dict[str, Any]]:
    """Start a run and return the events of its progress."""
    answer = await client.post("/runs", params={"samples": samples})
    assert answer.status_code == 202
    events = []
    async with client.stream("GET", f"/runs/{answer.json()['execution_id']}/progress") as stream:
        async for line in stream.aiter_lines():
            if line.startswith("data: "):
                events.append(json.loads(line.removeprefix("data: ")))
    return events


async def test_service_streams_the_progress_of_its_runs_without_stalling(database_url: str) -> None:
    async with serve(create_app(database_url)) as client, measure_lag(0.005) as lags:
        several = await asyncio.gather(follow(client, SAMPLES), follow(client, SAMPLES + 1))
        assert (await client.get("/health")).json() == {"status": "ok"}
        again = await follow(client, SAMPLES)
    for number, events in enumerate(several):
        samples = SAMPLES + number
        assert events[-1] == {
            "result": {"samples": samples, "largest": (samples - 1) * samples * (2 * samples - 1) // 6}
        }
        # The workflow itself, its samples and the summary.
        assert events[-2] == {"jobs": samples + 2, "ended": samples + 2}
        ended = [event["ended"] for event in events[:-1]]
        assert ended == sorted(ended)
    assert again[-1] == several[0][-1]
    # Threads of redun share the interpreter with the loop, but it never waits for a database or for a run.
    assert percentile(lags, 0.9) < 250


async def test_unknown_run_is_refused_in_a_line(database_url: str) -> None:
    async with serve(create_app(database_url)) as client:
        answer = await client.get("/runs/nonsense/progress")
    assert answer.status_code == 404
    assert answer.json() == {"detail": "no run nonsense: POST /runs starts one and returns its id"}
