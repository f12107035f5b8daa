"""Writing records: in any order, in bounded memory, in short transactions, beside writers of the same."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Final

from aredun.loop.pacing import iter_parts, run_in_turns
from aredun.storage.record_rows import find_existing
from aredun.transfer.record_checks import find_alteration
from aredun.transfer.record_fields import KEYS
from aredun.transfer.records.check import check_in_turns, find_incomplete, parse_items
from aredun.transfer.records.groups import Destination, Group, GroupWriter, cut
from aredun.transfer.records.packed_ids import IdSet
from aredun.transfer.records.read import FINISHED_JOBS, find_present, iter_ahead, iter_batches
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
    from collections.abc import (
        AsyncGenerator,
        AsyncIterable,
        AsyncIterator,
        Callable,
        Generator,
        Iterable,
        Sequence,
    )

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
# Groups that wait for the one that is being written.
GROUPS_AHEAD: Final = 1

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
        await writer.write_all(iter_batches(records, READ_SIZE), verify=verify)
    finally:
        await asyncio.to_thread(writer.spool.close)
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
        self._flush_size = FLUSH_SIZE
        # Records that need others: until the next window is looked at, or on disk.
        self._waiting: list[ParsedRecord] = []
        self.spool = Spool()
        self._mismatched: list[ParsedRecord] = []
        self._hashes: set[str] = set()
        # Groups are written one after the other; what others may need of those that no read finds yet.
        self._writing = asyncio.Lock()
        self._coming: deque[Ids] = deque()
        # No read finds anything of a batch before its end.
        self._in_batch = self._database.writer.in_batch
        # Records that refer to a refused one: they are tried again, as it may have come a second time.
        self._to_retry: list[ParsedRecord] = []

    def _count(self, items: Sequence[ParsedRecord], new: Counter[str]) -> None:
        """Count what was written in one transaction."""
        self.new += new.total()
        if self._on_written is not None:
            self._on_written(len(items), new.total())

    async def write_all(self, batches: AsyncIterator[Sequence[Any]], *, verify: bool) -> None:
        """Write all that can be written, and refuse the rest."""
        await self._write(self._read_windows(batches, verify=verify))
        count = 0
        # Until another look at what waits changes nothing.
        while await self._put_rest_away() != count:
            count = self.spool.count
            await self._write(self._take_windows())
        self.spool.start_pass()
        while rest := await self._take():
            self._refusals.refuse_dependent(rest)

    async def _put_rest_away(self) -> int:
        """Put away what could not go in before others had gone in, and return how many records wait."""
        await asyncio.to_thread(self.spool.add, [*self._waiting, *self._to_retry])
        self._waiting, self._to_retry = [], []
        # A refused record may have come again, and gone in: from here on only the database tells.
        self._refusals.ids.clear()
        return self.spool.count

    async def _read_windows(
        self, batches: AsyncIterator[Sequence[Any]], *, verify: bool
    ) -> AsyncGenerator[Window, None]:
        """Yield records that are to be looked at together, with those that waited for them."""
        window = Window()
        async for batch in batches:
            checks = check_in_turns(lambda part: parse_items(part, verify), batch, _get_length)
            async for items, mismatched, errors in checks:
                for error in errors:
                    self._refusals.tell(error)
                self._mismatched.extend(mismatched)
                if len(self._hashes) < WINDOW_SIZE:
                    self._hashes.update(item.id for item in items if item.kind in ("Value", "CallNode"))
                window.add(items)
            if len(window) >= self._flush_size or window.size >= WINDOW_BYTES:
                yield window
                window = Window(await self._keep())
        window.add(await asyncio.to_thread(self._refuse_altered))
        yield window

    async def _keep(self) -> list[ParsedRecord]:
        """Return what could not go in for now, if there is room for it in the next window."""
        waiting, self._waiting = self._waiting, []
        if len(waiting) * 2 <= self._flush_size:
            self._flush_size = FLUSH_SIZE
        else:
            # Most records wait for later ones: the next look is at more of them.
            self._flush_size = min(2 * self._flush_size, WINDOW_SIZE)
        if len(waiting) * 2 > WINDOW_SIZE or sum(item.size for item in waiting) * 2 > WINDOW_BYTES:
            await asyncio.to_thread(self.spool.add, waiting)
            return []
        return waiting

    async def _take_windows(self) -> AsyncGenerator[Window, None]:
        """Yield records that were put away; what still cannot go in is put away again."""
        self.spool.start_pass()
        while items := await self._take():
            yield Window(items)
            await asyncio.to_thread(self.spool.add, self._waiting)
            self._waiting = []

    async def _take(self) -> list[ParsedRecord]:
        return await asyncio.to_thread(self.spool.take, WINDOW_SIZE, WINDOW_BYTES)

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

    async def _write(self, windows: AsyncGenerator[Window, None]) -> None:
        """Write what can go in of windows: a group is written while the next one is read and made ready."""
        async with (
            aclosing(windows),
            aclosing(self._iter_groups(windows)) as groups,
            aclosing(iter_ahead(self._write_group, groups, GROUPS_AHEAD)) as written,
        ):
            async for _ in written:
                pass

    async def _iter_groups(self, windows: AsyncIterator[Window]) -> AsyncGenerator[Group, None]:
        """Yield what can go in of windows, in groups of one transaction each, made ready; the rest waits."""
        async for window in windows:
            missing = await run_in_turns(window.find_missing())
            for kind, ids in missing.items():
                ids -= self._get_coming(kind)
                ids -= await find_existing(self._database, *KEYS[kind], ids)
            empty = window.empty - self._get_coming("Value")
            ready, self._waiting = await run_in_turns(window.split(missing))
            if empty:
                ready = await self._refuse_empty(ready, empty.intersection(item.id for item in ready))
            groups = [Group(part) for part in cut(ready, self._batch_size)]
            self._coming += [await run_in_turns(_collect_provided(group.items)) for group in groups]
            for group in groups:
                yield await self._groups.prepare(group)

    def _get_coming(self, kind: str) -> set[str]:
        """Return the ids of what is being written, or was but cannot be read yet."""
        return set().union(*(ids.get(kind, ()) for ids in self._coming))

    async def _write_group(self, group: Group) -> None:
        async with self._writing:
            if self._refusals.ids:
                # The groups before have refused records since: what refers to those must not go in.
                ready, dependent = await run_in_turns(Window(group.items).split(self._refusals.ids))
                if dependent:
                    self._to_retry += dependent
                    for item in dependent:
                        self._refusals.exclude(item.kind, [item.id])
                    group = Group(ready)
            await self._groups.write(group)
            if not self._in_batch:
                self._coming.popleft()

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
