"""Why an execution failed: the error of a call, the job that raised it, and the others that raised one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.orm import aliased

from aredun.formats.statuses import ERROR_TYPE_NAME
from aredun.models import CallNode, Job, Task, Value
from aredun.search.call_texts import Ancestor
from aredun.storage.reads import read_rows, read_scalars
from aredun.values.error import make_cancellation

if TYPE_CHECKING:
    from aredun.search.repository import Repository

# A path is looked for among so many jobs below the failed one that have the same error.
MAX_BELOW = 1_000


class NextFailed(NamedTuple):
    """Where a job stands among the failures of its execution, from 1, and those before and after it."""

    total: int
    number: int | None
    next_id: str | None
    previous_id: str | None


async def find_error(backend: Repository, call_hash: str) -> str | None:
    """Return the hash of the error that a call raised; None if its result is something else."""
    result = sa.select(Value.value_hash).join(CallNode, CallNode.value_hash == Value.value_hash)
    result = result.where(CallNode.call_hash == call_hash, Value.type == ERROR_TYPE_NAME)
    found = await read_scalars(backend.database, result)
    return found[0] if found else None


async def find_path(backend: Repository, job_id: str, value_hash: str) -> list[Ancestor]:
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
    columns = (Job.id, Job.parent_id, Task.fullname)
    statement = sa.select(*columns).join(below, below.c.id == Job.id).join(Task, Task.hash == Job.task_hash)
    statement = statement.order_by(below.c.depth, Job.end_time, Job.id).limit(MAX_BELOW)
    first_below: dict[str, Any] = {}
    names: dict[str, str] = {}
    for key, parent_id, task_name in await read_rows(backend.database, statement):
        names[key] = task_name
        first_below.setdefault(parent_id, key)
    path = [job_id]
    while path[-1] in first_below:
        path.append(first_below[path[-1]])
    return [Ancestor(key, names.get(key, "")) for key in path]


async def find_next_failed(backend: Repository, job: Job) -> NextFailed:
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
    return NextFailed(total, before + 1 if is_one else None, next_id, previous_id)
