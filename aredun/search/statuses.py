"""The filters by status, and the sign of life that tells an abandoned run from a running one."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from aredun.formats import statuses
from aredun.models import CallNode, Execution, Job, Value
from aredun.search.conditions import Condition, alias, among, any_of, for_types, identity
from aredun.storage.reads import read_rows
from aredun.tables.column_types import in_array

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from datetime import datetime

    from sqlalchemy import ColumnElement, Select

    from aredun.search.conditions import Filter
    from aredun.search.repository import Repository


def filter_job_statuses(names: Sequence[str], get_cutoff: Callable[[], datetime]) -> Filter:
    """
    Return the filter of jobs by status.

    Parameters
    ----------
    names : Sequence[str]
        Of `statuses.JOB_STATUSES`.
    get_cutoff : Callable[[], datetime]
        An execution without a sign of life since the time that this gives is abandoned.
    """
    return for_types(Job=lambda: _has_status(Job, names, get_cutoff()))


def filter_execution_statuses(names: Sequence[str], get_cutoff: Callable[[], datetime]) -> Filter:
    """
    Return the filter of executions by status; an execution whose root job was CACHED is DONE.

    Parameters
    ----------
    names : Sequence[str]
        Of `statuses.EXECUTION_STATUSES`.
    get_cutoff : Callable[[], datetime]
        An execution without a sign of life since the time that this gives is abandoned.
    """
    job_names = [*names, *([statuses.CACHED] if statuses.DONE in names else [])]

    def make() -> Condition:
        cutoff, job = get_cutoff(), alias(Job, "root_job")
        term = _has_status(job, job_names, cutoff)

        def branches(column: Any) -> list[Select[Any]]:
            return [sa.select(job.id).where((term.seek if column is identity else term.probe)())]

        # Executions are few beside jobs: where no index leads to the root jobs, each execution's own is
        # probed.
        return replace(among(Execution.job_id, branches), sources=term.sources)

    return for_types(Execution=make)


def _has_status(job: Any, names: Sequence[str], cutoff: datetime) -> Condition:
    return any_of([_make_status_condition(job, name, cutoff) for name in names])


def _make_status_condition(job: Any, name: str, cutoff: datetime) -> Condition:
    if name in {statuses.RUNNING, statuses.ABANDONED}:
        open_job = sa.and_(job.end_time.is_(None), job.call_hash.is_(None))
        alive = is_alive(job.execution_id, cutoff)
        clause = sa.and_(open_job, alive if name == statuses.RUNNING else sa.not_(alive))
        return Condition(lambda: clause, lambda: clause, lambda: [sa.select(job.id).where(open_job)])
    if name == statuses.FAILED:
        return _has_result(job, lambda kind: kind == statuses.ERROR_TYPE_NAME)
    if name == statuses.CACHED:
        clause = job.cached.is_(True)
    else:
        finished = _has_result(job, lambda kind: kind != statuses.ERROR_TYPE_NAME)
        clause = sa.and_(job.cached.is_(False), finished.probe())
    return Condition(lambda: clause, lambda: clause)


def _has_result(job: Any, matches: Callable[[Any], ColumnElement[bool]]) -> Condition:
    """Return the condition that the type of a job's result matches."""
    node, value = alias(CallNode, "result_node"), alias(Value, "result")
    results = sa.select(node.call_hash).join(value, value.value_hash == node.value_hash)
    return among(job.call_hash, lambda column: [results.where(matches(column(value.type)))])


def is_alive(execution_id: Any, cutoff: datetime) -> ColumnElement[bool]:
    """Return the condition that an execution has given a sign of life since `cutoff` (`formats.statuses`)."""
    execution = alias(Execution, "beating_execution")
    started, ended = alias(Job, "started_job"), alias(Job, "ended_job")
    # Looked up once, not per row: an abandoned run may have left thousands of open jobs.
    return execution_id.in_(  # type: ignore[no-any-return]  # columns are untyped here
        sa.union(
            sa.select(execution.id).where(execution.updated_time >= cutoff),
            sa.select(started.execution_id).where(started.start_time >= cutoff),
            sa.select(ended.execution_id).where(ended.end_time >= cutoff),
        )
    )


def join_result(statement: Any) -> Select[Any]:
    """Return a select of jobs joined with their calls and results, where there are some."""
    statement = statement.outerjoin(CallNode, CallNode.call_hash == Job.call_hash)
    joined: Select[Any] = statement.outerjoin(Value, Value.value_hash == CallNode.value_hash)
    return joined


async def get_job_statuses(backend: Repository, job_ids: Collection[str]) -> dict[str | None, str]:
    """Return the statuses of jobs by id; open ones are RUNNING, abandoned or not."""
    if not job_ids:
        return {}
    query = join_result(sa.select(Job.id, Job.end_time, Job.cached, Value.type))
    query = query.where(in_array(Job.id, sorted(job_ids)))
    return {key: statuses.get_job_status(*row) for key, *row in await read_rows(backend.database, query)}
