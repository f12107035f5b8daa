"""Tasks by their names: versions, jobs, failures and last runs, within bounds however many jobs there are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.orm import aliased

from aredun.formats import statuses
from aredun.models import CallNode, Job, Task, Value
from aredun.storage.reads import read_rows, read_scalars
from aredun.tables.column_types import in_array

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from datetime import datetime

    from sqlalchemy import Select

    from aredun.search.repository import Repository

# A task's jobs are counted up to the first number, the failed jobs of all tasks up to the second.
MAX_JOBS, MAX_FAILED = 10_000, 3_000
# The last run is looked for among the newest jobs of all tasks, then among a task's own, if it has no more.
MAX_NEWEST, MAX_OWN = 10_000, 2_000
# A task's versions are told by so many jobs, and no more versions than the second number.
MAX_GATHERED, MAX_VERSIONS = 150_000, 500


class TaskName(NamedTuple):
    """A task: its names, its versions, and its jobs up to `MAX_JOBS + 1`."""

    namespace: str
    name: str
    fullname: str
    versions: int
    jobs: int


class TaskVersion(NamedTuple):
    """A version of a task, with the first and the last start of its jobs."""

    hash: str
    jobs: int
    first_run: datetime | None
    last_run: datetime | None


async def list_names(
    backend: Repository, text: str | None, after: tuple[str, ...] | None, limit: int
) -> list[TaskName]:
    """
    Return tasks by namespace and name.

    Parameters
    ----------
    backend : RedunBackendDb
        The repository to look in.
    text : str, optional
        A part of the full name, upper and lower case alike.
    after : tuple[str, ...], optional
        Namespace and name of the task before the first.
    limit : int
        How many tasks to return at most.
    """
    columns = (Task.namespace, Task.name, Task.fullname.label("fullname"))
    names = sa.select(*columns, sa.func.count().label("versions"))
    if after is not None:
        namespace, name = after
        later = sa.and_(Task.namespace == namespace, Task.name > name)
        names = names.where(sa.or_(Task.namespace > namespace, later))
    if text is not None:
        names = names.where(Task.fullname.icontains(text, autoescape=True))
    names = names.group_by(Task.namespace, Task.name).order_by(Task.namespace, Task.name).limit(limit)
    page = names.cte("page").prefix_with("MATERIALIZED")
    jobs = sa.select(sa.func.count()).select_from(_select_own(page, MAX_JOBS + 1).subquery())
    statement = sa.select(page, jobs.scalar_subquery()).order_by(page.c.namespace, page.c.name)
    return [TaskName(*row) for row in await read_rows(backend.database, statement)]


def _select_own(page: Any, limit: int, *columns: str) -> Select[Any]:
    """Return the select of some jobs of the task in a row of `page`."""
    task, job = aliased(Task), aliased(Job)
    chosen = [getattr(job, column) for column in columns or ("task_hash",)]
    own = sa.select(*chosen).join(task, task.hash == job.task_hash)
    own = own.where(task.namespace == page.c.namespace, task.name == page.c.name)
    return own.limit(limit).correlate(page)


async def count_failed(backend: Repository) -> tuple[dict[str, int], bool]:
    """Return how many jobs failed, by full name of the task, and whether there are more than these."""
    failed = (
        sa.select(Job.task_hash)
        .select_from(Value)
        .join(CallNode, CallNode.value_hash == Value.value_hash)
        .join(Job, Job.call_hash == CallNode.call_hash)
        .where(Value.type == statuses.ERROR_TYPE_NAME)
        .limit(MAX_FAILED + 1)
    )
    some = failed.cte("failed").prefix_with("MATERIALIZED")
    counts = sa.select(Task.fullname, sa.func.count()).join(some, some.c.task_hash == Task.hash)
    counted = dict(await read_rows(backend.database, counts.group_by(Task.fullname)))
    return counted, sum(counted.values()) > MAX_FAILED


async def get_last_runs(backend: Repository, tasks: Sequence[TaskName]) -> dict[str, datetime]:
    """Return the last start of tasks, by full name, without those that ran long ago and have many jobs."""
    newest = sa.select(Job.task_hash, Job.start_time).order_by(Job.start_time.desc()).limit(MAX_NEWEST)
    some = newest.cte("newest").prefix_with("MATERIALIZED")
    last = sa.select(Task.fullname, sa.func.max(some.c.start_time))
    last = last.join(some, some.c.task_hash == Task.hash).group_by(Task.fullname)
    found = dict(await read_rows(backend.database, last))
    others = [task.fullname for task in tasks if task.fullname not in found and 0 < task.jobs <= MAX_OWN]
    return {**found, **await _get_own_last(backend, others)}


async def _get_own_last(backend: Repository, names: Sequence[str]) -> dict[str, datetime]:
    if not names:
        return {}
    columns = (Task.namespace, Task.name, Task.fullname.label("fullname"))
    page = sa.select(*columns).where(in_array(Task.fullname, names)).distinct().cte("page")
    page = page.prefix_with("MATERIALIZED")
    own = _select_own(page, MAX_OWN + 1, "start_time").subquery()
    last = sa.select(sa.func.max(own.c.start_time)).scalar_subquery()
    rows = await read_rows(backend.database, sa.select(page.c.fullname, last))
    return {fullname: start for fullname, start in rows if start is not None}


async def list_task_versions(backend: Repository, fullname: str) -> tuple[list[TaskVersion], bool]:
    """
    Return the versions of a task, that which ran last first.

    Parameters
    ----------
    backend : RedunBackendDb
        The repository to look in.
    fullname : str
        Name of the task with its namespace.

    Returns
    -------
    tuple[list[TaskVersion], bool]
        At most `MAX_VERSIONS`, and whether there are more of them, or more jobs than `MAX_GATHERED`, so that
        numbers and times are those of the jobs that were looked at.
    """
    parts = fullname.split(".")
    # The index is that of names: nothing says how much of the full name is one.
    names = [".".join(parts[start:]) for start in range(len(parts))]
    query = sa.select(Task.hash).where(in_array(Task.name, names), Task.fullname == fullname)
    query = query.order_by(Task.hash).limit(MAX_VERSIONS + 1)
    hashes = await read_scalars(backend.database, query)
    gathered = await _gather(backend, hashes[:MAX_VERSIONS])
    versions = [gathered.get(key, TaskVersion(key, 0, None, None)) for key in hashes[:MAX_VERSIONS]]
    versions.sort(key=lambda each: (each.last_run is None, -_to_seconds(each.last_run), each.hash))
    return versions, len(hashes) > MAX_VERSIONS or sum(each.jobs for each in versions) > MAX_GATHERED


def _to_seconds(time: datetime | None) -> float:
    return 0.0 if time is None else time.timestamp()


async def _gather(backend: Repository, hashes: Collection[str]) -> dict[str, TaskVersion]:
    if not hashes:
        return {}
    own = sa.select(Job.task_hash, Job.start_time).where(in_array(Job.task_hash, hashes))
    some = own.limit(MAX_GATHERED + 1).cte("own").prefix_with("MATERIALIZED")
    start = some.c.start_time
    query = sa.select(some.c.task_hash, sa.func.count(), sa.func.min(start), sa.func.max(start))
    rows = await read_rows(backend.database, query.group_by(some.c.task_hash))
    return {row.task_hash: TaskVersion(*row) for row in rows}
