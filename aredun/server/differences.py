"""The routes that tell what made jobs run again, and in what two executions differ."""

from __future__ import annotations

import asyncio
import difflib
import re
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from fastapi import APIRouter, Response

from aredun.dataflow.naming import get_task_args
from aredun.errors import UsageError
from aredun.formats.statuses import get_cutoff
from aredun.models import Job, Task
from aredun.search.differences import compare_executions, get_call
from aredun.search.job_tree import count_jobs
from aredun.search.loading import load_one
from aredun.search.reasons import explain_call, join_places
from aredun.server import difference_schemas as schemas
from aredun.server import records
from aredun.server.answers import respond
from aredun.server.api import PROBLEMS, Backend, RecordId
from aredun.server.finding import find_record
from aredun.storage.reads import read_rows
from aredun.values.namespace import join_fullname

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from aredun.backend import RedunBackendDb
    from aredun.search.differences import CallDifference, FileDifference, RecordedCall

# Executions with more jobs are not compared here, but by `aredun diff`.
MAX_JOBS = 20_000
# Calls in one execution only that are listed of a task.
MAX_LISTED = 20
# A longer source is compared whole only: a diff takes the product of both lengths.
_MAX_LINES = 2_000
_MAX_TOKENS = 400
_TOKEN = re.compile(r"\w+|\s+|[^\w\s]")

router = APIRouter(prefix="/api", responses=PROBLEMS, tags=["differences"])


@router.get("/jobs/{job_id}/why", response_model=schemas.Why)
async def get_why(backend: Backend, job_id: RecordId) -> Response:
    """Tell what made a job run: what changed against the earlier call of its task that it is most like."""
    job = await find_record(backend, "Job", job_id)
    call = await get_call(backend, job.id)
    if call is None:
        return respond(schemas.Why(cause="no_call", change=None, below=[]))
    reason = await explain_call(backend, call)
    [change] = await make_changes(backend, [reason.difference]) if reason.difference else [None]
    return respond(schemas.Why(cause=reason.cause, change=change, below=list(map(_make_job, reason.below))))


@router.get("/executions/{before_id}/compare/{after_id}", response_model=schemas.Comparison)
async def compare(backend: Backend, before_id: RecordId, after_id: RecordId) -> Response:
    """Compare two executions task by task: what ran, what was cached, how long it took, what changed."""
    both = [await find_record(backend, "Execution", key) for key in (before_id, after_id)]
    counts = [await count_jobs(backend, execution.id, get_cutoff(backend.config)) for execution in both]
    if max(sum(sum(each.values()) for each in side.values()) for side in counts) > MAX_JOBS:
        raise UsageError(f"an execution has more than {MAX_JOBS:,} jobs: 'aredun diff' compares them")
    seconds = [await _sum_seconds(backend, execution.id) for execution in both]
    tasks = await compare_executions(backend, both[0].id, both[1].id)
    changes = iter(await make_changes(backend, [each for task in tasks for each in task.changed]))
    known = {task.task_name: task for task in tasks}
    names = [*known, *sorted((counts[0].keys() | counts[1].keys()) - known.keys())]
    compared = []
    for name in names:
        task = known.get(name)
        before, after = (
            schemas.Side(counts=dict(count.get(name, {})), seconds=second[name])
            for count, second in zip(counts, seconds, strict=True)
        )
        only = [task.only_before, task.only_after] if task else [(), ()]
        compared.append(
            schemas.TaskComparison(
                task=name,
                before=before,
                after=after,
                same=task.same if task else 0,
                changed=[next(changes) for _ in task.changed] if task else [],
                more_changed=task.more if task else 0,
                only_before=list(map(_make_job, only[0][:MAX_LISTED])),
                only_after=list(map(_make_job, only[1][:MAX_LISTED])),
                more_only=sum(max(len(calls) - MAX_LISTED, 0) for calls in only),
            )
        )
    shown = await records.make_records(backend, both)
    return respond(schemas.Comparison(before=shown[0], after=shown[1], tasks=compared))


