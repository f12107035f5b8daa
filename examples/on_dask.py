"""Have the workers of a dask cluster compute, and the repository remember.

    python examples/on_dask.py [tcp://scheduler:8786]

Without an address two workers are started on this machine (`pip install "aredun[dask]"`). The second run asks
them for one range alone: the others have been counted.
"""

from __future__ import annotations

import asyncio
import sys

# Beside this file: workers import it, and could not import the program that runs.
from primes import count_below  # type: ignore[import-not-found]

from aredun import RedunBackendDb, Scheduler
from aredun.scheduler import JobStatus
from aredun.workflow.executors.dask import DaskExecutor


async def main(address: str | None) -> None:
    """Count further each time."""
    cluster = DaskExecutor(address) if address else DaskExecutor(n_workers=2)
    async with (
        RedunBackendDb("sqlite:///primes.db") as backend,
        Scheduler(backend, executors={"cluster": cluster}) as scheduler,
    ):
        before = 0
        for limit in (20_000, 25_000):
            found = await scheduler.run(count_below(limit))
            counted = scheduler.get_status_counts()["primes.count_primes"][JobStatus.DONE]
            print(f"{found} primes below {limit}: {counted - before} new ranges")
            before = counted


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else None))
