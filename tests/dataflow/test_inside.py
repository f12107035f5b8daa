"""What happened inside a call: edges that are those of a walk upstream, from its results to its arguments."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa

from aredun import File, task
from aredun.dataflow import (
    ArgumentValue,
    CallNodeRef,
    CallNodeValue,
    TaskRef,
    ValueRef,
    walk_dataflow_node,
    walk_inside,
)
from aredun.dataflow.starts import get_start
from aredun.errors import UsageError
from aredun.models import Job
from aredun.query import CallGraphQuery, infer_id
from aredun.storage.reads import read_scalars
from tests.support.dataflow import Graph
from tests.support.server import serve

if TYPE_CHECKING:
    from pathlib import Path

    from aredun.backend import RedunBackendDb
    from aredun.dataflow import DataflowEdge
    from aredun.scheduler import Scheduler

redun_namespace = "inside"


@task()
def copy(source: File, path: str) -> File:
    """Write a file."""
    target = File(path)
    target.write(str(source.read()))
    return target


@task()
def spread(sources: list[File]) -> list[File]:
    """Copy each of several files."""
    return [copy(source, f"{source.path}.copy") for source in sources]


@task()
def main(source: File) -> list[File]:
    """Copy a file twice in a row."""
    copies: list[File] = spread(spread([source]))
    return copies


gates: dict[str, asyncio.Event] = {}


@task()
async def wait(name: str) -> str:
    """Return a text once that is allowed."""
    await gates[name].wait()
    return f"{name} done"


@task()
def both(name: str) -> list[str]:
    """Wait for two things, one after the other."""
    return [wait(wait(name))]


async def list_inside(backend: RedunBackendDb, record_id: str) -> list[DataflowEdge]:
    """Return the edges inside the call that an id stands for."""
    start = await get_start(backend, await infer_id(backend, record_id, required=True), downstream=True)
    return [edge async for edge in walk_inside(backend, start.node)]


async def test_from_results_to_arguments(
    backend: RedunBackendDb, scheduler: Scheduler, tmp_path: Path
) -> None:
    """The result is made of what nothing else was made of; the walk ends at the arguments of the call."""
    source = File(str(tmp_path / "given"))
    source.write("text")
    await scheduler.run(main(source))
    edges = await list_inside(backend, "-")
    root: Any = edges[0].src
    assert isinstance(root, CallNodeValue)
    assert root.call_node.task.fullname == "inside.main"
    # The second copy; the first went into it.
    [(_, last)] = [edge for edge in edges if edge.src == root]
    assert isinstance(last, CallNodeValue)
    assert last.call_node.task.fullname == "inside.copy"
    calls = {edge.src.call_node.call_hash for edge in edges if isinstance(edge.src, CallNodeValue)} - {
        root.call_node.call_hash
    }
    assert len(calls) == 3
    ends = [edge.src for edge in edges if edge.dest is None]
    own = [
        node for node in ends if isinstance(node, ArgumentValue) and node.argument.call_node == root.call_node
    ]
    assert len(own) == 1
    for edge in edges:
        if edge.src == root or edge.src in own:
            continue
        assert edge in [known async for known in walk_dataflow_node(backend, edge.src)]


async def test_a_call_that_called_none(backend: RedunBackendDb, scheduler: Scheduler, tmp_path: Path) -> None:
    """It is shown with its arguments; values have no inside; a bound is kept."""
    source = File(str(tmp_path / "given"))
    source.write("text")
    await scheduler.run(copy(source, str(tmp_path / "other")))
    edges = await list_inside(backend, "-")
    assert [type(edge.src).__name__ for edge in edges] == [
        "CallNodeValue",
        "CallNodeRef",
        "CallNodeRef",
        "ArgumentValue",
        "ArgumentValue",
    ]
    start: Any = edges[1].src
    assert len([edge async for edge in walk_inside(backend, start, max_edges=2)]) == 2
    with pytest.raises(UsageError, match="Only a call has an inside"):
        await anext(walk_inside(backend, start.value))


async def test_what_went_into_something_else_is_no_end(backend: RedunBackendDb, redun_backend: Any) -> None:
    """Nor where the source of the tasks does not tell what their arguments are called."""
    graph = Graph()
    task_hash = graph.add_task("step", source="")
    values = [graph.add_value(number) for number in range(3)]
    outer, first, second = (
        graph.add_call(name, task_hash, value)
        for name, value in zip(("outer", "first", "second"), (values[2], *values[1:]), strict=True)
    )
    graph.add_argument(first, values[0], 0)
    graph.add_argument(second, values[1], 0, None, [first])
    for order, call in enumerate((first, second)):
        graph.add_child(outer, call, order)
    graph.insert(redun_backend)
    edges: list[Any] = [
        edge async for edge in walk_inside(backend, CallNodeRef(outer, TaskRef("", ""), ValueRef("")))
    ]
    assert [edge.dest.call_node.call_hash for edge in edges if edge.src == edges[0].src] == [second]
    assert {edge.src.argument_count for edge in edges if isinstance(edge.src, CallNodeRef)} == {1}


async def count_jobs(backend: RedunBackendDb, *conditions: Any) -> int:
    """Return how many jobs fulfil conditions."""
    [number] = await read_scalars(
        backend.database, sa.select(sa.func.count()).select_from(Job).where(*conditions)
    )
    return int(number)


async def test_what_has_not_ended(backend: RedunBackendDb, scheduler: Scheduler) -> None:
    """Of a run that goes on it is what its jobs have recorded: the edges that the ended run has, too."""
    gates.update({"a": asyncio.Event(), "a done": asyncio.Event()})
    run = asyncio.create_task(scheduler.run(both("a")))
    while await count_jobs(backend) < 2:  # noqa: ASYNC110  # nothing tells
        await asyncio.sleep(0.01)
    execution: Any = await infer_id(backend, "-", required=True)
    assert [edge async for edge in walk_inside(backend, execution)] == []
    gates["a"].set()
    while await count_jobs(backend, Job.call_hash.is_not(None)) < 1:  # noqa: ASYNC110  # nothing tells
        await asyncio.sleep(0.01)
    edges: list[Any] = [edge async for edge in walk_inside(backend, execution)]
    assert [edge.src.call_node.task.name for edge in edges if isinstance(edge.src, CallNodeValue)] == ["wait"]
    [root] = [job async for job in CallGraphQuery(backend).filter_types(["Job"]).all() if not job.parent_id]
    assert [edge async for edge in walk_inside(backend, root)] == edges
    async with serve(backend) as served:
        messages = await served.receive_all(f"/ws/dataflow/{root.id}?direction=inside")
    assert messages[0] == {"type": "run", "execution_id": execution.id, "job_id": root.id}
    assert [message["type"] for message in messages[1:]] == ["edge"] * len(edges) + ["end"]
    gates["a done"].set()
    await run
    # What it was given leads to the call that gave it, once that is recorded.
    ended = [edge async for edge in walk_inside(backend, execution)]
    assert [edge async for edge in walk_inside(backend, root)] == ended == await list_inside(backend, "-")
    assert {edge for edge in edges if edge.dest is not None} < set(ended)
