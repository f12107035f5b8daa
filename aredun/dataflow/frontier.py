"""What a depth-first walk has before it: its stack, what it has met, and the entries loaded ahead. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from aredun.dataflow.nodes import DataflowNode, Key
    from aredun.dataflow.steps import Entry

# Steps of a search for seeds that are a small piece of work, and the most of one search.
SCAN_PIECE = 1_000
MOST_SCANNED = 32_768


class Frontier:
    """The stack of a walk and what lies before it.

    Attributes
    ----------
    stack : list of Key
        What the walk is still to expand, the next one last.
    entries : dict of Key to Entry
        What was loaded and not used yet.
    coming : set of Key
        What is being loaded, as far as that is known.
    missed : Key or None
        What the walk waits for.
    allowed : set of Key or None
        What the walk may expand, None for all.
    """

    def __init__(self) -> None:
        self.stack: list[Key] = []
        self.entries: dict[Key, Entry] = {}
        self.coming: set[Key] = set()
        self.missed: Key | None = None
        self.allowed: set[Key] | None = None
        # What was pushed: the node while it is on the stack, None after that.
        self._pushed: dict[Key, DataflowNode | None] = {}

    def push(self, nodes: Sequence[tuple[Key, DataflowNode]]) -> None:
        """Push what was not met before, so that the first one is popped first."""
        pushed, allowed = self._pushed, self.allowed
        for key, node in reversed(nodes):
            if key not in pushed and (allowed is None or key in allowed):
                pushed[key] = node
                self.stack.append(key)

    def pop(self) -> tuple[Key, Any]:
        """Pop the key of the next node to expand, and the node."""
        key = self.stack.pop()
        node, self._pushed[key] = self._pushed[key], None
        return key, node

    def is_useless(self, key: Key) -> bool:
        """Tell whether the entry of a node is there, is coming or was used."""
        return key in self.entries or key in self.coming or self._pushed.get(key, key) is None

    def find_seeds(self, most: int) -> Generator[None, None, list[Key]]:
        """Return the nodes without an entry that the walk will reach first, beginning with the one that it
        waits for; yield after every small piece of work."""
        seeds = {} if self.missed is None or self.missed in self.coming else {self.missed: None}
        met: set[Key] = set(seeds)
        ahead: list[Key] = []
        # While others run, the walk may go on.
        below = len(self.stack)
        steps = 0
        while len(seeds) < most and steps < MOST_SCANNED:
            steps += 1
            if steps % SCAN_PIECE == 0:
                yield
            if ahead:
                key = ahead.pop()
            elif below := min(below, len(self.stack)):
                below -= 1
                key = self.stack[below]
            else:
                break
            entry = self.entries.get(key)
            if entry is None:
                if key not in self.coming:
                    seeds[key] = None
                continue
            for step in reversed(entry):
                dest = step.key
                if dest not in met and not self._is_met(dest):
                    met.add(dest)
                    ahead.append(dest)
        return list(seeds)

    def _is_met(self, key: Key) -> bool:
        """Tell whether a node was pushed once, or never will be."""
        return key in self._pushed or (self.allowed is not None and key not in self.allowed)
