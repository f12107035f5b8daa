"""What a job leaves in the repository: its start, its call, its tags, its end."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from aredun.errors import RedunDatabaseError, UsageError
from aredun.formats.describe import describe
from aredun.formats.hashing import hash_call_node
from aredun.recording.tags import is_sound
from aredun.storage.retry import is_refusal
from aredun.tables.column_types import TagEntity
from aredun.values import ErrorValue, Traceback, is_expression, pickle_dumps
from aredun.values.nested import holds
from aredun.workflow.caching import CALL_WITHOUT_RESULT
from aredun.workflow.sizes import is_light

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from aredun.backend import RedunBackendDb
    from aredun.recording.recorder import SerializedValue
    from aredun.workflow.jobs import Job

logger = logging.getLogger("aredun")


class JobRecorder:
    """Records jobs as redun's scheduler does; a job without provenance leaves nothing.

    Parameters
    ----------
    backend : RedunBackendDb
        Where to record.
    """

    def __init__(self, backend: RedunBackendDb) -> None:
        self._backend = backend
        # Of the calls of this execution, hashed: with a hundred thousand of them, keys would take more room.
        self._ended: set[int] = set()

    def may_have_call(self, job: Job) -> bool:
        """Tell whether an equal call may be recorded in this execution; False is sure."""
        return _get_key(job) in self._ended

    async def record_start(self, job: Job) -> None:
        """Record that a job started, once."""
        if job.is_recording() and not job.is_recorded:
            job.is_recorded = True
            await self._backend.record_job_start(job)

    async def record_first_result(self, job: Job, result: Any) -> None:
        """Record what the function returned, expressions included, for the cache."""
        if job.is_recording():
            await self._backend.set_eval_cache(job.eval_hash, job.task.hash, job.args_hash, result)

    async def serialize_calls(self, result: Any) -> SerializedValue | None:
        """Serialize what a function returned if there are calls in it, which may change their arguments."""
        if is_light(result):
            return None

        def serialize() -> SerializedValue | None:
            if not holds(result, is_expression):
                return None
            return self._backend.serialize_value(result)

        return await asyncio.to_thread(serialize)

    async def record_result(self, job: Job, result: Any) -> None:
        """Record the call of a job that has its final result, and the job's end; sets `job.call_hash`."""
        children = job.get_child_calls()
        if not job.call_hash:
            job.add_subtree()
        if not job.is_recording():
            result_hash = await self._hash(result)
            job.call_hash = hash_call_node(job.task.hash, job.args_hash, result_hash, children)
            return
        if job.call_hash:
            await self._add_recorded_subtree(job)
            await self._write(job, lambda: self._record_end(job))
        else:
            await self._record_new_result(job, result, children)
            if CALL_WITHOUT_RESULT.hash in job.subtree_tasks:
                await self._add_recorded_subtree(job)
        job.expression.call_hash = job.call_hash

    async def _record_new_result(self, job: Job, result: Any, children: list[str]) -> None:
        async def record() -> None:
            result_hash = await self._backend.record_value(result)
            if job.is_single_step:
                await self._backend.set_eval_cache(
                    job.eval_hash, job.task.hash, job.args_hash, result, value_hash=result_hash
                )
            await self._record_call(job, result_hash, children)
            await self._record_end(job)

        try:
            await self._write(job, record)
        except BaseException:
            # The transaction failed: no call of that hash is recorded.
            job.call_hash = None
            raise

    async def _hash(self, value: Any) -> str:
        get_hash: Callable[[Any], str] = self._backend.type_registry.get_hash
        return get_hash(value) if is_light(value) else await asyncio.to_thread(get_hash, value)

    async def record_failure(self, job: Job, error: Exception, raised: Traceback | None) -> None:
        """Record the call of a job that failed, with the error as its result, and the job's end."""
        job.add_subtree()
        if not job.is_recording() or not job.args_hash:
            return
        if job.was_cached:
            await self._add_recorded_subtree(job)
        children = job.get_child_calls()

        async def record() -> None:
            error_hash = await self._backend.record_value(make_error_value(error, raised))
            await self._record_call(job, error_hash, children)
            await self._record_end(job, status="FAILED")

        await self._write(job, record)
        await self._add_recorded_subtree(job)
        job.expression.call_hash = job.call_hash

    async def _add_recorded_subtree(self, job: Job) -> None:
        # An equal call may have been recorded before, with more tasks: those of calls that never ended are no
        # part of its hash. The calls above this one depend on them, too.
        if job.call_hash:
            recorded = await self._backend.get_subtree_tasks(job.call_hash)
            job.add_tasks({task_hash: task_hash for task_hash in recorded})

    async def _record_call(self, job: Job, result_hash: str, child_call_hashes: list[str]) -> None:
        job.call_hash = await self._backend.record_call_node(
            task_name=job.task.fullname,
            task_hash=job.task.hash,
            args_hash=job.args_hash,
            expr_args=(job.expression.args, job.expression.kwargs),
            eval_args=job.recorded_args,
            result_hash=result_hash,
            child_call_hashes=child_call_hashes,
            subtree_tasks=job.subtree_tasks.values(),
        )

    async def _record_end(self, job: Job, status: str | None = None) -> None:
        context = job.get_context()
        if context and job.call_hash:
            await self._backend.record_call_node_context(job.call_hash, job.context_hash, context)
        await self._backend.record_job_end(job, status=status)

    async def _write(self, job: Job, record: Callable[[], Awaitable[None]]) -> None:
        """Record in one transaction, with the tags of a job; those that are refused cost nothing else."""
        self._ended.add(_get_key(job))
        tags = [each for each in _get_tags(job) if is_sound(each[2], logger)]
        try:
            async with self._backend.batch():
                await record()
                for kind, entity_id, pair in tags:
                    await self._backend.record_tags(kind, entity_id, [pair])
        except RedunDatabaseError as error:
            if not tags or not is_refusal(error):
                raise
        else:
            return
        async with self._backend.batch():
            await record()
        for kind, entity_id, pair in tags:
            try:
                await self._backend.record_tags(kind, entity_id, [pair])
            except UsageError as error:
                logger.warning("%s", error)


def _get_key(job: Job) -> int:
    return hash((job.task.hash, job.args_hash))


def _get_tags(job: Job) -> Iterator[tuple[TagEntity, str, Any]]:
    """Yield the tags that a job leaves: what they hang on, and key and value."""
    for value_hash, pairs in job.value_tags:
        yield from ((TagEntity.Value, value_hash, pair) for pair in pairs)
    for pair in (*job.eval_options.get("tags", ()), *job.job_tags):
        yield TagEntity.Job, job.id, pair
    if job.attempts > 1:
        yield TagEntity.Job, job.id, ("attempts", job.attempts)
    for pair in job.execution_tags:
        yield TagEntity.Execution, job.execution.id, pair
    for pair in job.task.get_task_option("tags") or ():
        yield TagEntity.Task, job.task.hash, pair


def make_error_value(error: Exception, raised: Traceback | None) -> ErrorValue:
    """Wrap an error for recording; one that pickle cannot take is replaced by its text, as redun does.

    Parameters
    ----------
    error : Exception
        What a job raised.
    raised : Traceback | None
        Where.
    """
    error_value = ErrorValue(error, raised)
    try:
        pickle_dumps(error_value)
    except Exception:
        substitute = Exception(describe(error))
        error_value = ErrorValue(substitute, Traceback(substitute, []))
    return error_value
