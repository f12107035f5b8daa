"""What a failed job shows: its error with the traceback, the jobs it came through, and the other failures."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.orm import aliased

from aredun.formats.statuses import ERROR_TYPE_NAME
from aredun.models import CallNode, Job, Task, Value
from aredun.server import schemas
from aredun.server.highlighting import highlight
from aredun.storage.reads import read_rows
from aredun.values.error import make_cancellation
from aredun.values.namespace import join_fullname
from aredun.values.previews import read_failure

if TYPE_CHECKING:
    from aredun.backend import RedunBackendDb

# A recursion that ran out of stack leaves a thousand frames: the first and the last ones tell it.
_MAX_FRAMES = 100
_MAX_LOGS = 200
_MAX_VARIABLES = 50
# Jobs with the same error below one: more are not looked through for the one that failed first.
_MAX_BELOW = 1_000


async def get_failure(backend: RedunBackendDb, job_id: str, call_hash: str | None) -> schemas.Failure | None:
    """
    Return what a job failed with, in three statements.

    Parameters
    ----------
    backend : RedunBackendDb
        The repository.
    job_id, call_hash : str, str | None
        The job and its call.

    Returns
    -------
    schemas.Failure | None
        None if the job's result is no error.
    """
    if call_hash is None:
        return None
    result = sa.select(Value.value_hash).join(CallNode, CallNode.value_hash == Value.value_hash)
    result = result.where(CallNode.call_hash == call_hash, Value.type == ERROR_TYPE_NAME)
    value_hash = await backend.database.read(lambda session: session.scalar(result))
    if value_hash is None:
        return None
    preview = (await backend.get_previews([value_hash])).get(value_hash)
    path = await _find_path(backend, job_id, value_hash)
    # What an error holds may be long: writing it out is work.
    return await asyncio.to_thread(_make_failure, preview, path)


def _make_failure(preview: Any, path: list[schemas.Ancestor]) -> schemas.Failure:
    shown = read_failure(preview)
    frames = shown.frames
    left_out = max(len(frames) - 2 * _MAX_FRAMES, 0)
    if left_out:
        frames = [*frames[:_MAX_FRAMES], *frames[-_MAX_FRAMES:]]
    return schemas.Failure(
        error_type=shown.error_type,
        message=shown.message,
        frames=[
            schemas.Frame(
                job_id=frame.job_id,
                filename=frame.filename,
                lineno=frame.lineno,
                name=frame.name,
                line=frame.line,
                line_spans=highlight(schemas.cut_text(frame.line)),
                variables=[
                    schemas.Variable(name=name, text=text)
                    for name, text in list(frame.variables.items())[:_MAX_VARIABLES]
                ],
            )
            for frame in frames
        ],
        frames_left_out=left_out,
        logs=shown.logs[-_MAX_LOGS:],
        path=path,
    )


async def _find_path(backend: RedunBackendDb, job_id: str, value_hash: str) -> list[schemas.Ancestor]:
    """Return the jobs from a failed one down to that which raised its error: of several, to the first."""
    child, call = aliased(Job), aliased(CallNode)
    below = sa.select(sa.literal(job_id).label("id"), sa.literal(0).label("depth")).cte(
        "below", recursive=True
    )
    below = below.union_all(
        sa.select(child.id, below.c.depth + 1)
        .join(below, child.parent_id == below.c.id)
        .join(call, call.call_hash == child.call_hash)
        .where(call.value_hash == value_hash)
    )
    columns = (Job.id, Job.parent_id, Task.namespace, Task.name)
    statement = sa.select(*columns).join(below, below.c.id == Job.id).join(Task, Task.hash == Job.task_hash)
    statement = statement.order_by(below.c.depth, Job.end_time, Job.id).limit(_MAX_BELOW)
    first_below: dict[str, Any] = {}
    names: dict[str, str] = {}
    for key, parent_id, namespace, name in await read_rows(backend.database, statement):
        names[key] = join_fullname(namespace, name)
        first_below.setdefault(parent_id, key)
    path = [job_id]
    while path[-1] in first_below:
        path.append(first_below[path[-1]])
    return [schemas.Ancestor(id=key, task=names.get(key, "")) for key in path]


async def get_next_failed(backend: RedunBackendDb, job: Job) -> schemas.NextFailed:
    """Return which failures stand before and after a job in its execution, by start, in one statement.

    Failures are the jobs that raised an error. Those that only failed with it, because they had called the
    others, do not count, nor do those that were cancelled when another one failed.
    """
    call, child, child_call = aliased(CallNode), aliased(Job), aliased(CallNode)
    has_it_from_below = (
        sa.select(child.id)
        .join(child_call, child_call.call_hash == child.call_hash)
        .where(child.parent_id == Job.id, child_call.value_hash == call.value_hash)
        .exists()
    )
    failed = (
        sa.select(Job.id, Job.start_time)
        .join(call, call.call_hash == Job.call_hash)
        .join(Value, Value.value_hash == call.value_hash)
        .where(Job.execution_id == job.execution_id, Value.type == ERROR_TYPE_NAME, ~has_it_from_below)
        .where(call.value_hash != backend.type_registry.get_hash(make_cancellation()))
        .cte("failed")
        .prefix_with("MATERIALIZED")
    )
    start, key = failed.c.start_time, failed.c.id
    is_after = sa.or_(start > job.start_time, sa.and_(start == job.start_time, key > job.id))
    is_before = sa.or_(start < job.start_time, sa.and_(start == job.start_time, key < job.id))
    ids = sa.select(key).limit(1)
    count = sa.select(sa.func.count()).select_from(failed)
    statement = sa.select(
        count.scalar_subquery(),
        count.where(is_before).scalar_subquery(),
        count.where(key == job.id).scalar_subquery(),
        ids.where(is_after).order_by(start, key).scalar_subquery(),
        ids.where(is_before).order_by(start.desc(), key.desc()).scalar_subquery(),
    )
    [(total, before, is_one, next_id, previous_id)] = await read_rows(backend.database, statement)
    number = before + 1 if is_one else None
    return schemas.NextFailed(total=total, number=number, next_id=next_id, previous_id=previous_id)
