"""The filters by status, and the sign of life that tells an abandoned run from a running one."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from aredun.formats import statuses
from aredun.models import CallNode, Execution, Job, Value
from aredun.search.conditions import Condition, alias, among, any_of, identity
from aredun.storage.reads import read_rows
from aredun.tables.column_types import in_array

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from datetime import datetime

    from sqlalchemy import ColumnElement, Select

    from aredun.search.repository import Repository


def filter_job_statuses(
    names: Sequence[str], get_cutoff: Callable[[], datetime]
) -> Callable[[str], Condition | None]:
    """
    Return the filter of jobs by status.

    Parameters
    ----------
    names : Sequence[str]
        Of `statuses.JOB_STATUSES`.
    get_cutoff : Callable[[], datetime]
        An execution without a sign of life since the time that this gives is abandoned.
    """

    def condition(record_type: str) -> Condition | None:
        if record_type != "Job":
            return None
        return any_of([_job_status_condition(Job, name, get_cutoff()) for name in names])

    return condition


def filter_execution_statuses(
    names: Sequence[str], get_cutoff: Callable[[], datetime]
) -> Callable[[str], Condition | None]:
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

    def condition(record_type: str) -> Condition | None:
        if record_type != "Execution":
            return None
        cutoff = get_cutoff()

        def branches(column: Any) -> list[Select[Any]]:
            job = alias(Job, "root_job")
            term = any_of([_job_status_condition(job, name, cutoff) for name in job_names])
            return [sa.select(job.id).where((term.seek if column is identity else term.probe)())]

        # Executions are few beside jobs: where no index leads to the root jobs, each execution's own is
        # probed.
        counted = any_of([_job_status_condition(Job, name, cutoff) for name in job_names])
        return replace(among(Execution.job_id, branches), sources=counted.sources)

    return condition


def _job_status_condition(job: Any, name: str, cutoff: datetime) -> Condition:
    if name in {statuses.RUNNING, statuses.ABANDONED}:
        open_job = sa.and_(job.end_time.is_(None), job.call_hash.is_(None))

        def clause() -> ColumnElement[bool]:
            alive = is_alive(job.execution_id, cutoff)
            return sa.and_(open_job, alive if name == statuses.RUNNING else sa.not_(alive))

        return Condition(clause, clause, lambda: [sa.select(job.id).where(open_job)])
    if name == statuses.CACHED:
        return _unindexed(lambda: job.cached.is_(True))
    if name == statuses.FAILED:
        return among(job.call_hash, _result_branches(True))
    finished = among(job.call_hash, _result_branches(False))
    return _unindexed(lambda: sa.and_(job.cached.is_(False), finished.probe()))


def _unindexed(make_clause: Callable[[], ColumnElement[bool]]) -> Condition:
    return Condition(make_clause, make_clause)


def _result_branches(failed: bool) -> Callable[[Any], Sequence[Select[Any]]]:
    def branches(column: Any) -> list[Select[Any]]:
        node, value = alias(CallNode, "result_node"), alias(Value, "result")
        kind = column(value.type)
        clause = kind == statuses.ERROR_TYPE_NAME if failed else kind != statuses.ERROR_TYPE_NAME
        return [sa.select(node.call_hash).join(value, value.value_hash == node.value_hash).where(clause)]

    return branches


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
