"""What happened inside a call: the dataflow between its arguments and its result."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from aredun.dataflow.load import Loader
from aredun.dataflow.nodes import CallNodeValue, DataflowEdge, get_dataflow_call_node, get_key, make_key
from aredun.dataflow.policy import MAX_LIMIT
from aredun.dataflow.starts import find_call
from aredun.dataflow.steps import Step, make_rank
from aredun.dataflow.upstream import UPSTREAM
from aredun.errors import UsageError
from aredun.loop.pacing import PIECE_SIZE, take_turn
from aredun.models import CallEdge, CallNode, Execution, Job

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Collection, Sequence

    from sqlalchemy.ext.asyncio import AsyncSession

    from aredun.backend import RedunBackendDb
    from aredun.dataflow.nodes import CallNodeRef, DataflowNode

# Calls of the tree of one call that are looked at.
MAX_CALLS = 100_000


async def walk_inside(
    backend: RedunBackendDb, call_node: Any, *, max_edges: int | None = None
) -> AsyncGenerator[DataflowEdge, None]:
    """Walk what happened inside a call: upstream from the calls that called no others, to its own arguments.

    Of a job or an execution that has not ended, it is what its jobs have recorded so far.

    Parameters
    ----------
    backend : RedunBackendDb
        The repository.
    call_node : CallNodeRef, CallNode, Job or Execution
        The call; a job and an execution stand for theirs.
    max_edges : int, optional
        End after this many edges were yielded.

    Yields
    ------
    DataflowEdge
        First from the call's result to the results within it that nothing else inside was made of, then the
        upstream edges of these, layer by layer. Arguments of calls outside lead to None. While there is no
        call yet, its result and what leads to it are missing. redun has no such walk.

    Raises
    ------
    UsageError
        The node is no call, or the repository has no such call.
    """
    loader = Loader(backend.database, UPSTREAM)
    called, job_id = call_node, ""
    if isinstance(call_node, Job | Execution):
        called = await find_call(backend, call_node)
        job_id = call_node.id if isinstance(call_node, Job) else call_node.job_id or ""
    elif not hasattr(call_node, "call_hash"):
        raise UsageError("Only a call has an inside: give a call, a job or an execution.")
    start: Any = None if called is None else await loader.load_start(called)
    calls, results = await _load_results(backend, loader, start, job_id)
    edges = await _list_edges(loader, results, calls, max_edges)
    if start is not None:
        # What nothing else was made of is what the call returned, as far as anybody knows.
        used = {edge.dest for edge in edges}
        root = CallNodeValue(start, start.value)
        edges[:0] = [DataflowEdge(root, node) for node in results if node not in used and node != root]
    for edge in edges[:max_edges]:
        yield edge


async def _load_results(
    backend: RedunBackendDb, loader: Loader, start: CallNodeRef | None, job_id: str
) -> tuple[set[str], list[DataflowNode]]:
    """Return the calls inside (none: the call itself), and the results of those that called no others."""
    tree = _select_called(start, job_id).cte("tree", recursive=True)
    tree = tree.union(sa.select(CallEdge.child_id).join(tree, CallEdge.parent_id == tree.c.child_id))
    calls_others = sa.exists().where(CallEdge.parent_id == CallNode.call_hash)
    statement = (
        sa.select(CallNode.call_hash, CallNode.task_hash, CallNode.value_hash, calls_others)
        .join(tree, tree.c.child_id == CallNode.call_hash)
        .order_by(CallNode.timestamp, CallNode.call_hash)
        .limit(MAX_CALLS)
    )

    async def operation(session: AsyncSession) -> tuple[set[str], list[DataflowNode]]:
        found = (await session.execute(statement)).all()
        results = [
            Step(make_key("R", call, result), make_rank(0), call, task, result, result)
            for call, task, result, has_calls in found
            if not has_calls
        ]
        steps = await loader.complete(session, results)
        return {row.call_hash for row in found}, [step.make_node(None, loader.tasks) for step in steps]

    calls, results = await backend.database.read(operation)
    if not calls and start is not None:
        return {start.call_hash}, [CallNodeValue(start, start.value)]
    return calls, results


def _select_called(start: CallNodeRef | None, job_id: str) -> sa.Select[Any]:
    """Return the select of the calls that were made within, those below them not among them."""
    if start is not None:
        return sa.select(CallEdge.child_id).where(CallEdge.parent_id == start.call_hash)
    jobs = sa.select(Job.id).where(Job.id == job_id).cte("jobs", recursive=True)
    jobs = jobs.union_all(sa.select(Job.id).join(jobs, Job.parent_id == jobs.c.id))
    ended = sa.select(Job.call_hash.label("child_id")).join(jobs, jobs.c.id == Job.id)
    return ended.where(Job.call_hash.is_not(None))


async def _list_edges(
    loader: Loader, results: Sequence[DataflowNode], calls: Collection[str], max_edges: int | None
) -> list[DataflowEdge]:
    """Return all edges upstream of results within some calls, or some more than wanted."""
    edges: list[DataflowEdge] = []
    layer = [(get_key(node), node) for node in results]
    seen = {key for key, _ in layer}
    while layer and (max_edges is None or len(edges) < max_edges):
        part, layer = layer[:MAX_LIMIT], layer[MAX_LIMIT:]
        entries = await loader.load_layer([key for key, _ in part])
        for number, (key, node) in enumerate(part, 1):
            for step in entries[key]:
                dest = step.make_node(get_dataflow_call_node(node), loader.tasks)
                edges.append(DataflowEdge(node, dest))
                if step.key in seen:
                    continue
                seen.add(step.key)
                if get_dataflow_call_node(dest).call_hash in calls:
                    layer.append((step.key, dest))
                else:
                    edges.append(DataflowEdge(dest, None))
            if not entries[key]:
                edges.append(DataflowEdge(node, None))
            if number % PIECE_SIZE == 0:
                await take_turn()
    return edges
