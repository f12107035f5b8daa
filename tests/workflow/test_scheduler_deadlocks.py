"""Jobs that would wait for each other for ever: an error names what they wait for, in place of a hang."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import Any

import pytest

from aredun import RedunBackendDb, Scheduler, UsageError, task
from tests.support.scheduling import get_statuses

redun_namespace = "dead"


async def run(backend: RedunBackendDb, expression: Any, **limits: int) -> Any:
    """Run a workflow that would otherwise wait until the test's time is up; all jobs are to have ended."""
    try:
        async with Scheduler(backend, limits=limits) as scheduler:
            return await asyncio.wait_for(scheduler.run(expression), 30)
    finally:
        assert "RUNNING" not in {each for found in (await get_statuses(backend)).values() for each in found}


@pytest.mark.parametrize("depth", [0, 1, 20])
async def test_limit_that_is_held_above(backend: RedunBackendDb, depth: int) -> None:
    @task(limits=["db"])
    async def load(table: str) -> str:
        return table

    @task()
    async def between(table: str, left: int) -> Any:
        return await (between(table, left - 1) if left > 1 else load(table))

    @task(limits=["db"])
    async def load_all() -> list[str]:
        return [await (between(table, depth) if depth else load(table)) for table in ("a", "b")]

    with pytest.raises(UsageError) as raised:
        await run(backend, load_all())
    chain = ["dead.load_all", *["dead.between"] * depth, "dead.load"]
    if depth == 20:
        chain[4:-4] = ["(14 more)"]
    assert str(raised.value) == (
        "task dead.load needs limit 'db', which dead.load_all holds while it waits: "
        f"{' -> '.join(chain)}; give db = 2 in section [limits] of redun.ini, "
        "or take the limit off one of the tasks"
    )
    statuses = await get_statuses(backend)
    assert statuses == {
        name.removeprefix("dead."): ["FAILED"] * n for name, n in _count(chain, depth).items()
    }
    assert await run(backend, load_all(), db=2) == ["a", "b"]


def _count(chain: list[str], depth: int) -> dict[str, int]:
    return {name: depth if name == "dead.between" else 1 for name in sorted({*chain} - {"(14 more)"})}


async def test_limits_that_can_be_met(backend: RedunBackendDb) -> None:
    """What others hold comes back, and so does what a plain task held before the calls that it returned."""
    began = asyncio.Semaphore(0)

    @task(limits={"db": 2})
    async def load(table: str) -> str:
        return table

    @task(limits=["db"])
    async def load_all() -> list[str]:
        return list(await asyncio.gather(load("a"), load("b")))

    @task(limits=["db"])
    def later() -> Any:
        return [load("c"), load("d")]

    @task(limits={"db": 3})
    async def hold() -> str:
        began.release()
        await asyncio.sleep(0)
        return "held"

    expected = ["held", ["a", "b"], ["c", "d"]]
    assert await run(backend, [hold(), load_all(), later()], db=3) == expected


async def test_more_of_a_limit_than_is_left(backend: RedunBackendDb) -> None:
    @task(limits={"db": 2})
    async def load() -> None:
        pytest.fail("ran")

    @task(limits={"db": 2})
    async def load_all() -> None:
        await load()

    with pytest.raises(UsageError, match=r"dead\.load needs limit 'db', .*give db = 4 in section"):
        await run(backend, load_all(), db=3)


async def test_limits_that_two_hold_crosswise(backend: RedunBackendDb) -> None:
    both = asyncio.Barrier(2)

    @task()
    async def use(name: str) -> str:
        return name

    @task(cache=False)
    async def hold(mine: str, other: str) -> Any:
        await both.wait()
        return await use.options(limits=[other])(other)

    crosswise = [hold.options(limits=["a"])("a", "b"), hold.options(limits=["b"])("b", "a")]
    with pytest.raises(
        UsageError,
        match=r"dead\.use needs limit '[ab]', which dead\.hold holds while it waits: "
        r"dead\.hold -> dead\.use -> dead\.hold -> dead\.use; give",
    ):
        await run(backend, crosswise)
    assert await run(backend, crosswise, a=2) == ["b", "a"]


async def test_limit_that_the_call_waited_for_needs(backend: RedunBackendDb) -> None:
    """A task holds what an equal call elsewhere needs, and waits for the result of that one."""
    held, waits = asyncio.Event(), asyncio.Event()

    @task(limits=["db"])
    async def load(table: str) -> str:
        return table

    @task()
    async def first() -> Any:
        await held.wait()
        waiting = asyncio.ensure_future(_await(load("a")))
        await asyncio.sleep(0.05)
        waits.set()
        return await waiting

    @task(limits=["db"])
    async def second() -> Any:
        held.set()
        await waits.wait()
        return await load("a")

    with pytest.raises(
        UsageError, match=r"dead\.load needs limit 'db', which dead\.second holds while it waits: dead\."
    ):
        await run(backend, [first(), second()])


async def _await(call: Any) -> Any:
    return await call


@pytest.mark.parametrize("names", ["aa", "aba", "abca"])
@pytest.mark.parametrize("kind", ["def", "async def"])
async def test_tasks_that_call_each_other(backend: RedunBackendDb, names: str, kind: str) -> None:
    following = dict(pairwise(names))
    tasks: dict[str, Any] = {}

    def define(name: str) -> Any:
        if kind == "def":

            def call(x: int) -> Any:
                return tasks[following[name]](x)

            return task(name=name, version="1")(call)

        async def call_async(x: int) -> Any:
            return await tasks[following[name]](x)

        return task(name=name, version="1")(call_async)

    tasks.update({name: define(name) for name in following})
    with pytest.raises(RecursionError) as raised:
        await run(backend, tasks["a"](1))
    assert str(raised.value) == (
        "dead.a calls itself with equal arguments, so it never ends: "
        + " -> ".join(f"dead.{name}" for name in names)
    )


@pytest.mark.parametrize("count", [2, 3])
async def test_calls_under_way_that_wait_for_each_other(backend: RedunBackendDb, count: int) -> None:
    """Each is under way already when another one calls it, so no call is below itself."""
    all_began = asyncio.Barrier(count)

    @task()
    async def call_next(i: int) -> Any:
        await all_began.wait()
        return await call_next((i + 1) % count)

    chain = " -> ".join(["dead.call_next"] * (2 * count))
    with pytest.raises(
        RecursionError, match=f"calls itself with equal arguments, so it never ends: {chain}\n"
    ):
        await run(backend, [call_next(i) for i in range(count)])
