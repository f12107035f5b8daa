"""Reading records of a source by their packed ids, in batches, checked by their hashes."""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING

from aredun.loop.pacing import iter_parts, take_turn
from aredun.transfer.records.check import check_in_turns, check_items
from aredun.transfer.records.packed_ids import pack_all, unpack_all
from aredun.transfer.records.read import NOT_STORED, iter_ahead, iter_batches
from aredun.transfer.records.refusals import NOT_FOUND, describe_missing_bytes

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Sequence

    from aredun.transfer.record_fields import ParsedRecord
    from aredun.transfer.records.packed_ids import Packed
    from aredun.transfer.records.refusals import Refusals
    from aredun.transfer.sync.report import SyncReport
    from aredun.transfer.sync.source import Source


class CheckedReader:
    """Reads records, and refuses those that are not there or not what their hash says.

    Parameters
    ----------
    source : Source
        Where to read.
    refusals : Refusals
        Is told what is refused.
    report : SyncReport
        Counts what cannot be checked.
    workers : int
        Batches that are read at a time.
    batch_size : int
        Records in one batch.
    """

    def __init__(
        self, source: Source, refusals: Refusals, report: SyncReport, *, workers: int, batch_size: int
    ) -> None:
        self.source = source
        self.refusals = refusals
        self._report = report
        self.workers = workers
        self.batch_size = batch_size

    def cut(self, keys: Sequence[Packed]) -> list[Sequence[Packed]]:
        """Return keys in batches."""
        return list(iter_parts(keys, self.batch_size))

    async def read_unchecked(self, kind: str, keys: Sequence[Packed]) -> AsyncIterator[list[ParsedRecord]]:
        """Yield batches in order, while the next ones are being read."""

        async def read(part: Sequence[Packed]) -> list[list[ParsedRecord]]:
            await take_turn()
            return [items async for items in self.source.iter_items(kind, unpack_all(part))]

        # Values may be large: one batch of them at a time.
        ahead = 0 if kind == "Value" else self.workers - 1
        async for batch in iter_ahead(read, iter_batches(keys, self.batch_size), ahead):
            for items in batch:
                yield items

    def read(self, kind: str, keys: Sequence[Packed]) -> AsyncIterator[list[ParsedRecord]]:
        """Yield the good ones of each batch in order; refuse the others."""
        return self._check_all(kind, keys, self.read_unchecked(kind, keys))

    def read_leaves(self, keys: Sequence[Packed]) -> AsyncIterator[list[ParsedRecord]]:
        """Yield the good ones of one batch of values, as if none had subvalues; refuse the others."""
        return self._check_all("Value", keys, self.source.iter_leaves(unpack_all(keys)))

    async def _check_all(
        self, kind: str, keys: Sequence[Packed], batches: AsyncIterator[list[ParsedRecord]]
    ) -> AsyncIterator[list[ParsedRecord]]:
        # Records refer to these ids, but the source may have no such records, or no database such ids.
        async for items in self.refuse_unread(kind, keys, batches, NOT_FOUND):
            yield await self._check(items)

    async def refuse_unread(
        self, kind: str, keys: Iterable[Packed], batches: AsyncIterator[list[ParsedRecord]], reason: str
    ) -> AsyncIterator[list[ParsedRecord]]:
        """Yield batches; refuse what is in none of them."""
        unread = set(keys)
        async for items in batches:
            unread.difference_update(pack_all([item.id for item in items]))
            yield items
        for record_id in unpack_all(sorted(unread, key=str)):
            self.refusals.refuse(kind, record_id, reason)

    async def _check(self, items: Sequence[ParsedRecord]) -> list[ParsedRecord]:
        """Return those whose hashes are right, or cannot be computed; refuse the others."""
        present: list[ParsedRecord] = []
        for item in items:
            if item.kind == "Value" and not item.size:
                reason = self.source.incomplete.get(item.id, NOT_STORED)
                self.refusals.refuse(item.kind, item.id, describe_missing_bytes(reason))
            else:
                present.append(item)
        good: list[ParsedRecord] = []
        async for checked in check_in_turns(check_items, present, attrgetter("size")):
            good += checked.right
            good += checked.mismatched
            self._report.unverified += checked.unverifiable + len(checked.mismatched)
            for item, error in checked.wrong:
                self.refusals.refuse_wrong(item, error)
        return good
