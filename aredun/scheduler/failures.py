"""Where a workflow failed: the jobs that led there, then the lines of the user's code."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from aredun.values import Frame, Traceback

if TYPE_CHECKING:
    from aredun.scheduler.jobs import Job


def make_task_traceback(job: Job, raised: Traceback) -> Traceback:
    """Describe the failure of a job that has not been released yet.

    Parameters
    ----------
    job : Job
        The job whose function raised.
    raised : Traceback
        What it raised, and where within the function.

    Returns
    -------
    Traceback
        First a frame for each job from the root down, with the arguments, then the frames of the function.
    """
    frames = []
    ancestor: Job | None = job
    while ancestor is not None:
        frames.append(_make_frame(ancestor))
        ancestor = ancestor.parent_job
    return Traceback(raised.error, [*reversed(frames), *raised.frames], logs=raised.logs)


def _make_frame(job: Job) -> Frame:
    code = inspect.unwrap(job.task.func).__code__
    return Frame(
        code.co_filename, code.co_firstlineno, job.task.fullname, locals=_name_arguments(job), job=job
    )


def _name_arguments(job: Job) -> dict[str, Any]:
    args, kwargs = job.eval_args
    return {**dict(zip(job.task.signature.parameters, args, strict=False)), **kwargs}
