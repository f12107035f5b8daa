"""One transaction of records: their rows, in the order of their keys, and what follows from them."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING, Final

from aredun.loop.pacing import iter_parts, run_in_turns
from aredun.models import Argument, CallEdge
from aredun.storage.record_rows import get_existing, insert_rows, write_new
from aredun.storage.rows import ROW_TABLES
from aredun.transfer.record_fields import KINDS
from aredun.transfer.records.derive import (
    derive,
    derive_unknown_subtrees,
    drop_errors,
    get_facts,
    update_current,
)
from aredun.transfer.records.window import collect_rows

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Sequence

    from sqlalchemy.ext.asyncio import AsyncSession

    from aredun.storage import Database
    from aredun.storage.rows import Row
    from aredun.storage.value_store import ValueStore
    from aredun.transfer.record_fields import ParsedRecord
    from aredun.transfer.records.derive import CallFacts, Derived

# The tables of what belongs to a call node.
_CALL_TABLES: Final[tuple[str, ...]] = ("argument", "argument_result", "call_edge")


@dataclass(slots=True)
class Draft:
    """What a transaction is to write.

    Attributes
    ----------
    rows : dict
        Sorted rows by table, without those of `parts`.
    parts : dict
        Sorted rows of what belongs to call nodes, by table.
    calls : int
        The number of call nodes.
    derived : Derived
        What follows from those.
    """

    rows: dict[str, list[Row]]
    parts: dict[str, list[Row]]
    calls: int
    derived: Derived


async def draft(items: Sequence[ParsedRecord], value_store: ValueStore | None, min_size: int) -> Draft:
    """Prepare the writing of records; the bytes of large values go into the value store.

    Parameters
    ----------
    items : sequence of ParsedRecord
        In an order in which each comes after what it needs, if that is not in the database.
    value_store : ValueStore, optional
        Takes the bytes of values of at least `min_size` bytes.
    """
    made = await run_in_turns(_draft(items))
    if value_store is not None:
        made.rows["value"] = await _store_large(made.rows.get("value", []), value_store, min_size)
    return made


def _draft(items: Sequence[ParsedRecord]) -> Generator[None, None, Draft]:
    rows: dict[str, list[Row]] = {}
    calls: list[CallFacts] = []
    for part in iter_parts(items):
        for table, more in collect_rows(part).items():
            rows.setdefault(table, []).extend(more)
        calls += [get_facts(item) for item in part if item.kind == "CallNode"]
        yield
    for table, own in rows.items():
        # Jobs stay parents first; every writer has them in that order, so no deadlock can form.
        if table != "job":
            own.sort(key=attrgetter(*ROW_TABLES[table].key))
            yield
    parts = {table: rows.pop(table) for table in _CALL_TABLES if table in rows}
    return Draft(rows, parts, len(calls), (yield from derive(calls)))


async def write_draft(database: Database, made: Draft, evaluations: Iterable[Row]) -> Counter[str]:
    """Write what was prepared in one transaction, with what follows from it; count the new ones by kind.

    Parameters
    ----------
    database : Database
        Where to write.
    made : Draft
        What to write.
    evaluations : iterable of Row
        Rows of `evaluation` that are known, and count more than what follows from the calls.
    """
    rows, derived = made.rows, made.derived
    types = {row.value_hash: row.type for row in rows.get("value", ())}
    tags = [row.tag_hash for row in rows.get("tag", ())]
    tags += [row.parent_id for row in rows.get("tag_edit", ())]

    async def operation(session: AsyncSession, all_new: bool) -> Counter[str]:
        new = await insert_rows(session, rows, all_new=all_new)
        if made.calls:
            known = new.get("call_node", 0) < made.calls
            own = await _drop_known(session, made.parts) if known else made.parts
            steps = await drop_errors(session, derived.evaluations, types)
            steps |= {row.eval_hash: row for row in evaluations}
            follows = {"call_subtree_task": derived.subtree_rows, "evaluation": sorted(steps.values())}
            await insert_rows(session, {**own, **follows}, all_new=all_new)
        if derived.unknown:
            tasks = await derive_unknown_subtrees(session, derived)
            await insert_rows(session, {"call_subtree_task": tasks}, all_new=all_new)
        if tags:
            await update_current(session, tags)
        return Counter({kind.name: new.get(kind.table, 0) for kind in KINDS.values()})

    return await write_new(database, operation)


async def _drop_known(session: AsyncSession, parts: dict[str, list[Row]]) -> dict[str, list[Row]]:
    """Return the parts of those call nodes that have none yet."""
    # redun exports the children of a call in no certain order, and the place of an edge is part of its key:
    # a second copy would double the children. A call node that was there has all of its parts; PostgreSQL
    # shows those of another writer together with its call nodes.
    arguments = parts.get("argument", [])
    edges = parts.get("call_edge", [])
    known = await get_existing(session, Argument.call_hash, {row.call_hash for row in arguments})
    known |= await get_existing(session, CallEdge.parent_id, {row.parent_id for row in edges})
    known_arguments = {row.arg_hash for row in arguments if row.call_hash in known}
    return {
        "argument": [row for row in arguments if row.call_hash not in known],
        "argument_result": [
            row for row in parts.get("argument_result", ()) if row.arg_hash not in known_arguments
        ],
        "call_edge": [row for row in edges if row.parent_id not in known],
    }


async def _store_large(rows: Sequence[Row], value_store: ValueStore, min_size: int) -> list[Row]:
    """Put the bytes of large values into the value store; return the rows with placeholders."""
    limit = asyncio.Semaphore(8)
    kept = list(rows)

    async def store(index: int, row: Row) -> None:
        async with limit:
            await value_store.put(row.value_hash, row.value)
        kept[index] = row._replace(value=b"")

    async with asyncio.TaskGroup() as group:
        for index, row in enumerate(rows):
            if row.value and sys.getsizeof(row.value) >= min_size:
                group.create_task(store(index, row))
    return kept
