"""The scheduler: runs workflows on an event loop and records them as redun does."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from contextlib import suppress
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar, Unpack, overload

from aredun.backend import RedunBackendDb
from aredun.errors import AredunError, UsageError
from aredun.loop.ending import finish
from aredun.tables.column_types import TagEntity
from aredun.values import Traceback
from aredun.workflow.dryrun import DryRun, DryRunner, UnwrittenBackend, WouldRun
from aredun.workflow.evaluation import Evaluator
from aredun.workflow.executors.registry import Executors, check_workflow
from aredun.workflow.failures import tell_task
from aredun.workflow.jobs import Execution, Job, JobStatus, Scope
from aredun.workflow.lifecycle import JobRunner
from aredun.workflow.limits import LimitPool
from aredun.workflow.root import wrap_root
from aredun.workflow.tasks import merge_contexts
from aredun.workflow.texts import describe_values

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from aredun.workflow.tasks import Call

T = TypeVar("T")

DEFAULT_MAX_CONCURRENCY = 100
DEFAULT_MAX_WORKERS = 20
DEFAULT_HEARTBEAT_INTERVAL = 20.0
MAX_TITLE_LENGTH = 200

logger = logging.getLogger("aredun")


_current_scheduler: ContextVar[Scheduler] = ContextVar("aredun_current_scheduler")


def get_current_scheduler(required: bool = True) -> Scheduler | None:
    """Return the scheduler that runs the workflow which the caller is part of, in a thread too.

    Mirrors redun's `get_current_scheduler`.

    Parameters
    ----------
    required : bool
        False to get None where no workflow runs.

    Returns
    -------
    Scheduler or None
        None where no workflow runs, unless `required` is set.

    Raises
    ------
    UsageError
        No workflow runs here, and `required` is set.
    """
    scheduler = _current_scheduler.get(None)
    if scheduler is None and required:
        raise UsageError("no scheduler runs here: call get_current_scheduler in a task")
    return scheduler


class RunOptions(TypedDict, total=False):
    """The keyword arguments of `Scheduler.run`, for type checkers."""

    cache: bool
    tags: Iterable[tuple[str, Any]]
    context: Mapping[str, Any] | None
    execution_id: str | None
    keep_locals: bool


class Scheduler:
    """Runs workflows of tasks on the event loop (mirrors redun's `Scheduler`).

    Plain functions run in threads, `async def` functions on the loop; every call is recorded in the backend,
    and taken from there when it has been made before. Several workflows may run at once.

    Parameters
    ----------
    backend : RedunBackendDb | None
        A loaded backend, which stays open; by default a database in memory that ends with the scheduler.
    max_concurrency : int
        How many functions run at once. One that awaits another task does not count while it waits.
    max_workers : int
        How many of them may be plain functions, in threads (redun's `max_workers` of the default executor).
    executors : Mapping[str, Any] | None
        What plain functions can run on, by the name that the option `executor` of a task gives: an `Executor`
        or anything with the interface of `concurrent.futures.Executor`, which is left open. `thread` and
        `process` are there anyway, and `default`, which is `thread` unless it is given.
    limits : Mapping[str, int] | None
        Named resources that tasks ask for by their option `limits`; one that is not named here has 1.
    context : Mapping[str, Any] | None
        Context variables of every execution.
    tags : Iterable[tuple[str, Any]]
        Tags of every execution.
    heartbeat_interval : float
        Seconds between two signs of life of a running execution (`updated_time`).
    on_status : Callable[[Job, JobStatus | None], None] | None
        Called on the loop whenever a job changes its status, with the status before (None for a new job).

    Attributes
    ----------
    traceback : Traceback | None
        Of the run that failed last; `get_traceback` has that of a certain one.
    """

    def __init__(
        self,
        backend: RedunBackendDb | None = None,
        *,
        max_concurrency: int = DEFAULT_MAX_CONCURRENCY,
        max_workers: int = DEFAULT_MAX_WORKERS,
        executors: Mapping[str, Any] | None = None,
        limits: Mapping[str, int] | None = None,
        context: Mapping[str, Any] | None = None,
        tags: Iterable[tuple[str, Any]] = (),
        heartbeat_interval: float = DEFAULT_HEARTBEAT_INTERVAL,
        on_status: Callable[[Job, JobStatus | None], None] | None = None,
    ) -> None:
        for name, number in (("max_concurrency", max_concurrency), ("max_workers", max_workers)):
            if number < 1:
                raise UsageError(f"{name} is {number}: give 1 or more")
        self._owns_backend = backend is None
        self.backend = backend or RedunBackendDb("sqlite:///:memory:")
        self.max_concurrency = max_concurrency
        self.max_workers = max_workers
        self.context = dict(context or {})
        self.tags = list(tags)
        self.heartbeat_interval = heartbeat_interval
        self.status_counts: Counter[tuple[str, JobStatus]] = Counter()
        self.traceback: Traceback | None = None
        self._on_status = on_status
        self._limits = LimitPool(limits)
        self._executors = Executors(executors or {}, max_workers)
        self._slots: asyncio.Semaphore | None = None
        # The workflows under way, each with what is done when it has ended.
        self._runs: dict[Evaluator, asyncio.Future[None]] = {}
        self._end: asyncio.Task[None] | None = None
        self._leave_threads: asyncio.Event | None = None

    async def __aenter__(self) -> Scheduler:
        if self._slots is not None and self._end is None:
            raise UsageError("the scheduler is already open")
        if self._owns_backend:
            await self.backend.load(migrate=True)
        self._slots = asyncio.Semaphore(self.max_concurrency)
        self._leave_threads = asyncio.Event()
        self._end = None
        return self

    async def __aexit__(self, error_type: type[BaseException] | None, *_: object) -> None:
        if self._leave_threads is None:
            return
        if error_type is not None and not issubclass(error_type, Exception):
            # A function in a thread cannot be interrupted: whoever cancels the run need not wait for it.
            self._leave_threads.set()
        if self._end is None:
            self._end = asyncio.create_task(self._close(self._leave_threads))
        cancelled = await finish(self._end, self._leave_threads.set)
        if cancelled is not None:
            raise cancelled

    async def open(self) -> Scheduler:
        """Open the scheduler, as `async with` does.

        Returns
        -------
        Scheduler
            Itself.

        Raises
        ------
        UsageError
            It is open already.
        """
        return await self.__aenter__()

    async def close(self) -> None:
        """Close the scheduler, as the end of `async with` does; what runs is cancelled."""
        await self.__aexit__(None)

    async def _close(self, leave_threads: asyncio.Event) -> None:
        for evaluator in list(self._runs):
            await evaluator.stop(finish_threads=False)
        if self._runs:
            await asyncio.wait(self._runs.values())
        closing = asyncio.create_task(self._executors.close())
        leaving = asyncio.create_task(leave_threads.wait())
        leaving.add_done_callback(lambda _: closing.cancel())
        try:
            with suppress(asyncio.CancelledError):
                await closing
        finally:
            leaving.cancel()
            if self._owns_backend:
                await self.backend.close()

    @overload
    async def run(
        self, expression: Call[T], exec_argv: list[str] | None = None, **options: Unpack[RunOptions]
    ) -> T: ...
    @overload
    async def run(
        self, expression: list[Call[T]], exec_argv: list[str] | None = None, **options: Unpack[RunOptions]
    ) -> list[T]: ...
    @overload
    async def run(
        self, expression: T, exec_argv: list[str] | None = None, **options: Unpack[RunOptions]
    ) -> T: ...
    async def run(
        self,
        expression: Any,
        exec_argv: list[str] | None = None,
        *,
        cache: bool = True,
        tags: Iterable[tuple[str, Any]] = (),
        context: Mapping[str, Any] | None = None,
        execution_id: str | None = None,
        keep_locals: bool = False,
    ) -> Any:
        """Run a workflow as a new execution (mirrors redun's `Scheduler.run`).

        Parameters
        ----------
        expression : Call[T] | T
            A task call, or any value with task calls in it.
        exec_argv : list[str] | None
            The command line to record; by default the expression's text.
        cache : bool
            False to use no result of earlier executions.
        tags : Iterable[tuple[str, Any]]
            Tags of the execution, beside the scheduler's.
        context : Mapping[str, Any] | None
            Context variables, merged into the scheduler's.
        execution_id : str | None
            A UUID that is not in use; a new one by default.
        keep_locals : bool
            Whether an error keeps the local variables of the frames that it came through, for a debugger.

        Returns
        -------
        T
            The value of the expression.

        Raises
        ------
        Exception
            What the task raised that the workflow failed of. All jobs are recorded; those that could not end
            are recorded as failed. `get_traceback` tells where it happened.
        """
        slots = self._require_open()
        check_workflow(self._executors, expression)
        root = wrap_root(expression)
        execution = Execution(execution_id, merge_contexts([self.context, context or {}]))
        argv = exec_argv or ["scheduler.run", *await describe_values([root], MAX_TITLE_LENGTH)]
        async with self.backend.batch():
            await self.backend.record_execution(execution.id, argv)
            await self.backend.record_updated_time(execution.id)
            await self.backend.record_tags(TagEntity.Execution, execution.id, [*self.tags, *tags])
        runner = JobRunner(
            self.backend, self._limits, slots, self._executors, self._count_status, keep_frames=keep_locals
        )
        evaluator = Evaluator(execution, runner, use_cache=cache)
        ended = self._runs[evaluator] = asyncio.get_running_loop().create_future()
        heart = asyncio.create_task(self._beat(execution.id))
        token = _current_scheduler.set(self)
        try:
            return await self._evaluate_root(root, execution, runner, evaluator)
        finally:
            _current_scheduler.reset(token)
            heart.cancel()
            cancelled = await finish(asyncio.wait([heart]))
            del self._runs[evaluator]
            ended.set_result(None)
            if cancelled is not None:
                raise cancelled

    async def dry_run(
        self, expression: Any, *, cache: bool = True, context: Mapping[str, Any] | None = None
    ) -> DryRun:
        """Tell which calls of a workflow would run.

        Mirrors redun's `Scheduler.run` with `dryrun`.

        No function is called and nothing is recorded. A call that would run ends the search: what it would
        call is not known.

        Parameters
        ----------
        expression : Any
            As for `run`.
        cache : bool
            False to use no result of earlier executions.
        context : Mapping[str, Any] | None
            As for `run`.

        Returns
        -------
        DryRun
            The calls that would run; the workflow's result if there are none.

        Raises
        ------
        Exception
            What the evaluation of an expression failed of.
        """
        slots = self._require_open()
        check_workflow(self._executors, expression)
        execution = Execution(None, merge_contexts([self.context, context or {}]))
        backend: Any = UnwrittenBackend(self.backend)
        runner = DryRunner(backend, self._limits, slots, self._executors, lambda job, previous: None)
        evaluator = Evaluator(execution, runner, use_cache=cache)
        try:
            runner.found.result = await evaluator.evaluate(
                wrap_root(expression), Scope(None, execution.context)
            )
        except WouldRun:
            await evaluator.wait_for_all()
        finally:
            await evaluator.stop(finish_threads=False)
        return runner.found

    def _require_open(self) -> asyncio.Semaphore:
        if self._slots is None or self._end is not None:
            raise UsageError("the scheduler is not open: use 'async with Scheduler(backend) as scheduler'")
        return self._slots

    async def _evaluate_root(
        self, root: Any, execution: Execution, runner: JobRunner, evaluator: Evaluator
    ) -> Any:
        finish_threads = True
        try:
            return await evaluator.evaluate(root, Scope(None, execution.context))
        except asyncio.CancelledError:
            finish_threads = False
            if self._end is not None and not evaluator.is_caller_cancelled():
                raise UsageError("the scheduler was closed while the workflow was running") from None
            raise
        except Exception as error:
            failure = runner.get_failure(error)
            if failure is None:
                raise
            # It stays with the error: runs that end later do not take it away. All is recorded by now,
            # and the next job that fails of the error sets the attribute anew before that is pickled.
            self.traceback = vars(error)["redun_traceback"] = failure.traceback
            tell_task(error, failure, execution)
            raise
        finally:
            cancelled = await finish(evaluator.stop(finish_threads=finish_threads), evaluator.leave_threads)
            if cancelled is not None and finish_threads:
                raise cancelled

    async def _beat(self, execution_id: str) -> None:
        while True:
            await asyncio.sleep(self.heartbeat_interval)
            try:
                await self.backend.record_updated_time(execution_id)
            except AredunError as error:
                # A missed beat is no reason to give up hours of work; the next one will tell.
                logger.warning("cannot record that execution %s is alive: %s", execution_id, error)

    def _count_status(self, job: Job, previous: JobStatus | None) -> None:
        name = job.task.fullname
        if previous is not None:
            self.status_counts[name, previous] -= 1
        self.status_counts[name, job.status] += 1
        if self._on_status is not None:
            self._on_status(job, previous)

    def get_traceback(self, error: BaseException) -> Traceback | None:
        """Return where an error that `run` raised came from, whatever has run since.

        Parameters
        ----------
        error : BaseException
            What `run` raised.

        Returns
        -------
        Traceback | None
            The jobs that led to it and the lines of the function; None if it came from no job.
        """
        traceback = getattr(error, "redun_traceback", None)
        return traceback if isinstance(traceback, Traceback) else None

    def get_status_counts(self) -> dict[str, dict[JobStatus, int]]:
        """Return how many jobs of each task have each status, in all runs of this scheduler.

        Returns
        -------
        dict of str to dict of JobStatus to int
            By full name of the task, in the order of the names; all statuses are there.
        """
        names = sorted({name for name, _ in self.status_counts})
        return {name: {status: self.status_counts[name, status] for status in JobStatus} for name in names}
