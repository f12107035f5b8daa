"""Copying what a plan holds: what is owned before what owns it, read and written side by side."""

from __future__ import annotations

import asyncio
import copy
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from aredun.database.pacing import RECORDS_PER_PIECE, iter_parts, run_in_turns, take_turn
from aredun.database.record_rows import (
    find_existing,
    is_refusal,
)
from aredun.database.retry import halve, split_at_fault
from aredun.describe import shorten
from aredun.errors import InvalidRecordError, RedunDatabaseError
from aredun.record_fields import KEYS
from aredun.records.check import LARGE_DATA
from aredun.records.keys import pack, pack_all, unpack_all
from aredun.records.transaction import draft, write_draft
from aredun.records.window import Window
from aredun.sync.check import describe_loss, verify_items
from aredun.sync.pace import Writes
from aredun.sync.report import SyncReport
from aredun.sync.tags import PendingTags

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import AsyncIterator, Callable, Collection, Iterable, Sequence

    from aredun.database import Database
    from aredun.database.rows import Row
    from aredun.record_fields import ParsedRecord
    from aredun.records.keys import Key
    from aredun.sync.missing import Missing
    from aredun.sync.plan import Plan
    from aredun.sync.source import Source
    from aredun.value_store import ValueStore


class Destination:
    """A repository to write to."""

    def __init__(self, database: Database, value_store: ValueStore | None, min_size: int) -> None:
        self.database = database
        self._value_store = value_store
        self._min_size = min_size

    async def write(self, items: Sequence[ParsedRecord], evaluations: Sequence[Row]) -> Counter[str]:
        """Write records in one transaction; return how many were new by kind."""
        made = await draft(items, self._value_store, self._min_size)
        return await write_draft(self.database, made, evaluations)


class _Work(NamedTuple):
    """What goes in with one transaction.

    Attributes
    ----------
    kind : str
        That of the records.
    items : sequence of ParsedRecord
        The records.
    evaluations : sequence of Row, optional
        What single steps of them are cached as; None where that is to be asked for.
    with_tags : bool
        Their tags go in, too.
    """

    kind: str
    items: Sequence[ParsedRecord]
    evaluations: Sequence[Row] | None = ()
    with_tags: bool = True


