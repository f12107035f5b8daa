"""The life of a job: prepare its arguments, look into the cache, call its function, record what came out."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aredun.errors import UsageError
from aredun.formats.describe import describe_error, shorten
from aredun.loop.ending import finish
from aredun.values import ErrorValue, Traceback, is_handle
from aredun.values.error import make_cancellation
from aredun.values.nested import SCALARS, holds, iter_nested_value, map_nested_value
from aredun.workflow.caching import CALL_WITHOUT_RESULT, find_cached, is_shared
from aredun.workflow.executors.base import FunctionCall
from aredun.workflow.failures import find_failure, forget_locals, make_task_error, make_task_traceback
from aredun.workflow.jobs import Failure, JobStatus, current_job
from aredun.workflow.limits import LimitPool, check_result
from aredun.workflow.outcomes import is_successful
from aredun.workflow.records import JobRecorder
from aredun.workflow.retries import TimeLimit
from aredun.workflow.sizes import get_unhandled, is_light, run_through
from aredun.workflow.slots import Slot
from aredun.workflow.snapshots import copy_containers, serialize_arguments
from aredun.workflow.tasks import JobInfo, hash_args_eval

if TYPE_CHECKING:
    from collections.abc import Callable

    from aredun.backend import RedunBackendDb
    from aredun.workflow.evaluation import Evaluator
    from aredun.workflow.executors.registry import Executors
    from aredun.workflow.jobs import Arguments, Job
    from aredun.workflow.retries import RetryPolicy

logger = logging.getLogger("aredun")


@dataclass(eq=False)
class JobRunner:
    """Takes the jobs of one execution from evaluated arguments to their recorded results.

    Attributes
    ----------
    backend : RedunBackendDb
        Where the cache is, and jobs are recorded.
    limits : LimitPool
        Named resources that tasks ask for.
    slots : asyncio.Semaphore
        How many functions may run at once.
    executors : Executors
        Run plain functions.
    on_status : Callable[[Job, JobStatus | None], None]
        Told of every change of status: the job and the status that it had before, None for a new job.
    keep_frames : bool
        Whether errors keep their frames, for a debugger.
    """

    backend: RedunBackendDb
    limits: LimitPool
    slots: asyncio.Semaphore
    executors: Executors
    on_status: Callable[[Job, JobStatus | None], None]
    keep_frames: bool = False

    def __post_init__(self) -> None:
        self._registry = self.backend.type_registry
        self._recorder = JobRecorder(self.backend)
        # Jobs under way by what they compute: an equal call waits for them instead of running again.
        self._leaders: dict[tuple[str, str | None], Job] = {}
        self._root_failure: Failure | None = None

    def get_failure(self, error: Exception) -> Failure | None:
        """Return where the error of the workflow was raised, None if that was in no job."""
        failure = self._root_failure
        return failure if failure is not None and failure.error is error else None

    def on_created(self, job: Job) -> None:
        """Take note of a job whose arguments are about to be evaluated."""
        self.on_status(job, None)

    def on_dropped(self, job: Job) -> None:
        """Take note of a job that never started, since an argument failed or the run stopped."""
        self._set_status(job, JobStatus.FAILED)
        job.release()

    def get_places(self, job: Job) -> asyncio.Semaphore:
        """Return what a job will wait for until its function can run; jobs that do so begin in one row."""
        # A job that has none begins, and fails of the same error then.
        with suppress(UsageError):
            return self.executors.get_places(job.task, job.eval_options) or self.slots
        return self.slots

    async def run(self, job: Job, evaluator: Evaluator) -> Any:
        """Run a job whose arguments are evaluated, and return its result without any expression left.

        Raises
        ------
        Exception
            What the function raised, or a job that it depends on; it is recorded.
        """
        current_job.set(job)
        job.evaluate_awaited = evaluator.evaluate_awaited
        try:
            await self._prepare(job)
            result = await self._get_result(job, evaluator)
            await finish(self._recorder.record_result(job, result))
        except BaseException as raised:
            if isinstance(raised, GeneratorExit) and not _is_running(job):
                # The loop is gone, and the coroutine is being closed.
                raise
            error = await self._record_end(job, raised, evaluator)
            self._set_status(job, JobStatus.FAILED)
            if error is raised:
                raise
            raise error from raised
        else:
            self._set_status(job, JobStatus.CACHED if job.was_cached else JobStatus.DONE)
            return result
        finally:
            self._end_lead(job)
            job.release()

    async def _record_end(self, job: Job, raised: BaseException, evaluator: Evaluator) -> BaseException:
        """Record what a job ended with, and return what it fails with."""
        if isinstance(raised, asyncio.CancelledError) and evaluator.is_cancelled(job):
            if job.is_recorded:
                cancelled = make_cancellation()
                await finish(self._recorder.record_failure(job, cancelled.error, cancelled.traceback))
            return raised
        error = make_task_error(job.task.fullname, raised)
        await finish(self._record_error(job, error))
        # Ctrl-C may hit any function on the loop, and ends more than the workflow.
        return raised if isinstance(raised, KeyboardInterrupt) else error

    async def _record_error(self, job: Job, error: Exception) -> None:
        # redun's scheduler leaves this attribute on what a job raises. It is pickled with the error: without
        # it the call of a recover task would have another hash than in redun. An immutable error stays as it
        # is.
        with suppress(AttributeError):
            setattr(error, "redun_traceback", job.stored_traceback)  # noqa: B010
        # The first job to fail of an error is the one that raised it; it fails its parents in turn.
        # Whoever asks a future for its error again loses the frames of it, so their texts are kept.
        known = find_failure(job, error)
        if known is not None:
            origin, frames = known.origin, known.frames
        else:
            there = job.raised if job.raised is not None and job.raised[0] is error else None
            origin = Traceback.from_error(error) if there is None else there[1]
            frames = error.__traceback__ if self.keep_frames else None
        forget_locals(error)
        raised = job.stored_traceback or origin
        traceback = await make_task_traceback(job, raised) if known is None else known.traceback
        job.failure = Failure(error, origin, traceback, frames)
        if job.parent_job is None:
            self._root_failure = job.failure
        await self._recorder.record_failure(job, error, raised)

    async def _prepare(self, job: Job) -> None:
        job.args = await self._preprocess(job)
        context = job.get_context()

        def compute_hashes() -> None:
            hasher = serialize_arguments(self.backend, job)
            job.eval_hash, job.args_hash = hash_args_eval(hasher, job.task, *job.args)
            job.context_hash = self._registry.get_hash(context) if context else None

        if is_light(job.args):
            compute_hashes()
        else:
            await asyncio.to_thread(compute_hashes)
        job.eval_args = _fill_job_info(job, job.eval_args)
        job.args = _fill_job_info(job, job.args)
        job.recorded_args = _fill_job_info(job, job.recorded_args)

    async def _preprocess(self, job: Job) -> Arguments:
        forks: list[tuple[Any, Any]] = []

        def preprocess(value: Any) -> Any:
            if not is_handle(value):
                return self._registry.preprocess(value, {})
            call_order = 0
            if job.parent_job:
                call_order = job.parent_job.count_fork(value.get_hash())
            fork = self._registry.preprocess(value, {"call_order": call_order})
            forks.append((value, fork))
            return fork

        given = job.eval_args
        unhandled = get_unhandled(self._registry, given)
        # Forks are counted on the loop, one after the other.
        has_handles = await run_through(given, holds, given, is_handle)
        forked = () if has_handles else given
        arguments: Arguments = await run_through(forked, map_nested_value, preprocess, given, unhandled)
        for handle, fork in forks:
            await self.backend.advance_handle([handle], fork)
        return arguments

    async def _get_result(self, job: Job, evaluator: Evaluator) -> Any:
        leader = self._leaders.get((job.eval_hash, job.context_hash)) if is_shared(job) else None
        if leader is not None and leader.runner is not None:
            check_result(job, leader, self.limits)
            return await self._follow(job, leader, leader.runner, evaluator)
        if job.is_recording():
            self._leaders[job.eval_hash, job.context_hash] = job
        first_result = await self._get_first_result(job, evaluator)
        job.leave_queue()
        calls = None
        if job.is_recording() and not job.was_cached:
            calls = await self._recorder.serialize_calls(first_result)
        result = await evaluator.evaluate_result(first_result, job.scope)
        if not job.was_cached:
            if is_successful(result):
                job.is_single_step = True
            else:
                await self._recorder.record_first_result(job, first_result if calls is None else calls)
        return await result

    async def _follow(self, job: Job, leader: Job, runner: asyncio.Task[Any], evaluator: Evaluator) -> Any:
        job.leader = leader
        leader.add_follower(job)
        job.leave_queue()
        try:
            await self._recorder.record_start(job)
            await asyncio.wait([runner])
        finally:
            leader.remove_follower(job)
            if leader.abandoned is not None and not leader.followers:
                evaluator.abandon(leader.abandoned)
        if runner.cancelled():
            job.leader = None
            return await self._get_result(job, evaluator)
        if job.parent_job:
            # The parent depends on the call that was made, as redun has it.
            job.parent_job.replace_child(job, leader)
        job.was_cached = True
        if (error := runner.exception()) is not None:
            # Its own call is recorded, one without children, as redun has it.
            job.failure = leader.failure
            raise error
        job.call_hash = leader.call_hash
        job.add_tasks(leader.subtree_tasks)
        return runner.result()

    def _end_lead(self, job: Job) -> None:
        key = (job.eval_hash, job.context_hash)
        if self._leaders.get(key) is job:
            del self._leaders[key]

    async def _get_first_result(self, job: Job, evaluator: Evaluator) -> Any:
        """Return what the function returns, expressions included, from the cache or by calling it."""
        result = await find_cached(self.backend, job, not self._recorder.may_have_call(job))
        if job.was_cached:
            await self._recorder.record_start(job)
            if isinstance(result, ErrorValue):
                job.stored_traceback = result.traceback
                raise result.error
            return result
        if await run_through(job.args, holds, job.args, is_handle):
            for value in iter_nested_value(job.args, SCALARS):
                if is_handle(value):
                    await self.backend.rollback_handle(value)
        return await self._postprocess(job, await self._try(job, evaluator))

    async def _try(self, job: Job, evaluator: Evaluator) -> Any:
        """Call the function, again if it fails and the job's options say so; nothing is held in between."""
        policy = job.get_retry_policy()
        self.executors.check(job.task, job.eval_options)
        places = self.get_places(job)
        while True:
            if limits := job.get_limits():
                job.leave_queue()
            await self.limits.take(job, limits)
            try:
                async with Slot(places) as job.slot:
                    job.leave_queue()
                    await self._recorder.record_start(job)
                    job.attempts += 1
                    self._set_status(job, JobStatus.RUNNING)
                    try:
                        return await self._call(job, job.slot, policy)
                    except BaseException as raised:
                        error = self._find_retried(job, policy, evaluator, raised)
                        if error is None:
                            raise
                        delay = policy.draw_delay(job.attempts)
                        _tell_retry(job, policy, delay, error)
                        del error
            finally:
                self.limits.give_back(job)
            self._set_status(job, JobStatus.PENDING)
            job.is_plain = False
            # Cancelled calls have no result: the next try makes them again.
            job.child_jobs = [child for child in job.child_jobs if not child.is_cancelled]
            await asyncio.sleep(delay)

    def _find_retried(
        self, job: Job, policy: RetryPolicy, evaluator: Evaluator, raised: BaseException
    ) -> Exception | None:
        """Return what the job would fail with, if another try is worth it."""
        if isinstance(raised, KeyboardInterrupt | GeneratorExit) or evaluator.is_cancelled(job):
            return None
        error = make_task_error(job.task.fullname, raised)
        # A child that failed is called once in an execution: only the options of its task retry it.
        is_own = find_failure(job, error) is None
        return error if is_own and policy.allows_retry(job.attempts, error) else None

    async def _call(self, job: Job, slot: Slot, policy: RetryPolicy) -> Any:
        # A try may leave its arguments changed.
        args, kwargs = await copy_containers(job.args) if policy.retries else job.args
        async with TimeLimit(job.task.fullname, policy.timeout) as limit:
            if job.task.is_async():
                limit.begin()
                result = await job.task.func(*args, **kwargs)
                if slot.unanswered_calls:
                    job.add_tasks({CALL_WITHOUT_RESULT.hash: CALL_WITHOUT_RESULT})
                return result
            job.is_plain = True
            call = FunctionCall(job.task, args, kwargs, job.eval_options, limit.begin)
            try:
                return await self.executors.submit(call, self.backend)
            finally:
                job.raised = call.raised

    async def _postprocess(self, job: Job, result: Any) -> Any:
        advances: list[tuple[Any, Any]] = []

        def postprocess(value: Any) -> Any:
            processed = self._registry.postprocess(value, {"pre_call_hash": job.eval_hash})
            if is_handle(value):
                advances.append((value, processed))
            return processed

        unhandled = get_unhandled(self._registry, result)
        processed = await run_through(result, map_nested_value, postprocess, result, unhandled)
        for before, after in advances:
            await self.backend.advance_handle([before], after)
        return processed

    def _set_status(self, job: Job, status: JobStatus) -> None:
        previous, job.status = job.status, status
        self.on_status(job, previous)


def _is_running(job: Job) -> bool:
    try:
        return asyncio.current_task() is job.runner
    except RuntimeError:
        return False


def _tell_retry(job: Job, policy: RetryPolicy, delay: float, error: Exception) -> None:
    logger.warning(
        "task %s (job %s): attempt %d of %d failed, the next one begins in %.2f s: %s",
        job.task.fullname,
        job.id[:8],
        job.attempts,
        policy.retries + 1,
        delay,
        shorten(describe_error(error)),
    )


def _fill_job_info(job: Job, arguments: Arguments) -> Arguments:
    args, kwargs = arguments
    if not any(isinstance(value, JobInfo) for value in (*args, *kwargs.values())):
        return arguments

    def fill(value: Any) -> Any:
        if not isinstance(value, JobInfo):
            return value
        return JobInfo(job.execution.id, job.id, job.eval_hash, job.args_hash, job.eval_options)

    return tuple(map(fill, args)), {name: fill(value) for name, value in kwargs.items()}
