"""Copying what plans hold: values, calls, and executions with their jobs, by a copier each."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from aredun.transfer.records.groups import GroupWriter
from aredun.transfer.records.packed_ids import pack, pack_all, unpack_all
from aredun.transfer.records.refusals import SYNC, Refusals, describe_missing_bytes
from aredun.transfer.sync.context import CopyContext
from aredun.transfer.sync.executions import ExecutionCopier
from aredun.transfer.sync.ordered import RecordCopier
from aredun.transfer.sync.reader import CheckedReader
from aredun.transfer.sync.report import Progress, SyncReport
from aredun.transfer.sync.tags import TagCopier

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Collection, Sequence

    from aredun.transfer.record_fields import ParsedRecord
    from aredun.transfer.records.groups import Destination
    from aredun.transfer.records.packed_ids import Packed
    from aredun.transfer.sync.missing import Missing
    from aredun.transfer.sync.plan import SyncPlan
    from aredun.transfer.sync.source import Source


class PlanCopier:
    """Copies plans from a source to a destination.

    Parameters
    ----------
    source, destination
        Where to read and to write.
    progress : Progress
        Keeps the report.
    workers : int
        Batches that are under way at a time.
    batch_size : int
        Records in one batch.
    """

    def __init__(
        self, source: Source, destination: Destination, progress: Progress, *, workers: int, batch_size: int
    ) -> None:
        self.source = source
        # Batches that may be begun.
        self.slots = asyncio.Semaphore(workers)
        self._progress = progress
        self._refusals = Refusals(progress.report.refused.append, SYNC)
        self._reader = CheckedReader(
            source, self._refusals, progress.report, workers=workers, batch_size=batch_size
        )
        context = CopyContext(self._reader, destination.database, self.slots, progress)
        self._tags = TagCopier(context)
        self._groups = GroupWriter(destination, self._refusals, self._note_written)
        self._values = RecordCopier("Value", context, self._groups, self._tags)
        self._calls = RecordCopier("CallNode", context, self._groups, self._tags)
        self._executions = ExecutionCopier(context, self._tags)
        # Values of single steps are no records: they count for nothing, until a later plan owns them.
        silent = self._refusals.without_telling()
        report = SyncReport()
        reader = CheckedReader(source, silent, report, workers=workers, batch_size=batch_size)
        self._cached_values = RecordCopier(
            "Value",
            context._replace(reader=reader, progress=Progress(report)),
            GroupWriter(destination, silent, self._note_cached),
            self._tags,
        )
        # Sizes of new values that only the cache of single steps holds so far.
        self._cached: dict[Packed, int] = {}
        # Set once the calls of the plan that was begun last are there.
        self._calls_copied = asyncio.Event()
        self._calls_copied.set()

    def _note_written(self, items: Sequence[ParsedRecord], new: Counter[str]) -> None:
        self._progress.add_written(items, new)
        self._tags.discard(pack_all([item.id for item in items if item.kind == "Tag"]))

    def _note_cached(self, items: Sequence[ParsedRecord], new: Counter[str]) -> None:
        if new["Value"] == len(items):
            self._cached.update((pack(item.id), item.size) for item in items)

    async def copy_values(self, missing: Missing) -> Missing:
        """Copy values; this may go on beside `copy_calls` of the plan before."""
        parents = missing.plan.parents
        self._tags.begin(missing)
        await _copy_values(self._values, self._pass_over_cached(missing), parents)
        await _copy_values(self._cached_values, missing.cached, parents)
        return missing

    def _pass_over_cached(self, missing: Missing) -> list[Packed]:
        """Count values that went in as what single steps are cached as; return those still to be copied."""
        known = self._cached.keys() & set(missing.plan.records["Value"])
        for key in known:
            self._progress.report.count("Value", 1)
            self._progress.report.bytes += self._cached.pop(key)
        values = [key for key in missing.records["Value"] if key not in known]
        self._progress.step(len(missing.records["Value"]) - len(values))
        return values

    async def copy_calls(self, missing: Missing) -> Missing:
        """Copy calls, whose values are there; this may go on beside the same for the next plan."""
        before, self._calls_copied = self._calls_copied, asyncio.Event()
        copied = self._calls_copied
        await self._calls.copy(missing.records["CallNode"], before)
        copied.set()
        return missing

    async def copy_executions(self, missing: Missing) -> Missing:
        """Copy the rest; when this returns, the executions are there with all that they own."""
        await self._executions.copy(missing.records["Execution"], missing.records["Job"])
        await self._tags.end(missing, self._groups)
        await self._end(missing.plan)
        return missing

    async def count(self, missing: Missing) -> Missing:
        """Count what copying would write, and write nothing; values without their bytes are refused."""
        for part in self._reader.cut(missing.records["Value"]):
            incomplete = await self.source.find_incomplete(unpack_all(part))
            for value_hash in incomplete:
                self._refusals.refuse(
                    "Value", value_hash, describe_missing_bytes(self.source.incomplete[value_hash])
                )
            left_out = set(pack_all(incomplete))
            missing.records["Value"] = [key for key in missing.records["Value"] if key not in left_out]
        for kind, keys in missing.records.items():
            self._progress.report.count(kind, len(keys))
            self._progress.step(len(keys))
        await self._end(missing.plan)
        return missing

    async def _end(self, plan: SyncPlan) -> None:
        await self.source.forget(unpack_all([*plan.records["CallNode"], *plan.records["Job"]]))
        self._progress.report.roots_done += plan.roots
        self._progress.step(0)

    def finish(self) -> None:
        """Refuse what never came to be complete."""
        self._tags.refuse_late()


async def _copy_values(copier: RecordCopier, keys: Sequence[Packed], parents: Collection[Packed]) -> None:
    """Copy values, first those without subvalues."""
    await copier.copy_leaves([key for key in keys if key not in parents])
    await copier.copy([key for key in keys if key in parents])
