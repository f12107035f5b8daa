"""The routes of one record with all that a person wants to see beside it, each in a handful of statements."""

from __future__ import annotations

import asyncio
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Query

from aredun import models
from aredun.formats.arguments import name_argument
from aredun.formats.describe import cut_text
from aredun.formats.statuses import get_cutoff
from aredun.search.call_texts import get_ancestors, get_brief_arguments, write_brief_arguments
from aredun.search.failures import find_error, find_next_failed, find_path
from aredun.search.identify import find_one, find_use
from aredun.search.job_tree import JobRow, count_jobs, get_job_tree
from aredun.search.loading import load_arguments, load_neighbours, load_one, load_origins
from aredun.server import records, schemas
from aredun.server.highlighting import highlight, highlight_source
from aredun.server.parameters import Backend, RecordId  # noqa: TC001  # FastAPI reads it at run time
from aredun.server.schemas import fill
from aredun.values.previews import read_failure

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from aredun.backend import RedunBackendDb
    from aredun.search.call_texts import Ancestor

MAX_NEIGHBOURS = 100
MAX_ARGUMENTS = 100
# A recursion that ran out of stack leaves a thousand frames: the first and the last ones tell it.
_MAX_FRAMES = 100
_MAX_LOGS = 200
_MAX_VARIABLES = 50

router = APIRouter(prefix="/api")


@router.get("/executions/{execution_id}", tags=["executions"])
async def get_execution(backend: Backend, execution_id: RecordId) -> schemas.ExecutionDetails:
    """Get an execution with its jobs counted; `-` is the newest, `~2` the one before it."""
    execution = await find_one(backend, "Execution", execution_id)
    [shown] = await records.make_records(backend, [execution])
    counted = await count_jobs(backend, execution.id, get_cutoff(backend.config))
    counts = [schemas.TaskCounts(task=task, counts=counts) for task, counts in counted.items()]
    root = execution.job
    failure = None if root is None else await _get_failure(backend, root.id, root.call_hash)
    return fill(schemas.ExecutionDetails, shown, counts=counts, failure=failure)


@router.get("/executions/{execution_id}/tree", tags=["executions", "jobs"])
async def get_execution_tree(
    backend: Backend,
    execution_id: RecordId,
    fold: Annotated[
        int, Query(ge=0, le=1_000, description="Jobs shown of one task under one parent; 0: all.")
    ] = 10,
    max_jobs: Annotated[int, Query(ge=1, le=20_000)] = 2_000,
) -> schemas.JobTree:
    """Get the jobs of an execution as a tree, each job before those that it started."""
    whole_id = (await find_one(backend, "Execution", execution_id)).id
    cutoff = get_cutoff(backend.config)
    tree = await get_job_tree(backend, whole_id, cutoff, fold=fold or None, max_jobs=max_jobs)
    lines = list(tree.walk_lines())
    calls = [line.entry.call_hash for line in lines if isinstance(line.entry, JobRow)]
    arguments = await get_brief_arguments(backend, calls)
    shown = []
    for line in lines:
        job, folded = None, line.entry
        if isinstance(folded, JobRow):
            job = records.make_tree_job(folded, whole_id, arguments.get(folded.call_hash or ""))
        shown.append(fill(schemas.TreeLine, line, job=job, folded=folded if job is None else None))
    return schemas.JobTree(lines=shown, is_cut=tree.is_cut)


@router.get("/jobs/{job_id}", tags=["jobs"])
async def get_job(backend: Backend, job_id: RecordId) -> schemas.JobDetails:
    """Get a job with its call, its tags, the jobs above it, and of a failed one the error."""
    job = await find_one(backend, "Job", job_id)
    node = await load_one(backend, models.CallNode, job.call_hash)
    call, text = None, None
    if node is not None:
        given = await load_arguments(backend, node.call_hash)
        call = await _show_call(backend, node, given)
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
    failure = await _get_failure(backend, job.id, job.call_hash)
    if failure is not None and call is not None:
        _add_arguments(failure, call)
    return fill(
        schemas.JobDetails,
        records.make_job(job, text),
        call=call,
        source=source,
        source_spans=spans,
        context=context,
        tags=tags.get(job.id, []),
        ancestors=above,
        failure=failure,
    )


@router.get("/jobs/{job_id}/next-failed", tags=["jobs"])
async def get_next_failed(backend: Backend, job_id: RecordId) -> schemas.NextFailed:
    """Get the failures before and after a job in its execution: the jobs that raised an error, by start."""
    job = await find_one(backend, "Job", job_id)
    return schemas.NextFailed.model_validate(await find_next_failed(backend, job))


