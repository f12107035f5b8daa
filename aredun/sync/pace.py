"""How much a sync does at a time, for the sake of who else is on the event loop."""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Coroutine

# Batches that are under way even if the loop is late: one is made ready while the other is written.
LEAST: Final = 2
# Seconds between looks at how late the loop is, and the weight of the newest in their mean.
INTERVAL: Final = 0.005
WEIGHT: Final = 0.05
# Seconds that the loop may be late on average, beyond which less is done, and below which more.
LATE: Final = 0.0024
CALM: Final = 0.0014


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
    held = max(0, workers - LEAST)
    for _ in range(held):
        await slots.acquire()
    lateness = (LATE + CALM) / 2
    while True:
        due = monotonic() + INTERVAL
        await asyncio.sleep(INTERVAL)
        lateness += (monotonic() - due - lateness) * WEIGHT
        if lateness > LATE and held < workers - LEAST:
            await slots.acquire()
            held += 1
        elif lateness < CALM and held:
            slots.release()
            held -= 1
        else:
            continue
        lateness = (LATE + CALM) / 2


class Writes:
    """Writes of one kind of records that are under way.

    Parameters
    ----------
    group : asyncio.TaskGroup
        Runs them.
    slots : asyncio.Semaphore
        Shared with all other work: each write takes one.
    most : int
        How many of these may be under way.
    """

    def __init__(self, group: asyncio.TaskGroup, slots: asyncio.Semaphore, most: int) -> None:
        self._group = group
        self._slots = slots
        self._most = most
        self._tasks: set[asyncio.Task[None]] = set()

    def __bool__(self) -> bool:
        return bool(self._tasks)

    async def wait_for_slot(self) -> None:
        """Wait until one more may begin; `begin` or `leave_slot` must follow."""
        while len(self._tasks) >= self._most:
            await self.wait()
        await self._slots.acquire()

    def leave_slot(self) -> None:
        """Begin nothing after all."""
        self._slots.release()

    def begin(self, write: Coroutine[Any, Any, None]) -> None:
        """Begin the write that a slot was waited for."""
        task = self._group.create_task(write)
        self._tasks.add(task)
        task.add_done_callback(self._end)

    def _end(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._slots.release()

    async def wait(self) -> None:
        """Wait until one of them has ended."""
        await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
