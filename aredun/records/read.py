"""Reading records: many ids at a time, a handful of statements per batch, nothing unpickled."""

from __future__ import annotations

import asyncio
from binascii import b2a_base64
from collections import defaultdict
from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, TypeVar

import sqlalchemy as sa

from aredun.column_types import in_array
from aredun.database.record_rows import get_existing, plain, select_rows
from aredun.models import (
    Argument,
    ArgumentResult,
    CallEdge,
    CallNode,
    Execution,
    File,
    Job,
    Subvalue,
    Tag,
    TagEdit,
    Task,
    Value,
)
from aredun.record_fields import CALL_NODE, EXECUTION, JOB, TAG, VALUE, Record
from aredun.record_parsing import build_args, build_subtype
from aredun.statuses import get_job_status
from aredun.value_store import CorruptValueError

if TYPE_CHECKING:
    from collections.abc import (
        AsyncIterable,
        AsyncIterator,
        Callable,
        Collection,
        Coroutine,
        Iterable,
        Sequence,
    )

    from sqlalchemy.ext.asyncio import AsyncSession

    from aredun.database import Database
    from aredun.value_store import ValueStore

S = TypeVar("S")
T = TypeVar("T")

BATCH_SIZE: Final = 1000
# Values of more bytes than this are fetched apart from the rest, one by one.
LARGE_VALUE: Final = 1 << 16

# The primary keys of the records, in the order in which redun looks them up.
RECORD_KEYS: Final[dict[type[Any], Any]] = {
    Execution: Execution.id,
    Job: Job.id,
    CallNode: CallNode.call_hash,
    Value: Value.value_hash,
    Tag: Tag.tag_hash,
}


async def iter_batches(items: Iterable[T] | AsyncIterable[T], size: int) -> AsyncIterator[list[T]]:
    """Yield lists of at most `size` items of a plain or an async iterable, in order."""
    if hasattr(items, "__aiter__"):
        batch: list[T] = []
        async for item in items:
            batch.append(item)
            if len(batch) >= size:
                yield batch
                batch = []
        if batch:
            yield batch
        return
    plain_items = iter(items)
    while batch := list(islice(plain_items, size)):
        yield batch


async def fetch(session: AsyncSession, statement: sa.Executable) -> Sequence[Any]:
    """Return all rows of a statement, on the session's connection: they need nothing of the ORM."""
    connection = await session.connection()
    return (await connection.execute(statement)).all()


async def get_records(
    database: Database,
    ids: Iterable[str] | AsyncIterable[str],
    value_store: ValueStore | None = None,
    *,
    in_order: bool = True,
    batch_size: int = BATCH_SIZE,
) -> AsyncIterator[Record]:
    """Yield the records of the given ids; ids that no record has are passed over.

    Parameters
    ----------
    database : Database
        Where to read; no connection is held while the caller has a record.
    ids : iterable or async iterable of str
        Record ids, of any kinds.
    value_store : ValueStore, optional
        Holds the bytes of values that are not in the database; what it does not hold stays empty.
    in_order : bool
        Keep the order of the ids; without it records of one batch come kind by kind.
    batch_size : int
        Number of ids that are looked up at a time.
    """

    async def read(batch: list[str]) -> tuple[RecordReader, list[str], dict[str, Record]]:
        reader = RecordReader(database, value_store)
        return reader, batch, await reader.read(batch)

    async for reader, batch, records in iter_ahead(read, iter_batches(ids, batch_size)):
        for record_id in batch if in_order else list(records):
            record = records.get(record_id)
            if record is not None:
                yield await reader.fill(record) if record_id in reader.large else record


async def iter_ahead(
    work: Callable[[S], Coroutine[Any, Any, T]], items: AsyncIterator[S]
) -> AsyncIterator[T]:
    """Yield what `work` makes of each item, in order, while it works on the next one."""
    task: asyncio.Task[T] | None = None
    try:
        async for item in items:
            previous, task = task, asyncio.create_task(work(item))
            if previous is not None:
                yield await previous
        if task is not None:
            previous, task = task, None
            yield await previous
    finally:
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


