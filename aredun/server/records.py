"""From models to what the API shows of them; what takes statements comes in bulk for a whole page."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from aredun import models
from aredun.search.call_texts import get_arguments_texts
from aredun.search.loading import load_all
from aredun.server import schemas
from aredun.storage.reads import read_scalars
from aredun.tables.behaviour import PreviewValue
from aredun.tables.column_types import in_array

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence
    from datetime import datetime

    from aredun.backend import RedunBackendDb
    from aredun.search.job_tree import JobRow

_MAX_PREVIEW = 4_000
_MAX_TAGS = 500
# Of an argument, and of all arguments of a call, on the row of a job.
_MAX_ARGUMENT, _MAX_ARGUMENTS = 200, 1_000


def get_duration(start: datetime | None, end: datetime | None) -> float | None:
    """Return how long something took in seconds, None while it has no end."""
    return (end - start).total_seconds() if start is not None and end is not None else None


def show_args(args: str) -> str:
    """Return an execution's arguments, which redun stores as a JSON list, as a command line."""
    if len(args) > 100_000:
        return args
    try:
        words = json.loads(args)
    except (ValueError, RecursionError):
        return args
    return " ".join(map(str, words)) if isinstance(words, list) else args


def make_execution(execution: models.Execution, tags: Sequence[schemas.Tag] = ()) -> schemas.Execution:
    """Return an execution that was loaded with its root job."""
    job = execution.job
    return schemas.Execution(
        id=execution.id,
        args=show_args(execution.args),
        status=execution.status,
        task=job.task.fullname if job is not None and job.task is not None else None,
        job_id=execution.job_id,
        start_time=job.start_time if job is not None else None,
        end_time=job.end_time if job is not None else None,
        updated_time=execution.updated_time,
        duration=get_duration(job.start_time, job.end_time) if job is not None else None,
        tags=list(tags),
    )


def make_job(job: models.Job, arguments: str | None) -> schemas.Job:
    """Return a job that was loaded with its task and its call's result, with its call's arguments as text."""
    return schemas.Job(
        id=job.id,
        status=job.status,
        task=job.task.fullname if job.task is not None else None,
        task_hash=job.task_hash,
        call_hash=job.call_hash,
        cached=job.cached,
        parent_id=job.parent_id,
        execution_id=job.execution_id,
        start_time=job.start_time,
        end_time=job.end_time,
        duration=get_duration(job.start_time, job.end_time),
        arguments=arguments,
    )


async def make_jobs(backend: RedunBackendDb, jobs: Sequence[models.Job]) -> list[schemas.Job]:
    """Return jobs that were loaded with their tasks and results, with their arguments."""
    arguments = await get_arguments(backend, jobs)
    return [make_job(job, arguments.get(job.call_hash or "")) for job in jobs]


async def get_arguments(backend: RedunBackendDb, jobs: Iterable[models.Job | JobRow]) -> dict[str, str]:
    """Return the arguments of the jobs that have led to a call, as short texts by call hash."""
    calls = {job.call_hash for job in jobs if job.call_hash is not None}
    found = await get_arguments_texts(backend, calls, show_argument, brief=True)
    return {call_hash: schemas.cut_text(text, _MAX_ARGUMENTS) for call_hash, text in found.items()}


def show_argument(preview: Any) -> str:
    """Return an argument as the text on the row of a job."""
    if isinstance(preview, PreviewValue):
        # A value that was not read.
        return f"<{preview.value.type.rpartition('.')[2]} {preview.value.value_hash[:8]}>"
    return schemas.cut_text(repr(preview), _MAX_ARGUMENT)


def make_tree_job(row: JobRow, execution_id: str, arguments: str | None) -> schemas.Job:
    """Return a job of a tree, with its call's arguments as text."""
    return schemas.Job(
        id=row.id,
        status=row.status,
        task=row.task_name,
        task_hash=row.task_hash,
        call_hash=row.call_hash,
        cached=row.status == "CACHED",
        parent_id=row.parent_id,
        execution_id=execution_id,
        start_time=row.start_time,
        end_time=row.end_time,
        duration=get_duration(row.start_time, row.end_time),
        arguments=arguments,
    )


