"""Which tags go in along with what they hang on, in its transaction, and which are left for later."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aredun.records.keys import pack, pack_all, unpack_all

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Iterable

    from aredun.record_fields import Need, ParsedRecord
    from aredun.records.keys import Key
    from aredun.sync.missing import Missing
    from aredun.sync.plan import Plan
    from aredun.sync.source import Source


class PendingTags:
    """The tags that a destination lacks, by what they go in with.

    Parameters
    ----------
    source : Source
        Where they are read.
    verify : callable
        Refuses those that are not what their hash says, and returns the others.
    """

    def __init__(
        self, source: Source, verify: Callable[[list[ParsedRecord]], Awaitable[list[ParsedRecord]]]
    ) -> None:
        self._source = source
        self._verify = verify
        self._of_owner: dict[Key, list[Key]] = {}
        self._pending: set[Key] = set()
        # Those that could not go in with their plan: what they need comes with a later one, or never.
        self.late: list[Key] = []

    def __contains__(self, key: Key) -> bool:
        return key in self._pending

    def begin(self, missing: Missing) -> None:
        """Take over the tags that the destination lacks of a plan."""
        lacking = missing.records["Tag"]
        if lacking:
            self._pending.update(lacking)
            self._of_owner.update(missing.plan.tags_of)

    def end(self, missing: Missing) -> list[Key]:
        """Forget a plan; return those of its tags that have not gone in, after those of earlier plans."""
        if missing.records["Tag"]:
            for owner in missing.plan.tags_of:
                self._of_owner.pop(owner, None)
        left, self.late = self.late, []
        return [*left, *(key for key in missing.records["Tag"] if key in self._pending)]

    def discard(self, keys: Iterable[Key]) -> None:
        """Take note that tags have gone in, or never will."""
        self._pending.difference_update(keys)

    def find_owners(self, keys: Iterable[Key]) -> list[Key]:
        """Return those of some records with which tags are to go in."""
        of_owner = self._of_owner
        return [key for key in keys if key in of_owner] if of_owner else []

    async def read(self, owners: Iterable[Key], provided: Collection[Need]) -> list[ParsedRecord]:
        """Return the tags that go in with some records, given all that is in the transaction."""
        keys = dict.fromkeys(
            tag for owner in self.find_owners(owners) for tag in self._of_owner[owner] if tag in self._pending
        )
        if not keys:
            return []
        items: list[ParsedRecord] = []
        async for some in self._source.iter_items("Tag", unpack_all(keys)):
            good = await self._verify(some)
            if len(good) < len(some):
                # Refused once, not by every transaction that they could be in.
                self.discard(pack_all([item.id for item in some if item not in good]))
            items += good
        return self._choose(items, provided)

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


def note_owners(plan: Plan, owners: dict[str, str], pairs: Iterable[tuple[str, str]]) -> None:
    """Note in a plan which records tags go in with: a tag that has an owner keeps it.

    Parameters
    ----------
    plan : Plan
        Its `tags_of` is added to.
    owners : dict
        The owner of each tag that has one so far.
    pairs : iterable of (str, str)
        Tags and what each goes in with.
    """
    for tag, owner in pairs:
        if owners.setdefault(tag, owner) is owner:
            (key,) = pack_all([tag])
            plan.tags_of.setdefault(pack(owner), []).append(key)


__all__ = ["PendingTags", "note_owners"]
