"""Copying tags: along with what they hang on, in its transaction, or later."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aredun.loop.pacing import run_in_turns
from aredun.storage.record_rows import find_existing
from aredun.transfer.record_fields import KEYS
from aredun.transfer.records.groups import Group
from aredun.transfer.records.packed_ids import pack, pack_all, unpack_all
from aredun.transfer.records.refusals import NO_OWNER
from aredun.transfer.records.window import Window

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from aredun.transfer.record_fields import Need, ParsedRecord
    from aredun.transfer.records.groups import GroupWriter
    from aredun.transfer.records.packed_ids import Packed
    from aredun.transfer.sync.context import CopyContext
    from aredun.transfer.sync.missing import Missing


class TagCopier:
    """The tags that a destination lacks, by what they go in with; writes those that could not go in so.

    Parameters
    ----------
    context : CopyContext
        Where to read and to write them.
    """

    def __init__(self, context: CopyContext) -> None:
        self._reader, self._destination, self._slots, self._progress = context
        self._refusals = self._reader.refusals
        self._of_owner: dict[Packed, list[Packed]] = {}
        self._pending: set[Packed] = set()
        # Tags that refer to a record of a later plan, or of none.
        self._late: list[Packed] = []

    def begin(self, missing: Missing) -> None:
        """Take over the tags that the destination lacks of a plan."""
        lacking = missing.records["Tag"]
        if lacking:
            self._pending.update(lacking)
            self._of_owner.update(missing.plan.tags_of)

    async def end(self, missing: Missing, groups: GroupWriter) -> None:
        """Forget a plan, and copy those of its tags that have not gone in, after those of earlier plans."""
        tags = missing.records["Tag"]
        if tags:
            for owner in missing.plan.tags_of:
                self._of_owner.pop(owner, None)
        waiting = [*self._late, *(key for key in tags if key in self._pending)]
        count = -1
        while waiting and len(waiting) != count:
            count = len(waiting)
            parts, waiting = self._reader.cut(waiting), []
            for part in parts:
                waiting += await self._copy(part, groups)
        self._late = waiting

    def refuse_late(self) -> None:
        """Refuse the tags whose owner did not come."""
        for tag_hash in unpack_all(self._late):
            self._refusals.refuse("Tag", tag_hash, NO_OWNER)
        self.discard(self._late)

    async def _copy(self, keys: Sequence[Packed], groups: GroupWriter) -> list[Packed]:
        """Copy tags of what is there already; return those that need what is not."""
        window = Window(await self._read(keys))
        lacking = await run_in_turns(window.find_missing())
        refused: dict[str, set[str]] = {}
        for kind, ids in lacking.items():
            refused[kind] = ids & self._refusals.ids.get(kind, set())
            ids -= refused[kind]
            ids -= await find_existing(self._destination, *KEYS[kind], ids)
        ready, blocked = await run_in_turns(window.split(refused))
        self._refusals.refuse_dependent(blocked)
        window.add(ready)
        ready, waiting = await run_in_turns(window.split(lacking))
        async with self._slots:
            await groups.write(await groups.prepare(Group(ready)))
        kept = set(pack_all([item.id for item in waiting]))
        self.discard(key for key in keys if key not in kept)
        return [key for key in keys if key in kept]

    async def _read(self, keys: Collection[Packed]) -> list[ParsedRecord]:
        """Return tags, but for those that were refused, with their owners or by themselves."""
        pairs = zip(keys, unpack_all(keys), strict=True)
        unrefused = [key for key, tag_hash in pairs if ("Tag", tag_hash) not in self._refusals]
        return [item async for items in self._reader.read("Tag", unrefused) for item in items]

    def discard(self, keys: Iterable[Packed]) -> None:
        """Take note that tags have gone in, or never will."""
        gone = self._pending.intersection(keys)
        self._pending -= gone
        if gone:
            self._progress.step(len(gone))

    def find_owners(self, keys: Iterable[Packed]) -> list[Packed]:
        """Return those of some records with which tags are to go in."""
        of_owner = self._of_owner
        return [key for key in keys if key in of_owner] if of_owner else []

    async def read(self, owners: Iterable[Packed], provided: Collection[Need]) -> list[ParsedRecord]:
        """Return the tags that go in with some records, given all that is in the transaction."""
        keys = dict.fromkeys(
            tag for owner in self.find_owners(owners) for tag in self._of_owner[owner] if tag in self._pending
        )
        return self._choose(await self._read(keys), provided)

    def _choose(self, items: list[ParsedRecord], provided: Collection[Need]) -> list[ParsedRecord]:
        """Return those tags that need nothing but what is provided, each other, and what has gone in."""
        chosen: dict[str, ParsedRecord] = {}
        count = -1
        while count < len(chosen):
            count = len(chosen)
            for item in items:
                if item.id not in chosen and self._is_ready(item, provided, chosen):
                    chosen[item.id] = item
        return list(chosen.values())

    def _is_ready(self, item: ParsedRecord, provided: Collection[Need], chosen: Collection[str]) -> bool:
        if item.owner is not None and item.owner not in provided:
            return False
        parents = item.parents
        return all(parent in chosen or pack(parent) not in self._pending for parent in parents)
