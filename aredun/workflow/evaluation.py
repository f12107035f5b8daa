"""Evaluation of expressions: task calls become jobs, operators are applied, each unique expression once."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Protocol

from aredun.errors import UsageError
from aredun.values import is_expression
from aredun.values.expressions import (
    ApplyExpression,
    Expression,
    SchedulerExpression,
    SimpleExpression,
    TaskExpression,
    ValueExpression,
    get_lazy_operation,
    set_expression_awaiter,
)
from aredun.values.nested import SCALARS, holds, is_long, map_nested_value
from aredun.values.task_options import check_task_options
from aredun.values.task_value import SchedulerTaskValue
from aredun.workflow.jobs import Execution, Job, PendingExpression, Scope, get_current_job
from aredun.workflow.sizes import is_light, walk
from aredun.workflow.snapshots import copy_containers
from aredun.workflow.tasks import CacheScope, get_default_arguments, get_task_registry
from aredun.workflow.tracebacks import forget_locals

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable

    from aredun.backend import RedunBackendDb
    from aredun.workflow.slots import Slot


class _Placeholder:
    """Stands in a nested value for an expression that is being evaluated."""

    __slots__ = ("future",)

    def __init__(self, future: asyncio.Future[Any]) -> None:
        self.future = future


class Runner(Protocol):
    """Takes jobs with evaluated arguments to their results."""

    backend: RedunBackendDb

    def on_created(self, job: Job) -> None:
        """Take note of a job whose arguments are about to be evaluated."""

    def on_dropped(self, job: Job) -> None:
        """Take note of a job that never started."""

    async def run(self, job: Job, evaluator: Evaluator) -> Any:
        """Return the result of a job, without any expression left."""


class Evaluator:
    """Evaluates the expressions of one execution (mirrors redun's `Scheduler.evaluate`).

    Jobs are created in reading order before anything is awaited: the order of a call's children is recorded,
    and is to be the same whichever engine evaluates it.

    Parameters
    ----------
    execution : Execution
        The run that new jobs belong to.
    runner : Runner
        Takes a job with evaluated arguments to its result.
    use_cache : bool
        False to use no result of earlier executions.
    """

    def __init__(self, execution: Execution, runner: Runner, *, use_cache: bool = True) -> None:
        self.execution = execution
        self.backend = runner.backend
        self.use_cache = use_cache
        self._runner = runner
        self._tasks: set[asyncio.Task[Any]] = set()
        self._job_by_task: dict[asyncio.Future[Any], Job] = {}
        self._caller = asyncio.current_task()
        self._is_stopping = False

    def evaluate(self, value: Any, scope: Scope) -> asyncio.Future[Any]:
        """Evaluate a value and all expressions nested in it.

        Parameters
        ----------
        value : Any
            An expression, or a concrete value, or containers of both.
        scope : Scope
            What new jobs are children of.

        Returns
        -------
        asyncio.Future
            Resolves to the value without any expression. Already done if nothing has to wait.
        """
        started: list[asyncio.Future[Any]] = []

        def start(term: Any) -> Any:
            if isinstance(term, ValueExpression):
                return term.value
            if isinstance(term, ApplyExpression):
                pending = self._start(term, scope)
                pending.is_kept = True
                started.append(pending.future)
                return _Placeholder(pending.future)
            return term

        try:
            shape = map_nested_value(start, value, SCALARS)
        except Exception as error:
            return _failed(error)
        if not started:
            return _resolved(shape)
        if all(is_successful(future) for future in started):
            return _resolved(_fill(shape))
        return self._spawn(_settle(shape, started))

    async def evaluate_result(self, value: Any, scope: Scope) -> asyncio.Future[Any]:
        """Evaluate a value of the scheduler's own, as `evaluate` does; a long one is looked at in a thread.

        Parameters
        ----------
        value : Any
            What a function returned, of which nobody else holds the containers.
        scope : Scope
            What new jobs are children of.
        """
        if is_long(value) and not await asyncio.to_thread(holds, value, is_expression):
            return _resolved(value)
        return self.evaluate(value, scope)

    async def evaluate_awaited(self, expression: Expression, job: Job, slot: Slot) -> Any:
        """Evaluate an expression for a function that awaits it, as a child of the job that runs the function.

        Cancelling the caller cancels the evaluation, unless others want the same result.

        Parameters
        ----------
        expression : Expression
            What is awaited.
        job : Job
            Whose function awaits it.
        slot : Slot
            The one that the function holds, and lends to others meanwhile.
        """
        slot.unanswered_calls += 1
        slot.lend()
        try:
            if isinstance(expression, ApplyExpression):
                result = await self._await_pending(self._start(expression, job.scope))
            else:
                result = await self.evaluate(expression, job.scope)
        finally:
            await slot.take_back()
        slot.unanswered_calls -= 1
        return await copy_containers(result)

    async def _await_pending(self, pending: PendingExpression) -> Any:
        pending.waiters += 1
        try:
            return await asyncio.shield(pending.future)
        except asyncio.CancelledError:
            if pending.waiters == 1 and not pending.is_kept:
                self.abandon(pending)
            raise
        finally:
            pending.waiters -= 1

    def abandon(self, pending: PendingExpression) -> None:
        """Cancel what nobody awaits any more; jobs elsewhere that wait for its result keep it going."""
        job = self._job_by_task.get(pending.future)
        if job is not None and job.followers:
            job.abandoned = pending
            return
        # Whoever asks for an equal expression from now on gets a new evaluation.
        if pending.scope.pending.get(pending.key) is pending:
            del pending.scope.pending[pending.key]
        self._cancel(pending.future)

    def is_cancelled(self, job: Job) -> bool:
        """Tell whether a job was cancelled from outside of its own function."""
        return job.is_cancelled or self._is_stopping or self.is_caller_cancelled()

    def is_caller_cancelled(self) -> bool:
        """Tell whether whoever runs the workflow is being cancelled."""
        return self._caller is not None and self._caller.cancelling() > 0

    def _cancel(self, future: asyncio.Future[Any]) -> None:
        job = self._job_by_task.get(future)
        if job is not None:
            job.is_cancelled = True
        future.cancel()

    async def stop(self, *, finish_threads: bool) -> None:
        """Start nothing more, cancel what runs, and wait until all has ended and is recorded.

        Parameters
        ----------
        finish_threads : bool
            Let plain functions finish and be recorded: in threads they cannot be interrupted.
        """
        self._is_stopping = True
        for task in self._tasks:
            job = self._job_by_task.get(task)
            if not (finish_threads and job is not None and job.is_plain):
                self._cancel(task)
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def wait_for_all(self) -> None:
        """Wait until all that was started has ended, by itself."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    def leave_threads(self) -> None:
        """Wait no longer, in `stop`, for plain functions to finish."""
        for task in self._tasks:
            self._cancel(task)

    def _start(self, expression: ApplyExpression, scope: Scope) -> PendingExpression:
        # Hashing takes as long as pickling all arguments; large ones are told apart by identity instead,
        # and calls that turn out equal still share one job by the hash of their evaluated arguments.
        key: object = expression.get_hash() if is_light(expression) else id(expression)
        known = scope.pending.get(key)
        if known is None:
            start = self._get_start(expression)
            pending = PendingExpression(expression, key, scope, start(expression, scope))
            scope.pending[key] = pending
            return pending
        job = self._job_by_task.get(known.future)
        if job is not None:
            job.abandoned = None
        if known.expression is not expression:
            known.future.add_done_callback(lambda _: _copy_lineage(known.expression, expression))
        return known

    def _get_start(self, expression: ApplyExpression) -> Callable[[Any, Scope], asyncio.Future[Any]]:
        # Left to the caller to call: calls nested in calls are to go as deep as in redun, and each has its
        # frames on the stack here.
        if self._is_stopping:
            return lambda *_: _cancelled()
        if isinstance(expression, SchedulerExpression):
            return self._start_scheduler_task
        if isinstance(expression, TaskExpression):
            return self._start_job
        if isinstance(expression, SimpleExpression):
            return self._start_operation
        return lambda *_: _failed(TypeError(f"cannot evaluate {expression!r}: unknown kind of expression"))

    def _start_job(self, expression: TaskExpression, scope: Scope) -> asyncio.Future[Any]:
        task = get_task_registry().get(expression.task_name)
        if task is None:
            return _failed(
                LookupError(f"unknown task {expression.task_name!r}: import the module that defines it first")
            )
        overrides: dict[str, Any] = {} if self.use_cache else {"cache_scope": CacheScope.CSE}
        if scope.job and not scope.job.is_recording():
            overrides["prov"] = False
        job = Job(task, expression, scope, self.execution, overrides)
        self._runner.on_created(job)

        options = self.evaluate(job.get_raw_options(), scope)
        defaults = self._start_defaults(job, options) if is_successful(options) else None
        arguments = self.evaluate((expression.args, expression.kwargs), scope)
        job.runner = self._spawn(self._run_job(job, options, defaults, arguments))
        self._job_by_task[job.runner] = job
        job.runner.add_done_callback(self._job_by_task.pop)
        return job.runner

    def _start_defaults(self, job: Job, options: asyncio.Future[Any]) -> asyncio.Future[Any]:
        job.set_options(options.result())
        # Defaults belong to the caller's scope, but see the context of the job that they are for.
        scope = Scope(job.parent_job, job.get_context())
        defaults = get_default_arguments(job.task, job.expression.args, job.expression.kwargs)
        return self.evaluate(defaults, scope)

    async def _run_job(
        self,
        job: Job,
        options: asyncio.Future[Any],
        defaults: asyncio.Future[Any] | None,
        arguments: asyncio.Future[Any],
    ) -> Any:
        try:
            if defaults is None:
                await asyncio.wait([options])
                defaults = self._start_defaults(job, options)
            check_task_options(job.eval_options)
            await _wait_all([arguments, defaults])
            args, kwargs = arguments.result()
            job.eval_args = (args, {**defaults.result(), **kwargs})
        except BaseException:
            self._runner.on_dropped(job)
            raise
        # An error that leaves this frame keeps it: the values must not stay with it.
        del args, kwargs, defaults, arguments
        return await self._runner.run(job, self)

    def _start_operation(self, expression: SimpleExpression, scope: Scope) -> asyncio.Future[Any]:
        operation = get_lazy_operation(expression.func_name)
        if operation is None:
            return _failed(LookupError(f"unknown operation {expression.func_name!r} in an expression"))
        arguments = self.evaluate((expression.args, expression.kwargs), scope)
        if not arguments.done():
            return self._spawn(self._run_operation(operation, arguments, scope))
        try:
            args, kwargs = arguments.result()
            return self.evaluate(operation(*args, **kwargs), scope)
        except Exception as error:
            forget_locals(error)
            return _failed(error)

    async def _run_operation(
        self, operation: Callable[..., Any], arguments: asyncio.Future[Any], scope: Scope
    ) -> Any:
        args, kwargs = await arguments
        try:
            value = operation(*args, **kwargs)
        except Exception as error:
            forget_locals(error)
            raise
        finally:
            del args, kwargs, arguments
        return await self.evaluate(value, scope)

    def _start_scheduler_task(self, expression: SchedulerExpression, scope: Scope) -> asyncio.Future[Any]:
        task = get_task_registry().get(expression.task_name)
        if not isinstance(task, SchedulerTaskValue):
            return _failed(LookupError(f"unknown scheduler task {expression.task_name!r}"))
        try:
            return self._spawn(task.func(self, scope, expression, *expression.args, **expression.kwargs))
        except Exception as error:
            return _failed(error)

    def _spawn(self, coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(_mark_retrieved)
        return task


async def _settle(shape: Any, started: list[asyncio.Future[Any]]) -> Any:
    await _wait_all(started)
    return await walk(shape, _fill, shape)


async def _wait_all(futures: Iterable[asyncio.Future[Any]]) -> None:
    # Unlike gather, wait leaves the others alone when one fails or the waiter is cancelled.
    done, _ = await asyncio.wait(futures, return_when=asyncio.FIRST_EXCEPTION)
    for future in done:
        future.result()


def _fill(shape: Any) -> Any:
    return map_nested_value(
        lambda term: term.future.result() if isinstance(term, _Placeholder) else term, shape, SCALARS
    )


def is_successful(future: asyncio.Future[Any]) -> bool:
    """Tell whether a future has a result already."""
    return future.done() and not future.cancelled() and future.exception() is None


def _copy_lineage(source: ApplyExpression, target: ApplyExpression) -> None:
    if isinstance(source, TaskExpression) and isinstance(target, TaskExpression):
        target.call_hash = source.call_hash
    else:
        target._upstreams = source._upstreams


def _resolved(value: Any) -> asyncio.Future[Any]:
    future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    future.set_result(value)
    return future


def _failed(error: Exception) -> asyncio.Future[Any]:
    future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    future.set_exception(error)
    _mark_retrieved(future)
    return future


def _cancelled() -> asyncio.Future[Any]:
    future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    future.cancel()
    return future


def _mark_retrieved(future: asyncio.Future[Any]) -> None:
    # An error is recorded on its job; asyncio need not warn when nobody else asks for it.
    if not future.cancelled():
        future.exception()


async def _await_expression(expression: Expression) -> Any:
    job = get_current_job()
    if job is None or job.slot is None or job.evaluate_awaited is None:
        raise UsageError("a task call is awaited outside of an async task: pass it to Scheduler.run")
    return await job.evaluate_awaited(expression, job, job.slot)


set_expression_awaiter(_await_expression)
