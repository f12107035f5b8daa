"""Writing records: in any order, in bounded memory, in short transactions, beside writers of the same."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

from aredun.database.pacing import iter_parts, run_in_turns, take_turn
from aredun.database.record_rows import find_existing, is_refusal
from aredun.database.retry import halve, split_at_fault
from aredun.describe import shorten
from aredun.errors import InvalidRecordError, RedunDatabaseError
from aredun.record_checks import find_alteration
from aredun.record_fields import KEYS, ParsedRecord
from aredun.records.read import iter_batches, read_stored
from aredun.records.spool import Spool
from aredun.records.transaction import draft, write_draft
from aredun.records.window import Window, parse_items

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Callable, Generator, Iterable, Sequence

    from aredun.database import Database
    from aredun.records.transaction import Draft
    from aredun.value_store import ValueStore

# Records in one transaction, taken from the caller, parsed in one turn of the event loop, looked at together
# (at first, and while many of them wait for others), and held in memory at a time.
BATCH_SIZE: Final = 5000
READ_SIZE: Final = 1000
PARSE_SIZE: Final = 100
# Characters of a record's bytes that make it a large one.
LARGE_DATA: Final = 1 << 18
FLUSH_SIZE: Final = 5000
WINDOW_SIZE: Final = 50_000
WINDOW_BYTES: Final = 1 << 25
# Windows that wait to be written, prepared, beside the one that is being written.
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
        database,
        value_store,
        min_size=value_store_min_size,
        batch_size=batch_size,
        on_refused=on_refused or refused.append,
        on_written=on_written,
    )
    try:
        async for batch in iter_batches(records, READ_SIZE):
            await writer.add(batch, verify=verify)
        await writer.finish()
    finally:
        await writer.close()
    if refused:
        raise join_errors(refused)
    return writer.new


def join_errors(errors: Sequence[InvalidRecordError]) -> InvalidRecordError:
    """Return one error, of one line, for records that were refused; `refused` holds the single ones."""
    shown = "; ".join(str(error) for error in errors[:5])
    more = f"; and {len(errors) - 5} more" if len(errors) > 5 else ""
    noun = "record was" if len(errors) == 1 else "records were"
    error = InvalidRecordError(f"{len(errors)} {noun} refused: {shown}{more}")
    error.refused = list(errors)  # type: ignore[attr-defined]  # for those who want them one by one
    return error


async def find_lost(
    items: Iterable[ParsedRecord], database: Database, value_store: ValueStore | None
) -> dict[str, str]:
    """Return which of some values that come without bytes are nowhere here, and why, by hash."""
    values = {item.id: item.row for item in items}
    lost = {}
    for value_hash in values.keys() - await find_existing(database, "value", "value_hash", values.keys()):
        _, problem = await read_stored(
            value_store, value_hash, values[value_hash].type, values[value_hash].format
        )
        if problem:
            lost[value_hash] = problem
    return lost


def describe_lost(value_hash: str, reason: str) -> InvalidRecordError:
    """Return the error of a value that comes without bytes which are nowhere here."""
    return InvalidRecordError(
        f"Value {value_hash} comes without its bytes, and here {reason}: they are in the value store of the"
        " repository that it was exported from (export it with aredun)"
    )


_Ids = dict[str, set[str]]
# Records, and what was prepared of them, if anything was.
_Work = tuple["Sequence[ParsedRecord]", "Draft | None"]


class RecordWriter:
    """Takes records in any order and writes each as soon as it can go in."""

    def __init__(
        self,
        database: Database,
        value_store: ValueStore | None,
        *,
        min_size: int,
        batch_size: int,
        on_refused: Callable[[InvalidRecordError], None],
        on_written: Callable[[int, int], None] | None,
    ) -> None:
        self.new = 0
        self._database = database
        self._store = value_store
        self._min_size = min_size
        self._batch_size = batch_size
        self._refuse = on_refused
        self._tell = on_written
        self._window = Window()
        self._spool: Spool | None = None
        self._suspects: list[ParsedRecord] = []
        self._hashes: set[str] = set()
        self._flush_size = FLUSH_SIZE
        # Windows that are being written, in order: those that need them can be prepared meanwhile.
        self._writing: deque[_Writing] = deque()
        # What was written inside a batch, which nobody can read before its end.
        self._batched: _Ids | None = {} if database.writer.in_batch else None
        # What was refused by the database, or needs that, although it was counted on; and the records of it
        # that may go in all the same if others bring what they need.
        self._lost: _Ids = {}
        self._stranded: list[ParsedRecord] = []

    async def close(self) -> None:
        """Stop what goes on, and throw away what waits."""
        for writing in self._writing:
            writing.task.cancel()
        await asyncio.gather(*(writing.task for writing in self._writing), return_exceptions=True)
        if self._spool is not None:
            await self._spool.close()

    async def add(self, records: Sequence[Any], *, verify: bool) -> None:
        """Take some records; they may not be written before `finish`."""
        for part in iter_parts(records, PARSE_SIZE):
            if any(map(_is_large, part)):
                # Hashing many bytes leaves the interpreter's lock alone.
                items, suspects, errors = await asyncio.to_thread(parse_items, part, verify)
            else:
                await take_turn()
                items, suspects, errors = parse_items(part, verify)
            for error in errors:
                self._refuse(error)
            self._suspects.extend(suspects)
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
            # Most wait for what comes later: look again when there is more.
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
        self._window.add(await asyncio.to_thread(self._judge))
        waiting = await self._flush(self._window)
        stranded = await self._settle()
        spool = self._spool
        if spool is None:
            while stranded:
                self._window.add([*waiting, *stranded])
                waiting = await self._flush(self._window)
                stranded = await self._settle()
            self._refuse_waiting(waiting)
            return
        await self._put_away([*waiting, *stranded])
        count = -1
        while spool.count and spool.count != count:
            count = spool.count
            await self._empty_spool(spool)
        await spool.start_pass()
        while rest := await spool.take(WINDOW_SIZE, WINDOW_BYTES):
            self._refuse_waiting(rest)

    async def _settle(self) -> list[ParsedRecord]:
        """Wait until nothing is being written; return what may go in now if others brought what it needs.

        What was refused may have come again meanwhile, and gone in: from here on only the database tells.
        """
        await self._join()
        stranded, self._stranded, self._lost = self._stranded, [], {}
        return stranded

    async def _put_away(self, items: Sequence[ParsedRecord]) -> None:
        if self._spool is None:
            self._spool = Spool()
        await self._spool.add(items)

    async def _empty_spool(self, spool: Spool) -> None:
        await spool.start_pass()
        while items := await spool.take(WINDOW_SIZE, WINDOW_BYTES):
            window = Window()
            window.add(items)
            await spool.add(await self._flush(window))
        await spool.add(await self._settle())

    def _judge(self) -> list[ParsedRecord]:
        """Refuse the call nodes that can be shown to be altered; return the others."""
        accepted = []
        trials = _MAX_TRIALS
        for item in self._suspects:
            field = None
            if trials > 0:
                trials -= 3 * len(self._hashes)
                field = find_alteration(item, self._hashes)
            if field is None:
                accepted.append(item)
            else:
                self._refuse(
                    InvalidRecordError(
                        f"CallNode {item.id} is not what its hash says: its {field!r} was altered"
                    )
                )
        self._suspects = []
        return accepted

    async def _flush(self, window: Window) -> list[ParsedRecord]:
        """Begin to write what can go in of a window, and return the rest.

        The window is prepared while those before it are being written.
        """
        missing = await run_in_turns(window.find_missing())
        for kind, ids in missing.items():
            ids -= self._get_coming(kind)
            ids -= await find_existing(self._database, *KEYS[kind], ids)
        empty = window.empty - self._get_coming("Value")
        ready, waiting = await run_in_turns(window.split(missing))
        if empty:
            ready = await self._refuse_empty(ready, empty.intersection(item.id for item in ready))
        chunks = cut(ready, self._batch_size)
        drafts = await self._prepare(chunks[:1])
        coming = await run_in_turns(_collect_provided(ready))
        await self._join(left=WINDOWS_AHEAD)
        before = self._writing[-1].task if self._writing else None
        task = asyncio.create_task(self._write_all(before, chunks, drafts))
        self._writing.append(_Writing(task, coming))
        return waiting

    def _get_coming(self, kind: str) -> set[str]:
        """Return the ids of what is being written, and of what was but cannot be read yet."""
        batched = (self._batched or {}).get(kind, ())
        return set().union(batched, *(writing.coming.get(kind, ()) for writing in self._writing))

    async def _prepare(self, chunks: Sequence[Sequence[ParsedRecord]]) -> list[Draft]:
        return [await draft(chunk, self._store, self._min_size) for chunk in chunks]

    async def _write_all(
        self,
        before: asyncio.Task[None] | None,
        chunks: Sequence[Sequence[ParsedRecord]],
        drafts: list[Draft],
    ) -> None:
        """Write chunks in a transaction each, given the first one's draft; the next is prepared meanwhile."""
        if before is not None:
            await before
        if self._lost:
            # What needs what was refused meanwhile must not go in either.
            ready, more = await _split([item for chunk in chunks for item in chunk], self._lost)
            self._stranded += more
            self._lose(more)
            chunks = cut(ready, self._batch_size)
            drafts = await self._prepare(chunks[:1])
        for number, chunk in enumerate(chunks):
            following = asyncio.create_task(self._prepare(chunks[number + 1 : number + 2]))
            try:
                await self._write(chunk, drafts[0])
                drafts = await following
            finally:
                following.cancel()
                await asyncio.gather(following, return_exceptions=True)

    def _lose(self, items: Iterable[ParsedRecord]) -> None:
        for item in items:
            for kind, record_id in item.provides():
                self._lost.setdefault(kind, set()).add(record_id)

    async def _refuse_empty(self, items: list[ParsedRecord], empty: set[str]) -> list[ParsedRecord]:
        """Refuse values without bytes that are neither in the database nor in the value store."""
        lost = await find_lost([item for item in items if item.id in empty], self._database, self._store)
        if not lost:
            return items
        for value_hash, reason in sorted(lost.items()):
            self._refuse(describe_lost(value_hash, reason))
        kept = [item for item in items if item.id not in lost]
        ready, waiting = await _split(kept, {"Value": {*lost}, "Task": {*lost}})
        self._refuse_waiting(waiting)
        return ready

    def _refuse_waiting(self, items: Iterable[ParsedRecord]) -> None:
        for item in items:
            kind, record_id = next(iter(item.needs), ("Value", "?"))
            self._refuse(
                InvalidRecordError(
                    f"{item.kind} {shorten(item.id, 80)} refers to records that are neither among those given"
                    f" nor in the database, or that need it in turn, such as {kind} {shorten(record_id, 80)}"
                )
            )

    async def _write(self, items: Sequence[ParsedRecord], made: Draft) -> None:
        """Write records in one transaction; if it fails, find those at fault and write the others."""
        work: _Work = items, made
        await split_at_fault(work, self._attempt)

    async def _attempt(self, work: _Work) -> Sequence[_Work]:
        """Write records in one transaction; return in what parts to write them if some are at fault."""
        items, made = work
        if self._lost and (orphans := self._find_orphans(items)):
            self._refuse_waiting(orphans)
            self._lose(orphans)
            items = [item for item in items if item not in orphans]
            made = None
        if made is None:
            made = await draft(items, self._store, self._min_size)
        try:
            new = (await write_draft(self._database, made)).total()
        except (RedunDatabaseError, ValueError, OverflowError) as error:
            if not is_refusal(error):
                raise
            groups = cut(items, 1)
            if len(groups) == 1 and len({item.kind == "Tag" for item in items}) > 1:
                # What owns tags goes in without those at fault; without it they are refused, too.
                groups = [[item for item in items if (item.kind == "Tag") is kind] for kind in (False, True)]
            if len(groups) == 1:
                self._lose(items)
                for item in items:
                    self._refuse(
                        InvalidRecordError(
                            f"{item.kind} {shorten(item.id, 80)} was refused by the database:"
                            f" {shorten(str(error))}"
                        )
                    )
                return ()
            return [(list(chain.from_iterable(half)), None) for half in halve(groups)]
        self.new += new
        if self._tell is not None:
            self._tell(len(items), new)
        return ()

    def _find_orphans(self, items: Sequence[ParsedRecord]) -> list[ParsedRecord]:
        """Return the tags whose owner was refused, or a tag that they replace: no foreign key tells."""
        lost = {(kind, record_id) for kind, ids in self._lost.items() for record_id in ids}
        return [item for item in items if item.kind == "Tag" and not lost.isdisjoint(item.needs)]


