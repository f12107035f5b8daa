"""Finding what an id of a request stands for."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.orm import load_only

from aredun import models
from aredun.dataflow.starts import find_call, get_start
from aredun.errors import AmbiguousIdError, UnknownIdError, UsageError
from aredun.formats.spelling import spell_id
from aredun.formats.tag_syntax import is_storable_text
from aredun.query import CallGraphQuery
from aredun.search.identify import (
    explain_unknown,
    find_one,
    get_key,
    infer_id,
    infer_specialty_id,
    leave_out_task_values,
)
from aredun.server.answers import AmbiguousError, NotFoundError
from aredun.tables.column_types import starts_with

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.ext.asyncio import AsyncSession

    from aredun.backend import RedunBackendDb
    from aredun.dataflow.starts import Start

MAX_ID_LENGTH = 2_048
# Less of a path fits too many files to be worth looking.
_MIN_PATH = 3
_WHOLE_ID = re.compile(r"[0-9A-Fa-f]{40}|[0-9A-Fa-f-]{36}")


def check_id(text: str) -> str:
    """Return an id or another text of a request, if a database can look for it.

    Raises
    ------
    UsageError
        It is empty, too long, or holds a NUL or half a character (a lone surrogate).
    """
    if not text.strip() or len(text) > MAX_ID_LENGTH or not is_storable_text(text):
        raise UsageError(f"an id or a name has 1 to {MAX_ID_LENGTH} whole characters, none of them NUL")
    return text


async def find_record(backend: RedunBackendDb, record_type: str, record_id: str) -> Any:
    """Return the only record of a type whose id begins with a text.

    Parameters
    ----------
    backend : RedunBackendDb
        The repository.
    record_type : str
        Of `CallGraphQuery.MODEL_NAMES`.
    record_id : str
        The beginning of an id; of executions also `-` and `~2`, of tasks also the name.

    Raises
    ------
    NotFoundError, AmbiguousError
        No record fits, or several do.
    """
    try:
        return await find_one(backend, record_type, check_id(record_id))
    except UnknownIdError as error:
        raise NotFoundError(str(error)) from error
    except AmbiguousIdError as error:
        raise AmbiguousError(str(error)) from error


async def find_anything(backend: RedunBackendDb, record_id: str) -> Any:
    """Return what `infer_id` takes an id for: a record, or (file, job, how the job had it).

    Raises
    ------
    NotFoundError
        It fits nothing.
    """
    record = await infer_id(backend, check_id(record_id))
    if record is None:
        raise NotFoundError(str(await explain_unknown(backend, record_id)))
    return record


async def find_ids(backend: RedunBackendDb, record_type: str, texts: Sequence[str]) -> list[str]:
    """Return the whole ids of the records of a type that filters are about.

    Whole ones are handed on as they are: that nothing is recorded under one is an empty answer.

    Raises
    ------
    NotFoundError, AmbiguousError
        No record fits the beginning of an id, or several do.
    """
    found: list[str] = []
    for text in texts:
        if _WHOLE_ID.fullmatch(text.strip()):
            found += spell_id(text)
        else:
            found.append(get_key(await find_record(backend, record_type, text)))
    return found


async def find_matches(backend: RedunBackendDb, prefix: str, limit: int) -> list[Any]:
    """Return the first records whose id begins with a text, then tasks whose name and files whose path do."""
    prefix = check_id(prefix).strip()
    if prefix[0] in "-~":
        special = await infer_specialty_id(backend, prefix, include_files=False)
        return [] if special is None else [special]
    query = CallGraphQuery(backend, order_by="time").like_id(prefix)
    found = [record async for record in query.limit(limit)]
    namespace, _, name = prefix.rpartition(".")
    tasks = sa.select(models.Task).where(starts_with(models.Task.name, name))
    if namespace:
        tasks = tasks.where(models.Task.namespace == namespace)
    tasks = tasks.order_by(models.Task.name, models.Task.hash).limit(limit)
    paths = sa.select(models.File.value_hash).where(starts_with(models.File.path, prefix))
    paths = paths.order_by(models.File.path, models.File.value_hash).limit(limit)
    columns = (models.Value.value_hash, models.Value.type, models.Value.format)
    files = sa.select(models.Value).where(models.Value.value_hash.in_(paths))
    files = files.options(load_only(*columns, raiseload=True)).order_by(models.Value.value_hash)

    async def operation(session: AsyncSession) -> list[Any]:
        by_name = list(await session.scalars(tasks)) if name or namespace else []
        by_path = list(await session.scalars(files)) if len(prefix) >= _MIN_PATH else []
        return [*by_name, *by_path]

    known = {identify(record) for record in found}
    found += [record for record in await backend.database.read(operation) if identify(record) not in known]
    return leave_out_task_values(found)[:limit]


def find_jobs(execution_id: str, text: str) -> sa.Select[Any]:
    """Return the select of an execution's jobs by a part of a task's name, or the beginning of an id."""
    text = check_id(text).strip().lower()
    task = models.Task
    name = sa.func.lower(task.namespace + "." + task.name).contains(text, autoescape=True)
    query = sa.select(models.Job).join(task, task.hash == models.Job.task_hash)
    return query.where(models.Job.execution_id == execution_id, name | starts_with(models.Job.id, text))


def identify(record: Any) -> tuple[str, Any]:
    """Return the type and the primary key of a record."""
    return type(record).__name__, sa.inspect(record).identity


async def find_start(backend: RedunBackendDb, record_id: str, *, downstream: bool) -> Start:
    """Return where the dataflow of an id begins.

    A call is walked from itself; an execution and a job stand for their result (`aredun.dataflow.starts`).

    Raises
    ------
    NotFoundError
        The id fits nothing, or a job that has led to no call yet.
    """
    record = await find_anything(backend, record_id)
    return await get_start_of(backend, record, downstream=downstream)


async def get_start_of(backend: RedunBackendDb, record: Any, *, downstream: bool) -> Start:
    """Return where the dataflow of a record begins.

    Raises
    ------
    NotFoundError
        It has none, or has led to no call yet.
    """
    is_call = isinstance(record, models.CallNode)
    try:
        # "Downstream" begins at the call itself, which is what is wanted in both directions.
        return await get_start(backend, record, downstream=downstream or is_call)
    except UsageError as error:
        raise NotFoundError(str(error)) from error


async def find_inside(backend: RedunBackendDb, record_id: str) -> Any:
    """Return the call whose inside an id stands for; a job or an execution that has led to none yet itself.

    Raises
    ------
    NotFoundError
        The id fits nothing, or nothing that has an inside.
    """
    record = await find_anything(backend, record_id)
    is_run = isinstance(record, models.Job | models.Execution)
    if is_run and await find_call(backend, record) is None:
        return record
    return (await get_start_of(backend, record, downstream=True)).node
