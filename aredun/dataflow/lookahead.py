"""The loads of a walk: on a miss, and ahead of it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from aredun.dataflow.policy import MAX_LIMIT, Policy
from aredun.loop.pacing import run_in_turns

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aredun.dataflow.frontier import Frontier
    from aredun.dataflow.load import Loader
    from aredun.dataflow.nodes import Key
    from aredun.dataflow.steps import Entry


class LookAhead:
    """Loads entries into the frontier of a walk.

    Parameters
    ----------
    source : Loader
        Loads entries.
    frontier : Frontier
        Of the walk that they are for.
    most : int
        Most nodes that one load looks at.
    """

    def __init__(self, source: Loader, frontier: Frontier, most: int = MAX_LIMIT) -> None:
        self._source = source
        self._frontier = frontier
        self._policy = Policy(most)
        # The first one begun first. Those that ended stay until the walk waits, and meets their errors.
        self._tasks: list[asyncio.Task[None]] = []
        # One load at a time looks for nodes: the next one knows what it brings.
        self._is_searching = False

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
            await self._tasks[0]
            del self._tasks[0]
        if key not in entries:
            await self._load()
        frontier.missed = None
        return entries.pop(key)

    def prefetch(self) -> None:
        """Begin to load what the walk will need after the entries at hand, if it is time for that.

        Only once the steps of the last entry are on the stack, it is known what that is.
        """
        held = len(self._frontier.entries) + len(self._frontier.coming)
        loads = sum(not task.done() for task in self._tasks)
        if not self._is_searching and self._policy.wants_more(held, loads):
            self._is_searching = True
            self._tasks.append(asyncio.create_task(self._load()))

    async def close(self) -> None:
        """End what is under way; its connection is free when this returns."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _load(self) -> None:
        """Load what the walk waits for and what it will reach."""
        policy, frontier = self._policy, self._frontier
        self._is_searching = True
        plan = policy.plan()
        seeds = await run_in_turns(frontier.find_seeds(plan.seeds))
        coming = set(seeds)

        def note(keys: Sequence[Key]) -> None:
            coming.update(keys)
            frontier.coming.update(keys)
            self._is_searching = False
            if policy.overlaps:
                self.prefetch()

        frontier.coming |= coming
        try:
            if plan.is_layer or not seeds:
                loaded = await self._source.load_layer(seeds)
                self._is_searching = False
            else:
                reach = await self._source.load_reach(
                    seeds, plan.limit, frontier.is_useless, policy.stops, note
                )
                policy.learn(len(seeds), reach, len(frontier.entries))
                loaded = reach.entries
        finally:
            frontier.coming -= coming
        frontier.entries.update(loaded)
