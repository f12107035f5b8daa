"""What a destination lacks of what some roots own."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import sqlalchemy as sa

from aredun.loop.pacing import iter_parts, take_turn
from aredun.models import Subvalue
from aredun.storage.record_rows import find_existing, list_storable
from aredun.tables.column_types import in_list
from aredun.transfer.record_fields import KINDS
from aredun.transfer.records.packed_ids import unpack_all
from aredun.transfer.records.read import FINISHED_JOBS

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from aredun.storage import Database
    from aredun.transfer.records.packed_ids import Packed
    from aredun.transfer.sync.plan import SyncPlan


@dataclass
class Missing:
    """What the destination lacks of a plan.

    Attributes
    ----------
    plan : SyncPlan
        The plan.
    records : dict
        Ids of records by kind, packed, in the order of the plan.
    cached : list of Packed
        Ids of those values that only the cache of single steps holds.
    """

    plan: SyncPlan
    records: dict[str, list[Packed]]
    cached: list[Packed] = field(default_factory=list)

    def __len__(self) -> int:
        return sum(map(len, self.records.values()))


class MissingFinder:
    """Compares plans with a destination.

    Parameters
    ----------
    source, destination : Database
        Where to look.
    workers : int
        Statements that are under way at a time.
    batch_size : int
        Ids in one statement.
    """

    def __init__(self, source: Database, destination: Database, workers: int, batch_size: int) -> None:
        self._source = source
        self._destination = destination
        self._limit = asyncio.Semaphore(workers)
        self._batch_size = batch_size

    async def find_missing(self, plan: SyncPlan) -> Missing:
        """Return what the destination lacks of a plan."""
        async with asyncio.TaskGroup() as group:
            tasks = {
                kind: group.create_task(self._find_missing(kind, keys, plan.parents))
                for kind, keys in plan.records.items()
            }
            cached = group.create_task(self._find_missing("Value", plan.cached, plan.parents))
        return Missing(plan, {kind: task.result() for kind, task in tasks.items()}, cached.result())

    async def _find_missing(
        self, kind: str, keys: Sequence[Packed], parents: Collection[Packed]
    ) -> list[Packed]:
        async with asyncio.TaskGroup() as group:
            parts = iter_parts(keys, self._batch_size)
            tasks = [group.create_task(self._find_part(kind, part, parents)) for part in parts]
        return [key for task in tasks for key in task.result()]

    async def _find_part(
        self, kind: str, keys: Sequence[Packed], parents: Collection[Packed]
    ) -> list[Packed]:
        async with self._limit:
            await take_turn()
            ids = unpack_all(keys)
            present = await self._find_present(kind, ids)
            await take_turn()
            if not present:
                return list(keys)
            pairs = list(zip(ids, keys, strict=True))
            if kind == "Value":
                present -= await self._find_partial([each for each, key in pairs if key in parents], present)
            return [key for each, key in pairs if each not in present]

    async def _find_present(self, kind: str, ids: Collection[str]) -> set[str]:
        """Return those of the ids that are there; jobs that are unfinished there are to be copied again."""
        if kind == "Job":
            finished = await self._destination.fetch(FINISHED_JOBS, {"ids": list_storable(ids)})
            return {job_id for (job_id,) in finished}
        return await find_existing(self._destination, KINDS[kind].table, KINDS[kind].pk, ids)

    async def _find_partial(self, parents: Sequence[str], present: Collection[str]) -> set[str]:
        """Return the values that lack subvalues: one that was recorded as part of another has none there."""
        ids = [each for each in parents if each in present]
        if not ids:
            return set()
        here = await _count_subvalues(self._source, ids)
        there = await _count_subvalues(self._destination, ids)
        return {each for each in ids if here.get(each, 0) > there.get(each, 0)}


_COUNT_SUBVALUES: Final = (
    sa.select(Subvalue.parent_value_hash, sa.func.count())
    .where(in_list(Subvalue.parent_value_hash, "ids", sparse=True))
    .group_by(Subvalue.parent_value_hash)
)


async def _count_subvalues(database: Database, ids: Sequence[str]) -> dict[str, int]:
    """Return the numbers of subvalues of those of the values that have any."""
    return dict(await database.fetch(_COUNT_SUBVALUES, {"ids": ids}))
