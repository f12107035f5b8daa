"""A client in which type checkers find a fault on each line that says so, and on no other."""

from __future__ import annotations

from aredun import CallGraphQuery, RedunBackendDb, Scheduler, task
from aredun.query import infer_id


def sink(value: object) -> None:
    """Take anything."""


@task
def price(item: str) -> int:
    return len(item)


@task(version="1")
async def add(first: int, second: int = 0) -> int:
    return first + second


@task
async def shop() -> str:
    price()  # wrong
    price(3)  # wrong
    price("tea", "milk")  # wrong
    add(first="tea")  # wrong
    add(1, third=2)  # wrong
    price.options(cache=False)(3)  # wrong
    name: str = await price("tea")  # wrong
    count = await add(1, 2)
    count.upper()  # wrong
    return await price(name)  # wrong


async def main(scheduler: Scheduler, backend: RedunBackendDb) -> None:
    amount = await scheduler.run(price("tea"))
    amount.upper()  # wrong
    tuple(await scheduler.run(add(1)))  # wrong
    name: str = await scheduler.run(price("tea"))  # wrong for pyright
    sink(name)
    job = await CallGraphQuery(backend).filter_types(["Job"]).one()
    sink(job.fullname)  # wrong
    async for record in CallGraphQuery(backend).all():
        sink(record.start_time)  # wrong
    found = await infer_id(backend, "-")
    sink(found.id)  # wrong
