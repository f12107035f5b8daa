"""Evaluation of expressions: task calls become jobs, operators are applied, each unique expression once."""

from __future__ import annotations

import asyncio
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol

from aredun.errors import UsageError
from aredun.loop.pacing import ANSWER_SECONDS, run_in_turns
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
from aredun.values.nested import (
    SCALARS,
    holds,
    is_long,
    map_in_steps,
    map_nested_value,
)
from aredun.values.task_options import check_task_options
from aredun.values.task_value import SchedulerTaskValue
from aredun.workflow.admission import StartQueue
from aredun.workflow.failures import forget_locals
from aredun.workflow.jobs import Execution, Job, PendingExpression, Scope, get_current_job
from aredun.workflow.outcomes import (
    ResultCollector,
    Terms,
    fail,
    fill_if_known,
    hand_over,
    make_failed,
    make_resolved,
    mark_retrieved,
)
from aredun.workflow.sizes import is_light, iter_leaves, run_through
from aredun.workflow.snapshots import copy_containers
from aredun.workflow.tasks import CacheScope, get_default_arguments, get_task_registry

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping

    from aredun.backend import RedunBackendDb
    from aredun.workflow.jobs import Arguments
    from aredun.workflow.slots import Slot

# Calls that are made in one turn of the loop.
FEW_CALLS: Final = 32

_NO_OVERRIDES: Mapping[str, Any] = {}
_UNCACHED: Mapping[str, Any] = {"cache_scope": CacheScope.CSE}


