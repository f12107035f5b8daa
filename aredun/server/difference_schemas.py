"""What the routes answer with that tell what made jobs run again, and in what executions differ."""

from __future__ import annotations

from datetime import datetime  # noqa: TC003  # pydantic reads it at run time
from typing import Literal

from pydantic import BaseModel, Field

from aredun.search.reasons import Cause  # noqa: TC001  # pydantic reads it at run time
from aredun.server.schemas import Execution, Source, Text  # noqa: TC001


class Piece(BaseModel):
    """A part of a text that only the earlier one has, only the later one, or both."""

    kind: Literal["same", "removed", "added"]
    text: Source


class FileChange(BaseModel):
    """A path whose file has other contents."""

    path: Text
    before: Text
    after: Text


class JobRef(BaseModel):
    """A job that led to a call."""

    job_id: Text
    execution_id: Text
    task: Text
    start_time: datetime
    cached: bool


class Origin(BaseModel):
    """The job whose result an argument is."""

    task: Text
    job_id: Text


class ArgumentChange(BaseModel):
    """An argument that is new, gone, or another."""

    name: Text
    before: Text | None = Field(description="Hash of the earlier value; null if there was none.")
    after: Text | None
    pieces: list[Piece] = Field(description="What the values look like, as a diff.")
    files: list[FileChange]
    origin: Origin | None


class TaskChange(BaseModel):
    """What a task was before and after."""

    before_hash: Text
    after_hash: Text
    before_version: Text | None
    after_version: Text | None
    source: list[Piece] = Field(
        description="The lines that changed with those around them; empty if none did."
    )


class CallChange(BaseModel):
    """In what two calls of a task differ."""

    before: JobRef
    after: JobRef
    arguments: list[ArgumentChange]
    task: TaskChange | None
    result_files: list[FileChange]


class Why(BaseModel):
    """Why a job ran, against the earlier call of its task that it is most like."""

    cause: Cause | Literal["no_call"]
    change: CallChange | None = Field(
        description="Of a first call against the one beside it that it is most like; null without one."
    )
    below: list[JobRef] = Field(description="Calls that it made and that ran again.")


class Side(BaseModel):
    """The jobs of a task in one of two executions."""

    counts: dict[str, int]
    seconds: float = Field(description="Durations of its ended jobs that were not cached, together.")


class TaskComparison(BaseModel):
    """A task in two executions."""

    task: Text
    before: Side
    after: Side
    same: int
    changed: list[CallChange]
    more_changed: int
    only_before: list[JobRef]
    only_after: list[JobRef]
    more_only: int = Field(description="Calls in one execution only that are not listed.")


class Comparison(BaseModel):
    """Two executions side by side."""

    before: Execution
    after: Execution
    tasks: list[TaskComparison]
