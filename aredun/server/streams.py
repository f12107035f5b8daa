"""What all websockets have in common: who may open one, how long it may stall, and how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from typing import TYPE_CHECKING, Any

from starlette.websockets import WebSocketDisconnect

from aredun.loop.ending import finish
from aredun.loop.pacing import take_turn
from aredun.server.answers import dump, get_problem, logger
from aredun.server.metrics import log_access
from aredun.server.security import has_token, is_host_allowed, is_origin_allowed, is_same_secret

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterator

    from starlette.websockets import WebSocket

    from aredun.server.metrics import Metrics
    from aredun.server.settings import ServerSettings

    Body = Callable[["Sender"], Coroutine[Any, Any, None]]

# How a stream ends: the close code, the error's name (empty for none) and what is told of it.
Ending = tuple[int, str, str]

NORMAL = 1000
GOING_AWAY = 1001
REFUSED = 1008
INTERNAL_ERROR = 1011
TRY_AGAIN = 1013
UNAUTHORIZED = 4401

# A client has little to say: more than this is no client of ours.
_MAX_MESSAGES = 100


class StreamError(Exception):
    """Ends a stream: with an error message, then this close code."""

    def __init__(self, code: int, error: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.error = error


class Sender:
    """
    Sends messages at the client's pace.

    Parameters
    ----------
    websocket : WebSocket
        Where to.
    stall_timeout : float
        How long, in seconds, the client may take nothing.
    """

    def __init__(self, websocket: WebSocket, stall_timeout: float) -> None:
        self._websocket = websocket
        self._stall_timeout = stall_timeout
        self.messages = 0

    async def send(self, message: str) -> None:
        """Send one message; returns when the client has taken most of those before it."""
        try:
            async with asyncio.timeout(self._stall_timeout):
                await self._websocket.send({"type": "websocket.send", "text": message})
        except TimeoutError:
            raise StreamError(REFUSED, "stalled", "the client took nothing for too long") from None
        self.messages += 1
        # A client that takes all at once must not keep the others waiting.
        await take_turn()


class Streams:
    """
    The open websockets of one app.

    Parameters
    ----------
    settings : ServerSettings
        What is allowed.
    metrics : Metrics
        Where streams are counted.
    """

    def __init__(self, settings: ServerSettings, metrics: Metrics) -> None:
        self._settings = settings
        self._metrics = metrics
        self._open: set[asyncio.Task[Any]] = set()
        self._is_closing = False

    @property
    def count(self) -> int:
        """How many are open."""
        return len(self._open)

    async def run(self, websocket: WebSocket, endpoint: str, body: Body) -> None:
        """
        Serve one websocket: check it, run its body until it or the client ends, and close it.

        Parameters
        ----------
        websocket : WebSocket
            Not yet accepted.
        endpoint : str
            What metrics and the log call it.
        body : callable
            Sends the messages; it is cancelled as soon as the client is gone.
        """
        token = self._settings.token
        began, sender = time.perf_counter(), Sender(websocket, self._settings.stall_timeout)
        known = token is None or has_token(websocket.headers, token)
        refusal = self._find_refusal(websocket, known)
        code = INTERNAL_ERROR if refusal is None else refusal
        try:
            if refusal is not None:
                await websocket.close(refusal)
                return
            with self._keep_open(endpoint):
                await websocket.accept()
                code, error, message = await self._serve(websocket, sender, body, None if known else token)
                if error:
                    content = dump({"type": "error", "error": error, "message": message}).decode()
                    await _quietly(websocket.send({"type": "websocket.send", "text": content}))
                await _quietly(websocket.close(code, error))
        except asyncio.CancelledError:
            code = GOING_AWAY
            if not self._is_closing:
                raise
            await _quietly(websocket.close(code, "the server is shutting down"))
        finally:
            self._metrics.closes.labels(endpoint, str(code)).inc()
            log_access(
                event="stream",
                endpoint=endpoint,
                path=websocket.scope["path"][:500],
                code=code,
                messages=sender.messages,
                ms=round((time.perf_counter() - began) * 1000, 2),
                client=websocket.client.host if websocket.client else "",
            )

    def _find_refusal(self, websocket: WebSocket, known: bool | None) -> int | None:
        """Return the code that a websocket is refused with before it is open, None if it is let in."""
        headers, settings = websocket.headers, self._settings
        is_wanted = is_host_allowed(headers, settings) and is_origin_allowed(headers, settings)
        if not is_wanted or known is False:
            return REFUSED
        return TRY_AGAIN if self._is_closing or self.count >= settings.max_connections else None

    @contextlib.contextmanager
    def _keep_open(self, endpoint: str) -> Iterator[None]:
        """Count the stream of the current task while it is open."""
        task: Any = asyncio.current_task()
        self._open.add(task)
        self._metrics.streams.labels(endpoint).inc()
        self._metrics.streams_total.labels(endpoint).inc()
        try:
            yield
        finally:
            self._open.discard(task)
            self._metrics.streams.labels(endpoint).dec()

    async def _serve(self, websocket: WebSocket, sender: Sender, body: Body, wanted: str | None) -> Ending:
        """Run a body beside what the client sends, after it gave the wanted token."""
        if wanted is not None and not await self._authenticate(websocket, wanted):
            return UNAUTHORIZED, "unauthorized", "this server wants a token first"
        work = asyncio.create_task(body(sender))
        watcher = asyncio.create_task(_wait_for_end(websocket))
        try:
            await asyncio.wait({work, watcher}, return_when=asyncio.FIRST_COMPLETED)
            return _get_ending(work) if work.done() else (watcher.result(), "", "")
        finally:
            await end_tasks(work, watcher)

    async def _authenticate(self, websocket: WebSocket, token: str) -> bool:
        """Wait for the token in the first message: `{"type": "auth", "token": "..."}`, or the bare token."""
        try:
            async with asyncio.timeout(self._settings.auth_timeout):
                text = await websocket.receive_text()
        except (TimeoutError, WebSocketDisconnect, KeyError):
            return False
        given: Any = text
        with contextlib.suppress(ValueError, RecursionError):
            message = json.loads(text)
            # A bare token may read as a number.
            if isinstance(message, dict | str):
                given = message.get("token") if isinstance(message, dict) else message
        return isinstance(given, str) and is_same_secret(given, token)

    async def close(self) -> None:
        """End all streams; clients are told that the server goes away."""
        self._is_closing = True
        tasks = list(self._open)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def end_tasks(*tasks: asyncio.Task[Any]) -> None:
    """Cancel tasks, once each, and wait until they have cleaned up, even if the caller is cancelled.

    A second cancellation would hit a task while it gives its connection back.
    """
    for task in tasks:
        task.cancel()
    # Their errors are looked at, so that nobody warns of them.
    cancelled = await finish(asyncio.gather(*tasks, return_exceptions=True))
    if cancelled is not None:
        raise cancelled


def _get_ending(work: asyncio.Task[None]) -> Ending:
    error = work.exception()
    if error is None or isinstance(error, WebSocketDisconnect | OSError):
        return NORMAL, "", ""
    if isinstance(error, StreamError):
        return error.code, error.error, str(error)
    if not isinstance(error, Exception):
        raise error
    _, code, message = get_problem(error)
    if code == "unavailable":
        logger.warning("a stream failed: %s", error)
        return TRY_AGAIN, code, message
    if code == "internal":
        logger.error("a stream failed", exc_info=error)
        return INTERNAL_ERROR, code, message
    # What was asked for is answered, by an error message.
    return NORMAL, code, message


async def _wait_for_end(websocket: WebSocket) -> int:
    """Return the close code once the client is gone, or says too much."""
    for _ in range(_MAX_MESSAGES):
        message = await websocket.receive()
        if message["type"] == "websocket.disconnect":
            return int(message.get("code") or NORMAL)
    return REFUSED


async def _quietly(sending: Awaitable[None]) -> None:
    """Send something to a client that may be gone, and that must not keep the server waiting."""
    with contextlib.suppress(TimeoutError, RuntimeError, OSError, WebSocketDisconnect):
        async with asyncio.timeout(1):
            await sending
