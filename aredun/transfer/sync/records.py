"""`sync_records`: the walk, the copying, and how they go side by side."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, aclosing
from typing import TYPE_CHECKING, Any, Protocol

from aredun.errors import UsageError
from aredun.loop.pacing import keep_pace
from aredun.transfer.records.groups import Destination
from aredun.transfer.records.read import iter_ahead
from aredun.transfer.sync.copy import PlanCopier
from aredun.transfer.sync.plan import Walker, find_missing
from aredun.transfer.sync.report import Progress, SyncReport
from aredun.transfer.sync.source import Source

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Callable, Coroutine, Iterable

    from aredun.storage import Database
    from aredun.storage.value_store import ValueStore
    from aredun.transfer.sync.plan import RootGroup, SyncPlan


class SyncedBackend(Protocol):
    """What a sync needs of a backend."""

    @property
    def database(self) -> Database: ...

    @property
    def value_store(self) -> ValueStore | None: ...

    @property
    def config(self) -> Any: ...


async def sync_records(
    src: SyncedBackend,
    dst: SyncedBackend,
    root_ids: Iterable[str] | AsyncIterable[str] | None = None,
    *,
    workers: int = 4,
    batch_size: int = 1000,
    on_progress: Callable[[SyncReport], None] | None = None,
    dry_run: bool = False,
) -> SyncReport:
    """Copy everything that some records own from one repository to another.

    The newest executions come first. What is owned is written before what owns it, and an execution with all
    of its jobs in one transaction: whenever a sync is broken off, each record at the destination has all that
    it owns, and the next sync goes on from there. Repeating it changes nothing.

    Parameters
    ----------
    src, dst : RedunBackendDb
        The repositories; both loaded.
    root_ids : iterable or async iterable of str, optional
        Ids of executions, jobs, call nodes, values, tasks or tags; by default all executions. A job stands
        for its execution, without which it cannot be recorded.
    workers : int
        Batches that are read and written at a time; fewer, down to two, while the event loop is late.
    batch_size : int
        Records in one batch.
    on_progress : callable, optional
        Is given the report after each batch.
    dry_run : bool
        Count what would be written, and write nothing.

    Returns
    -------
    SyncReport
        `seen`, `written`, `bytes`, `by_type`, `seconds`, `refused`.

    Raises
    ------
    UsageError
        Both are the same repository, or `workers` or `batch_size` is less than 1.
    RedunDatabaseError
        One of the databases cannot be reached; what was written stays.
    """
    if workers < 1 or batch_size < 1:
        raise UsageError(f"workers and batch_size must be at least 1, not {workers} and {batch_size}")
    if await src.database.is_same(dst.database):
        raise UsageError("a repository cannot be synced with itself: source and destination are the same")
    roots = None
    if root_ids is not None:
        roots = [each async for each in root_ids] if hasattr(root_ids, "__aiter__") else list(root_ids)
    report = SyncReport()
    copier = PlanCopier(
        Source(src.database, src.value_store),
        Destination(dst.database, dst.value_store, dst.config.value_store_min_size),
        Progress(report, on_progress),
        workers=workers,
        batch_size=batch_size,
    )
    pace = asyncio.create_task(keep_pace(copier.slots, workers))
    walker = Walker(copier.source)
    lock = asyncio.Lock()

    async def make_plan(group: RootGroup) -> SyncPlan:
        async with lock:
            report.roots = group.total
            plan = await walker.walk(group)
        report.seen += len(plan)
        await find_missing(src.database, dst.database, plan, workers=workers, batch_size=batch_size)
        report.done += len(plan) - sum(map(len, plan.missing.values()))
        return plan

    steps = (copier.count,) if dry_run else (copier.copy_values, copier.copy_calls, copier.copy_executions)
    try:
        await _take_through(walker.iter_groups(roots), make_plan, *steps)
    finally:
        pace.cancel()
        await asyncio.gather(pace, return_exceptions=True)
    copier.finish()
    report.tick()
    return report


async def _take_through(items: Any, *steps: Callable[[Any], Coroutine[Any, Any, Any]]) -> None:
    """Take items through all steps, side by side: each works on two at a time, and hands them on in order."""
    async with AsyncExitStack() as stack:
        stream = await stack.enter_async_context(aclosing(items))
        for step in steps:
            stream = await stack.enter_async_context(aclosing(iter_ahead(step, stream, 1)))
        async for _ in stream:
            pass
