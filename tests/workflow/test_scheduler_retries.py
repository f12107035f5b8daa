"""Retries: how often a function runs, what is recorded of it, and what others see meanwhile."""

from __future__ import annotations

import asyncio
import logging
import re
import threading
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa

from aredun import RedunBackendDb, Scheduler, UsageError, task
from aredun.models import CallNode, Job, Tag
from aredun.models import Task as TaskRow
from aredun.workflow.operators import catch, throw
from tests.support.commands import run_aredun
from tests.support.scheduling import calls, get_statuses, select
from tests.support.verification import verify

if TYPE_CHECKING:
    from pathlib import Path

redun_namespace = "retries"

QUICK: dict[str, Any] = {"retries": 2, "retry_delay": 0.001}
KINDS = ("def", "async def")


def define(kind: str, name: str, function: Any, **options: Any) -> Any:
    """Make a function a task that runs in a thread, or on the loop."""

    async def on_loop(*args: Any) -> Any:
        return function(*args)

    chosen = function if kind == "def" else on_loop
    return task(name=name, version="1", **options)(chosen)


def fail_times(failures: int, error: type[Exception] = OSError) -> Any:
    """Return a function that fails so many times, each time with another message."""

    def work(x: int) -> int:
        calls["work"] += 1
        if calls["work"] <= failures:
            raise error(f"down {calls['work']}")
        return x

    return work


async def get_job_tags(backend: RedunBackendDb) -> dict[str, list[Any]]:
    """Return the tags of the jobs of each task."""
    statement = (
        sa.select(TaskRow.name, Tag.key, Tag.value)
        .join(Job, Job.task_hash == TaskRow.hash)
        .join(Tag, Tag.entity_id == Job.id)
    )
    found: dict[str, list[Any]] = {}
    async with backend.session() as session:
        for name, key, value in await session.execute(statement):
            found.setdefault(name, []).append((key, value))
    return found


