"""The walks: one depth-first loop in either direction, which emits from a cache and looks ahead in bulk.

No connection is held while an edge is handed out.
"""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, Any, NamedTuple

from aredun.dataflow.downstream import DOWNSTREAM
from aredun.dataflow.frontier import Frontier
from aredun.dataflow.load import Loader
from aredun.dataflow.lookahead import LookAhead
from aredun.dataflow.nodes import DataflowEdge, ValueRef, get_dataflow_call_node, get_key, get_node_kind
from aredun.dataflow.policy import FIRST_LIMIT, MAX_LIMIT, MOST_HELD
from aredun.dataflow.upstream import UPSTREAM
from aredun.errors import UsageError
from aredun.loop.pacing import PIECE_SIZE, iter_parts, list_in_turns, take_turn

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from aredun.backend import RedunBackendDb
    from aredun.dataflow.nodes import DataflowNode, Key

# Edges are made without a call of `__new__`.
_new: Any = tuple.__new__


class Bounds(NamedTuple):
    """How far a walk goes (see `walk_dataflow`)."""

    max_depth: int | None = None
    max_edges: int | None = None
    after: int = 0
    look_ahead: int = MAX_LIMIT


async def walk(source: Loader, init_node: Any, bounds: Bounds) -> AsyncGenerator[DataflowEdge, None]:
    """Yield the edges out of a node and out of all that these lead to, depth first."""
    for name, bound in bounds._asdict().items():
        if bound is not None and (not isinstance(bound, int) or bound < 0):
            raise UsageError(f"{name} must be a whole number of 0 or more, not {bound!r}.")
    if bounds.max_edges == 0:
        return
    last = None if bounds.max_edges is None else bounds.after + bounds.max_edges
    node: Any = await source.load_start(init_node)
    if bounds.max_depth == 0:
        return
    # The start is not on the stack: a cycle leads to it once more.
    key = get_key(node)
    frontier = await _begin(source, node, key, bounds.max_depth)
    ahead = LookAhead(source, frontier, bounds.look_ahead)
    count = 0
    try:
        while True:
            steps = frontier.entries.pop(key, None)
            is_missing = steps is None
            if steps is None:
                steps = await ahead.load(key, None if last is None else last - count)
            call = get_dataflow_call_node(node)
            following: list[tuple[Key, DataflowNode]] = []
            for step in steps or (None,):
                dest = None if step is None else step.make_node(call, source.tasks)
                count += 1
                if count > bounds.after:
                    yield _new(DataflowEdge, (node, dest))
                if count == last:
                    return
                if step is not None and dest is not None:
                    following.append((step.key, dest))
                if count % PIECE_SIZE == 0:
                    await take_turn()
            # The last ones first, as a stack wants it.
            while len(following) > PIECE_SIZE:
                frontier.push(following[-PIECE_SIZE:])
                del following[-PIECE_SIZE:]
                await take_turn()
            frontier.push(following)
            if is_missing:
                ahead.prefetch()
            if not frontier.stack:
                return
            key, node = frontier.pop()
    finally:
        # Whatever ends the walk, nothing of it stays behind.
        await ahead.close()


async def _begin(source: Loader, node: DataflowNode, start: Key, max_depth: int | None) -> Frontier:
    """Return what lies before a walk from a node: of a bounded one all that it may expand is found first."""
    frontier = Frontier()
    entries = frontier.entries
    if isinstance(node, ValueRef):
        entries.update(await source.load_layer([start]))
    if max_depth is None:
        return frontier
    frontier.allowed = set()
    level = [start]
    for depth in range(max_depth, 0, -1):
        frontier.allowed.update(level)
        for keys in iter_parts([key for key in level if key not in entries], MAX_LIMIT):
            if depth < 4 or len(keys) > FIRST_LIMIT:
                entries.update(await source.load_layer(keys))
            else:
                # Few nodes and far to go: what follows from them comes along.
                limit = min(MAX_LIMIT, 16 * depth)
                reach = await source.load_reach(keys, limit, entries.__contains__, (), lambda met: None)
                entries.update(reach.entries)
        following: dict[Key, None] = {}
        for part in iter_parts(level):
            following.update((step.key, None) for key in part for step in entries[key])
            await take_turn()
        level = [key for key in following if key not in frontier.allowed]
        if not level:
            break
    if len(entries) > MOST_HELD * MAX_LIMIT:
        # The walk is to begin with little at hand: its own entry is enough.
        frontier.entries = {start: entries[start]}
    return frontier


async def _list_edges(backend: RedunBackendDb, node: Any, kind: str) -> list[DataflowEdge]:
    """Return the edges out of one node of a kind."""
    if get_node_kind(node) != kind:
        raise TypeError(f"expected a {kind}, not a {get_node_kind(node)}")
    loader = Loader(backend.database, UPSTREAM)
    start = await loader.load_start(node)
    [entry] = (await loader.load_layer([get_key(start)])).values()
    call = get_dataflow_call_node(start)
    dests = (step.make_node(call, loader.tasks) for step in entry)
    return await list_in_turns(DataflowEdge(start, dest) for dest in (dests if entry else (None,)))


