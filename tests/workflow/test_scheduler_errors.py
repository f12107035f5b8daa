"""Errors within one execution: recorded as redun records them, wherever an equal call failed before."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import redun
import sqlalchemy as sa
from sqlalchemy.orm import aliased

from aredun import RedunBackendDb, Scheduler, UsageError, task
from aredun.models import CallEdge, CallNode, CallSubtreeTask, Evaluation, Job, Task, Value
from aredun.workflow.operators import catch
from tests.support.twins import open_twin

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

redun_namespace = "errors"

PARENT = aliased(Task)
PARENT_JOB = aliased(Job)
JOBS = (
    sa.select(Task.name, Job.call_hash, Job.cached, PARENT.name, PARENT_JOB.call_hash)
    .join(Task, Task.hash == Job.task_hash)
    .outerjoin(PARENT_JOB, PARENT_JOB.id == Job.parent_id)
    .outerjoin(PARENT, PARENT.hash == PARENT_JOB.task_hash)
)
STATEMENTS: dict[str, Any] = {
    "jobs": JOBS,
    "calls": sa.select(CallNode.call_hash, CallNode.args_hash, CallNode.value_hash),
    "edges": sa.select(CallEdge.parent_id, CallEdge.child_id, CallEdge.call_order),
    "subtrees": sa.select(CallSubtreeTask.call_hash, CallSubtreeTask.task_hash),
    "values": sa.select(Value.value_hash, Value.type, Value.value),
    "evaluations": sa.select(Evaluation.eval_hash, Evaluation.value_hash),
}


class NarrowError(Exception):
    """One that pickle takes and cannot give back: it wants more than its `args`."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


def define_plain(task: Any, catch: Any) -> list[Any]:
    """Make tasks whose errors pickle gives back."""

    @task()
    def fail(x: int) -> Any:
        raise ValueError(f"no {x}")

    @task()
    def wrap(x: int) -> Any:
        return fail(x)

    @task()
    def recover(error: Exception) -> int:
        # Two texts would be pickled as one where the second call was answered with the first one's very
        # object, which takes that both are under way at once.
        return len(str(error))

    @task()
    def left(x: int, after: Any = None) -> Any:
        return catch(wrap(x), ValueError, recover)

    @task()
    def right(x: int, after: Any = None) -> Any:
        return catch(wrap(x), ValueError, recover)

    @task()
    def plain(x: int, after: Any = None) -> Any:
        return catch(fail(x), ValueError, recover)

    @task()
    def one_after_the_other() -> Any:
        return right(1, plain(1, left(1)))

    @task()
    def side_by_side() -> Any:
        return [left(1), right(1)]

    return [one_after_the_other, side_by_side]


def define_narrow(task: Any, catch: Any) -> list[Any]:
    """Make tasks whose errors pickle does not give back."""

    @task()
    def narrow(x: int) -> Any:
        raise NarrowError(f"no {x}", x)

    @task()
    def give_up(error: Exception) -> str:
        return "recovered"

    @task()
    def narrow_left(x: int, after: Any = None) -> Any:
        return catch(narrow(x), NarrowError, give_up)

    @task()
    def narrow_right(x: int, after: Any = None) -> Any:
        return catch(narrow(x), NarrowError, give_up)

    @task()
    def unreadable() -> Any:
        return narrow_left(1)

    @task()
    def unreadable_twice() -> Any:
        return narrow_right(1, narrow_left(1))

    return [unreadable, unreadable_twice]


def define_workflows(task: Any, catch: Any) -> dict[str, Any]:
    """Make the same tasks for one engine or the other; their sources, and so their hashes, are the same."""
    return {made.name: made for made in (*define_plain(task, catch), *define_narrow(task, catch))}


def sort_rows(rows: Any) -> list[tuple[Any, ...]]:
    return sorted(
        (tuple(bytes(x) if isinstance(x, memoryview) else x for x in row) for row in rows), key=repr
    )


@pytest.mark.parametrize("name", ["one_after_the_other", "side_by_side", "unreadable"])
async def test_rows_are_those_of_redun(
    backend: RedunBackendDb, dialect: str, request: pytest.FixtureRequest, tmp_path: Path, name: str
) -> None:
    """An equal call that fails is answered from the cache, or waits, and leaves what it leaves in redun.

    That includes its own record of the error, and with it the hashes of the calls above it.
    """
    async with Scheduler(backend) as scheduler:
        result = await scheduler.run(define_workflows(task, catch)[name]())
    ours: dict[str, Any] = {}
    theirs: dict[str, Any] = {}
    async with backend.session() as session:
        for table, statement in STATEMENTS.items():
            ours[table] = sort_rows(await session.execute(statement))
    with open_twin(dialect, request, tmp_path) as twin:
        workflow: Callable[[], Any] = define_workflows(redun.task, redun.catch)[name]
        assert redun.Scheduler(backend=twin).run(workflow()) == result
        for table, statement in STATEMENTS.items():
            theirs[table] = sort_rows(twin.session.execute(statement))
    for table in ("jobs", "calls", "edges", "subtrees"):
        assert ours[table] == theirs[table]
    for table in ("values", "evaluations"):
        assert [row[:2] for row in ours[table]] == [row[:2] for row in theirs[table]]


async def test_error_that_cannot_be_read_back_is_raised_again(backend: RedunBackendDb) -> None:
    """What pickle does not give back is no answer: the equal call runs (redun's scheduler breaks off)."""
    async with Scheduler(backend) as scheduler:
        workflow = define_workflows(task, catch)["unreadable_twice"]
        assert await scheduler.run(workflow()) == "recovered"
    async with backend.session() as session:
        rows = sort_rows(await session.execute(JOBS.where(Task.name == "narrow")))
    assert [(cached, parent) for _, _, cached, parent, _ in rows] == [
        (False, "narrow_left"),
        (False, "narrow_right"),
    ]
    assert len({call_hash for _, call_hash, *_ in rows}) == 1


@pytest.mark.parametrize(
    "options",
    [
        {"limits": 5},
        {"limits": "db"},
        {"limits": {"db": "many"}},
        {"limits": {"db": -1}},
        {"limits": [1]},
        {"tags": ["a"]},
        {"tags": 5},
        {"allowed_cache_results": "CSE"},
    ],
)
async def test_options_that_cannot_be_meant(options: dict[str, Any]) -> None:
    """A call with one is never made; the error says what would be right."""

    @task()
    def never() -> None:
        pytest.fail("ran")

    @task()
    def call() -> Any:
        return never.options(**options)()

    def call_directly() -> Any:
        return never.options(**options)()

    async with Scheduler() as scheduler:
        for workflow in (call_directly, call):
            with pytest.raises(UsageError, match=f"option {next(iter(options))} is .*: give "):
                await scheduler.run(workflow())
