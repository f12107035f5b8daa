"""The policy that loads ahead of a walk, on a graph in memory: what it loads, when, and how much of it."""

from __future__ import annotations

import asyncio
import random
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import pytest

from aredun.dataflow import policy
from aredun.dataflow.load import Loader
from aredun.dataflow.nodes import CallNodeRef, TaskRef, ValueRef, make_key, parse_key
from aredun.dataflow.policy import MOST_LOADS
from aredun.dataflow.steps import Reach, Step, make_rank
from aredun.dataflow.walk import Bounds, walk

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from aredun.dataflow.nodes import DataflowNode, Key
    from aredun.dataflow.steps import Entry

TASK = TaskRef("0" * 40, "work")
LOOK_AHEAD = policy.PREFETCH_LIMIT


@pytest.fixture(autouse=True)
def overlap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have loads overlap that are small enough for a test."""
    monkeypatch.setattr(policy, "OVERLAP_LIMIT", LOOK_AHEAD)


def make_call(number: int) -> CallNodeRef:
    """Return a call."""
    return CallNodeRef(f"{number:040x}", TASK, ValueRef("f" * 40))


class Graph(Loader):
    """Calls that lead to others, as a source that takes its time.

    Parameters
    ----------
    children : list of list of int
        What each call leads to.
    """

    def __init__(self, children: list[list[int]]) -> None:
        self.tasks = {TASK.hash: TASK}
        self.keys = [make_key("C", f"{number:040x}") for number in range(len(children))]
        self.children = children
        self.entries: dict[Key, Entry] = {
            self.keys[number]: tuple(
                Step(self.keys[child], make_rank(0), f"{child:040x}", TASK.hash, "f" * 40) for child in steps
            )
            for number, steps in enumerate(children)
        }
        self.under_way = self.looking = 0
        self.most_under_way = self.most_looking = 0
        self.loaded: list[Key] = []
        self.fails_after: int | None = None

    async def load_start(self, node: Any) -> DataflowNode:
        call: CallNodeRef = node
        return call

    def _begin(self) -> None:
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)

    async def load_layer(self, keys: Sequence[Key]) -> dict[Key, Entry]:
        self._begin()
        try:
            await asyncio.sleep(0.001)
        finally:
            self.under_way -= 1
        self.loaded += keys
        return {key: self.entries[key] for key in keys}

    async def load_reach(
        self,
        seeds: Sequence[Key],
        limit: int,
        is_known: Callable[[Key], bool],
        stop: Collection[str],
        note: Callable[[Sequence[Key]], None],
    ) -> Reach:
        self._begin()
        self.looking += 1
        self.most_looking = max(self.most_looking, self.looking)
        try:
            try:
                await asyncio.sleep(0.004)
                met = self._reach(seeds, limit)
                wanted = [key for key in met if key in seeds or not is_known(key)]
            finally:
                self.looking -= 1
            note(wanted)
            await asyncio.sleep(0.004)
        finally:
            self.under_way -= 1
        self.loaded += wanted
        if self.fails_after is not None and len(self.loaded) > self.fails_after:
            raise ConnectionError("the server went away")
        calls = [parse_key(key)[1] for key in met if key not in wanted]
        return Reach({key: self.entries[key] for key in wanted}, len(met), calls, len(met) >= limit)

    def _reach(self, seeds: Sequence[Key], limit: int) -> list[Key]:
        met = dict.fromkeys(seeds)
        queue = list(seeds)
        for key in queue:
            for step in self.entries[key]:
                if len(met) < limit and step[0] not in met:
                    met[step[0]] = None
                    queue.append(step[0])
        return list(met)

    def walk(self, number: int) -> list[tuple[int, int | None]]:
        """Return the edges of a depth-first walk."""
        edges: list[tuple[int, int | None]] = []
        seen: set[int] = set()
        stack = [number]
        while stack:
            current = stack.pop()
            steps = self.children[current]
            edges += [(current, child) for child in steps] or [(current, None)]
            for child in reversed(steps):
                if child not in seen:
                    seen.add(child)
                    stack.append(child)
        return edges


def make_chains(count: int, length: int) -> Graph:
    """Return a call that leads to the heads of chains."""
    children: list[list[int]] = [[1 + chain * length for chain in range(count)]]
    for chain in range(count):
        first = 1 + chain * length
        children += [[first + place + 1] for place in range(length - 1)] + [[]]
    return Graph(children)


def make_random(seed: int, size: int) -> Graph:
    """Return calls that lead to up to four of those after them."""
    source = random.Random(seed)
    return Graph(
        [
            [source.randrange(number + 1, size) for _ in range(source.randrange(1, 5))]
            if number < size - 1
            else []
            for number in range(size)
        ]
    )


async def collect(graph: Graph) -> list[tuple[int, int | None]]:
    """Return the edges that a walk hands out."""
    edges = []
    async with aclosing(walk(graph, make_call(0), Bounds(look_ahead=LOOK_AHEAD))) as found:
        async for src, dest in found:
            assert isinstance(src, CallNodeRef)
            assert dest is None or isinstance(dest, CallNodeRef)
            edges.append((int(src.call_hash, 16), None if dest is None else int(dest.call_hash, 16)))
    assert graph.under_way == 0
    return edges


@pytest.mark.parametrize(
    "graph",
    [make_chains(80, 50), make_chains(3, 1500), make_chains(1, 4000), make_random(1, 4000)],
    ids=["many chains", "few chains", "one chain", "random"],
)
async def test_the_order_is_that_of_a_plain_walk(graph: Graph) -> None:
    assert await collect(graph) == graph.walk(0)
    assert graph.most_under_way <= MOST_LOADS
    assert graph.most_looking == 1


async def test_one_load_looks_for_nodes_while_the_edges_of_another_are_read() -> None:
    graph = make_chains(160, 50)
    await collect(graph)
    assert graph.most_under_way == MOST_LOADS
    assert len(graph.loaded) == len(set(graph.loaded)) == len(graph.children)


async def test_a_slow_consumer_holds_the_loads_up() -> None:
    graph = make_chains(300, 50)
    async with aclosing(walk(graph, make_call(0), Bounds(look_ahead=LOOK_AHEAD))) as edges:
        taken = 0
        async for _ in edges:
            taken += 1
            if taken % 3_000 == 0:
                await asyncio.sleep(0.05)
                assert graph.under_way == 0
                assert len(graph.loaded) - taken <= 4 * LOOK_AHEAD
    assert taken == len(graph.walk(0))


async def test_the_error_of_a_load_ahead_ends_the_walk() -> None:
    graph = make_chains(160, 50)
    graph.fails_after = 4_000
    with pytest.raises(ConnectionError, match="went away"):
        await collect(graph)
    await asyncio.sleep(0.02)
    assert graph.under_way == 0


async def test_a_walk_that_is_left_takes_its_loads_along() -> None:
    graph = make_chains(160, 50)
    async with aclosing(walk(graph, make_call(0), Bounds(look_ahead=LOOK_AHEAD))) as edges:
        async for _ in edges:
            if graph.under_way == MOST_LOADS:
                break
    assert graph.under_way == 0
    others = asyncio.all_tasks() - {asyncio.current_task()}
    assert not others
