"""What a workflow would run: its calls are looked up in the cache, none is made and nothing is recorded."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from aredun.formats.hashing import hash_call_node
from aredun.values.expressions import TaskExpression
from aredun.workflow.lifecycle import JobRunner
from aredun.workflow.root import root_task
from aredun.workflow.texts import describe_values

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from aredun.backend import RedunBackendDb
    from aredun.workflow.evaluation import Evaluator
    from aredun.workflow.jobs import Job, JobStatus

MAX_CALL_LENGTH = 200


class WouldRun(BaseException):
    """A call has no result yet; no `catch` of a workflow takes it for an error."""


@dataclass
class DryRun:
    """What `Scheduler.dry_run` found.

    Attributes
    ----------
    calls : list[str]
        The calls that would run, as text; what they would call in turn is not known before they run.
    cached : int
        How many calls have a result.
    result : Any
        The result of the workflow if no call would run, otherwise None.
    """

    calls: list[str] = field(default_factory=list)
    cached: int = 0
    result: Any = None


class UnwrittenBackend:
    """Reads a backend and writes nothing to it: what would be recorded only gets its hash.

    Parameters
    ----------
    backend : RedunBackendDb
        Where results are recorded.
    """

    def __init__(self, backend: RedunBackendDb) -> None:
        self.type_registry = backend.type_registry
        self.serialize_value = backend.serialize_value
        self.check_cache = backend.check_cache
        self.get_subtree_tasks = backend.get_subtree_tasks
        self.is_valid_handle = backend.is_valid_handle

    def batch(self) -> AbstractAsyncContextManager[None]:
        """Begin nothing."""
        return nullcontext()

    async def record_value(self, value: Any) -> str:
        """Return the value's hash."""
        return self.type_registry.get_hash(value)

    async def record_call_node(
        self, *, task_hash: str, args_hash: str, result_hash: str, child_call_hashes: list[str], **_: Any
    ) -> str:
        """Return the call's hash."""
        return hash_call_node(task_hash, args_hash, result_hash, child_call_hashes)

    async def _leave_out(self, *_: Any, **__: Any) -> None:
        """Record nothing."""

    record_job_start = record_job_end = record_call_node_context = record_tags = _leave_out
    set_eval_cache = advance_handle = rollback_handle = _leave_out


class DryRunner(JobRunner):
    """Takes jobs to what the cache has of them; one that it has nothing of raises `WouldRun`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.found = DryRun()

    def _set_status(self, job: Job, status: JobStatus) -> None:
        super()._set_status(job, status)
        self.found.cached += job.is_over and job.was_cached

    async def _record_end(self, job: Job, raised: BaseException, evaluator: Evaluator) -> BaseException:
        return raised

    async def _try(self, job: Job, evaluator: Evaluator) -> Any:
        args, kwargs = job.args
        if job.task.fullname == root_task.fullname:
            return job.task.func(*args, **kwargs)
        call = TaskExpression(job.task.fullname, *job.eval_args)
        text = "".join(await describe_values([call], MAX_CALL_LENGTH))
        if text not in self.found.calls:
            self.found.calls.append(text)
        raise WouldRun(text)
