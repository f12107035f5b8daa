"""Related of records, one transaction each: what the database refuses is found, and the rest goes in."""

from __future__ import annotations

import sys
from collections import Counter
from contextlib import aclosing
from dataclasses import dataclass
from itertools import chain
from operator import attrgetter
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

from aredun.errors import RedunDatabaseError
from aredun.loop.pacing import iter_parts, run_in_turns
from aredun.models import Argument, CallEdge
from aredun.storage.record_rows import get_existing, insert_rows, write_new
from aredun.storage.retry import halve, is_refusal, split_at_fault
from aredun.storage.rows import ROW_TABLES
from aredun.transfer.record_fields import KINDS
from aredun.transfer.records.derive import (
    derive,
    derive_unknown_subtrees,
    drop_errors,
    update_current,
)
from aredun.transfer.records.read import iter_ahead, iter_batches
from aredun.transfer.records.window import collect_rows

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator, Iterable, Mapping, Sequence

    from sqlalchemy.ext.asyncio import AsyncSession

    from aredun.storage import Database
    from aredun.storage.rows import Row
    from aredun.storage.value_store import ValueStore
    from aredun.transfer.record_fields import ParsedRecord
    from aredun.transfer.records.derive import Derived
    from aredun.transfer.records.refusals import Refusals

    OnWritten = Callable[[Sequence[ParsedRecord], Counter[str]], None]

T = TypeVar("T")


class Group(NamedTuple):
    """What goes in with one transaction.

    Attributes
    ----------
    items : sequence of ParsedRecord
        The records, arranged.
    steps : mapping
        Rows of `evaluation` that single steps of calls are cached as, by call hash.
    draft : Draft, optional
        What was prepared of them.
    """

    items: Sequence[ParsedRecord]
    steps: Mapping[str, Row] = MappingProxyType({})
    draft: Draft | None = None


class Destination(NamedTuple):
    """A repository to write to.

    Attributes
    ----------
    database : Database
        Its database.
    value_store : ValueStore, optional
        Takes the bytes of values of at least `min_size` bytes.
    min_size : int
        In bytes, as `sys.getsizeof` counts them.
    """

    database: Database
    value_store: ValueStore | None
    min_size: int


class GroupWriter:
    """Writes groups of records that need nothing but each other and what is there.

    Parameters
    ----------
    destination : Destination
        Where to write.
    refusals : Refusals
        Is told what the database refuses.
    on_written : callable
        Is given the records of each transaction, and how many of them were new by kind.
    """

    def __init__(self, destination: Destination, refusals: Refusals, on_written: OnWritten) -> None:
        self._destination = destination
        self._refusals = refusals
        self._on_written = on_written

    async def prepare(self, group: Group) -> Group:
        """Return a group whose rows are made: nothing but the transaction is left to do."""
        if group.draft is not None:
            return group
        _, value_store, min_size = self._destination
        return group._replace(draft=await draft(group.items, value_store, min_size))

    async def write(self, group: Group) -> None:
        """Write a group in one transaction; if it fails, find those at fault and write the others."""
        if group.items:
            await write_or_split(group, self._write, self._split)

    async def _write(self, group: Group) -> Sequence[Group]:
        items, steps, _ = group
        if orphans := self._refusals.find_orphans(items):
            self._refusals.refuse_dependent(orphans)
            kept = [item for item in items if item not in orphans]
            return [Group(kept, steps)] if kept else []
        made: Any = (await self.prepare(group)).draft
        self._on_written(items, await write_draft(self._destination.database, made, steps.values()))
        return []

    async def _split(self, group: Group, error: Exception) -> Sequence[Group]:
        parts = _split(group)
        if not parts:
            self._refusals.refuse_by_database(group.items, error)
        return parts


async def write_or_split(
    group: T,
    write: Callable[[T], Awaitable[Sequence[T]]],
    split: Callable[[T, Exception], Awaitable[Sequence[T]]],
) -> None:
    """Write a group in one transaction; where the database refuses it, write parts of it.

    Parameters
    ----------
    group : T
        The group.
    write : callable
        Writes a group, or returns others that are to be written in its place.
    split : callable
        Returns what is to be written in the place of a group that was refused, given the error; nothing where
        what is at fault stands alone.
    """

    async def attempt(part: T) -> Sequence[T]:
        try:
            return await write(part)
        except (RedunDatabaseError, ValueError, OverflowError) as error:
            if not is_refusal(error):
                raise
            return await split(part, error)

    await split_at_fault(group, attempt)


def _split(group: Group) -> list[Group]:
    """Return groups to try in the place of one that was refused, none if it cannot be taken apart."""
    items, steps, _ = group
    parts: list[Sequence[Any]] = halve(cut(items, 1))
    if parts:
        parts = [list(chain.from_iterable(half)) for half in parts]
    elif len({item.kind == "Tag" for item in items}) > 1:
        # A bad tag must not keep its owner out; a tag whose owner is refused is refused by the next write.
        parts = [[item for item in items if (item.kind == "Tag") is kind] for kind in (False, True)]
    elif steps:
        # A cached step may refer to a value that is lost; its call goes in without the step.
        return [Group(items)]
    return [Group(part, {each.id: steps[each.id] for each in part if each.id in steps}) for part in parts]


def cut(items: Sequence[ParsedRecord], size: int) -> list[Sequence[ParsedRecord]]:
    """Cut arranged records into transactions: an execution with its jobs, what is tagged with its tags."""
    executions = {item.id for item in items if item.kind == "Execution"}
    chunks = []
    start = 0
    execution_id = None
    has_owner = False
    for position, item in enumerate(items):
        own = item.row.execution_id if item.kind == "Job" else item.id
        if own in executions:
            if own == execution_id:
                continue
            execution_id = own
        if item.kind != "Tag":
            has_owner = True
        elif has_owner:
            continue
        if position - start >= size:
            chunks.append(items[start:position])
            start = position
    if start < len(items):
        chunks.append(items[start:])
    return chunks


# Values that are put into the value store while one is waited for.
STORED_AHEAD: Final = 7
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
    calls: list[ParsedRecord] = []
    for part in iter_parts(items):
        for table, more in collect_rows(part).items():
            rows.setdefault(table, []).extend(more)
        calls += [item for item in part if item.kind == "CallNode"]
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
    kept = list(rows)
    large = [place for place, row in enumerate(rows) if row.value and sys.getsizeof(row.value) >= min_size]

    async def store(places: Sequence[int]) -> None:
        for place in places:
            await value_store.put(rows[place].value_hash, rows[place].value)
            kept[place] = rows[place]._replace(value=b"")

    async with aclosing(iter_ahead(store, iter_batches(large, 1), STORED_AHEAD)) as stored:
        async for _ in stored:
            pass
    return kept
