"""Related of records, one transaction each: what the database refuses is found, and the rest goes in."""

from __future__ import annotations

from itertools import chain
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from aredun.errors import RedunDatabaseError
from aredun.storage.retry import halve, is_refusal, split_at_fault
from aredun.transfer.records.transaction import draft, write_draft

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from aredun.storage import Database
    from aredun.storage.rows import Row
    from aredun.storage.value_store import ValueStore
    from aredun.transfer.record_fields import ParsedRecord
    from aredun.transfer.records.refusals import Refusals
    from aredun.transfer.records.transaction import Draft

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
    chunks = []
    start = 0
    execution_id = None
    has_owner = False
    for position, item in enumerate(items):
        if item.kind == "Execution":
            execution_id = item.id
        elif item.kind == "Job" and item.row.execution_id == execution_id:
            continue
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
