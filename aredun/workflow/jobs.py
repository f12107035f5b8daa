"""The state of a running workflow: executions, jobs, and where an expression is evaluated."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from aredun.values.task_options import CacheScope
from aredun.values.task_value import merge_contexts
from aredun.workflow.retries import RetryPolicy

if TYPE_CHECKING:
    import asyncio
    from types import TracebackType

    from aredun.values import Traceback
    from aredun.values.expressions import ApplyExpression, Expression, TaskExpression
    from aredun.values.task_value import TaskValue
    from aredun.workflow.slots import Slot

Arguments = tuple[tuple[Any, ...], dict[str, Any]]
TagPairs = list[tuple[str, Any]]


class JobStatus(StrEnum):
    """What a job is doing (mirrors redun's `Job.STATUSES`)."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    FAILED = "FAILED"
    CACHED = "CACHED"
    DONE = "DONE"


class Execution:
    """One run of a workflow (mirrors redun's `Execution`).

    Parameters
    ----------
    execution_id : str | None
        A UUID that is not in use; a new one by default.
    context : Mapping[str, Any]
        Context variables of the root job.
    """

    def __init__(self, execution_id: str | None = None, context: Mapping[str, Any] | None = None) -> None:
        self.id = execution_id or str(uuid.uuid4())
        self.context = dict(context or {})


@dataclass(eq=False)
class PendingExpression:
    """An expression under evaluation, shared by everyone who asks for an equal one in the same job."""

    expression: ApplyExpression
    key: object
    scope: Scope
    future: asyncio.Future[Any]
    # A function that awaits it may be cancelled and end it; an argument or a result needs its end.
    waiters: int = 0
    is_kept: bool = False


@dataclass(eq=False)
class Scope:
    """Where expressions are evaluated: the job that they become children of, and the context that they see.

    Attributes
    ----------
    job : Job | None
        None for the root expression.
    context : dict[str, Any]
        Inherited by the jobs created here.
    pending : dict[object, PendingExpression]
        Expressions seen here by their hash, so that each unique one is evaluated once.
    """

    job: Job | None
    context: dict[str, Any]
    pending: dict[object, PendingExpression] = field(default_factory=dict)


@dataclass(eq=False)
class Failure:
    """What a job failed with.

    Attributes
    ----------
    error : Exception
        The error.
    origin : Traceback
        Where within its function it was raised.
    traceback : Traceback
        The jobs that led there as well.
    frames : TracebackType | None
        The frames themselves, with their local variables, where they are kept for a debugger.
    """

    error: Exception
    origin: Traceback
    traceback: Traceback
    frames: TracebackType | None = None


class Job:
    """One call of a task on its way to a result (mirrors redun's `Job`).

    Parameters
    ----------
    task : TaskValue
        The task that is called.
    expression : TaskExpression
        The call.
    scope : Scope
        Where the call is evaluated.
    execution : Execution
        The run that the job is part of.
    options : Mapping[str, Any]
        Options that take precedence over the task's and the call's.
    """

    status = JobStatus.PENDING
    # The evaluated arguments; what the function gets; what it may change as it was before.
    eval_args: Arguments = ((), {})
    args: Arguments = ((), {})
    recorded_args: Arguments = ((), {})
    # Known once the arguments are evaluated.
    args_hash = ""
    eval_hash = ""
    context_hash: str | None = None
    # Known once there is a result.
    was_cached = False
    call_hash: str | None = None
    is_recorded = False
    # Where an equal job of this execution raised the error that this one is answered with.
    stored_traceback: Traceback | None = None
    failure: Failure | None = None
    # The function returned no expression: its result is recorded together with its call.
    is_single_step = False
    # Its function runs on an executor, to its end though the workflow has failed.
    is_plain = False
    # What the function raised in another process, and where.
    raised: tuple[BaseException, Traceback] | None = None
    # How often the function has been called.
    attempts = 0
    # The equal job whose result this one waits for.
    leader: Job | None = None
    # The evaluation that nobody but the followers still waits for.
    abandoned: PendingExpression | None = None
    is_cancelled = False
    runner: asyncio.Task[Any] | None = None
    slot: Slot | None = None
    # Evaluates what the function awaits.
    evaluate_awaited: Callable[[Expression, Job, Slot], Coroutine[Any, Any, Any]] | None = None
    _scope: Scope | None = None

    def __init__(
        self,
        task: TaskValue,
        expression: TaskExpression,
        scope: Scope,
        execution: Execution,
        options: Mapping[str, Any],
    ) -> None:
        self.id = str(uuid.uuid4())
        self.task = task
        self.expression = expression
        self.execution = execution
        self.parent_job = scope.job
        self.options = dict(options)
        self.export_options: set[str] = task._export_options | expression._export_options
        if self.parent_job:
            self.export_options |= self.parent_job.export_options
            self.parent_job.child_jobs.append(self)
        # Known once the options are evaluated.
        self.eval_options: dict[str, Any] = {}
        self._parent_context = scope.context
        self.child_jobs: list[Job] = []
        self.handle_forks: Counter[str] = Counter()
        self.job_tags: TagPairs = []
        self.execution_tags: TagPairs = []
        self.value_tags: list[tuple[str, TagPairs]] = []
        # All tasks that the result depends on, by hash, for shallow validity checks; of a task that is
        # recorded already the hash is enough.
        self.subtree_tasks: dict[str, TaskValue | str] = {task.hash: task}
        # Equal jobs that wait for this one's result.
        self.followers: set[Job] = set()
        self.held_limits: Mapping[str, int] = {}

    def __repr__(self) -> str:
        return f"Job(id={self.id}, task_name={self.task.fullname})"

    def get_raw_options(self) -> dict[str, Any]:
        """Return the options before evaluation.

        Returns
        -------
        dict of str to Any
            Those of the task, exported by parents, of the call, of the job; the last one wins.
        """
        inherited = self.parent_job.get_export_options() if self.parent_job else {}
        return {
            **self.task.get_task_options(),
            **inherited,
            **self.expression._options,
            **self.options,
        }

    def set_options(self, options: dict[str, Any]) -> None:
        """Take the evaluated options; without provenance nothing may come from the cache.

        Parameters
        ----------
        options : dict of str to Any
            What `get_raw_options` evaluates to.
        """
        self.eval_options = options
        if not self.is_recording():
            self.eval_options["cache_scope"] = CacheScope.NONE

    def get_export_options(self) -> dict[str, Any]:
        """Return the options that child jobs inherit.

        Returns
        -------
        dict of str to Any
            Evaluated options, by name.
        """
        return {name: value for name, value in self.eval_options.items() if name in self.export_options}

    def is_recording(self) -> bool:
        """Tell whether the job's provenance is recorded (option `prov`).

        Returns
        -------
        bool
            True by default.
        """
        return bool(self.eval_options.get("prov", True))

    def get_cache_scope(self) -> CacheScope:
        """Return which cached results may be used (option `cache_scope`).

        Returns
        -------
        CacheScope
            `BACKEND` by default.
        """
        return CacheScope(self.eval_options.get("cache_scope", CacheScope.BACKEND))

    def get_limits(self) -> dict[str, int]:
        """Return the named resources that running the function takes (option `limits`).

        Returns
        -------
        dict of str to int
            How much of each; a list of names means 1 of each.
        """
        limits = self.eval_options.get("limits", {})
        if isinstance(limits, Mapping):
            return dict(limits)
        return dict.fromkeys(limits, 1)

    def get_retry_policy(self) -> RetryPolicy:
        """Return how often the function is tried, and how long it may take.

        Returns
        -------
        RetryPolicy
            What the options `retries`, `retry_delay`, `retry_on` and `timeout` (seconds) say.
        """
        return RetryPolicy.from_options(self.eval_options)

    def get_context(self) -> dict[str, Any]:
        """Return the context variables that the job's expressions see.

        Returns
        -------
        dict of str to Any
            The parent's, updated by `task.update_context`.
        """
        return self.scope.context

    @property
    def scope(self) -> Scope:
        """Where the expressions of this job are evaluated; needs the options."""
        if self._scope is None:
            override = self.eval_options.get("_context_override", {})
            self._scope = Scope(self, merge_contexts([self._parent_context, override]))
        return self._scope

    @property
    def is_over(self) -> bool:
        """Whether the job has ended, and what is known of it is recorded."""
        return self.status in (JobStatus.FAILED, JobStatus.CACHED, JobStatus.DONE)

    def get_child_calls(self) -> list[str]:
        """Return the calls of the children that are recorded.

        Returns
        -------
        list of str
            Hashes, in the order in which the jobs were made.
        """
        return [child.call_hash for child in self.child_jobs if child.call_hash and child.is_over]

    def add_subtree(self) -> None:
        """Add the tasks of all jobs below, those too that have not ended; one that never began has no say."""
        seen: set[Job] = set()
        below = list(self.child_jobs)
        while below:
            job = below.pop()
            if job not in seen and (job.args_hash or not job.is_over):
                seen.add(job)
                self.subtree_tasks.update(job.subtree_tasks)
                below += job.child_jobs if job.leader is None else [*job.child_jobs, job.leader]

    def release(self) -> None:
        """Drop what only a running job needs, so that values and child jobs can be freed."""
        self.eval_args = self.args = self.recorded_args = ((), {})
        self._scope = None
        self.child_jobs = []
        self.slot = self.runner = self.evaluate_awaited = self.leader = self.abandoned = None


current_job: ContextVar[Job] = ContextVar("aredun_current_job")


def get_current_job() -> Job | None:
    """Return the job whose function is running, in a thread too.

    Returns
    -------
    Job or None
        None outside of one.
    """
    return current_job.get(None)
