"""The HTTP API: lists of what a repository holds, queries and searches, as JSON. It only reads."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query
from pydantic import AfterValidator

from aredun import models
from aredun.formats.describe import cut_text
from aredun.formats.spelling import spell_id, spell_path
from aredun.formats.tag_syntax import parse_tag_key_value
from aredun.query import CallGraphQuery
from aredun.search import substrings
from aredun.search.filters import select_by_part, select_inside, select_started
from aredun.search.identify import find_one, get_key
from aredun.search.loading import load_one
from aredun.search.pages import pack_cursor, read_place
from aredun.search.tags import list_current_tags
from aredun.server import records, schemas
from aredun.server.parameters import Backend, Id, Name, Page, Part, RecordId, Texts, find_anything, narrow

if TYPE_CHECKING:
    from collections.abc import Iterable

    from aredun.backend import RedunBackendDb

router = APIRouter(prefix="/api")

_WHOLE_ID = re.compile(r"[0-9A-Fa-f]{40}|[0-9A-Fa-f-]{36}")


def _spell_paths(texts: list[str]) -> list[str]:
    return [path for text in texts for path in spell_path(text)]


def _parse_tags(texts: list[str]) -> list[tuple[str, Any]]:
    return [parse_tag_key_value(text, value_required=False) for text in texts]


TaskNames = Annotated[Texts, Query(description="Names of tasks.")]
Paths = Annotated[
    Texts, AfterValidator(_spell_paths), Query(description="Of files; `*` stands for any text.")
]
Hashes = Annotated[Texts, Query(description="Hashes of values, or their first characters.")]
JobStatuses = Annotated[list[Literal["RUNNING", "FAILED", "CACHED", "DONE", "ABANDONED"]], Query()]
RecordType = Literal["Execution", "Job", "CallNode", "Task", "Value"]


@router.get("/executions", tags=["executions"])
async def list_executions(
    backend: Backend,
    page: Page,
    status: Annotated[list[Literal["RUNNING", "FAILED", "DONE", "ABANDONED"]], Query()] = [],  # noqa: B006  # FastAPI's way
    tag: Annotated[Texts, Query(description="`key` or `key=value`; all must be there.")] = [],  # noqa: B006
) -> schemas.ExecutionPage:
    """List executions, newest first."""
    query = CallGraphQuery(backend, order_by="time", filter_types=["Execution"])
    return await page.answer(
        query, schemas.ExecutionPage, filter_execution_statuses=status, filter_tags=_parse_tags(tag)
    )


@router.get("/executions/{execution_id}/jobs", tags=["executions", "jobs"])
async def list_execution_jobs(
    backend: Backend,
    page: Page,
    execution_id: RecordId,
    status: JobStatuses = [],  # noqa: B006
    task: TaskNames = [],  # noqa: B006
    text: Annotated[
        Part | None, Query(description="Part of a task's name, or the beginning of an id.")
    ] = None,
) -> schemas.JobPage:
    """List the jobs of an execution, newest first."""
    execution = await find_one(backend, "Execution", execution_id)
    jobs = None if text is None else select_by_part(execution.id, text)
    query = CallGraphQuery(backend, order_by="time", filter_types=["Job"], jobs=jobs)
    query = query.filter_execution_ids([execution.id])
    return await page.answer(query, schemas.JobPage, filter_job_statuses=status, filter_task_names=task)


@router.get("/jobs", tags=["jobs"])
async def list_jobs(
    backend: Backend,
    page: Page,
    status: JobStatuses = [],  # noqa: B006
    task: TaskNames = [],  # noqa: B006
) -> schemas.JobPage:
    """List jobs, newest first."""
    query = CallGraphQuery(backend, order_by="time", filter_types=["Job"])
    return await page.answer(query, schemas.JobPage, filter_job_statuses=status, filter_task_names=task)


@router.get("/jobs/{job_id}/children", tags=["jobs"])
async def list_job_children(backend: Backend, page: Page, job_id: RecordId) -> schemas.JobPage:
    """List the jobs that a job started, newest first."""
    started = select_started((await find_one(backend, "Job", job_id)).id)
    query = CallGraphQuery(backend, order_by="time", filter_types=["Job"], jobs=started)
    return await page.answer(query, schemas.JobPage)


@router.get("/call-nodes", tags=["calls"])
async def list_call_nodes(backend: Backend, page: Page) -> schemas.CallNodePage:
    """List calls, by hash."""
    return await page.answer(CallGraphQuery(backend, filter_types=["CallNode"]), schemas.CallNodePage)


@router.get("/values", tags=["values"])
async def list_values(
    backend: Backend,
    page: Page,
    value_type: Annotated[Texts, Query(description="Such as `builtins.int`.")] = [],  # noqa: B006
    path: Paths = [],  # noqa: B006
) -> schemas.ValuePage:
    """List values with what they look like, by hash."""
    query = CallGraphQuery(backend, filter_types=["Value"])
    return await page.answer(query, schemas.ValuePage, filter_value_types=value_type, filter_file_paths=path)


@router.get("/values/{value_hash}/children", tags=["values"])
async def list_value_children(backend: Backend, page: Page, value_hash: RecordId) -> schemas.ValuePage:
    """List the values inside a value, by hash."""
    inside = select_inside((await find_one(backend, "Value", value_hash)).value_hash)
    return await page.answer(
        CallGraphQuery(backend, filter_types=["Value"], values=inside), schemas.ValuePage
    )


@router.get("/previews", tags=["values"])
async def list_previews(
    backend: Backend,
    value_hash: Annotated[list[Id], Query(min_length=1, max_length=100, description="Whole hashes.")],
) -> list[schemas.Preview]:
    """Get what many values look like; those that are not recorded are left out."""
    found = await records.get_preview_texts(backend, value_hash)
    return [schemas.Preview(value_hash=key, preview=text[:200]) for key, text in found.items()]


@router.get("/tasks", tags=["tasks"])
async def list_tasks(
    backend: Backend,
    page: Page,
    name: Annotated[Texts, Query(description="With or without namespace.")] = [],  # noqa: B006
) -> schemas.TaskPage:
    """List versions of tasks, by hash."""
    query = CallGraphQuery(backend, filter_types=["Task"])
    return await page.answer(query, schemas.TaskPage, filter_task_names=name)


@router.get("/tags", tags=["tags"])
async def list_tags(
    backend: Backend,
    page: Page,
    key: Name | None = None,
    entity_type: RecordType | None = None,
    entity_id: Annotated[Name | None, Query(description="A whole id.")] = None,
) -> schemas.TagPage:
    """List current tags, by hash."""
    [after] = read_place(page.cursor, "Tag", 1) or [None]
    found = await list_current_tags(backend, key, entity_type, entity_id, after=after, limit=page.limit + 1)
    tags = found[: page.limit]
    cursor = pack_cursor(["Tag", tags[-1].tag_hash]) if len(found) > page.limit else None
    return schemas.TagPage(items=list(map(records.make_tag, tags)), cursor=cursor)


async def make_query(
    backend: Backend,
    record_type: Annotated[
        list[RecordType], Query(alias="type", description="Record types; all without.")
    ] = [],  # noqa: B006
    record_id: Annotated[Name | None, Query(alias="id", description="The beginning of an id.")] = None,
    execution: Annotated[Texts, Query(description="Ids of executions, or their first characters.")] = [],  # noqa: B006
    task: TaskNames = [],  # noqa: B006
    task_hash: Texts = [],  # noqa: B006
    value_type: Texts = [],  # noqa: B006
    path: Paths = [],  # noqa: B006
    argument: Hashes = [],  # noqa: B006
    result: Hashes = [],  # noqa: B006
    tag: Annotated[Texts, Query(description="`key` or `key=value`.")] = [],  # noqa: B006
    execution_tag: Texts = [],  # noqa: B006
    order: Annotated[Literal["time", "id"], Query(description="`time`: newest first.")] = "time",
) -> CallGraphQuery[Any]:
    """Return the query that filters such as the options of `aredun query` ask for."""
    query = narrow(
        CallGraphQuery(backend, order_by=order if order == "time" else None),
        filter_types=record_type,
        filter_task_names=task,
        filter_value_types=value_type,
        filter_file_paths=path,
        filter_tags=_parse_tags(tag),
        filter_execution_tags=_parse_tags(execution_tag),
        filter_execution_ids=await _find_ids(backend, "Execution", execution),
        filter_task_hashes=await _find_ids(backend, "Task", task_hash),
        filter_arguments=await _find_ids(backend, "Value", argument),
        filter_results=await _find_ids(backend, "Value", result),
    )
    return query if record_id is None else query.like_id(record_id)


async def _find_ids(backend: RedunBackendDb, record_type: str, texts: Iterable[str]) -> list[str]:
    """Return the whole ids of the records of a type that filters are about."""
    # Whole ones are handed on as they are: that nothing is recorded under one is an empty answer.
    found: list[str] = []
    for text in texts:
        is_whole = _WHOLE_ID.fullmatch(text.strip())
        found += spell_id(text) if is_whole else [get_key(await find_one(backend, record_type, text))]
    return found


Chosen = Annotated[Any, Depends(make_query)]


@router.get("/query", tags=["query"])
async def query_records(page: Page, query: Chosen) -> schemas.RecordPage:
    """Query records of all types: executions, jobs, calls, tasks, values."""
    return await page.answer(query, schemas.RecordPage)


@router.get("/count", tags=["query"])
async def count_records(query: Chosen) -> list[schemas.Count]:
    """Count the records of a query by type."""
    return [schemas.Count(type=name, count=number) async for name, number in query.count()]


@router.get("/find/{record_id:path}", tags=["query"])
async def find(backend: Backend, record_id: RecordId) -> schemas.Match:
    """Find what an id stands for: the beginning of an id, a task's name, a file's path, `-` or `~2`."""
    found = await find_anything(backend, record_id)
    if not isinstance(found, tuple):
        [record] = await records.make_records(backend, [found])
        return schemas.Match(record=record, used_as=None, job=None)
    file, job, used_as = found
    value = await load_one(backend, models.Value, file.value_hash)
    shown, made = await records.make_records(backend, [value, job])
    return schemas.Match(record=shown, used_as=used_as, job=made)


@router.get("/matches/{prefix:path}", tags=["query"])
async def list_matches(
    backend: Backend, prefix: RecordId, limit: Annotated[int, Query(ge=1, le=50)] = 8
) -> list[schemas.Record]:
    """List the first records whose id begins with a text, tasks also by their name."""
    return await records.make_records(backend, await substrings.find_matches(backend, prefix, limit))


def _cut_reason(reason: str, text: str) -> str:
    """Return as much of a text as is shown, with the part that was sought in it."""
    place = reason.casefold().find(text.strip().casefold())
    # A few letters before that part tell what it belongs to.
    return cut_text(reason if place < 100 else f"…{reason[place - 40 :]}", 200)


@router.get("/search", tags=["query"])
async def search(backend: Backend, text: Id, limit: Annotated[int, Query(ge=1, le=50)] = 8) -> schemas.Search:
    """Search for a part of a task's name, a path, a tag (`user=ada`) or an argument, after prefixes."""
    found = await substrings.search(backend, text, limit)
    made = await records.make_records(backend, found.records)
    hits = [
        schemas.Hit(record=record, because=reason and _cut_reason(reason, text))
        for record, reason in zip(made, found.reasons, strict=True)
    ]
    return schemas.Search(hits=hits, bound=found.bound)
