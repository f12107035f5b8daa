"""A web service that runs workflows on its own event loop, and shows jobs and lineage while they come to be.

Start it with `uvicorn examples.live_service:app` and open http://127.0.0.1:8000. A click starts a workflow
on aredun's scheduler, beside the requests that the service answers. The page listens to the websockets of
aredun's own API, which is mounted under /provenance, with the viewer: jobs appear as they are recorded, and
when the run is over, each step that its result came from.
"""

from __future__ import annotations

import asyncio
import os
import uuid
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import FastAPI, HTTPException, Query
from fastapi.responses import HTMLResponse

from aredun import RedunBackendDb, Scheduler, task
from aredun.server import create_app

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

redun_namespace = "live_service"

PAGE = """<!doctype html>
<meta charset="utf-8">
<title>Live lineage</title>
<link rel="icon" href="data:,">
<h1>Which city is warmest?</h1>
<button>Oslo, Rome and Cairo</button>
<p id="result"></p>
<h2>Jobs</h2><ul id="jobs"></ul>
<h2>Where the result came from</h2><ol id="lineage"></ol>
<p><a href="provenance/">All that was ever run</a></p>
<script type="module">
  const open = path => {
    const address = new URL(path, location)
    address.protocol = location.protocol.replace("http", "ws")
    return new WebSocket(address)
  }
  const get = id => document.getElementById(id)
  const name = node => [node.task, node.name].filter(part => part).join(": ") || node.value_hash.slice(0, 8)
  const started = {}
  let run

  const showJob = job => {
    if (job.execution_id !== run) return
    started[job.id] ??= get("jobs").appendChild(document.createElement("li"))
    started[job.id].textContent = `${job.task} ${job.status}`
  }
  const showLineage = () => {
    open(`provenance/ws/dataflow/${run}`).onmessage = event => {
      const message = JSON.parse(event.data)
      if (message.type !== "edge") return
      const line = get("lineage").appendChild(document.createElement("li"))
      line.textContent = `${name(message.src)} came from ${message.dest ? name(message.dest) : "outside"}`
    }
  }
  // One subscription to all that is recorded; this page shows its own run.
  open("provenance/ws/executions").onmessage = event => {
    const message = JSON.parse(event.data)
    if (message.type === "job") showJob(message.job)
  }
  document.querySelector("button").onclick = async () => {
    const answer = await fetch("runs?city=Oslo&city=Rome&city=Cairo", {method: "POST"})
    run = (await answer.json()).execution_id
    const {result} = await (await fetch(`runs/${run}`)).json()
    get("result").textContent = result
    showLineage()
  }
</script>"""


@task()
async def measure(city: str) -> list[int]:
    """Stand for a request to a weather station, on the loop."""
    await asyncio.sleep(0.05)
    return [len(city) * 3 + sum(map(ord, city)) % 7 + hour % 5 for hour in range(24)]


@task()
def mean(temperatures: list[int]) -> float:
    """Stand for work that computes, in a thread."""
    return sum(temperatures) / len(temperatures)


@task()
def find_warmest(means: dict[str, float]) -> str:
    """Put them together."""
    return max(means, key=lambda city: means[city])


@task()
def main(cities: list[str]) -> Any:
    """Measure all cities at once."""
    return find_warmest({city: mean(measure(city)) for city in cities})


def create_service(db_uri: str) -> FastAPI:
    """Return the service on a repository."""
    backend = RedunBackendDb(db_uri)
    provenance = create_app(backend)
    scheduler = Scheduler(backend)
    runs: dict[str, asyncio.Task[Any]] = {}

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with backend, scheduler:
            yield
            await provenance.state.close()
            for run in runs.values():
                run.cancel()
            await asyncio.gather(*runs.values(), return_exceptions=True)

    app = FastAPI(title="workflows with live lineage", lifespan=lifespan)
    app.mount("/provenance", provenance)

    @app.get("/", response_class=HTMLResponse)
    async def show_page() -> str:
        return PAGE

    @app.post("/runs", status_code=202)
    async def start(city: Annotated[list[str], Query()]) -> dict[str, str]:
        execution_id = str(uuid.uuid4())
        runs[execution_id] = asyncio.create_task(scheduler.run(main(city), execution_id=execution_id))
        return {"execution_id": execution_id}

    @app.get("/runs/{execution_id}")
    async def wait(execution_id: str) -> dict[str, Any]:
        if execution_id not in runs:
            raise HTTPException(404, f"no run {execution_id}: POST /runs starts one and returns its id")
        # Whoever asks may go away; the run goes on.
        return {"result": await asyncio.shield(runs[execution_id])}

    return app


app = create_service(os.environ.get("SERVICE_DB_URI", "sqlite:///live_service.db"))
