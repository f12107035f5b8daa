"""The walk the other way: everything that was derived from a value, a file, a task or a call."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from aredun.dataflow import downstream_statements as statements
from aredun.dataflow.bulk import KEY, BulkLoader, Entry, Wanted, sort_by_kind
from aredun.dataflow.decide import (
    CALL,
    TASK,
    Key,
    Step,
    count_arguments,
    make_key,
    parse_key,
)
from aredun.dataflow.engine import Walk
from aredun.dataflow.lookahead import MAX_LIMIT
from aredun.dataflow.nodes import argument_order
from aredun.dataflow.refs import DECODE_CHUNK, in_chunks

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from sqlalchemy.ext.asyncio import AsyncSession

    from aredun.backend import RedunBackendDb
    from aredun.database import Database
    from aredun.dataflow.nodes import DataflowEdge, DataflowNode


def walk_downstream(
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
        `dest` was derived from `src`; None where nothing was. Siblings come in the order in which they
        were recorded, then by hash, so the order is the same every time.

    Raises
    ------
    UsageError
        A bound is negative, or the repository has no such call or argument.
    TypeError
        The object is no dataflow node.
    """
    walk = Walk(
        DownstreamLoader(backend.database),
        max_depth=max_depth,
        max_edges=max_edges,
        after=after,
        look_ahead=look_ahead,
    )
    return walk.run(init_node)


class DownstreamLoader(BulkLoader):
    """Loads entries for a downstream walk.

    Parameters
    ----------
    database : Database
        Every load takes a short session of its own from it.
    """

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self.reach_statement = statements.make_downstream_reach_statement(self._dialect)

    async def load_layer(self, keys: Sequence[Key]) -> dict[Key, Entry]:
        """Return the entries of some nodes, or of one value, in at most three statements."""
        kind, value_hash, _ = parse_key(keys[0])
        if kind == "V":
            return {keys[0]: await self._load_value(value_hash)}
        return await self.load_nodes(keys)

    async def _load_value(self, value_hash: str) -> Entry:
        async def operation(session: AsyncSession) -> Entry:
            found = await session.execute(sa.text(statements.USES_OF_VALUE), {"value": value_hash})
            steps: dict[Key, tuple[Any, Step]] = {}
            async for rank, *row in in_chunks(found):
                order, step = _make_step(rank, row)
                steps[step[0]] = order, step
            rows = list(steps.values())
            counts = await self.load_tasks(session, {step[1]: step[2] for _, step in rows})
            await asyncio.to_thread(rows.sort, key=_first)
            return count_arguments(tuple(step for _, step in rows), counts)

        return await self._database.read(operation)

    async def load_edges(
        self, session: AsyncSession, nodes: Sequence[Wanted], *, with_parents: bool
    ) -> dict[Key, Entry]:
        """Return the entries of some nodes; see `BulkLoader.load_edges`. Parents make no difference
        downstream.
        """
        wanted = sort_by_kind(nodes)
        parameters: dict[str, Any] = {}
        for kind, some in wanted.items():
            if some:
                parameters.update(self._dialect.bind(kind, [node[1:3] for node in some], 2))
        kinds = "".join(kind for kind, some in wanted.items() if some)
        statement = statements.make_downstream_edges_statement(self._dialect, kinds)
        found: dict[Key, dict[Key, tuple[Any, Step]]] = {node[KEY]: {} for node in nodes}
        calls: dict[str, str] = {}
        async for chunk in self._dialect.fetch(session, statement, 12, parameters):
            for branch, index, *row in chunk:
                order, step = _make_step(_RANKS[branch], row)
                calls[step[CALL]] = step[TASK]
                steps = found[wanted[_KINDS[branch]][index][KEY]]
                # A child that was called again is one way all the same: the first call counts.
                if step[0] not in steps or order < steps[step[0]][0]:
                    steps[step[0]] = (order, step)
        counts = await self.load_tasks(session, calls)
        entries: dict[Key, Entry] = {}
        for number, (key, ordered) in enumerate(found.items(), 1):
            rows = list(ordered.values())
            if len(rows) > 1:
                rows.sort(key=_first)
            entries[key] = count_arguments(tuple(step for _, step in rows), counts)
            if number % DECODE_CHUNK == 0:
                await asyncio.sleep(0)
        return entries

    def complete(self, node: DataflowNode) -> Sequence[Step | None]:
        """Return the steps out of a node whose entry is empty: nothing was derived from it."""
        return (None,)

    def complete_keys(self, key: Key) -> Sequence[Key]:
        """Return the keys of the nodes that `complete` leads to: none."""
        return ()


# Of the branches of `make_downstream_edges_statement`: what they start from, and their places among siblings.
_KINDS = "aacrr"
_RANKS = (0, 1, 0, 0, 1)


def _make_step(rank: int, row: Sequence[Any]) -> tuple[Any, Step]:
    """Return a step and its sort key among its siblings; NULL timestamps come first."""
    call, task, result, value, arg, own_value, position, name, call_order, time = row
    step: Step
    place: tuple[Any, ...] = ()
    if value is None:
        step = (make_key("C", call), call, task, result, 0)
    elif arg is None:
        step = (make_key("R", call, value), call, task, result, 0, value)
    else:
        step = (make_key("A", arg, value), call, task, result, 0, value, arg, own_value, position, name)
        place = argument_order(position, name, arg)
    return (rank, call_order, time is not None, time or 0, call, place), step


def _first(row: tuple[Any, Step]) -> Any:
    return row[0]
