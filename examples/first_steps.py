"""A workflow, run from Python: what is called twice is computed once, today and tomorrow.

Run it with `python examples/first_steps.py`, or its tasks with `aredun run examples/first_steps.py main`.
"""

from __future__ import annotations

import asyncio
from typing import Any

from aredun import RedunBackendDb, Scheduler, task

redun_namespace = "first_steps"


@task()
def count_words(text: str) -> int:
    """Count in a thread: a plain function does not block the loop."""
    return len(text.split())


@task()
async def fetch(title: str) -> str:
    """Wait on the loop, as a request to a server would."""
    await asyncio.sleep(0.01)
    return f"the text of {title}"


@task()
async def count_all(titles: list[str]) -> dict[str, int]:
    """Fetch all texts at once; each is passed on as a lazy call, so that lineage is recorded."""
    counts = await asyncio.gather(*(count_words(fetch(title)) for title in titles))
    return dict(zip(titles, counts, strict=True))


@task()
def main(titles: list[str] | None = None) -> Any:
    """Count the words of some books."""
    return count_all(titles or ["Emma", "Moby Dick"])


async def run_twice() -> None:
    """Run the workflow two times on one database, here in memory."""
    async with RedunBackendDb("sqlite:///:memory:") as backend, Scheduler(backend) as scheduler:
        for _ in range(2):
            result = await scheduler.run(main())
            print(result)
        for name, counts in scheduler.get_status_counts().items():
            print(name, {status.lower(): number for status, number in counts.items() if number})


if __name__ == "__main__":
    asyncio.run(run_twice())
