"""Neighbourhoods of many nodes in a fixed number of statements, for a walk in one direction."""

from __future__ import annotations

from heapq import merge
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import sqlalchemy as sa

from aredun.dataflow import statements
from aredun.dataflow.nodes import Key, TaskRef, ValueRef, get_identity, get_key, make_key, parse_key
from aredun.dataflow.steps import Entry, Reach, Step, count_arguments, get_sort_key, make_rank, make_step
from aredun.errors import UsageError
from aredun.formats.arguments import read_parameters
from aredun.loop.pacing import PIECE_SIZE, iter_parts, list_in_turns, take_turn
from aredun.storage.graph import get_graph_dialect

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence

    from sqlalchemy.ext.asyncio import AsyncSession

    from aredun.dataflow.nodes import DataflowNode
    from aredun.dataflow.statements import Transition
    from aredun.storage import Database
    from aredun.storage.graph import GraphDialect

# The steps out of one node, as they are found. Most nodes have one: a list for each would be a lot for the
# garbage collector to follow.
Siblings: TypeAlias = "Step | list[Step] | None"
# A node whose edges are to be loaded: its hash, the value followed, and the latest parent of the call or of
# the argument's call where it is known.
WantedNode: TypeAlias = tuple[str, str, str | None]


class Direction(NamedTuple):
    """What a walk upstream and a walk downstream have for themselves.

    Attributes
    ----------
    transitions : tuple of Transition
        The kinds of edges.
    find_value_edges : callable
        Returns the edges out of a value as such: rows of the edges statement without the index.
    parent : str
        Expression for what transitions find in the column `next` of a node of a `{kind}` and a `{hash}`.
    ordered : int, optional
        Number of the transition whose edges out of one argument are ordered by another statement.
    make_order_statement : callable, optional
        Returns that statement: `(index of the argument, call, order)`, the greatest first.
    choose : callable
        Returns which of the sorted steps out of a node are walked.
    """

    transitions: tuple[Transition, ...]
    find_value_edges: Callable[[AsyncSession, str], Awaitable[list[Any]]]
    parent: str = "NULL"
    ordered: int | None = None
    make_order_statement: Callable[[GraphDialect], str] | None = None
    choose: Callable[[Iterable[Step]], Iterable[Step]] = iter


