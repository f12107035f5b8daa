"""`/ws/executions` and `/ws/executions/{id}`: a snapshot, then every change as it is committed."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

from aredun.query import CallGraphQuery
from aredun.search.loading import list_first_jobs
from aredun.server import records
from aredun.server.answers import dump
from aredun.server.finding import find_record
from aredun.storage.retry import retry_briefly

if TYPE_CHECKING:
    from aredun.backend import RedunBackendDb
    from aredun.server.changes import Change, ChangeFeed
    from aredun.server.metrics import Metrics
    from aredun.server.settings import ServerSettings
    from aredun.server.streams import Sender

_RUNNING = ("RUNNING", "ABANDONED")


class ExecutionsStream:
    """
    One subscription to executions.

    Parameters
    ----------
    backend : RedunBackendDb
        The repository.
    feed : ChangeFeed
        Shared by all subscribers.
    settings : ServerSettings
        Bounds.
    metrics : Metrics
        Where changes are counted.
    """

    def __init__(
        self, backend: RedunBackendDb, feed: ChangeFeed, settings: ServerSettings, metrics: Metrics
    ) -> None:
        self._backend = backend
        self._feed = feed
        self._settings = settings
        self._metrics = metrics
        # What the snapshot told already: jobs and executions, and whether they had ended.
        self._told: dict[str, bool] = {}

    async def run(self, execution_id: str | None, after: str | None, sender: Sender) -> None:
        """Send a snapshot, or what was missed since a cursor; then changes without end."""
        async with AsyncExitStack() as stack:
            with retry_briefly():
                whole_id = None
                if execution_id is not None:
                    whole_id = (await find_record(self._backend, "Execution", execution_id)).id
                subscription, cursor, is_resumed = await stack.enter_async_context(
                    self._feed.subscribe(whole_id, after)
                )
                first: dict[str, Any] = {"type": "resumed", "cursor": cursor}
                if not is_resumed:
                    snapshot = await self._make_snapshot(whole_id)
                    first = {"type": "snapshot", "cursor": cursor, **snapshot}
            await sender.send(dump(first).decode())
            while True:
                change = await subscription.take()
                if not self._is_told(change):
                    self._metrics.changes.inc()
                    await sender.send(change.message)

    def _is_told(self, change: Change) -> bool:
        """Tell whether the snapshot, which is read after its cursor, showed a change already."""
        if change.change == "heartbeat":
            return False
        ended = self._told.get(change.record_id)
        return ended is not None and (ended or change.change == "started")

    async def _make_snapshot(self, execution_id: str | None) -> dict[str, Any]:
        if execution_id is None:
            return await self._read_executions()
        query = CallGraphQuery(self._backend).filter_types(["Execution"]).filter_ids([execution_id])
        execution = await query.one()
        limit = self._settings.snapshot_jobs
        jobs = await list_first_jobs(self._backend, execution_id, limit + 1)
        [shown] = await records.make_records(self._backend, [execution])
        made = await records.make_records(self._backend, jobs[:limit])
        self._remember(execution, *jobs[:limit])
        return {
            "execution": shown.model_dump(mode="json"),
            "jobs": [job.model_dump(mode="json") for job in made],
            "is_cut": len(jobs) > limit,
        }

    async def _read_executions(self) -> dict[str, Any]:
        query = CallGraphQuery(self._backend, order_by="time").filter_types(["Execution"])
        page = await query.page_after(None, self._settings.snapshot_executions)
        self._remember(*page.records)
        shown = await records.make_records(self._backend, page.records)
        return {
            "executions": [execution.model_dump(mode="json") for execution in shown],
            "next": page.cursor,
        }

    def _remember(self, *shown: Any) -> None:
        self._told.update((record.id, record.status not in _RUNNING) for record in shown)
