"""Writing records: in any order, in bounded memory, in short transactions, beside writers of the same."""

from __future__ import annotations

import asyncio
import sys
from collections import defaultdict
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final

from aredun.database.record_rows import find_existing, get_existing, insert_rows, is_refusal, write_new
from aredun.errors import InvalidRecordError, RedunDatabaseError
from aredun.models import Argument, CallEdge
from aredun.record_checks import find_alteration
from aredun.record_fields import KINDS, ParsedRecord, shorten
from aredun.records.derive import derive_evaluations, derive_subtree_tasks, get_facts, update_current
from aredun.records.read import iter_batches
from aredun.records.spool import Spool
from aredun.records.window import Window, parse_items

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Callable, Iterable, Sequence

    from sqlalchemy.ext.asyncio import AsyncSession

    from aredun.database import Database
    from aredun.record_fields import Row
    from aredun.value_store import ValueStore

# Records in one transaction, taken from the caller, parsed in one turn of the event loop, looked at together
# (at first, and while many of them wait for others), and held in memory at a time.
BATCH_SIZE: Final = 5000
READ_SIZE: Final = 1000
PARSE_SIZE: Final = 200
# Characters of a record's bytes that make it a large one.
LARGE_DATA: Final = 1 << 18
FLUSH_SIZE: Final = 5000
WINDOW_SIZE: Final = 50_000
WINDOW_BYTES: Final = 1 << 25

# How many call nodes whose hash does not follow from their fields are compared with how many hashes.
_MAX_TRIALS: Final = 1_000_000

