"""Errors that are handled, and a resource that few may use at once.

Run it with `python examples/errors_and_limits.py`.
"""

from __future__ import annotations

import asyncio
from typing import Any

from aredun import Scheduler, task

redun_namespace = "errors_and_limits"


@task(limits=["server"])
async def ask_server(question: int) -> int:
    """Ask a server that takes two questions at a time, and does not know everything."""
    await asyncio.sleep(0.01)
    if question == 3:
        raise LookupError("nobody knows")
    return 10 * question


@task()
async def ask_patiently(question: int) -> str:
    """Handle the error of another task where it is awaited."""
    try:
        return f"{question}: {await ask_server(question)}"
    except LookupError as error:
        return f"{question}: {error}"


@task()
def main() -> list[Any]:
    """Ask five questions."""
    return [ask_patiently(question) for question in range(1, 6)]


async def run() -> None:
    """Run the workflow on a database in memory; two may hold the limit `server`."""
    async with Scheduler(limits={"server": 2}) as scheduler:
        for answer in await scheduler.run(main()):
            print(answer)


if __name__ == "__main__":
    asyncio.run(run())