class RecordReader:
    """Reads the records of one batch of ids."""

    def __init__(self, database: Database, value_store: ValueStore | None) -> None:
        self._database = database
        self._value_store = value_store
        # Types of the values whose bytes are fetched one by one, by hash.
        self.large: dict[str, str] = {}

    async def read(self, ids: Sequence[str]) -> dict[str, Record]:
        """Return the records by id."""
        records: dict[str, Record] = {}
        wanted = dict.fromkeys(ids)
        for read in (self._values, self._call_nodes, self._jobs, self._executions, self._tags):
            if not wanted:
                break
            found = await read(list(wanted))
            records.update(found)
            for record_id in found:
                del wanted[record_id]
        return records

    async def _fetch(self, *statements: sa.Executable) -> list[Sequence[Any]]:
        async def operation(session: AsyncSession) -> list[Sequence[Any]]:
            rows = [await fetch(session, statements[0])]
            # What belongs to no row needs no asking for.
            rows += [await fetch(session, each) if rows[0] else [] for each in statements[1:]]
            return rows

        return await self._database.read(operation)

    async def _executions(self, ids: list[str]) -> dict[str, Record]:
        (rows,) = await self._fetch(select_rows("execution", "id", ids))
        return {row[0]: EXECUTION.build(row) for row in rows}

    async def _jobs(self, ids: list[str]) -> dict[str, Record]:
        jobs = (
            select_rows("job", "id", ids)
            .add_columns(Value.type.label("result_type"))
            .outerjoin_from(Job, CallNode, CallNode.call_hash == Job.call_hash)
            .outerjoin(Value, Value.value_hash == CallNode.value_hash)
        )
        children = (
            sa.select(Job.parent_id, Job.id)
            .where(in_array(Job.parent_id, ids))
            .order_by(Job.start_time, Job.id)
        )
        return await asyncio.to_thread(_build_jobs, *await self._fetch(jobs, children))

    async def _values(self, ids: list[str]) -> dict[str, Record]:
        edges = select_rows("subvalue", "parent_value_hash", ids).order_by(Subvalue.value_hash)
        rows, pairs = await self._fetch(select_values(ids), edges)
        self.large.update((row[0], row[1]) for row in rows if row[3] is None or not row[4])
        return await asyncio.to_thread(_build_values, rows, pairs)

    async def fill(self, record: Record) -> Record:
        """Give the record of a large or stored value its bytes."""
        value_hash = record["value_hash"]
        data = await read_data(self._database, self._value_store, value_hash, self.large[value_hash])
        return {**record, "data": b2a_base64(data, newline=False).decode("ascii")}

    async def _call_nodes(self, ids: list[str]) -> dict[str, Record]:
        results = (
            sa.select(ArgumentResult.arg_hash, ArgumentResult.result_call_hash)
            .join(Argument, Argument.arg_hash == ArgumentResult.arg_hash)
            .where(in_array(Argument.call_hash, ids))
            .order_by(ArgumentResult.result_call_hash)
        )
        edges = select_rows("call_edge", "parent_id", ids)
        rows = await self._fetch(
            select_rows("call_node", "call_hash", ids),
            select_rows("argument", "call_hash", ids),
            results,
            edges.order_by(CallEdge.parent_id, CallEdge.call_order),
        )
        return await asyncio.to_thread(_build_calls, *rows)

    async def _tags(self, ids: list[str]) -> dict[str, Record]:
        edits = select_rows("tag_edit", "child_id", ids).order_by(TagEdit.parent_id)
        rows, pairs = await self._fetch(select_rows("tag", "tag_hash", ids), edits)
        parents = group_pairs((child, parent) for parent, child in pairs)
        return {row[0]: TAG.build(row, parents.get(row[0], [])) for row in rows}


