"""Walking the records along their ownership: an execution owns its jobs, a call its arguments, and so on."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

import sqlalchemy as sa

from aredun.models import (
    Argument,
    ArgumentResult,
    CallEdge,
    CallNode,
    Execution,
    Job,
    Subvalue,
    Tag,
    TagEdit,
    Task,
    Value,
)
from aredun.storage.record_rows import find_existing
from aredun.storage.rows import ROW_TABLES
from aredun.tables.column_types import in_array
from aredun.transfer.record_fields import KINDS
from aredun.transfer.records.packed_ids import IdSet
from aredun.transfer.records.read import BATCH_SIZE, fetch, iter_batches

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Sequence

    from sqlalchemy.ext.asyncio import AsyncSession

    from aredun.models import Base
    from aredun.storage import Database

RecordEdge = tuple[str, "type[Base]", str]


async def get_execution_child_edges(session: AsyncSession, ids: Iterable[str]) -> AsyncIterator[RecordEdge]:
    """Yield the edges from executions to their root jobs (mirrors redun's `get_execution_child_edges`).

    Parameters
    ----------
    session : AsyncSession
        Where to read.
    ids : iterable of str
        Whole ids of executions.

    Yields
    ------
    tuple of (label, model, id)
        `Execution.job`.
    """
    for (job_id,) in await fetch(session, sa.select(Execution.job_id).where(in_array(Execution.id, ids))):
        yield "Execution.job", Job, job_id


async def get_job_child_edges(session: AsyncSession, ids: Iterable[str]) -> AsyncIterator[RecordEdge]:
    """Yield the edges from jobs to their tasks, call nodes and child jobs.

    Mirrors redun's `get_job_child_edges`.

    A job that has no call node yet has no edge to one, where redun yields an edge to None.

    Parameters
    ----------
    session : AsyncSession
        Where to read.
    ids : iterable of str
        Whole ids of jobs.

    Yields
    ------
    tuple of (label, model, id)
        `Job.task` and `Job.call_hash` of all jobs, then `Job.child_job` by start time, then id.
    """
    ids = list(ids)
    own = sa.select(Job.task_hash, Job.call_hash).where(in_array(Job.id, ids))
    for task_hash, call_hash in await fetch(session, own):
        yield "Job.task", Task, task_hash
        if call_hash is not None:
            yield "Job.call_hash", CallNode, call_hash
    children = sa.select(Job.id).where(in_array(Job.parent_id, ids)).order_by(Job.start_time, Job.id)
    for (job_id,) in await fetch(session, children):
        yield "Job.child_job", Job, job_id


async def get_call_node_child_edges(session: AsyncSession, ids: Iterable[str]) -> AsyncIterator[RecordEdge]:
    """Yield the edges from call nodes to tasks, results, arguments, upstreams and children.

    Mirrors redun's `get_call_node_child_edges`.

    Parameters
    ----------
    session : AsyncSession
        Where to read.
    ids : iterable of str
        Whole hashes of calls.

    Yields
    ------
    tuple of (label, model, id)
        `CallNode.task` and `CallNode.result`, then `CallNode.arg` and `CallNode.upstream`, then
        `CallNode.child_call_node`, by call and in the order of the calls made.
    """
    ids = list(ids)
    own = sa.select(CallNode.task_hash, CallNode.value_hash).where(in_array(CallNode.call_hash, ids))
    for task_hash, value_hash in await fetch(session, own):
        yield "CallNode.task", Task, task_hash
        yield "CallNode.result", Value, value_hash
    arguments = (
        sa.select(Argument.arg_hash, Argument.value_hash, ArgumentResult.result_call_hash)
        .outerjoin(ArgumentResult, ArgumentResult.arg_hash == Argument.arg_hash)
        .where(in_array(Argument.call_hash, ids))
    )
    seen = set()
    for arg_hash, value_hash, upstream in await fetch(session, arguments):
        if arg_hash not in seen:
            seen.add(arg_hash)
            yield "CallNode.arg", Value, value_hash
        if upstream is not None:
            yield "CallNode.upstream", CallNode, upstream
    children = (
        sa.select(CallEdge.child_id)
        .where(in_array(CallEdge.parent_id, ids))
        .order_by(CallEdge.parent_id, CallEdge.call_order)
    )
    for (child_id,) in await fetch(session, children):
        yield "CallNode.child_call_node", CallNode, child_id


async def get_value_child_edges(session: AsyncSession, ids: Iterable[str]) -> AsyncIterator[RecordEdge]:
    """Yield the edges from values to their subvalues (mirrors redun's `get_value_child_edges`).

    Parameters
    ----------
    session : AsyncSession
        Where to read.
    ids : iterable of str
        Whole hashes of values.

    Yields
    ------
    tuple of (label, model, id)
        `Value.subvalue`.
    """
    statement = sa.select(Subvalue.value_hash).where(in_array(Subvalue.parent_value_hash, ids))
    for (value_hash,) in await fetch(session, statement):
        yield "Value.subvalue", Value, value_hash


async def get_tag_child_edges(session: AsyncSession, ids: Iterable[str]) -> AsyncIterator[RecordEdge]:
    """Yield the edges from tags to the tags that they replaced, and to those that replaced them.

    Mirrors redun's `get_tag_child_edges`.

    Parameters
    ----------
    session : AsyncSession
        Where to read.
    ids : iterable of str
        Whole hashes of tags.

    Yields
    ------
    tuple of (label, model, id)
        `Tag.parent`, then `Tag.child`.
    """
    ids = list(ids)
    parents = sa.select(TagEdit.parent_id).where(in_array(TagEdit.child_id, ids))
    for (parent_id,) in await fetch(session, parents):
        yield "Tag.parent", Tag, parent_id
    children = sa.select(TagEdit.child_id).where(in_array(TagEdit.parent_id, ids))
    for (child_id,) in await fetch(session, children):
        yield "Tag.child", Tag, child_id


async def get_tag_entity_child_edges(session: AsyncSession, ids: Iterable[str]) -> AsyncIterator[RecordEdge]:
    """Yield the edges from entities of any kind to their tags, current or not.

    Mirrors redun's `get_tag_entity_child_edges`.

    Parameters
    ----------
    session : AsyncSession
        Where to read.
    ids : iterable of str
        Whole ids of entities of any kind.

    Yields
    ------
    tuple of (label, model, id)
        `Entity.tag`.
    """
    statement = sa.select(Tag.tag_hash).where(in_array(Tag.entity_id, ids))
    for (tag_hash,) in await fetch(session, statement):
        yield "Entity.tag", Tag, tag_hash


_CHILD_EDGES: dict[type[Base], Callable[[AsyncSession, Iterable[str]], AsyncIterator[RecordEdge]]] = {
    Execution: get_execution_child_edges,
    Job: get_job_child_edges,
    CallNode: get_call_node_child_edges,
    Value: get_value_child_edges,
    Tag: get_tag_child_edges,
}


async def _fetch_edges(
    database: Database,
    get_edges: Callable[[AsyncSession, Iterable[str]], AsyncIterator[RecordEdge]],
    ids: Sequence[str],
) -> list[RecordEdge]:
    async def operation(session: AsyncSession) -> list[RecordEdge]:
        return [edge async for edge in get_edges(session, ids)]

    return await database.read(operation)


async def get_child_record_ids(
    database: Database,
    model_ids: Iterable[tuple[type[Base], str]] | AsyncIterable[tuple[type[Base], str]],
) -> AsyncIterator[RecordEdge]:
    """Yield the ownership edges of records, without holding a connection between batches.

    Parameters
    ----------
    database : Database
        Where to read.
    model_ids : iterable of (model, id)
        The records. Those of other models than redun walks (a `Task`) only have edges to their tags.

    Yields
    ------
    tuple of (label, model, id)
        The edges of each batch of records by model, then those to their tags; each batch holds what one
        statement asks for at a time. The same child may come again.
    """
    async for batch in iter_batches(model_ids, BATCH_SIZE):
        by_model = defaultdict(list)
        for model, record_id in batch:
            by_model[model].append(record_id)
        for model, get_edges in _CHILD_EDGES.items():
            if by_model[model]:
                for edge in await _fetch_edges(database, get_edges, by_model[model]):
                    yield edge
        ids = [record_id for _, record_id in batch]
        for edge in await _fetch_edges(database, get_tag_entity_child_edges, ids):
            yield edge


async def find_models(database: Database, ids: Sequence[str]) -> dict[str, list[type[Base]]]:
    """Return the models of the records that have the given ids, by id; unknown ids are left out."""
    models: dict[str, list[type[Base]]] = defaultdict(list)
    for kind in KINDS.values():
        for record_id in await find_existing(database, kind.table, kind.pk, ids):
            models[record_id].append(ROW_TABLES[kind.table].model)
    return models


async def iter_record_ids(
    database: Database, root_ids: Iterable[str] | AsyncIterable[str]
) -> AsyncIterator[str]:
    """Yield the ids of the records that the roots own, the roots among them, each once.

    The walk goes layer by layer, as redun's does: first the roots, then what they own, and so on.

    Parameters
    ----------
    database : Database
        Where to read; no connection is held while the caller has an id.
    root_ids : iterable or async iterable of str
        Ids of records of any kind; unknown ones are passed over.
    """
    seen = IdSet()
    layer: list[tuple[type[Base], str]] = []
    async for batch in iter_batches(root_ids, BATCH_SIZE):
        models = await find_models(database, batch)
        for record_id in batch:
            for model in models.get(record_id, ()):
                layer.append((model, record_id))
                if seen.add(record_id):
                    yield record_id
    while layer:
        next_layer: list[tuple[type[Base], str]] = []
        async for _, model, record_id in get_child_record_ids(database, layer):
            if seen.add(record_id):
                next_layer.append((model, record_id))
                yield record_id
        layer = next_layer