# Where the ids of what records need are found.
_KEYS: Final = {**{kind.name: (kind.table, kind.pk) for kind in KINDS.values()}, "Task": ("task", "hash")}
_KEY_SIZES: Final = {
    "tag_edit": 2,
    "subvalue": 2,
    "argument_result": 2,
    "call_edge": 3,
}
# The tables of what belongs to a call node.
_CALL_TABLES: Final = ("argument", "argument_result", "call_edge")
_MAIN_TABLES: Final = tuple(kind.table for kind in KINDS.values())


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
        self._writing: asyncio.Task[None] | None = None
        # What is being written: those that need it can be prepared meanwhile.
        self._coming: dict[str, set[str]] = {}
        self._lost: dict[str, set[str]] = {}

    async def close(self) -> None:
        """Stop what goes on, and throw away what waits."""
        if self._writing is not None:
            self._writing.cancel()
            await asyncio.gather(self._writing, return_exceptions=True)
        if self._spool is not None:
            self._spool.close()

    async def add(self, records: Sequence[Any], *, verify: bool) -> None:
        """Take some records; they may not be written before `finish`."""
        for start in range(0, len(records), PARSE_SIZE):
            part = records[start : start + PARSE_SIZE]
            if any(map(_is_large, part)):
                # Hashing many bytes leaves the interpreter's lock alone.
                items, suspects, errors = await asyncio.to_thread(parse_items, part, verify)
            else:
                items, suspects, errors = parse_items(part, verify)
                await asyncio.sleep(0)
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

    async def _join(self) -> None:
        """Wait for the writing that goes on."""
        if self._writing is not None:
            writing, self._writing = self._writing, None
            await writing
            self._coming = {}

    async def finish(self) -> None:
        """Write all that can be written, and refuse the rest."""
        self._window.add(await asyncio.to_thread(self._judge))
        waiting = await self._flush(self._window)
        if self._spool is None:
            await self._join()
            self._refuse_waiting(waiting)
            return
        await self._put_away(waiting)
        count = -1
        while self._spool.count and self._spool.count != count:
            count = self._spool.count
            await self._empty_spool()
        await self._join()
        await self._spool.start_pass()
        while rest := await self._spool.take(WINDOW_SIZE, WINDOW_BYTES):
            self._refuse_waiting(rest)

    async def _put_away(self, items: Sequence[ParsedRecord]) -> None:
        if self._spool is None:
            self._spool = Spool()
        await self._spool.add(items)

    async def _empty_spool(self) -> None:
        assert self._spool is not None
        await self._spool.start_pass()
        while items := await self._spool.take(WINDOW_SIZE, WINDOW_BYTES):
            window = Window()
            window.add(items)
            await self._spool.add(await self._flush(window))

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

        The window is prepared while the one before it is being written.
        """
        missing = await asyncio.to_thread(window.find_missing)
        for kind, ids in missing.items():
            ids -= self._coming.get(kind, set())
            ids -= await find_existing(self._database, *_KEYS[kind], ids)
        empty = window.empty - self._coming.get("Value", set())
        ready, waiting = await asyncio.to_thread(window.split, missing)
        if empty:
            ready = await self._refuse_empty(ready, empty.intersection(item.id for item in ready))
        await self._join()
        if self._lost:
            # Refused by the database meanwhile: what needs it must not go in either.
            ready, more = _split(ready, self._lost)
            waiting += more
            self._lost = {}
        for item in ready:
            for kind, record_id in item.provides():
                self._coming.setdefault(kind, set()).add(record_id)
        self._writing = asyncio.create_task(self._write_all(ready))
        return waiting

    async def _write_all(self, items: Sequence[ParsedRecord]) -> None:
        for chunk in cut(items, self._batch_size):
            await self._write(chunk)

    async def _refuse_empty(self, items: list[ParsedRecord], empty: set[str]) -> list[ParsedRecord]:
        """Refuse values without bytes that are neither in the database nor in the value store."""
        found = await find_existing(self._database, "value", "value_hash", empty)
        if self._store is not None:
            for value_hash in empty - found:
                if await self._store.has(value_hash):
                    found.add(value_hash)
        lost = empty - found
        if not lost:
            return items
        for value_hash in sorted(lost):
            self._refuse(
                InvalidRecordError(
                    f"Value {value_hash} comes without its bytes: they are in the value store of the"
                    " repository that it was exported from (export it with aredun)"
                )
            )
        kept = [item for item in items if item.id not in lost]
        ready, waiting = _split(kept, {"Value": lost, "Task": lost})
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

    async def _write(self, items: Sequence[ParsedRecord]) -> None:
        """Write records in one transaction; if it fails, find those at fault and write the others."""
        try:
            new = await write_items(self._database, items, self._store, self._min_size)
        except (RedunDatabaseError, ValueError, OverflowError) as error:
            if not is_refusal(error):
                raise
            groups = cut(items, 1)
            if len(groups) == 1:
                for item in items:
                    for kind, record_id in item.provides():
                        self._lost.setdefault(kind, set()).add(record_id)
                    self._refuse(
                        InvalidRecordError(
                            f"{item.kind} {shorten(item.id, 80)} was refused by the database:"
                            f" {shorten(str(error))}"
                        )
                    )
                return
            middle = len(groups) // 2
            for half in (groups[:middle], groups[middle:]):
                await self._write([item for group in half for item in group])
            return
        self.new += new
        if self._tell is not None:
            self._tell(len(items), new)


def _split(
    items: Sequence[ParsedRecord], missing: dict[str, set[str]]
) -> tuple[list[ParsedRecord], list[ParsedRecord]]:
    window = Window()
    window.add(items)
    return window.split(missing)


def _is_large(record: Any) -> bool:
    """Tell whether checking a record takes longer than a turn of the event loop may."""
    data = record.get("data") if type(record) is dict else None
    return type(data) is str and len(data) > LARGE_DATA


def cut(items: Sequence[ParsedRecord], size: int) -> list[Sequence[ParsedRecord]]:
    """Cut arranged records into transactions, an execution never apart from its jobs."""
    chunks = []
    start = 0
    execution_id = None
    for position, item in enumerate(items):
        if item.kind == "Execution":
            execution_id = item.id
        elif item.kind == "Job" and item.row[7] == execution_id:
            continue
        if position - start >= size:
            chunks.append(items[start:position])
            start = position
    if start < len(items):
        chunks.append(items[start:])
    return chunks


async def write_items(
    database: Database,
    items: Sequence[ParsedRecord],
    value_store: ValueStore | None,
    min_size: int,
    evaluations: Iterable[Row] = (),
) -> int:
    """Write records in one transaction, with what follows from them; return how many were new.

    Parameters
    ----------
    items : sequence of ParsedRecord
        In an order in which each comes after what it needs, if that is not in the database.
    evaluations : iterable of Row
        Rows of `evaluation` that are known, and count more than what follows from the calls among the items.
    """
    rows = await asyncio.to_thread(_collect_rows, items)
    if value_store is not None:
        rows["value"] = await _store_large(rows.get("value", []), value_store, min_size)
    calls = [get_facts(item) for item in items if item.kind == "CallNode"]
    types = {row[0]: row[1] for row in rows.get("value", ())}
    tags = [row[0] for row in rows.get("tag", ())] + [row[0] for row in rows.get("tag_edit", ())]

    parts: dict[str, list[Row]] = {table: rows.pop(table) for table in _CALL_TABLES if table in rows}

    async def operation(session: AsyncSession, all_new: bool) -> int:
        new = await insert_rows(session, rows, all_new=all_new)
        if parts:
            known = new.get("call_node", 0) < len(calls)
            own = await _drop_known(session, parts) if known else parts
            await insert_rows(session, own, all_new=all_new)
        if calls:
            tasks = await derive_subtree_tasks(session, calls)
            await insert_rows(session, {"call_subtree_task": tasks}, all_new=all_new)
            steps = {row[0]: row for row in await derive_evaluations(session, calls, types)}
            steps |= {row[0]: row for row in evaluations}
            # Other calls may have the same: these are not the records' own.
            await insert_rows(session, {"evaluation": sorted(steps.values())})
        if tags:
            await update_current(session, tags)
        return sum(new.get(table, 0) for table in _MAIN_TABLES)

    return await write_new(database, operation)


async def _drop_known(session: AsyncSession, parts: dict[str, list[Row]]) -> dict[str, list[Row]]:
    """Return the parts of those call nodes that have none yet.

    redun exports a call's children in no certain order, and an edge's place in it is part of its key: added
    to the edges that are there, they would double the children. Call nodes come with all of their parts, so
    one that was there has them; on PostgreSQL those of another writer are seen once its call nodes are.
    """
    arguments = parts.get("argument", [])
    edges = parts.get("call_edge", [])
    known = await get_existing(session, Argument.call_hash, {row[1] for row in arguments})
    known |= await get_existing(session, CallEdge.parent_id, {row[0] for row in edges})
    known_arguments = {row[0] for row in arguments if row[1] in known}
    return {
        "argument": [row for row in arguments if row[1] not in known],
        "argument_result": [row for row in parts.get("argument_result", ()) if row[0] not in known_arguments],
        "call_edge": [row for row in edges if row[0] not in known],
    }


def _collect_rows(items: Sequence[ParsedRecord]) -> dict[str, list[Row]]:
    rows: dict[str, list[Row]] = defaultdict(list)
    for item in items:
        rows[KINDS[item.kind].table].append(item.row)
        if item.parts:
            parts = iter(item.parts)
            for table in parts:
                rows[table].append(next(parts))
    for table, table_rows in rows.items():
        # Jobs stay in the order of their parents: nobody else inserts them in another one.
        if table != "job":
            table_rows.sort(key=itemgetter(*range(_KEY_SIZES.get(table, 1))))
    return rows


async def _store_large(rows: Sequence[Row], value_store: ValueStore, min_size: int) -> list[Row]:
    """Put the bytes of large values into the value store; return the rows with placeholders."""
    limit = asyncio.Semaphore(8)
    kept = list(rows)

    async def store(index: int, row: Row) -> None:
        async with limit:
            await value_store.put(row[0], row[3])
        kept[index] = (*row[:3], b"")

    async with asyncio.TaskGroup() as group:
        for index, row in enumerate(rows):
            if row[3] and sys.getsizeof(row[3]) >= min_size:
                group.create_task(store(index, row))
    return kept


__all__ = ["RecordWriter", "cut", "join_errors", "put_records", "write_items"]
