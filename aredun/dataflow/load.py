"""Neighbourhoods of many nodes in a fixed number of statements, for an upstream walk."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from aredun.dataflow import statements
from aredun.dataflow.bulk import BulkLoader, Entry, Wanted, parse_key
from aredun.dataflow.decide import (
    Candidate,
    Step,
    call_key,
    count_arguments,
    find_origin,
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

    async def load_layer(self, keys: Sequence[str]) -> dict[str, Entry]:
        """Return the entries of some nodes, in at most four statements.

        Parameters
        ----------
        keys : sequence of str
            Keys of calls, arguments and results, or of one value.

        Returns
        -------
        dict of str to Entry
            The steps out of every node, in the order of the walk.
        """
        if keys[0][0] == "V":
            return {keys[0]: await self._load_value(keys[0][1:])}
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
            return ((call_key(call_hash), call_hash, task_hash, result_hash, counts.get(call_hash, 0)),)

        return await self._database.read(operation)

    def complete(self, node: DataflowNode) -> Sequence[Step | None]:
        """Return the steps out of a node whose entry is empty: `None` for an origin."""
        if type(node) is CallNodeValue:
            # No single child returned the value: it is the call's own.
            call_node = node.call_node
            task, value = call_node.task, call_node.value
            call_hash = call_node.call_hash
            return ((call_key(call_hash), call_hash, task.hash, value.value_hash, call_node.argument_count),)
        return (None,)

    def get_keys(self, key: str, entry: Entry) -> Sequence[str]:
        """Return the keys of the nodes that an entry leads to."""
        if entry or key[0] != "R":
            return [step[0] for step in entry]
        return [call_key(key[1:].partition("/")[0])]

    async def load_edges(
        self, session: AsyncSession, nodes: Sequence[Wanted], *, with_parents: bool
    ) -> dict[str, Entry]:
        """Return the entries of some nodes; see `BulkLoader.load_edges`."""
        wanted: dict[str, list[Wanted]] = {"c": [], "a": [], "r": []}
        for node in nodes:
            wanted[node[0][0].lower()].append(node)
        parameters: dict[str, Any] = {}
        for kind, some in wanted.items():
            if some:
                end = 4 if kind == "a" and with_parents else 3
                # Each step of the preparation takes some milliseconds for thousands of nodes.
                await asyncio.sleep(0)
                parameters.update(self._dialect.bind(kind, [node[1:end] for node in some], end - 1))
        kinds = "".join(kind for kind, some in wanted.items() if some)
        statement = statements.make_edges_statement(self._dialect, kinds, with_parents)
        await asyncio.sleep(0)
        reader = _EdgeReader(wanted)
        await asyncio.sleep(0)
        async for row in self._dialect.fetch(session, statement, 10, parameters):
            reader.add(row)
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
        self.several: set[str] = set()
        self._entries: dict[str, Entry] = {node[0]: () for some in wanted.values() for node in some}
        self._many: dict[str, list[Step]] = {}
        self._calls, self._arguments, self._results = (
            [node[0] for node in wanted[kind]] for kind in ("c", "a", "r")
        )

    def add(self, row: Sequence[Any]) -> None:
        """Make the step of one row; see `make_edges_statement` for its columns."""
        branch, index, h1, h2, h3, h4, h5, position, name, twice = row
        step: Step
        if branch == 0:
            key = self._calls[index]
            step = (f"A{h1}/{h2}", None, None, None, 0, h2, h1, h2, position, name)
        elif branch == 1:
            key = self._arguments[index]
            step = (f"R{h1}/{h4}", h1, h2, h3, 0, h4)
            self.calls[h1] = h2
        elif branch == 2:
            key = self._arguments[index]
            value_hash = key.partition("/")[2]
            step = (f"A{h1}/{value_hash}", h3, h4, h5, 0, value_hash, h1, h2, position, name)
            self.calls[h3] = h4
        elif h1 is None:
            return
        else:
            key = self._results[index]
            value_hash = key.partition("/")[2]
            step = (f"R{h1}/{value_hash}", h1, h2, h3, 0, value_hash)
            self.calls[h1] = h2
        for _ in range(1 + twice):
            entry = self._entries[key]
            if not entry:
                self._entries[key] = (step,)
                continue
            if key not in self._many:
                self._many[key] = list(entry)
            self._many[key].append(step)
            if branch == 1:
                self.several.add(key)

    async def finish(
        self, orders: Mapping[str, Mapping[str, int]], counts: Mapping[str, int]
    ) -> dict[str, Entry]:
        """Return the entries with their steps sorted."""
        entries = self._entries
        for number, (key, steps) in enumerate(self._many.items(), 1):
            order = orders.get(parse_key(key)[1])
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
