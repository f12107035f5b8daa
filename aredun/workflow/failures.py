"""Where a workflow failed: the jobs that led there, then the lines of the user's code."""

from __future__ import annotations

import asyncio
import inspect
from concurrent.futures import CancelledError as JobCancelled
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from aredun.formats.describe import Shown, describe_error
from aredun.values import Frame, Traceback
from aredun.values.error import MAX_LOCAL, is_runner
from aredun.workflow.texts import describe_values
from aredun.workflow.tracebacks import find_own_frames

if TYPE_CHECKING:
    from aredun.workflow.jobs import Execution, Failure, Job


def make_task_error(task_name: str, raised: BaseException) -> Exception:
    """Return the error that a job fails with: what its function raised, if that fails nothing but the job.

    Anything else would end the event loop and every other job with it, or be taken for the cancellation of
    whoever waits: it becomes the cause of a RuntimeError.

    Parameters
    ----------
    task_name : str
        The task's full name.
    raised : BaseException
        What its function raised.
    """
    if isinstance(raised, Exception) and not isinstance(raised, StopIteration | JobCancelled):
        return raised
    if isinstance(raised, SystemExit):
        text = f"task {task_name} called sys.exit({raised.code!r})"
    elif isinstance(raised, asyncio.CancelledError | JobCancelled):
        text = f"task {task_name} raised CancelledError though nobody cancelled it: what it waited for was"
    else:
        text = f"task {task_name} raised {describe_error(raised).removesuffix(': ')}"
    error = RuntimeError(text).with_traceback(raised.__traceback__)
    error.__cause__ = raised
    return error


def tell_task(error: Exception, failure: Failure, execution: Execution) -> None:
    """Make the error of a workflow name the task in a note, and show only the user's frames.

    Only what has been recorded may have a note: it would be pickled with the error.

    Parameters
    ----------
    error : Exception
        What the workflow failed of.
    failure : Failure
        Where.
    execution : Execution
        The run.
    """
    last = [frame for frame in failure.traceback.frames if isinstance(frame, Frame)][-1]
    # An immutable error stays as it is.
    with suppress(AttributeError):
        error.add_note(f"in task {last.name}, job {last.job.id[:8]} of execution {execution.id}")
    frames = failure.frames or error.__traceback__
    # Not assigned: an error of a frozen dataclass refuses that.
    BaseException.with_traceback(error, find_own_frames(frames, is_runner) or frames)


def find_failure(job: Job, error: Exception) -> Failure | None:
    """Return how an error came to a job, if another job failed with it before: a child, or an equal one."""
    known = (failed.failure for failed in (job, *job.child_jobs))
    return next((failure for failure in known if failure is not None and failure.error is error), None)


async def make_task_traceback(job: Job, raised: Traceback) -> Traceback:
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
    jobs = []
    ancestor: Job | None = job
    while ancestor is not None:
        jobs.append(ancestor)
        ancestor = ancestor.parent_job
    jobs.reverse()
    arguments = [_name_arguments(job) for job in jobs]
    texts = await describe_values([value for named in arguments for value in named.values()], MAX_LOCAL)
    shown = iter(map(Shown, texts))
    frames = [
        _make_frame(job, {name: next(shown) for name in named})
        for job, named in zip(jobs, arguments, strict=True)
    ]
    return Traceback(raised.error, [*frames, *raised.frames], logs=raised.logs)


def _make_frame(job: Job, arguments: dict[str, Any]) -> Frame:
    code = inspect.unwrap(job.task.func).__code__
    return Frame(code.co_filename, code.co_firstlineno, job.task.fullname, locals=arguments, job=job)


def _name_arguments(job: Job) -> dict[str, Any]:
    args, kwargs = job.eval_args
    return {**dict(zip(job.task.signature.parameters, args, strict=False)), **kwargs}