async def walk_dataflow_value(backend: RedunBackendDb, value: Any) -> AsyncGenerator[DataflowEdge, None]:
    """Iterate over the upstream edges of a value.

    Mirrors redun's `walk_dataflow_value`.

    Parameters
    ----------
    backend : RedunBackendDb
        The repository.
    value : ValueRef or Value
        The value; a `Task` counts as the value that it is recorded as, a `File` as its value.

    Yields
    ------
    DataflowEdge
        One edge: to the call that produced the value last, or to no origin.
    """
    for edge in await _list_edges(backend, value, "Value"):
        yield edge


async def walk_dataflow_callnode(
    backend: RedunBackendDb, call_node: Any
) -> AsyncGenerator[DataflowEdge, None]:
    """Iterate over the upstream edges of a call.

    Mirrors redun's `walk_dataflow_callnode`.

    Parameters
    ----------
    backend : RedunBackendDb
        The repository.
    call_node : CallNodeRef or CallNode
        The call.

    Yields
    ------
    DataflowEdge
        To its arguments, positional ones first; to None when it has none.
    """
    for edge in await _list_edges(backend, call_node, "CallNode"):
        yield edge


async def walk_dataflow_callnode_value(
    backend: RedunBackendDb, call_node_value: Any
) -> AsyncGenerator[DataflowEdge, None]:
    """Iterate over the upstream edges of a value within a result.

    Mirrors redun's `walk_dataflow_callnode_value`.

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
    """
    for edge in await _list_edges(backend, call_node_value, "CallNodeValue"):
        yield edge


async def walk_dataflow_argument_value(
    backend: RedunBackendDb, argument_value: Any
) -> AsyncGenerator[DataflowEdge, None]:
    """Iterate over the upstream edges of a value within an argument.

    Mirrors redun's `walk_dataflow_argument_value`.

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
        of the latest parent; to None when there is neither.
    """
    for edge in await _list_edges(backend, argument_value, "ArgumentValue"):
        yield edge


async def walk_dataflow_node(backend: RedunBackendDb, node: Any) -> AsyncGenerator[DataflowEdge, None]:
    """Iterate over the upstream edges of one node of any kind.

    Mirrors redun's `walk_dataflow_node`.

    Parameters
    ----------
    backend : RedunBackendDb
        The repository.
    node : DataflowNode or model
        The node.

    Yields
    ------
    DataflowEdge
        Its edges in redun's order.

    Raises
    ------
    TypeError
        The object is no dataflow node.
    """
    for edge in await _list_edges(backend, node, get_node_kind(node)):
        yield edge


async def walk_dataflow(
    backend: RedunBackendDb,
    init_node: Any,
    *,
    max_depth: int | None = None,
    max_edges: int | None = None,
    after: int = 0,
    look_ahead: int = MAX_LIMIT,
) -> AsyncGenerator[DataflowEdge, None]:
    """Walk everything that a node came from, depth first (mirrors redun's `walk_dataflow`).

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
    bounds = Bounds(max_depth, max_edges, after, look_ahead)
    async with aclosing(walk(Loader(backend.database, UPSTREAM), init_node, bounds)) as edges:
        async for edge in edges:
            yield edge


async def walk_downstream(
    backend: RedunBackendDb,
    init_node: Any,
    *,
    max_depth: int | None = None,
    max_edges: int | None = None,
    after: int = 0,
    look_ahead: int = MAX_LIMIT,
) -> AsyncGenerator[DataflowEdge, None]:
    """Walk everything that was derived from a node, depth first: what must be redone if it was wrong.

    - A value leads to every argument that is or holds it and, where it is a task, to every call of it; then
      to what was made of a result that is or holds it.
    - An argument leads to its call, then to the arguments of child calls that share the value followed.
    - A call leads to its result.
    - A result leads to the arguments that were made of it, then to the results of its parent calls.

    One value shares another if it is the other, holds it, is a part of it or has a part in common with it.
    Arguments made of another part of a result than the one followed are left out; a result that an argument
    holds is followed as that part of it. redun has no such walk.

    Parameters
    ----------
    backend : RedunBackendDb
        The repository.
    init_node : ValueRef, CallNodeRef, ArgumentValue, CallNodeValue or a model's instance
        Where to begin: a `File` counts as its value, a `Task` as the value that it is recorded as.
    max_depth, max_edges, after, look_ahead : int, optional
        See `walk_dataflow`.

    Yields
    ------
    DataflowEdge
        `dest` was derived from `src`; None where nothing was. Siblings come in the order in which they
        were recorded, then by hash, so the order is the same every time.
    """
    bounds = Bounds(max_depth, max_edges, after, look_ahead)
    async with aclosing(walk(Loader(backend.database, DOWNSTREAM), init_node, bounds)) as edges:
        async for edge in edges:
            yield edge
