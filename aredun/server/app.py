"""The ASGI app: routes, websockets, health and the viewer's files around one backend."""

from __future__ import annotations

import asyncio
import contextlib
from functools import partial
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request, Response
from fastapi.websockets import WebSocket  # noqa: TC002  # FastAPI reads it at run time

from aredun import models
from aredun.errors import AredunError
from aredun.formats.versions import get_own_version
from aredun.search.loading import load_one
from aredun.server import api, details, differences, graph_api, histories, schemas, security
from aredun.server.answers import add_error_handlers, logger, make_problem
from aredun.server.changes import ChangeFeed
from aredun.server.dataflow_socket import DataflowRequest, DataflowStream, Walks
from aredun.server.executions_socket import ExecutionsStream
from aredun.server.layout import LayoutProcess
from aredun.server.metrics import CONTENT_TYPE, AccessLog, Metrics
from aredun.server.settings import ServerSettings
from aredun.server.static_files import add_viewer
from aredun.server.streams import Streams

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aredun.backend import RedunBackendDb
    from aredun.server.streams import Sender

_READY_TIMEOUT = 3.0
_MONTH = 30 * 24 * 3600

DESCRIPTION = """
What a redun repository holds: executions, jobs, calls, values, tasks and tags. It only reads.

Ids may be shortened to their first characters. Lists come in pages: give `cursor` of a page for the next one.

Beside these routes there are websockets: `/ws/dataflow/{id}`, `/ws/executions` and `/ws/executions/{id}`.
"""


PROBLEMS: dict[int | str, dict[str, Any]] = {
    400: {"model": schemas.Problem, "description": "The request makes no sense."},
    404: {"model": schemas.Problem, "description": "There is no such record."},
    409: {"model": schemas.Problem, "description": "The id fits several records."},
    422: {"model": schemas.Problem, "description": "A parameter is malformed."},
}


def create_app(backend: RedunBackendDb, *, settings: ServerSettings | None = None, **options: Any) -> FastAPI:
    """
    Make the app of a repository.

    Parameters
    ----------
    backend : RedunBackendDb
        The repository. If it is not loaded yet, the app loads it as it starts and closes it at its end; one
        that is loaded stays its owner's, as where the app is mounted in another.
    settings : ServerSettings, optional
        What is allowed; by default everybody who reaches it may read.
    **options : Any
        Fields of `ServerSettings`, such as `token`, in place of `settings`.

    Returns
    -------
    FastAPI
        An ASGI app, to be served or mounted. `await app.state.close()` ends its streams.
    """
    settings = settings or ServerSettings(**options)
    app = FastAPI(
        title="aredun",
        description=DESCRIPTION,
        version=get_own_version(),
        lifespan=_lifespan,
        # The pages of these would fetch code from elsewhere.
        docs_url=None,
        redoc_url=None,
    )
    metrics = Metrics()
    app.state.backend = backend
    app.state.settings = settings
    app.state.metrics = metrics
    app.state.streams = Streams(settings, metrics)
    app.state.feed = ChangeFeed(backend, settings)
    app.state.walks = Walks()
    app.state.layouts = LayoutProcess()
    app.state.close = lambda: _close(app)
    for routes in (api, details, graph_api, differences, histories):
        app.include_router(routes.router, responses=PROBLEMS)
    _add_websockets(app)
    _add_operations(app)
    add_viewer(app)
    add_error_handlers(app)
    app.add_middleware(security.Guard, settings=settings)
    app.add_middleware(AccessLog, metrics=metrics)
    return app


@contextlib.asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    backend: RedunBackendDb = app.state.backend
    async with contextlib.AsyncExitStack() as stack:
        if not _is_loaded(backend):
            await backend.load(migrate=False)
            stack.push_async_callback(backend.close)
        stack.push_async_callback(app.state.close)
        yield


def _is_loaded(backend: RedunBackendDb) -> bool:
    try:
        return backend.database is not None
    except AredunError:
        return False


async def _close(app: FastAPI) -> None:
    await app.state.streams.close()
    await app.state.feed.close()
    await app.state.layouts.close()


def _add_websockets(app: FastAPI) -> None:
    state = app.state

    @app.websocket("/ws/dataflow/{record_id:path}")
    async def stream_dataflow(websocket: WebSocket, record_id: str) -> None:
        async def body(sender: Sender) -> None:
            request = DataflowRequest(websocket.query_params, state.settings)
            stream = DataflowStream(state.backend, request, state.settings, state.walks, state.metrics)
            await stream.run(record_id, sender)

        await state.streams.run(websocket, "dataflow", body)

    @app.websocket("/ws/executions")
    @app.websocket("/ws/executions/{execution_id}")
    async def stream_executions(websocket: WebSocket) -> None:
        execution_id = websocket.path_params.get("execution_id")
        stream = ExecutionsStream(state.backend, state.feed, state.settings, state.metrics)
        body = partial(stream.run, execution_id, websocket.query_params.get("after"))
        await state.streams.run(websocket, "executions" if execution_id is None else "execution", body)


async def _check_database(backend: RedunBackendDb) -> None:
    """Ask the database for something; raise an error if it does not answer in time."""
    reading = asyncio.create_task(load_one(backend, models.RedunVersion, "1"))
    # If nobody took its error, asyncio would print it.
    reading.add_done_callback(lambda task: task.cancelled() or task.exception())
    done, _ = await asyncio.wait({reading}, timeout=_READY_TIMEOUT)
    if not done:
        # What ends its connection may wait itself: it is told, and not waited for.
        reading.cancel()
        raise TimeoutError(f"no answer within {_READY_TIMEOUT:g} s")
    reading.result()


def _add_operations(app: FastAPI) -> None:
    state = app.state

    @app.get("/healthz", include_in_schema=False)
    async def check_health() -> dict[str, str]:
        """Answer while the event loop turns."""
        return {"status": "ok"}

    @app.get("/readyz", include_in_schema=False)
    async def check_readiness() -> Response:
        """Answer whether the database does."""
        try:
            await _check_database(state.backend)
        except Exception as error:
            # Whatever is wrong with it, nobody should be sent here.
            logger.warning("the database does not answer: %s", str(error) or type(error).__name__)
            return make_problem(503, "the database does not answer", "not_ready")
        return Response(b'{"status":"ready"}', media_type="application/json")

    @app.get("/metrics", include_in_schema=False)
    async def show_metrics() -> Response:
        """Show the counters for Prometheus."""
        state.metrics.connections.set(state.backend.database.checked_out)
        state.metrics.subscribers.set(state.feed.subscribers)
        return Response(state.metrics.render(), headers={"content-type": CONTENT_TYPE})

    @app.post("/api/session", include_in_schema=False)
    async def open_session(request: Request) -> Response:
        """Let a browser keep a key that opens this server, once it has shown the token in a header.

        A page elsewhere cannot send that header here: there is no CORS.
        """
        answer = Response(status_code=204)
        token = state.settings.token
        if token is not None and "authorization" in request.headers:
            # A browser keeps the key of the server.
            answer.set_cookie(
                security.get_cookie_name(token),
                security.make_session_key(token),
                max_age=_MONTH,
                httponly=True,
                samesite="strict",
                secure=request.scope["scheme"] == "https",
            )
        return answer
