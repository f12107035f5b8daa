"""One record with all that a person wants to see beside it, in a handful of statements."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aredun import models
from aredun.formats.arguments import name_argument
from aredun.search.call_texts import get_ancestors, get_brief_arguments, write_brief_arguments
from aredun.search.identify import find_use
from aredun.search.job_tree import JobRow, count_jobs, get_job_tree
from aredun.search.loading import load_arguments, load_neighbours, load_one, load_origins
from aredun.server import records, schemas
from aredun.server.failures import add_arguments, get_failure
from aredun.server.highlighting import highlight_source

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from aredun.backend import RedunBackendDb

MAX_NEIGHBOURS = 100
MAX_ARGUMENTS = 100


async def get_execution_details(
    backend: RedunBackendDb, execution: models.Execution, cutoff: datetime
) -> schemas.ExecutionDetails:
    """Return an execution with its jobs counted by task and status."""
    [shown] = await records.make_records(backend, [execution])
    counted = await count_jobs(backend, execution.id, cutoff)
    counts = [schemas.TaskCounts(task=task, counts=dict(counts)) for task, counts in counted.items()]
    root = execution.job
    failure = None if root is None else await get_failure(backend, root.id, root.call_hash)
    return schemas.fill(schemas.ExecutionDetails, shown, counts=counts, failure=failure)


async def get_tree(
    backend: RedunBackendDb, execution_id: str, cutoff: datetime, *, fold: int | None, max_jobs: int
) -> schemas.JobTree:
    """Return the jobs of an execution as the lines of a tree."""
    tree = await get_job_tree(backend, execution_id, cutoff, fold=fold, max_jobs=max_jobs)
    lines = list(tree.walk_lines())
    calls = [line.entry.call_hash for line in lines if isinstance(line.entry, JobRow)]
    arguments = await get_brief_arguments(backend, calls)
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
    node = await load_one(backend, models.CallNode, job.call_hash)
    call, text = None, None
    if node is not None:
        given = await load_arguments(backend, node.call_hash)
        call = await get_call_details(backend, node, given)
        text = await write_brief_arguments(backend, given)
    if call is not None and call.task_hash == job.task_hash:
        source, spans = call.source, call.source_spans
    else:
        task = await load_one(backend, models.Task, job.task_hash)
        source = task.source if task is not None else ""
        spans = await highlight_source(source)
    tags = await records.make_tags(backend, [job.id])
    context = await backend.entities.get_context(job.call_hash) if job.call_hash else {}
    above = await get_ancestors(backend, job.id)
    failure = await get_failure(backend, job.id, job.call_hash)
    if failure is not None and call is not None:
        add_arguments(failure, call)
    return schemas.fill(
        schemas.JobDetails,
        records.make_job(job, text),
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


async def get_call_details(
    backend: RedunBackendDb, node: models.CallNode, arguments: Sequence[models.Argument] | None = None
) -> schemas.CallNodeDetails:
    """Return a call with its arguments, which may be at hand already, its result and its neighbours."""
    task = await load_one(backend, models.Task, node.task_hash)
    if arguments is None:
        arguments = await load_arguments(backend, node.call_hash)
    shown = arguments[:MAX_ARGUMENTS]
    upstream = await load_origins(backend, [row.arg_hash for row in shown])
    values = await records.load_values(backend, {node.value_hash, *(row.value_hash for row in shown)})
    children = await load_neighbours(backend, node.call_hash, MAX_NEIGHBOURS + 1, down=True)
    parents = await load_neighbours(backend, node.call_hash, MAX_NEIGHBOURS + 1, down=False)
    tags = await records.make_tags(backend, [node.call_hash])
    source = task.source if task is not None else ""
    return schemas.fill(
        schemas.CallNodeDetails,
        records.make_call_node(node),
        arguments=[
            schemas.Argument(
                arg_hash=row.arg_hash,
                name=name_argument(row.arg_position, row.arg_key, source),
                position=row.arg_position,
                key=row.arg_key,
                value=values[row.value_hash],
                upstream=upstream.get(row.arg_hash, []),
            )
            for row in shown
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


async def get_value_details(backend: RedunBackendDb, value: models.Value) -> schemas.ValueDetails:
    """Return a value with its tags and the job that it is best told by."""
    shown = (await records.make_values(backend, [value]))[value.value_hash]
    tags = await records.make_tags(backend, [value.value_hash])
    use = await find_use(backend, value.value_hash)
    jobs = await records.make_records(backend, [] if use is None else [use[0]])
    return schemas.fill(
        schemas.ValueDetails,
        shown,
        tags=tags.get(value.value_hash, []),
        used_as=None if use is None else use[1],
        job=jobs[0] if jobs else None,
    )


async def get_task_details(backend: RedunBackendDb, task: models.Task) -> schemas.TaskDetails:
    """Return a task with its source and tags."""
    tags = await records.make_tags(backend, [task.hash])
    return schemas.fill(
        schemas.TaskDetails,
        task,
        source_spans=await highlight_source(task.source),
        tags=tags.get(task.hash, []),
    )
