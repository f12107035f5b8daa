"""Copying what plans hold: values, calls, and executions with their jobs, by a copier each."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING

from aredun.loop.pacing import run_in_turns, take_turn
from aredun.transfer.records.groups import Group, GroupWriter
from aredun.transfer.records.packed_ids import pack, pack_all, unpack_all
from aredun.transfer.records.read import iter_ahead, iter_batches
from aredun.transfer.records.refusals import SYNC, Refusals, describe_missing_bytes
from aredun.transfer.records.window import Window, split_window
from aredun.transfer.sync.executions import ExecutionCopier
from aredun.transfer.sync.report import Progress, SyncReport
from aredun.transfer.sync.source import CheckedReader
from aredun.transfer.sync.tags import TagCopier

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Collection, Sequence

    from aredun.storage.rows import Row
    from aredun.transfer.record_fields import ParsedRecord
    from aredun.transfer.records.groups import Destination
    from aredun.transfer.records.packed_ids import Packed
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
        self._reader = CheckedReader(source, self._refusals, progress, self.slots, workers, batch_size)
        self._tags = TagCopier(self._reader, destination.database)
        self._groups = GroupWriter(destination, self._refusals, self._note_written)
        self._values = RecordCopier("Value", self._reader, self._groups, self._tags)
        self._calls = RecordCopier("CallNode", self._reader, self._groups, self._tags)
        self._executions = ExecutionCopier(self._reader, destination.database, self._tags)
        # Values of single steps are no records: they count for nothing, until a later plan owns them.
        silent = replace(
            self._reader, refusals=self._refusals.without_telling(), progress=Progress(SyncReport())
        )
        groups = GroupWriter(destination, silent.refusals, self._note_cached)
        self._cached_values = RecordCopier("Value", silent, groups, self._tags)
        # Sizes of new values that only the cache of single steps holds so far.
        self._cached: dict[Packed, int] = {}
        # Values and executions are copied plan after plan.
        self._values_lock = asyncio.Lock()
        self._executions_lock = asyncio.Lock()

    def _note_written(self, items: Sequence[ParsedRecord], new: Counter[str]) -> None:
        self._progress.add_written(items, new)
        self._tags.discard(pack_all([item.id for item in items if item.kind == "Tag"]))

    def _note_cached(self, items: Sequence[ParsedRecord], new: Counter[str]) -> None:
        if new["Value"] == len(items):
            self._cached.update((pack(item.id), item.size) for item in items)

    async def copy_values(self, plan: SyncPlan) -> SyncPlan:
        """Copy values, those with subvalues last; this may go on beside `copy_calls` of the plan before."""
        async with self._values_lock:
            self._tags.begin(plan)
            for copier, keys in (
                (self._values, self._pass_over_cached(plan)),
                (self._cached_values, plan.cached),
            ):
                await copier.copy(sorted(keys, key=plan.parents.__contains__))
        return plan

    def _pass_over_cached(self, plan: SyncPlan) -> list[Packed]:
        """Count values that went in as what single steps are cached as; return those still to be copied."""
        known = self._cached.keys() & set(plan.records["Value"])
        for key in known:
            self._progress.report.count("Value", 1)
            self._progress.report.bytes += self._cached.pop(key)
        values = [key for key in plan.missing["Value"] if key not in known]
        self._progress.step(len(plan.missing["Value"]) - len(values))
        return values

    async def copy_calls(self, plan: SyncPlan) -> SyncPlan:
        """Copy calls, whose values are there; this may go on beside the same for the next plan."""
        await self._calls.copy(plan.missing["CallNode"])
        return plan

    async def copy_executions(self, plan: SyncPlan) -> None:
        """Copy the rest; when this returns, the executions are there with all that they own."""
        async with self._executions_lock:
            await self._executions.copy(plan.missing["Execution"], plan.missing["Job"])
            await self._tags.end(plan, self._groups)
            await self._end(plan)

    async def count(self, plan: SyncPlan) -> None:
        """Count what copying would write, and write nothing; values without their bytes are refused."""
        left_out: set[Packed] = set()
        for part in self._reader.cut(plan.missing["Value"]):
            for value_hash in await self.source.find_incomplete(unpack_all(part)):
                reason = describe_missing_bytes(self.source.incomplete[value_hash])
                self._refusals.refuse("Value", value_hash, reason)
                left_out.add(pack(value_hash))
        for kind, keys in plan.missing.items():
            number = sum(key not in left_out for key in keys)
            self._progress.report.count(kind, number)
            self._progress.step(number)
        await self._end(plan)

    async def _end(self, plan: SyncPlan) -> None:
        await self.source.forget(unpack_all([*plan.records["CallNode"], *plan.records["Job"]]))
        self._progress.report.roots_done += plan.roots
        self._progress.step(0)

    def finish(self) -> None:
        """Refuse what never came to be complete."""
        self._tags.refuse_late()


class RecordCopier:
    """Copies values, or calls, with the tags that go in along with them.

    Parameters
    ----------
    kind : str
        `Value` or `CallNode`.
    reader : CheckedReader
        Reads them.
    groups : GroupWriter
        Writes them.
    tags : TagCopier
        Gives their tags.
    """

    def __init__(self, kind: str, reader: CheckedReader, groups: GroupWriter, tags: TagCopier) -> None:
        self._kind = kind
        self._reader = reader
        self._refusals = reader.refusals
        self._groups = groups
        self._tags = tags
        # What is not there yet: to be read, waiting for others, or being written.
        self._pending: set[Packed] = set()
        # Set once all is copied that was to be copied last.
        self._copied = asyncio.Event()
        self._copied.set()

    async def copy(self, keys: Sequence[Packed]) -> None:
        """Copy records, each after those of its kind that it needs; two such copies may go on at a time."""
        before, self._copied = self._copied, asyncio.Event()
        copied = self._copied
        self._pending.update(keys)
        waiting: list[ParsedRecord] = []
        batches = iter_batches(keys, self._reader.batch_size)
        async with aclosing(iter_ahead(self._copy_batch, batches, self._reader.workers - 1)) as copies:
            async for rest in copies:
                if rest:
                    waiting = await self._write_ready([*waiting, *rest], self._pending)
        if waiting:
            await before.wait()
            waiting = await self._write_ready(waiting, ())
            self._refusals.refuse_dependent(waiting)
        # All of them are there now, or were refused.
        self._pending.difference_update(keys)
        copied.set()

    async def _copy_batch(self, keys: Sequence[Packed]) -> list[ParsedRecord]:
        """Copy those records of a batch that need nothing that is still to come; return the others."""
        waiting: list[ParsedRecord] = []
        async for items in self._reader.read(self._kind, keys):
            waiting += await self._write_ready(items, self._pending)
        return waiting

    async def _write_ready(
        self, items: list[ParsedRecord], pending: Collection[Packed]
    ) -> list[ParsedRecord]:
        """Write those of the items that need nothing that was refused or is pending; return the others."""

        def find_lacking(kind: str, ids: set[str]) -> set[str]:
            lacking = ids & self._refusals.ids.get(kind, set())
            if kind == self._kind and pending:
                needed = list(ids)
                keys = zip(needed, pack_all(needed), strict=True)
                lacking.update(each for each, key in keys if key in pending)
            return lacking

        ready = items
        waiting: list[ParsedRecord] = []
        # Most values have no parts: they need nothing.
        if self._kind != "Value" or any(item.parts for item in items):
            ready, waiting = await split_window(items, find_lacking)
        if ready:
            async with self._reader.slots:
                await self._write(ready)
            await take_turn()
            self._pending.difference_update(pack_all([item.id for item in ready]))
            self._reader.progress.step(len(ready))
        return waiting

    async def _write(self, items: list[ParsedRecord]) -> None:
        steps = await self._get_steps(items) if self._kind == "CallNode" else {}
        owners = self._tags.find_owners(pack_all([item.id for item in items]))
        if owners:
            provided = {need for item in items for need in item.provides()}
            tags = await self._tags.read(owners, provided)
            items, _ = await run_in_turns(Window([*items, *tags]).split({}))
        await self._groups.write(Group(items, steps))

    async def _get_steps(self, calls: Sequence[ParsedRecord]) -> dict[str, Row]:
        """Return what single steps of calls are cached as, without what was refused."""
        refused = self._refusals.ids.get("Value", ())
        steps = await self._reader.source.get_steps(calls)
        return {
            call_hash: row
            for call_hash, row in steps.items()
            if row.task_hash not in refused and row.value_hash not in refused
        }