@dataclass(slots=True)
class _Writing:
    """A window that is being written.

    Attributes
    ----------
    task : Task
        The writing.
    coming : dict
        What others may need of it: ids by kind.
    """

    task: asyncio.Task[None]
    coming: _Ids


def _collect_provided(items: Sequence[ParsedRecord]) -> Generator[None, None, _Ids]:
    """Return, in steps, what others may need of records: ids by kind."""
    provided: _Ids = {}
    for part in iter_parts(items):
        for item in part:
            for kind, record_id in item.provides():
                provided.setdefault(kind, set()).add(record_id)
        yield
    return provided


async def _split(
    items: Sequence[ParsedRecord], missing: _Ids
) -> tuple[list[ParsedRecord], list[ParsedRecord]]:
    window = Window()
    window.add(items)
    return await run_in_turns(window.split(missing))


def _is_large(record: Any) -> bool:
    """Tell whether checking a record takes longer than a turn of the event loop may."""
    data = record.get("data") if type(record) is dict else None
    return type(data) is str and len(data) > LARGE_DATA


def cut(items: Sequence[ParsedRecord], size: int) -> list[Sequence[ParsedRecord]]:
    """Cut arranged records into transactions: an execution with its jobs, what is tagged with its tags."""
    chunks = []
    start = 0
    execution_id = None
    has_owner = False
    for position, item in enumerate(items):
        if item.kind == "Execution":
            execution_id = item.id
        elif item.kind == "Job" and item.row.execution_id == execution_id:
            continue
        if item.kind != "Tag":
            has_owner = True
        elif has_owner:
            continue
        if position - start >= size:
            chunks.append(items[start:position])
            start = position
    if start < len(items):
        chunks.append(items[start:])
    return chunks


__all__ = ["RecordWriter", "cut", "join_errors", "put_records"]
