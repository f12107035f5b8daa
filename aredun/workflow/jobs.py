"""The state of a running workflow: executions, jobs, and where an expression is evaluated.

`Execution` and `Job` are what redun's scheduler calls them; `aredun.models` has the tables of these names.
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextvars import ContextVar, copy_context
from dataclasses import InitVar, dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from aredun.values.task_options import CacheScope
from aredun.values.task_value import merge_contexts
from aredun.workflow.retries import RetryPolicy

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Set
    from contextvars import Context
    from types import TracebackType

    from aredun.values import Traceback
    from aredun.values.expressions import ApplyExpression, Expression, TaskExpression
    from aredun.values.task_value import TaskValue
    from aredun.workflow.slots import Slot

Arguments = tuple[tuple[Any, ...], dict[str, Any]]
TagPairs = Sequence[tuple[str, Any]]

# What most jobs have none of, one for all of them.
_NO_ARGUMENTS: Arguments = ((), {})
_NO_LIMITS: Mapping[str, int] = {}
_NO_NAMES: frozenset[str] = frozenset()


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


class PendingExpression:
    """An expression under evaluation, shared by everyone who asks for an equal one in the same job.

    It stands for the expression in nested values. No dataclass, since those are looked into.
    """

    __slots__ = ("expression", "future", "is_kept", "key", "scope", "waiters")

    def __init__(
        self, expression: ApplyExpression, key: object, scope: Scope, future: asyncio.Future[Any]
    ) -> None:
        self.expression = expression
        self.key = key
        self.scope = scope
        self.future = future
        # A function that awaits it may be cancelled and end it; an argument or a result needs its end.
        self.waiters = 0
        self.is_kept = False


@dataclass(eq=False, slots=True)
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
    options : dict[int, tuple[TaskValue, dict[str, Any]]]
        Evaluated options of calls that give none of their own, by the identity of the task.
    variables : Context | None
        What the jobs made here see of `contextvars`, while many are made one after the other.
    """

    job: Job | None
    context: dict[str, Any]
    pending: dict[object, PendingExpression] = field(default_factory=dict)
    options: dict[int, tuple[TaskValue, dict[str, Any]]] = field(default_factory=dict)
    variables: Context | None = None


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


