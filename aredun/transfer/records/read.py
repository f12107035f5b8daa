"""Reading records: many ids at a time, a handful of statements per batch, nothing unpickled."""

from __future__ import annotations

import asyncio
from binascii import b2a_base64
from collections import defaultdict, deque
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, TypeVar

import sqlalchemy as sa

from aredun.errors import InvalidRecordError
from aredun.formats.statuses import get_job_status
from aredun.loop.pacing import PIECE_SIZE, iter_parts, list_in_turns, take_turn
from aredun.models import (
    Argument,
    ArgumentResult,
    CallNode,
    Execution,
    File,
    Job,
    Tag,
    Task,
    Value,
)
from aredun.storage.fetch import PLANNED_ANEW
from aredun.storage.record_rows import TABLES, find_existing, list_storable, plain, select_rows
from aredun.storage.rows import ARGUMENT
from aredun.storage.value_store import CorruptValueError
from aredun.tables.column_types import ShortBinary, in_list
from aredun.transfer.record_checks import Verdict, check_value
from aredun.transfer.record_fields import CALL_NODE, EXECUTION, JOB, TAG, VALUE, Record
from aredun.transfer.record_parsing import build_args, build_subtype
from aredun.transfer.records.refusals import join_errors

if TYPE_CHECKING:
    from collections.abc import (
        AsyncGenerator,
        AsyncIterable,
        AsyncIterator,
        Callable,
        Collection,
        Coroutine,
        Iterable,
        Iterator,
        Sequence,
    )

    from sqlalchemy.ext.asyncio import AsyncSession

    from aredun.storage import Database
    from aredun.storage.fetch import Rows
    from aredun.storage.value_store import ValueStore

S = TypeVar("S")
T = TypeVar("T")

Built = tuple[str, Record]

BATCH_SIZE: Final = 2000
# Values of more bytes than this are fetched apart from the rest, one by one.
LARGE_VALUE: Final = 1 << 15
# Batches that are read while one is handed out: the database works on one while records are made of another.
BATCHES_AHEAD: Final = 2

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
    on_incomplete: Callable[[InvalidRecordError], None] | None = None,
) -> AsyncGenerator[Record, None]:
    """Yield the records of the given ids; ids that no record has are passed over.

    A value whose bytes cannot be found, or are not the value's, is left out.

    Parameters
    ----------
    database : Database
        Where to read; no connection is held while the caller has a record.
    ids : iterable or async iterable of str
        Record ids, of any kinds.
    value_store : ValueStore, optional
        Holds the bytes of values that are not in the database.
    in_order : bool
        Keep the order of the ids; without it records of one batch come kind by kind.
    batch_size : int
        Number of ids that are looked up at a time.
    on_incomplete : callable, optional
        Is given the error of every value that is left out; without it they are raised at the end.

    Raises
    ------
    InvalidRecordError
        Some values are incomplete; the message names them. All other records have been yielded by then.
    """
    lost: list[InvalidRecordError] = []
    report = on_incomplete or lost.append

    async def read(batch: list[str]) -> tuple[RecordReader, list[str], dict[str, Record]]:
        reader = RecordReader(database, value_store)
        return reader, batch, await reader.read(batch)

    async for reader, batch, records in iter_ahead(read, iter_batches(ids, batch_size)):
        found = [record_id for record_id in batch if record_id in records] if in_order else [*records]
        for part in iter_parts(found):
            await take_turn()
            for record_id in part:
                if record_id not in reader.large:
                    yield records[record_id]
                    continue
                record, problem = await reader.fill(records[record_id])
                if problem:
                    report(InvalidRecordError(f"Value {record_id} is incomplete: {problem}"))
                else:
                    yield record
    if lost:
        raise join_errors(lost, "value", "left out")


