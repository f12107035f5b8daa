"""`/ws/dataflow/{id}`: the edges of a walk as they are walked, then its sections."""

from __future__ import annotations

import asyncio
import contextlib
import time
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from aredun.dataflow import describe_edge, serialize_dataflow, walk_dataflow, walk_downstream, walk_inside
from aredun.dataflow.display import make_dataflow_dom
from aredun.dataflow.policy import MAX_LIMIT
from aredun.dataflow.starts import find_call, get_start
from aredun.errors import UnknownIdError, UsageError
from aredun.loop.pacing import take_turn
from aredun.models import CallNode, Execution, Job
from aredun.server.answers import dump
from aredun.server.parameters import check_id, find_anything
from aredun.server.streams import end_tasks
from aredun.storage.retry import retry_briefly

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator, Mapping

    from aredun.backend import RedunBackendDb
    from aredun.dataflow import DataflowEdge
    from aredun.server.metrics import Metrics
    from aredun.server.settings import ServerSettings
    from aredun.server.streams import Sender

    Edges = AsyncGenerator[DataflowEdge, None]
    Message = dict[str, Any]

UPSTREAM, DOWNSTREAM, INSIDE = "upstream", "downstream", "inside"

# Edges that one stream may walk before the next one has its turn (about two milliseconds).
SLICE = 100
# Walks that go on beyond their first edges, or make sections, at the same time, without those that wait for
# their clients: each remembers what it has seen.
WALKERS = 8
# Nodes that the walks load at a time, together and each at least: the more, the faster each of them is, and
# the more memory it takes.
ALL_LOOK_AHEAD = 32_768
LEAST_LOOK_AHEAD = 2_048
# How long, in seconds, an edge waits for others to fill a message with: few large ones take the least time.
_PACKING_TIME = 0.05
# How long, in seconds, a walk waits for its client before another one may go on in its place.
_PATIENCE = 0.05


