"""`/ws/dataflow/{id}`: the edges of a walk as they are walked, then its sections."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from aredun.database.pacing import take_turn
from aredun.database.retry import hurry
from aredun.dataflow import describe_edge, serialize_dataflow, walk_dataflow, walk_downstream
from aredun.dataflow.display import make_dataflow_dom
from aredun.dataflow.policy import MAX_LIMIT
from aredun.errors import UsageError
from aredun.server.answers import dump
from aredun.server.finding import find_start
from aredun.server.streams import end_tasks

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping

    from aredun.backend import RedunBackendDb
    from aredun.dataflow import DataflowEdge
    from aredun.server.metrics import Metrics
    from aredun.server.settings import ServerSettings
    from aredun.server.streams import Sender

UPSTREAM, DOWNSTREAM = "upstream", "downstream"

# Edges that one stream may walk and write before the next one has its turn (about two milliseconds).
SLICE = 100
# Streams that walk at the same time; the others wait for their turn, or for their clients.
WALKERS = 2
# Walks beyond their first edges, without those that wait for their clients: each remembers what it has seen.
STARTED = 16
# Nodes that the walks load at a time, together and each at least: the more, the faster each of them is, and
# the more memory it takes.
ALL_LOOK_AHEAD = 32_768
LEAST_LOOK_AHEAD = 2_048
# How long, in seconds, a walk waits for its client before another walk may begin in its place.
_PATIENCE = 0.05
# How long, in seconds, a message with room for more edges waits for them.
_PACKING_TIME = 0.01


class Turns:
    """Lets a few streams walk at a time, and everyone in turn, so that the event loop stays free."""

    def __init__(self) -> None:
        self.started = asyncio.Semaphore(STARTED)
        self.walking = asyncio.Semaphore(WALKERS)
        # Making sections takes a thread; more of them would only fight over the interpreter.
        self.sections = asyncio.Semaphore(1)
        self._streams = 0

    @contextlib.contextmanager
    def share_look_ahead(self) -> Iterator[int]:
        """Give one more stream the nodes that its walk may load at a time."""
        self._streams += 1
        try:
            yield max(LEAST_LOOK_AHEAD, min(MAX_LIMIT, ALL_LOOK_AHEAD // self._streams))
        finally:
            self._streams -= 1


class _Turn:
    """One stream's place among the others: what it holds of the common turns."""

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        self._is_started = False
        self._was_started = False
        self._is_walking = False

    async def begin(self) -> None:
        """Wait for the first turn, in which every walk yields its first edges."""
        await self._turns.walking.acquire()
        self._is_walking = True

    async def resume(self) -> None:
        """Wait for the next turn; for the second one, until one more walk may go on."""
        if not self._was_started:
            await self._turns.started.acquire()
            self._is_started = self._was_started = True
        await self.begin()

    def pause(self) -> None:
        """Let the next one walk."""
        if self._is_walking:
            self._is_walking = False
            self._turns.walking.release()

    def yield_start(self) -> None:
        """Let another walk begin: this one waits for its client."""
        self._was_started = True
        if self._is_started:
            self._is_started = False
            self._turns.started.release()

    def end(self) -> None:
        """Give back what is held."""
        self.pause()
        self.yield_start()


class DataflowRequest:
    """
    What a client asks for.

    Parameters
    ----------
    parameters : mapping
        The query of the address: `batch`, `after`, `direction`, `max_edges`, `max_depth`, `sections`.
    settings : ServerSettings
        Bounds.

    Raises
    ------
    UsageError
        A parameter is malformed.
    """

    def __init__(self, parameters: Mapping[str, str], settings: ServerSettings) -> None:
        self.batch = min(_get_number(parameters, "batch", 0), settings.max_batch)
        self.after = _get_number(parameters, "after", 0)
        self.max_edges = min(_get_number(parameters, "max_edges", settings.max_edges), settings.max_edges)
        self.max_depth = _get_number(parameters, "max_depth", -1)
        self.direction = parameters.get("direction", UPSTREAM)
        if self.direction not in (UPSTREAM, DOWNSTREAM):
            raise UsageError(f"direction is {UPSTREAM} or {DOWNSTREAM}, not {self.direction[:40]!r}")
        # What followed from a value is told by its edges alone.
        with_sections = parameters.get("sections", "1") not in ("0", "false", "no")
        self.with_sections = with_sections and self.direction == UPSTREAM


def _get_number(parameters: Mapping[str, str], name: str, default: int) -> int:
    text = parameters.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= 12):
        raise UsageError(f"{name} must be a whole number of 0 or more, not {text[:40]!r}")
    return int(text)


def walk(backend: RedunBackendDb, start: Any, request: DataflowRequest, look_ahead: int) -> Any:
    """Return the walk that a client asks for, from its beginning."""
    # One more than wanted tells whether there are more.
    bounds: dict[str, Any] = {"max_edges": request.max_edges + 1, "look_ahead": look_ahead}
    if request.max_depth >= 0:
        bounds["max_depth"] = request.max_depth
    if request.direction == DOWNSTREAM:
        return walk_downstream(backend, start, **bounds)
    return walk_dataflow(backend, start, **bounds)


