"""The routes that tell what made jobs run again, and in what two executions differ."""

from __future__ import annotations

import asyncio
import difflib
import re
from datetime import datetime  # noqa: TC003  # pydantic reads it at run time
from typing import TYPE_CHECKING, Literal

from fastapi import APIRouter
from pydantic import Field

from aredun.errors import UsageError
from aredun.formats.statuses import get_cutoff
from aredun.search.differences import TaskDifference, compare_executions, get_call
from aredun.search.identify import find_one
from aredun.search.job_tree import count_jobs, sum_seconds
from aredun.search.reasons import Cause, explain_call, join_places, list_values, load_names
from aredun.server.parameters import Backend, RecordId  # noqa: TC001  # FastAPI reads it at run time
from aredun.server.records import get_preview_texts, make_records
from aredun.server.schemas import Answer, Execution, Source, Text, fill

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aredun.backend import RedunBackendDb
    from aredun.search.differences import CallDifference

# Executions with more jobs are not compared here, but by `aredun diff`.
MAX_JOBS = 20_000
# Calls in one execution only that are listed of a task.
MAX_LISTED = 20
# A longer source is compared whole only: a diff takes the product of both lengths.
_MAX_LINES = 2_000
_MAX_TOKENS = 400
_TOKEN = re.compile(r"\w+|\s+|[^\w\s]")

PieceKind = Literal["same", "removed", "added"]

router = APIRouter(prefix="/api", tags=["differences"])


class Piece(Answer):
    """A part of a text that only the earlier one has, only the later one, or both."""

    kind: PieceKind
    text: Source


class FileChange(Answer):
    """A path whose file has other contents."""

    path: Text
    before: Text
    after: Text


class JobRef(Answer):
    """A job that led to a call."""

    job_id: Text
    execution_id: Text
    task: Text = Field(validation_alias="task_name")
    start_time: datetime
    cached: bool


class Origin(Answer):
    """The job whose result an argument is."""

    task: Text = Field(validation_alias="task_name")
    job_id: Text


class ArgumentChange(Answer):
    """An argument that is new, gone, or another."""

    name: Text
    before: Text | None = Field(description="Hash of the earlier value; null if there was none.")
    after: Text | None
    pieces: list[Piece] = Field(description="What the values look like, as a diff.")
    files: list[FileChange]
    origin: Origin | None


class TaskChange(Answer):
    """What a task was before and after."""

    before_hash: Text
    after_hash: Text
    before_version: Text | None
    after_version: Text | None
    source: list[Piece] = Field(
        description="The lines that changed with those around them; empty if none did."
    )


class CallChange(Answer):
    """In what two calls of a task differ."""

    before: JobRef
    after: JobRef
    arguments: list[ArgumentChange]
    task: TaskChange | None
    result_files: list[FileChange]


class Why(Answer):
    """Why a job ran, against the earlier call of its task that it is most like."""

    cause: Cause | Literal["no_call"]
    change: CallChange | None = Field(
        description="Of a first call against the one beside it that it is most like; null without one."
    )
    below: list[JobRef] = Field(description="Calls that it made and that ran again.")


class Side(Answer):
    """The jobs of a task in one of two executions."""

    counts: dict[str, int]
    seconds: float = Field(description="Durations of its ended jobs that were not cached, together.")


class TaskComparison(Answer):
    """A task in two executions."""

    task: Text = Field(validation_alias="task_name")
    before: Side
    after: Side
    same: int
    changed: list[CallChange]
    more_changed: int = Field(validation_alias="more")
    only_before: list[JobRef]
    only_after: list[JobRef]
    more_only: int = Field(description="Calls in one execution only that are not listed.")


class Comparison(Answer):
    """Two executions side by side."""

    before: Execution
    after: Execution
    tasks: list[TaskComparison]


@router.get("/jobs/{job_id}/why")
async def get_why(backend: Backend, job_id: RecordId) -> Why:
    """Tell what made a job run: what changed against the earlier call of its task that it is most like."""
    job = await find_one(backend, "Job", job_id)
    call = await get_call(backend, job.id)
    if call is None:
        return Why(cause="no_call", change=None, below=[])
    reason = await explain_call(backend, call)
    changes = await make_changes(backend, [reason.difference] if reason.difference else [])
    return fill(Why, reason, change=changes[0] if changes else None)