class Runner(Protocol):
    """Takes jobs with evaluated arguments to their results."""

    backend: RedunBackendDb

    def on_created(self, job: Job) -> None:
        """Take note of a job whose arguments are about to be evaluated."""

    def on_dropped(self, job: Job) -> None:
        """Take note of a job that never started."""

    def get_places(self, job: Job) -> object:
        """Return what a job will wait for until its function can run."""

    def run(self, job: Job, evaluator: Evaluator) -> Coroutine[Any, Any, Any]:
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
        # What is under way, with the job of which it is the outcome.
        self._open: dict[asyncio.Future[Any], Job | None] = {}
        self._start_queues: dict[object, StartQueue] = {}
        self.variables = copy_context()
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
        try:
            terms = self._start_terms(value, scope)
        except Exception as error:
            return make_failed(error)
        return self._collect(terms)

    def _start_terms(self, value: Any, scope: Scope) -> Terms:
        started: list[asyncio.Future[Any]] = []
        shape = map_nested_value(self._make_start(started, scope), value, SCALARS)
        return fill_if_known(shape, started)

    def _make_start(self, started: list[asyncio.Future[Any]], scope: Scope) -> Callable[[Any], Any]:
        def start(term: Any) -> Any:
            if isinstance(term, ValueExpression):
                return term.value
            if isinstance(term, ApplyExpression):
                pending = self._start(term, scope)
                pending.is_kept = True
                started.append(pending.future)
                return pending
            return term

        return start

    def _collect(self, terms: Terms) -> asyncio.Future[Any]:
        if not terms[1]:
            return make_resolved(terms[0])
        outcome = self._make_outcome()
        ResultCollector(terms, outcome, outcome.set_result, self.variables)
        return outcome

    async def evaluate_result(self, value: Any, scope: Scope) -> asyncio.Future[Any]:
        """Evaluate a value of the scheduler's own, as `evaluate` does; a long one without blocking the loop.

        Parameters
        ----------
        value : Any
            What a function returned, of which nobody else holds the containers.
        scope : Scope
            What new jobs are children of.
        """
        if is_long(value) and not await asyncio.to_thread(holds, value, is_expression):
            return make_resolved(value)
        if not is_long(value, FEW_CALLS) or not await run_through(value, _holds_only_calls, value):
            return self.evaluate(value, scope)
        started: list[asyncio.Future[Any]] = []
        start = self._make_start(started, scope)
        scope.variables = copy_context()
        try:
            shape = await run_in_turns(map_in_steps(start, value, SCALARS), ANSWER_SECONDS)
        except Exception as error:
            return make_failed(error)
        finally:
            scope.variables = None
        return self._collect((shape, started))

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
        job = self._open.get(pending.future)
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
        job = self._open.get(future)
        if job is not None:
            job.is_cancelled = True
        if job is not None and job.runner is not None:
            job.runner.cancel()
        elif job is None or not job.is_over:
            future.cancel()

    async def stop(self, *, finish_threads: bool) -> None:
        """Start nothing more, cancel what runs, and wait until all has ended and is recorded.

        Parameters
        ----------
        finish_threads : bool
            Let plain functions finish and be recorded: in threads they cannot be interrupted.
        """
        self._is_stopping = True
        for future, job in self._open.items():
            if not (finish_threads and job is not None and job.is_plain):
                self._cancel(future)
        await self.wait_for_all()

    async def wait_for_all(self) -> None:
        """Wait until all that was started has ended, by itself."""
        while self._open:
            await asyncio.wait(self._open)

    def leave_threads(self) -> None:
        """Wait no longer, in `stop`, for plain functions to finish."""
        for future in self._open:
            self._cancel(future)

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
        job = self._open.get(known.future)
        if job is not None:
            job.abandoned = None
        if known.expression is not expression:
            known.future.add_done_callback(lambda _: _copy_lineage(known.expression, expression))
        return known

    def _get_start(self, expression: ApplyExpression) -> Callable[[Any, Scope], asyncio.Future[Any]]:
        # Left to the caller to call: calls nested in calls are to go as deep as in redun, and each has its
        # frames on the stack here.
        if self._is_stopping:
            return lambda *_: make_failed(asyncio.CancelledError())
        if isinstance(expression, SchedulerExpression):
            return self._start_scheduler_task
        if isinstance(expression, TaskExpression):
            return self._start_job
        if isinstance(expression, SimpleExpression):
            return self._start_operation
        return lambda *_: make_failed(
            TypeError(f"cannot evaluate {expression!r}: unknown kind of expression")
        )

    def _start_job(self, expression: TaskExpression, scope: Scope) -> asyncio.Future[Any]:
        task = get_task_registry().get(expression.task_name)
        if task is None:
            return make_failed(
                LookupError(f"unknown task {expression.task_name!r}: import the module that defines it first")
            )
        overrides = _NO_OVERRIDES if self.use_cache else _UNCACHED
        if scope.job and not scope.job.is_recording():
            overrides = {**overrides, "prov": False}
        outcome = self._make_outcome()
        job = self._open[outcome] = Job(task, expression, scope, self.execution, overrides, outcome)
        self._runner.on_created(job)
        try:
            options = self._start_options(job, scope)
            defaults = None if options[1] else self._start_defaults(job, options[0])
            arguments = self._start_terms((expression.args, expression.kwargs), scope)
            if defaults is None:
                ResultCollector(options, outcome, partial(self._take_options, job, arguments), self.variables)
            else:
                self._await_arguments(job, arguments, defaults)
        except Exception as error:
            fail(outcome, error)
        return outcome

    def _start_options(self, job: Job, scope: Scope) -> Terms:
        if job.expression._options:
            return self._start_terms(job.get_raw_options(), scope)
        known = scope.options.get(id(job.task))
        if known is not None:
            return known[1], []
        options, started = self._start_terms(job.get_raw_options(), scope)
        if not started:
            scope.options[id(job.task)] = (job.task, options)
        return options, started

    def _take_options(self, job: Job, arguments: Terms, options: dict[str, Any]) -> None:
        variables = job.caller_variables or self.variables
        self._await_arguments(job, arguments, variables.run(self._start_defaults, job, options))

    def _start_defaults(self, job: Job, options: dict[str, Any]) -> Terms:
        job.set_options(options)
        defaults = get_default_arguments(job.task, job.expression.args, job.expression.kwargs)
        if not defaults:
            return defaults, []
        # Defaults belong to the caller's scope, but see the context of the job that they are for.
        return self._start_terms(defaults, Scope(job.parent_job, job.get_context()))

    def _await_arguments(self, job: Job, arguments: Terms, defaults: Terms) -> None:
        check_task_options(job.eval_options)
        (args, kwargs), started = arguments
        shape, started = fill_if_known((args, {**defaults[0], **kwargs}), [*started, *defaults[1]])
        if started and job.outcome is not None:
            ResultCollector((shape, started), job.outcome, partial(self._enter, job), self.variables)
        else:
            self._enter(job, shape)

    def _enter(self, job: Job, arguments: Arguments) -> None:
        job.eval_args = arguments
        places = self._runner.get_places(job)
        queue = self._start_queues.get(places)
        if queue is None:
            queue = self._start_queues[places] = StartQueue(self._begin, self.spawn)
        queue.enter(job)

    def _begin(self, job: Job) -> bool:
        if job.outcome is None or job.outcome.done():
            return False
        variables, job.caller_variables = job.caller_variables, None
        run = self._runner.run(job, self)
        job.runner = asyncio.create_task(run, context=variables and variables.copy())
        job.runner.add_done_callback(partial(hand_over, job.outcome), context=self.variables)
        return True

    def _start_operation(self, expression: SimpleExpression, scope: Scope) -> asyncio.Future[Any]:
        operation = get_lazy_operation(expression.func_name)
        if operation is None:
            return make_failed(LookupError(f"unknown operation {expression.func_name!r} in an expression"))
        outcome = self._make_outcome()

        def apply(arguments: Arguments) -> None:
            args, kwargs = arguments
            value = self.evaluate(operation(*args, **kwargs), scope)
            if value.done():
                hand_over(outcome, value)
            else:
                value.add_done_callback(partial(hand_over, outcome), context=self.variables)

        try:
            terms = self._start_terms((expression.args, expression.kwargs), scope)
            if terms[1]:
                ResultCollector(terms, outcome, apply, scope.variables or copy_context())
            else:
                apply(terms[0])
        except Exception as error:
            forget_locals(error)
            fail(outcome, error)
        return outcome

    def _start_scheduler_task(self, expression: SchedulerExpression, scope: Scope) -> asyncio.Future[Any]:
        task = get_task_registry().get(expression.task_name)
        if not isinstance(task, SchedulerTaskValue):
            return make_failed(LookupError(f"unknown scheduler task {expression.task_name!r}"))
        try:
            return self.spawn(task.func(self, scope, expression, *expression.args, **expression.kwargs))
        except Exception as error:
            return make_failed(error)

    def spawn(self, coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run a coroutine as a part of the execution, which does not end before it."""
        task = asyncio.create_task(coroutine)
        self._open[task] = None
        task.add_done_callback(self._on_end, context=self.variables)
        return task

    def _make_outcome(self) -> asyncio.Future[Any]:
        outcome: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._open[outcome] = None
        outcome.add_done_callback(self._on_end, context=self.variables)
        return outcome

    def _on_end(self, future: asyncio.Future[Any]) -> None:
        mark_retrieved(future)
        job = self._open.pop(future)
        if job is None:
            return
        job.outcome = None
        if not job.is_over:
            self._runner.on_dropped(job)


def _holds_only_calls(value: Any) -> bool:
    """Tell whether all expressions in a value are calls of tasks."""
    # Others make calls of their own, which come after all that are in the value: no turns for those.
    calls = (leaf for leaf in iter_leaves(value, SCALARS) if isinstance(leaf, ApplyExpression))
    return all(
        isinstance(call, TaskExpression) and not isinstance(call, SchedulerExpression) and not call._options
        for call in calls
    )


def _copy_lineage(source: ApplyExpression, target: ApplyExpression) -> None:
    if isinstance(source, TaskExpression) and isinstance(target, TaskExpression):
        target.call_hash = source.call_hash
    else:
        target._upstreams = source._upstreams


async def _await_expression(expression: Expression) -> Any:
    job = get_current_job()
    if job is None or job.slot is None or job.evaluate_awaited is None:
        raise UsageError("a task call is awaited outside of an async task: pass it to Scheduler.run")
    return await job.evaluate_awaited(expression, job, job.slot)


set_expression_awaiter(_await_expression)
