"""Errors and cancellations: what else runs, what is recorded, and what the caller gets."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from typing import Any

import pytest

from aredun import RedunBackendDb, Scheduler, task
from aredun.models import CallNode
from aredun.values.expressions import TaskExpression
from aredun.workflow.operators import catch
from tests.support.scheduling import add, calls, fail, get_statuses, inc, select

redun_namespace = "sched"


async def test_failure_is_recorded_up_to_the_root(scheduler: Scheduler, backend: RedunBackendDb) -> None:
    @task()
    async def parent() -> Any:
        return add(inc(1), fail("broken"))

    with pytest.raises(ValueError, match="broken"):
        await scheduler.run(parent())

    assert await get_statuses(backend) == {"fail": ["FAILED"], "inc": ["DONE"], "parent": ["FAILED"]}
    assert scheduler.traceback is not None
    text = "".join(scheduler.traceback.format())
    assert "in sched.parent" in text
    assert "message = 'broken'" in text
    assert "aredun/workflow" not in text
    assert text.endswith("ValueError: broken")
    [value_hash] = await select(backend, CallNode.value_hash, where=CallNode.task_name == "sched.fail")
    error_value, _ = await backend.get_value(value_hash)
    assert repr(error_value) == "ErrorValue(ValueError('broken'))"
    assert [frame.name for frame in error_value.traceback.frames] == ["fail"]


async def test_async_task_may_handle_the_error_of_a_call(
    scheduler: Scheduler, backend: RedunBackendDb
) -> None:
    @task()
    async def careful() -> str:
        try:
            await fail("expected")
        except ValueError as error:
            return f"caught {error}"
        return "nothing"

    assert await scheduler.run(careful()) == "caught expected"
    assert await get_statuses(backend) == {"careful": ["DONE"], "fail": ["FAILED"]}


async def test_unpicklable_result_fails_its_job(scheduler: Scheduler, backend: RedunBackendDb) -> None:
    @task()
    def make_lock() -> Any:
        return threading.Lock()

    with pytest.raises(Exception, match="pickle"):
        await scheduler.run(make_lock())
    assert await get_statuses(backend) == {"make_lock": ["FAILED"]}


async def test_unpicklable_error_is_recorded_by_its_text(
    scheduler: Scheduler, backend: RedunBackendDb
) -> None:
    class LocalError(Exception):
        """Pickle cannot find a class that is defined in a function."""

    @task()
    def raise_local() -> None:
        raise LocalError("local")

    with pytest.raises(LocalError):
        await scheduler.run(raise_local())
    [value_hash] = await select(backend, CallNode.value_hash)
    error_value, _ = await backend.get_value(value_hash)
    assert repr(error_value.error) == "Exception(\"LocalError('local')\")"


async def test_siblings_of_a_failure_end_and_are_recorded(
    scheduler: Scheduler, backend: RedunBackendDb
) -> None:
    """What can be cancelled is; a plain function finishes, and its result is kept for the next run."""
    started = threading.Event()

    @task()
    async def endless() -> None:
        await asyncio.sleep(3600)

    @task()
    def plain() -> int:
        calls["plain"] += 1
        started.set()
        time.sleep(0.3)
        return 1

    @task()
    def fail_later() -> None:
        started.wait(10)
        raise ValueError("later")

    @task()
    def parent() -> list[Any]:
        return [endless(), plain(), fail_later()]

    with pytest.raises(ValueError, match="later"):
        await scheduler.run(parent())
    assert await get_statuses(backend) == {
        "endless": ["FAILED"],
        "fail_later": ["FAILED"],
        "parent": ["FAILED"],
        "plain": ["DONE"],
    }
    assert await scheduler.run(plain()) == 1
    assert calls["plain"] == 1


async def test_cancelled_run_leaves_nothing_running(scheduler: Scheduler, backend: RedunBackendDb) -> None:
    begun = asyncio.Semaphore(0)

    @task()
    async def endless(x: int) -> None:
        begun.release()
        await asyncio.sleep(3600)

    @task()
    async def parent() -> None:
        await inc(1)
        await asyncio.gather(endless(1), endless(2))

    run = asyncio.create_task(scheduler.run(parent()))
    for _ in range(2):
        await begun.acquire()
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    assert await get_statuses(backend) == {
        "endless": ["FAILED", "FAILED"],
        "inc": ["DONE"],
        "parent": ["FAILED"],
    }


async def test_cancelled_wait_cancels_the_call_alone(scheduler: Scheduler, backend: RedunBackendDb) -> None:
    begun = asyncio.Event()

    @task()
    async def endless() -> None:
        begun.set()
        await asyncio.sleep(3600)

    @task()
    async def impatient() -> str:
        waiting = asyncio.ensure_future(endless())
        await begun.wait()
        waiting.cancel()
        try:
            await waiting
        except asyncio.CancelledError:
            return "gave up"
        return "done"

    assert await scheduler.run(impatient()) == "gave up"
    assert await get_statuses(backend) == {"endless": ["FAILED"], "impatient": ["DONE"]}


async def test_endless_recursion_is_an_error(scheduler: Scheduler) -> None:
    @task()
    def forever(x: int) -> Any:
        return forever(x)

    with pytest.raises(RecursionError, match="calls itself with equal arguments"):
        await scheduler.run(forever(1))


async def test_unknown_task_is_an_error(scheduler: Scheduler) -> None:
    with pytest.raises(LookupError, match=r"unknown task 'sched\.nowhere'"):
        await scheduler.run(TaskExpression("sched.nowhere", (), {}))
    with pytest.raises(LookupError, match=r"unknown task 'sched\.nowhere'"):
        await scheduler.run([TaskExpression("sched.nowhere", (), {})])


@pytest.mark.parametrize("kind", ["def", "async def"])
async def test_leaving_the_process_fails_the_job_alone(
    scheduler: Scheduler, backend: RedunBackendDb, kind: str
) -> None:
    @task()
    def leave() -> None:
        sys.exit(3)

    @task()
    async def leave_async() -> None:
        sys.exit(3)

    with pytest.raises(RuntimeError, match=r"called sys\.exit\(3\)"):
        await scheduler.run(leave() if kind == "def" else leave_async())
    [statuses] = (await get_statuses(backend)).values()
    assert statuses == ["FAILED"]


async def test_stop_iteration_fails_the_job(scheduler: Scheduler) -> None:
    @task()
    def take_first(items: list[int]) -> int:
        return next(iter(items))

    with pytest.raises(RuntimeError, match=r"task sched\.take_first raised StopIteration"):
        await scheduler.run(take_first([]))


async def test_missing_argument_fails_the_job(scheduler: Scheduler, backend: RedunBackendDb) -> None:
    """A call that was recorded before the task asked for more is not made anew, so nothing checks it."""
    with pytest.raises(TypeError, match="missing 1 required positional argument"):
        await scheduler.run(TaskExpression(add.fullname, (), {}))
    assert await get_statuses(backend) == {"add": ["FAILED"]}


async def test_recover_task_is_called_with_the_error_of_redun(
    scheduler: Scheduler, backend: RedunBackendDb, redun_backend: Any
) -> None:
    """Its call has the same arguments, down to the bytes of the error, whichever engine caught that."""
    import redun

    def recover(error: Exception) -> str:
        return str(error)

    def fail_again(message: str) -> None:
        raise KeyError(message)

    for engine, run, catch_error in (
        (task, scheduler.run, catch),
        (redun.task, redun.Scheduler(backend=redun_backend).run, redun.catch),
    ):
        failing, recovery = engine()(fail_again), engine()(recover)
        outcome: Any = run(catch_error(failing("gone"), KeyError, recovery), cache=False)
        assert (await outcome if engine is task else outcome) == "'gone'"
    hashes = await select(backend, CallNode.args_hash, where=CallNode.task_name == "sched.recover")
    assert len(set(hashes)) == 1
    assert await get_statuses(backend) == {
        "fail_again": ["FAILED", "FAILED"],
        "recover": ["DONE", "DONE"],
        "root_task": ["DONE", "DONE"],
    }


async def test_immutable_error_fails_its_job(scheduler: Scheduler) -> None:
    class FrozenError(Exception):
        def __setattr__(self, name: str, value: Any) -> None:
            if not name.startswith("__"):
                raise AttributeError(name)
            super().__setattr__(name, value)

    @task()
    def raise_frozen() -> None:
        raise FrozenError

    with pytest.raises(FrozenError):
        await scheduler.run(raise_frozen())
