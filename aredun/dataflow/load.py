"""Neighbourhoods of many nodes in a fixed number of statements, for a walk in one direction."""

from __future__ import annotations

from dataclasses import dataclass, field
from heapq import merge
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from aredun.dataflow import statements
from aredun.dataflow.keys import Key, make_key, parse_key
from aredun.dataflow.naming import get_task_args
from aredun.dataflow.nodes import (
    ArgumentRef,
    ArgumentValue,
    CallNodeRef,
    CallNodeValue,
    TaskRef,
    ValueRef,
    get_identity,
)
from aredun.dataflow.sections import iter_unique
from aredun.dataflow.steps import Entry, Reach, Step, count_arguments, get_sort_key, make_rank, make_step
from aredun.errors import UsageError
from aredun.loop.pacing import PIECE_SIZE, iter_parts, list_in_turns, take_turn
from aredun.storage.graph import get_graph_dialect

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence

    from sqlalchemy.ext.asyncio import AsyncSession

    from aredun.dataflow.nodes import DataflowNode
    from aredun.dataflow.statements import Transition
    from aredun.storage import Database
    from aredun.storage.graph import GraphDialect

# The steps out of one node, as they are found.
Siblings: TypeAlias = "Step | list[Step] | None"


def _get_key(step: Step) -> Key:
    return step.key


class Direction(NamedTuple):
    """What a walk upstream and a walk downstream have for themselves.

    Attributes
    ----------
    transitions : tuple of Transition
        The kinds of edges.
    find_value_edges : callable
        Returns the edges out of a value as such: rows of the edges statement without the index.
    parent_of_argument, parent_of_seed : str
        Expressions for what transitions find in the column `next`, of an argument c1 and of a seed (c1, c2).
    ordered : int, optional
        Number of the transition whose edges out of one node are ordered by `find_orders`.
    find_orders : callable, optional
        Returns the ranks of calls by argument and call.
    repeats : bool
        Whether an edge that is found twice is walked twice.
    """

    transitions: tuple[Transition, ...]
    find_value_edges: Callable[[AsyncSession, str], Awaitable[list[Any]]]
    parent_of_argument: str = "NULL"
    parent_of_seed: str = "NULL"
    ordered: int | None = None
    find_orders: (
        Callable[[AsyncSession, GraphDialect, Sequence[str]], Awaitable[dict[tuple[str, str], int]]] | None
    ) = None
    repeats: bool = False


@dataclass
class WantedNodes:
    """Nodes of one kind whose edges are to be loaded, by column: texts are nothing for the garbage collector.

    Attributes
    ----------
    hashes, values : list of str
        The hashes of the nodes, and of the values that they stand for.
    parents : list of str or None
        The latest parent of an argument's call, where it is known.
    keys : list of Key
        The keys of the nodes.
    """

    hashes: list[str] = field(default_factory=list)
    values: list[str] = field(default_factory=list)
    parents: list[str | None] = field(default_factory=list)
    keys: list[Key] = field(default_factory=list)

    def add(self, node_hash: str, value_hash: str, parent: str | None, key: Key) -> None:
        """Add a node."""
        self.hashes.append(node_hash)
        self.values.append(value_hash)
        self.parents.append(parent)
        self.keys.append(key)


