"""Which cached results a job may use, and whether they are still valid."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from aredun.errors import InvalidValueError
from aredun.values import ErrorValue, is_file, is_handle
from aredun.values.error import is_cancellation
from aredun.values.nested import is_long
from aredun.values.task_value import TaskValue
from aredun.workflow.sizes import get_unhandled, iter_leaves, run_through
from aredun.workflow.tasks import CacheCheckValid, CacheResult, CacheScope, get_task_registry

if TYPE_CHECKING:
    from aredun.backend import RedunBackendDb
    from aredun.workflow.jobs import Job


def _mark() -> None:
    """Stand among the tasks of a result that was made although a call below it had none."""


# An awaited call may fail, be cancelled or end too late, and its task return all the same. No workflow has
# this task, so no cache takes the tasks of such a result for the ones of today: no later execution uses it.
CALL_WITHOUT_RESULT = TaskValue(_mark, name="call_without_result", namespace="aredun", version="1")


def get_check_valid(job: Job) -> CacheCheckValid:
    """Return how a cached result is checked (option `check_valid`).

    The result of an async task is always the final one: what its function awaited is not in what it returned,
    so replaying that would lose the calls. It is checked by the tasks of its whole subtree instead.
    """
    if job.task.is_async():
        return CacheCheckValid.SHALLOW
    return CacheCheckValid(job.eval_options.get("check_valid", CacheCheckValid.FULL))


def get_allowed_results(job: Job) -> set[CacheResult] | None:
    """Return the kinds of cached results that may be used (option `allowed_cache_results`), None for all."""
    allowed = job.eval_options.get("allowed_cache_results")
    if not job.task.is_async():
        return allowed
    return _leave_out(CacheResult.SINGLE, allowed)


def _leave_out(kind: CacheResult, allowed: set[CacheResult] | None) -> set[CacheResult]:
    """Return what is allowed without one kind."""
    return (set(CacheResult) if allowed is None else set(allowed)) - {kind}


def is_shared(job: Job) -> bool:
    """Tell whether a job may wait for an equal one that is under way, instead of running."""
    allowed = get_allowed_results(job)
    return job.get_cache_scope() is not CacheScope.NONE and (allowed is None or CacheResult.CSE in allowed)


async def find_cached(backend: RedunBackendDb, job: Job, is_first: bool) -> Any:
    """Look for the result of a job; sets `was_cached` if it is found, and `call_hash` if it is the final one.

    Parameters
    ----------
    backend : RedunBackendDb
        Where results are recorded.
    job : Job
        A job with its hashes.
    is_first : bool
        No equal call has been recorded in this execution: there is no need to look for one.

    Returns
    -------
    Any
        The result: what the function returned (a single reduction) or the final one; an `ErrorValue` if an
        equal call failed in this execution. None if there is nothing to use.
    """
    scope = job.get_cache_scope()
    if scope is CacheScope.NONE:
        return None
    if job.task.fullname == "redun.script_task":
        # The files of a command are no arguments of it: as in redun, only the task around it is cached.
        scope = CacheScope.CSE
    allowed = get_allowed_results(job)
    if is_first:
        allowed = _leave_out(CacheResult.CSE, allowed)
    try:
        result, call_hash, kind = await backend.check_cache(
            job.task.hash,
            job.args_hash,
            job.eval_hash,
            job.execution.id,
            get_task_registry().task_hashes,
            scope,
            get_check_valid(job),
            context_hash=job.context_hash,
            allowed_cache_results=allowed,
        )
    except InvalidValueError:
        # The class of the value is gone, so nobody can read the result.
        return None
    if kind is CacheResult.MISS or is_cancellation(result):
        return None
    if kind is not CacheResult.CSE and (
        isinstance(result, ErrorValue) or not await is_usable(backend, result)
    ):
        return None
    job.was_cached = True
    job.call_hash = call_hash
    return result


async def is_usable(backend: RedunBackendDb, result: Any) -> bool:
    """Tell whether everything in a cached result is still valid: files unchanged, handles not rolled back."""
    unhandled = get_unhandled(backend.type_registry, result)
    leaves = await run_through(result, lambda: list(iter_leaves(result, unhandled)))
    for leaf in leaves:
        if is_handle(leaf) and not await backend.is_valid_handle(leaf):
            return False
    others = [leaf for leaf in leaves if not is_handle(leaf)]
    check = backend.type_registry.is_valid
    if is_long(others) or any(is_file(leaf) for leaf in others):
        # A file system may be slow, or far away.
        return await asyncio.to_thread(lambda: all(map(check, others)))
    return all(map(check, others))
