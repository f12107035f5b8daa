"""Pacing: in each turn of an event loop all long work together gets one small share of time.

Whoever has more than a moment's work does it in small pieces, and calls `take_turn` between them: it returns
at once while the share of the present turn lasts, and waits for the next turn when it is used up. However
many tasks work so, they take their turns one after the other: turns that are short each would be a long one
together. In a thread such work would not go any faster, and the loop would wait for the interpreter's lock.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import contextmanager
from itertools import islice
from time import monotonic
from typing import TYPE_CHECKING, Final, TypeVar
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator, Sequence

T = TypeVar("T")

# Seconds of long work in one turn of the loop, all tasks together.
TURN_SECONDS: Final = 0.001
# What it costs the next turn to wake somebody up who waits: who is woken goes on at once.
ANSWER_SECONDS: Final = TURN_SECONDS / 20
# Rows, or parts of a record, that are a small piece of work.
PIECE_SIZE: Final = 250
# Whole records that are a small piece of work.
RECORDS_PER_PIECE: Final = 100

# Batches that are under way even if the loop is late: one is made ready while the other is written.
LEAST_BATCHES: Final = 2
# Seconds between looks at how late the loop is, and the weight of the newest in their mean.
LOOK_SECONDS: Final = 0.005
LOOK_WEIGHT: Final = 0.05
# Seconds that the loop may be late on average, beyond which less is done, and below which more.
LATE_SECONDS: Final = 0.0024
CALM_SECONDS: Final = 0.0014


class _Share:
    """The share of long work in the present turn of one event loop, and who waits for the next ones."""

    __slots__ = ("_loop", "_waiting", "end", "pauses")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        # When it is used up.
        self.end = 0.0
        # Threads for which long work pauses between its turns.
        self.pauses = 0
        self._loop = loop
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def wait_for_next(self) -> None:
        """Wait for a turn whose share is the caller's."""
        future = self._loop.create_future()
        self._waiting.append(future)
        if len(self._waiting) == 1:
            self._call_wake_next()
        await future
        self.end = monotonic() + TURN_SECONDS

    def _call_wake_next(self) -> None:
        if self.pauses:
            # In the selector: whatever happens is seen to at once.
            self._loop.call_later(TURN_SECONDS, self._wake_next)
        else:
            self._loop.call_soon(self._wake_next)

    def _wake_next(self) -> None:
        while self._waiting:
            future = self._waiting.popleft()
            # One that was cancelled takes no turn.
            if not future.done():
                future.set_result(None)
                break
        if self._waiting:
            self._call_wake_next()


_shares: WeakKeyDictionary[asyncio.AbstractEventLoop, _Share] = WeakKeyDictionary()


def _get_share() -> _Share:
    loop = asyncio.get_running_loop()
    share = _shares.get(loop)
    if share is None:
        share = _shares[loop] = _Share(loop)
    return share


@contextmanager
def pause_between_turns() -> Iterator[None]:
    """Leave a thread room while the loop waits for it (`with`): all long work pauses between its turns.

    Otherwise the loop would let go of the interpreter's lock between two turns for so short a moment that a
    thread, which has to be woken up, finds it taken again: it waited up to 30 ms to begin with a statement,
    and writing 50,000 records to sqlite took a sixth longer (`benchmarks.sync`).
    """
    share = _get_share()
    share.pauses += 1
    try:
        yield
    finally:
        share.pauses -= 1


async def take_turn(cost: float = 0.0) -> None:
    """Let the loop run on before the next piece of long work, if this turn has seen enough of it.

    Parameters
    ----------
    cost : float
        Seconds of work that the last piece has set off, beside those that it took (see `ANSWER_SECONDS`).
    """
    share = _get_share()
    share.end -= cost
    if monotonic() >= share.end:
        await share.wait_for_next()


async def run_in_turns(steps: Generator[None, None, T], cost: float = 0.0) -> T:
    """Run a function that yields after every small piece of its work; return what it returns.

    Parameters
    ----------
    steps : Generator[None, None, T]
        What the function gives.
    cost : float
        Of each piece, as for `take_turn`.
    """
    while True:
        await take_turn(cost)
        try:
            next(steps)
        except StopIteration as end:
            result: T = end.value
            return result


async def list_in_turns(items: Iterable[T]) -> list[T]:
    """Return items that take work to make."""
    made: list[T] = []
    rest = iter(items)
    size = -1
    while size < len(made):
        size = len(made)
        await take_turn()
        made += islice(rest, RECORDS_PER_PIECE)
    return made


def iter_parts(items: Sequence[T], size: int = PIECE_SIZE) -> Iterator[Sequence[T]]:
    """Yield all items in parts of at most `size`."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


async def keep_pace(slots: asyncio.Semaphore, workers: int) -> None:
    """Hold back some of the slots, one more while the loop is late and one less while it is not.

    On few cores, more batches only make everybody wait for the time slices of the databases: with two cores,
    four at a time bring a tenth more records than two, and make the loop twice as late.

    Parameters
    ----------
    slots : asyncio.Semaphore
        Has `workers` slots; none is taken yet. Runs until it is cancelled.
    workers : int
        How many there are.
    """
    held = max(0, workers - LEAST_BATCHES)
    for _ in range(held):
        await slots.acquire()
    lateness = (LATE_SECONDS + CALM_SECONDS) / 2
    while True:
        due = monotonic() + LOOK_SECONDS
        await asyncio.sleep(LOOK_SECONDS)
        lateness += (monotonic() - due - lateness) * LOOK_WEIGHT
        if lateness > LATE_SECONDS and held < workers - LEAST_BATCHES:
            await slots.acquire()
            held += 1
        elif lateness < CALM_SECONDS and held:
            slots.release()
            held -= 1
        else:
            continue
        lateness = (LATE_SECONDS + CALM_SECONDS) / 2
