"""The upstream walks: async generators over edges, which look ahead in bulk and hold no connection while they
yield.
"""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from aredun.dataflow.decide import make_node
from aredun.dataflow.engine import Walk, get_call, get_key
from aredun.dataflow.load import Loader
from aredun.dataflow.lookahead import MAX_LIMIT
from aredun.dataflow.nodes import DataflowEdge, get_node_kind

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from aredun.backend import RedunBackendDb


async def _expand(backend: Any, node: Any, kind: str) -> AsyncGenerator[DataflowEdge, None]:
    """Yield the edges out of one node."""
    if get_node_kind(node) != kind:
        raise TypeError(f"expected a {kind}, not a {get_node_kind(node)}")
    loader = Loader(backend.database)
    start = await loader.load_start(node)
    key = get_key(start)
    entry = (await loader.load_layer([key]))[key]
    source = get_call(start)
    for step in entry or loader.complete(start):
        yield DataflowEdge(start, None if step is None else make_node(step, source, loader.tasks))


async def walk_dataflow_value(backend: RedunBackendDb, value: Any) -> AsyncGenerator[DataflowEdge, None]:
    """Iterate over the upstream edges of a value.

    Parameters
    ----------
    backend : RedunBackendDb
        The repository.
    value : ValueRef or Value
        The value; a `Task` counts as the value that it is recorded as, a `File` as its value.

    Yields
    ------
    DataflowEdge
        One edge: to the call that produced the value last, or to no origin. Mirrors redun's
        `walk_dataflow_value`.
    """
    async with aclosing(_expand(backend, value, "Value")) as edges:
        async for edge in edges:
            yield edge


async def walk_dataflow_callnode(
    backend: RedunBackendDb, call_node: Any
) -> AsyncGenerator[DataflowEdge, None]:
    """Iterate over the upstream edges of a call.

    Parameters
    ----------
    backend : RedunBackendDb
        The repository.
    call_node : CallNodeRef or CallNode
        The call.

    Yields
    ------
    DataflowEdge
        To its arguments, positional ones first; to None when it has none. Mirrors redun's
        `walk_dataflow_callnode`.
    """
    async with aclosing(_expand(backend, call_node, "CallNode")) as edges:
        async for edge in edges:
            yield edge


async def walk_dataflow_callnode_value(
    backend: RedunBackendDb, call_node_value: Any
) -> AsyncGenerator[DataflowEdge, None]:
    """Iterate over the upstream edges of a value within a result.

    Parameters
    ----------
    backend : RedunBackendDb
        The repository.
    call_node_value : CallNodeValue
        The call and the value.

    Yields
    ------
    DataflowEdge
        One edge: to the only child that returned the value, else to the call itself.
        Mirrors redun's `walk_dataflow_callnode_value`.
    """
    async with aclosing(_expand(backend, call_node_value, "CallNodeValue")) as edges:
        async for edge in edges:
            yield edge


async def walk_dataflow_argument_value(
    backend: RedunBackendDb, argument_value: Any
) -> AsyncGenerator[DataflowEdge, None]:
    """Iterate over the upstream edges of a value within an argument.

    Parameters
    ----------
    backend : RedunBackendDb
        The repository.
    argument_value : ArgumentValue
        The argument and the value.

    Yields
    ------
    DataflowEdge
        To the results that the argument was made of, the last one first; then to the matching arguments
        of the latest parent; to None when there is neither. Mirrors redun's
        `walk_dataflow_argument_value`.
    """
    async with aclosing(_expand(backend, argument_value, "ArgumentValue")) as edges:
        async for edge in edges:
            yield edge


def walk_dataflow_node(backend: RedunBackendDb, node: Any) -> AsyncGenerator[DataflowEdge, None]:
    """Return an iterator over the upstream edges of one node of any kind.

    Parameters
    ----------
    backend : RedunBackendDb
        The repository.
    node : DataflowNode or model
        The node.

    Returns
    -------
    async iterator of DataflowEdge
        Its edges in redun's order. Mirrors redun's `walk_dataflow_node`.

    Raises
    ------
    TypeError
        The object is no dataflow node.
    """
    return _expand(backend, node, get_node_kind(node))


def walk_dataflow(
    backend: RedunBackendDb,
    init_node: Any,
    *,
    max_depth: int | None = None,
    max_edges: int | None = None,
    after: int = 0,
    look_ahead: int = MAX_LIMIT,
) -> AsyncGenerator[DataflowEdge, None]:
    """Walk everything that a node came from, depth first.

    Neighbourhoods are loaded in bulk, ahead of the walk; no connection is held and no transaction is open
    while an edge is handed out, so a consumer may take its time, and one that stops (`aclose`, `break`,
    cancellation) leaves nothing behind.

    Parameters
    ----------
    backend : RedunBackendDb
        The repository.
    init_node : ValueRef, CallNodeRef, ArgumentValue, CallNodeValue or a model's instance
        Where to begin; a `Task` counts as the value that it is recorded as, a `File` as its value.
    max_depth : int, optional
        Leave out edges out of nodes that are this many edges or more away from the start, on the shortest
        way.
    max_edges : int, optional
        End after this many edges were yielded.
    after : int
        Skip this many edges: with the number of the last edge received (they count from 1) a walk goes on
        behind it.
    look_ahead : int
        Most nodes that are loaded at a time: fewer take less memory, and more statements.

    Yields
    ------
    DataflowEdge
        The same edges in the same order as redun's `walk_dataflow`.

    Raises
    ------
    UsageError
        A bound is negative, or the repository has no such call or argument.
    TypeError
        The object is no dataflow node.
    """
    walk = Walk(
        Loader(backend.database),
        max_depth=max_depth,
        max_edges=max_edges,
        after=after,
        look_ahead=look_ahead,
    )
    # Handed on as it is: a generator around it would cost every edge.
    return walk.run(init_node)
