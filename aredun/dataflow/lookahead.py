"""The loads of a walk: on a miss, and ahead of it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from aredun.dataflow.keys import is_value_key
from aredun.dataflow.policy import MAX_LIMIT, Policy
from aredun.loop.pacing import run_in_turns

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aredun.dataflow.frontier import Frontier
    from aredun.dataflow.keys import Key
    from aredun.dataflow.steps import Entry, StepSource


class LookAhead:
    """Loads entries into the frontier of a walk.

    Parameters
    ----------
    source : StepSource
        Loads entries.
    frontier : Frontier
        Of the walk that they are for.
    most : int
        Most nodes that one load looks at.

    Attributes
    ----------
    is_due : bool
        Whether the walk is to call `prefetch` as soon as its stack is complete.
    """

    def __init__(self, source: StepSource, frontier: Frontier, most: int = MAX_LIMIT) -> None:
        self.is_due = False
        self._source = source
        self._frontier = frontier
        self._policy = Policy(most)
        self._tasks: set[asyncio.Task[None]] = set()
        # What the load brings that is still looking for nodes: there is one at a time.
        self._searching: set[Key] | None = None

    async def load(self, key: Key, rest: int | None = None) -> Entry:
        """Load the entry of a node that has none, and others ahead of the walk.

        Parameters
        ----------
        key : Key
            Key of the node that the walk expands now.
        rest : int, optional
            Number of edges that are still wanted.

        Returns
        -------
        Entry
            The steps out of it; it is forgotten here.
        """
        frontier, entries = self._frontier, self._frontier.entries
        self._policy.set_rest(rest, len(entries))
        frontier.missed = key
        while self._tasks and key not in entries:
            # The walk has caught up with what is on its way.
            done, _ = await asyncio.wait(set(self._tasks), return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                self._tasks.discard(task)
                task.result()
        if key not in entries:
            await self._load()
        frontier.missed = None
        # Loading the next entries can only begin once the steps of this one are on the stack.
        self.is_due = self._policy.looks_ahead
        return entries.pop(key)

    def prefetch(self) -> None:
        """Begin to load what the walk will need after the entries at hand."""
        self.is_due = False
        held = len(self._frontier.entries) + len(self._frontier.coming)
        if self._searching is None and self._policy.wants_more(held, len(self._tasks)):
            self._searching = set()
            task = asyncio.create_task(self._work_ahead())
            self._tasks.add(task)
            task.add_done_callback(self._forget)

    def _forget(self, task: asyncio.Task[None]) -> None:
        """Drop a task that has ended; the walk is still to meet its error."""
        if not task.cancelled() and task.exception() is None:
            self._tasks.discard(task)

    async def _work_ahead(self) -> None:
        """Load until it is worth the walk's while."""
        wanted = self._policy.worthwhile
        while wanted > 0:
            brought = await self._load()
            if not brought or self._frontier.missed is not None or self._searching is not None:
                break
            wanted -= brought

    async def close(self) -> None:
        """End what is under way; its connection is free when this returns."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._tasks.clear()

    async def _load(self) -> int:
        """Load what the walk waits for and what it will reach; returns how many entries came."""
        keys: set[Key] = set()
        self._searching = keys
        try:
            entries = await self._fetch(keys)
        finally:
            self._end_search(keys)
            self._frontier.coming -= keys
        self._frontier.entries.update(entries)
        return len(entries)

    def _end_search(self, keys: set[Key]) -> None:
        """Take note that a load knows its nodes."""
        if self._searching is keys:
            self._searching = None

    async def _fetch(self, keys: set[Key]) -> dict[Key, Entry]:
        """Return what a load brings; `keys` are to be those of its nodes as soon as they are known."""
        policy, frontier = self._policy, self._frontier
        if frontier.missed is not None and is_value_key(frontier.missed):
            return await self._source.load_layer([frontier.missed])
        plan = policy.plan()
        seeds = await run_in_turns(frontier.find_seeds(plan.seeds))

        def note(met: Sequence[Key]) -> None:
            keys.update(met)
            frontier.coming.update(met)

        def note_found(met: Sequence[Key]) -> None:
            note(met)
            self._end_search(keys)
            if policy.overlaps:
                self.prefetch()

        note(seeds)
        if not seeds:
            return {}
        if plan.is_layer:
            return await self._source.load_layer(seeds)
        reach = await self._source.load_reach(
            seeds, plan.limit, frontier.is_useless, policy.stops, note_found
        )
        policy.learn(len(seeds), reach, len(frontier.entries))
        return reach.entries
