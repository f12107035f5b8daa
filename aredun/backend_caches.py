"""The part of the backend that answers what was computed before."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aredun import caches

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from aredun.database import Database
    from aredun.entities import Entities
    from aredun.lifecycle import Lifecycle
    from aredun.values import CacheResult


class CachesMixin:
    """Caches and values: what `RedunBackendDb` hands back to a running workflow."""

    _lifecycle: Lifecycle

    @property
    def database(self) -> Database:
        """The database that is open."""
        raise AttributeError("database")

    @property
    def entities(self) -> Entities:
        """What models ask about themselves."""
        raise AttributeError("entities")

    async def check_cache(
        self,
        task_hash: str,
        args_hash: str,
        eval_hash: str,
        execution_id: str,
        scheduler_task_hashes: Collection[str],
        cache_scope: Any,
        check_valid: Any,
        context_hash: str | None = None,
        allowed_cache_results: Iterable[Any] | None = None,
    ) -> tuple[Any, str | None, CacheResult]:
        """Ask the caches for the result of a call (mirrors redun's method).

        They are asked in redun's order: the same call in this execution (CSE), the whole call as it is now
        (ULTIMATE), a single step (SINGLE). Concurrent checks are one statement.

        Parameters
        ----------
        task_hash, args_hash, eval_hash, execution_id : str
            The call, and the execution that asks.
        scheduler_task_hashes : collection of str
            The tasks as they are now; a whole call counts only if it used no other.
        cache_scope : CacheScope
            `NONE`, `CSE` or `BACKEND`; aredun's, redun's, or the value.
        check_valid : CacheCheckValid
            `SHALLOW` asks for whole calls too.
        context_hash : str, optional
            Only calls that were made in this context count.
        allowed_cache_results : iterable of CacheResult, optional
            Only these ways of finding a result; default: all.

        Returns
        -------
        tuple[Any, str | None, CacheResult]
            The result, the call that it is of, and how it was found; `(None, None, MISS)` for none.

        Raises
        ------
        UsageError
            If a scope, validity or result is none of the known ones.
        """
        check = caches.make_check(
            task_hash,
            args_hash,
            eval_hash,
            execution_id,
            cache_scope,
            check_valid,
            context_hash,
            allowed_cache_results,
        )
        return await self._lifecycle.opened.caches.check(check, scheduler_task_hashes)

    async def get_eval_cache(self, eval_hash: str) -> tuple[Any, bool]:
        """Get the result of a single step of evaluation (mirrors redun's method).

        Returns
        -------
        tuple[Any, bool]
            The result and True, or None and False.
        """
        return await self._lifecycle.opened.caches.get_eval_cache(eval_hash)

    async def get_call_cache(self, call_hash: str) -> tuple[Any, bool]:
        """Get the final result of a recorded call (mirrors redun's method).

        Returns
        -------
        tuple[Any, bool]
            The result and True, or None and False.
        """
        return await self._lifecycle.opened.caches.get_call_cache(call_hash)

    async def get_value(self, value_hash: str) -> tuple[Any, bool]:
        """Get a recorded value back for real, importing what it names (mirrors redun's method).

        Returns
        -------
        tuple[Any, bool]
            The value and True; None and False if it is not recorded, or cannot be read any more.

        Raises
        ------
        RedunDatabaseError
            If it is in a value store and none is configured.
        """
        return await self._lifecycle.opened.caches.get_value(value_hash)

    async def get_previews(self, value_hashes: Iterable[str]) -> dict[str, Any]:
        """Get what values look like, by hash; nothing of what they hold is imported or run."""
        return await self.entities.get_previews(value_hashes)

    async def get_subtree_tasks(self, call_hash: str) -> set[str]:
        """Get the hashes of all tasks in a call's subtree."""
        return await self._lifecycle.opened.caches.get_subtree_tasks(call_hash)

    async def explain_cache_miss(self, task: Any, args_hash: str) -> dict[str, Any] | None:
        """Tell why a call is not cached (mirrors redun's method).

        Returns
        -------
        dict
            `reason`: "new_task", "new_args" or "new_call"; for the first two also `call_hash`,
            `call_task_hash` and `call_args_hash` of the newest call that came close.
        """
        return await self.database.read(lambda session: caches.explain_cache_miss(session, task, args_hash))

    async def get_job(self, job_id: str) -> dict[str, Any] | None:
        """Get a job's `job_id`, `parent_id` and `execution_id`, None if it is not recorded."""
        return await self.database.read(lambda session: caches.get_job(session, job_id))
