"""Where a workflow failed: the jobs that led there, then the lines of the user's code, without its values."""

from __future__ import annotations

import asyncio
import functools
import inspect
import traceback
from concurrent.futures import CancelledError as JobCancelled
from contextlib import suppress
from types import FrameType, FunctionType, TracebackType
from typing import TYPE_CHECKING, Any

from aredun.formats.describe import Shown, describe_error
from aredun.values import Frame, Traceback
from aredun.values.error import MAX_LOCAL, is_runner
from aredun.workflow.texts import describe_values

if TYPE_CHECKING:
    from collections.abc import Generator

    from aredun.workflow.jobs import Execution, Failure, Job


_KEPT_FRAMES = 1024


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
    BaseException.with_traceback(error, _find_own_frames(frames) or frames)


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
    jobs = [job]
    while (parent := jobs[-1].parent_job) is not None:
        jobs.append(parent)
    named = [(each, _name_arguments(each)) for each in reversed(jobs)]
    texts = await describe_values(
        [value for _, arguments in named for value in arguments.values()], MAX_LOCAL
    )
    shown = iter(map(Shown, texts))
    frames = [_make_frame(each, {name: next(shown) for name in arguments}) for each, arguments in named]
    return Traceback(raised.error, [*frames, *raised.frames], logs=raised.logs)


def _make_frame(job: Job, arguments: dict[str, Any]) -> Frame:
    code = inspect.unwrap(job.task.func).__code__
    return Frame(code.co_filename, code.co_firstlineno, job.task.fullname, locals=arguments, job=job)


def _name_arguments(job: Job) -> dict[str, Any]:
    args, kwargs = job.eval_args
    return {**dict(zip(job.task.signature.parameters, args, strict=False)), **kwargs}


def forget_locals(error: BaseException) -> None:
    """Replace the frames of an error, and of those that it came from, by ones without local variables.

    An error that is handled may be kept for long, and whatever its functions worked on with it. The frames
    themselves are left alone: clearing one that waits in a coroutine would end that.

    Parameters
    ----------
    error : BaseException
        What was raised; it shows the same lines afterwards.
    """
    seen: set[int] = set()
    stack: list[BaseException | None] = [error]
    while stack:
        raised = stack.pop()
        if raised is None or id(raised) in seen:
            continue
        seen.add(id(raised))
        # Not assigned: an error of a frozen dataclass refuses that.
        BaseException.with_traceback(raised, _copy_lines(raised.__traceback__))
        stack += (raised.__cause__, raised.__context__)
        if isinstance(raised, BaseExceptionGroup):
            stack += raised.exceptions


def _find_own_frames(raised: TracebackType | None) -> TracebackType | None:
    """Return the part of a traceback below the last frame of a file that runs tasks."""
    own = raised
    while raised is not None:
        if is_runner(raised.tb_frame.f_code.co_filename):
            own = raised.tb_next
        raised = raised.tb_next
    return own


def _copy_lines(raised: TracebackType | None) -> TracebackType | None:
    made = None
    for frame, lineno in reversed(list(traceback.walk_tb(raised))):
        code = frame.f_code
        module = str(frame.f_globals.get("__name__", ""))
        ghost = _make_ghost(code.co_filename, code.co_name, code.co_qualname, code.co_firstlineno, module)
        made = TracebackType(made, ghost, -1, lineno)
    return made


@functools.lru_cache(maxsize=_KEPT_FRAMES)
def _make_ghost(filename: str, name: str, qualname: str, first_line: int, module: str) -> FrameType:
    """Return a frame of a function of that name: a generator's, which has no caller."""

    def generate() -> Generator[None]:
        yield

    code = generate.__code__.replace(
        co_filename=filename, co_name=name, co_qualname=qualname, co_firstlineno=first_line
    )
    ghost: FrameType = FunctionType(code, {"__name__": module})().gi_frame
    return ghost
