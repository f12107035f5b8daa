"""Long pieces of work on the event loop, cut into turns that keep nobody else waiting."""

from __future__ import annotations

import asyncio
from collections import deque
from time import monotonic, sleep
from typing import TYPE_CHECKING, TypeVar
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence, Sized

T = TypeVar("T")

# Callers that are woken in one turn of the loop: all of them go on in the next one, and then it is long.
ANSWERS_AT_ONCE = 10
# Rows that are put together in one turn, and calls whose rows are worked out.
ROWS_AT_ONCE = 500
CALLS_AT_ONCE = 50
# Seconds of long work in one turn of the loop, and rows or records after which the clock is looked at.
TURN_SECONDS = 0.001
ITEMS_PER_LOOK = 250
# Seconds between turns in which the interpreter's lock is free. The loop lets go of it when it looks for
# events, but not for long enough for a driver's thread to wake up and take it.
LOCK_SECONDS = 0.00002
# Turns in a row that a group waits for more to come.
GATHERING_TURNS = 50
# Groups of one after which nobody else is expected.
TIMES_ALONE = 10


class Turns:
    """Counts work, and lets the loop run on whenever one turn's share of it is done.

    Parameters
    ----------
    share : int
        How much is done in one turn.
    """

    __slots__ = ("_done", "_share")

    def __init__(self, share: int) -> None:
        self._share = share
        self._done = 0

    async def pause_after(self, amount: int = 1) -> None:
        """Note that so much has been done."""
        self._done += amount
        if self._done >= self._share:
            self._done = 0
            await asyncio.sleep(0)


class _Threads:
    """Counts the threads that are at work for the event loops, and want the interpreter's lock.

    Loops in several threads may miscount: that costs a moment in which the lock is left to nobody.
    """

    __slots__ = ("_count",)

    def __init__(self) -> None:
        self._count = 0

    def __enter__(self) -> None:
        self._count += 1

    def __exit__(self, *_: object) -> None:
        self._count -= 1

    def leave_lock(self) -> None:
        """Leave the interpreter's lock to them for a moment, some 0.1 ms, if there are any."""
        if self._count:
            sleep(LOCK_SECONDS)


# Entered, on the loop, by those who wait for a thread of sqlite's.
working_threads = _Threads()


class _Gate:
    """Where the long work of one event loop waits for its turns.

    Attributes
    ----------
    end : float
        When the share of such work in the present turn of the loop is over.
    """

    __slots__ = ("_loop", "_waiting", "end")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.end = 0.0
        self._loop = loop
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def wait(self) -> None:
        """Wait until it is the caller's turn."""
        future = self._loop.create_future()
        self._waiting.append(future)
        if len(self._waiting) == 1:
            self._loop.call_soon(self._wake_next)
        await future
        self.end = monotonic() + TURN_SECONDS

    def _wake_next(self) -> None:
        while self._waiting:
            future = self._waiting.popleft()
            # One that was cancelled takes no turn.
            if not future.done():
                future.set_result(None)
                break
        if self._waiting:
            self._loop.call_soon(self._wake_next)


_gates: WeakKeyDictionary[asyncio.AbstractEventLoop, _Gate] = WeakKeyDictionary()


async def take_turn() -> None:
    """Let the loop run on before the next piece of long work, if this turn has seen enough of it.

    However many tasks work so, they share the time of one turn, in the order in which they came: turns that
    are short each would be a long one together.
    """
    loop = asyncio.get_running_loop()
    gate = _gates.get(loop)
    if gate is None:
        gate = _gates[loop] = _Gate(loop)
    if monotonic() >= gate.end:
        working_threads.leave_lock()
        await gate.wait()


async def run_in_turns(steps: Generator[None, None, T]) -> T:
    """Run a function that yields after every small piece of its work; return what it returns.

    In a thread the work would not go any faster, and the loop would have to wait for the interpreter's lock.
    """
    while True:
        await take_turn()
        try:
            next(steps)
        except StopIteration as end:
            result: T = end.value
            return result


def iter_parts(items: Sequence[T], size: int = ITEMS_PER_LOOK) -> Iterator[Sequence[T]]:
    """Yield all items in parts of at most `size`."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


class Gathering:
    """Waits for a group to be complete: who was answered in turns of the loop comes back in turns.

    Callers that are split once stay apart, and then each of their groups costs what one of all would.
    """

    __slots__ = ("_times_alone",)

    def __init__(self) -> None:
        self._times_alone = 0

    async def gather(self, queue: Sized) -> None:
        """Wait for as long as every turn of the loop brings more; a lone caller is not kept waiting."""
        if self._times_alone < TIMES_ALONE:
            for _ in range(GATHERING_TURNS):
                size = len(queue)
                await asyncio.sleep(0)
                if len(queue) == size:
                    break
        self._times_alone = self._times_alone + 1 if len(queue) == 1 else 0