def select_values(ids: Collection[str]) -> sa.Select[Any]:
    """Return the statement for values: hash, type, format, bytes, size, path, name, namespace, source.

    The bytes of large values are NULL: they are fetched one by one, by `read_data`.
    """
    size = sa.func.length(Value.value)
    small = sa.case((size <= LARGE_VALUE, Value.value), else_=None)
    return (
        sa.select(
            *map(plain, (Value.value_hash, Value.type, Value.format)),
            sa.type_coerce(small, sa.types.NullType()).label("data"),
            size.label("size"),
            File.path,
            Task.name,
            Task.namespace,
            Task.source,
        )
        .outerjoin(File, File.value_hash == Value.value_hash)
        .outerjoin(Task, Task.hash == Value.value_hash)
        .where(in_array(Value.value_hash, ids))
    )


async def read_data(
    database: Database, value_store: ValueStore | None, value_hash: str, type_name: str
) -> bytes:
    """Return the bytes of one value, from the database or else the value store; none if neither has them."""

    async def operation(session: AsyncSession) -> bytes | None:
        statement = sa.select(plain(Value.value)).where(Value.value_hash == value_hash)
        data: bytes | None = await session.scalar(statement)
        return data

    data = await database.read(operation)
    if not data and value_store is not None:
        with suppress(CorruptValueError):
            data, _ = await value_store.get(value_hash, type_name)
    return data or b""


def group_pairs(pairs: Iterable[Sequence[Any]]) -> dict[Any, list[Any]]:
    """Return the second items of pairs by their first ones, in order."""
    groups: dict[Any, list[Any]] = defaultdict(list)
    for key, item in pairs:
        groups[key].append(item)
    return groups


def _build_jobs(rows: Sequence[Any], pairs: Sequence[Any]) -> dict[str, Record]:
    children = group_pairs(pairs)
    records = {}
    for *cells, result_type in rows:
        status = get_job_status(cells[2], bool(cells[4]), result_type)
        records[cells[0]] = JOB.build(cells, status, children.get(cells[0], []))
    return records


def _build_values(rows: Sequence[Any], pairs: Sequence[Any]) -> dict[str, Record]:
    subvalues = group_pairs((parent, child) for child, parent in pairs)
    records = {}
    for *cells, _, path, name, namespace, source in rows:
        subtype = None
        if path is not None:
            subtype = build_subtype("File", (path,))
        elif name is not None:
            subtype = build_subtype("Task", (name, namespace, source))
        cells[3] = cells[3] or b""
        records[cells[0]] = VALUE.build(cells, subvalues.get(cells[0], []), subtype)
    return records


def _build_calls(
    rows: Sequence[Any], arguments: Sequence[Any], results: Sequence[Any], edges: Sequence[Any]
) -> dict[str, Record]:
    by_call = defaultdict(list)
    for arg_hash, call_hash, *cells in arguments:
        by_call[call_hash].append((arg_hash, *cells))
    upstreams = group_pairs(results)
    children = group_pairs((parent, child) for parent, child, _ in edges)
    return {
        row[0]: CALL_NODE.build(row, build_args(by_call.get(row[0], ()), upstreams), children.get(row[0], []))
        for row in rows
    }


async def has_records(database: Database, ids: Iterable[str] | AsyncIterable[str]) -> list[str]:
    """Return those of the ids that are in the database, in their order, repeats included."""
    present: list[str] = []
    async for batch in iter_batches(ids, BATCH_SIZE):
        found = await find_present(database, batch)
        present.extend(record_id for record_id in batch if record_id in found)
    return present


async def find_present(database: Database, ids: Collection[str]) -> set[str]:
    """Return those of the ids that some record in the database has."""

    async def operation(session: AsyncSession) -> set[str]:
        found: set[str] = set()
        for key in reversed(RECORD_KEYS.values()):
            missing = set(ids) - found
            if missing:
                found |= await get_existing(session, key, missing)
        return found

    return await database.read(operation)


__all__ = [
    "BATCH_SIZE",
    "RECORD_KEYS",
    "RecordReader",
    "fetch",
    "find_present",
    "get_records",
    "group_pairs",
    "has_records",
    "iter_batches",
    "read_data",
    "select_values",
]
