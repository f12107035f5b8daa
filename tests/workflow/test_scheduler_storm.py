"""Random workflows with timeouts, races, errors and cancellations: what must hold whatever happens."""

from __future__ import annotations

import asyncio
import gc
import random
import time
from typing import Any

import pytest

from aredun import RedunBackendDb, Scheduler, task
from aredun.workflow.operators import catch
from tests.support.scheduling import get_statuses
from tests.support.verification import verify

redun_namespace = "storm"

chance = random.Random()


@task()
async def leaf(x: int) -> int:
    await asyncio.sleep(chance.choice([0, 0, 0.001, 0.003]))
    if x % 7 == 3:
        raise ValueError(x)
    return x


@task(limits=["db"])
def in_thread(x: int) -> int:
    time.sleep(chance.choice([0, 0.001, 0.002]))
    if x % 5 == 3:
        raise ValueError(x)
    return x


@task()
def lazy(x: int) -> Any:
    return [leaf(x), in_thread(x + 1)]


@task()
def recover(error: Any) -> str:
    return "recovered"


async def wait(call: Any) -> Any:
    return await call


def begin(call: Any) -> asyncio.Task[Any]:
    waiting = asyncio.create_task(wait(call))
    waiting.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
    return waiting


async def wait_briefly(call: Any) -> Any:
    try:
        return await asyncio.wait_for(wait(call), chance.choice([0.001, 0.003, 0.01]))
    except (TimeoutError, ValueError):
        return None


@task()
async def tree(depth: int, x: int) -> Any:
    if depth:
        calls = [tree(depth - 1, chance.randrange(6)) for _ in range(3)]
    else:
        tasks: list[Any] = [leaf, in_thread, lazy]
        calls = [chance.choice(tasks)(chance.randrange(12)) for _ in range(3)]
    match chance.randrange(5):
        case 0:
            await asyncio.gather(*calls, return_exceptions=True)
        case 1:
            return [repr(await wait_briefly(call)) for call in calls]
        case 2:
            _, pending = await asyncio.wait([*map(begin, calls)], return_when=asyncio.FIRST_COMPLETED)
            for waiting in pending:
                waiting.cancel()
        case 3:
            return catch(calls, ValueError, recover)
        case _:
            await asyncio.wait([*map(begin, calls)], timeout=0.004)
    return None


@pytest.mark.parametrize("seed", [3, 10, 14])
async def test_nothing_is_left_or_wrong(backend: RedunBackendDb, seed: int) -> None:
    """Each run ends, all jobs have ended, the repository is sound, and asyncio has nothing to complain of."""
    chance.seed(seed)
    complaints: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(repr(context)))
    async with Scheduler(backend, max_concurrency=4, limits={"db": 2}) as scheduler:
        for round_ in range(4):
            run = asyncio.create_task(scheduler.run([tree(2, x) for x in range(2)]))
            if round_:
                await asyncio.sleep(chance.random() * 0.2)
                run.cancel()
                for _ in range(chance.randrange(6)):
                    await asyncio.sleep(0)
                run.cancel()
            ended, _ = await asyncio.wait([run], timeout=30)
            assert ended
            assert run.cancelled() or isinstance(run.exception(), ValueError | None)
    await asyncio.sleep(0)
    gc.collect()
    assert not [name for name, found in (await get_statuses(backend)).items() if "RUNNING" in found]
    assert (await verify(backend)).problems == []
    assert complaints == []
