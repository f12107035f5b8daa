"""What a failed job shows: its error with the traceback, and the jobs that it came through."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from aredun.formats.describe import cut_text
from aredun.search.failures import find_error, find_path
from aredun.server import schemas
from aredun.server.highlighting import highlight
from aredun.values.previews import read_failure

if TYPE_CHECKING:
    from aredun.backend import RedunBackendDb
    from aredun.search.call_texts import Ancestor

# A recursion that ran out of stack leaves a thousand frames: the first and the last ones tell it.
_MAX_FRAMES = 100
_MAX_LOGS = 200
_MAX_VARIABLES = 50


async def get_failure(backend: RedunBackendDb, job_id: str, call_hash: str | None) -> schemas.Failure | None:
    """
    Return what a job failed with, in three statements.

    Parameters
    ----------
    backend : RedunBackendDb
        The repository.
    job_id, call_hash : str, str | None
        The job and its call.

    Returns
    -------
    schemas.Failure | None
        None if the job's result is no error.
    """
    value_hash = None if call_hash is None else await find_error(backend, call_hash)
    if value_hash is None:
        return None
    preview = (await backend.get_previews([value_hash])).get(value_hash)
    path = await find_path(backend, job_id, value_hash)
    # What an error holds may be long: writing it out is work.
    return await asyncio.to_thread(_make_failure, preview, path)


def _make_failure(preview: Any, path: list[Ancestor]) -> schemas.Failure:
    shown = read_failure(preview)
    frames = shown.frames
    left_out = max(len(frames) - 2 * _MAX_FRAMES, 0)
    if left_out:
        frames = [*frames[:_MAX_FRAMES], *frames[-_MAX_FRAMES:]]
    return schemas.fill(
        schemas.Failure,
        shown,
        frames=[
            schemas.fill(
                schemas.Frame,
                frame,
                line_spans=highlight(cut_text(frame.line)),
                variables=[
                    schemas.Variable(name=name, text=text)
                    for name, text in list(frame.variables.items())[:_MAX_VARIABLES]
                ],
            )
            for frame in frames
        ],
        frames_left_out=left_out,
        logs=shown.logs[-_MAX_LOGS:],
        path=[schemas.Ancestor(id=job.id, task=job.task_name) for job in path],
    )


def add_arguments(failure: schemas.Failure, call: schemas.CallNodeDetails) -> None:
    """
    Show with the line of the task's function what it was called with: an error is recorded without that.

    Parameters
    ----------
    failure : schemas.Failure
        What the call failed with.
    call : schemas.CallNodeDetails
        The call. Where another one below raised the error, its own arguments tell nothing of the lines.
    """
    name = call.task.rpartition(".")[2]
    frame = next((frame for frame in failure.frames if frame.name == name), None)
    if frame is None or frame.variables or len(failure.path) > 1:
        return
    frame.variables = [
        schemas.Variable(name=argument.name, text=argument.value.preview or "not readable")
        for argument in call.arguments[:_MAX_VARIABLES]
    ]