@pytest.mark.parametrize("kind", KINDS)
async def test_failed_function_is_tried_again(
    scheduler: Scheduler, backend: RedunBackendDb, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    """One job, whose result is cached like any other; the log and its tag say how often it was tried."""
    flaky = define(kind, "flaky", fail_times(2), **QUICK)
    with caplog.at_level(logging.WARNING, "aredun"):
        assert await scheduler.run(flaky(7)) == 7
    assert await scheduler.run(flaky(7)) == 7
    assert calls["work"] == 3
    assert await get_statuses(backend) == {"flaky": ["CACHED", "DONE"]}
    assert await get_job_tags(backend) == {"flaky": [("attempts", 3)]}
    texts = [record.getMessage() for record in caplog.records]
    assert [text.split(" failed, ")[0].split("): ")[1] for text in texts] == [
        "attempt 1 of 3",
        "attempt 2 of 3",
    ]
    assert [text.rsplit(" s: ", 1)[1] for text in texts] == ["OSError: down 1", "OSError: down 2"]
    assert (await verify(backend)).problems == []


@pytest.mark.parametrize("kind", KINDS)
async def test_only_the_last_failure_counts(scheduler: Scheduler, backend: RedunBackendDb, kind: str) -> None:
    """It is recorded as the job's error, raised, and not tried again by an equal call; a later run does."""
    flaky = define(kind, "flaky", fail_times(6), **QUICK)

    @task()
    async def twice() -> list[str]:
        return [repr(each) for each in await asyncio.gather(flaky(1), one_more(), return_exceptions=True)]

    @task()
    async def one_more() -> Any:
        return await flaky(1)

    assert await scheduler.run(twice()) == ["OSError('down 3')"] * 2
    assert calls["work"] == 3
    [value_hash] = set(
        await select(backend, CallNode.value_hash, where=CallNode.task_name == "retries.flaky")
    )
    error_value, _ = await backend.get_value(value_hash)
    assert repr(error_value) == "ErrorValue(OSError('down 3'))"
    assert (await get_job_tags(backend))["flaky"] == [("attempts", 3)]
    with pytest.raises(OSError, match="down 6"):
        await scheduler.run(flaky(1))
    assert calls["work"] == 6


@pytest.mark.parametrize("kind", KINDS)
async def test_other_errors_are_not_tried_again(
    scheduler: Scheduler, backend: RedunBackendDb, kind: str
) -> None:
    failing = define(kind, "failing", fail_times(9, KeyError), retry_on=(OSError, ValueError), **QUICK)
    with pytest.raises(KeyError):
        await scheduler.run(failing(1))
    assert calls["work"] == 1
    assert await get_job_tags(backend) == {}
    recovered = failing.options(retries=1, retry_on=LookupError)(1)
    with pytest.raises(KeyError, match="down 3"):
        await scheduler.run(recovered)


async def test_options_of_calls_and_of_calls_above(scheduler: Scheduler) -> None:
    """An option may be a call's, be inherited, or be computed by a call."""
    flaky = define("def", "flaky", fail_times(2))

    @task()
    async def count() -> int:
        return 2

    @task(export_options=QUICK)
    async def parent(x: int) -> Any:
        return await flaky(x)

    for call in (flaky.options(**QUICK)(1), parent(2), flaky.options(retries=count(), retry_delay=0)(3)):
        calls.clear()
        assert await scheduler.run(call) in (1, 2, 3)
        assert calls["work"] == 3
    calls.clear()
    with pytest.raises(UsageError, match="option retries is 'many': give how many more tries"):
        await scheduler.run(flaky.options(retries=catch(throw(OSError()), OSError, say_many))(4))
    assert calls["work"] == 0


@task()
def say_many(error: Exception) -> str:
    return "many"


async def test_limits_and_slots_are_free_between_tries(backend: RedunBackendDb) -> None:
    """Another job that needs the same limit and the only slot runs while the first one waits."""
    order: list[str] = []
    waiting = asyncio.Event()

    @task(limits=["db"], retries=1, retry_delay=0.001)
    async def first() -> None:
        order.append("first")
        if len(order) == 1:
            waiting.set()
            raise OSError("down")

    @task(limits=["db"])
    async def second() -> None:
        order.append("second")

    def check(job: Any, previous: Any) -> None:
        assert job.status != "PENDING" or not job.held_limits

    async with Scheduler(backend, max_concurrency=1, on_status=check) as scheduler:
        await scheduler.run([first(), second()])
        assert sorted(order) == ["first", "first", "second"]
        assert order[0] == "first"
        order.clear()
        # All of it has been given back.
        await asyncio.wait_for(scheduler.run([first(), second()], cache=False), 30)


@pytest.mark.parametrize("kind", KINDS)
async def test_each_try_gets_the_arguments_of_the_call(
    scheduler: Scheduler, backend: RedunBackendDb, kind: str
) -> None:
    seen: list[list[int]] = []

    def work(items: list[int]) -> list[int]:
        seen.append(list(items))
        items.append(0)
        if len(seen) < 3:
            raise OSError("down")
        return items

    spoiling = define(kind, "spoiling", work, **QUICK)
    assert await scheduler.run(spoiling([1])) == [1, 0]
    assert seen == [[1]] * 3


async def test_call_that_failed_is_retried_by_its_own_options(
    scheduler: Scheduler, backend: RedunBackendDb
) -> None:
    """Retries of tasks above do not multiply those of tasks below, which an execution calls once."""
    flaky = define("def", "flaky", fail_times(99), **QUICK)

    @task(**QUICK)
    async def parent() -> Any:
        calls["parent"] += 1
        return await flaky(1)

    with pytest.raises(OSError, match="down 3"):
        await scheduler.run(parent())
    assert calls == {"work": 3, "parent": 1}


async def test_next_try_finds_the_calls_of_the_last(scheduler: Scheduler, backend: RedunBackendDb) -> None:
    """Calls that had a result are not made again, and the call graph is that of a run without failures."""
    leaf = define("def", "leaf", fail_times(0))

    @task(version="1", **QUICK)
    async def parent(failures: int) -> Any:
        calls["parent"] += 1
        one = await leaf(1)
        if calls["parent"] <= failures:
            raise OSError("down")
        return one + await leaf(2)

    assert await scheduler.run(parent.options(retries=2)(2)) == 3
    assert calls == {"parent": 3, "work": 2}
    assert await scheduler.run(parent(2)) == 3
    assert calls["parent"] == 3
    first = await select(backend, CallNode.call_hash, where=CallNode.task_name == "retries.parent")
    assert await scheduler.run(parent(2), cache=False) == 3
    assert await select(backend, CallNode.call_hash, where=CallNode.task_name == "retries.parent") == first


async def test_cancelled_run_tries_nothing_again(scheduler: Scheduler, backend: RedunBackendDb) -> None:
    """Neither what waits for its next try, nor what fails of being cancelled."""
    begun, failed = asyncio.Event(), asyncio.Event()

    @task(retries=5, retry_delay=3600)
    async def patient() -> None:
        calls["patient"] += 1
        failed.set()
        raise OSError("down")

    @task(**QUICK)
    async def stubborn() -> None:
        calls["stubborn"] += 1
        begun.set()
        try:
            await asyncio.sleep(3600)
        finally:
            raise OSError("cancelled")

    run = asyncio.create_task(scheduler.run([patient(), stubborn()]))
    await begun.wait()
    await failed.wait()
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    assert calls == {"patient": 1, "stubborn": 1}
    statuses = await get_statuses(backend)
    assert statuses == {"patient": ["FAILED"], "root_task": ["FAILED"], "stubborn": ["FAILED"]}


async def test_failed_run_tries_nothing_again(scheduler: Scheduler, backend: RedunBackendDb) -> None:
    """A function in a thread ends after the workflow has failed, with an error: that is its job's."""
    begun, ended = threading.Event(), threading.Event()

    @task(**QUICK)
    def late() -> None:
        calls["late"] += 1
        begun.set()
        ended.wait(30)
        raise OSError("late")

    @task()
    async def sibling() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            ended.set()

    @task()
    async def failing() -> None:
        await asyncio.to_thread(begun.wait, 30)
        raise ValueError("now")

    with pytest.raises(ValueError, match="now"):
        await scheduler.run([sibling(), late(), failing()])
    assert calls["late"] == 1
    assert (await get_statuses(backend))["late"] == ["FAILED"]


async def test_options_do_not_change_what_a_call_is(scheduler: Scheduler, backend: RedunBackendDb) -> None:
    """A result is found again whichever of these options the next call has."""
    work = define("def", "work", fail_times(0))
    for options in ({}, QUICK, {"timeout": 30, "retry_on": [OSError]}):
        assert await scheduler.run(work.options(**options)(1)) == 1
    assert calls["work"] == 1
    for column in (CallNode.call_hash, CallNode.task_hash, Job.task_hash):
        assert len(set(await select(backend, column))) == 1


def test_command_shows_each_try(tmp_path: Path) -> None:
    (tmp_path / "flow.py").write_text(
        "from aredun import task\n"
        "tries = []\n"
        "@task(retries=2, retry_delay=0)\n"
        "def main():\n"
        "    tries.append(1)\n"
        "    if len(tries) < 3:\n"
        "        raise OSError(f'down {len(tries)}')\n"
        "    return 1\n",
        encoding="utf-8",
    )
    done = run_aredun("run", "flow.py", "main", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "1\n")
    shown = re.sub(r"\b[0-9a-f]{8}\b", "ID", done.stderr).splitlines()
    failed = "task main (job ID): attempt %d of 3 failed, the next one begins in 0.00 s: OSError: down %d"
    assert shown[:5] == [
        "RUNNING ID  main",
        failed % (1, 1),
        "RUNNING ID  main  attempt 2",
        failed % (2, 2),
        "RUNNING ID  main  attempt 3",
    ]
    assert "main() (attempts=3)" in run_aredun("log", "--job", cwd=tmp_path).stdout
    done = run_aredun("run", "-o", "timeout=never", "flow.py", "main", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "aredun: option timeout is 'never': give seconds, more than 0, or None\n"
