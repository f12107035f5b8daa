"""How much a sync does at a time, for the sake of who else is on the event loop."""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import Final

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
