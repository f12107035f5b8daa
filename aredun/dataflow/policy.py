"""How far, and how much at a time, a walk looks ahead. Pure: told how loads went, it plans the next one."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from aredun.dataflow.steps import Reach

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
# Entries, in loads of the largest size, beyond which no load has more than one seed.
MOST_HELD = 4
# Layers in a row after loads that brought little, at most.
MAX_LAYERS = 64


class NextLoad(NamedTuple):
    """The next load: the edges out of some nodes, or also all that follows from them.

    Attributes
    ----------
    is_layer : bool
        Whether only the edges out of the seeds are loaded.
    seeds : int
        Most nodes to begin with.
    limit : int
        Most nodes to look at.
    """

    is_layer: bool
    seeds: int
    limit: int


class Policy:
    """Decides what a walk loads, from how its loads went.

    Parameters
    ----------
    most : int
        Most nodes that one load looks at.

    Attributes
    ----------
    stops : dict
        Hashes of calls that are not to be followed: what lies behind them is known.
    """

    def __init__(self, most: int = MAX_LIMIT) -> None:
        self.stops: dict[str, None] = {}
        self._bound = self._most = most
        self._limit = min(FIRST_LIMIT, most)
        self._seeds = 4
        # The first load is a layer as well: the second edge must not wait for a recursive plan.
        self._layers = 1
        self._backoff = 2
        self._rest: int | None = None

    @property
    def overlaps(self) -> bool:
        """Whether another load is begun as soon as one has found its nodes."""
        return self._limit >= OVERLAP_LIMIT

    def set_rest(self, rest: int | None, held: int) -> None:
        """Take note of how many edges are still wanted (None for all), of which every node has at least one,
        and how many entries are at hand."""
        self._rest = rest
        if rest is not None:
            self._most = max(FIRST_LIMIT, min(self._bound, rest - held))
            self._limit = min(self._limit, self._most)

    def wants_more(self, held: int, loads: int) -> bool:
        """Tell whether to begin a load ahead of the walk, given the entries at hand or coming, and the loads
        under way."""
        if self._limit < PREFETCH_LIMIT or loads >= MOST_LOADS:
            return False
        if self._rest is not None and held >= self._rest:
            return False
        return not loads or held <= self._most * 3 // 2

    def plan(self) -> NextLoad:
        """Return the next load."""
        if self._layers:
            self._layers -= 1
            return NextLoad(True, self._limit, self._limit)
        return NextLoad(False, self._seeds, self._limit)

    def learn(self, seeds: int, reach: Reach, held: int) -> None:
        """Take note of how a load from so many seeds went, with so many entries at hand before it."""
        for call_hash in reach.known_calls[:MAX_STOPS]:
            self.stops.pop(call_hash, None)
            self.stops[call_hash] = None
        while len(self.stops) > MAX_STOPS:
            del self.stops[next(iter(self.stops))]
        if len(reach.entries) * 2 < reach.rows:
            # Most of it was known: other paths lead to the same nodes. Layers load nothing twice.
            self._layers = self._backoff
            self._backoff = min(self._backoff * 2, MAX_LAYERS)
        else:
            self._backoff = 2
        self._limit = min(self._limit * LIMIT_GROWTH, self._most)
        if reach.truncated:
            self._seeds = max(1, seeds // LIMIT_GROWTH)
        else:
            self._seeds = max(1, min(self._limit, self._limit * seeds // max(1, reach.rows)))
        if held + len(reach.entries) > MOST_HELD * self._bound:
            self._seeds = 1
