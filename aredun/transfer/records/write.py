"""Writing records: in any order, in bounded memory, in short transactions, beside writers of the same."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from aredun.loop.pacing import iter_parts, run_in_turns
from aredun.storage.record_rows import find_existing
from aredun.transfer.record_checks import find_alteration
from aredun.transfer.record_fields import KEYS
from aredun.transfer.records.check import check_in_turns, find_incomplete, parse_items
from aredun.transfer.records.groups import Destination, Group, GroupWriter, cut
from aredun.transfer.records.read import iter_ahead, iter_batches
from aredun.transfer.records.refusals import (
    IMPORT,
    Refusals,
    describe_alteration,
    describe_incomplete,
    join_errors,
)
from aredun.transfer.records.spool import Spool
from aredun.transfer.records.window import Window

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import AsyncIterable, Callable, Generator, Iterable, Sequence

    from aredun.errors import InvalidRecordError
    from aredun.storage import Database
    from aredun.storage.value_store import ValueStore
    from aredun.transfer.record_fields import ParsedRecord
    from aredun.transfer.records.refusals import Ids

# Records in one transaction, taken from the caller, looked at together (at first, and while many of them wait
# for others), and held in memory at a time.
BATCH_SIZE: Final = 5000
READ_SIZE: Final = 1000
FLUSH_SIZE: Final = 5000
WINDOW_SIZE: Final = 50_000
WINDOW_BYTES: Final = 1 << 25
# Prepared windows that wait for the one that is being written.
WINDOWS_AHEAD: Final = 1

# How many call nodes whose hash does not follow from their fields are compared with how many hashes.
_MAX_TRIALS: Final = 1_000_000


async def put_records(
    database: Database,
    records: Iterable[Any] | AsyncIterable[Any],
    value_store: ValueStore | None = None,
    *,
    verify: bool = True,
    value_store_min_size: int = 1024,
    batch_size: int = BATCH_SIZE,
    on_refused: Callable[[InvalidRecordError], None] | None = None,
    on_written: Callable[[int, int], None] | None = None,
) -> int:
    """Write records that are not in the database yet.

    Records may come in any order. Those that refer to what has not come yet wait, beyond 50,000 of them on
    disk; a record goes in after what it refers to, an execution together with its jobs. Several writers may
    write the same records at the same time, and writing records again changes nothing.

    Parameters
    ----------
    database : Database
        Where to write.
    records : iterable or async iterable of dict
        The records.
    value_store : ValueStore, optional
        Takes the bytes of values of at least `value_store_min_size` bytes.
    verify : bool
        Check every hash that follows from a record's own fields.
    value_store_min_size : int
        In bytes, as `sys.getsizeof` counts them.
    batch_size : int
        Records in one transaction.
    on_refused : callable, optional
        Is given the error of every record that does not go in; without it they are raised at the end.
    on_written : callable, optional
        Is told after each transaction how many records it held, and how many of them were new.

    Returns
    -------
    int
        Number of records that were new.

    Raises
    ------
    InvalidRecordError
        Some records are forged or damaged, or refer to what is nowhere. The message names them; all others
        are in the database by then.
    RedunDatabaseError
        The database cannot be reached. What was written until then stays, and is passed over the next time.
    """
    refused: list[InvalidRecordError] = []
    writer = RecordWriter(
        Destination(database, value_store, value_store_min_size),
        Refusals(on_refused or refused.append, IMPORT),
        batch_size=batch_size,
        on_written=on_written,
    )
    try:
        async for batch in iter_batches(records, READ_SIZE):
            await writer.add(batch, verify=verify)
        await writer.finish()
    finally:
        await writer.close()
    if refused:
        raise join_errors(refused, "record", "refused")
    return writer.new


class RecordWriter:
    """Takes records in any order and writes each as soon as it can go in."""

    def __init__(
        self,
        destination: Destination,
        refusals: Refusals,
        *,
        batch_size: int,
        on_written: Callable[[int, int], None] | None,
    ) -> None:
        self.new = 0
        self._destination = destination
        self._database = destination.database
        self._refusals = refusals
        self._groups = GroupWriter(destination, refusals, self._count)
        self._batch_size = batch_size
        self._on_written = on_written
        self._window = Window()
        self._spool: Spool | None = None
        self._mismatched: list[ParsedRecord] = []
        self._hashes: set[str] = set()
        self._flush_size = FLUSH_SIZE
        # Windows that are being written, in order; the next one is prepared meanwhile.
        self._writing: deque[_Writing] = deque()
        # Ids that were written inside a batch: no read finds them before its end.
        self._batched: Ids | None = {} if self._database.writer.in_batch else None
        # Records that refer to a refused one: they are tried again, as it may have come a second time.
        self._to_retry: list[ParsedRecord] = []

    def _count(self, items: Sequence[ParsedRecord], new: Counter[str]) -> None:
        """Count what was written in one transaction."""
        self.new += new.total()
        if self._on_written is not None:
            self._on_written(len(items), new.total())

    async def close(self) -> None:
        """Stop what goes on, and throw away what waits."""
        for writing in self._writing:
            writing.task.cancel()
        await asyncio.gather(*(writing.task for writing in self._writing), return_exceptions=True)
        if self._spool is not None:
            await self._spool.close()

    async def add(self, records: Sequence[Any], *, verify: bool) -> None:
        """Take some records; they may not be written before `finish`."""
        checks = check_in_turns(lambda part: parse_items(part, verify), records, _get_length)
        async for items, mismatched, errors in checks:
            for error in errors:
                self._refusals.tell(error)
            self._mismatched.extend(mismatched)
            if len(self._hashes) < WINDOW_SIZE:
                self._hashes.update(item.id for item in items if item.kind in ("Value", "CallNode"))
            self._window.add(items)
        if len(self._window) >= self._flush_size or self._window.size >= WINDOW_BYTES:
            window, self._window = self._window, Window()
            await self._keep(await self._flush(window))

    async def _keep(self, waiting: list[ParsedRecord]) -> None:
        """Look at what could not go in again later."""
        if len(waiting) * 2 <= self._flush_size:
            self._flush_size = FLUSH_SIZE
        else:
            # Most records wait for later ones: the next look is at more of them.
            self._flush_size = min(2 * self._flush_size, WINDOW_SIZE)
        if len(waiting) * 2 > WINDOW_SIZE or sum(item.size for item in waiting) * 2 > WINDOW_BYTES:
            await self._put_away(waiting)
        else:
            self._window.add(waiting)

    async def _join(self, left: int = 0) -> None:
        """Wait until only so many windows are being written."""
        while len(self._writing) > left:
            await self._writing[0].task
            written = self._writing.popleft()
            if self._batched is not None:
                for kind, ids in written.coming.items():
                    self._batched.setdefault(kind, set()).update(ids)

    async def finish(self) -> None:
        """Write all that can be written, and refuse the rest."""
        self._window.add(await asyncio.to_thread(self._refuse_altered))
        waiting = await self._flush(self._window)
        to_retry = await self._end_writes()
        spool = self._spool
        if spool is None:
            while to_retry:
                self._window.add([*waiting, *to_retry])
                waiting = await self._flush(self._window)
                to_retry = await self._end_writes()
            self._refusals.refuse_dependent(waiting)
            return
        await self._put_away([*waiting, *to_retry])
        count = -1
        while spool.count and spool.count != count:
            count = spool.count
            await self._empty_spool(spool)
        await spool.start_pass()
        while rest := await spool.take(WINDOW_SIZE, WINDOW_BYTES):
            self._refusals.refuse_dependent(rest)

    async def _end_writes(self) -> list[ParsedRecord]:
        """Wait until nothing is being written; return what may go in now if others brought what it needs."""
        await self._join()
        to_retry, self._to_retry = self._to_retry, []
        # A refused record may have come again, and gone in: from here on only the database tells.
        self._refusals.ids.clear()
        return to_retry

    async def _put_away(self, items: Sequence[ParsedRecord]) -> None:
        if self._spool is None:
            self._spool = Spool()
        await self._spool.add(items)

    async def _empty_spool(self, spool: Spool) -> None:
        await spool.start_pass()
        while items := await spool.take(WINDOW_SIZE, WINDOW_BYTES):
            await spool.add(await self._flush(Window(items)))
        await spool.add(await self._end_writes())

    def _refuse_altered(self) -> list[ParsedRecord]:
        """Refuse the call nodes that can be shown to be altered; return the others."""
        accepted = []
        trials = _MAX_TRIALS
        for item in self._mismatched:
            field = None
            if trials > 0:
                trials -= 3 * len(self._hashes)
                field = find_alteration(item, self._hashes)
            if field is None:
                accepted.append(item)
            else:
                self._refusals.tell(describe_alteration(item.id, field))
        self._mismatched = []
        return accepted

    async def _flush(self, window: Window) -> list[ParsedRecord]:
        """Begin to write what can go in of a window, and return the rest."""
        missing = await run_in_turns(window.find_missing())
        for kind, ids in missing.items():
            ids -= self._get_coming(kind)
            ids -= await find_existing(self._database, *KEYS[kind], ids)
        empty = window.empty - self._get_coming("Value")
        ready, waiting = await run_in_turns(window.split(missing))
        if empty:
            ready = await self._refuse_empty(ready, empty.intersection(item.id for item in ready))
        groups = self._cut(ready)
        groups[:1] = await self._prepare(groups[:1])
        coming = await run_in_turns(_collect_provided(ready))
        await self._join(left=WINDOWS_AHEAD)
        before = self._writing[-1].task if self._writing else None
        task = asyncio.create_task(self._write_all(before, groups))
        self._writing.append(_Writing(task, coming))
        return waiting

    def _get_coming(self, kind: str) -> set[str]:
        """Return the ids of what is being written, and of what was but cannot be read yet."""
        batched = (self._batched or {}).get(kind, ())
        return set().union(batched, *(writing.coming.get(kind, ()) for writing in self._writing))

    def _cut(self, items: Sequence[ParsedRecord]) -> list[Group]:
        return [Group(part) for part in cut(items, self._batch_size)]

    async def _prepare(self, groups: Sequence[Group]) -> list[Group]:
        return [await self._groups.prepare(group) for group in groups]

    async def _write_all(self, before: asyncio.Task[None] | None, groups: list[Group]) -> None:
        """Write groups in a transaction each; the next one is prepared meanwhile."""
        if before is not None:
            await before
        if self._refusals.ids:
            # The windows before have refused records since: what refers to those must not go in.
            window = Window(item for group in groups for item in group.items)
            ready, more = await run_in_turns(window.split(self._refusals.ids))
            self._to_retry += more
            for item in more:
                self._refusals.exclude(item.kind, [item.id])
            groups = self._cut(ready)
        async with aclosing(iter_ahead(self._prepare, iter_batches(groups, 1), 1)) as prepared:
            async for (group,) in prepared:
                await self._groups.write(group)

    async def _refuse_empty(self, items: list[ParsedRecord], empty: set[str]) -> list[ParsedRecord]:
        """Refuse values without bytes that are neither in the database nor in the value store."""
        _, value_store, _ = self._destination
        incomplete = await find_incomplete(
            [item for item in items if item.id in empty], self._database, value_store
        )
        if not incomplete:
            return items
        for value_hash, reason in sorted(incomplete.items()):
            self._refusals.tell(describe_incomplete(value_hash, reason))
        kept = [item for item in items if item.id not in incomplete]
        lost = set(incomplete)
        ready, waiting = await run_in_turns(Window(kept).split({"Value": lost, "Task": lost}))
        self._refusals.refuse_dependent(waiting)
        return ready


@dataclass(slots=True)
class _Writing:
    """A window that is being written, and the ids in it that others may need, by kind."""

    task: asyncio.Task[None]
    coming: Ids


def _collect_provided(items: Sequence[ParsedRecord]) -> Generator[None, None, Ids]:
    """Return, in steps, what others may need of records: ids by kind."""
    provided: Ids = {}
    for part in iter_parts(items):
        for item in part:
            for kind, record_id in item.provides():
                provided.setdefault(kind, set()).add(record_id)
        yield
    return provided


def _get_length(record: Any) -> int:
    """Return the characters of the bytes that a record carries."""
    data = record.get("data") if type(record) is dict else None
    return len(data) if type(data) is str else 0
