"""The depth-first loop behind every walk, upstream and downstream: it emits from a cache and looks ahead in
bulk.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from aredun.dataflow.frontier import Frontier, Waiting
from aredun.dataflow.keys import get_key, is_value_key
from aredun.dataflow.lookahead import LookAhead
from aredun.dataflow.nodes import CallNodeRef, CallNodeValue, DataflowEdge
from aredun.dataflow.policy import FIRST_LIMIT, MAX_LIMIT, MOST_HELD
from aredun.errors import UsageError
from aredun.loop.pacing import PIECE_SIZE, take_turn

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from aredun.dataflow.keys import Key
    from aredun.dataflow.nodes import DataflowNode
    from aredun.dataflow.steps import Entry, StepSource

# Where more edges than this leave a node, its destinations wait as steps, not as nodes: they take less
# memory.
WIDE = 64


def get_own_call(node: DataflowNode) -> CallNodeRef | None:
    """Return the call that the steps out of a node are relative to."""
    if type(node) is CallNodeRef:
        return node
    return node.call_node if type(node) is CallNodeValue else None


class Bounds(NamedTuple):
    """How far a walk goes (see `walk_dataflow`)."""

    max_depth: int | None = None
    max_edges: int | None = None
    after: int = 0
    look_ahead: int = MAX_LIMIT


class Walk:
    """One walk.

    Parameters
    ----------
    source : StepSource
        Where its edges come from.
    bounds : Bounds
        How far it goes.

    Raises
    ------
    UsageError
        A bound is negative or no whole number.
    """

    def __init__(self, source: StepSource, bounds: Bounds) -> None:
        for name, bound in bounds._asdict().items():
            if bound is not None and (not isinstance(bound, int) or bound < 0):
                raise UsageError(f"{name} must be a whole number of 0 or more, not {bound!r}.")
        self._source = source
        self._max_depth = bounds.max_depth
        self._after = bounds.after
        self._last = None if bounds.max_edges is None else bounds.after + bounds.max_edges
        self._frontier = Frontier()
        self._ahead = LookAhead(source, self._frontier, bounds.look_ahead)

    async def run(self, init_node: Any) -> AsyncGenerator[DataflowEdge, None]:
        """Yield the edges of the walk."""
        if self._last is not None and self._last <= self._after:
            return
        frontier, ahead, tasks = self._frontier, self._ahead, self._source.tasks
        count = 0
        try:
            await self._begin(init_node)
            while frontier.stack:
                key, ready, leading, owner = frontier.pop()
                node: Any = ready if leading is None else leading.make_node(owner, tasks)
                steps = frontier.entries.pop(key, None)
                if steps is None:
                    steps = await ahead.load(key, None if self._last is None else self._last - count)
                source = get_own_call(node)
                is_wide = len(steps) > WIDE
                pushed: list[Waiting] = []
                for step in steps or (None,):
                    dest = None if step is None else step.make_node(source, tasks)
                    count += 1
                    if count > self._after:
                        yield _new(DataflowEdge, (node, dest))
                    if count == self._last:
                        return
                    if step is not None:
                        waiting = (step[0], None, step, source) if is_wide else (step[0], dest, None, None)
                        pushed.append(_new(Waiting, waiting))
                    if count % PIECE_SIZE == 0:
                        await take_turn()
                # The last ones first, as a stack wants it.
                while len(pushed) > PIECE_SIZE:
                    frontier.push(pushed[-PIECE_SIZE:])
                    del pushed[-PIECE_SIZE:]
                    await take_turn()
                frontier.push(pushed)
                if ahead.is_due:
                    ahead.prefetch()
        finally:
            # Whatever ends the walk, nothing of it stays behind.
            await ahead.close()

    async def _begin(self, init_node: Any) -> None:
        """Put the start on the stack."""
        start = await self._source.load_start(init_node)
        key = get_key(start)
        if self._max_depth is not None:
            self._frontier.allowed = await _find_near(
                self._source, self._frontier.entries, key, self._max_depth
            )
        if self._max_depth != 0:
            self._frontier.stack.append(Waiting(key, start))


async def _find_near(source: StepSource, entries: dict[Key, Entry], start: Key, max_depth: int) -> set[Key]:
    """Return the keys of the nodes less than `max_depth` edges away; a little of what it loads it keeps."""
    near: set[Key] = set()
    level = [start]
    for depth in range(max_depth):
        near.update(level)
        missing = [key for key in level if key not in entries]
        for begin in range(0, len(missing), MAX_LIMIT):
            keys = missing[begin : begin + MAX_LIMIT]
            entries.update(await _load_level(source, entries, keys, max_depth - depth))
        following: dict[Key, None] = {}
        for number, key in enumerate(level, 1):
            following.update({step.key: None for step in entries[key]})
            if number % PIECE_SIZE == 0:
                await take_turn()
        level = [key for key in following if key not in near]
        if not level:
            break
    if len(entries) > MOST_HELD * MAX_LIMIT:
        entries.clear()
    return near


async def _load_level(
    source: StepSource, entries: dict[Key, Entry], keys: Sequence[Key], depth: int
) -> dict[Key, Entry]:
    """Return the entries of the nodes of one distance."""
    # Few nodes and far to go: what follows from them comes along.
    if depth < 4 or len(keys) > FIRST_LIMIT or is_value_key(keys[0]):
        return await source.load_layer(keys)
    limit = min(MAX_LIMIT, 16 * depth)
    return (await source.load_reach(keys, limit, entries.__contains__, (), lambda met: None)).entries


_new: Any = tuple.__new__
