"""Walking the records along their ownership: an execution owns its jobs, a call its arguments, and so on."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

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
# A statement, the column that it is narrowed by, and for each of its columns the label of the edge to the
# record that it names, and that record's model.
_Step = tuple[Any, Any, "dict[str, type[Base]]"]


async def _walk(session: AsyncSession, ids: Iterable[str], *steps: _Step) -> AsyncIterator[RecordEdge]:
    """Yield the edges that some statements tell of; a cell that is null tells of none."""
    ids = list(ids)
    for statement, key, ends in steps:
        for row in await fetch(session, statement.where(in_array(key, ids))):
            for (label, model), record_id in zip(ends.items(), row, strict=True):
                if record_id is not None:
                    yield label, model, record_id


def get_execution_child_edges(session: AsyncSession, ids: Iterable[str]) -> AsyncIterator[RecordEdge]:
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
    return _walk(session, ids, (sa.select(Execution.job_id), Execution.id, {"Execution.job": Job}))


def get_job_child_edges(session: AsyncSession, ids: Iterable[str]) -> AsyncIterator[RecordEdge]:
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
    own = sa.select(Job.task_hash, Job.call_hash)
    children = sa.select(Job.id).order_by(Job.start_time, Job.id)
    return _walk(
        session,
        ids,
        (own, Job.id, {"Job.task": Task, "Job.call_hash": CallNode}),
        (children, Job.parent_id, {"Job.child_job": Job}),
    )


def get_call_node_child_edges(session: AsyncSession, ids: Iterable[str]) -> AsyncIterator[RecordEdge]:
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
    own = sa.select(CallNode.task_hash, CallNode.value_hash)
    upstream = sa.select(ArgumentResult.result_call_hash).join(
        Argument, Argument.arg_hash == ArgumentResult.arg_hash
    )
    children = sa.select(CallEdge.child_id).order_by(CallEdge.parent_id, CallEdge.call_order)
    return _walk(
        session,
        ids,
        (own, CallNode.call_hash, {"CallNode.task": Task, "CallNode.result": Value}),
        (sa.select(Argument.value_hash), Argument.call_hash, {"CallNode.arg": Value}),
        (upstream, Argument.call_hash, {"CallNode.upstream": CallNode}),
        (children, CallEdge.parent_id, {"CallNode.child_call_node": CallNode}),
    )


def get_value_child_edges(session: AsyncSession, ids: Iterable[str]) -> AsyncIterator[RecordEdge]:
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
    inside = sa.select(Subvalue.value_hash)
    return _walk(session, ids, (inside, Subvalue.parent_value_hash, {"Value.subvalue": Value}))


def get_tag_child_edges(session: AsyncSession, ids: Iterable[str]) -> AsyncIterator[RecordEdge]:
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
    return _walk(
        session,
        ids,
        (sa.select(TagEdit.parent_id), TagEdit.child_id, {"Tag.parent": Tag}),
        (sa.select(TagEdit.child_id), TagEdit.parent_id, {"Tag.child": Tag}),
    )


def get_tag_entity_child_edges(session: AsyncSession, ids: Iterable[str]) -> AsyncIterator[RecordEdge]:
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
    return _walk(session, ids, (sa.select(Tag.tag_hash), Tag.entity_id, {"Entity.tag": Tag}))


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
