"""Copying records of one kind: what is owned before what owns it, read and written side by side."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from aredun.loop.pacing import run_in_turns, take_turn
from aredun.transfer.records.groups import Group
from aredun.transfer.records.packed_ids import pack_all
from aredun.transfer.records.window import Window, arrange
from aredun.transfer.sync.pipeline import Writes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aredun.storage.rows import Row
    from aredun.transfer.record_fields import ParsedRecord
    from aredun.transfer.records.groups import GroupWriter
    from aredun.transfer.records.packed_ids import Packed
    from aredun.transfer.sync.context import CopyContext
    from aredun.transfer.sync.tags import TagCopier


class RecordCopier:
    """Copies values, or calls, with the tags that go in along with them.

    Parameters
    ----------
    kind : str
        `Value` or `CallNode`.
    context : CopyContext
        Where to read them.
    groups : GroupWriter
        Writes them.
    tags : TagCopier
        Gives their tags.
    """

    def __init__(self, kind: str, context: CopyContext, groups: GroupWriter, tags: TagCopier) -> None:
        self._kind = kind
        self._reader, _, self._slots, self._progress = context
        self._refusals = self._reader.refusals
        self._groups = groups
        self._tags = tags
        # What is not there yet: to be read, waiting for others, or being written.
        self._pending: set[Packed] = set()

    async def copy_leaves(self, keys: Sequence[Packed]) -> None:
        """Copy values that need nothing, several batches at a time."""

        async def copy(part: Sequence[Packed]) -> None:
            async with self._slots:
                async for items in self._reader.read_leaves(part):
                    await self._write(items)
                self._progress.step(len(part))

        async with asyncio.TaskGroup() as group:
            for part in self._reader.cut(keys):
                group.create_task(copy(part))

    async def copy(self, keys: Sequence[Packed], before: asyncio.Event | None = None) -> None:
        """Copy records that need others of their kind: each goes in once those are there.

        Some may need what is being copied until `before` is set.
        """
        self._pending.update(keys)
        waiting: list[ParsedRecord] = []
        # Values may be large, and tags are few: one batch of them at a time.
        workers = self._reader.workers if self._kind == "CallNode" else 1
        async with asyncio.TaskGroup() as group:
            writes = Writes(group, self._slots, workers)
            async for items in self._reader.read(self._kind, keys):
                waiting = await self._begin_write([*waiting, *items], writes)
                while writes and len(waiting) >= self._reader.workers * self._reader.batch_size:
                    waiting = await self._go_on(waiting, writes)
            while writes:
                waiting = await self._go_on(waiting, writes)
        if waiting and before is not None:
            await before.wait()
        if waiting:
            ready, waiting = await self._split(waiting, set())
            await self._write_ready(ready)
            self._refusals.refuse_dependent(waiting)
        # All of them are there now, or were refused.
        self._pending.difference_update(keys)

    async def _begin_write(self, items: list[ParsedRecord], writes: Writes) -> list[ParsedRecord]:
        """Begin to write those of the items that need nothing that is still to come; return the others."""
        await writes.wait_for_slot()
        ready, items = await self._split(items, self._pending)
        if ready:
            writes.begin(self._write_ready(ready))
        else:
            writes.leave_slot()
        return items

    async def _go_on(self, items: list[ParsedRecord], writes: Writes) -> list[ParsedRecord]:
        """Wait until a write has ended, and begin to write those of the items that waited for it."""
        await writes.wait()
        return await self._begin_write(items, writes) if items else items

    async def _split(
        self, items: list[ParsedRecord], pending: set[Packed]
    ) -> tuple[list[ParsedRecord], list[ParsedRecord]]:
        """Return those of the items that need nothing that was refused or is pending, and the others."""
        window = Window(items)
        lacking: dict[str, set[str]] = {}
        for kind, ids in (await run_in_turns(window.find_missing())).items():
            lacking[kind] = ids & self._refusals.ids.get(kind, set())
            if kind == self._kind and pending:
                needed = list(ids)
                keys = zip(needed, pack_all(needed), strict=True)
                lacking[kind] |= {each for each, key in keys if key in pending}
        return await run_in_turns(window.split(lacking))

    async def _write_ready(self, items: list[ParsedRecord]) -> None:
        """Write records that need nothing that is still to come; they are no longer pending then."""
        await self._write(items)
        await take_turn()
        self._pending.difference_update(pack_all([item.id for item in items]))
        self._progress.step(len(items))

    async def _write(self, items: list[ParsedRecord]) -> None:
        steps = await self._get_steps(items) if self._kind == "CallNode" else {}
        owners = self._tags.find_owners(pack_all([item.id for item in items]))
        if owners:
            provided = {need for item in items for need in item.provides()}
            tags = await self._tags.read(owners, provided)
            items, _ = await run_in_turns(arrange([*items, *tags]))
        await self._groups.write(await self._groups.prepare(Group(items, steps)))

    async def _get_steps(self, calls: Sequence[ParsedRecord]) -> dict[str, Row]:
        """Return what single steps of calls are cached as, without what was refused."""
        refused = self._refusals.ids.get("Value", ())
        steps = await self._reader.source.get_steps(calls)
        return {
            call_hash: row
            for call_hash, row in steps.items()
            if row.task_hash not in refused and row.value_hash not in refused
        }