@router.get("/executions/{before_id}/compare/{after_id}")
async def compare(backend: Backend, before_id: RecordId, after_id: RecordId) -> Comparison:
    """Compare two executions task by task: what ran, what was cached, how long it took, what changed."""
    both = [await find_one(backend, "Execution", key) for key in (before_id, after_id)]
    counts = [await count_jobs(backend, execution.id, get_cutoff(backend.config)) for execution in both]
    if max(sum(sum(each.values()) for each in side.values()) for side in counts) > MAX_JOBS:
        raise UsageError(f"an execution has more than {MAX_JOBS:,} jobs: 'aredun diff' compares them")
    seconds = [await sum_seconds(backend, execution.id, MAX_JOBS) for execution in both]
    tasks = await compare_executions(backend, both[0].id, both[1].id)
    known = {task.task_name for task in tasks}
    tasks += [TaskDifference(name, 0, (), 0, (), ()) for name in sorted({*counts[0], *counts[1]} - known)]
    changes = iter(await make_changes(backend, [each for task in tasks for each in task.changed]))
    compared = [
        fill(
            TaskComparison,
            task,
            before=Side(counts=counts[0].get(task.task_name, {}), seconds=seconds[0][task.task_name]),
            after=Side(counts=counts[1].get(task.task_name, {}), seconds=seconds[1][task.task_name]),
            changed=[next(changes) for _ in task.changed],
            only_before=task.only_before[:MAX_LISTED],
            only_after=task.only_after[:MAX_LISTED],
            more_only=sum(max(len(calls) - MAX_LISTED, 0) for calls in (task.only_before, task.only_after)),
        )
        for task in tasks
    ]
    shown = await make_records(backend, both)
    return Comparison(before=shown[0], after=shown[1], tasks=compared)


async def make_changes(backend: RedunBackendDb, differences: Sequence[CallDifference]) -> list[CallChange]:
    """Return differences with names, previews and diffs, in a handful of statements and one thread."""
    hashes = list_values(differences)
    previews = await get_preview_texts(backend, hashes) if hashes else {}
    names = await load_names(backend, differences)
    return await asyncio.to_thread(lambda: [_make_change(each, previews, names) for each in differences])


def _make_change(
    difference: CallDifference, previews: dict[str, str], names: dict[str, list[str]]
) -> CallChange:
    task = None
    if difference.task is not None:
        old, new = difference.task
        task = TaskChange(
            before_hash=old.hash,
            after_hash=new.hash,
            before_version=old.version,
            after_version=new.version,
            source=diff_lines(old.source, new.source),
        )
    arguments = [
        fill(
            ArgumentChange,
            row,
            name=name,
            pieces=diff_texts(_show(row.before, previews), _show(row.after, previews)),
        )
        for name, row in join_places(difference.arguments, names.get(difference.after.task_hash, []))
    ]
    return fill(CallChange, difference, arguments=arguments, task=task)


def _show(value_hash: str | None, previews: dict[str, str]) -> str:
    return "" if value_hash is None else previews.get(value_hash, "not readable")


def diff_lines(before: str, after: str) -> list[Piece]:
    """Return the lines that two sources do not share, each group between two lines of what is around it."""
    old, new = before.splitlines()[:_MAX_LINES], after.splitlines()[:_MAX_LINES]
    kinds: dict[str, PieceKind] = {" ": "same", "-": "removed", "+": "added"}
    lines = list(difflib.unified_diff(old, new, n=2, lineterm=""))[2:]
    return [
        Piece(kind=kinds[line[0]], text=line[1:]) if line[0] in kinds else Piece(kind="same", text="…")
        for line in lines[1:]
        if line
    ]


def diff_texts(before: str, after: str) -> list[Piece]:
    """Return what two texts have in common and what not; long ones are only told apart at both ends."""
    old, new = _TOKEN.findall(before), _TOKEN.findall(after)
    parts: list[tuple[PieceKind, list[str]]] = []
    if max(len(old), len(new)) > _MAX_TOKENS:
        start = next((at for at, pair in enumerate(zip(old, new, strict=False)) if pair[0] != pair[1]), 0)
        parts = [("same", old[:start]), ("removed", old[start:]), ("added", new[start:])]
    else:
        for kind, i, j, k, m in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
            if kind == "equal":
                parts.append(("same", old[i:j]))
            else:
                parts += [("removed", old[i:j]), ("added", new[k:m])]
    return [Piece(kind=kind, text="".join(tokens)) for kind, tokens in parts if tokens]
