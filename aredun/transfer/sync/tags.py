"""Copying tags: along with what they hang on, in its transaction, or later."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aredun.loop.pacing import run_in_turns
from aredun.storage.record_rows import find_existing
from aredun.transfer.record_fields import KEYS
from aredun.transfer.records.groups import Group
from aredun.transfer.records.packed_ids import pack, pack_all, unpack_all
from aredun.transfer.records.refusals import NO_OWNER
from aredun.transfer.records.window import Window, split_window

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from aredun.storage import Database
    from aredun.transfer.record_fields import Need, ParsedRecord
    from aredun.transfer.records.groups import GroupWriter
    from aredun.transfer.records.packed_ids import Packed
    from aredun.transfer.sync.plan import SyncPlan
    from aredun.transfer.sync.source import CheckedReader


class TagCopier:
    """The tags that a destination lacks, by what they go in with; writes those that could not go in so.

    Parameters
    ----------
    reader : CheckedReader
        Reads them.
    destination : Database
        Where to write them.
    """

    def __init__(self, reader: CheckedReader, destination: Database) -> None:
        self._reader = reader
        self._refusals = reader.refusals
        self._destination = destination
        self._of_owner: dict[Packed, list[Packed]] = {}
        self._pending: set[Packed] = set()
        # Tags that refer to a record of a later plan, or of none.
        self._late: list[Packed] = []

    def begin(self, plan: SyncPlan) -> None:
        """Take over the tags that the destination lacks of a plan."""
        lacking = plan.missing["Tag"]
        if lacking:
            self._pending.update(lacking)
            self._of_owner.update(plan.tags_of)

    async def end(self, plan: SyncPlan, groups: GroupWriter) -> None:
        """Forget a plan, and copy those of its tags that have not gone in, after those of earlier plans."""
        tags = plan.missing["Tag"]
        if tags:
            for owner in plan.tags_of:
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
        items = await self._read(keys)
        refused = self._refusals.ids
        items, blocked = await split_window(items, lambda kind, ids: ids & refused.get(kind, set()))
        self._refusals.refuse_dependent(blocked)
        window = Window(items)
        lacking = await run_in_turns(window.find_missing())
        for kind, ids in lacking.items():
            ids -= await find_existing(self._destination, *KEYS[kind], ids)
        ready, waiting = await run_in_turns(window.split(lacking))
        async with self._reader.slots:
            await groups.write(Group(ready))
        kept = set(pack_all([item.id for item in waiting]))
        self.discard(key for key in keys if key not in kept)
        return [key for key in keys if key in kept]

    async def _read(self, keys: Sequence[Packed]) -> list[ParsedRecord]:
        """Return tags, but for those that were refused, with their owners or by themselves."""
        pairs = zip(keys, unpack_all(keys), strict=True)
        unrefused = [key for key, tag_hash in pairs if ("Tag", tag_hash) not in self._refusals]
        return [
            item
            for part in self._reader.cut(unrefused)
            async for items in self._reader.read("Tag", part)
            for item in items
        ]

    def discard(self, keys: Iterable[Packed]) -> None:
        """Take note that tags have gone in, or never will."""
        gone = self._pending.intersection(keys)
        self._pending -= gone
        if gone:
            self._reader.progress.step(len(gone))

    def find_owners(self, keys: Iterable[Packed]) -> list[Packed]:
        """Return those of some records with which tags are to go in."""
        of_owner = self._of_owner
        return [key for key in keys if key in of_owner] if of_owner else []

    async def read(self, owners: Iterable[Packed], provided: Collection[Need]) -> list[ParsedRecord]:
        """Return the tags that go in with some records, given all that is in the transaction.

        Those need nothing but what is provided, each other, and tags that have gone in.
        """
        keys = dict.fromkeys(
            tag for owner in self.find_owners(owners) for tag in self._of_owner[owner] if tag in self._pending
        )

        def find_lacking(kind: str, ids: set[str]) -> set[str]:
            if kind == "Tag":
                return {each for each in ids if pack(each) in self._pending}
            return {each for each in ids if (kind, each) not in provided}

        ready, _ = await split_window(await self._read(list(keys)), find_lacking)
        return ready
