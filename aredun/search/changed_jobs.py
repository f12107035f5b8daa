"""The jobs that may have begun or ended since some time, and the heartbeats of executions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import sqlalchemy as sa

from aredun.models import Execution, Job
from aredun.storage.reads import read_rows, read_scalars
from aredun.storage.watch import get_arrival_order
from aredun.tables.column_types import in_array

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sqlalchemy.ext.asyncio import AsyncSession

    from aredun.search.repository import Repository

# Jobs that a killed run left open may be many: only the newest open ones are looked for.
MAX_OPEN = 20_000
CHUNK = 1_000


class ChangedJob(NamedTuple):
    """A job, whether it has ended, and its number in the order of arrival where there is one (sqlite)."""

    id: str
    is_ended: bool
    arrival: int | None


async def get_last_arrival(backend: Repository) -> int:
    """Return the highest number in the order of arrival; 0 where there is none."""
    arrival = get_arrival_order(backend.database)
    if arrival is None:
        return 0
    [last] = await read_scalars(backend.database, sa.select(sa.func.max(arrival)).select_from(Job))
    return last or 0


async def find_changed_jobs(
    backend: Repository, since: datetime, arrival: int, known_open: Sequence[str], *, with_open: bool
) -> list[ChangedJob]:
    """
    Find jobs that began or ended lately, in the order of arrival as far as that is known.

    Parameters
    ----------
    backend : RedunBackendDb
        The repository to look in.
    since : datetime
        Finds jobs that began or ended since then.
    arrival : int
        Finds jobs that arrived after this number, where there is an order of arrival.
    known_open : Sequence[str]
        Ids of open jobs; finds those that have ended.
    with_open : bool
        Find open jobs too. Without an order of arrival they always are.
    """
    column = get_arrival_order(backend.database)
    number: Any = sa.literal(None, sa.Integer) if column is None else column
    jobs = sa.select(Job.id, Job.end_time.is_not(None), number)
    queries = [
        jobs.where(Job.start_time >= since).order_by(Job.start_time, Job.id),
        jobs.where(Job.end_time >= since).order_by(Job.end_time, Job.id),
    ]
    if column is not None:
        queries.insert(0, jobs.where(column > arrival).order_by(column))
    if with_open or column is None:
        queries.append(jobs.where(Job.end_time.is_(None)).order_by(Job.start_time.desc()).limit(MAX_OPEN))

    async def operation(session: AsyncSession) -> list[ChangedJob]:
        found: dict[str, ChangedJob] = {}
        for query in queries:
            for row in await session.execute(query):
                found.setdefault(row.id, ChangedJob._make(row))
        still_open = [job_id for job_id in known_open if job_id not in found]
        for begin in range(0, len(still_open), CHUNK):
            chosen = in_array(Job.id, still_open[begin : begin + CHUNK])
            ended = jobs.where(chosen, Job.end_time.is_not(None)).order_by(Job.end_time)
            for row in await session.execute(ended):
                found.setdefault(row.id, ChangedJob._make(row))
        return list(found.values())

    return await backend.database.read(operation)


async def get_heartbeats(backend: Repository, ids: Sequence[str] | None) -> dict[str, datetime | None]:
    """Return the last heartbeats of executions, of all that are open without ids."""
    query = sa.select(Execution.id, Execution.updated_time)
    if ids is None:
        query = query.join(Job, Job.id == Execution.job_id).where(Job.end_time.is_(None))
        query = query.order_by(Job.start_time.desc()).limit(CHUNK)
    else:
        query = query.where(in_array(Execution.id, ids[-CHUNK:]))
    return dict(await read_rows(backend.database, query))
