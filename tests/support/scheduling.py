"""Tasks for the tests of the scheduler, and what they leave in the repository."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import sqlalchemy as sa

from aredun import RedunBackendDb, task
from aredun.models import CallNode, Job, Value
from aredun.models import Task as TaskRow

redun_namespace = "sched"

calls: Counter[str] = Counter()


async def select(backend: RedunBackendDb, *columns: Any, where: Any = None) -> list[Any]:
    """Read rows; single columns are unpacked."""
    statement = sa.select(*columns) if where is None else sa.select(*columns).where(where)
    async with backend.session() as session:
        rows = (await session.execute(statement)).all()
    return [row[0] if len(columns) == 1 else tuple(row) for row in rows]


async def get_statuses(backend: RedunBackendDb) -> dict[str, list[str]]:
    """Return what became of the jobs of each task, by what a reader of the repository sees."""
    statement = (
        sa.select(TaskRow.name, Job.end_time, Job.cached, Value.type)
        .join(TaskRow, TaskRow.hash == Job.task_hash)
        .outerjoin(CallNode, CallNode.call_hash == Job.call_hash)
        .outerjoin(Value, Value.value_hash == CallNode.value_hash)
    )
    statuses: dict[str, list[str]] = {}
    async with backend.session() as session:
        for name, end_time, cached, result_type in await session.execute(statement):
            status = "RUNNING" if end_time is None else "CACHED" if cached else "DONE"
            status = "FAILED" if result_type == "redun.ErrorValue" else status
            statuses.setdefault(name, []).append(status)
    return {name: sorted(found) for name, found in sorted(statuses.items())}


@task()
def inc(x: int) -> int:
    """Add one, in a thread."""
    calls["inc"] += 1
    return x + 1


@task()
async def double(x: int) -> int:
    """Multiply by two, on the loop."""
    calls["double"] += 1
    await asyncio.sleep(0)
    return 2 * x


@task()
def add(a: int, b: int = 5) -> int:
    """Add two numbers."""
    calls["add"] += 1
    return a + b


@task()
def fail(message: str) -> None:
    """Raise an error."""
    calls["fail"] += 1
    raise ValueError(message)


@task()
async def combine(n: int) -> Any:
    """Await calls one by one and together, and return one."""
    calls["combine"] += 1
    first = await inc(n)
    second, third = await asyncio.gather(double(first), double(inc(first)))
    return add(second, b=third)