def make_call_node(node: models.CallNode) -> schemas.CallNode:
    """Return a call."""
    return schemas.CallNode(
        call_hash=node.call_hash,
        task=node.task_name,
        task_hash=node.task_hash,
        args_hash=node.args_hash,
        value_hash=node.value_hash,
        timestamp=node.timestamp,
    )


def make_task(task: models.Task) -> schemas.Task:
    """Return a task."""
    return schemas.Task(hash=task.hash, name=task.name, namespace=task.namespace, fullname=task.fullname)


def make_tag(tag: models.Tag) -> schemas.Tag:
    """Return a tag."""
    return schemas.Tag(
        tag_hash=tag.tag_hash,
        entity_type=tag.entity_type.name,
        entity_id=tag.entity_id,
        key=tag.key,
        value=tag.value,
        is_current=tag.is_current,
    )


async def make_values(backend: RedunBackendDb, values: Collection[models.Value]) -> dict[str, schemas.Value]:
    """Return values with their previews and, of files, their paths, by hash."""
    hashes = [value.value_hash for value in values]
    if not hashes:
        return {}
    previews = await get_previews(backend, hashes)
    files = await load_all(backend, models.File, hashes)
    return {
        value.value_hash: schemas.Value(
            value_hash=value.value_hash,
            value_type=value.type,
            format=value.format,
            preview=previews.get(value.value_hash),
            path=files[value.value_hash].path if value.value_hash in files else None,
        )
        for value in values
    }


async def load_values(backend: RedunBackendDb, hashes: Collection[str]) -> dict[str, schemas.Value]:
    """Return values by hash, without those that are not recorded."""
    return await make_values(backend, (await load_all(backend, models.Value, hashes)).values())


async def get_previews(backend: RedunBackendDb, hashes: Collection[str]) -> dict[str, str]:
    """Return what values look like, as texts of bounded length."""
    previews = await backend.get_previews(hashes)
    # A preview may be a list of a million items: writing it out is work.
    return await asyncio.to_thread(
        lambda: {value_hash: _cut_repr(preview) for value_hash, preview in previews.items()}
    )


def _cut_repr(preview: Any) -> str:
    return schemas.cut_text(repr(preview), _MAX_PREVIEW)


async def get_tags(backend: RedunBackendDb, entity_ids: Collection[str]) -> dict[str, list[schemas.Tag]]:
    """Return the current tags of records, by id, sorted by key."""
    if not entity_ids:
        return {}
    tag = models.Tag
    query = sa.select(tag).where(in_array(tag.entity_id, sorted(set(entity_ids))), tag.is_current.is_(True))
    query = query.order_by(tag.entity_id, tag.key, tag.tag_hash).limit(_MAX_TAGS)
    found: dict[str, list[schemas.Tag]] = {}
    for row in await read_scalars(backend.database, query):
        found.setdefault(row.entity_id, []).append(make_tag(row))
    return found


async def make_executions(
    backend: RedunBackendDb, executions: Sequence[models.Execution]
) -> list[schemas.Execution]:
    """Return executions with their tags."""
    tags = await get_tags(backend, [execution.id for execution in executions])
    return [make_execution(execution, tags.get(execution.id, ())) for execution in executions]


async def make_records(backend: RedunBackendDb, records: Sequence[Any]) -> list[Any]:
    """Return records of any types in their order."""
    executions = [record for record in records if isinstance(record, models.Execution)]
    tags = await get_tags(backend, [execution.id for execution in executions])
    values = await make_values(backend, [record for record in records if isinstance(record, models.Value)])
    jobs = [record for record in records if isinstance(record, models.Job)]
    arguments = await get_arguments(backend, jobs)
    made: list[Any] = []
    for record in records:
        if isinstance(record, models.Execution):
            made.append(make_execution(record, tags.get(record.id, ())))
        elif isinstance(record, models.Job):
            made.append(make_job(record, arguments.get(record.call_hash or "")))
        elif isinstance(record, models.CallNode):
            made.append(make_call_node(record))
        elif isinstance(record, models.Task):
            made.append(make_task(record))
        else:
            made.append(values[record.value_hash])
    return made
