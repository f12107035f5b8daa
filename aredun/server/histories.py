"""The routes that tell of files and tasks over time: versions, who made and who took them, jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Query, Response

from aredun.errors import UnknownIdError
from aredun.models import Job
from aredun.query import CallGraphQuery
from aredun.search import file_versions, task_history
from aredun.search.loading import load_all
from aredun.search.pages import pack_cursor, read_place
from aredun.server import history_schemas as schemas
from aredun.server import records
from aredun.server.answers import respond
from aredun.server.api import PROBLEMS, Backend, Page, RecordId
from aredun.server.finding import check_id
from aredun.server.schemas import fill

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aredun.backend import RedunBackendDb
    from aredun.search.file_versions import FileOrigin

MAX_VERSIONS = 200
MAX_JOBS = 200

router = APIRouter(prefix="/api", responses=PROBLEMS)

Part = Annotated[
    str | None, Query(min_length=1, max_length=200, description="Part of it, whatever the case.")
]


@router.get("/files", response_model=schemas.FilePage, tags=["values"])
async def list_files(backend: Backend, page: Page, text: Part = None) -> Response:
    """List files by path, each with the job that wrote it last; a page of a part may have fewer than fit."""
    after = read_place(page.cursor, "File", 1)
    text = None if text is None else check_id(text)
    paths, end = await file_versions.list_paths(backend, text, after[0] if after else None, page.limit)
    written = await _load_written(backend, [path.origin for path in paths if path.origin is not None])
    items = [
        schemas.FilePath(
            path=path.path,
            versions=_count(path.versions, file_versions.MAX_VERSIONS),
            **_tell_written(path.origin, written),
        )
        for path in paths
    ]
    return respond(schemas.FilePage(items=items, cursor=None if end is None else pack_cursor(["File", end])))


@router.get("/file-versions", response_model=schemas.FileHistory, tags=["values"])
async def get_file_versions(
    backend: Backend,
    path: Annotated[str, Query(min_length=1, max_length=2_048, description="As it was recorded.")],
) -> Response:
    """Get the versions of a file: who wrote each and when, and how many jobs took it."""
    found = dict(await file_versions.list_file_versions(backend, check_id(path)))
    if not found:
        raise UnknownIdError(f"no file is recorded under the path {path!r}")
    written = await _load_written(backend, [origin for origin in found.values() if origin is not None])

    def get_time(value_hash: str) -> tuple[bool, float, str]:
        time = _tell_written(found[value_hash], written)["written"]
        return time is None, 0.0 if time is None else -time.timestamp(), value_hash

    hashes = sorted(found, key=get_time)[:MAX_VERSIONS]
    readers = await file_versions.count_readers(backend, hashes)
    versions = [
        schemas.FileVersion(
            **{**_tell_written(found[value_hash], written), "value_hash": value_hash},
            stored_size=readers[value_hash][0] or None,
            readers=_count(readers[value_hash][1], file_versions.MAX_USES),
        )
        for value_hash in hashes
        if value_hash in readers
    ]
    total = _count(len(found), file_versions.MAX_VERSIONS)
    return respond(schemas.FileHistory(path=path, total=total, versions=versions))


@router.get("/task-names", response_model=schemas.TaskNamePage, tags=["tasks"])
async def list_task_names(backend: Backend, page: Page, text: Part = None) -> Response:
    """List tasks by namespace and name, each with its versions, jobs, failures and last run."""
    after = read_place(page.cursor, "TaskName", 2)
    text = None if text is None else check_id(text)
    found = await task_history.list_names(backend, text, after, page.limit + 1)
    tasks = found[: page.limit]
    failed, is_more = await task_history.count_failed(backend)
    last = await task_history.get_last_runs(backend, tasks)
    items = [
        fill(
            schemas.TaskName,
            task,
            jobs=_count(task.jobs, task_history.MAX_JOBS),
            failed=schemas.Number(count=failed.get(task.fullname, 0), is_more=is_more),
            last_run=last.get(task.fullname),
        )
        for task in tasks
    ]
    cursor = (
        pack_cursor(["TaskName", tasks[-1].namespace, tasks[-1].name]) if len(found) > page.limit else None
    )
    return respond(schemas.TaskNamePage(items=items, cursor=cursor))


@router.get("/task-names/{fullname:path}", response_model=schemas.TaskHistory, tags=["tasks"])
async def get_task_history(
    backend: Backend,
    fullname: RecordId,
    jobs: Annotated[int, Query(ge=1, le=500, description="How many of its latest jobs.")] = MAX_JOBS,
) -> Response:
    """Get a task by its full name: its versions with their first and last use, and its latest jobs."""
    versions, is_cut = await task_history.list_task_versions(backend, check_id(fullname))
    if not versions:
        raise UnknownIdError(f"no task has the full name {fullname!r}")
    query = CallGraphQuery(backend, order_by="time", filter_types=["Job"])
    query = query.filter_task_hashes([version.hash for version in versions])
    latest: Any = await query.page_after(None, jobs)
    return respond(
        schemas.TaskHistory(
            fullname=fullname,
            versions=[fill(schemas.TaskVersion, version) for version in versions],
            is_cut=is_cut,
            jobs=await records.make_records(backend, latest.records),
        )
    )


def _count(number: int, bound: int) -> schemas.Number:
    return schemas.Number(count=min(number, bound), is_more=number > bound)


async def _load_written(
    backend: RedunBackendDb, origins: Sequence[FileOrigin]
) -> dict[str, tuple[file_versions.Maker, Any]]:
    """Return the calls that made files with the jobs that ran them, as the API shows them, by call hash."""
    makers = await file_versions.load_makers(backend, {origin.call_hash for origin in origins})
    found = await load_all(backend, Job, {maker.job_id for maker in makers.values() if maker.job_id})
    jobs = {job.id: job for job in await records.make_records(backend, list(found.values()))}
    return {call_hash: (maker, jobs.get(maker.job_id or "")) for call_hash, maker in makers.items()}


def _tell_written(
    origin: FileOrigin | None, written: dict[str, tuple[file_versions.Maker, Any]]
) -> dict[str, Any]:
    """Return the fields of `schemas.Written`."""
    if origin is None or origin.call_hash not in written:
        return dict.fromkeys(schemas.Written.model_fields)
    maker, job = written[origin.call_hash]
    return {
        "value_hash": origin.value_hash,
        "written": (job and job.end_time) or maker.timestamp,
        "task": maker.task_name,
        "call_hash": origin.call_hash,
        "job": job,
    }
