"""From models to what the API shows of them; what takes statements comes in bulk for a whole page."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from aredun import models
from aredun.formats.arguments import read_command
from aredun.formats.describe import cut_text
from aredun.formats.statuses import CACHED
from aredun.search.call_texts import get_brief_arguments
from aredun.search.loading import load_all
from aredun.search.tags import load_tags
from aredun.server import schemas
from aredun.server.schemas import fill

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from datetime import datetime

    from aredun.backend import RedunBackendDb
    from aredun.search.job_tree import JobRow

_MAX_PREVIEW = 4_000
_MAX_COMMAND = 100_000
_MAX_TAGS = 500


def get_duration(start: datetime | None, end: datetime | None) -> float | None:
    """Return how long something took in seconds, None while it has no end."""
    return (end - start).total_seconds() if start is not None and end is not None else None


def show_args(args: str) -> str:
    """Return an execution's arguments, which redun stores as a JSON list, as a command line."""
    words = read_command(args) if len(args) <= _MAX_COMMAND else None
    return args if words is None else " ".join(words)


def make_execution(execution: models.Execution, tags: Sequence[schemas.Tag] = ()) -> schemas.Execution:
    """Return an execution that was loaded with its root job."""
    job = execution.job
    start, end = (None, None) if job is None else (job.start_time, job.end_time)
    return fill(
        schemas.Execution,
        execution,
        args=show_args(execution.args),
        task=job.task.fullname if job is not None and job.task is not None else None,
        start_time=start,
        end_time=end,
        duration=get_duration(start, end),
        tags=tags,
    )


def make_job(job: models.Job, arguments: str | None) -> schemas.Job:
    """Return a job that was loaded with its task and its call's result, with its call's arguments as text."""
    task = job.task.fullname if job.task is not None else None
    duration = get_duration(job.start_time, job.end_time)
    return fill(schemas.Job, job, task=task, duration=duration, arguments=arguments)


def make_tree_job(row: JobRow, execution_id: str, arguments: str | None) -> schemas.Job:
    """Return a job of a tree, with its call's arguments as text."""
    return fill(
        schemas.Job,
        row,
        task=row.task_name,
        cached=row.status == CACHED,
        execution_id=execution_id,
        duration=get_duration(row.start_time, row.end_time),
        arguments=arguments,
    )


async def make_values(backend: RedunBackendDb, values: Collection[models.Value]) -> dict[str, schemas.Value]:
    """Return values with their previews and, of files, their paths, by hash."""
    hashes = [value.value_hash for value in values]
    if not hashes:
        return {}
    previews = await get_preview_texts(backend, hashes)
    files = await load_all(backend, models.File, hashes)
    return {
        value.value_hash: fill(
            schemas.Value,
            value,
            value_type=value.type,
            preview=previews.get(value.value_hash),
            path=files[value.value_hash].path if value.value_hash in files else None,
        )
        for value in values
    }


async def load_values(backend: RedunBackendDb, hashes: Collection[str]) -> dict[str, schemas.Value]:
    """Return values by hash, without those that are not recorded."""
    return await make_values(backend, (await load_all(backend, models.Value, hashes)).values())


async def get_preview_texts(backend: RedunBackendDb, hashes: Collection[str]) -> dict[str, str]:
    """Return what values look like, as texts of bounded length."""
    previews = await backend.get_previews(hashes)
    # A preview may be a list of a million items: writing it out is work.
    return await asyncio.to_thread(
        lambda: {key: cut_text(repr(preview), _MAX_PREVIEW) for key, preview in previews.items()}
    )


async def make_tags(backend: RedunBackendDb, entity_ids: Collection[str]) -> dict[str, list[schemas.Tag]]:
    """Return the current tags of records, by id, sorted by key."""
    found: dict[str, list[schemas.Tag]] = {}
    for tag in await load_tags(backend, entity_ids, _MAX_TAGS) if entity_ids else ():
        found.setdefault(tag.entity_id, []).append(make_tag(tag))
    return found


def make_tag(tag: models.Tag) -> schemas.Tag:
    """Return a tag."""
    return fill(schemas.Tag, tag, entity_type=tag.entity_type.name)


async def make_records(backend: RedunBackendDb, records: Sequence[Any]) -> list[Any]:
    """Return records of any types in their order."""
    executions = [record for record in records if isinstance(record, models.Execution)]
    tags = await make_tags(backend, [execution.id for execution in executions])
    values = await make_values(backend, [record for record in records if isinstance(record, models.Value)])
    calls = [record.call_hash for record in records if isinstance(record, models.Job)]
    arguments = await get_brief_arguments(backend, calls)
    makers: dict[type, Callable[[Any], schemas.Answer]] = {
        models.Execution: lambda execution: make_execution(execution, tags.get(execution.id, ())),
        models.Job: lambda job: make_job(job, arguments.get(job.call_hash or "")),
        models.CallNode: schemas.CallNode.model_validate,
        models.Task: schemas.Task.model_validate,
        models.Value: lambda value: values[value.value_hash],
    }
    return [makers[type(record)](record) for record in records]
