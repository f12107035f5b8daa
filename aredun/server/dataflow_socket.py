"""`/ws/dataflow/{id}`: the edges of a walk as they are walked, then its sections."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from aredun.dataflow import (
    ArgumentValue,
    CallNodeRef,
    CallNodeValue,
    describe_node,
    get_argument_name,
    serialize_dataflow,
    walk_dataflow,
)
from aredun.dataflow.display import make_dataflow_dom
from aredun.dataflow.downstream import walk_downstream
from aredun.errors import UsageError
from aredun.server.answers import dump
from aredun.server.finding import find_start
from aredun.server.streams import end_tasks

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping

    from aredun.backend import RedunBackendDb
    from aredun.dataflow import DataflowEdge
    from aredun.server.metrics import Metrics
    from aredun.server.settings import ServerSettings
    from aredun.server.streams import Sender

UPSTREAM, DOWNSTREAM = "upstream", "downstream"

# Edges that one stream may walk and write before the next one has its turn (about a millisecond).
SLICE = 40
# Streams that walk at the same time; the others wait for their turn, or for their clients.
WALKERS = 2
# Walks beyond their first edges, without those that wait for their clients: each remembers what it has seen.
STARTED = 24
# Sent messages after which others get the event loop, though the client takes all at once.
_SEND_SLICE = 40


class Turns:
    """Lets a few streams walk at a time, and everyone in turn, so that the event loop stays free."""

    def __init__(self) -> None:
        self.started = asyncio.Semaphore(STARTED)
        self.walking = asyncio.Semaphore(WALKERS)
        # Making sections takes a thread; more of them would only fight over the interpreter.
        self.sections = asyncio.Semaphore(1)


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


def walk(backend: RedunBackendDb, start: Any, request: DataflowRequest) -> Any:
    """Return the walk that a client asks for, from its beginning."""
    bounds: dict[str, Any] = {"max_edges": request.max_edges}
    if request.max_depth >= 0:
        bounds["max_depth"] = request.max_depth
    if request.direction == DOWNSTREAM:
        return walk_downstream(backend, start, **bounds)
    return walk_dataflow(backend, start, **bounds)


def quote(text: str) -> str:
    """Return a text as JSON; hashes and plain names, which most are, need no escapes."""
    return f'"{text}"' if text.isalnum() and text.isascii() else dump(text).decode()


class EdgeWriter:
    """Writes edges as messages, node by node as `describe_node` has them, in a fifth of its time.

    The source of the edge before is not written again, nor is the name of a task.
    """

    def __init__(self) -> None:
        self._src: Any = None
        self._src_text = ""
        self._tasks: dict[Any, str] = {}

    def write(self, seq: int, edge: DataflowEdge) -> str:
        """Return the message of an edge."""
        src, dest = edge
        if src is not self._src:
            self._src, self._src_text = src, self._write_node(src)
        text = "null" if dest is None else self._write_node(dest)
        return f'{{"type":"edge","seq":{seq},"src":{self._src_text},"dest":{text}}}'

    def _write_node(self, node: Any) -> str:
        kind = type(node)
        if kind is ArgumentValue:
            argument, value = node
            call = self._write_call(argument.call_node)
            name, arg_hash = quote(get_argument_name(argument)), quote(argument.arg_hash)
            value_hash = quote(value.value_hash)
            return (
                f'{{"kind":"ArgumentValue",{call},"value_hash":{value_hash},'
                f'"arg_hash":{arg_hash},"name":{name}}}'
            )
        if kind is CallNodeRef:
            return f'{{"kind":"CallNode",{self._write_call(node)}}}'
        if kind is CallNodeValue:
            call, value_hash = self._write_call(node.call_node), quote(node.value.value_hash)
            return f'{{"kind":"CallNodeValue",{call},"value_hash":{value_hash}}}'
        return dump(describe_node(node)).decode()

    def _write_call(self, call: CallNodeRef) -> str:
        task = call.task
        name = self._tasks.get(task.hash)
        if name is None:
            name = self._tasks[task.hash] = quote(task.fullname)
        return f'"call_hash":{quote(call.call_hash)},"task":{name}'


class _Buffer:
    """Messages between the walk and the client: the walk waits while it is full."""

    def __init__(self, size: int) -> None:
        self._messages: deque[str] = deque()
        self._size = size
        self._filled = asyncio.Event()
        self._drained = asyncio.Event()
        self.closed = False

    @property
    def is_full(self) -> bool:
        return len(self._messages) >= self._size

    def put(self, message: str) -> None:
        self._messages.append(message)
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
        while not self._messages:
            if self.closed:
                return []
            self._filled.clear()
            await self._filled.wait()
        taken = [self._messages.popleft() for _ in range(min(most, len(self._messages)))]
        if not self.is_full:
            self._drained.set()
        return taken


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
        self.count = 0

    async def run(self, record_id: str, sender: Sender) -> None:
        """Send everything, in the order of the walk."""
        is_downstream = self._request.direction == DOWNSTREAM
        start = await find_start(self._backend, record_id, downstream=is_downstream)
        walking = asyncio.create_task(self._walk(start.node))
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
        if self.count >= self._request.max_edges:
            end["is_cut"] = True
        await self._send(sender, end)

    async def _walk(self, start: Any) -> None:
        """Walk and write edges, a slice at a time, never ahead of the client by more than the buffer."""
        write = EdgeWriter().write
        after, buffer, turn = self._request.after, self._buffer, _Turn(self._turns)
        try:
            await turn.begin()
            async with aclosing(walk(self._backend, start, self._request)) as edges:
                async for edge in edges:
                    self.count += 1
                    self._keep(edge)
                    if self.count > after:
                        buffer.put(write(self.count, edge))
                    if self.count % SLICE == 0 or self.count == after + 1 or buffer.is_full:
                        turn.pause()
                        if buffer.is_full:
                            turn.yield_start()
                            await buffer.wait_for_space()
                        await asyncio.sleep(0)
                        await turn.resume()
        finally:
            turn.end()
            buffer.close()

    def _keep(self, edge: DataflowEdge) -> None:
        if self._edges is None:
            return
        if len(self._edges) >= self._settings.max_section_edges:
            self._edges = None
        else:
            self._edges.append(edge)

    async def _send_edges(self, sender: Sender) -> None:
        sent = 0
        while messages := await self._buffer.take(self._request.batch or 1):
            self._metrics.edges.inc(len(messages))
            if self._request.batch:
                await sender.send(f"[{','.join(messages)}]")
            else:
                await sender.send(messages[0])
            sent += 1
            if sent % _SEND_SLICE == 0:
                await asyncio.sleep(0)

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
