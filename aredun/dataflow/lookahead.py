"""Which neighbourhoods to load next: those that the depth-first walk will reach, further each time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from aredun.dataflow.decide import is_value

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aredun.dataflow.bulk import Entry, Reach
    from aredun.dataflow.decide import Key
    from aredun.dataflow.engine import Source

FIRST_LIMIT = 64
MAX_LIMIT = 8_192
LIMIT_GROWTH = 4
# Loads this large are begun while the walk still has entries: the database works while edges are handed out.
PREFETCH_LIMIT = 1_024
# Beside loads this large another one is begun: it looks for nodes while the edges of the first are read.
OVERLAP_LIMIT = MAX_LIMIT
MOST_LOADS = 2
# Calls at which the recursion is told to stop, most recently met first.
MAX_STOPS = 4_096
# Steps of a look through what is loaded already, before others get the event loop.
SCAN_CHUNK = 1_000


class Pending:
    """The stack of a depth-first walk and what it has met."""

    def __init__(self) -> None:
        self.stack: list[tuple[Key, Any, Any]] = []
        # Keys that the walk may expand, None for all.
        self.allowed: set[Key] | None = None
        # Keys that were pushed: whether they still are on the stack.
        self._waits: dict[Key, bool] = {}

    def push(self, items: Sequence[tuple[Key, Any, Any]]) -> None:
        """Push what was not met before, so that the first item is popped first."""
        waits, allowed = self._waits, self.allowed
        for item in reversed(items):
            key = item[0]
            if key not in waits and (allowed is None or key in allowed):
                waits[key] = True
                self.stack.append(item)

    def pop(self) -> tuple[Key, Any, Any]:
        """Pop the next node to expand."""
        item = self.stack.pop()
        # The start was not pushed: a cycle leads to it once more.
        if item[0] in self._waits:
            self._waits[item[0]] = False
        return item

    def is_met(self, key: Key) -> bool:
        """Tell whether a node was pushed once, or never will be."""
        return key in self._waits or (self.allowed is not None and key not in self.allowed)

    def is_done(self, key: Key) -> bool:
        """Tell whether a node was pushed and popped."""
        return self._waits.get(key) is False


class _Load:
    """A load that is under way.

    Attributes
    ----------
    keys : set of Key
        What it brings, as far as that is known.
    is_looking : bool
        Whether it may bring more.
    """

    __slots__ = ("is_looking", "keys")

    def __init__(self) -> None:
        self.keys: set[Key] = set()
        self.is_looking = True


class LookAhead:
    """Entries that were loaded and not used yet, and the policy that loads more.

    Parameters
    ----------
    source : Source
        Loads entries.
    pending : Pending
        The walk that they are for.
    most : int
        Most nodes that one load looks at.
    """

    def __init__(self, source: Source, pending: Pending, most: int = MAX_LIMIT) -> None:
        self._source = source
        self._bound = most
        self._most = most
        self._pending = pending
        # Taken from by the walk itself: a call per node would be felt.
        self.entries: dict[Key, Entry] = {}
        self._limit = min(FIRST_LIMIT, most)
        self._seeds = 4
        self._stops: dict[str, None] = {}
        self._layers = 1
        self._backoff = 2
        self._tasks: set[asyncio.Task[None]] = set()
        # What is on its way, as far as that is known, and how many loads are still looking for nodes.
        self._coming: set[Key] = set()
        self._looking = 0
        # What the walk waits for, and how many edges it still wants.
        self._missed: Key | None = None
        self._rest: int | None = None
        # Whether the walk is to call `prefetch` as soon as its stack is complete.
        self.is_due = False

    async def load(self, key: Key, rest: int | None = None) -> Entry:
        """Load the entry of a node that has none, and others ahead of the walk.

        Parameters
        ----------
        key : Key
            Key of the node that the walk expands now.
        rest : int, optional
            Number of edges that are still wanted, of which every node has at least one: entries beyond
            that are not worth loading.

        Returns
        -------
        Entry
            The steps out of it; it is forgotten here.
        """
        self._rest = rest
        if rest is not None:
            self._most = max(FIRST_LIMIT, min(self._bound, rest - len(self.entries)))
            self._limit = min(self._limit, self._most)
        self._missed = key
        while self._tasks and key not in self.entries:
            # The walk has caught up with what is on its way.
            done, _ = await asyncio.wait(set(self._tasks), return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                self._tasks.discard(task)
                task.result()
        self._missed = None
        if key not in self.entries:
            await self._load(key)
        # Loading the next entries can only begin once the steps of this one are on the stack.
        self.is_due = self._limit >= PREFETCH_LIMIT
        return self.entries.pop(key)

    def prefetch(self) -> None:
        """Begin to load what the walk will need after the entries at hand."""
        self.is_due = False
        there = len(self.entries) + len(self._coming)
        is_enough = (self._tasks and there > self._most * 3 // 2) or (
            self._rest is not None and there >= self._rest
        )
        if not is_enough and not self._looking and len(self._tasks) < MOST_LOADS:
            self._looking += 1
            task = asyncio.create_task(self._work_ahead())
            self._tasks.add(task)
            task.add_done_callback(self._forget)

    def _forget(self, task: asyncio.Task[None]) -> None:
        """Drop a task that has ended; the walk is still to meet its error."""
        if not task.cancelled() and task.exception() is None:
            self._tasks.discard(task)

    async def _work_ahead(self) -> None:
        """Load until it is worth the walk's while: the first seeds may all be ends of their ways."""
        self._looking -= 1
        wanted = self._limit // LIMIT_GROWTH
        while wanted > 0:
            brought = await self._load(self._missed)
            if not brought or self._missed is not None or self._looking:
                break
            wanted -= brought

    async def close(self) -> None:
        """End what is under way; its connection is free when this returns."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._tasks.clear()

    async def _load(self, key: Key | None) -> int:
        """Load the entry of a node and others, or only others; returns how many came."""
        load = _Load()
        self._looking += 1
        try:
            entries = await self._fetch(key, load)
        finally:
            self._found(load)
            self._coming -= load.keys
        self.entries.update(entries)
        return len(entries)

    def _found(self, load: _Load) -> None:
        """Take note that a load knows its nodes."""
        if load.is_looking:
            load.is_looking = False
            self._looking -= 1

    async def _fetch(self, key: Key | None, load: _Load) -> dict[Key, Entry]:
        if key is not None and is_value(key):
            return await self._source.load_layer([key])
        if self._layers:
            # The first load is one as well: the second edge must not wait for a recursive plan.
            self._layers -= 1
            keys = await self._find_seeds(key, self._limit, load)
            return await self._source.load_layer(keys) if keys else {}
        keys = await self._find_seeds(key, self._seeds, load)
        if not keys:
            return {}

        def note(met: Sequence[Key]) -> None:
            load.keys.update(met)
            self._coming.update(met)
            self._found(load)
            if self._limit >= OVERLAP_LIMIT:
                self.prefetch()

        reach = await self._source.load_reach(keys, self._limit, self._is_useless, self._stops, note)
        self._adapt(len(keys), reach)
        return reach.entries

    async def measure(self, start: Key, max_depth: int) -> set[Key]:
        """Return the keys of all nodes less than `max_depth` edges away from the start.

        Parameters
        ----------
        start : Key
            Key of the start.
        max_depth : int
            The bound.

        Returns
        -------
        set of Key
            Keys; what was loaded on the way is kept for the walk while it is not too much.
        """
        near: set[Key] = set()
        level = [start]
        for depth in range(max_depth):
            near.update(level)
            missing = [key for key in level if key not in self.entries]
            for begin in range(0, len(missing), MAX_LIMIT):
                await self._load_level(missing[begin : begin + MAX_LIMIT], max_depth - depth)
            following: dict[Key, None] = {}
            for number, key in enumerate(level, 1):
                following.update(dict.fromkeys(self._get_keys(key, self.entries[key])))
                if number % SCAN_CHUNK == 0:
                    await asyncio.sleep(0)
            level = [key for key in following if key not in near]
            if not level:
                break
        if len(self.entries) > 4 * MAX_LIMIT:
            self.entries.clear()
        return near

    async def _load_level(self, keys: Sequence[Key], depth: int) -> None:
        if depth < 4 or len(keys) > FIRST_LIMIT or is_value(keys[0]):
            self.entries.update(await self._source.load_layer(keys))
        else:
            # Few nodes and far to go: look ahead along the paths.
            limit = min(MAX_LIMIT, 16 * depth)
            reach = await self._source.load_reach(keys, limit, self.entries.__contains__, (), _note_nothing)
            self.entries.update(reach.entries)

    def _get_keys(self, key: Key, entry: Entry) -> Sequence[Key]:
        return [step[0] for step in entry] if entry else self._source.complete_keys(key)

    def _is_useless(self, key: Key) -> bool:
        return key in self.entries or key in self._coming or self._pending.is_done(key)

    def _adapt(self, seeds: int, reach: Reach) -> None:
        if reach.known_calls:
            for call_hash in reach.known_calls[:MAX_STOPS]:
                self._stops.pop(call_hash, None)
                self._stops[call_hash] = None
            while len(self._stops) > MAX_STOPS:
                del self._stops[next(iter(self._stops))]
        if len(reach.entries) * 2 < reach.rows:
            # Most of it was known: other ways lead to the same nodes. Step by step nothing is loaded twice.
            self._layers = self._backoff
            self._backoff = min(self._backoff * 2, 64)
        else:
            self._backoff = 2
        self._limit = min(self._limit * LIMIT_GROWTH, self._most)
        if reach.truncated:
            self._seeds = max(1, seeds // LIMIT_GROWTH)
        else:
            self._seeds = max(1, min(self._limit, self._limit * seeds // max(1, reach.rows)))
        if len(self.entries) + len(reach.entries) > 4 * self._bound:
            self._seeds = 1

    async def _find_seeds(self, first: Key | None, most: int, load: _Load) -> list[Key]:
        """Return the nodes without an entry that the walk will reach first, beginning with `first`.

        They are on their way then, by `load`.
        """
        seeds = {} if first is None or first in self._coming else {first: None}
        met: set[Key] = set(seeds)
        stack: list[Key] = []
        waiting, is_met = self._pending.stack, self._pending.is_met
        below = len(waiting)
        steps = 0
        while len(seeds) < most:
            steps += 1
            if steps % SCAN_CHUNK == 0:
                await asyncio.sleep(0)
                if steps > 4 * MAX_LIMIT:
                    break
            if stack:
                key = stack.pop()
            elif below := min(below, len(waiting)):
                below -= 1
                key = waiting[below][0]
            else:
                break
            entry = self.entries.get(key)
            if entry is None:
                if key not in self._coming:
                    seeds[key] = None
                continue
            for dest in reversed(self._get_keys(key, entry)):
                if dest not in met and not is_met(dest):
                    met.add(dest)
                    stack.append(dest)
        load.keys.update(seeds)
        self._coming.update(seeds)
        return list(seeds)


def _note_nothing(met: Sequence[Key]) -> None:
    """Take note of nothing."""
