"""`/ws/executions` and `/ws/executions/{id}`: a snapshot, then every change as it is committed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from aredun.query import CallGraphQuery
from aredun.search.identify import find_one
from aredun.search.loading import list_first_jobs
from aredun.server.answers import dump
from aredun.server.parameters import check_id
from aredun.server.records import make_records
from aredun.storage.retry import retry_briefly

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aredun.backend import RedunBackendDb
    from aredun.server.changes import Change, ChangeFeed
    from aredun.server.metrics import Metrics
    from aredun.server.settings import ServerSettings
    from aredun.server.streams import Sender

_RUNNING = ("RUNNING", "ABANDONED")


@dataclass(eq=False)
class ExecutionsStream:
    """
    One subscription to executions.

    Attributes
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

    backend: RedunBackendDb
    feed: ChangeFeed
    settings: ServerSettings
    metrics: Metrics
    # What the snapshot told already: jobs and executions, and whether they had ended.
    _told: dict[str, bool] = field(default_factory=dict, init=False)

    async def run(self, execution_id: str | None, after: str | None, sender: Sender) -> None:
        """Send a snapshot, or what was missed since a cursor; then changes without end."""
        # Once the changes come, nothing is read.
        with retry_briefly():
            if execution_id is not None:
                execution_id = (await find_one(self.backend, "Execution", check_id(execution_id))).id
            async with self.feed.subscribe(execution_id, after) as (subscription, cursor, is_resumed):
                first = {"type": "resumed", "cursor": cursor}
                if not is_resumed:
                    first = {**first, "type": "snapshot", **await self._make_snapshot(execution_id)}
                await sender.send(dump(first).decode())
                while True:
                    change = await subscription.take()
                    if not self._is_told(change):
                        self.metrics.changes.inc()
                        await sender.send(change.message)

    def _is_told(self, change: Change) -> bool:
        """Tell whether the snapshot, which is read after its cursor, showed a change already."""
        if change.change == "heartbeat":
            return False
        ended = self._told.get(change.record_id)
        return ended is not None and (ended or change.change == "started")

    async def _make_snapshot(self, execution_id: str | None) -> dict[str, Any]:
        query = CallGraphQuery(self.backend, filter_types=["Execution"])
        if execution_id is None:
            page = await query.clone(order_by="time").page_after(None, self.settings.snapshot_executions)
            return {"executions": await self._show(page.records), "next": page.cursor}
        execution = await query.filter_ids([execution_id]).one()
        limit = self.settings.snapshot_jobs
        jobs = await list_first_jobs(self.backend, execution_id, limit + 1)
        shown, *others = await self._show([execution, *jobs[:limit]])
        return {"execution": shown, "jobs": others, "is_cut": len(jobs) > limit}

    async def _show(self, found: Sequence[Any]) -> list[dict[str, Any]]:
        """Return records as the API shows them, and remember that they are told."""
        self._told.update((record.id, record.status not in _RUNNING) for record in found)
        return [record.model_dump(mode="json") for record in await make_records(self.backend, found)]
