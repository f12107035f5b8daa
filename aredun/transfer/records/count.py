"""Counting what an import would do, without doing it."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Any

from aredun.transfer.records.check import find_incomplete, parse_items
from aredun.transfer.records.packed_ids import IdSet
from aredun.transfer.records.read import FINISHED_JOBS, find_present, iter_batches
from aredun.transfer.records.refusals import describe_incomplete
from aredun.transfer.records.write import READ_SIZE

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Callable, Iterable

    from aredun.errors import InvalidRecordError
    from aredun.storage import Database
    from aredun.storage.value_store import ValueStore


async def count_records(
    database: Database,
    records: Iterable[Any] | AsyncIterable[Any],
    on_refused: Callable[[InvalidRecordError], None],
    value_store: ValueStore | None = None,
) -> tuple[Counter[str], int]:
    """Check records and count those that would be new; nothing is written.

    Parameters
    ----------
    database : Database
        Where they would be written.
    records : iterable or async iterable of dict
        The records.
    on_refused : callable
        Is given the error of every record that is malformed, forged or damaged, or a value without its bytes.
        What refers to records that are nowhere is not found out.
    value_store : ValueStore, optional
        May hold the bytes of values that come without.

    Returns
    -------
    tuple of (Counter, int)
        New records by kind, with jobs that have ended since, and the number of those that are there already.
    """
    new: Counter[str] = Counter()
    known = 0
    seen = IdSet()
    async for batch in iter_batches(records, READ_SIZE):
        items, mismatched, errors = await asyncio.to_thread(parse_items, batch, True)
        for error in errors:
            on_refused(error)
        fresh = [item for item in (*items, *mismatched) if seen.add(item.id)]
        empty = [item for item in fresh if item.kind == "Value" and not item.size]
        incomplete = await find_incomplete(empty, database, value_store) if empty else {}
        for value_hash, reason in sorted(incomplete.items()):
            on_refused(describe_incomplete(value_hash, reason))
        fresh = [item for item in fresh if item.id not in incomplete]
        present = await find_present(database, [item.id for item in fresh])
        ended = [item.id for item in fresh if item.kind == "Job" and item.row.end_time and item.id in present]
        if ended:
            # A job that was under way counts as new once it has ended.
            finished = {job_id for (job_id,) in await database.fetch(FINISHED_JOBS, {"ids": ended})}
            present -= set(ended) - finished
        known += len(present)
        new.update(item.kind for item in fresh if item.id not in present)
    return new, known
