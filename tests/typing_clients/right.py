"""A client that type checkers pass, and how they see what comes back."""

from __future__ import annotations

import asyncio
from typing import assert_type

from aredun import Call, CallGraphQuery, RedunBackendDb, Scheduler, task
from aredun.models import CallNode, Execution, File, Job, Task, Value
from aredun.query import Record, infer_id
from aredun.workflow.operators import cond


@task
def price(item: str) -> int:
    return len(item)


@task(version="1", limits=["shop"])
async def add(first: int, second: int = 0) -> int:
    return first + second


@task
def total(prices: list[int]) -> int:
    return sum(prices)


@task
def prices(items: list[str]) -> list[int]:
    return [price(item) for item in items]


@task
def shopping(items: list[str]) -> int:
    """Return a lazy call where a value is expected, and pass one on."""
    return add(total(prices(items)), second=price("bag"))


@task
async def shop() -> int:
    assert_type(await price("tea"), int)
    assert_type(await add(price("tea"), 2), int)
    assert_type(await price.options(cache=False)("tea"), int)
    assert_type(await add.partial(1)(2), int)
    both = await asyncio.gather(*[price(item) for item in ("tea", "milk")])
    return total([*both, price("bread")])


def make() -> Call[int]:
    return price("tea")


async def main(scheduler: Scheduler) -> None:
    assert_type(await scheduler.run(price("tea")), int)
    assert_type(await scheduler.run(shop(), cache=False), int)
    assert_type(await scheduler.run(make(), tags=[("shop", "corner")]), int)
    assert_type(await scheduler.run([price("tea"), price("milk")]), list[int])
    assert_type(await scheduler.run(3), int)
    await scheduler.run(cond(price("tea"), 1, 2))


async def ask(backend: RedunBackendDb) -> None:
    query = CallGraphQuery(backend)
    async for record in query.all():
        assert_type(record, Record)
    async for job in query.filter_types(["Job"]).filter_tags([("a", 1)]).order_by("time").limit(3):
        assert_type(job, Job)
    assert_type(await query.filter_execution_statuses(["FAILED"]).first(), Execution | None)
    assert_type(await query.filter_value_types(["builtins.int"]).one(), Value)
    page = await query.filter_types(["Task"]).page_after(None, 10)
    assert_type(page.records, list[Task])
    assert_type(
        await infer_id(backend, "-"),
        Execution | Job | CallNode | Task | Value | tuple[File, Job, str] | None,
    )
    found = await infer_id(backend, "tea", False, True)
    assert_type(found, Execution | Job | CallNode | Task | Value)
