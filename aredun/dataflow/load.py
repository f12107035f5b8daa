"""Neighbourhoods of many nodes in a fixed number of statements, for an upstream walk."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from aredun.dataflow import statements
from aredun.dataflow.bulk import KEY, VALUE, BulkLoader, Entry, Wanted, sort_by_kind
from aredun.dataflow.decide import (
    Candidate,
    Key,
    Step,
    count_arguments,
    find_origin,
    get_call_key,
    make_key,
    parse_key,
    sort_parents,
    sort_steps,
)
from aredun.dataflow.nodes import CallNodeValue
from aredun.dataflow.refs import DECODE_CHUNK, in_chunks

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy.ext.asyncio import AsyncSession

    from aredun.database import Database
    from aredun.dataflow.nodes import DataflowNode


# Steps out of one node that are sorted in a thread.
MANY_STEPS = 2_000


class Loader(BulkLoader):
    """Loads entries for an upstream walk.

    Parameters
    ----------
    database : Database
        Every load takes a short session of its own from it.
    """

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self.reach_statement = statements.make_reach_statement(self._dialect)

    async def load_layer(self, keys: Sequence[Key]) -> dict[Key, Entry]:
        """Return the entries of some nodes, in at most four statements.

        Parameters
        ----------
        keys : sequence of Key
            Keys of calls, arguments and results, or of one value.

        Returns
        -------
        dict of Key to Entry
            The steps out of every node, in the order of the walk.
        """
        kind, value_hash, _ = parse_key(keys[0])
        if kind == "V":
            return {keys[0]: await self._load_value(value_hash)}
        return await self.load_nodes(keys)

    async def _load_value(self, value_hash: str) -> Entry:
        """Return the step from a value to the call that it came from, none for an origin."""

        async def operation(session: AsyncSession) -> Entry:
            found = await session.execute(sa.text(statements.CANDIDATES), {"value": value_hash})
            candidates = [Candidate(*row) async for row in in_chunks(found)]
            if not candidates:
                return ()
            found = await session.execute(sa.text(statements.ANCESTRY), {"value": value_hash})
            edges = [(row[0], row[1], row[2]) async for row in in_chunks(found)]
            origin = await asyncio.to_thread(lambda: find_origin(candidates, sort_parents(edges)))
            if origin is None:
                return ()
            call_hash, task_hash, result_hash, _ = origin
            counts = await self.load_tasks(session, {call_hash: task_hash})
            key = make_key("C", call_hash)
            return ((key, call_hash, task_hash, result_hash, counts.get(call_hash, 0)),)

        return await self._database.read(operation)

    def complete(self, node: DataflowNode) -> Sequence[Step | None]:
        """Return the steps out of a node whose entry is empty: `None` for an origin."""
        if type(node) is CallNodeValue:
            # No single child returned the value: it is the call's own.
            call_node = node.call_node
            task, value = call_node.task, call_node.value
            key = make_key("C", call_node.call_hash)
            return ((key, call_node.call_hash, task.hash, value.value_hash, call_node.argument_count),)
        return (None,)

    def complete_keys(self, key: Key) -> Sequence[Key]:
        """Return the keys of the nodes that `complete` leads to."""
        call_key = get_call_key(key)
        return () if call_key is None else (call_key,)

    async def load_edges(
        self, session: AsyncSession, nodes: Sequence[Wanted], *, with_parents: bool
    ) -> dict[Key, Entry]:
        """Return the entries of some nodes; see `BulkLoader.load_edges`."""
        wanted = sort_by_kind(nodes)
        parameters: dict[str, Any] = {}
        for kind, some in wanted.items():
            if some:
                bound: list[tuple[str | None, ...]]
                if kind == "a" and with_parents:
                    bound = [node[1:4] for node in some]
                else:
                    bound = [node[1:3] for node in some]
                # Each step of the preparation takes some milliseconds for thousands of nodes.
                await asyncio.sleep(0)
                parameters.update(self._dialect.bind(kind, bound, len(bound[0])))
        kinds = "".join(kind for kind, some in wanted.items() if some)
        statement = statements.make_edges_statement(self._dialect, kinds, with_parents)
        await asyncio.sleep(0)
        reader = _EdgeReader(wanted)
        await asyncio.sleep(0)
        async for rows in self._dialect.fetch(session, statement, 10, parameters):
            reader.add(rows)
        counts = await self.load_tasks(session, reader.calls)
        several = sorted({parse_key(key)[1] for key in reader.several})
        orders = await self._load_orders(session, several) if several else {}
        return await reader.finish(orders, counts)

    async def _load_orders(
        self, session: AsyncSession, arguments: Sequence[str]
    ) -> dict[str, dict[str, int]]:
        statement = sa.text(statements.make_order_statement(self._dialect))
        found = await session.execute(statement, self._dialect.bind("a", [(arg,) for arg in arguments], 1))
        orders: dict[str, dict[str, int]] = {}
        async for index, call_hash, call_order in in_chunks(found):
            orders.setdefault(arguments[index], {})[call_hash] = call_order
        return orders


class _EdgeReader:
    """Makes steps of the rows of an edges statement.

    Parameters
    ----------
    wanted : mapping
        The nodes that the statement was asked for, by kind.
    """

    def __init__(self, wanted: Mapping[str, Sequence[Wanted]]) -> None:
        self.calls: dict[str, str] = {}
        # Arguments with several upstream calls: their order is asked for.
        self.several: set[Key] = set()
        self._wanted = wanted
        self._entries: dict[Key, Entry] = {node[KEY]: () for some in wanted.values() for node in some}
        self._many: dict[Key, list[Step]] = {}

    def add(self, rows: Sequence[Sequence[Any]]) -> None:
        """Make the steps of some rows; see `make_edges_statement` for their columns."""
        calls, arguments, results = (self._wanted[kind] for kind in "car")
        for branch, index, h1, h2, h3, h4, h5, position, name, twice in rows:
            step: Step
            if branch == 0:
                node = calls[index]
                step = (make_key("A", h1, h2), None, None, None, 0, h2, h1, h2, position, name)
            elif branch == 1:
                node = arguments[index]
                step = (make_key("R", h1, h4), h1, h2, h3, 0, h4)
                self.calls[h1] = h2
            elif branch == 2:
                node = arguments[index]
                value = node[VALUE]
                step = (make_key("A", h1, value), h3, h4, h5, 0, value, h1, h2, position, name)
                self.calls[h3] = h4
            elif h1 is None:
                continue
            else:
                node = results[index]
                value = node[VALUE]
                step = (make_key("R", h1, value), h1, h2, h3, 0, value)
                self.calls[h1] = h2
            self._put(node[KEY], step, branch == 1)
            if twice:
                self._put(node[KEY], step, False)

    def _put(self, key: Key, step: Step, is_upstream: bool) -> None:
        entry = self._entries[key]
        if not entry:
            self._entries[key] = (step,)
        elif key in self._many:
            self._many[key].append(step)
        else:
            self._many[key] = [*entry, step]
        if entry and is_upstream:
            self.several.add(key)

    async def finish(
        self, orders: Mapping[str, Mapping[str, int]], counts: Mapping[str, int]
    ) -> dict[Key, Entry]:
        """Return the entries with their steps sorted."""
        entries = self._entries
        for number, (key, steps) in enumerate(self._many.items(), 1):
            order = orders.get(parse_key(key)[1]) if key in self.several else None
            if len(steps) > MANY_STEPS:
                entries[key] = await asyncio.to_thread(sort_steps, steps, order)
            else:
                entries[key] = sort_steps(steps, order)
            if number % DECODE_CHUNK == 0:
                await asyncio.sleep(0)
        if counts:
            for key, entry in entries.items():
                entries[key] = count_arguments(entry, counts)
        return entries
