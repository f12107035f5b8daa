"""Many calls at once: those that cannot go on yet are no tasks of the loop, and none waits for ever."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa

from aredun import Scheduler, task
from aredun.workflow import admission
from aredun.workflow.operators import seq

if TYPE_CHECKING:
    from aredun import RedunBackendDb
    from aredun.workflow.jobs import Job, JobStatus

redun_namespace = "test_admission"

CALLS = 300
tasks_seen: list[int] = []
functions_called: list[int] = []
variable: ContextVar[str] = ContextVar("test_admission", default="unset")


@task
async def count_tasks(number: int) -> int:
    tasks_seen.append(len(asyncio.all_tasks()))
    return number


@task
async def add_one(number: int) -> int:
    functions_called.append(number)
    return number + 1


@task
def fan_out(task_: Any, calls: int) -> Any:
    return [task_(number) for number in range(calls)]


@task
def nest(task_: Any, calls: int) -> Any:
    return [add_one(task_(number)) for number in range(calls)]


@task(limits=["desk"])
async def hold_limit(number: int) -> int:
    return await add_one(await add_one(number % 3))


@task
async def await_two(number: int) -> int:
    both = await asyncio.gather(add_one(number % 5), add_one(-number))
    return sum(both)


@task
def add_last(number: int) -> Any:
    return add_one(number)


@task(limits={"desk": 1})
def take_limit(number: int) -> int:
    return number


@task
def do_everything(calls: int) -> Any:
    numbers = range(calls)
    return [
        [hold_limit(number) for number in numbers],
        [await_two(number) for number in numbers],
        [add_last(add_last(number)) for number in numbers],
        [take_limit(number) for number in numbers],
    ]


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let two jobs at once be on their way to their functions."""
    monkeypatch.setattr(admission, "MAX_ARRIVING", 2)
    monkeypatch.setattr(admission, "LEAST_ROOM", 1)


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("shape", [fan_out, nest])
async def test_a_call_is_no_task_of_the_loop_before_it_can_go_on(backend: RedunBackendDb, shape: Any) -> None:
    tasks_seen.clear()
    async with Scheduler(backend, max_concurrency=10) as scheduler:
        result = await scheduler.run(shape(count_tasks, CALLS), cache=False)
    assert len(result) == len(tasks_seen) == CALLS
    # A job that is being recorded has two.
    assert max(tasks_seen) < CALLS / 3


@pytest.mark.usefixtures("few")
async def test_jobs_that_wait_for_others_keep_nobody_out(backend: RedunBackendDb) -> None:
    """One function at a time: parents with limits await children, equal calls follow, results are calls."""
    async with Scheduler(backend, max_concurrency=1, max_workers=1) as scheduler, asyncio.timeout(60):
        result = await scheduler.run(do_everything(12))
    numbers = range(12)
    assert result == [
        [number % 3 + 2 for number in numbers],
        [number % 5 + 1 - number + 1 for number in numbers],
        [number + 2 for number in numbers],
        list(numbers),
    ]


@pytest.mark.usefixtures("few")
async def test_cancelled_calls_that_had_not_begun_are_over(backend: RedunBackendDb) -> None:
    jobs: set[Job] = set()

    @task
    async def fail(number: int) -> int:
        await asyncio.sleep(0)
        raise ValueError(number)

    async with Scheduler(
        backend, max_concurrency=2, on_status=lambda job, previous: jobs.add(job)
    ) as scheduler:
        with pytest.raises(ValueError, match="0"):
            await scheduler.run(fan_out(fail, 50))
    assert len(jobs) == 51
    assert all(job.is_over for job in jobs)
    assert {status.name for status in scheduler.get_status_counts()["test_admission.fail"]} >= {"FAILED"}
    assert scheduler.get_status_counts()["test_admission.fail"][next(iter(jobs)).status] == 50


async def test_the_loop_goes_on_while_calls_are_made(backend: RedunBackendDb) -> None:
    turn = 0
    made: dict[int, int] = {}

    def count(job: Job, previous: JobStatus | None) -> None:
        if previous is None:
            made[turn] = made.get(turn, 0) + 1

    async def count_turns() -> None:
        nonlocal turn
        while True:
            turn += 1
            await asyncio.sleep(0)

    async with Scheduler(backend, on_status=count) as scheduler:
        counting = asyncio.create_task(count_turns())
        await scheduler.run(fan_out(add_one, CALLS))
        counting.cancel()
    assert sum(made.values()) == CALLS + 1
    assert max(made.values()) < CALLS / 3


async def test_a_first_call_is_not_looked_for_in_its_own_execution(backend: RedunBackendDb) -> None:
    """Each look would go through all jobs that the execution has recorded so far."""
    looks: list[str] = []

    def listen(_: Any, __: Any, statement: str, *rest: Any) -> None:
        if "'cse'" in statement:
            looks.append(statement)

    functions_called.clear()
    async with Scheduler(backend) as scheduler:
        engine = backend.database.engine.sync_engine
        sa.event.listen(engine, "before_cursor_execute", listen)
        await scheduler.run(fan_out(add_one, 20), cache=False)
        assert looks == []
        await scheduler.run(seq([add_last(100), fan_out(add_last, 2), add_last(100)]), cache=False)
        await scheduler.run(seq([add_one(7), fan_out(add_one, 8)]), cache=False)
        sa.event.remove(engine, "before_cursor_execute", listen)
    assert functions_called.count(7) == 2
    assert looks


async def test_calls_see_the_context_variables_of_the_function_that_made_them(
    backend: RedunBackendDb,
) -> None:
    @task
    async def read(number: int) -> str:
        return variable.get()

    @task
    async def set_and_call(number: int) -> Any:
        variable.set(f"set by {number}")
        return [read(number), await read(number + 10)]

    async with Scheduler(backend) as scheduler:
        result = await scheduler.run(fan_out(set_and_call, 2))
    assert result == [["set by 0"] * 2, ["set by 1"] * 2]