class RecordCopier:
    """Copies values, calls and tags of plans from a source to a destination.

    Parameters
    ----------
    source, destination
        Where to read and to write.
    report : SyncReport
        Kept up to date.
    workers : int
        Batches that are under way at a time.
    batch_size : int
        Records in one batch.
    tell : callable
        Called after each batch.
    """

    def __init__(
        self,
        source: Source,
        destination: Destination,
        report: SyncReport,
        *,
        workers: int,
        batch_size: int,
        tell: Callable[[], None],
    ) -> None:
        self.source = source
        self._destination = destination
        self._report = report
        self._workers = workers
        # Sizes of new values that only the cache of single steps holds so far, and where those are noted.
        self._cached: dict[Key, int] = {}
        self._uncounted: dict[Key, int] | None = None
        # Batches that may be begun.
        self.slots = asyncio.Semaphore(workers)
        self._batch_size = batch_size
        self._tell = tell
        # What was refused: nothing that needs it may go in.
        self._absent: dict[str, set[str]] = {}
        # What is not there yet: to be read, waiting for others, or being written.
        self._pending: dict[str, set[Key]] = {"CallNode": set(), "Value": set()}
        self._tags = PendingTags(source, self._verify)
        # Set once the calls of the plan that was begun last are there.
        self._calls_copied = asyncio.Event()
        self._calls_copied.set()

    async def copy_values(self, missing: Missing) -> Missing:
        """Copy values; this may go on beside `copy_calls` of the plan before."""
        parents = missing.plan.parents
        self._tags.begin(missing)
        await self._copy_values(self._pass_over_cached(missing), parents)
        # Values of single steps are no records: they count for nothing, until a later plan owns them.
        silent = copy.copy(self)
        silent._report, silent._tell, silent._uncounted = SyncReport(), lambda: None, self._cached
        await silent._copy_values(missing.cached, parents)
        return missing

    def _pass_over_cached(self, missing: Missing) -> list[Key]:
        """Count values that went in as what single steps are cached as; return those still to be copied."""
        known = self._cached.keys() & set(missing.plan.values)
        for key in known:
            self._report.count("Value", 1)
            self._report.bytes += self._cached.pop(key)
        values = [key for key in missing.records["Value"] if key not in known]
        self._step(len(missing.records["Value"]) - len(values))
        return values

    async def _copy_values(self, keys: Sequence[Key], parents: Collection[Key]) -> None:
        await self._copy_leaves([key for key in keys if key not in parents])
        await self._copy_in_order("Value", [key for key in keys if key in parents])

    async def copy_calls(self, missing: Missing) -> Missing:
        """Copy calls, whose values are there; this may go on beside the same for the next plan."""
        before, self._calls_copied = self._calls_copied, asyncio.Event()
        copied = self._calls_copied
        await self._copy_in_order("CallNode", missing.records["CallNode"], before)
        copied.set()
        return missing

    async def finish(self) -> None:
        """Refuse the tags whose owner did not come."""
        for part in self._cut(await self._copy_tags(self._tags.late)):
            for tag_hash in unpack_all(part):
                self._refuse_id("Tag", tag_hash, "hangs on, or replaces, what is not at the destination")

    async def _copy_tags(self, keys: Sequence[Key]) -> list[Key]:
        """Copy tags of what is there already; return those that need what is not."""
        count = -1
        waiting = list(keys)
        while waiting and len(waiting) != count:
            count = len(waiting)
            parts, waiting = self._cut(waiting), []
            for part in parts:
                waiting += await self._copy_some_tags(part)
        return waiting

    async def _copy_some_tags(self, keys: list[Key]) -> list[Key]:
        unread = set(keys)
        window = Window()
        async for items in self.source.iter_items("Tag", unpack_all(keys)):
            unread.difference_update(pack_all([item.id for item in items]))
            window.add(await self._verify(items))
        self._refuse_unread("Tag", unread)
        lacking = await run_in_turns(window.find_missing())
        refused: dict[str, set[str]] = {}
        for kind, ids in lacking.items():
            refused[kind] = ids & self._absent.get("Value" if kind == "Task" else kind, set())
            ids -= refused[kind]
            ids -= await find_existing(self._destination.database, *KEYS[kind], ids)
        ready, blocked = await run_in_turns(window.split(refused))
        self._refuse_waiting(blocked)
        window.add(ready)
        ready, waiting = await run_in_turns(window.split(lacking))
        async with self.slots:
            await self._write("Tag", ready)
        kept = pack_all([item.id for item in waiting])
        self._tags.discard(set(keys).difference(kept))
        self._step(len(keys) - len(kept))
        return kept

    async def count(self, missing: Missing) -> Missing:
        """Count what copying would write, and write nothing; values without their bytes are refused."""
        for part in self._cut(missing.records["Value"]):
            lost = await self.source.find_lost(unpack_all(part))
            for value_hash in lost:
                self._refuse_id("Value", value_hash, describe_loss(self.source.lost[value_hash]))
            kept = set(pack_all(lost))
            missing.records["Value"] = [key for key in missing.records["Value"] if key not in kept]
        for kind, keys in missing.records.items():
            self._report.count(kind, len(keys))
            self._step(len(keys))
        await self._end(missing.plan)
        return missing

    async def _end(self, plan: Plan) -> None:
        await self.source.forget(unpack_all([*plan.calls, *plan.jobs]))
        self._report.roots_done += plan.roots
        self._step(0)

    def _step(self, records: int) -> None:
        self._report.done += records
        self._report.tick()
        self._tell()

    def _cut(self, keys: Sequence[Key]) -> list[list[Key]]:
        size = self._batch_size
        return [list(keys[start : start + size]) for start in range(0, len(keys), size)]

    async def _copy_leaves(self, keys: Sequence[Key]) -> None:
        """Copy values that need nothing, several batches at a time."""

        async def run(part: list[Key]) -> None:
            async with self.slots:
                unread = set(part)
                async for items in self.source.iter_leaves(unpack_all(part)):
                    unread.difference_update(pack_all([item.id for item in items]))
                    await self._write("Value", await self._verify(items))
                self._refuse_unread("Value", unread)
                self._step(len(part))

        async with asyncio.TaskGroup() as group:
            for part in self._cut(keys):
                group.create_task(run(part))

    async def _copy_in_order(
        self, kind: str, keys: Sequence[Key], before: asyncio.Event | None = None
    ) -> None:
        """Copy records that need others of their kind: each goes in once those are there.

        Some may need what is being copied until `before` is set.
        """
        pending = self._pending[kind]
        pending.update(keys)
        unread = set(keys)
        waiting: list[ParsedRecord] = []
        async with asyncio.TaskGroup() as group:
            # Values may be large, and tags are few: one batch of them at a time.
            writes = Writes(group, self.slots, self._workers if kind == "CallNode" else 1)
            async for items in self._read_ahead(kind, keys):
                await writes.wait_for_slot()
                waiting += await self._verify(items)
                unread.difference_update(pack_all([item.id for item in items]))
                absent = self._absent.get(kind, set())
                pending.difference_update(pack(item.id) for item in items if item.id in absent)
                waiting = await self._begin_write(kind, waiting, writes)
                while writes and len(waiting) >= self._workers * self._batch_size:
                    waiting = await self._go_on(kind, waiting, writes)
            self._refuse_unread(kind, unread)
            pending -= unread
            while writes:
                waiting = await self._go_on(kind, waiting, writes)
        if waiting and before is not None:
            await before.wait()
        if waiting:
            ready, waiting = await self._split_ready(kind, waiting, set())
            await self._write_ready(kind, ready)
            self._refuse_waiting(waiting)
            pending.difference_update(pack_all([item.id for item in waiting]))

    async def _begin_write(self, kind: str, items: list[ParsedRecord], writes: Writes) -> list[ParsedRecord]:
        """Begin to write those of the items that need nothing that is still to come; return the others."""
        ready, items = await self._split_ready(kind, items, self._pending[kind])
        if ready:
            writes.begin(self._write_ready(kind, ready))
        else:
            writes.leave_slot()
        return items

    async def _go_on(self, kind: str, items: list[ParsedRecord], writes: Writes) -> list[ParsedRecord]:
        """Wait until a write has ended, and begin to write those of the items that waited for it."""
        await writes.wait()
        if not items:
            return items
        await writes.wait_for_slot()
        return await self._begin_write(kind, items, writes)

    async def _get_evaluations(self, calls: Sequence[ParsedRecord]) -> list[Row]:
        """Return what single steps of calls are cached, without what was refused."""
        absent = self._absent.get("Value", ())
        rows = await self.source.get_evaluations(calls)
        return [row for row in rows if row.task_hash not in absent and row.value_hash not in absent]

    async def _split_ready(
        self, kind: str, items: list[ParsedRecord], pending: set[Key]
    ) -> tuple[list[ParsedRecord], list[ParsedRecord]]:
        """Return those of the items that need nothing that is still to come, and the others."""
        window = Window()
        window.add(items)
        return await run_in_turns(window.split(await self._find_lacking(window, kind, pending)))

    async def _write_ready(self, kind: str, items: list[ParsedRecord]) -> None:
        """Write records that need nothing that is still to come; they are no longer pending then."""
        evaluations = await self._get_evaluations(items) if kind == "CallNode" else []
        await self._write(kind, items, evaluations)
        await take_turn()
        self._pending[kind].difference_update(pack_all([item.id for item in items]))
        self._step(len(items))

    async def _find_lacking(self, window: Window, kind: str, pending: set[Key]) -> dict[str, set[str]]:
        lacking = {}
        for needed, ids in (await run_in_turns(window.find_missing())).items():
            absent = ids & self._absent.get("Value" if needed == "Task" else needed, set())
            if needed == kind and pending:
                needed_ids = list(ids)
                keys = pack_all(needed_ids)
                absent |= {each for each, key in zip(needed_ids, keys, strict=True) if key in pending}
            if absent:
                lacking[needed] = absent
        return lacking

    async def _read_ahead(self, kind: str, keys: Sequence[Key]) -> AsyncIterator[list[ParsedRecord]]:
        """Yield batches in order, while the next ones are being read."""
        parts = deque(self._cut(keys))
        reads: deque[asyncio.Task[list[list[ParsedRecord]]]] = deque()

        async def read(part: list[Key]) -> list[list[ParsedRecord]]:
            await take_turn()
            ids = unpack_all(part)
            return [items async for items in self.source.iter_items(kind, ids)]

        # Values may be large: one batch of them at a time.
        ahead = 1 if kind == "Value" else self._workers
        try:
            while parts or reads:
                while parts and len(reads) < ahead:
                    reads.append(asyncio.create_task(read(parts.popleft())))
                for items in await reads.popleft():
                    yield items
        finally:
            for task in reads:
                task.cancel()
            await asyncio.gather(*reads, return_exceptions=True)

    async def _verify(self, items: list[ParsedRecord]) -> list[ParsedRecord]:
        good: list[ParsedRecord] = []
        for part in iter_parts(items, RECORDS_PER_PIECE):
            if sum(item.size for item in part) > LARGE_DATA:
                # Hashing many bytes leaves the interpreter's lock alone.
                right, errors, unverified = await asyncio.to_thread(verify_items, part, self.source.lost)
            else:
                await take_turn()
                right, errors, unverified = verify_items(part, self.source.lost)
            good += right
            self._report.unverified += unverified
            for item, error in errors:
                self._refuse(item, error)
        return good

    def _refuse(self, item: ParsedRecord, error: InvalidRecordError) -> None:
        self._absent.setdefault(item.kind, set()).add(item.id)
        self._report.refused.append(error)

    def _refuse_id(self, kind: str, record_id: str, reason: str) -> None:
        self._absent.setdefault(kind, set()).add(record_id)
        self._report.refused.append(InvalidRecordError(f"{kind} {shorten(record_id, 80)} {reason}"))

    def _refuse_unread(self, kind: str, keys: Iterable[Key]) -> None:
        """Refuse what is referred to, and is not there or has an id that cannot be asked for."""
        for record_id in unpack_all(sorted(keys, key=str)):
            self._refuse_id(kind, record_id, "is referred to, but cannot be found at the source")

    def _refuse_waiting(self, items: Sequence[ParsedRecord]) -> None:
        for item in items:
            self._refuse(
                item, InvalidRecordError(f"{item.kind} {item.id} refers to records that were refused")
            )

    async def _write(
        self,
        kind: str,
        items: Sequence[ParsedRecord],
        evaluations: Sequence[Row] = (),
    ) -> None:
        """Write records in one transaction; if that is refused, find those at fault and write the others."""
        if items:
            await split_at_fault(_Work(kind, items, evaluations), self._attempt)

    async def _attempt(self, work: _Work) -> Sequence[_Work]:
        """Write records in one transaction; return what is to be written in their place if it is refused."""
        kind, items, evaluations, with_tags = work
        if evaluations is None:
            evaluations = await self._get_evaluations(items)
        tags: list[ParsedRecord] = []
        if with_tags and kind != "Tag":
            owners = self._tags.find_owners(pack_all([item.id for item in items]))
            if owners:
                provided = {need for item in items for need in item.provides()}
                tags = await self._tags.read(owners, provided)
        try:
            new = await self._destination.write([*tags, *items], evaluations)
        except (RedunDatabaseError, ValueError, OverflowError) as error:
            if not is_refusal(error):
                raise
            if len(items) == 1 and tags:
                # It does not need its tags: those follow, as far as they can.
                return [work._replace(with_tags=False)]
            if len(items) == 1 and evaluations:
                # A cached step may refer to what is lost; a call does not need it.
                return [_Work(kind, items)]
            if len(items) == 1:
                reason = f"was refused by the destination: {shorten(str(error))}"
                self._refuse(items[0], InvalidRecordError(f"{items[0].kind} {items[0].id} {reason}"))
                return ()
            # What needs a record that was just refused is refused by its foreign key.
            return [_Work(kind, half, None if evaluations else ()) for half in halve(items)]
        self._report.count(kind, new[kind])
        self._report.bytes += sum(item.size for item in items)
        self._count_tags([item.id for item in tags], new["Tag"])
        if self._uncounted is not None and new[kind] == len(items):
            self._uncounted.update((pack(item.id), item.size) for item in items)
        return ()

    def _count_tags(self, ids: Sequence[str], new: int) -> None:
        """Take note of tags that went in with what they hang on."""
        if ids:
            self._tags.discard(pack_all(ids))
            self._report.count("Tag", new)
            self._step(len(ids))
