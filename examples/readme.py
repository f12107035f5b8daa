import asyncio

from aredun import RedunBackendDb, Scheduler, task, walk_dataflow
from aredun.dataflow import display_dataflow, make_dataflow_dom
from aredun.query import infer_id

redun_namespace = "shop"


@task()
async def price(item: str) -> int:
    return {"tea": 4, "honey": 9}[item]


@task()
def total(prices: list[int], discount: int = 1) -> int:
    return sum(prices) - discount


async def main() -> None:
    async with RedunBackendDb("sqlite:///shop.db") as backend, Scheduler(backend) as scheduler:
        bill = await scheduler.run(total([price("tea"), price("honey")]))
        print("bill:", bill)
        value = await infer_id(backend, await backend.record_value(bill))
        async for line in display_dataflow(backend, make_dataflow_dom(walk_dataflow(backend, value))):
            print(line)


if __name__ == "__main__":
    asyncio.run(main())