@router.get("/call-nodes/{call_hash}", tags=["calls"])
async def get_call_node(backend: Backend, call_hash: RecordId) -> schemas.CallNodeDetails:
    """Get a call with its arguments, its result and its neighbours in the call graph."""
    node = await find_one(backend, "CallNode", call_hash)
    return await _show_call(backend, node, await load_arguments(backend, node.call_hash))


async def _show_call(
    backend: RedunBackendDb, node: models.CallNode, arguments: Sequence[models.Argument]
) -> schemas.CallNodeDetails:
    task = await load_one(backend, models.Task, node.task_hash)
    shown = arguments[:MAX_ARGUMENTS]
    upstream = await load_origins(backend, [row.arg_hash for row in shown])
    values = await records.load_values(backend, {node.value_hash, *(row.value_hash for row in shown)})
    children = await load_neighbours(backend, node.call_hash, MAX_NEIGHBOURS + 1, down=True)
    parents = await load_neighbours(backend, node.call_hash, MAX_NEIGHBOURS + 1, down=False)
    tags = await records.make_tags(backend, [node.call_hash])
    source = task.source if task is not None else ""
    return fill(
        schemas.CallNodeDetails,
        node,
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
        children=children[:MAX_NEIGHBOURS],
        parents=parents[:MAX_NEIGHBOURS],
        is_cut=max(len(children), len(parents), len(arguments)) > MAX_NEIGHBOURS,
    )


@router.get("/values/{value_hash}", tags=["values"])
async def get_value(backend: Backend, value_hash: RecordId) -> schemas.ValueDetails:
    """Get a value with its tags and the job that it is best told by."""
    value = await find_one(backend, "Value", value_hash)
    use = await find_use(backend, value.value_hash)
    [shown, *jobs] = await records.make_records(backend, [value] if use is None else [value, use[0]])
    tags = await records.make_tags(backend, [value.value_hash])
    return fill(
        schemas.ValueDetails,
        shown,
        tags=tags.get(value.value_hash, []),
        used_as=None if use is None else use[1],
        job=jobs[0] if jobs else None,
    )


@router.get("/tasks/{task_hash}", tags=["tasks"])
async def get_task(backend: Backend, task_hash: RecordId) -> schemas.TaskDetails:
    """Get a version of a task with its source."""
    task = await find_one(backend, "Task", task_hash)
    tags = await records.make_tags(backend, [task.hash])
    return fill(
        schemas.TaskDetails,
        task,
        source_spans=await highlight_source(task.source),
        tags=tags.get(task.hash, []),
    )


async def _get_failure(backend: RedunBackendDb, job_id: str, call_hash: str | None) -> schemas.Failure | None:
    """Return what a job failed with, in three statements; None if its result is no error."""
    value_hash = None if call_hash is None else await find_error(backend, call_hash)
    if value_hash is None:
        return None
    preview = (await backend.get_previews([value_hash])).get(value_hash)
    path = await find_path(backend, job_id, value_hash)
    # What an error holds may be long: writing it out is work.
    return await asyncio.to_thread(_make_failure, preview, path)


def _make_failure(preview: Any, path: list[Ancestor]) -> schemas.Failure:
    shown = read_failure(preview)
    frames = shown.frames
    left_out = max(len(frames) - 2 * _MAX_FRAMES, 0)
    if left_out:
        frames = [*frames[:_MAX_FRAMES], *frames[-_MAX_FRAMES:]]
    made = [
        fill(
            schemas.Frame,
            frame,
            line_spans=highlight(cut_text(frame.line)),
            variables=_make_variables(frame.variables.items()),
        )
        for frame in frames
    ]
    logs = shown.logs[-_MAX_LOGS:]
    return fill(schemas.Failure, shown, frames=made, frames_left_out=left_out, logs=logs, path=path)


def _make_variables(texts: Iterable[tuple[str, str]]) -> list[schemas.Variable]:
    return [schemas.Variable(name=name, text=text) for name, text in islice(texts, _MAX_VARIABLES)]


def _add_arguments(failure: schemas.Failure, call: schemas.CallNodeDetails) -> None:
    """Show with the line of the task's function what it was called with: errors are recorded without."""
    # Where a call below raised the error, the arguments tell nothing of the lines.
    name = call.task.rpartition(".")[2]
    frame = next((frame for frame in failure.frames if frame.name == name), None)
    if frame is not None and not frame.variables and len(failure.path) <= 1:
        texts = ((argument.name, argument.value.preview or "not readable") for argument in call.arguments)
        frame.variables = _make_variables(texts)