async def iter_ahead(
    work: Callable[[S], Coroutine[Any, Any, T]], items: AsyncIterator[S], ahead: int = BATCHES_AHEAD
) -> AsyncIterator[T]:
    """Yield what `work` makes of each item, in order, while it works on the next ones."""
    tasks: deque[asyncio.Task[T]] = deque()
    try:
        async for item in items:
            tasks.append(asyncio.create_task(work(item)))
            if len(tasks) > ahead:
                yield await tasks.popleft()
        while tasks:
            yield await tasks.popleft()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class RecordReader:
    """Reads the records of one batch of ids."""

    def __init__(self, database: Database, value_store: ValueStore | None) -> None:
        self._database = database
        self._value_store = value_store
        # Types and formats of the values whose bytes are fetched one by one, by hash.
        self.large: dict[str, tuple[str, str]] = {}

    async def read(self, ids: Sequence[str]) -> dict[str, Record]:
        """Return the records by id."""
        records: dict[str, Record] = {}
        wanted = dict.fromkeys(list_storable(ids))
        for read in (self._values, self._call_nodes, self._jobs, self._executions, self._tags):
            if not wanted:
                break
            found = await list_in_turns(await read(list(wanted)))
            records.update(found)
            for record_id, _ in found:
                del wanted[record_id]
        return records

    async def _fetch(self, ids: list[str], *statements: sa.SelectBase) -> list[Rows]:
        """Return the rows of the ids by the first statement, and what the others say of those."""
        rows = await self._database.fetch(statements[0], {"ids": ids})
        # What belongs to no row needs no asking for.
        found = {"ids": [row[0] for row in rows]}
        return [rows, *[await self._database.fetch(each, found) if rows else [] for each in statements[1:]]]

    async def _executions(self, ids: list[str]) -> Iterator[Built]:
        (rows,) = await self._fetch(ids, select_rows("execution", "id"))
        return ((row[0], EXECUTION.build(row)) for row in rows)

    async def _jobs(self, ids: list[str]) -> Iterator[Built]:
        rows, pairs = await self._fetch(ids, _JOBS, _CHILD_JOBS)
        return _build_jobs(rows, await _group_in_turns(pairs))

    async def _values(self, ids: list[str]) -> Iterator[Built]:
        rows, pairs = await self._fetch(
            ids, SELECT_VALUES, select_rows("subvalue", "parent_value_hash", ("value_hash",))
        )
        self.large.update(
            (value_hash, (type_name, value_format))
            for value_hash, type_name, value_format, data, size, *_ in rows
            if data is None or not size
        )
        return _build_values(rows, await _group_in_turns((parent, child) for child, parent in pairs))

    async def fill(self, record: Record) -> tuple[Record, str]:
        """Give the record of a large or stored value its bytes, or say what is the matter with those."""
        value_hash = record["value_hash"]
        type_name, value_format = self.large[value_hash]
        data, problem = await read_data(
            self._database, self._value_store, value_hash, type_name, value_format
        )
        return {**record, "data": b2a_base64(data, newline=False).decode("ascii")}, problem

    async def _call_nodes(self, ids: list[str]) -> Iterator[Built]:
        rows, arguments, results, edges = await self._fetch(
            ids,
            select_rows("call_node", "call_hash"),
            select_rows("argument", "call_hash"),
            _RESULTS,
            select_rows("call_edge", "parent_id", ("parent_id", "call_order")),
        )
        return _build_calls(
            rows,
            await _group_in_turns((row[_CALL_OF_ARGUMENT], row) for row in arguments),
            await _group_in_turns(results),
            await _group_in_turns((parent, child) for parent, child, _ in edges),
        )

    async def _tags(self, ids: list[str]) -> Iterator[Built]:
        rows, pairs = await self._fetch(
            ids, select_rows("tag", "tag_hash"), select_rows("tag_edit", "child_id", ("parent_id",))
        )
        parents = await _group_in_turns((child, parent) for parent, child in pairs)
        return ((row[0], TAG.build(row, parents.get(row[0], []))) for row in rows)


def _select_values() -> sa.Select[Any]:
    size = sa.func.length(Value.value)
    small = sa.case((size <= LARGE_VALUE, Value.value), else_=None)
    return (
        sa.select(
            *map(plain, (Value.value_hash, Value.type, Value.format)),
            sa.type_coerce(small, ShortBinary()).label("data"),
            size.label("size"),
            File.path,
            Task.name,
            Task.namespace,
            Task.source,
        )
        .outerjoin(File, File.value_hash == Value.value_hash)
        .outerjoin(Task, Task.hash == Value.value_hash)
        .where(in_list(Value.value_hash, "ids"))
    )


# Values: hash, type, format, bytes, size, path, name, namespace, source. The bytes of large values are NULL:
# they are fetched one by one, by `read_data`.
SELECT_VALUES: Final = _select_values()
_SELECT_DATA: Final = sa.select(plain(Value.value)).where(in_list(Value.value_hash, "ids"))
_JOBS: Final = (
    sa.select(*(plain(column) for column in TABLES["job"].columns), Value.type)
    .outerjoin_from(Job, CallNode, CallNode.call_hash == Job.call_hash)
    .outerjoin(Value, Value.value_hash == CallNode.value_hash)
    .where(in_list(Job.id, "ids"))
)
_CHILD_JOBS: Final = (
    sa.select(Job.parent_id, Job.id).where(in_list(Job.parent_id, "ids")).order_by(Job.start_time, Job.id)
)
_RESULTS: Final = (
    sa.select(ArgumentResult.arg_hash, ArgumentResult.result_call_hash)
    .join(Argument, Argument.arg_hash == ArgumentResult.arg_hash)
    .where(in_list(Argument.call_hash, "ids"))
    .order_by(ArgumentResult.result_call_hash)
)


