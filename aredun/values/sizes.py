"""How large a value is likely to be, guessed without pickling it."""

from __future__ import annotations

import datetime
import enum
import functools
from typing import Any

# Pickling, hashing and reading back less than this takes well under a millisecond; more goes to a thread.
SMALL_BYTES = 64 * 1024
SMALL_LEAVES = 1_000

_PLAIN = frozenset({int, float, complex, bool, type(None)})
_SIZED = frozenset({str, bytes, bytearray})
_CONTAINERS = frozenset({list, tuple, set, frozenset})
_SMALL = (datetime.date, datetime.time, datetime.timedelta, datetime.tzinfo, enum.Enum, type)


class Weight(enum.Enum):
    """What a value asks for."""

    PLAIN = "plain"
    """Small, and of nothing but Python's own text, numbers and containers: no subvalues, no lineage."""
    SMALL = "small"
    """Small enough to be serialized on the event loop."""
    LARGE = "large"
    """Large, or of a class whose pickling and hashing may do anything (a `File` looks at its file)."""


def weigh(value: Any) -> Weight:
    """Guess what serializing a value costs; it is looked at, not run.

    Parameters
    ----------
    value : Any
        Any value.

    Returns
    -------
    Weight
        `LARGE` for more than 64 KiB of text or bytes, for more than 1,000 leaves, and for classes that are
        not Python's own. A task is `SMALL`: its bytes and its hash are at hand.
    """
    size = 0
    leaves = 0
    weight = Weight.PLAIN
    stack = [value]
    while stack:
        item = stack.pop()
        leaves += 1
        kind: Any = type(item)
        if kind in _SIZED:
            size += len(item)
        elif kind in _CONTAINERS:
            leaves += len(item)
            if leaves <= SMALL_LEAVES:
                stack.extend(item)
        elif kind is dict:
            leaves += 2 * len(item)
            if leaves <= SMALL_LEAVES:
                stack.extend(item.keys())
                stack.extend(item.values())
        elif kind in _PLAIN:
            size += item.bit_length() >> 3 if kind is int else 0
        elif isinstance(item, _SMALL) or _is_quick(kind):
            weight = Weight.SMALL
        else:
            return Weight.LARGE
        if size > SMALL_BYTES or leaves > SMALL_LEAVES:
            return Weight.LARGE
    return weight


@functools.lru_cache(maxsize=1024)
def _is_quick(kind: type) -> bool:
    """Tell whether instances of a class have their hash and their bytes at hand, as tasks do."""
    return any(
        base.__name__ == "Task" and base.__module__.startswith(("aredun", "redun")) for base in kind.__mro__
    )
