"""A web service that runs redun workflows on aredun and streams their progress while they run.

Start it with `uvicorn examples.service:app`, then

    curl -X POST 'http://127.0.0.1:8000/runs?samples=50'
    curl -N http://127.0.0.1:8000/runs/<id>/progress

The workflow is redun's and so is its scheduler, which blocks: it runs in a thread. The bridge is the backend
that it records through; the service itself reads the same database with aredun, on its own event loop.
"""

from __future__ import annotations

import asyncio
import json
import os
import uuid
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from fastapi import FastAPI, HTTPException
from fastapi.responses import StreamingResponse
from redun import Scheduler, task
from redun.config import Config

import aredun
from aredun.models import Job
from aredun.redun_bridge import RedunBackendDb

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

redun_namespace = "service"

# Seconds between two looks at the progress of a run.
INTERVAL = 0.1


@task()  # type: ignore[untyped-decorator]  # redun is not typed
def measure(sample: int) -> Any:
    """Stand for the work on one sample."""
    return sum(number * number for number in range(sample))


@task()  # type: ignore[untyped-decorator]  # redun is not typed
def summarize(measures: list[int]) -> Any:
    """Put the samples together."""
    return {"samples": len(measures), "largest": max(measures)}


@task()  # type: ignore[untyped-decorator]  # redun is not typed
def analyze(samples: int) -> Any:
    """Measure all samples and summarize them."""
    return summarize([measure(sample) for sample in range(1, samples + 1)])


class Runs:
    """The workflows that this service runs.

    Parameters
    ----------
    db_uri : str
        The repository that they are recorded in.
    """

    def __init__(self, db_uri: str) -> None:
        self._bridge = RedunBackendDb(db_uri)
        self._reader = aredun.RedunBackendDb(db_uri)
        self._tasks: dict[str, asyncio.Task[Any]] = {}

    async def open(self) -> None:
        """Open the repository, for redun and for the service."""
        await asyncio.to_thread(self._bridge.load, migrate=True)
        await self._reader.load()

    async def close(self) -> None:
        """Wait for what runs, and close the repository."""
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        await self._reader.close()
        await asyncio.to_thread(self._bridge.close)

    def start(self, samples: int) -> str:
        """Start a workflow in a thread; returns the id of its execution."""
        execution_id = str(uuid.uuid4())
        self._tasks[execution_id] = asyncio.create_task(asyncio.to_thread(self._run, execution_id, samples))
        return execution_id

    def _run(self, execution_id: str, samples: int) -> Any:
        # A scheduler runs one execution at a time: each run has its own, on one database.
        config = Config({"scheduler": {"ignore_warnings": "namespace"}})
        scheduler = Scheduler(config=config, backend=self._bridge.clone())
        return scheduler.run(analyze(samples), execution_id=execution_id)

    async def iter_progress(self, execution_id: str) -> AsyncIterator[dict[str, Any]]:
        """Yield how many jobs a run has and how many have ended, as that changes; then how it ended."""
        running = self._tasks[execution_id]
        count = sa.select(sa.func.count(), sa.func.count(Job.end_time)).where(
            Job.execution_id == execution_id
        )
        shown = None
        is_over = False
        while not is_over:
            # Asked before the jobs are counted: the last count is that of the run as a whole.
            is_over = running.done()
            async with self._reader.session() as session:
                jobs, ended = (await session.execute(count)).one()
            if (jobs, ended) != shown:
                shown = (jobs, ended)
                yield {"jobs": jobs, "ended": ended}
            if not is_over:
                await asyncio.wait([running], timeout=INTERVAL)
        error = running.exception()
        yield {"error": str(error)} if error else {"result": running.result()}

    def __contains__(self, execution_id: str) -> bool:
        return execution_id in self._tasks


def create_app(db_uri: str = "sqlite:///service.db") -> FastAPI:
    """Return the service on a repository."""
    runs = Runs(db_uri)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await runs.open()
        yield
        await runs.close()

    app = FastAPI(title="redun workflows on aredun", lifespan=lifespan)

    @app.post("/runs", status_code=202)
    async def start(samples: int = 100) -> dict[str, str]:
        return {"execution_id": runs.start(samples)}

    @app.get("/runs/{execution_id}/progress")
    async def progress(execution_id: str) -> StreamingResponse:
        if execution_id not in runs:
            raise HTTPException(404, f"no run {execution_id}: POST /runs starts one and returns its id")

        async def events() -> AsyncIterator[str]:
            async for event in runs.iter_progress(execution_id):
                yield f"data: {json.dumps(event)}\n\n"

        return StreamingResponse(events(), media_type="text/event-stream")

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    return app


app = create_app(os.environ.get("SERVICE_DB_URI", "sqlite:///service.db"))
