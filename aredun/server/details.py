"""One record with all that a person wants to see beside it, in a handful of statements."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from aredun import models
from aredun.dataflow import CallNodeRef, TaskRef, ValueRef, get_argument_name
from aredun.dataflow.nodes import ArgumentRef
from aredun.search import call_texts
from aredun.search.identify import find_use
from aredun.search.job_tree import JobRow, count_jobs, get_job_tree
from aredun.server import records, schemas
from aredun.server.failures import add_arguments, get_failure
from aredun.server.highlighting import highlight_source
from aredun.storage.reads import read_scalars
from aredun.tables.column_types import in_array

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sqlalchemy.ext.asyncio import AsyncSession

    from aredun.backend import RedunBackendDb

MAX_NEIGHBOURS = 100
MAX_ARGUMENTS = 100


async def get_execution_details(
    backend: RedunBackendDb, execution: models.Execution, cutoff: datetime
) -> schemas.ExecutionDetails:
    """Return an execution with its jobs counted by task and status."""
    [shown] = await records.make_executions(backend, [execution])
    counted = await count_jobs(backend, execution.id, cutoff)
    counts = [schemas.TaskCounts(task=task, counts=dict(counts)) for task, counts in counted.items()]
    root = execution.job
    failure = None if root is None else await get_failure(backend, root.id, root.call_hash)
    return schemas.ExecutionDetails(**shown.model_dump(), counts=counts, failure=failure)


async def get_tree(
    backend: RedunBackendDb, execution_id: str, cutoff: datetime, *, fold: int | None, max_jobs: int
) -> schemas.JobTree:
    """Return the jobs of an execution as the lines of a tree."""
    tree = await get_job_tree(backend, execution_id, cutoff, fold=fold, max_jobs=max_jobs)
    lines = list(tree.walk_lines())
    jobs = [line.entry for line in lines if isinstance(line.entry, JobRow)]
    arguments = await records.get_arguments(backend, jobs)
    shown = []
    for depth, entry in lines:
        if isinstance(entry, JobRow):
            job = records.make_tree_job(entry, execution_id, arguments.get(entry.call_hash or ""))
            shown.append(schemas.TreeLine(depth=depth, job=job, folded=None))
        else:
            folded = schemas.TaskCounts(task=entry.task_name, counts=entry.counts)
            shown.append(schemas.TreeLine(depth=depth, job=None, folded=folded))
    return schemas.JobTree(lines=shown, is_cut=tree.is_cut)


async def get_job_details(backend: RedunBackendDb, job: models.Job) -> schemas.JobDetails:
    """Return a job with its call, its tags and the jobs above it."""
    node = None if job.call_hash is None else await load_call_node(backend, job.call_hash)
    call = None if node is None else await get_call_details(backend, node)
    if call is not None and call.task_hash == job.task_hash:
        source, spans = call.source, call.source_spans
    else:
        task = await call_texts.load_task(backend, job.task_hash)
        source = task.source if task is not None else ""
        spans = await highlight_source(source)
    tags = await records.get_tags(backend, [job.id])
    context = await backend.entities.get_context(job.call_hash) if job.call_hash else {}
    above = await call_texts.get_ancestors(backend, job.id)
    [shown] = await records.make_jobs(backend, [job])
    failure = await get_failure(backend, job.id, job.call_hash)
    if failure is not None and call is not None:
        add_arguments(failure, call)
    return schemas.JobDetails(
        **shown.model_dump(),
        call=call,
        source=source,
        source_spans=spans,
        # A context is a stored value: whatever in it is no JSON is shown as text.
        context=_plain(context),
        tags=tags.get(job.id, []),
        ancestors=[schemas.Ancestor(id=job_id, task=name) for job_id, name in above],
        failure=failure,
    )


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value if isinstance(value, str | int | float | None) else repr(value)


async def load_call_node(backend: RedunBackendDb, call_hash: str) -> models.CallNode | None:
    """Return the row of a call."""
    query = sa.select(models.CallNode).where(models.CallNode.call_hash == call_hash)
    found = await read_scalars(backend.database, query)
    return found[0] if found else None


async def get_call_details(backend: RedunBackendDb, node: models.CallNode) -> schemas.CallNodeDetails:
    """Return a call with its arguments, its result and its neighbours."""
    task = await call_texts.load_task(backend, node.task_hash)
    arguments, upstream = await _load_arguments(backend, node.call_hash)
    shown = arguments[:MAX_ARGUMENTS]
    values = await records.load_values(backend, {node.value_hash, *(row.value_hash for row in shown)})
    children = await _load_neighbours(backend, node.call_hash, down=True)
    parents = await _load_neighbours(backend, node.call_hash, down=False)
    tags = await records.get_tags(backend, [node.call_hash])
    names = _get_names(node, task, shown, len(arguments))
    source = task.source if task is not None else ""
    return schemas.CallNodeDetails(
        **records.make_call_node(node).model_dump(),
        arguments=[
            schemas.Argument(
                arg_hash=row.arg_hash,
                name=name,
                position=row.arg_position,
                key=row.arg_key,
                value=values[row.value_hash],
                upstream=upstream.get(row.arg_hash, []),
            )
            for row, name in zip(shown, names, strict=True)
            if row.value_hash in values
        ],
        result=values.get(node.value_hash),
        source=source,
        source_spans=await highlight_source(source),
        tags=tags.get(node.call_hash, []),
        children=[records.make_call_node(child) for child in children[:MAX_NEIGHBOURS]],
        parents=[records.make_call_node(parent) for parent in parents[:MAX_NEIGHBOURS]],
        is_cut=max(len(children), len(parents), len(arguments)) > MAX_NEIGHBOURS,
    )


def _get_names(
    node: models.CallNode, task: models.Task | None, arguments: Sequence[models.Argument], count: int
) -> list[str]:
    """Return the names of arguments as the task's source tells them."""
    source = TaskRef(node.task_hash, node.task_name, "", task.source if task is not None else "")
    call = CallNodeRef(node.call_hash, source, ValueRef(node.value_hash), count)
    return [
        get_argument_name(
            ArgumentRef(row.arg_hash, call, ValueRef(row.value_hash), row.arg_position, row.arg_key)
        )
        for row in arguments
    ]


