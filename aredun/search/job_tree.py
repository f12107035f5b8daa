"""The jobs of an execution: counted by task and status, and as a tree in a few statements."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import sqlalchemy as sa

from aredun.formats import statuses
from aredun.models import Execution, Job, Task, Value
from aredun.search.statuses import is_alive, join_result
from aredun.storage.reads import read_rows
from aredun.tables.column_types import in_array

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence
    from datetime import datetime

    from sqlalchemy import Select
    from sqlalchemy.ext.asyncio import AsyncSession

    from aredun.search.repository import Repository

# An execution of more jobs is read level by level, and only as far as it is shown.
FETCH_ALL = 5_000
DEFAULT_FOLD = 10
DEFAULT_MAX_JOBS = 1_000

# People look for jobs of these statuses, so these are folded last.
_PROMINENT = (statuses.FAILED, statuses.RUNNING, statuses.ABANDONED)


_STATUS: Any = sa.case(
    (Value.type == statuses.ERROR_TYPE_NAME, statuses.FAILED),
    (Job.end_time.is_(None), statuses.RUNNING),
    (Job.cached, statuses.CACHED),
    else_=statuses.DONE,
)


class JobRow(NamedTuple):
    """
    A job of a tree.

    Attributes
    ----------
    id, parent_id, task_hash, call_hash : str
        As in the table `job`; a root has no parent, an unfinished job no call.
    start_time, end_time : datetime
        `end_time` is None while the job has not ended.
    task_name : str
        Name of the task with its namespace.
    status : str
        Of `statuses.JOB_STATUSES`.
    """

    id: str
    parent_id: str | None
    task_hash: str
    call_hash: str | None
    start_time: datetime
    end_time: datetime | None
    task_name: str
    status: str


class FoldedJobs(NamedTuple):
    """Jobs of one task under one parent that are counted instead of shown."""

    task_name: str
    counts: dict[str, int]


class TreeLine(NamedTuple):
    """A line of a tree: a job, or jobs that are folded, at a depth counted from zero."""

    depth: int
    entry: JobRow | FoldedJobs


@dataclass
class JobTree:
    """
    The jobs of an execution as far as they are to be shown.

    Attributes
    ----------
    below : dict[str | None, list[JobRow | FoldedJobs]]
        What is shown under each job: jobs by start, then what is folded; under None the jobs without a
        parent, usually one.
    is_cut : bool
        Whether jobs below the shown ones were left out because there were too many.
    """

    below: dict[str | None, list[JobRow | FoldedJobs]]
    is_cut: bool = False

    def walk_lines(self) -> Iterator[TreeLine]:
        """Yield the lines of the tree, each job before the jobs that it started."""
        stack = [TreeLine(0, root) for root in reversed(self.below[None])]
        while stack:
            line = stack.pop()
            yield line
            if isinstance(line.entry, JobRow):
                entries = self.below.get(line.entry.id, [])
                stack += [TreeLine(line.depth + 1, entry) for entry in reversed(entries)]

    def list_jobs(self, parents: Iterable[str | None]) -> list[str]:
        """Return the ids of the jobs that are shown under some jobs."""
        entries = (entry for parent in parents for entry in self.below.get(parent, []))
        return [entry.id for entry in entries if isinstance(entry, JobRow)]


async def count_jobs(backend: Repository, execution_id: str, cutoff: datetime) -> dict[str, Counter[str]]:
    """
    Count an execution's jobs by task and status, in the database.

    Parameters
    ----------
    backend : RedunBackendDb
        The repository to look in.
    execution_id : str
        Whole id of the execution.
    cutoff : datetime
        Without a sign of life since then, open jobs are ABANDONED.

    Returns
    -------
    dict[str, Counter[str]]
        Counts by status, by the full name of the task, sorted by name.
    """
    statement = (
        _join_status(sa.select(Task.fullname, _STATUS, sa.func.count()).select_from(Job))
        .where(Job.execution_id == execution_id)
        .group_by(Task.namespace, Task.name, _STATUS)
    )

    async def operation(session: AsyncSession) -> dict[str, Counter[str]]:
        abandoned = await _is_abandoned(session, execution_id, cutoff)
        counts: dict[str, Counter[str]] = defaultdict(Counter)
        for task_name, status, count in await session.execute(statement):
            counts[task_name][_tell(status, abandoned)] += count
        return dict(sorted(counts.items()))

    return await backend.database.read(operation)


async def sum_seconds(backend: Repository, execution_id: str, limit: int) -> dict[str, float]:
    """Return how long the jobs of each task took together that have ended and were not cached."""
    statement = sa.select(Task.fullname, Job.start_time, Job.end_time)
    statement = statement.join(Task, Task.hash == Job.task_hash).where(
        Job.execution_id == execution_id, Job.cached.is_(False), Job.end_time.is_not(None)
    )
    seconds: dict[str, float] = defaultdict(float)
    for task_name, start, end in await read_rows(backend.database, statement.limit(limit)):
        seconds[task_name] += (end - start).total_seconds()
    return seconds


async def get_job_tree(
    backend: Repository,
    execution_id: str,
    cutoff: datetime,
    *,
    fold: int | None = DEFAULT_FOLD,
    max_jobs: int | None = DEFAULT_MAX_JOBS,
) -> JobTree:
    """
    Read the tree of an execution's jobs: in one statement up to 5,000 jobs, beyond that in one per level.

    Parameters
    ----------
    backend : RedunBackendDb
        The repository to look in.
    execution_id : str
        Whole id of the execution.
    cutoff : datetime
        Without a sign of life since then, open jobs are ABANDONED.
    fold : int | None
        How many jobs of one task to show under one parent, those that are not over or failed first; None
        shows all.
    max_jobs : int | None
        Stop below the level that makes it this many; None for no limit.
    """

    async def operation(session: AsyncSession) -> JobTree:
        abandoned = await _is_abandoned(session, execution_id, cutoff)
        is_whole = fold is None or await _count_up_to(session, execution_id, FETCH_ALL + 1) <= FETCH_ALL
        chosen: list[Any] = [Job.execution_id == execution_id]
        if not is_whole:
            chosen.append(Job.parent_id.is_(None))
        rows = await _read_jobs(session, abandoned, *chosen)
        known = {row.id for row in rows}
        children: dict[str | None, list[JobRow]] = defaultdict(list)
        for row in rows:
            children[row.parent_id].append(row)
        tree = JobTree({None: [row for row in rows if row.parent_id not in known]})
        count, level = 0, tree.list_jobs([None])
        while level:
            count += len(level)
            if max_jobs is not None and count >= max_jobs:
                tree.is_cut = await _has_children(session, level)
                break
            if is_whole:
                tree.below.update({key: _fold_rows(children[key], fold) for key in level if key in children})
            else:
                tree.below.update(await _read_level(session, level, abandoned, fold or DEFAULT_FOLD))
            level = tree.list_jobs(level)
        return tree

    return await backend.database.read(operation)


async def _is_abandoned(session: AsyncSession, execution_id: str, cutoff: datetime) -> bool:
    statement = sa.select(Execution.id).where(Execution.id == execution_id, is_alive(Execution.id, cutoff))
    return await session.scalar(statement) is None


def _tell(status: str, abandoned: bool) -> str:
    return statuses.ABANDONED if abandoned and status == statuses.RUNNING else status


def _join_status(statement: Select[Any]) -> Select[Any]:
    return join_result(statement.join(Task, Task.hash == Job.task_hash))


def _columns() -> list[Any]:
    columns = (Job.id, Job.parent_id, Job.task_hash, Job.call_hash, Job.start_time, Job.end_time)
    return [*columns, Task.fullname.label("task_name"), _STATUS.label("status")]


def _make_row(row: Sequence[Any], abandoned: bool) -> JobRow:
    *own, status = row
    return JobRow._make([*own, _tell(status, abandoned)])


async def _count_up_to(session: AsyncSession, execution_id: str, limit: int) -> int:
    jobs = sa.select(Job.id).where(Job.execution_id == execution_id).limit(limit).subquery()
    return (await session.execute(sa.select(sa.func.count()).select_from(jobs))).scalar_one()


async def _has_children(session: AsyncSession, parents: Collection[str]) -> bool:
    statement = sa.select(Job.id).where(in_array(Job.parent_id, parents)).limit(1)
    return await session.scalar(statement) is not None


async def _read_jobs(session: AsyncSession, abandoned: bool, *chosen: Any) -> list[JobRow]:
    statement = _join_status(sa.select(*_columns()).select_from(Job)).where(*chosen)
    rows = await session.execute(statement.order_by(Job.start_time, Job.id))
    return [_make_row(row, abandoned) for row in rows]


def _fold_rows(rows: list[JobRow], fold: int | None) -> list[JobRow | FoldedJobs]:
    """Return the children of a job as they are shown."""
    by_task: dict[str, list[JobRow]] = defaultdict(list)
    for row in rows:
        by_task[row.task_hash].append(row)
    hidden: set[str] = set()
    folded: list[FoldedJobs] = []
    for group in by_task.values():
        # A line that tells of one more job takes as much room as the job.
        if fold is not None and len(group) > fold + 1:
            ordered = sorted(group, key=lambda row: row.status not in _PROMINENT)
            hidden.update(row.id for row in ordered[fold:])
            counts = Counter(row.status for row in ordered[fold:])
            folded.append(FoldedJobs(group[0].task_name, dict(counts)))
    return [*(row for row in rows if row.id not in hidden), *folded]


async def _read_level(
    session: AsyncSession, parents: Collection[str], abandoned: bool, fold: int
) -> dict[str | None, list[JobRow | FoldedJobs]]:
    """Return the children of a level by parent, as far as they are shown, and the others counted."""
    rank = sa.func.row_number().over(
        partition_by=(Job.parent_id, Job.task_hash),
        order_by=(sa.case((_STATUS.in_(_PROMINENT), 0), else_=1), Job.start_time, Job.id),
    )
    ranked = _join_status(sa.select(*_columns(), rank.label("rank")).select_from(Job))
    jobs = ranked.where(in_array(Job.parent_id, parents)).subquery("ranked").c
    shown = sa.select(*list(jobs)[:-1]).where(jobs.rank <= fold).order_by(jobs.start_time, jobs.id)
    below: dict[str | None, list[JobRow | FoldedJobs]] = defaultdict(list)
    for job in [_make_row(row, abandoned) for row in await session.execute(shown)]:
        below[job.parent_id].append(job)
    kind = (jobs.parent_id, jobs.task_name, jobs.status)
    hidden = sa.select(*kind, sa.func.count()).where(jobs.rank > fold).group_by(*kind)
    counts: dict[tuple[str, str], dict[str, int]] = defaultdict(dict)
    for parent, task_name, status, count in await session.execute(hidden.order_by(*kind)):
        counts[parent, task_name][_tell(status, abandoned)] = count
    for (parent, task_name), by_status in counts.items():
        below[parent].append(FoldedJobs(task_name, by_status))
    return below
