"""The HTTP API: what a repository holds, as JSON. It only reads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from fastapi import APIRouter, Depends, Path, Query, Request, Response

from aredun.formats import statuses
from aredun.formats.describe import cut_text
from aredun.formats.spelling import spell_path
from aredun.formats.tag_syntax import parse_tag_key_value
from aredun.query import CallGraphQuery
from aredun.search import substrings
from aredun.search.failures import find_next_failed
from aredun.search.filters import select_by_part, select_inside, select_started
from aredun.search.pages import pack_cursor, read_place
from aredun.search.tags import list_current_tags
from aredun.server import details, records, schemas
from aredun.server.answers import respond
from aredun.server.finding import (
    check_id,
    find_anything,
    find_ids,
    find_record,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from aredun.backend import RedunBackendDb

DEFAULT_PAGE = 50

PROBLEMS: dict[int | str, dict[str, Any]] = {
    400: {"model": schemas.Problem, "description": "The request makes no sense."},
    404: {"model": schemas.Problem, "description": "There is no such record."},
    409: {"model": schemas.Problem, "description": "The id fits several records."},
    422: {"model": schemas.Problem, "description": "A parameter is malformed."},
}

router = APIRouter(prefix="/api", responses=PROBLEMS)


def get_backend(request: Request) -> RedunBackendDb:
    """Return the backend of the app that a request came to."""
    backend: RedunBackendDb = request.app.state.backend
    return backend


class Paging:
    """Which page a request asks for."""

    def __init__(
        self,
        request: Request,
        cursor: Annotated[
            str | None, Query(max_length=4_096, description="`cursor` of the page before.")
        ] = None,
        limit: Annotated[
            int, Query(ge=1, le=500, description="Records on the page.", examples=[50])
        ] = DEFAULT_PAGE,
    ) -> None:
        self._backend = get_backend(request)
        self.cursor = cursor
        self.limit = min(limit, request.app.state.settings.max_page_size)

    async def answer(self, query: CallGraphQuery, model: Any) -> Response:
        """Answer with the page of a query."""
        found: Any = await query.page_after(self.cursor, self.limit)
        items = await records.make_records(self._backend, found.records)
        return respond(model(items=items, cursor=found.cursor))


Backend = Annotated[Any, Depends(get_backend)]
Page = Annotated[Paging, Depends()]
RecordId = Annotated[
    str,
    Path(min_length=1, max_length=2_048, description="The beginning of an id.", examples=["5a4d7e0a"]),
]
Texts = Annotated[list[str], Query(max_length=50)]
TaskNames = Annotated[Texts, Query(description="Names of tasks.")]
JobStatuses = Annotated[list[Literal["RUNNING", "FAILED", "CACHED", "DONE", "ABANDONED"]], Query()]


def _checked(texts: Iterable[str]) -> list[str]:
    return [check_id(text) for text in texts]


def _spell_paths(texts: list[str]) -> list[str]:
    return [path for text in _checked(texts) for path in spell_path(text)]


def _parse_tags(texts: list[str]) -> list[tuple[str, Any]]:
    return [parse_tag_key_value(text, value_required=False) for text in _checked(texts)]


async def _respond_jobs(
    page: Paging, query: CallGraphQuery, status: Sequence[str] = (), task: Sequence[str] = ()
) -> Response:
    """Answer with a page of the jobs of a query that have one of the statuses, and one of the tasks."""
    if status:
        query = query.filter_job_statuses(list(status))
    if task:
        query = query.filter_task_names(_checked(task))
    return await page.answer(query, schemas.JobPage)


@router.get("/executions", response_model=schemas.ExecutionPage, tags=["executions"])
async def list_executions(
    backend: Backend,
    page: Page,
    status: Annotated[list[Literal["RUNNING", "FAILED", "DONE", "ABANDONED"]], Query()] = [],  # noqa: B006  # FastAPI's way
    tag: Annotated[Texts, Query(description="`key` or `key=value`; all must be there.")] = [],  # noqa: B006
) -> Response:
    """List executions, newest first."""
    query = CallGraphQuery(backend, order_by="time").filter_types(["Execution"])
    if status:
        query = query.filter_execution_statuses(list(status))
    if tag:
        query = query.filter_tags(_parse_tags(tag))
    return await page.answer(query, schemas.ExecutionPage)


@router.get("/executions/{execution_id}", response_model=schemas.ExecutionDetails, tags=["executions"])
async def get_execution(backend: Backend, execution_id: RecordId) -> Response:
    """Get an execution with its jobs counted; `-` is the newest, `~2` the one before it."""
    execution = await find_record(backend, "Execution", execution_id)
    return respond(
        await details.get_execution_details(backend, execution, statuses.get_cutoff(backend.config))
    )


@router.get("/executions/{execution_id}/jobs", response_model=schemas.JobPage, tags=["executions", "jobs"])
async def list_execution_jobs(
    backend: Backend,
    page: Page,
    execution_id: RecordId,
    status: JobStatuses = [],  # noqa: B006
    task: TaskNames = [],  # noqa: B006
    text: Annotated[
        str | None,
        Query(min_length=1, max_length=200, description="Part of a task's name, or the beginning of an id."),
    ] = None,
) -> Response:
    """List the jobs of an execution, newest first."""
    execution = await find_record(backend, "Execution", execution_id)
    jobs = None if text is None else select_by_part(execution.id, check_id(text))
    query = CallGraphQuery(backend, order_by="time", filter_types=["Job"], jobs=jobs)
    return await _respond_jobs(page, query.filter_execution_ids([execution.id]), status, task)


@router.get("/executions/{execution_id}/tree", response_model=schemas.JobTree, tags=["executions", "jobs"])
async def get_execution_tree(
    backend: Backend,
    execution_id: RecordId,
    fold: Annotated[
        int, Query(ge=0, le=1_000, description="Jobs shown of one task under one parent; 0: all.")
    ] = 10,
    max_jobs: Annotated[int, Query(ge=1, le=20_000)] = 2_000,
) -> Response:
    """Get the jobs of an execution as a tree, each job before those that it started."""
    execution = await find_record(backend, "Execution", execution_id)
    tree = await details.get_tree(
        backend, execution.id, statuses.get_cutoff(backend.config), fold=fold or None, max_jobs=max_jobs
    )
    return respond(tree)


@router.get("/jobs", response_model=schemas.JobPage, tags=["jobs"])
async def list_jobs(
    backend: Backend,
    page: Page,
    status: JobStatuses = [],  # noqa: B006
    task: TaskNames = [],  # noqa: B006
) -> Response:
    """List jobs, newest first."""
    query = CallGraphQuery(backend, order_by="time", filter_types=["Job"])
    return await _respond_jobs(page, query, status, task)


@router.get("/jobs/{job_id}", response_model=schemas.JobDetails, tags=["jobs"])
async def get_job(backend: Backend, job_id: RecordId) -> Response:
    """Get a job with its call, its tags, the jobs above it, and of a failed one the error."""
    return respond(await details.get_job_details(backend, await find_record(backend, "Job", job_id)))


@router.get("/jobs/{job_id}/next-failed", response_model=schemas.NextFailed, tags=["jobs"])
async def get_next_failed(backend: Backend, job_id: RecordId) -> Response:
    """Get the failures before and after a job in its execution: the jobs that raised an error, by start."""
    job = await find_record(backend, "Job", job_id)
    return respond(schemas.NextFailed(**(await find_next_failed(backend, job))._asdict()))


@router.get("/jobs/{job_id}/children", response_model=schemas.JobPage, tags=["jobs"])
async def list_job_children(backend: Backend, page: Page, job_id: RecordId) -> Response:
    """List the jobs that a job started, newest first."""
    job = await find_record(backend, "Job", job_id)
    query = CallGraphQuery(backend, order_by="time", filter_types=["Job"], jobs=select_started(job.id))
    return await _respond_jobs(page, query)


@router.get("/call-nodes", response_model=schemas.CallNodePage, tags=["calls"])
async def list_call_nodes(backend: Backend, page: Page) -> Response:
    """List calls, by hash."""
    return await page.answer(CallGraphQuery(backend).filter_types(["CallNode"]), schemas.CallNodePage)


@router.get("/call-nodes/{call_hash}", response_model=schemas.CallNodeDetails, tags=["calls"])
async def get_call_node(backend: Backend, call_hash: RecordId) -> Response:
    """Get a call with its arguments, its result and its neighbours in the call graph."""
    node = await find_record(backend, "CallNode", call_hash)
    return respond(await details.get_call_details(backend, node))


@router.get("/values", response_model=schemas.ValuePage, tags=["values"])
async def list_values(
    backend: Backend,
    page: Page,
    value_type: Annotated[Texts, Query(description="Such as `builtins.int`.")] = [],  # noqa: B006
    path: Annotated[Texts, Query(description="Of files; `*` stands for any text.")] = [],  # noqa: B006
) -> Response:
    """List values with what they look like, by hash."""
    query = CallGraphQuery(backend).filter_types(["Value"])
    if value_type:
        query = query.filter_value_types(_checked(value_type))
    if path:
        query = query.filter_file_paths(_spell_paths(path))
    return await page.answer(query, schemas.ValuePage)


@router.get("/values/{value_hash}", response_model=schemas.ValueDetails, tags=["values"])
async def get_value(backend: Backend, value_hash: RecordId) -> Response:
    """Get a value with its tags and the job that it is best told by."""
    value = await find_record(backend, "Value", value_hash)
    return respond(await details.get_value_details(backend, value))


@router.get("/values/{value_hash}/children", response_model=schemas.ValuePage, tags=["values"])
async def list_value_children(backend: Backend, page: Page, value_hash: RecordId) -> Response:
    """List the values inside a value, by hash."""
    value = await find_record(backend, "Value", value_hash)
    query = CallGraphQuery(backend, filter_types=["Value"], values=select_inside(value.value_hash))
    return await page.answer(query, schemas.ValuePage)


@router.get("/previews", response_model=list[schemas.Preview], tags=["values"])
async def list_previews(
    backend: Backend,
    value_hash: Annotated[list[str], Query(min_length=1, max_length=100, description="Whole hashes.")],
) -> Response:
    """Get what many values look like; those that are not recorded are left out."""
    found = await records.get_preview_texts(backend, _checked(value_hash))
    return respond([schemas.Preview(value_hash=key, preview=text[:200]) for key, text in found.items()])


@router.get("/tasks", response_model=schemas.TaskPage, tags=["tasks"])
async def list_tasks(
    backend: Backend,
    page: Page,
    name: Annotated[Texts, Query(description="With or without namespace.")] = [],  # noqa: B006
) -> Response:
    """List versions of tasks, by hash."""
    query = CallGraphQuery(backend).filter_types(["Task"])
    if name:
        query = query.filter_task_names(_checked(name))
    return await page.answer(query, schemas.TaskPage)


@router.get("/tasks/{task_hash}", response_model=schemas.TaskDetails, tags=["tasks"])
async def get_task(backend: Backend, task_hash: RecordId) -> Response:
    """Get a version of a task with its source."""
    return respond(await details.get_task_details(backend, await find_record(backend, "Task", task_hash)))


@router.get("/tags", response_model=schemas.TagPage, tags=["tags"])
async def list_tags(
    backend: Backend,
    page: Page,
    key: Annotated[str | None, Query(min_length=1, max_length=2_048)] = None,
    entity_type: Literal["Execution", "Job", "CallNode", "Task", "Value"] | None = None,
    entity_id: Annotated[str | None, Query(min_length=1, max_length=2_048, description="A whole id.")] = None,
) -> Response:
    """List current tags, by hash."""
    [after] = read_place(page.cursor, "Tag", 1) or [None]
    key, entity_id = (None if text is None else check_id(text) for text in (key, entity_id))
    found = await list_current_tags(backend, key, entity_type, entity_id, after=after, limit=page.limit + 1)
    tags = found[: page.limit]
    cursor = pack_cursor(["Tag", tags[-1].tag_hash]) if len(found) > page.limit else None
    return respond(schemas.TagPage(items=list(map(records.make_tag, tags)), cursor=cursor))


class RecordFilter:
    """The filters of `/api/query`, as the options of `aredun query`."""

    def __init__(
        self,
        record_type: Annotated[
            list[Literal["Execution", "Job", "CallNode", "Task", "Value"]],
            Query(alias="type", description="Record types; all without."),
        ] = [],  # noqa: B006
        record_id: Annotated[
            str | None,
            Query(alias="id", min_length=1, max_length=2_048, description="The beginning of an id."),
        ] = None,
        execution: Annotated[Texts, Query(description="Ids of executions, or their first characters.")] = [],  # noqa: B006
        task: TaskNames = [],  # noqa: B006
        task_hash: Texts = [],  # noqa: B006
        value_type: Texts = [],  # noqa: B006
        path: Annotated[Texts, Query(description="Of files; `*` stands for any text.")] = [],  # noqa: B006
        argument: Annotated[Texts, Query(description="Hashes of values, or their first characters.")] = [],  # noqa: B006
        result: Annotated[Texts, Query(description="Hashes of values, or their first characters.")] = [],  # noqa: B006
        tag: Annotated[Texts, Query(description="`key` or `key=value`.")] = [],  # noqa: B006
        execution_tag: Texts = [],  # noqa: B006
        order: Annotated[Literal["time", "id"], Query(description="`time`: newest first.")] = "time",
    ) -> None:
        query_filters: list[tuple[str, list[Any]]] = [
            ("filter_types", list(record_type)),
            ("filter_task_names", _checked(task)),
            ("filter_value_types", _checked(value_type)),
            ("filter_file_paths", _spell_paths(path)),
            ("filter_tags", _parse_tags(tag)),
            ("filter_execution_tags", _parse_tags(execution_tag)),
        ]
        self._filters = [(name, values) for name, values in query_filters if values]
        self._id_filters = [
            ("filter_execution_ids", "Execution", _checked(execution)),
            ("filter_task_hashes", "Task", _checked(task_hash)),
            ("filter_arguments", "Value", _checked(argument)),
            ("filter_results", "Value", _checked(result)),
        ]
        self._prefix = record_id
        self._order = order if order == "time" else None

    async def make_query(self, backend: RedunBackendDb) -> CallGraphQuery:
        """Return the query, with the records looked up whose ids it gives the beginnings of."""
        query = CallGraphQuery(backend, order_by=self._order)
        for name, values in self._filters:
            query = getattr(query, name)(values)
        for name, record_type, texts in self._id_filters:
            if texts:
                query = getattr(query, name)(await find_ids(backend, record_type, texts))
        return query if self._prefix is None else query.like_id(check_id(self._prefix))


Filter = Annotated[RecordFilter, Depends()]


@router.get("/query", response_model=schemas.RecordPage, tags=["query"])
async def query_records(backend: Backend, page: Page, chosen: Filter) -> Response:
    """Query records of all types: executions, jobs, calls, tasks, values."""
    return await page.answer(await chosen.make_query(backend), schemas.RecordPage)


@router.get("/count", response_model=list[schemas.Count], tags=["query"])
async def count_records(backend: Backend, chosen: Filter) -> Response:
    """Count the records of a query by type."""
    query = await chosen.make_query(backend)
    counts = [schemas.Count(type=name, count=number) async for name, number in query.count()]
    return respond(counts)


@router.get("/find/{record_id:path}", response_model=schemas.Match, tags=["query"])
async def find(backend: Backend, record_id: RecordId) -> Response:
    """Find what an id stands for: the beginning of an id, a task's name, a file's path, `-` or `~2`."""
    found = await find_anything(backend, record_id)
    if not isinstance(found, tuple):
        [record] = await records.make_records(backend, [found])
        return respond(schemas.Match(record=record, used_as=None, job=None))
    file, job, used_as = found
    shown = await records.load_values(backend, [file.value_hash])
    [made] = await records.make_records(backend, [job])
    kind: Any = used_as
    return respond(schemas.Match(record=shown[file.value_hash], used_as=kind, job=made))


@router.get("/matches/{prefix:path}", response_model=list[schemas.Record], tags=["query"])
async def list_matches(
    backend: Backend, prefix: RecordId, limit: Annotated[int, Query(ge=1, le=50)] = 8
) -> Response:
    """List the first records whose id begins with a text, tasks also by their name."""
    return respond(
        await records.make_records(backend, await substrings.find_matches(backend, check_id(prefix), limit))
    )


def _cut_reason(reason: str, text: str) -> str:
    """Return as much of a text as is shown, with the part that was sought in it."""
    place = reason.casefold().find(text.strip().casefold())
    # A few letters before that part tell what it belongs to.
    return cut_text(reason if place < 100 else f"…{reason[place - 40 :]}", 200)


@router.get("/search", response_model=schemas.Search, tags=["query"])
async def search(backend: Backend, text: str, limit: Annotated[int, Query(ge=1, le=50)] = 8) -> Response:
    """Search for a part of a task's name, a path, a tag (`user=ada`) or an argument, after prefixes."""
    found = await substrings.search(backend, check_id(text), limit)
    made = await records.make_records(backend, found.records)
    hits = [
        schemas.Hit(record=record, because=reason and _cut_reason(reason, text))
        for record, reason in zip(made, found.reasons, strict=True)
    ]
    return respond(schemas.Search(hits=hits, bound=found.bound))
