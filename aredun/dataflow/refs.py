"""Light nodes of what a repository holds: start nodes, tasks and calls, for walks in either direction."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from aredun.database.graph import get_graph_dialect
from aredun.dataflow import statements
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
from aredun.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Collection, Sequence

    from sqlalchemy.ext.asyncio import AsyncSession

    from aredun.database import Database
    from aredun.dataflow.nodes import DataflowNode

# Rows that are decoded before others get the event loop.
DECODE_CHUNK = 500


class RefLoader:
    """Loads tasks and calls.

    Parameters
    ----------
    database : Database
        Every load takes a short session of its own from it.

    Attributes
    ----------
    tasks : dict of str to TaskRef
        All tasks that were met so far, by hash.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._dialect = get_graph_dialect(database.dialect_name)
        self.tasks: dict[str, TaskRef] = {}
        self._unreadable: set[str] = set()

    async def load_start(self, node: Any) -> DataflowNode:
        """Return the light node of a start node, read from the database where the hashes do not suffice.

        Parameters
        ----------
        node : DataflowNode
            What the walk was asked to begin at.

        Returns
        -------
        DataflowNode
            The node with its task and its call.

        Raises
        ------
        UsageError
            The database has no such call or argument.
        """
        kind, node_hash, value_hash = get_identity(node)
        if kind == "V":
            return ValueRef(node_hash)

        async def operation(session: AsyncSession) -> DataflowNode:
            if kind == "A":
                found = (await session.execute(sa.text(statements.ARGUMENT), {"hash": node_hash})).first()
                if found is None:
                    raise UsageError(f"There is no argument {node_hash} in this repository.")
                owner = await self._load_call(session, found[2:5])
                argument = ArgumentRef(found[0], owner, ValueRef(found[1]), found[5], found[6])
                return ArgumentValue(argument, ValueRef(value_hash))
            found = (await session.execute(sa.text(statements.CALL), {"hash": node_hash})).first()
            if found is None:
                raise UsageError(f"There is no call node {node_hash} in this repository.")
            call_node = await self._load_call(session, found)
            return call_node if kind == "C" else CallNodeValue(call_node, ValueRef(value_hash))

        return await self._database.read(operation)

    async def _load_call(self, session: AsyncSession, row: Sequence[Any]) -> CallNodeRef:
        call_hash, task_hash, value_hash = row
        counts = await self.load_tasks(session, {call_hash: task_hash})
        return CallNodeRef(call_hash, self.tasks[task_hash], ValueRef(value_hash), counts.get(call_hash, 0))

    async def load_tasks(self, session: AsyncSession, calls: dict[str, str]) -> dict[str, int]:
        """Load the tasks of calls that are not known yet.

        Parameters
        ----------
        session : AsyncSession
            An open session.
        calls : dict of str to str
            Hashes of tasks by the hashes of their calls.

        Returns
        -------
        dict of str to int
            Numbers of arguments of the calls whose tasks do not tell the names of their arguments.
        """
        task_hashes = set(calls.values())
        await self._load_missing(session, task_hashes - self.tasks.keys())
        if self._unreadable.isdisjoint(task_hashes):
            return {}
        uncounted = [call for call, task in calls.items() if task in self._unreadable]
        statement = sa.text(statements.make_counts_statement(self._dialect))
        found = await session.execute(statement, self._dialect.bind_strings("calls", uncounted))
        return {row[0]: row[1] async for row in in_chunks(found)}

    async def _load_missing(self, session: AsyncSession, missing: Collection[str]) -> None:
        if not missing:
            return
        statement = sa.text(statements.make_tasks_statement(self._dialect))
        found = await session.execute(statement, self._dialect.bind_strings("tasks", sorted(missing)))
        async for task_hash, name, namespace, source in in_chunks(found):
            self.tasks[task_hash] = TaskRef(task_hash, name or "", namespace or "", source or "")
        for task_hash in missing:
            task = self.tasks.setdefault(task_hash, TaskRef(task_hash, task_hash[:8]))
            try:
                get_task_args(task)
            except SyntaxError:
                self._unreadable.add(task_hash)


async def in_chunks(found: Any) -> AsyncGenerator[Any, None]:
    """Yield rows of a result, letting others have the event loop now and then."""
    while rows := found.fetchmany(DECODE_CHUNK):
        for row in rows:
            yield row
        await asyncio.sleep(0)
