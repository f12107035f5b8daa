"""In what calls differ, on both databases, in a bounded number of statements."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import event

from aredun import File, task
from aredun.query import CallGraphQuery
from aredun.search.differences import (
    compare_calls,
    compare_executions,
    find_earlier_call,
    get_call,
    list_calls_below,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from aredun.backend import RedunBackendDb
    from aredun.scheduler import Scheduler
    from aredun.search.differences import CallDifference

pytestmark = pytest.mark.parametrize("dialect", ["sqlite", "postgresql"])


def make_workflow(version: str, factor: int = 2) -> Any:
    """Define tasks, of which one has a version."""

    @task(name="scale", namespace="differences", version=version)
    def scale(x: int) -> int:
        return x * factor

    @task(name="show", namespace="differences")
    def show(x: int, unit: str) -> str:
        return f"{x} {unit}"

    @task(name="fail", namespace="differences")
    def fail(x: int) -> None:
        raise ValueError(x)

    @task(name="main", namespace="differences")
    def main(numbers: list[int], unit: str) -> list[Any]:
        return [show(scale(number), unit=unit) for number in numbers]

    return main, fail


@pytest.fixture
def statements(backend: RedunBackendDb) -> Iterator[list[str]]:
    """The statements that are sent from here on."""
    sent: list[str] = []

    def see(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        sent.append(statement)

    engine = backend.create_engine().sync_engine
    event.listen(engine, "before_cursor_execute", see)
    yield sent
    event.remove(engine, "before_cursor_execute", see)


async def explain(backend: RedunBackendDb, name: str, **arguments: Any) -> CallDifference | None:
    """Compare the newest job of a task that ran with the earlier call that it is most like."""
    query = CallGraphQuery(backend).filter_types({"Job"}).filter_task_names([f"differences.{name}"])
    job = await query.order_by("time").first()
    assert job is not None
    call = await get_call(backend, job.id)
    assert call is not None
    earlier = await find_earlier_call(backend, call)
    if earlier is None:
        return None
    [difference] = await compare_calls(backend, [(earlier, call)])
    return difference


async def test_a_call_is_compared_with_the_one_that_read_the_same_file(
    scheduler: Scheduler, backend: RedunBackendDb, tmp_path: Path
) -> None:
    """Its contents have changed; the latest earlier call, of another file, is no closer to it."""

    @task(name="read", namespace="differences")
    def read(file: File) -> str:
        return str(file.read())

    paths = [str(tmp_path / name) for name in ("a.txt", "b.txt")]
    for path in paths:
        File(path).write("one")
        await scheduler.run(read(File(path)))
    File(paths[0]).write("two")
    await scheduler.run(read(File(paths[0])))
    difference = await explain(backend, "read")
    assert difference is not None
    [row] = difference.arguments
    assert [file.path for file in row.files] == [paths[0]]


async def test_what_made_a_job_run_again(scheduler: Scheduler, backend: RedunBackendDb) -> None:
    main, fail = make_workflow("1")
    await scheduler.run(main([1], "kg"))
    assert await explain(backend, "main") is None

    await scheduler.run(main([1], "g"))
    difference = await explain(backend, "show")
    assert difference is not None
    [row] = difference.arguments
    assert (row.position, row.key, row.origin) == (None, "unit", None)
    previews = await backend.get_previews([str(row.before), str(row.after)])
    assert (previews[str(row.before)], previews[str(row.after)]) == ("kg", "g")
    assert difference.task is None

    main, fail = make_workflow("2", factor=3)
    await scheduler.run(main([1], "g"))
    difference = await explain(backend, "scale")
    assert difference is not None
    assert difference.arguments == ()
    assert difference.task is not None
    assert [version.version for version in difference.task] == ["1", "2"]
    difference = await explain(backend, "show")
    assert difference is not None
    [row] = difference.arguments
    assert (row.position, row.key) == (0, None)
    assert row.origin is not None
    assert row.origin.task_name == "differences.scale"
    difference = await explain(backend, "main")
    assert difference is not None
    assert (difference.arguments, difference.task) == ((), None)
    below = await list_calls_below(backend, difference.after.job_id, 10)
    assert {call.task_name for call in below} == {"differences.scale", "differences.show"}

    for _ in range(2):
        with pytest.raises(ValueError, match="1"):
            await scheduler.run(fail(1))
    difference = await explain(backend, "fail")
    assert difference is not None
    assert difference.before.result_type == "redun.ErrorValue"


async def test_executions_are_compared_in_as_many_statements_whatever_their_size(
    scheduler: Scheduler, backend: RedunBackendDb, statements: list[str]
) -> None:
    counts = []
    for size in (3, 40):
        ids = []
        for version in ("1", "2"):
            main, _ = make_workflow(f"{version} of {size}", factor=1000 ** (int(version) - 1))
            execution = await run(scheduler, backend, main(list(range(size)), f"unit {size}"))
            ids.append(execution)
        statements.clear()
        tasks = {each.task_name: each for each in await compare_executions(backend, *ids)}
        counts.append(len(statements))
        scale = tasks["differences.scale"]
        assert len(scale.changed) + scale.more == size
        assert all(each.task is not None and not each.arguments for each in scale.changed)
        # Zero times any factor is zero, so one call of the other task is in both.
        show = tasks["differences.show"]
        assert (show.same, len(show.changed) + show.more) == (1, size - 1)
        assert (scale.only_before, scale.only_after) == ((), ())
    assert counts[0] == counts[1] <= 12


async def run(scheduler: Scheduler, backend: RedunBackendDb, expression: Any) -> str:
    """Run it and return the execution's id."""
    await scheduler.run(expression)
    execution = await CallGraphQuery(backend).filter_types({"Execution"}).order_by("time").first()
    assert execution is not None
    return execution.id