class _Buffer:
    """Messages between the walk and the client: the walk waits while it is full."""

    def __init__(self, size: int) -> None:
        self._messages: deque[str] = deque()
        self._size = size
        self._filled = asyncio.Event()
        self._drained = asyncio.Event()
        self._wanted = 1
        self._was_taken = False
        self.closed = False

    @property
    def is_full(self) -> bool:
        return len(self._messages) >= self._size

    def put(self, messages: Iterable[str]) -> None:
        self._messages.extend(messages)
        if len(self._messages) >= self._wanted:
            self._filled.set()

    async def wait_for_space(self) -> None:
        while self.is_full:
            self._drained.clear()
            await self._drained.wait()

    def close(self) -> None:
        self.closed = True
        self._filled.set()

    async def take(self, most: int) -> list[str]:
        """Return the next messages, at least one; none at the end."""
        await self._wait_for(1)
        if self._was_taken and len(self._messages) < most:
            # The first edge leaves at once. Later on, few large messages take less time than many small ones.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_PACKING_TIME):
                    await self._wait_for(min(most, self._size))
        self._was_taken = True
        messages = self._messages
        taken = [messages.popleft() for _ in range(min(most, len(messages)))]
        if not self.is_full:
            self._drained.set()
        return taken

    async def _wait_for(self, wanted: int) -> None:
        self._wanted = wanted
        while len(self._messages) < wanted and not self.closed:
            self._filled.clear()
            await self._filled.wait()


class DataflowStream:
    """
    One stream of a dataflow.

    Parameters
    ----------
    backend : RedunBackendDb
        The repository.
    request : DataflowRequest
        What is asked for.
    settings : ServerSettings
        Bounds.
    turns : Turns
        Shared by all streams.
    metrics : Metrics
        Where edges are counted.
    """

    def __init__(
        self,
        backend: RedunBackendDb,
        request: DataflowRequest,
        settings: ServerSettings,
        turns: Turns,
        metrics: Metrics,
    ) -> None:
        self._backend = backend
        self._request = request
        self._settings = settings
        self._turns = turns
        self._metrics = metrics
        self._buffer = _Buffer(max(2 * SLICE, request.batch))
        self._edges: list[DataflowEdge] | None = [] if request.with_sections else None
        self._is_cut = False
        self.count = 0

    async def run(self, record_id: str, sender: Sender) -> None:
        """Send everything, in the order of the walk."""
        is_downstream = self._request.direction == DOWNSTREAM
        # A walk that is under way waits for a database that restarts; a client that has nothing yet does not.
        with hurry():
            start = await find_start(self._backend, record_id, downstream=is_downstream)
        with self._turns.share_look_ahead() as look_ahead:
            walking = asyncio.create_task(self._walk(start.node, look_ahead))
            try:
                await self._send_edges(sender)
                await walking
            finally:
                await end_tasks(walking)
        if self._edges is not None:
            async with aclosing(self._iter_sections(self._edges, start.name)) as sections:
                async for section in sections:
                    await self._send(sender, {"type": "section", **section})
        end: dict[str, Any] = {"type": "end", "edges": self.count}
        if self._is_cut:
            end["is_cut"] = True
        await self._send(sender, end)

    async def _walk(self, start: Any, look_ahead: int) -> None:
        """Walk and write edges, a slice at a time, never ahead of the client by more than the buffer."""
        request, buffer, turn = self._request, self._buffer, _Turn(self._turns)
        first = request.after + 1
        count, due, texts = 0, min(SLICE, first), []
        try:
            await turn.begin()
            async with aclosing(walk(self._backend, start, request, look_ahead)) as edges:
                async for edge in edges:
                    if count == request.max_edges:
                        self._is_cut = True
                        break
                    count += 1
                    if self._edges is not None:
                        self._keep(edge)
                    if count >= first:
                        texts.append(dump(describe_edge(count, edge)).decode())
                    if count == due:
                        self.count = count
                        buffer.put(texts)
                        texts = []
                        due += first - count if count < first <= count + SLICE else SLICE
                        await self._pause(turn)
            self.count = count
            buffer.put(texts)
        finally:
            turn.end()
            buffer.close()

    async def _pause(self, turn: _Turn) -> None:
        """Let others walk, and wait until the client has taken what is there."""
        turn.pause()
        if self._buffer.is_full:
            space = asyncio.ensure_future(self._buffer.wait_for_space())
            try:
                await asyncio.wait([space], timeout=_PATIENCE)
                if not space.done():
                    turn.yield_start()
                await space
            finally:
                space.cancel()
        await take_turn()
        await turn.resume()

    def _keep(self, edge: DataflowEdge) -> None:
        if self._edges is not None and len(self._edges) < self._settings.max_section_edges:
            self._edges.append(edge)
        else:
            self._edges = None

    async def _send_edges(self, sender: Sender) -> None:
        while messages := await self._buffer.take(self._request.batch or 1):
            self._metrics.edges.inc(len(messages))
            if self._request.batch:
                await sender.send(f"[{','.join(messages)}]")
            else:
                await sender.send(messages[0])

    async def _iter_sections(
        self, edges: list[DataflowEdge], name: str
    ) -> AsyncGenerator[dict[str, Any], None]:
        """Yield the sections; they are made for one stream at a time, but not while a client is slow."""
        turn = self._turns.sections
        sections = serialize_dataflow(self._backend, make_dataflow_dom(edges, name))
        async with aclosing(sections):
            while True:
                async with turn:
                    section = await anext(sections, None)
                if section is None:
                    return
                yield section

    async def _send(self, sender: Sender, content: dict[str, Any]) -> None:
        message = dump(content).decode()
        await sender.send(f"[{message}]" if self._request.batch else message)
