"""Reading records: many ids at a time, a handful of statements per batch, nothing unpickled."""

from __future__ import annotations

import asyncio
from collections import deque
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, TypeVar

import sqlalchemy as sa

from aredun.errors import InvalidRecordError
from aredun.formats.statuses import get_job_status
from aredun.loop.pacing import iter_parts, list_in_turns, take_turn
from aredun.models import CallNode, Job, Value
from aredun.storage.fetch import PLANNED_ANEW
from aredun.storage.record_rows import TABLES, find_existing, list_storable, plain
from aredun.storage.value_store import CorruptValueError
from aredun.tables.column_types import in_list
from aredun.transfer.record_checks import Verdict, check_value
from aredun.transfer.record_fields import CALL_NODE, EXECUTION, JOB, KINDS, TAG, VALUE, Record, encode_data
from aredun.transfer.record_parsing import build_args, build_subtype
from aredun.transfer.records.refusals import join_errors
from aredun.transfer.records.select import SELECTIONS, Part, Selection

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
    from aredun.transfer.records.select import Related

S = TypeVar("S")
T = TypeVar("T")

Built = tuple[str, Record]

BATCH_SIZE: Final = 2000
# Batches that are read while one is handed out: the database works on one while records are made of another.
BATCHES_AHEAD: Final = 2


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
    batch_size: int | None = None,
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
    batch_size : int, optional
        Number of ids that are looked up at a time; by default what suits the database.
    on_incomplete : callable, optional
        Is given the error of every value that is left out; without it they are raised at the end.

    Raises
    ------
    InvalidRecordError
        Some values are incomplete; the message names them. All other records have been yielded by then.
    """
    errors: list[InvalidRecordError] = []
    report = on_incomplete or errors.append

    async def read(batch: list[str]) -> tuple[list[str], dict[str, Record]]:
        return batch, await _read_records(database, batch)

    async for batch, records in iter_ahead(read, iter_batches(ids, batch_size or database.ids_at_once)):
        found = [record_id for record_id in batch if record_id in records] if in_order else [*records]
        for part in iter_parts(found):
            await take_turn()
            for record_id in part:
                record = records[record_id]
                if record.get("data") == "":
                    # A value that is large, or in the value store.
                    value = record_id, record["type"], record["format"]
                    data, problem = await read_data(database, value_store, *value)
                    if problem:
                        report(InvalidRecordError(f"Value {record_id} is incomplete: {problem}"))
                        continue
                    # The batch is not to keep the bytes.
                    record = {**record, "data": encode_data(data)}
                yield record
    if errors:
        raise join_errors(errors, "value", "left out")


async def iter_ahead(
    work: Callable[[S], Coroutine[Any, Any, T]], items: AsyncIterator[S], ahead: int = BATCHES_AHEAD
) -> AsyncGenerator[T, None]:
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


async def _read_records(database: Database, ids: Iterable[str]) -> dict[str, Record]:
    """Return the records of a batch of ids by id; large and stored values are still without their bytes."""
    records: dict[str, Record] = {}
    wanted = list(dict.fromkeys(list_storable(ids)))
    for selection, build in _READS:
        if not wanted:
            break
        records.update(await list_in_turns(build(*await selection.fetch(database, wanted))))
        wanted = [record_id for record_id in wanted if record_id not in records]
    return records


_SELECT_DATA: Final = sa.select(plain(Value.value)).where(in_list(Value.value_hash, "ids"))
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


def _build_executions(rows: Rows) -> Iterator[Built]:
    return ((row[0], EXECUTION.build(row)) for row in rows)


def _build_jobs(rows: Rows, children: Related) -> Iterator[Built]:
    for *cells, result_type in rows:
        job = JOB.make_row(*cells)
        status = get_job_status(job.end_time, bool(job.cached), result_type)
        yield job.id, JOB.build(job, status, [child for _, child in children.get(job.id, ())])


def _build_values(rows: Rows, subvalues: Related) -> Iterator[Built]:
    for value_hash, type_name, value_format, data, _, path, name, namespace, source in rows:
        subtype = None
        if path is not None:
            subtype = build_subtype("File", (path,))
        elif name is not None:
            subtype = build_subtype("Task", (name, namespace, source))
        own = (value_hash, type_name, value_format, data or b"")
        children = [child for child, _ in subvalues[value_hash]] if value_hash in subvalues else []
        yield value_hash, VALUE.build(own, children, subtype)


def _build_calls(rows: Rows, arguments: Related, results: Related, edges: Related) -> Iterator[Built]:
    for row in rows:
        call_hash = row[0]
        children = [child for _, child, _ in edges[call_hash]] if call_hash in edges else []
        yield call_hash, CALL_NODE.build(row, build_args(arguments.get(call_hash, ()), results), children)


def _build_tags(rows: Rows, edits: Related) -> Iterator[Built]:
    return ((row[0], TAG.build(row, [parent for parent, _ in edits.get(row[0], ())])) for row in rows)


_JOBS: Final = Selection(
    sa.select(*(plain(column) for column in TABLES["job"].columns), Value.type)
    .outerjoin_from(Job, CallNode, CallNode.call_hash == Job.call_hash)
    .outerjoin(Value, Value.value_hash == CallNode.value_hash)
    .where(in_list(Job.id, "ids")),
    (
        Part(
            sa.select(Job.parent_id, Job.id)
            .where(in_list(Job.parent_id, "ids"))
            .order_by(Job.start_time, Job.id),
            owner=0,
        ),
    ),
)
# The statements by which ids are looked up, in order until one finds them; what makes records of their rows.
_READS: Final[tuple[tuple[Selection, Callable[..., Iterator[Built]]], ...]] = (
    (SELECTIONS["Value"], _build_values),
    (SELECTIONS["CallNode"], _build_calls),
    (_JOBS, _build_jobs),
    (SELECTIONS["Execution"], _build_executions),
    (SELECTIONS["Tag"], _build_tags),
)


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
    for kind in reversed(KINDS.values()):
        if missing:
            missing -= await find_existing(database, kind.table, kind.pk, missing)
    return set(ids) - missing