async def _sum_seconds(backend: RedunBackendDb, execution_id: str) -> dict[str, float]:
    """Return how long the jobs of each task took together that ran and have ended."""
    statement = sa.select(Task.namespace, Task.name, Job.start_time, Job.end_time)
    statement = statement.join(Task, Task.hash == Job.task_hash).where(
        Job.execution_id == execution_id, Job.cached.is_(False), Job.end_time.is_not(None)
    )
    seconds: dict[str, float] = defaultdict(float)
    for namespace, name, start, end in await read_rows(backend.database, statement.limit(MAX_JOBS)):
        seconds[join_fullname(namespace, name)] += (end - start).total_seconds()
    return seconds


async def make_changes(
    backend: RedunBackendDb, differences: Sequence[CallDifference]
) -> list[schemas.CallChange]:
    """Return differences with names, previews and diffs, in a handful of statements and one thread."""
    rows = [row for each in differences for row in each.arguments]
    hashes = {key for row in rows for key in (row.before, row.after) if key is not None}
    previews = await records.get_preview_texts(backend, hashes) if hashes else {}
    names: dict[str, list[str]] = {}
    for task_hash in {each.after.task_hash for each in differences if each.arguments}:
        names[task_hash] = _read_names(await load_one(backend, Task, task_hash))
    return await asyncio.to_thread(lambda: [_make_change(each, previews, names) for each in differences])


def _read_names(task: Task | None) -> list[str]:
    try:
        return get_task_args(task) if task is not None else []
    except SyntaxError:
        return []


def _make_change(
    difference: CallDifference, previews: dict[str, str], names: dict[str, list[str]]
) -> schemas.CallChange:
    task = None
    if difference.task is not None:
        old, new = difference.task
        task = schemas.TaskChange(
            before_hash=old.hash,
            after_hash=new.hash,
            before_version=old.version,
            after_version=new.version,
            source=diff_lines(old.source, new.source),
        )
    arguments = [
        schemas.ArgumentChange(
            name=name,
            before=row.before,
            after=row.after,
            pieces=diff_texts(_show(row.before, previews), _show(row.after, previews)),
            files=_make_files(row.files),
            origin=schemas.Origin(task=row.origin.task_name, job_id=row.origin.job_id)
            if row.origin
            else None,
        )
        for name, row in join_places(difference.arguments, names.get(difference.after.task_hash, []))
    ]
    return schemas.CallChange(
        before=_make_job(difference.before),
        after=_make_job(difference.after),
        arguments=arguments,
        task=task,
        result_files=_make_files(difference.result_files),
    )


def _show(value_hash: str | None, previews: dict[str, str]) -> str:
    return "" if value_hash is None else previews.get(value_hash, "not readable")


def _make_files(files: Iterable[FileDifference]) -> list[schemas.FileChange]:
    return [schemas.FileChange(path=file.path, before=file.before, after=file.after) for file in files]


def _make_job(call: RecordedCall) -> schemas.JobRef:
    return schemas.JobRef(
        job_id=call.job_id,
        execution_id=call.execution_id,
        task=call.task_name,
        start_time=call.start_time,
        cached=call.cached,
    )


def diff_lines(before: str, after: str) -> list[schemas.Piece]:
    """Return the lines that two sources do not share, each group between two lines of what is around it."""
    old, new = before.splitlines()[:_MAX_LINES], after.splitlines()[:_MAX_LINES]
    kinds = {" ": "same", "-": "removed", "+": "added"}
    lines = list(difflib.unified_diff(old, new, n=2, lineterm=""))[2:]
    return [
        _piece(kinds[line[0]], line[1:]) if line[0] in kinds else _piece("same", "…")
        for line in lines[1:]
        if line
    ]


def diff_texts(before: str, after: str) -> list[schemas.Piece]:
    """Return what two texts have in common and what not; long ones are only told apart at both ends."""
    old, new = _TOKEN.findall(before), _TOKEN.findall(after)
    if max(len(old), len(new)) > _MAX_TOKENS:
        start = next((at for at, pair in enumerate(zip(old, new, strict=False)) if pair[0] != pair[1]), 0)
        parts = [("same", old[:start]), ("removed", old[start:]), ("added", new[start:])]
    else:
        parts = []
        for kind, i, j, k, m in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
            if kind == "equal":
                parts.append(("same", old[i:j]))
            else:
                parts += [("removed", old[i:j]), ("added", new[k:m])]
    return [_piece(kind, "".join(tokens)) for kind, tokens in parts if tokens]


def _piece(kind: Any, text: str) -> schemas.Piece:
    return schemas.Piece(kind=kind, text=text)
