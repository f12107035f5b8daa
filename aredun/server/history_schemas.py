"""What the HTTP API tells of files and tasks over time."""

from __future__ import annotations

from datetime import datetime  # noqa: TC003  # pydantic reads it at run time

from pydantic import BaseModel, Field

from aredun.server.schemas import HASH, TIME, BasePage, Job, Text, example


class Number(BaseModel):
    """How many there are, up to a bound."""

    model_config = example(count=1000, is_more=True)

    count: int
    is_more: bool = Field(description="Whether there are more than were counted.")


class Written(BaseModel):
    """Where a version of a file came from; all null if no recorded call returned it."""

    model_config = example(
        value_hash=HASH, written=TIME, task="variants.align_reads", call_hash=HASH, job=None
    )

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


class FileHistory(BaseModel):
    """The versions of a file, that written last first."""

    path: Text
    total: Number
    versions: list[FileVersion] = Field(description="At most 200.")


class TaskName(BaseModel):
    """A task with all its versions."""

    model_config = example(
        fullname="variants.align_reads",
        name="align_reads",
        namespace="variants",
        versions=3,
        jobs={"count": 1002, "is_more": False},
        failed={"count": 4, "is_more": False},
        last_run=TIME,
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


class TaskVersion(BaseModel):
    """A version of a task with the first and the last start of its jobs."""

    model_config = example(hash=HASH, jobs=12, first_run=TIME, last_run=TIME)

    hash: Text
    jobs: int
    first_run: datetime | None
    last_run: datetime | None


class TaskHistory(BaseModel):
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
