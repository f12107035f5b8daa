"""The scheduler: what runs, when, how often, and what is in the repository afterwards."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from typing import Any, ClassVar

import pytest
import sqlalchemy as sa

from aredun import RedunBackendDb, Scheduler, UsageError, task
from aredun.models import Argument, ArgumentResult, CallNode, Execution, Job, Tag, Value
from aredun.scheduler import JobStatus, get_current_job
from aredun.workflow.operators import apply_tags, catch, catch_all, cond, map_, seq
from aredun.workflow.tasks import JobInfo
from tests.support.scheduling import add, calls, combine, double, fail, get_statuses, inc, select

redun_namespace = "sched"


async def test_plain_and_async_tasks(scheduler: Scheduler) -> None:
    assert await scheduler.run(combine(1)) == 4 + 6
    assert calls == {"combine": 1, "inc": 2, "double": 2, "add": 1}


async def test_nested_expressions_are_evaluated(scheduler: Scheduler) -> None:
    expression = {"a": [inc(1), (inc(2), {"b": inc(3)})], "c": add(inc(4), b=inc(5)) + 1, inc(6): 0}
    assert await scheduler.run(expression) == {"a": [2, (3, {"b": 4})], "c": 12, 7: 0}


async def test_plain_value_is_its_own_result(scheduler: Scheduler) -> None:
    assert await scheduler.run(7) == 7


async def test_job_tree_and_execution_are_recorded(scheduler: Scheduler, backend: RedunBackendDb) -> None:
    await scheduler.run(combine(1), ["aredun", "run"], tags=[("user", "me")], execution_id=None)

    [(execution_id, args, root_id)] = await select(backend, Execution.id, Execution.args, Execution.job_id)
    assert args == '["aredun", "run"]'
    jobs = await select(backend, Job.id, Job.parent_id, Job.execution_id)
    assert {execution for _, _, execution in jobs} == {execution_id}
    assert {parent for job, parent, _ in jobs if job != root_id} == {root_id}
    assert await get_statuses(backend) == {
        "add": ["DONE"],
        "combine": ["DONE"],
        "double": ["DONE"] * 2,
        "inc": ["DONE"] * 2,
    }
    assert await select(backend, Tag.key, Tag.value, where=Tag.entity_id == execution_id) == [("user", "me")]


async def test_lineage_goes_through_unawaited_arguments(
    scheduler: Scheduler, backend: RedunBackendDb
) -> None:
    """An argument that is a call, or an operation on one, leads to that call; an awaited one does not."""

    @task()
    async def flow() -> list[int]:
        awaited = await inc(10)
        return [add(inc(1), b=inc(2) + 1), add(awaited, 0)]

    await scheduler.run(flow())

    statement = (
        sa.select(Argument.arg_position, Argument.arg_key, CallNode.task_name, Value.value_hash)
        .select_from(ArgumentResult)
        .join(Argument, Argument.arg_hash == ArgumentResult.arg_hash)
        .join(CallNode, CallNode.call_hash == ArgumentResult.result_call_hash)
        .join(Value, Value.value_hash == CallNode.value_hash)
    )
    async with backend.session() as session:
        found = {(position, key, name) for position, key, name, _ in await session.execute(statement)}
    assert found == {(0, None, "sched.inc"), (None, "b", "sched.inc")}


@pytest.mark.parametrize("max_concurrency", [1, 3])
async def test_concurrency_is_bounded(backend: RedunBackendDb, max_concurrency: int) -> None:
    """Parents that wait for their children hold no place, or one place would not be enough for any tree."""
    running = Counter[str]()
    most = 0

    @task()
    async def leaf(x: int) -> int:
        nonlocal most
        running["leaf"] += 1
        most = max(most, running.total())
        await asyncio.sleep(0.02)
        running["leaf"] -= 1
        return x

    @task()
    async def node(x: int) -> int:
        return sum(await asyncio.gather(*(leaf(10 * x + i) for i in range(4))))

    @task()
    async def tree() -> int:
        return sum(await asyncio.gather(*(node(i) for i in range(3))))

    async with Scheduler(backend, max_concurrency=max_concurrency) as scheduler:
        assert await scheduler.run(tree()) == sum(10 * x + i for x in range(3) for i in range(4))
    assert most == max_concurrency


@pytest.mark.parametrize(("wanted", "most_expected"), [(["db"], 2), ({"db": 2}, 1), ({"other": 1}, 1)])
async def test_limits_are_kept(backend: RedunBackendDb, wanted: Any, most_expected: int) -> None:
    running = most = 0

    @task(limits=wanted)
    async def use(x: int) -> int:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.02)
        running -= 1
        return x

    async with Scheduler(backend, limits={"db": 2}) as scheduler:
        assert await scheduler.run([use(i) for i in range(6)]) == list(range(6))
    assert most == most_expected


async def test_impossible_limit_is_an_error(scheduler: Scheduler) -> None:
    with pytest.raises(UsageError, match="needs 2 of the limit 'gpu', which is 1"):
        await scheduler.run(inc.options(limits={"gpu": 2})(1))


async def test_heartbeat(backend: RedunBackendDb) -> None:
    enough = asyncio.Event()

    @task()
    async def wait() -> None:
        await enough.wait()

    seen: set[Any] = set()
    async with Scheduler(backend, heartbeat_interval=0.05) as scheduler:
        run = asyncio.create_task(scheduler.run(wait()))
        while len(seen) < 3:
            await asyncio.sleep(0.02)
            seen.update(await select(backend, Execution.updated_time))
        enough.set()
        await run
    assert None not in seen


async def test_defaults_are_evaluated_and_recorded(scheduler: Scheduler, backend: RedunBackendDb) -> None:
    @task()
    def with_lazy_default(a: int, b: Any = inc(1)) -> int:  # noqa: B008  # a lazy call is a value
        return a + int(b)

    assert await scheduler.run(with_lazy_default(1)) == 3
    assert await scheduler.run(add(1)) == 6
    found = await select(
        backend,
        CallNode.task_name,
        Argument.arg_position,
        Argument.arg_key,
        where=(Argument.call_hash == CallNode.call_hash),
    )
    assert ("sched.add", 0, None) in found
    assert ("sched.add", None, "b") in found
    assert ("sched.with_lazy_default", None, "b") in found


async def test_tags_of_jobs_tasks_values_and_executions(
    scheduler: Scheduler, backend: RedunBackendDb
) -> None:
    @task(tags=[("kind", "tagged")])
    def tagged() -> Any:
        return apply_tags("value", [("v", 1)], job_tags=[("j", 2)], execution_tags=[("e", 3)])

    assert await scheduler.run(tagged()) == "value"
    found = {
        (entity.name, key, value)
        for entity, key, value in await select(backend, Tag.entity_type, Tag.key, Tag.value)
    }
    assert found == {
        ("Job", "kind", "tagged"),
        ("Task", "kind", "tagged"),
        ("Value", "v", 1),
        ("Job", "j", 2),
        ("Execution", "e", 3),
    }


async def test_job_info(scheduler: Scheduler) -> None:
    @task()
    def who(x: int, info: JobInfo = JobInfo()) -> tuple[str, str]:  # noqa: B008  # as redun's users write it
        job = get_current_job()
        assert job is not None
        return info.job_id, job.id

    first, second = await scheduler.run(who(1))
    assert first == second


@task()
def recover(error: Any) -> str:
    """Turn errors into text."""
    return repr(error)


@pytest.mark.parametrize("runs", [1, 2])
async def test_operators(scheduler: Scheduler, runs: int) -> None:
    for _ in range(runs):
        assert await scheduler.run(cond(inc(-1), "a", inc(0), "b", "c")) == "b"
        assert await scheduler.run(cond(inc(-1), "a")) is None
        assert await scheduler.run(seq([inc(1), double(inc(2))])) == [2, 6]
        assert await scheduler.run(map_(inc, [inc(1), 5])) == [3, 6]
        assert await scheduler.run(catch(fail("x"), (KeyError, ValueError), recover)) == "ValueError('x')"
        assert await scheduler.run(catch(inc(1), ValueError, recover)) == 2
        assert (
            await scheduler.run(catch_all([inc(1), fail("y")], ValueError, recover)) == "[2, ValueError('y')]"
        )
        with pytest.raises(ValueError, match="z"):
            await scheduler.run(catch(fail("z"), KeyError, recover))


async def test_call_cannot_be_awaited_outside() -> None:
    with pytest.raises(UsageError, match=r"pass it to Scheduler\.run"):
        await inc(1)


async def test_scheduler_must_be_open(backend: RedunBackendDb) -> None:
    with pytest.raises(UsageError, match="not open"):
        await Scheduler(backend).run(inc(1))
    with pytest.raises(UsageError, match="max_concurrency is 0"):
        Scheduler(backend, max_concurrency=0)


async def test_scheduler_has_a_database_in_memory_by_default() -> None:
    async with Scheduler() as scheduler:
        assert await scheduler.run(combine(2)) == 14


async def test_workflows_run_side_by_side(scheduler: Scheduler, backend: RedunBackendDb) -> None:
    results = await asyncio.gather(*(scheduler.run(combine(i)) for i in range(5)))
    assert results == [2 * (i + 1) + 2 * (i + 2) for i in range(5)]
    assert len(await select(backend, Execution.id)) == 5


async def test_status_counts_and_listener(backend: RedunBackendDb) -> None:
    seen: list[tuple[str, JobStatus | None, JobStatus]] = []
    async with Scheduler(
        backend, on_status=lambda job, previous: seen.append((job.task.name, previous, job.status))
    ) as scheduler:
        await scheduler.run(add(inc(1)))
    assert [(previous, status) for name, previous, status in seen if name == "inc"] == [
        (None, JobStatus.PENDING),
        (JobStatus.PENDING, JobStatus.RUNNING),
        (JobStatus.RUNNING, JobStatus.DONE),
    ]
    assert scheduler.get_status_counts()["sched.inc"][JobStatus.DONE] == 1


class Heavy:
    """A value that notes the threads that it is pickled in."""

    threads: ClassVar[set[int]] = set()

    def __init__(self, size: int) -> None:
        self.size = size

    def __getstate__(self) -> dict[str, Any]:
        self.threads.add(threading.get_ident())
        return {"size": self.size}


async def test_values_of_unknown_size_are_not_pickled_on_the_loop(scheduler: Scheduler) -> None:
    @task()
    async def make(size: int) -> Heavy:
        return Heavy(size)

    @task()
    async def measure(heavy: Heavy, more: list[Heavy]) -> int:
        return heavy.size + len(more)

    assert await scheduler.run(measure(make(2), [make(3), Heavy(4)])) == 4
    assert await scheduler.run(measure(make(2), [make(3), Heavy(4)])) == 4
    assert Heavy.threads
    assert threading.get_ident() not in Heavy.threads


async def test_many_jobs(scheduler: Scheduler) -> None:
    assert await scheduler.run([inc(i) for i in range(300)]) == list(range(1, 301))


async def test_redun_reads_what_was_recorded(scheduler: Scheduler, redun_backend: Any) -> None:
    """The real redun sees the same jobs, arguments and results."""
    from redun.backends.db import Job as RedunJob

    await scheduler.run(combine(3))
    jobs = redun_backend.session.query(RedunJob).all()
    assert {job.status for job in jobs} == {"DONE"}
    [root] = [job for job in jobs if job.parent_id is None]
    assert root.task.fullname == "sched.combine"
    assert root.call_node.value_parsed == 2 * 4 + 2 * 5
    assert [argument.value_parsed for argument in root.call_node.arguments] == [3]
    assert {child.task.name for child in root.child_jobs} == {"inc", "double", "add"}


async def test_calls_nest_as_deep_as_in_redun(scheduler: Scheduler) -> None:
    """redun's own scheduler takes 120 calls within calls before Python's stack is full."""
    nested: Any = 0
    for _ in range(125):
        nested = inc(nested)
    assert await scheduler.run(nested) == 125
