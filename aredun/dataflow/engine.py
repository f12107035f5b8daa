"""The depth-first loop behind every walk, upstream and downstream: it emits from a cache and looks ahead in
bulk.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Protocol

from aredun.dataflow.decide import make_key, make_node
from aredun.dataflow.lookahead import MAX_LIMIT, LookAhead, Pending
from aredun.dataflow.nodes import CallNodeRef, CallNodeValue, DataflowEdge, get_identity
from aredun.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Collection, Sequence

    from aredun.dataflow.bulk import Entry, Reach
    from aredun.dataflow.decide import Key, Step
    from aredun.dataflow.nodes import DataflowNode, TaskRef

# Edges that are yielded, and nodes that are pushed, before others get the event loop.
YIELD_CHUNK = 200
PUSH_CHUNK = 1_000
# Where more edges than this leave a node, its destinations wait as steps, not as nodes: they take less
# memory.
WIDE = 64


class Source(Protocol):
    """What a walk needs to know about its direction."""

    tasks: dict[str, TaskRef]

    async def load_start(self, node: Any) -> DataflowNode:
        """Return the light node of a start node."""

    async def load_layer(self, keys: Sequence[Key]) -> dict[Key, Entry]:
        """Return the entries of some nodes."""

    async def load_reach(
        self,
        seeds: Sequence[Key],
        limit: int,
        is_known: Callable[[Key], bool],
        stop: Collection[str],
        note: Callable[[Sequence[Key]], None],
    ) -> Reach:
        """Return the entries of some nodes and of what follows from them."""

    def complete(self, node: DataflowNode) -> Sequence[Step | None]:
        """Return the steps out of a node whose entry is empty, `None` for an end."""

    def complete_keys(self, key: Key) -> Sequence[Key]:
        """Return the keys of the nodes that `complete` leads to."""


def get_key(node: Any) -> Key:
    """Return the key of a node among all nodes."""
    return make_key(*get_identity(node))


def get_call(node: DataflowNode) -> CallNodeRef | None:
    """Return the call that the steps out of a node are relative to."""
    if type(node) is CallNodeRef:
        return node
    return node.call_node if type(node) is CallNodeValue else None


def check_bounds(**bounds: int | None) -> None:
    """Refuse a negative bound.

    Raises
    ------
    UsageError
        A bound is negative or no whole number.
    """
    for name, bound in bounds.items():
        if bound is not None and (not isinstance(bound, int) or bound < 0):
            raise UsageError(f"{name} must be a whole number of 0 or more, not {bound!r}.")


class Walk:
    """One walk.

    Parameters
    ----------
    source : Source
        Its direction.
    max_depth, max_edges, after : int, optional
        See `walk_dataflow`.
    look_ahead : int
        Most nodes that one load looks at: the fewer, the less memory a walk takes and the more statements.
    """

    def __init__(
        self,
        source: Source,
        *,
        max_depth: int | None = None,
        max_edges: int | None = None,
        after: int = 0,
        look_ahead: int = MAX_LIMIT,
    ) -> None:
        check_bounds(max_depth=max_depth, max_edges=max_edges, after=after, look_ahead=look_ahead)
        self._source = source
        self._max_depth = max_depth
        self._after = after
        self._last = None if max_edges is None else after + max_edges
        self._pending = Pending()
        self._ahead = LookAhead(source, self._pending, look_ahead)

    async def run(self, init_node: Any) -> AsyncGenerator[DataflowEdge, None]:
        """Yield the edges of the walk."""
        if self._last is not None and self._last <= self._after:
            return
        try:
            await self._begin(init_node)
            tasks = self._source.tasks
            ahead = self._ahead
            count = 0
            while self._pending.stack:
                key, ready, owner = self._pending.pop()
                node: DataflowNode = ready if owner is None else make_node(ready, owner, tasks)
                entry = ahead.entries.pop(key, None)
                if entry is None:
                    entry = await ahead.load(key, None if self._last is None else self._last - count)
                steps = entry or self._source.complete(node)
                source = get_call(node)
                # A destination that waits as a step has to remember whose argument it is.
                keep = None if len(steps) <= WIDE else source or _NOBODY
                pushed: list[tuple[Key, Any, Any]] = []
                for step in steps:
                    dest = None if step is None else make_node(step, source, tasks)
                    count += 1
                    if count > self._after:
                        yield _new(DataflowEdge, (node, dest))
                    if count == self._last:
                        return
                    if step is not None:
                        pushed.append((step[0], dest, None) if keep is None else (step[0], step, keep))
                    if count % YIELD_CHUNK == 0:
                        await asyncio.sleep(0)
                if len(pushed) <= PUSH_CHUNK:
                    self._pending.push(pushed)
                else:
                    await self._push_many(pushed)
                if ahead.is_due:
                    ahead.prefetch()
        finally:
            # Whatever ends the walk, nothing of it stays behind.
            await self._ahead.close()

    async def _begin(self, init_node: Any) -> None:
        start = await self._source.load_start(init_node)
        key = get_key(start)
        if self._max_depth is not None:
            self._pending.allowed = await self._ahead.measure(key, self._max_depth)
        if self._max_depth != 0:
            self._pending.stack.append((key, start, None))

    async def _push_many(self, pushed: Sequence[tuple[Key, Any, Any]]) -> None:
        """Push a lot without holding the event loop up: the last ones first, as a stack wants it."""
        for end in range(len(pushed), 0, -PUSH_CHUNK):
            self._pending.push(pushed[max(0, end - PUSH_CHUNK) : end])
            await asyncio.sleep(0)


_NOBODY: Any = object()
_new: Any = tuple.__new__
