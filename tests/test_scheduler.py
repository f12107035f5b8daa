"""The scheduler: what runs, when, how often, and what is in the repository afterwards."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
import sqlalchemy as sa

from aredun import File, Handle, RedunBackendDb, Scheduler, UsageError, task
from aredun.models import Argument, ArgumentResult, CallEdge, CallNode, Execution, Job, Tag, Value
from aredun.models import Task as TaskRow
from aredun.scheduler import JobStatus, get_current_job
from aredun.scheduler.operators import (
    apply_tags,
    catch,
    catch_all,
    cond,
    get_context,
    map_,
    merge_handles,
    seq,
)
from aredun.tasks import JobInfo
from aredun.values.expressions import TaskExpression

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

redun_namespace = "sched"

calls: Counter[str] = Counter()


@pytest.fixture(autouse=True)
def forget_calls() -> None:
    """Count anew which functions ran."""
    calls.clear()


@pytest.fixture
async def scheduler(backend: RedunBackendDb) -> AsyncIterator[Scheduler]:
    """An open scheduler on the test's database."""
    async with Scheduler(backend) as scheduler:
        yield scheduler


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


async def test_equal_calls_in_one_job_are_one_job(scheduler: Scheduler, backend: RedunBackendDb) -> None:
    assert await scheduler.run([inc(1), inc(1), inc(1)]) == [2, 2, 2]
    assert calls["inc"] == 1
    assert (await get_statuses(backend))["inc"] == ["DONE"]


async def test_equal_calls_of_several_jobs_run_once(scheduler: Scheduler, backend: RedunBackendDb) -> None:
    """Common subexpressions: calls that are under way are waited for, finished ones are looked up."""

    @task()
    def slow(x: int) -> int:
        calls["slow"] += 1
        time.sleep(0.1)
        return x

    @task()
    def parent(name: str) -> Any:
        return slow(1)

    assert await scheduler.run([parent("a"), parent("b"), parent("c"), slow(add(0, 1))]) == [1, 1, 1, 1]
    assert calls["slow"] == 1
    assert (await get_statuses(backend))["slow"] == ["CACHED", "CACHED", "CACHED", "DONE"]
    edges = await select(backend, CallEdge.child_id)
    assert len({*edges}) == 1 + 3 + 1


async def test_second_run_is_cached(scheduler: Scheduler, backend: RedunBackendDb) -> None:
    assert await scheduler.run(add(inc(1), inc(2))) == 5
    first = {*calls.elements()}
    calls.clear()
    assert await scheduler.run(add(inc(1), inc(2))) == 5
    assert first == {"inc", "add"}
    assert calls == {}
    assert (await get_statuses(backend))["inc"] == ["CACHED", "CACHED", "DONE", "DONE"]
    assert await scheduler.run(add(inc(1), inc(2)), cache=False) == 5
    assert calls == {"inc": 2, "add": 1}


@pytest.mark.parametrize("kind", ["def", "async def"])
async def test_change_of_an_inner_task_is_a_miss(scheduler: Scheduler, kind: str) -> None:
    """A task whose own source is the same is evaluated again once a call below it changes."""

    def define(version: str, result: int) -> Callable[..., Any]:
        @task(version=version)
        def inner(x: int) -> int:
            calls["inner"] += 1
            return result

        @task(version="1")
        def middle(x: int) -> Any:
            return inner(x)

        @task(version="1")
        def plain_outer(x: int) -> Any:
            return middle(x)

        @task(version="1")
        async def async_outer(x: int) -> int:
            return int(await middle(x))

        return plain_outer if kind == "def" else async_outer

    assert await scheduler.run(define("1", 1)(0)) == 1
    assert await scheduler.run(define("1", 1)(0)) == 1
    assert calls["inner"] == 1
    assert await scheduler.run(define("2", 2)(0)) == 2
    assert await scheduler.run(define("1", 1)(0)) == 1
    assert calls["inner"] == 2


async def test_cached_file_must_be_unchanged(scheduler: Scheduler, tmp_path: Path) -> None:
    @task()
    def write(path: str) -> dict[str, File]:
        calls["write"] += 1
        file = File(path)
        file.write("original")
        return {"file": file}

    path = tmp_path / "result.txt"
    for _ in range(2):
        await scheduler.run(write(str(path)))
    assert calls["write"] == 1
    path.write_text("edited")
    await scheduler.run(write(str(path)))
    assert calls["write"] == 2
    assert path.read_text() == "original"


async def test_changed_input_file_is_a_miss(scheduler: Scheduler, tmp_path: Path) -> None:
    @task()
    async def read(file: File) -> str:
        calls["read"] += 1
        return str(await asyncio.to_thread(file.read))

    path = tmp_path / "input.txt"
    path.write_text("one")
    assert await scheduler.run(read(File(str(path)))) == "one"
    assert await scheduler.run(read(File(str(path)))) == "one"
    assert calls["read"] == 1
    path.write_text("three")
    assert await scheduler.run(read(File(str(path)))) == "three"


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
    assert "aredun/scheduler" not in text
    assert text.endswith("ValueError: broken")
    [value_hash] = await select(backend, CallNode.value_hash, where=CallNode.task_name == "sched.fail")
    error_value, _ = await backend.get_value(value_hash)
    assert repr(error_value) == "ErrorValue(ValueError('broken'))"
    assert [frame.name for frame in error_value.traceback.frames] == ["fail"]


