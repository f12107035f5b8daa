"""The routes that tell of files and tasks over time: versions, who made and who took them, jobs."""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime  # noqa: TC003  # pydantic reads it at run time
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Query
from pydantic import Field

from aredun import models
from aredun.errors import UnknownIdError
from aredun.query import CallGraphQuery
from aredun.search import file_versions, task_history
from aredun.search.loading import load_all
from aredun.search.pages import pack_cursor, read_place
from aredun.server.parameters import Backend, Name, Page, Part, RecordId
from aredun.server.records import make_records
from aredun.server.schemas import Answer, BasePage, Job, Text, example, fill

if TYPE_CHECKING:
    from collections.abc import Iterable

    from aredun.backend import RedunBackendDb
    from aredun.search.file_versions import FileOrigin

MAX_VERSIONS = 200
MAX_JOBS = 200

router = APIRouter(prefix="/api")

TextPart = Annotated[Part | None, Query(description="Part of it, whatever the case.")]


class Number(Answer):
    """How many there are, up to a bound."""

    model_config = example(count=1000, is_more=True)

    count: int
    is_more: bool = Field(description="Whether there are more than were counted.")


class Written(Answer):
    """Where a version of a file came from; all null if no recorded call returned it."""

    model_config = example(task="variants.align_reads", job=None)

    value_hash: Text | None
    written: datetime | None = Field(description="When the job that returned it first ended.")
    task: Text | None
    call_hash: Text | None
    job: Job | None = Field(description="The job that returned it first; null if only its call is recorded.")


class FilePath(Written):
    """A path with its latest version."""

    path: Text
    versions: Number


class FileVersion(Written):
    """A version of a file."""

    value_hash: Text
    stored_size: int | None = Field(
        description="Bytes of the record of the file, not of the file, whose size redun records nowhere; "
        "null in a value store."
    )
    readers: Number = Field(description="Jobs that took it, alone or inside another value.")


class FileHistory(Answer):
    """The versions of a file, that written last first."""

    path: Text
    total: Number
    versions: list[FileVersion] = Field(description="At most 200.")


class TaskName(Answer):
    """A task with all its versions."""

    model_config = example(
        fullname="variants.align_reads",
        name="align_reads",
        namespace="variants",
        versions=3,
        jobs={"count": 1002, "is_more": False},
        failed={"count": 4, "is_more": False},
    )

    fullname: Text
    name: Text
    namespace: Text
    versions: int
    jobs: Number
    failed: Number
    last_run: datetime | None = Field(
        description="Start of its last job; null if it has none, or many and none of the newest."
    )


class TaskVersion(Answer):
    """A version of a task with the first and the last start of its jobs."""

    model_config = example(jobs=12)

    hash: Text
    jobs: int
    first_run: datetime | None
    last_run: datetime | None


class TaskHistory(Answer):
    """A task: its versions, that which ran last first, and its latest jobs."""

    fullname: Text
    versions: list[TaskVersion]
    is_cut: bool = Field(description="Whether there are more versions or jobs than were looked at.")
    jobs: list[Job] = Field(description="The latest, newest first.")


class FilePage(BasePage):
    """A page of files by path."""

    items: list[FilePath]


class TaskNamePage(BasePage):
    """A page of tasks by namespace and name."""

    items: list[TaskName]


@router.get("/files", tags=["values"])
async def list_files(backend: Backend, page: Page, text: TextPart = None) -> FilePage:
    """List files by path, each with the job that wrote it last; a page of a part may have fewer than fit."""
    [after] = read_place(page.cursor, "File", 1) or [None]
    paths, end = await file_versions.list_paths(backend, text, after, page.limit)
    written = await _load_written(backend, [path.origin for path in paths])
    items = [
        FilePath(
            path=path.path,
            versions=_count(path.versions, file_versions.MAX_VERSIONS),
            **written[path.origin],
        )
        for path in paths
    ]
    return FilePage(items=items, cursor=None if end is None else pack_cursor(["File", end]))


