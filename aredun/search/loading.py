"""Records by their whole ids, and those next to them; with what a status and the name of a task take."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, cast

import sqlalchemy as sa

from aredun.formats.arguments import argument_order
from aredun.formats.statuses import get_cutoff
from aredun.models import Argument, ArgumentResult, CallEdge, CallNode, Execution, Job
from aredun.search.records import get_primary_key, get_reader, read_records, select_by_keys
from aredun.storage.reads import read_rows, read_scalars
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
    name, wanted = get_primary_key(model).key, sorted(set(keys))
    reader = get_reader(cast("Any", model))
    statement = select_by_keys(reader, tells_alive=False)
    found: dict[str, ModelT] = {}
    for begin in range(0, len(wanted), _CHUNK):
        rows = await backend.database.fetch(statement, {"keys": wanted[begin : begin + _CHUNK]})
        found |= {getattr(record, name): record for record in reader.make(rows, backend.database.backend)}
    return found


async def load_one(backend: Repository, model: type[ModelT], key: str | None) -> ModelT | None:
    """Return what `load_all` does for one key; None where there is no record, or no key."""
    return None if key is None else (await load_all(backend, model, [key])).get(key)


async def list_execution_ids(backend: Repository) -> list[str]:
    """Return the ids of all executions, newest first, in one statement however many there are."""
    statement = sa.select(Execution.id).join(Job, Job.id == Execution.job_id)
    return await read_scalars(backend.database, statement.order_by(Job.start_time.desc(), Execution.id))


async def list_first_jobs(backend: Repository, execution_id: str, limit: int) -> list[Job]:
    """Return the jobs of an execution that started first, in that order, ABANDONED ones marked."""
    order = (Job.start_time, Job.id)
    first = sa.select(Job.id.label("pk")).where(Job.execution_id == execution_id)
    first = first.order_by(*order).limit(limit)
    return await read_records(backend, Job, first, *order, cutoff=get_cutoff(backend.config))


async def load_first_job(backend: Repository, task_hash: str) -> Any:
    """Return the `id` and `start_time` of the job of a task that started first; None without one."""
    # Materialised: by the index on start times the first job of a late task is far down.
    jobs = sa.select(Job.id, Job.start_time).where(Job.task_hash == task_hash).cte("jobs")
    jobs = jobs.prefix_with("MATERIALIZED")
    found = await read_rows(backend.database, sa.select(jobs).order_by(jobs.c.start_time, jobs.c.id).limit(1))
    return found[0] if found else None


async def load_arguments(backend: Repository, call_hash: str) -> list[Argument]:
    """Return the arguments of a call in their order."""
    query = sa.select(Argument).where(Argument.call_hash == call_hash)
    found: list[Argument] = await read_scalars(backend.database, query)
    return sorted(found, key=lambda each: argument_order(each.arg_position, each.arg_key))


async def load_origins(backend: Repository, arg_hashes: Iterable[str]) -> dict[str, list[str]]:
    """Return the calls whose results arguments were made of, by the hash of the argument."""
    argument, origin = ArgumentResult.arg_hash, ArgumentResult.result_call_hash
    query = sa.select(argument, origin).where(in_array(argument, arg_hashes)).order_by(argument)
    found: dict[str, list[str]] = {}
    for arg_hash, call_hash in await read_rows(backend.database, query.limit(_CHUNK)):
        found.setdefault(arg_hash, []).append(call_hash)
    return found


async def load_neighbours(backend: Repository, call_hash: str, limit: int, *, down: bool) -> list[CallNode]:
    """Return the calls that a call made, or those that made it, in the order of the calls."""
    edge, node = CallEdge, CallNode
    here, there = (edge.parent_id, edge.child_id) if down else (edge.child_id, edge.parent_id)
    query = sa.select(node).join(edge, there == node.call_hash).where(here == call_hash)
    return await read_scalars(backend.database, query.order_by(edge.call_order, there).limit(limit))
