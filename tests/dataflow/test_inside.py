"""What happened inside a call: edges that are those of a walk upstream, from its results to its arguments."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from aredun import File, task
from aredun.dataflow import ArgumentValue, CallNodeValue, walk_dataflow_node, walk_inside
from aredun.dataflow.starts import get_start
from aredun.errors import UsageError
from aredun.query import infer_id

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