@router.get("/file-versions", tags=["values"])
async def get_file_versions(
    backend: Backend, path: Annotated[Name, Query(description="As it was recorded.")]
) -> FileHistory:
    """Get the versions of a file: who wrote each and when, and how many jobs took it."""
    found = dict(await file_versions.list_file_versions(backend, path))
    if not found:
        raise UnknownIdError(f"no file is recorded under the path {path!r}")
    written = await _load_written(backend, found.values())

    def get_time(value_hash: str) -> tuple[bool, float, str]:
        time = written[found[value_hash]]["written"]
        return time is None, 0.0 if time is None else -time.timestamp(), value_hash

    hashes = sorted(found, key=get_time)[:MAX_VERSIONS]
    readers = await file_versions.count_readers(backend, hashes)
    versions = [
        FileVersion(
            **{**written[found[value_hash]], "value_hash": value_hash},
            stored_size=readers[value_hash][0] or None,
            readers=_count(readers[value_hash][1], file_versions.MAX_USES),
        )
        for value_hash in hashes
        if value_hash in readers
    ]
    total = _count(len(found), file_versions.MAX_VERSIONS)
    return FileHistory(path=path, total=total, versions=versions)


@router.get("/task-names", tags=["tasks"])
async def list_task_names(backend: Backend, page: Page, text: TextPart = None) -> TaskNamePage:
    """List tasks by namespace and name, each with its versions, jobs, failures and last run."""
    after = read_place(page.cursor, "TaskName", 2)
    found = await task_history.list_names(backend, text, after, page.limit + 1)
    tasks = found[: page.limit]
    failed, is_more = await task_history.count_failed(backend)
    last = await task_history.get_last_runs(backend, tasks)
    items = [
        fill(
            TaskName,
            task,
            jobs=_count(task.jobs, task_history.MAX_JOBS),
            failed=Number(count=failed.get(task.fullname, 0), is_more=is_more),
            last_run=last.get(task.fullname),
        )
        for task in tasks
    ]
    is_cut = len(found) > page.limit
    cursor = pack_cursor(["TaskName", tasks[-1].namespace, tasks[-1].name]) if is_cut else None
    return TaskNamePage(items=items, cursor=cursor)


@router.get("/task-names/{fullname:path}", tags=["tasks"])
async def get_task_history(
    backend: Backend,
    fullname: RecordId,
    jobs: Annotated[int, Query(ge=1, le=500, description="How many of its latest jobs.")] = MAX_JOBS,
) -> TaskHistory:
    """Get a task by its full name: its versions with their first and last use, and its latest jobs."""
    versions, is_cut = await task_history.list_task_versions(backend, fullname)
    if not versions:
        raise UnknownIdError(f"no task has the full name {fullname!r}")
    query = CallGraphQuery(backend, order_by="time", filter_types=["Job"])
    latest = await query.filter_task_hashes([version.hash for version in versions]).page_after(None, jobs)
    return TaskHistory(
        fullname=fullname,
        versions=list(map(TaskVersion.model_validate, versions)),
        is_cut=is_cut,
        jobs=await make_records(backend, latest.records),
    )


def _count(number: int, bound: int) -> Number:
    return Number(count=min(number, bound), is_more=number > bound)


async def _load_written(
    backend: RedunBackendDb, origins: Iterable[FileOrigin | None]
) -> dict[FileOrigin | None, dict[str, Any]]:
    """Return the fields of `Written` by where files came from."""
    known = {origin for origin in origins if origin is not None}
    makers = await file_versions.load_makers(backend, {origin.call_hash for origin in known})
    found = await load_all(backend, models.Job, {maker.job_id for maker in makers.values() if maker.job_id})
    jobs = {job.id: job for job in await make_records(backend, list(found.values()))}
    written: dict[FileOrigin | None, dict[str, Any]]
    written = defaultdict(lambda: dict.fromkeys(Written.model_fields))
    for origin in known:
        if (maker := makers.get(origin.call_hash)) is not None:
            job = jobs.get(maker.job_id or "")
            written[origin] = {
                "value_hash": origin.value_hash,
                "written": (job and job.end_time) or maker.timestamp,
                "task": maker.task_name,
                "call_hash": origin.call_hash,
                "job": job,
            }
    return written
