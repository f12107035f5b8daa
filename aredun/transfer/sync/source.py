"""Reading a source row by row, into what a destination writes: no JSON in between; checked by hashes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache, partial
from itertools import chain, repeat
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from aredun.loop.pacing import iter_parts, list_in_turns, take_turn
from aredun.models import Job, Value
from aredun.storage.record_rows import list_storable, plain, select_rows
from aredun.storage.rows import (
    ARGUMENT,
    ARGUMENT_RESULT,
    CALL_EDGE,
    CALL_NODE,
    EVALUATION,
    FILE,
    ROW_TABLES,
    SUBVALUE,
    TAG_EDIT,
    TASK,
    VALUE,
)
from aredun.tables.column_types import JSON, DateTimeUTC, in_list
from aredun.transfer.record_checks import normalize_json
from aredun.transfer.record_fields import KINDS, ParsedRecord
from aredun.transfer.records.check import check_in_turns, check_items
from aredun.transfer.records.derive import hash_evaluation
from aredun.transfer.records.packed_ids import pack_all, unpack_all
from aredun.transfer.records.read import NOT_STORED, iter_ahead, iter_batches, read_data
from aredun.transfer.records.refusals import NOT_FOUND, describe_missing_bytes
from aredun.transfer.records.select import SELECT_VALUES, SELECTIONS

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence

    from aredun.storage import Database
    from aredun.storage.fetch import Rows
    from aredun.storage.rows import Row, RowTable
    from aredun.storage.value_store import ValueStore
    from aredun.transfer.records.packed_ids import Packed
    from aredun.transfer.records.refusals import Refusals
    from aredun.transfer.records.select import Related
    from aredun.transfer.sync.report import Progress

# Calls and jobs that are held from the walk until they are copied, some 2 kB each.
KEPT_RECORDS: Final = 24_000
# Bytes of large values that are held at a time.
LARGE_BATCH: Final = 1 << 24


class Source:
    """A repository to read from.

    The walk reads calls and jobs to find what they own; what it read is kept until it has been copied, as far
    as there is room, and read again where there was none.

    Parameters
    ----------
    database : Database
        Its database.
    value_store : ValueStore, optional
        Its value store.
    """

    def __init__(self, database: Database, value_store: ValueStore | None) -> None:
        self.database = database
        self._value_store = value_store
        self._kept: dict[str, ParsedRecord] = {}
        # The row of `evaluation` of each kept call, by call hash; None where there is no such row.
        self._steps: dict[str, Row | None] = {}
        # Why the bytes of a value cannot be read, by hash.
        self.incomplete: dict[str, str] = {}

    async def _read(self, ids: Sequence[str], statement: sa.SelectBase) -> Rows:
        return await self.database.fetch(statement, {"ids": ids})

    async def read_job_links(self, executions: Sequence[str], count: int) -> Rows:
        """Return the ids, start times, tasks and calls of the jobs of executions.

        If there is room for `count` of them they are kept; otherwise no more of them is read.
        """
        if count > KEPT_RECORDS:
            return await self._read(executions, _JOB_LINKS)
        rows = await self._read(executions, _JOBS_OF_EXECUTIONS)
        items = await list_in_turns(_make_records("Job", rows))
        self._keep(items)
        return list(map(_get_job_link, (item.row for item in items)))

    async def read_calls(self, ids: Sequence[str]) -> tuple[list[ParsedRecord], list[Row]]:
        """Return calls and what single steps of them are cached as (rows of `evaluation`), and keep both."""
        items = await self._read_records("CallNode", ids)
        steps = await self._read_steps(items)
        for item in self._keep(items):
            self._steps[item.id] = steps[item.id]
        return items, [row for row in steps.values() if row is not None]

    async def _read_records(self, kind: str, ids: Sequence[str]) -> list[ParsedRecord]:
        rows = await SELECTIONS[kind].fetch(self.database, ids)
        return await list_in_turns(_make_calls(*rows) if kind == "CallNode" else _make_records(kind, *rows))

    def _keep(self, items: list[ParsedRecord]) -> list[ParsedRecord]:
        """Keep items as far as there is room, and return those."""
        kept = items[: max(0, KEPT_RECORDS - len(self._kept))]
        # The others are missed, and refused, when they are asked for.
        askable = set(list_storable(item.id for item in kept))
        kept = [item for item in kept if item.id in askable]
        self._kept.update((item.id, item) for item in kept)
        return kept

    async def forget(self, ids: Sequence[str]) -> None:
        """Make room: those records will not be asked for again."""
        for part in iter_parts(ids):
            await take_turn()
            for record_id in part:
                self._kept.pop(record_id, None)
                self._steps.pop(record_id, None)

    async def iter_items(self, kind: str, ids: list[str]) -> AsyncIterator[list[ParsedRecord]]:
        """Yield the records of one kind with the given ids, ready to be written.

        Values come in several lists, so that their bytes are never all in memory.
        """
        if kind == "Value":
            async for items in self._iter_values(*await SELECTIONS[kind].fetch(self.database, ids)):
                yield items
            return
        items = [self._kept[each] for each in ids if each in self._kept]
        if others := [each for each in ids if each not in self._kept]:
            items += await self._read_records(kind, others)
        yield items

    async def get_steps(self, calls: Sequence[ParsedRecord]) -> dict[str, Row]:
        """Return what single steps of calls are cached as (rows of `evaluation`), by call hash."""
        steps = {item.id: self._steps[item.id] for item in calls if item.id in self._steps}
        if others := [item for item in calls if item.id not in steps]:
            steps |= await self._read_steps(others)
        return {call_hash: row for call_hash, row in steps.items() if row is not None}

    async def _read_steps(self, calls: Sequence[ParsedRecord]) -> dict[str, Row | None]:
        """Return the cached single step of each call, None where there is none."""
        keys = await list_in_turns(hash_evaluation(item.row.task_hash, item.row.args_hash) for item in calls)
        rows = await self._read(list(dict.fromkeys(keys)), select_rows("evaluation", "eval_hash"))
        by_key = {row.eval_hash: row for row in _make_rows(EVALUATION, rows)}
        return {item.id: by_key.get(key) for item, key in zip(calls, keys, strict=True)}

    async def find_incomplete(self, ids: Sequence[str]) -> list[str]:
        """Return those of some values whose bytes are lost, and take note of what is the matter."""
        rows = await self._read(ids, _STORED_VALUES)
        for value_hash, type_name, value_format in rows:
            _, problem = await read_data(
                self.database, self._value_store, value_hash, type_name, value_format
            )
            if problem:
                self.incomplete[value_hash] = problem
        return [value_hash for value_hash, *_ in rows if value_hash in self.incomplete]

    async def _iter_values(self, rows: Rows, subvalues: Related) -> AsyncIterator[list[ParsedRecord]]:
        small = [row for row in rows if row[_DATA]]
        yield await list_in_turns(_make_value(row, subvalues) for row in small)
        batch: list[ParsedRecord] = []
        size = 0
        for row in rows:
            if not row[_DATA]:
                value_hash, type_name, value_format, *_ = row
                data, problem = await read_data(
                    self.database, self._value_store, value_hash, type_name, value_format
                )
                if problem:
                    self.incomplete[value_hash] = problem
                batch.append(_make_value(row, subvalues, data))
                size += len(data)
                if size >= LARGE_BATCH:
                    yield batch
                    batch, size = [], 0
        if batch:
            yield batch


_STORED_VALUES: Final = sa.select(*map(plain, (Value.value_hash, Value.type, Value.format))).where(
    in_list(Value.value_hash, "ids"), sa.func.length(Value.value) == 0
)
# The column of `SELECT_VALUES` that has the bytes.
_DATA: Final = SELECT_VALUES.selected_columns.keys().index("data")
_JOBS_OF_EXECUTIONS: Final = select_rows("job", "execution_id")
_get_job_link: Final = attrgetter("id", "start_time", "task_hash", "call_hash")
_JOB_LINKS: Final = sa.select(Job.id, plain(Job.start_time), Job.task_hash, Job.call_hash).where(
    in_list(Job.execution_id, "ids")
)


def _to_text(time: Any) -> str | None:
    """Return a timestamp in the form of neutral rows; sqlite gives it so."""
    if isinstance(time, datetime):
        return time.astimezone(UTC).isoformat(" ", "microseconds")[:26]
    text: str | None = time
    return text


# Makes the cells of the two databases equal, by types of columns.
_NEUTRAL: Final[dict[type[Any], Callable[[Any], Any]]] = {
    DateTimeUTC: _to_text,
    sa.Boolean: bool,
    JSON: normalize_json,
}


@cache
def _get_row_maker(table: RowTable) -> Callable[[Iterable[Any]], Row]:
    """Return what makes the neutral row of a row of the database."""
    make = partial(tuple.__new__, table.record_row)
    types = enumerate(type(table.table.c[name].type) for name in table.record_columns)
    converters = [(place, _NEUTRAL[kind]) for place, kind in types if kind in _NEUTRAL]
    if not converters:
        return make

    def convert(row: Iterable[Any]) -> Row:
        cells = list(row)
        for place, to_neutral in converters:
            cells[place] = to_neutral(cells[place])
        return make(cells)

    return convert


def _make_rows(table: RowTable, rows: Rows) -> Iterator[Row]:
    """Yield the neutral rows that some of the database are."""
    return map(_get_row_maker(table), rows)


def _name_rows(table: RowTable, rows: Rows) -> Iterator[Any]:
    """Yield rows of another table as `ParsedRecord.parts` has them: each after the name of the table."""
    return chain.from_iterable(zip(repeat(table.name), _make_rows(table, rows)))


def _make_records(kind: str, rows: Rows, edits: Related | None = None) -> Iterator[ParsedRecord]:
    """Make records of a kind that has no rows in other tables, but for the edits of tags."""
    for row in _make_rows(ROW_TABLES[KINDS[kind].table], rows):
        yield ParsedRecord(kind, row, [*_name_rows(TAG_EDIT, edits.get(row[0], []))] if edits else ())


def _make_value(row: Sequence[Any], subvalues: Related, read: bytes = b"") -> ParsedRecord:
    """Make the record of a row of `SELECT_VALUES`, whose bytes may have been read apart."""
    value_hash, type_name, value_format, data, _, path, name, namespace, source = row
    parts: Any = ()
    if path is not None:
        parts = ("file", FILE.row(value_hash=value_hash, path=path))
    if name is not None:
        task = TASK.row(hash=value_hash, name=name, namespace=namespace, source=source)
        parts = (*parts, "task", task)
    if value_hash in subvalues:
        parts = [*parts, *_name_rows(SUBVALUE, subvalues[value_hash])]
    value = VALUE.row(value_hash=value_hash, type=type_name, format=value_format, value=data or read)
    return ParsedRecord("Value", value, parts)


def _make_calls(rows: Rows, arguments: Related, results: Related, edges: Related) -> Iterator[ParsedRecord]:
    for row in _make_rows(CALL_NODE, rows):
        own = arguments.get(row.call_hash, [])
        parts = [*_name_rows(ARGUMENT, own)]
        for arg_hash, *_ in own:
            if arg_hash in results:
                parts += _name_rows(ARGUMENT_RESULT, results[arg_hash])
        if row.call_hash in edges:
            parts += _name_rows(CALL_EDGE, edges[row.call_hash])
        yield ParsedRecord("CallNode", row, parts)


@dataclass(frozen=True)
class CheckedReader:
    """Reads records, and refuses those that are not there or not what their hash says.

    Attributes
    ----------
    source : Source
        Where to read.
    refusals : Refusals
        Is told what is refused.
    progress : Progress
        Is told of the records that are done with; its report counts what cannot be checked.
    slots : Semaphore
        Batches that may be written at a time, of whatever kind.
    workers : int
        Batches that are read at a time.
    batch_size : int
        Records in one batch.
    """

    source: Source
    refusals: Refusals
    progress: Progress
    slots: asyncio.Semaphore
    workers: int
    batch_size: int

    def cut(self, keys: Sequence[Packed]) -> list[Sequence[Packed]]:
        """Return keys in batches."""
        return list(iter_parts(keys, self.batch_size))

    async def read_unchecked(self, kind: str, keys: Sequence[Packed]) -> AsyncIterator[list[ParsedRecord]]:
        """Yield batches in order, while the next ones are being read; not for values, which may be large."""

        async def read(part: Sequence[Packed]) -> list[ParsedRecord]:
            await take_turn()
            return [item async for items in self.source.iter_items(kind, unpack_all(part)) for item in items]

        async for items in iter_ahead(read, iter_batches(keys, self.batch_size), self.workers - 1):
            yield items

    async def read(self, kind: str, keys: Sequence[Packed]) -> AsyncIterator[list[ParsedRecord]]:
        """Yield the good records of one batch, in parts where they are large; refuse the others."""
        # Records refer to these ids, but the source may have no such records, or no database such ids.
        batches = self.source.iter_items(kind, unpack_all(keys))
        async for items in self.refuse_unread(kind, keys, batches, NOT_FOUND):
            yield await self._check(items)

    async def refuse_unread(
        self, kind: str, keys: Iterable[Packed], batches: AsyncIterator[list[ParsedRecord]], reason: str
    ) -> AsyncIterator[list[ParsedRecord]]:
        """Yield batches; refuse what is in none of them."""
        unread = set(keys)
        async for items in batches:
            unread.difference_update(pack_all([item.id for item in items]))
            yield items
        for record_id in unpack_all(sorted(unread, key=str)):
            self.refusals.refuse(kind, record_id, reason)

    async def _check(self, items: Sequence[ParsedRecord]) -> list[ParsedRecord]:
        """Return those whose hashes are right, or cannot be computed; refuse the others."""
        present: list[ParsedRecord] = []
        for item in items:
            if item.kind == "Value" and not item.size:
                reason = self.source.incomplete.get(item.id, NOT_STORED)
                self.refusals.refuse(item.kind, item.id, describe_missing_bytes(reason))
            else:
                present.append(item)
        good: list[ParsedRecord] = []
        async for checked in check_in_turns(check_items, present, attrgetter("size")):
            good += checked.right
            good += checked.mismatched
            self.progress.report.unverified += checked.unverifiable + len(checked.mismatched)
            for item, error in checked.wrong:
                self.refusals.refuse_wrong(item, error)
        return good