@dataclass(eq=False, repr=False, slots=True)
class Job:
    """One call of a task on its way to a result (mirrors redun's `Job`).

    An execution may have a hundred thousand that have not begun: what not every job has is made when it is
    needed, and what is empty is shared.

    Parameters
    ----------
    task : TaskValue
        The task that is called.
    expression : TaskExpression
        The call.
    caller : Scope
        Where the call is evaluated.
    execution : Execution
        The run that the job is part of.
    options : Mapping[str, Any]
        Options that take precedence over the task's and the call's.
    outcome : asyncio.Future[Any] | None
        Gets the result, without any expression left.
    """

    task: TaskValue
    expression: TaskExpression
    caller: InitVar[Scope]
    execution: Execution
    options: Mapping[str, Any]
    outcome: asyncio.Future[Any] | None
    id: str = field(init=False, default_factory=lambda: str(uuid.uuid4()))
    parent_job: Job | None = field(init=False)
    status: JobStatus = field(init=False, default=JobStatus.PENDING)
    # What the caller has set of `contextvars`.
    caller_variables: Context | None = field(init=False)
    # Names of the options that child jobs inherit.
    export_options: Set[str] = field(init=False)
    _parent_context: dict[str, Any] = field(init=False)
    _scope: Scope | None = field(init=False, default=None)

    # Known once the options are evaluated.
    eval_options: dict[str, Any] = field(init=False, default_factory=dict)
    # The evaluated arguments; the function's own copy of them; a copy that the function cannot change.
    eval_args: Arguments = field(init=False, default=_NO_ARGUMENTS)
    args: Arguments = field(init=False, default=_NO_ARGUMENTS)
    recorded_args: Arguments = field(init=False, default=_NO_ARGUMENTS)
    # Known once the arguments are evaluated.
    args_hash: str = field(init=False, default="")
    eval_hash: str = field(init=False, default="")
    context_hash: str | None = field(init=False, default=None)
    # Known once there is a result.
    was_cached: bool = field(init=False, default=False)
    call_hash: str | None = field(init=False, default=None)
    is_recorded: bool = field(init=False, default=False)
    # Where an equal job of this execution raised the error that this one is answered with.
    stored_traceback: Traceback | None = field(init=False, default=None)
    failure: Failure | None = field(init=False, default=None)
    # The function returned no expression: its result is recorded together with its call.
    is_single_step: bool = field(init=False, default=False)

    # Its function runs on an executor, to its end though the workflow has failed.
    is_plain: bool = field(init=False, default=False)
    # What the function raised in another process, and where.
    raised: tuple[BaseException, Traceback] | None = field(init=False, default=None)
    # How often the function has been called.
    attempts: int = field(init=False, default=0)
    child_jobs: list[Job] | tuple[()] = field(init=False, default=())
    handle_forks: Counter[str] | None = field(init=False, default=None)
    job_tags: TagPairs = field(init=False, default=())
    execution_tags: TagPairs = field(init=False, default=())
    value_tags: Sequence[tuple[str, TagPairs]] = field(init=False, default=())
    _subtree_tasks: dict[str, TaskValue | str] | None = field(init=False, default=None)
    # Equal jobs that wait for this one's result, and the one whose result this one waits for.
    followers: set[Job] | tuple[()] = field(init=False, default=())
    leader: Job | None = field(init=False, default=None)
    # The evaluation that nobody but the followers still waits for.
    abandoned: PendingExpression | None = field(init=False, default=None)
    held_limits: Mapping[str, int] = field(init=False, default_factory=lambda: _NO_LIMITS)
    is_cancelled: bool = field(init=False, default=False)
    # What it holds while it runs.
    give_room: Callable[[], None] | None = field(init=False, default=None)
    runner: asyncio.Task[Any] | None = field(init=False, default=None)
    slot: Slot | None = field(init=False, default=None)
    # Evaluates what the function awaits.
    evaluate_awaited: Callable[[Expression, Job, Slot], Coroutine[Any, Any, Any]] | None = field(
        init=False, default=None
    )

    def __post_init__(self, caller: Scope) -> None:
        self.parent_job = caller.job
        self.caller_variables = caller.variables or copy_context()
        self._parent_context = caller.context
        exported: tuple[Set[str], ...] = (self.task._export_options, self.expression._export_options)
        if self.parent_job:
            exported = (*exported, self.parent_job.export_options)
            self.parent_job.add_child(self)
        self.export_options = frozenset().union(*exported) if any(exported) else _NO_NAMES

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

    @property
    def subtree_tasks(self) -> Mapping[str, TaskValue | str]:
        """All tasks that the result depends on, by hash, for shallow validity checks.

        Of a task that is recorded already the hash is enough.
        """
        return {self.task.hash: self.task} if self._subtree_tasks is None else self._subtree_tasks

    def add_tasks(self, tasks: Mapping[str, TaskValue | str]) -> None:
        """Let the result depend on more tasks.

        Parameters
        ----------
        tasks : Mapping[str, TaskValue | str]
            The tasks, or their names, by hash.
        """
        if self._subtree_tasks is None and tasks.keys() - {self.task.hash}:
            self._subtree_tasks = {self.task.hash: self.task}
        if self._subtree_tasks is not None:
            self._subtree_tasks.update(tasks)

    def add_child(self, child: Job) -> None:
        """Take note of a job that this one has made.

        Parameters
        ----------
        child : Job
            The job; children keep the order in which they are made.
        """
        self.child_jobs = self.child_jobs or []
        self.child_jobs.append(child)

    def add_follower(self, follower: Job) -> None:
        """Take note of an equal job that waits for the result of this one.

        Parameters
        ----------
        follower : Job
            The job that waits.
        """
        self.followers = self.followers or set()
        self.followers.add(follower)

    def remove_follower(self, follower: Job) -> None:
        """Take note of an equal job that waits no longer.

        Parameters
        ----------
        follower : Job
            The job that has waited; one that has not does no harm.
        """
        if self.followers:
            self.followers.discard(follower)

    def replace_child(self, child: Job, other: Job) -> None:
        """Depend on another job, with an equal call, in the place of a child.

        Parameters
        ----------
        child : Job
            The child.
        other : Job
            The job that takes its place.
        """
        self.child_jobs = [other if job is child else job for job in self.child_jobs]

    def count_fork(self, handle_hash: str) -> int:
        """Count a job below that gets a handle.

        Parameters
        ----------
        handle_hash : str
            The hash of the handle's state.

        Returns
        -------
        int
            How many jobs below have got it by now.
        """
        self.handle_forks = Counter() if self.handle_forks is None else self.handle_forks
        self.handle_forks[handle_hash] += 1
        return self.handle_forks[handle_hash]

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
                self.add_tasks(job.subtree_tasks)
                below += job.child_jobs if job.leader is None else [*job.child_jobs, job.leader]

    def release(self) -> None:
        """Drop what only a running job needs, so that values and child jobs can be freed."""
        self.leave_queue()
        self.eval_args = self.args = self.recorded_args = _NO_ARGUMENTS
        self.child_jobs = ()
        self.slot = self.runner = self.evaluate_awaited = self.leader = self.abandoned = None
        self._scope = self.caller_variables = None

    def leave_queue(self) -> None:
        """Give up the room that the job takes among those that are about to call their functions."""
        give_room, self.give_room = self.give_room, None
        if give_room is not None:
            give_room()


current_job: ContextVar[Job] = ContextVar("aredun_current_job")


def get_current_job() -> Job | None:
    """Return the job whose function is running, in a thread too.

    Returns
    -------
    Job or None
        None outside of one.
    """
    return current_job.get(None)
