"""What happened inside a call: the dataflow between its arguments and its result."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from aredun.dataflow.engine import get_own_call
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
from aredun.dataflow.upstream import UPSTREAM
from aredun.errors import UsageError
from aredun.loop.pacing import PIECE_SIZE, take_turn
from aredun.models import CallEdge, CallNode, Task

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

    Parameters
    ----------
    backend : RedunBackendDb
        The repository.
    call_node : CallNodeRef or CallNode
        The call.
    max_edges : int, optional
        End after this many edges were yielded.

    Yields
    ------
    DataflowEdge
        First from the call's result to the results within it that nothing else inside was made of, then the
        upstream edges of these, layer by layer. Arguments of calls outside lead to None. redun has no such
        walk.

    Raises
    ------
    UsageError
        The node is no call, or the repository has no such call.
    """
    if not hasattr(call_node, "call_hash"):
        raise UsageError("Only a call has an inside: give a call, a job or an execution.")
    loader = Loader(backend.database, UPSTREAM)
    start: Any = await loader.load_start(call_node)
    inside = _Inside(backend, loader, start)
    await inside.load(max_edges)
    for edge in inside.edges[:max_edges]:
        yield edge


class _Inside:
    """The edges inside one call."""

    def __init__(self, backend: RedunBackendDb, loader: Loader, start: CallNodeRef) -> None:
        self._backend = backend
        self._loader = loader
        self._start = start
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
                dest: Any = None if step is None else step.make_node(get_own_call(node), self._loader.tasks)
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
        call = node.argument.call_node if isinstance(node, ArgumentValue) else get_own_call(node)
        return call is not None and call.call_hash in self._calls

    async def _load_results(self) -> list[CallNodeValue]:
        """Return the results of the calls inside that called no others; of one without any its own."""
        called = sa.select(CallEdge.child_id).where(CallEdge.parent_id == self._start.call_hash)
        tree = called.cte("tree", recursive=True)
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
        if not found:
            self._calls.add(self._start.call_hash)
            found = [CallNodeValue(self._start, self._start.value)]
        return found

    def _make_result(self, call_hash: str, value_hash: str, task: Task) -> CallNodeValue:
        known = self._loader.tasks.get(task.hash)
        if known is None:
            known = TaskRef(task.hash, task.name, task.namespace or "", task.source or "")
            self._loader.tasks[task.hash] = known
        value = ValueRef(value_hash)
        return CallNodeValue(CallNodeRef(call_hash, known, value), value)