async def test_failure_is_not_cached_for_the_next_run(scheduler: Scheduler) -> None:
    for _ in range(2):
        with pytest.raises(ValueError, match="again"):
            await scheduler.run([fail("again"), fail("again")])
    assert calls["fail"] == 2


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


async def test_context_is_inherited_and_part_of_what_is_cached(backend: RedunBackendDb) -> None:
    @task()
    def ask() -> Any:
        return get_context("color.name", "none")

    @task()
    def outer() -> list[Any]:
        return [ask(), ask.update_context(color={"name": "blue"})()]

    async with Scheduler(backend, context={"color": {"name": "red"}}) as scheduler:
        assert await scheduler.run(outer()) == ["red", "blue"]
        assert await scheduler.run(outer(), context={"color": {"name": "green"}}) == ["green", "blue"]
        assert await scheduler.run(outer()) == ["red", "blue"]
    assert await select(backend, Tag.key, where=Tag.key == "redun.context")


async def test_without_provenance_nothing_is_recorded(scheduler: Scheduler, backend: RedunBackendDb) -> None:
    @task()
    def outer() -> Any:
        return add.options(prov=False)(inc(1))

    assert await scheduler.run(outer()) == 7
    assert await get_statuses(backend) == {"inc": ["DONE"], "outer": ["DONE"]}
    assert await scheduler.run(inc.options(prov=False)(1)) == 2
    assert calls["inc"] == 2


async def test_job_info(scheduler: Scheduler) -> None:
    @task()
    def who(x: int, info: JobInfo = JobInfo()) -> tuple[str, str]:  # noqa: B008  # as redun's users write it
        job = get_current_job()
        assert job is not None
        return info.job_id, job.id

    first, second = await scheduler.run(who(1))
    assert first == second


class Counted(Handle):
    """A handle with a type name of its own."""

    type_name = "sched.Counted"

    def __init__(self, name: str) -> None:
        self.instance = name


async def test_handles_advance_and_roll_back(scheduler: Scheduler, backend: RedunBackendDb) -> None:
    """A state that a later version of a step replaced is not used again."""

    def define(version: str) -> Any:
        @task(version=version)
        def step(handle: Counted) -> Counted:
            calls[f"step{version}"] += 1
            return handle

        @task(version="1")
        def last(handle: Counted) -> Counted:
            calls["last"] += 1
            return handle

        @task(version=version)
        def flow() -> Any:
            return last(step(Counted("db")))

        return flow

    for version in ("1", "1", "2", "1"):
        result = await scheduler.run(define(version)())
        assert await backend.is_valid_handle(result)
    assert calls["step1"] == 2
    assert calls["step2"] == 1


async def test_merged_handles(scheduler: Scheduler, backend: RedunBackendDb) -> None:
    @task()
    def use(handle: Counted, x: int) -> Counted:
        return handle

    @task()
    def flow() -> Any:
        handle = Counted("merged")
        return merge_handles([use(handle, 1), use(handle, 2)])

    assert await backend.is_valid_handle(await scheduler.run(flow()))


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

    with pytest.raises(RuntimeError, match="task take_first raised StopIteration"):
        await scheduler.run(take_first([]))


async def test_script_task_is_refused(scheduler: Scheduler) -> None:
    @task(script=True)
    def script() -> str:
        return "ls"

    with pytest.raises(UsageError, match="script task"):
        await scheduler.run(script())


async def test_missing_argument_fails_the_job(scheduler: Scheduler, backend: RedunBackendDb) -> None:
    call: Any = add
    with pytest.raises(TypeError, match="missing 1 required positional argument"):
        await scheduler.run(call())
    assert await get_statuses(backend) == {"add": ["FAILED"]}


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


async def test_calls_nest_as_deep_as_in_redun(scheduler: Scheduler) -> None:
    """redun's own scheduler takes 120 calls within calls before Python's stack is full."""
    nested: Any = 0
    for _ in range(125):
        nested = inc(nested)
    assert await scheduler.run(nested) == 125


async def test_cached_async_calls_share_their_reads(scheduler: Scheduler, backend: RedunBackendDb) -> None:
    """What a cached call consists of is asked for many calls at a time, as the caches are."""

    @task()
    async def spread(n: int) -> Any:
        return await asyncio.gather(*(double(i) for i in range(n)))

    assert await scheduler.run(spread(40)) == [2 * i for i in range(40)]
    before = backend.database.counts.reads
    assert await scheduler.run(spread(41)) == [2 * i for i in range(41)]
    assert calls["double"] == 41
    assert backend.database.counts.reads - before < 40