class Loader:
    """Loads the edges out of nodes.

    Parameters
    ----------
    database : Database
        Every load takes a short session of its own from it.
    direction : Direction
        Which edges.

    Attributes
    ----------
    tasks : dict of str to TaskRef
        All tasks that were met so far, by hash.
    """

    def __init__(self, database: Database, direction: Direction) -> None:
        self._database = database
        self._direction = direction
        self._dialect = get_graph_dialect(database.dialect_name)
        self.tasks: dict[str, TaskRef] = {}
        self._unreadable: set[str] = set()
        self._reach_statement = statements.make_reach_statement(
            self._dialect, direction.transitions, direction.parent
        )
        self._edges_statement = statements.make_edges_statement(
            self._dialect, direction.transitions, direction.parent
        )

    async def load_start(self, node: Any) -> DataflowNode:
        """Return the light node of a start node, read from the database where the hashes do not suffice.

        Raises
        ------
        UsageError
            The database has no such call or argument.
        """
        kind, node_hash, value_hash = get_identity(node)
        if kind == "V":
            return ValueRef(node_hash)
        statement, name = (statements.ARGUMENT, "argument") if kind == "A" else (statements.CALL, "call node")

        async def operation(session: AsyncSession) -> DataflowNode:
            found = (await session.execute(statement, {"hash": node_hash})).first()
            if found is None:
                raise UsageError(f"There is no {name} {node_hash} in this repository.")
            call, task, result, *argument = found
            value = None if kind == "C" else value_hash
            step = Step(get_key(node), make_rank(0), call, task, result, value, *argument)
            [step] = await self.complete(session, [step])
            return step.make_node(None, self.tasks)

        return await self._database.read(operation)

    async def load_layer(self, keys: Sequence[Key]) -> dict[Key, Entry]:
        """Return the entries of calls, arguments and results, or of one value, in at most four statements."""
        if not keys:
            return {}
        first_kind, first_hash, _ = parse_key(keys[0])

        async def operation(session: AsyncSession) -> dict[Key, Entry]:
            if first_kind == "V":
                return {keys[0]: await self._load_value(session, first_hash)}
            await self._dialect.prepare(session)
            wanted: dict[str, dict[Key, WantedNode]] = {kind: {} for kind in statements.KINDS}
            for key in keys:
                kind, node_hash, value_hash = parse_key(key)
                wanted[kind][key] = (node_hash, value_hash, None)
            return await self.load_edges(session, wanted)

        return await self._database.read(
            operation, transaction=self._dialect.needs_preparation and first_kind != "V"
        )

    async def load_reach(
        self,
        seeds: Sequence[Key],
        limit: int,
        is_known: Callable[[Key], bool],
        stop: Collection[str],
        note: Callable[[Sequence[Key]], None],
    ) -> Reach:
        """Return the entries of some nodes and of what a walk reaches from them, in at most six statements.

        Parameters
        ----------
        seeds : sequence of Key
            Keys of the nodes to begin with; their entries are always loaded.
        limit : int
            Most nodes to look at.
        is_known : callable
            Tells whether the node of a key needs no entry any more.
        stop : collection of str
            Hashes of calls that are not to be followed.
        note : callable
            Is told the keys of the nodes that were met, before their entries are loaded.
        """
        parameters = {
            **self._dialect.bind("seeds", [parse_key(key) for key in seeds], 3),
            **self._dialect.bind_strings("stop", list(stop)),
            "limit": limit,
        }
        first = set(seeds)

        async def operation(session: AsyncSession) -> Reach:
            await self._dialect.prepare(session)
            wanted: dict[str, dict[Key, WantedNode]] = {kind: {} for kind in statements.KINDS}
            known_calls: list[str] = []
            count = 0
            async for rows in self._dialect.fetch(session, self._reach_statement, 4, parameters):
                count += len(rows)
                for kind, node_hash, value_hash, parent in rows:
                    key = make_key(kind, node_hash, value_hash)
                    if key in first or not is_known(key):
                        wanted[kind][key] = (node_hash, value_hash, parent)
                    elif kind == "C":
                        known_calls.append(node_hash)
            note([key for nodes in wanted.values() for key in nodes])
            entries = await self.load_edges(session, wanted)
            return Reach(entries, count, known_calls, count >= limit)

        return await self._database.read(operation, transaction=self._dialect.needs_preparation)

    async def load_edges(
        self, session: AsyncSession, wanted: Mapping[str, Mapping[Key, WantedNode]]
    ) -> dict[Key, Entry]:
        """Return the entries of nodes by kind."""
        parameters: dict[str, Any] = {}
        for kind, nodes in wanted.items():
            # Each step of the preparation takes some milliseconds for thousands of nodes.
            await take_turn()
            parameters.update(self._dialect.bind(kind, list(nodes.values()), 3))
        await take_turn()
        found: dict[str, list[Siblings]] = {kind: [None] * len(nodes) for kind, nodes in wanted.items()}
        targets = [found[transition.kind] for transition in self._direction.transitions]
        # Most steps share the rank of their transition.
        ranks = [make_rank(number) for number in range(len(targets))]
        calls: dict[str, str] = {}
        async for rows in self._dialect.fetch(
            session, self._edges_statement, statements.EDGE_WIDTH, parameters
        ):
            for number, index, call, task, result, value, arg, own_value, position, name, order, time in rows:
                if task is not None:
                    calls[call] = task
                rank = ranks[number] if time is None and not order else make_rank(number, order, time)
                step = make_step(rank, call, task, result, value, arg, own_value, position, name)
                siblings = targets[number][index]
                if siblings is None:
                    targets[number][index] = step
                elif type(siblings) is list:
                    siblings.append(step)
                else:
                    targets[number][index] = [siblings, step]
        counts = await self._load_tasks(session, calls)
        await self._order(session, wanted["A"].values(), found["A"])
        entries: dict[Key, Entry] = {}
        for kind, nodes in wanted.items():
            for number, (key, steps) in enumerate(zip(nodes, found[kind], strict=True), 1):
                if isinstance(steps, list):
                    entries[key] = await self._sort(steps)
                else:
                    entries[key] = () if steps is None else (steps,)
                if number % PIECE_SIZE == 0:
                    await take_turn()
        if counts:
            entries = {key: count_arguments(entry, counts) for key, entry in entries.items()}
        return entries

    async def _load_value(self, session: AsyncSession, value_hash: str) -> Entry:
        """Return the entry of a value as such."""
        rows = await self._direction.find_value_edges(session, value_hash)
        steps = await list_in_turns(
            make_step(make_rank(number, order, time), *columns) for number, *columns, order, time in rows
        )
        return await self.complete(session, await self._sort(steps))

    async def _order(
        self, session: AsyncSession, arguments: Iterable[WantedNode], found: Sequence[Siblings]
    ) -> None:
        """Rank the edges of an argument that only another statement orders, where there are several."""
        ordered, make_statement = self._direction.ordered, self._direction.make_order_statement
        several = [
            (arg_hash, steps)
            for (arg_hash, _, _), steps in zip(arguments, found, strict=True)
            if type(steps) is list and sum(step.rank[0] == ordered for step in steps) > 1
        ]
        if not several or make_statement is None:
            return
        hashes = sorted({arg_hash for arg_hash, _ in several})
        parameters = self._dialect.bind("A", [(arg_hash,) for arg_hash in hashes], 1)
        rows = await session.execute(sa.text(make_statement(self._dialect)), parameters)
        orders = dict(
            await list_in_turns(((hashes[index], call), -(order or 0)) for index, call, order in rows)
        )
        for arg_hash, steps in several:
            await take_turn()
            for place, step in enumerate(steps):
                if step.rank[0] == ordered:
                    order = orders.get((arg_hash, step.call_hash), 0)
                    steps[place] = step._replace(rank=make_rank(step.rank[0], order))

    async def _sort(self, steps: list[Step]) -> Entry:
        """Return steps in their order; very many are sorted in parts, which are merged."""
        if len(steps) <= PIECE_SIZE:
            return tuple(self._direction.choose(sorted(steps, key=get_sort_key)))
        parts = await list_in_turns(sorted(part, key=get_sort_key) for part in iter_parts(steps))
        return tuple(await list_in_turns(self._direction.choose(merge(*parts, key=get_sort_key))))

    async def complete(self, session: AsyncSession, steps: Sequence[Step]) -> Entry:
        """Load the tasks of steps; return steps that know the numbers of arguments of their calls where that
        is needed.
        """
        calls: Any = {step.call_hash: step.task_hash for step in steps}
        return count_arguments(steps, await self._load_tasks(session, calls))

    async def _load_tasks(self, session: AsyncSession, calls: Mapping[str, str]) -> dict[str, int]:
        """Load the tasks of calls; count the arguments of calls whose tasks do not tell their names."""
        task_hashes = set(calls.values())
        missing = sorted(task_hashes - self.tasks.keys())
        if missing:
            statement = statements.make_tasks_statement(self._dialect)
            found = await session.execute(statement, self._dialect.bind_strings("tasks", missing))
            tasks = ((row[0], TaskRef(row[0], *(text or "" for text in row[1:]))) for row in found)
            self.tasks.update(await list_in_turns(tasks))
            for task_hash in missing:
                await take_turn()
                task = self.tasks.setdefault(task_hash, TaskRef(task_hash, task_hash[:8]))
                if read_parameters(task.source)[0] is None:
                    self._unreadable.add(task_hash)
        uncounted = [call for call, task in calls.items() if task in self._unreadable]
        if not uncounted:
            return {}
        statement = statements.make_counts_statement(self._dialect)
        found = await session.execute(statement, self._dialect.bind_strings("calls", uncounted))
        return dict(await list_in_turns((call, count) for call, count in found))