class Walks:
    """What all walks of a server share: turns to go on in, and the nodes that they may load at a time."""

    def __init__(self) -> None:
        self.turns = asyncio.Semaphore(WALKERS)
        self._count = 0

    @contextlib.contextmanager
    def share_look_ahead(self) -> Iterator[int]:
        """Give one more walk the nodes that it may load at a time."""
        self._count += 1
        try:
            yield max(LEAST_LOOK_AHEAD, min(MAX_LIMIT, ALL_LOOK_AHEAD // self._count))
        finally:
            self._count -= 1


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
        if self.direction not in (UPSTREAM, DOWNSTREAM, INSIDE):
            raise UsageError(
                f"direction is {UPSTREAM}, {DOWNSTREAM} or {INSIDE}, not {self.direction[:40]!r}"
            )
        # What followed from a value, or happened inside a call, is told by its edges alone.
        with_sections = parameters.get("sections", "1") not in ("0", "false", "no")
        self.with_sections = with_sections and self.direction == UPSTREAM


def _get_number(parameters: Mapping[str, str], name: str, default: int) -> int:
    text = parameters.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= 12):
        raise UsageError(f"{name} must be a whole number of 0 or more, not {text[:40]!r}")
    return int(text)


def _describe_run(record: Job | Execution) -> dict[str, Any]:
    """Return the message that says whose jobs to watch while the graph grows."""
    if isinstance(record, Job):
        return {"type": "run", "execution_id": record.execution_id, "job_id": record.id}
    return {"type": "run", "execution_id": record.id, "job_id": record.job_id}


def walk(backend: RedunBackendDb, start: Any, request: DataflowRequest, look_ahead: int) -> Any:
    """Return the walk that a client asks for, from its beginning."""
    # One more than wanted tells whether there are more.
    if request.direction == INSIDE:
        return walk_inside(backend, start, max_edges=request.max_edges + 1)
    bounds: dict[str, Any] = {"max_edges": request.max_edges + 1, "look_ahead": look_ahead}
    if request.max_depth >= 0:
        bounds["max_depth"] = request.max_depth
    if request.direction == DOWNSTREAM:
        return walk_downstream(backend, start, **bounds)
    return walk_dataflow(backend, start, **bounds)


@dataclass(eq=False)
class DataflowStream:
    """
    One stream of a dataflow. A slow client stops its walk: the next edges are walked once it took the last.

    Attributes
    ----------
    backend : RedunBackendDb
        The repository.
    request : DataflowRequest
        What is asked for.
    settings : ServerSettings
        Bounds.
    walks : Walks
        Shared by all streams.
    metrics : Metrics
        Where edges are counted.
    """

    backend: RedunBackendDb
    request: DataflowRequest
    settings: ServerSettings
    walks: Walks
    metrics: Metrics
    _count: int = field(default=0, init=False)
    _is_cut: bool = field(default=False, init=False)
    # What sections are made of; None without them.
    _edges: list[DataflowEdge] | None = field(init=False)

    def __post_init__(self) -> None:
        self._edges = [] if self.request.with_sections else None

    async def run(self, record_id: str, sender: Sender) -> None:
        """Send everything, in the order of the walk."""
        # A walk that is under way waits for a database that restarts; a client that has nothing yet does not.
        with retry_briefly():
            node, name = await self._find_start(record_id)
        if isinstance(node, Job | Execution):
            await self._send(sender, [_describe_run(node)])
        with self.walks.share_look_ahead() as look_ahead:
            async with aclosing(walk(self.backend, node, self.request, look_ahead)) as edges:
                await self._send_edges(edges, sender)
        if self._edges is not None:
            await self._send_sections(self._edges, name, sender)
        end: dict[str, Any] = {"type": "end", "edges": self._count}
        if self._is_cut:
            end["is_cut"] = True
        await self._send(sender, [end])

    async def _find_start(self, record_id: str) -> tuple[Any, str]:
        """Return where the walk begins, and what its text calls that."""
        # A call is walked from itself. An execution and a job stand for their result (`dataflow.starts`) or,
        # where it is their inside that is walked, for their call; while they have none, for themselves.
        record = await find_anything(self.backend, check_id(record_id))
        direction = self.request.direction
        is_run = isinstance(record, Job | Execution)
        if direction == INSIDE and is_run and await find_call(self.backend, record) is None:
            return record, ""
        # "Downstream" begins at the call itself.
        from_call = direction != UPSTREAM or isinstance(record, CallNode)
        try:
            return await get_start(self.backend, record, downstream=from_call)
        except UsageError as error:
            raise UnknownIdError(str(error)) from error

    async def _send_edges(self, edges: Edges, sender: Sender) -> None:
        """Send the first edge at once, and the rest when this walk is among those that may go on."""
        messages, is_end = await self._walk_message(edges)
        sending = asyncio.create_task(self._send(sender, messages))
        try:
            while not is_end:
                # Another walk may go on in the place of one whose client is slow.
                await sending
                async with self.walks.turns:
                    while sending.done() and not is_end:
                        sending.result()
                        messages, is_end = await self._walk_message(edges)
                        sending = asyncio.create_task(self._send(sender, messages))
                        await asyncio.wait([sending], timeout=_PATIENCE)
            await sending
        finally:
            await end_tasks(sending)

    async def _walk_message(self, edges: Edges) -> tuple[list[Message], bool]:
        """Return the messages of the next edges, as many as go together, and whether they are the last."""
        first, batch = self.request.after + 1, self.request.batch
        messages: list[Message] = []
        due = time.monotonic() + _PACKING_TIME
        is_end = True
        await take_turn()
        async for edge in edges:
            if self._count == self.request.max_edges:
                self._is_cut = True
                break
            self._count += 1
            self._keep(edge)
            if self._count >= first:
                messages.append(describe_edge(self._count, edge))
            # The first edge leaves at once.
            is_full = self._count == first or 0 < batch == len(messages)
            if self._count % SLICE == 0:
                is_full = is_full or len(messages) >= batch or time.monotonic() >= due
                await take_turn()
            if is_full:
                is_end = False
                break
        self.metrics.edges.inc(len(messages))
        return messages, is_end

    def _keep(self, edge: DataflowEdge) -> None:
        if self._edges is not None and len(self._edges) < self.settings.max_section_edges:
            self._edges.append(edge)
        else:
            self._edges = None

    async def _send_sections(self, edges: list[DataflowEdge], name: str, sender: Sender) -> None:
        """Make sections in turn with the walks of the other streams, but not while the client is slow."""
        async with aclosing(serialize_dataflow(self.backend, make_dataflow_dom(edges, name))) as sections:
            while True:
                async with self.walks.turns:
                    section = await anext(sections, None)
                if section is None:
                    return
                await self._send(sender, [{"type": "section", **section}])

    async def _send(self, sender: Sender, messages: list[Message]) -> None:
        """Send messages: in one, if the client wants them so."""
        for content in [messages] if self.request.batch and messages else messages:
            await sender.send(dump(content).decode())