async def _load_arguments(
    backend: RedunBackendDb, call_hash: str
) -> tuple[list[models.Argument], dict[str, list[str]]]:
    argument, result = models.Argument, models.ArgumentResult
    query = sa.select(argument).where(argument.call_hash == call_hash).limit(MAX_ARGUMENTS + 1)

    async def operation(session: AsyncSession) -> tuple[list[models.Argument], dict[str, list[str]]]:
        rows = list(await session.scalars(query))
        rows.sort(key=lambda row: (row.arg_position is None, row.arg_position or 0, row.arg_key or ""))
        edges = sa.select(result.arg_hash, result.result_call_hash)
        edges = edges.where(in_array(result.arg_hash, [row.arg_hash for row in rows]))
        upstream: dict[str, list[str]] = {}
        for arg_hash, origin in await session.execute(edges.order_by(result.arg_hash).limit(1_000)):
            upstream.setdefault(arg_hash, []).append(origin)
        return rows, upstream

    return await backend.database.read(operation)


async def _load_neighbours(backend: RedunBackendDb, call_hash: str, *, down: bool) -> list[models.CallNode]:
    edge, node = models.CallEdge, models.CallNode
    here, there = (edge.parent_id, edge.child_id) if down else (edge.child_id, edge.parent_id)
    query = sa.select(node).join(edge, there == node.call_hash).where(here == call_hash)
    query = query.order_by(edge.call_order, there).limit(MAX_NEIGHBOURS + 1)
    return await read_scalars(backend.database, query)


async def get_value_details(backend: RedunBackendDb, value: models.Value) -> schemas.ValueDetails:
    """Return a value with its tags and the job that it is best told by."""
    shown = (await records.make_values(backend, [value]))[value.value_hash]
    tags = await records.get_tags(backend, [value.value_hash])
    use = await find_use(backend, value.value_hash)
    jobs = await records.make_jobs(backend, [] if use is None else [use[0]])
    return schemas.ValueDetails(
        **shown.model_dump(),
        tags=tags.get(value.value_hash, []),
        used_as=None if use is None else _used_as(use[1]),
        job=jobs[0] if jobs else None,
    )


def _used_as(kind: str) -> Any:
    return "result" if kind == "result" else "arg"


async def get_task_details(backend: RedunBackendDb, task: models.Task) -> schemas.TaskDetails:
    """Return a task with its source and tags."""
    tags = await records.get_tags(backend, [task.hash])
    return schemas.TaskDetails(
        **records.make_task(task).model_dump(),
        source=task.source,
        source_spans=await highlight_source(task.source),
        tags=tags.get(task.hash, []),
    )