# What can be the matter with a value whose row holds no bytes.
NO_STORE: Final = "its bytes are in a value store, and value_store_path is not set"
NOT_STORED: Final = "its bytes are not in the value store"
NOT_ITS_OWN: Final = "its file in the value store holds something else"


async def read_data(
    database: Database, value_store: ValueStore | None, value_hash: str, type_name: str, value_format: str
) -> tuple[bytes, str]:
    """Return the bytes of one value, from the database or else the value store.

    Returns
    -------
    tuple of (bytes, str)
        The bytes and "", or no bytes and what is the matter.
    """
    rows = await database.fetch(_SELECT_DATA, {"ids": [value_hash]})
    if rows and rows[0][0]:
        return rows[0][0], ""
    return await read_stored(value_store, value_hash, type_name, value_format)


async def read_stored(
    value_store: ValueStore | None, value_hash: str, type_name: str, value_format: str
) -> tuple[bytes, str]:
    """Return the bytes that the value store holds of a value like `read_data`, checked by their hash."""
    if value_store is None:
        return b"", NO_STORE
    try:
        data, found = await value_store.get(value_hash, type_name)
    except CorruptValueError:
        return b"", NOT_ITS_OWN
    if not found:
        return b"", NOT_STORED
    verdict = await asyncio.to_thread(check_value, value_hash, type_name, value_format, data)
    return (b"", NOT_ITS_OWN) if verdict is Verdict.WRONG else (data, "")


_Groups = dict[str, list[Any]]


async def _group_in_turns(pairs: Iterable[Sequence[Any]]) -> _Groups:
    """Return the second items of pairs by their first ones, in order."""
    groups: _Groups = defaultdict(list)
    rest = iter(pairs)
    while part := list(islice(rest, PIECE_SIZE)):
        await take_turn()
        for key, item in part:
            groups[key].append(item)
    return groups


def _build_jobs(rows: Rows, children: _Groups) -> Iterator[Built]:
    for *cells, result_type in rows:
        job = JOB.make_row(*cells)
        status = get_job_status(job.end_time, bool(job.cached), result_type)
        yield job.id, JOB.build(job, status, children.get(job.id, []))


def _build_values(rows: Rows, subvalues: _Groups) -> Iterator[Built]:
    for value_hash, type_name, value_format, data, _, path, name, namespace, source in rows:
        subtype = None
        if path is not None:
            subtype = build_subtype("File", (path,))
        elif name is not None:
            subtype = build_subtype("Task", (name, namespace, source))
        own = (value_hash, type_name, value_format, data or b"")
        yield value_hash, VALUE.build(own, subvalues.get(value_hash, []), subtype)


_CALL_OF_ARGUMENT: Final = ARGUMENT.columns.index("call_hash")


def _build_calls(rows: Rows, arguments: _Groups, upstreams: _Groups, children: _Groups) -> Iterator[Built]:
    for row in rows:
        call_hash = row[0]
        args = build_args(arguments.get(call_hash, ()), upstreams)
        yield call_hash, CALL_NODE.build(row, args, children.get(call_hash, []))


async def has_records(database: Database, ids: Iterable[str] | AsyncIterable[str]) -> list[str]:
    """Return those of the ids that are in the database, in their order, repeats included."""
    present: list[str] = []
    async for batch in iter_batches(ids, BATCH_SIZE):
        found = await find_present(database, batch)
        present.extend(record_id for record_id in batch if record_id in found)
    return present


# Which of some jobs have ended: a job that was under way when it was written is to be written again.
FINISHED_JOBS: Final = (
    sa.select(Job.id)
    .where(in_list(Job.id, "ids", sparse=True), Job.end_time.is_not(None))
    .execution_options(**PLANNED_ANEW)
)


async def find_present(database: Database, ids: Collection[str]) -> set[str]:
    """Return those of the ids that some record in the database has."""
    missing = set(ids)
    for key in reversed(RECORD_KEYS.values()):
        if missing:
            missing -= await find_existing(database, key.class_.__tablename__, key.key, missing)
    return set(ids) - missing
