"""Records by their whole ids, detached, with what their status and the name of their task take."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import sqlalchemy as sa

from aredun.models import Job
from aredun.search.scan import get_load_options
from aredun.storage.reads import read_scalars
from aredun.tables.column_types import in_array

if TYPE_CHECKING:
    from collections.abc import Iterable

    from aredun.search.repository import Repository

ModelT = TypeVar("ModelT")

_CHUNK = 1_000


async def load_all(backend: Repository, model: type[ModelT], keys: Iterable[str]) -> dict[str, ModelT]:
    """
    Return records of a model by their primary key, values without their data.

    Parameters
    ----------
    backend : RedunBackendDb
        The repository to look in.
    model : type
        Of `aredun.models`, with a primary key of one column.
    keys : Iterable[str]
        Whole ids or hashes; those that nothing is recorded under are left out.
    """
    (column,) = sa.inspect(model, raiseerr=True).primary_key
    query = sa.select(model).options(*get_load_options(model.__name__))
    wanted = sorted(set(keys))
    found: dict[str, ModelT] = {}
    for begin in range(0, len(wanted), _CHUNK):
        chosen = query.where(in_array(column, wanted[begin : begin + _CHUNK]))
        for record in await read_scalars(backend.database, chosen):
            found[getattr(record, column.name)] = record
    return found


async def load_one(backend: Repository, model: type[ModelT], key: str | None) -> ModelT | None:
    """Return what `load_all` does for one key; None where there is no record, or no key."""
    return None if key is None else (await load_all(backend, model, [key])).get(key)


async def load_first_job(backend: Repository, task_hash: str) -> Job | None:
    """Return the job of a task that started first."""
    # Materialised: by the index on start times the first job of a late task is far down.
    jobs = sa.select(Job.id, Job.start_time).where(Job.task_hash == task_hash).cte("jobs")
    jobs = jobs.prefix_with("MATERIALIZED")
    first = sa.select(jobs.c.id).order_by(jobs.c.start_time, jobs.c.id).limit(1)
    found = await read_scalars(backend.database, sa.select(Job).where(Job.id.in_(first)))
    return found[0] if found else None