def _by_kind() -> dict[str, WantedNodes]:
    return {"C": WantedNodes(), "A": WantedNodes(), "R": WantedNodes()}


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
            self._dialect, direction.transitions, direction.parent_of_seed
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
            call_hash, task_hash, result_hash, *argument = found
            counts = await self._load_tasks(session, {call_hash: task_hash})
            count = counts.get(call_hash, 0)
            call_node = CallNodeRef(call_hash, self.tasks[task_hash], ValueRef(result_hash), count)
            if kind == "C":
                return call_node
            if kind == "R":
                return CallNodeValue(call_node, ValueRef(value_hash))
            arg_hash, own_value_hash, position, arg_key = argument
            own_value = ValueRef(own_value_hash)
            return ArgumentValue(
                ArgumentRef(arg_hash, call_node, own_value, position, arg_key), ValueRef(value_hash)
            )

        return await self._database.read(operation)

    async def load_layer(self, keys: Sequence[Key]) -> dict[Key, Entry]:
        """Return the entries of calls, arguments and results, or of one value, in at most four statements."""
        first_kind, first_hash, _ = parse_key(keys[0])

        async def operation(session: AsyncSession) -> dict[Key, Entry]:
            if first_kind == "V":
                return {keys[0]: await self._load_value(session, first_hash)}
            await self._dialect.prepare(session)
            wanted = _by_kind()
            for key in keys:
                kind, node_hash, value_hash = parse_key(key)
                wanted[kind].add(node_hash, value_hash, None, key)
            return await self.load_edges(session, wanted, with_parents=False)

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
            wanted = _by_kind()
            known_calls: list[str] = []
            count = 0
            async for rows in self._dialect.fetch(session, self._reach_statement, 4, parameters):
                count += len(rows)
                for kind, node_hash, value_hash, parent in rows:
                    key = make_key(kind, node_hash, value_hash)
                    if key in first or not is_known(key):
                        wanted[kind].add(node_hash, value_hash, parent, key)
                    elif kind == "C":
                        known_calls.append(node_hash)
            for nodes in wanted.values():
                note(nodes.keys)
            entries = await self.load_edges(session, wanted, with_parents=True)
            return Reach(entries, count, known_calls, count >= limit)

        return await self._database.read(operation, transaction=self._dialect.needs_preparation)

    async def load_edges(
        self, session: AsyncSession, wanted: Mapping[str, WantedNodes], *, with_parents: bool
    ) -> dict[Key, Entry]:
        """Return the entries of nodes by kind, with the latest parents of arguments' calls given or not."""
        transitions = self._direction.transitions
        parameters: dict[str, Any] = {}
        for kind, nodes in wanted.items():
            if nodes.keys:
                width = 3 if kind == "A" and with_parents else 2
                # Each step of the preparation takes some milliseconds for thousands of nodes.
                await take_turn()
                columns = (nodes.hashes, nodes.values, nodes.parents)[:width]
                parameters.update(self._dialect.bind(kind, list(zip(*columns, strict=True)), width))
        statement = statements.make_edges_statement(
            self._dialect,
            transitions,
            "".join(kind for kind, nodes in wanted.items() if nodes.keys),
            None if with_parents else self._direction.parent_of_argument,
        )
        await take_turn()
        # Most nodes have one step: a list for each would be a lot for the garbage collector to follow.
        found: dict[str, list[Siblings]] = {kind: [None] * len(nodes.keys) for kind, nodes in wanted.items()}
        targets = [found[transition.kind] for transition in transitions]
        # Most steps share the rank of their transition.
        ranks = [make_rank(number) for number in range(len(transitions))]
        calls: dict[str, str] = {}
        async for rows in self._dialect.fetch(session, statement, statements.EDGE_WIDTH, parameters):
            for number, index, call, task, result, value, arg, own_value, position, name, order, time in rows:
                if call is not None:
                    calls[call] = task
                elif arg is None:
                    # No single child returned the value: it is the call's own.
                    call = wanted["R"].hashes[index]
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
        await self._order(session, wanted["A"], found["A"])
        entries: dict[Key, Entry] = {}
        for kind, nodes in wanted.items():
            entries.update(await self._make_entries(nodes.keys, found[kind], counts))
        return entries

    async def _load_value(self, session: AsyncSession, value_hash: str) -> Entry:
        """Return the entry of a value as such."""
        rows = await self._direction.find_value_edges(session, value_hash)
        steps = await list_in_turns(
            make_step(make_rank(number, order, time), *columns) for number, *columns, order, time in rows
        )
        counts = await self._load_tasks(session, {call: task for _, call, task, *_ in rows})
        key = make_key("V", value_hash)
        return (await self._make_entries([key], [steps], counts))[key]

    async def _order(self, session: AsyncSession, arguments: WantedNodes, found: Sequence[Siblings]) -> None:
        """Rank the edges of a node that only another statement orders, where there are several."""
        ordered, find_orders = self._direction.ordered, self._direction.find_orders
        if ordered is None or find_orders is None:
            return
        several = [
            (arg_hash, steps)
            for arg_hash, steps in zip(arguments.hashes, found, strict=True)
            if type(steps) is list and sum(step.rank[0] == ordered for step in steps) > 1
        ]
        if not several:
            return
        hashes = sorted({arg_hash for arg_hash, _ in several})
        orders = await find_orders(session, self._dialect, hashes)
        for arg_hash, steps in several:
            await take_turn()
            for index, step in enumerate(steps):
                if step.rank[0] == ordered:
                    rank = make_rank(ordered, orders.get((arg_hash, step.call_hash or ""), 0))
                    steps[index] = step._replace(rank=rank)

    async def _make_entries(
        self, keys: Sequence[Key], found: Sequence[Siblings], counts: Mapping[str, int]
    ) -> dict[Key, Entry]:
        """Return entries with their steps in order."""
        entries: dict[Key, Entry] = {}
        for number, (key, steps) in enumerate(zip(keys, found, strict=True), 1):
            if isinstance(steps, list):
                steps = await _sort(steps)
                if not self._direction.repeats:
                    # A child that was called again is one edge all the same: the first call counts.
                    steps = await list_in_turns(iter_unique(steps, key=_get_key))
                entries[key] = tuple(steps)
            else:
                entries[key] = () if steps is None else (steps,)
            if number % PIECE_SIZE == 0:
                await take_turn()
        if counts:
            entries = {key: count_arguments(entry, counts) for key, entry in entries.items()}
        return entries

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
                try:
                    get_task_args(task)
                except SyntaxError:
                    self._unreadable.add(task_hash)
        if self._unreadable.isdisjoint(task_hashes):
            return {}
        uncounted = [call for call, task in calls.items() if task in self._unreadable]
        statement = statements.make_counts_statement(self._dialect)
        found = await session.execute(statement, self._dialect.bind_strings("calls", uncounted))
        return dict(await list_in_turns((call, count) for call, count in found))


async def _sort(steps: list[Step]) -> list[Step]:
    """Return steps in their order; very many are sorted in parts, which are merged."""
    if len(steps) <= PIECE_SIZE:
        return sorted(steps, key=get_sort_key)
    parts = await list_in_turns(sorted(part, key=get_sort_key) for part in iter_parts(steps))
    return await list_in_turns(merge(*parts, key=get_sort_key))
