"""What happened inside a call: the dataflow between its arguments and its result."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from aredun.dataflow.engine import get_call
from aredun.dataflow.keys import get_key
from aredun.dataflow.load import Loader
from aredun.dataflow.nodes import (
    ArgumentValue,
    CallNodeRef,
    CallNodeValue,
    DataflowEdge,
    TaskRef,
    ValueRef,
)
from aredun.dataflow.policy import MAX_LIMIT
from aredun.dataflow.starts import find_call
from aredun.dataflow.upstream import UPSTREAM
from aredun.errors import UsageError
from aredun.loop.pacing import PIECE_SIZE, take_turn
from aredun.models import CallEdge, CallNode, Execution, Job, Task

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from sqlalchemy.ext.asyncio import AsyncSession

    from aredun.backend import RedunBackendDb
    from aredun.dataflow.keys import Key
    from aredun.dataflow.nodes import DataflowNode

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
    inside = _Inside(backend, loader, start, job_id)
    await inside.load(max_edges)
    for edge in inside.edges[:max_edges]:
        yield edge


class _Inside:
    """The edges inside one call, or what a job that has none yet has led to."""

    def __init__(
        self, backend: RedunBackendDb, loader: Loader, start: CallNodeRef | None, job_id: str
    ) -> None:
        self._backend = backend
        self._loader = loader
        self._start = start
        self._job_id = job_id
        self._calls: set[str] = set()
        self._seen: set[Key] = set()
        self.edges: list[DataflowEdge] = []

    async def load(self, max_edges: int | None) -> None:
        """Load all edges, or some more than wanted."""
        results = await self._load_results()
        layer: list[tuple[Key, DataflowNode]] = [(get_key(node), node) for node in results]
        self._seen.update(key for key, _ in layer)
        while layer and (max_edges is None or len(self.edges) < max_edges):
            part, layer = layer[:MAX_LIMIT], layer[MAX_LIMIT:]
            layer.extend(await self._follow(part))
        if self._start is None:
            return
        # What nothing else was made of is what the call returned, as far as anybody knows.
        used = {edge.dest for edge in self.edges}
        root = CallNodeValue(self._start, self._start.value)
        ends = [node for node in results if node not in used and node != root]
        self.edges[:0] = [DataflowEdge(root, node) for node in ends]

    async def _follow(self, layer: list[tuple[Key, DataflowNode]]) -> list[tuple[Key, DataflowNode]]:
        """Add the edges out of some nodes, and return the nodes that are to be followed next."""
        entries = await self._loader.load_layer([key for key, _ in layer])
        following: list[tuple[Key, DataflowNode]] = []
        for number, (key, node) in enumerate(layer, 1):
            for step in entries[key] or (None,):
                dest: Any = None if step is None else step.make_node(get_call(node), self._loader.tasks)
                self.edges.append(DataflowEdge(node, dest))
                if step is None or step.key in self._seen:
                    continue
                self._seen.add(step.key)
                if self._is_inside(dest):
                    following.append((step.key, dest))
                else:
                    self.edges.append(DataflowEdge(dest, None))
            if number % PIECE_SIZE == 0:
                await take_turn()
        return following

    def _is_inside(self, node: Any) -> bool:
        call = node.argument.call_node if isinstance(node, ArgumentValue) else get_call(node)
        return call is not None and call.call_hash in self._calls

    async def _load_results(self) -> list[CallNodeValue]:
        """Return the results of the calls inside that called no others; of one without any its own."""
        tree = self._select_called().cte("tree", recursive=True)
        tree = tree.union(sa.select(CallEdge.child_id).join(tree, CallEdge.parent_id == tree.c.child_id))
        calls_others = sa.exists().where(CallEdge.parent_id == CallNode.call_hash)
        statement = (
            sa.select(CallNode.call_hash, CallNode.value_hash, Task, calls_others)
            .join(tree, tree.c.child_id == CallNode.call_hash)
            .join(Task, Task.hash == CallNode.task_hash)
            .order_by(CallNode.timestamp, CallNode.call_hash)
            .limit(MAX_CALLS)
        )

        async def operation(session: AsyncSession) -> list[CallNodeValue]:
            results = []
            for call_hash, value_hash, task, has_calls in await session.execute(statement):
                self._calls.add(call_hash)
                if not has_calls:
                    results.append(self._make_result(call_hash, value_hash, task))
            return results

        found = await self._backend.database.read(operation)
        if not found and self._start is not None:
            self._calls.add(self._start.call_hash)
            found = [CallNodeValue(self._start, self._start.value)]
        return found

    def _select_called(self) -> Any:
        """Return the select of the calls that were made within, those below them not among them."""
        if self._start is not None:
            return sa.select(CallEdge.child_id).where(CallEdge.parent_id == self._start.call_hash)
        jobs = sa.select(Job.id).where(Job.id == self._job_id).cte("jobs", recursive=True)
        jobs = jobs.union_all(sa.select(Job.id).join(jobs, Job.parent_id == jobs.c.id))
        ended = sa.select(Job.call_hash.label("child_id")).join(jobs, jobs.c.id == Job.id)
        return ended.where(Job.call_hash.is_not(None))

    def _make_result(self, call_hash: str, value_hash: str, task: Task) -> CallNodeValue:
        known = self._loader.tasks.get(task.hash)
        if known is None:
            known = TaskRef(task.hash, task.name, task.namespace or "", task.source or "")
            self._loader.tasks[task.hash] = known
        value = ValueRef(value_hash)
        return CallNodeValue(CallNodeRef(call_hash, known, value), value)
