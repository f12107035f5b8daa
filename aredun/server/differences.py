"""The routes that tell what made jobs run again, and in what two executions differ."""

from __future__ import annotations

import asyncio
import difflib
import re
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Response

from aredun.errors import UsageError
from aredun.formats.statuses import get_cutoff
from aredun.search.differences import compare_executions, get_call
from aredun.search.job_tree import count_jobs, sum_seconds
from aredun.search.reasons import explain_call, join_places, list_values, load_names
from aredun.server import difference_schemas as schemas
from aredun.server import records
from aredun.server.answers import respond
from aredun.server.api import PROBLEMS, Backend, RecordId
from aredun.server.finding import find_record
from aredun.server.schemas import fill

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
    seconds = [await sum_seconds(backend, execution.id, MAX_JOBS) for execution in both]
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


async def make_changes(
    backend: RedunBackendDb, differences: Sequence[CallDifference]
) -> list[schemas.CallChange]:
    """Return differences with names, previews and diffs, in a handful of statements and one thread."""
    hashes = list_values(differences)
    previews = await records.get_preview_texts(backend, hashes) if hashes else {}
    names = await load_names(backend, differences)
    return await asyncio.to_thread(lambda: [_make_change(each, previews, names) for each in differences])


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
        fill(
            schemas.ArgumentChange,
            row,
            name=name,
            pieces=diff_texts(_show(row.before, previews), _show(row.after, previews)),
            files=_make_files(row.files),
            origin=row.origin and fill(schemas.Origin, row.origin, task=row.origin.task_name),
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
    return [fill(schemas.FileChange, file) for file in files]


def _make_job(call: RecordedCall) -> schemas.JobRef:
    return fill(schemas.JobRef, call, task=call.task_name)


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
