"""Finding the jobs that have changed since the last look, and what is told of them."""

from __future__ import annotations

import contextlib
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from aredun.models import Execution, Job
from aredun.search.call_texts import get_brief_arguments
from aredun.search.changed_jobs import find_changed_jobs, get_heartbeats, get_last_arrival
from aredun.search.loading import load_all
from aredun.server.records import make_execution, make_job
from aredun.tables.column_types import utcnow

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable
    from datetime import datetime

    from aredun.backend import RedunBackendDb
    from aredun.search.changed_jobs import ChangedJob
    from aredun.server import schemas

# Jobs that began or ended this long before the last look are looked at again: a transaction may commit late.
_OVERLAP = timedelta(seconds=15)
# Now and then further back, for machines whose clocks differ: seldom enough to take this share of the time.
_WIDE_OVERLAP = timedelta(minutes=10)
_WIDE_SHARE = 50
_WIDE_PAUSE = 10.0


class Event(NamedTuple):
    """Something that happened.

    Attributes
    ----------
    kind : str
        "execution" or "job".
    change : str
        "started", "ended" or, of executions, "heartbeat".
    record_id, execution_id : str
        Of the record, and of the execution that it belongs to.
    content : dict
        The record as the API shows it, as it was then.
    """

    kind: str
    change: str
    record_id: str
    execution_id: str
    content: dict[str, Any]


class _Moment(NamedTuple):
    """When a job began or ended, and its number in the order of arrival."""

    time: datetime
    ended: bool
    number: int
    job: Job


class ChangePoll:
    """
    Compares what is there with what was seen before.

    Every new job is found by the order of arrival where the database has one (sqlite), else by its
    times and because it is open; every end is found because the job was open, or by its time.

    Parameters
    ----------
    backend : RedunBackendDb
        The repository.
    """

    def __init__(self, backend: RedunBackendDb) -> None:
        self._backend = backend
        self._last_arrival = 0
        # Jobs that were seen, and whether they had ended.
        self._seen: dict[str, bool] = {}
        # Executions whose root job is open, and their last heartbeat.
        self._beats: dict[str, datetime | None] = {}
        self._next_wide = 0.0
        self._last_look = utcnow()

    async def begin(self) -> None:
        """Take what is there as seen."""
        # By its number; only what is open or recent is known by name.
        self._last_arrival = await get_last_arrival(self._backend)
        async with self._look():
            self._beats = await get_heartbeats(self._backend, None)

    async def read(self) -> list[Event]:
        """Return what happened since the last call that did not fail, in the order in which it did."""
        async with self._look() as rows:
            # In the order of arrival, as far as that is known.
            changed = [
                row for row in rows if row.id not in self._seen or (row.is_ended and not self._seen[row.id])
            ]
            jobs = await load_all(self._backend, Job, {row.id for row in changed})
            roots = {job.execution_id for job in jobs.values() if job.parent_id is None}
            executions = await load_all(self._backend, Execution, roots)
            moments = self._list_moments(changed, jobs)
            calls = [moment.job.call_hash for moment in moments if moment.ended]
            arguments = await get_brief_arguments(self._backend, calls)
            made = []
            for _, ended, _, job in moments:
                shown = make_job(job, arguments.get(job.call_hash or "") if ended else None)
                made += _make_events(job, shown, executions, ended)
            return made + await self._find_heartbeats(executions)

    @contextlib.asynccontextmanager
    async def _look(self) -> AsyncIterator[list[ChangedJob]]:
        """Look for jobs that may have changed; they count as seen once all is read that is told of them."""
        began, clock = utcnow(), time.monotonic()
        is_wide = clock >= self._next_wide
        since = min(began, self._last_look) - (_WIDE_OVERLAP if is_wide else _OVERLAP)
        known_open = [job_id for job_id, ended in self._seen.items() if not ended]
        rows = await find_changed_jobs(
            self._backend, since, self._last_arrival, known_open, with_open=is_wide
        )
        yield rows
        self._last_look = began
        self._last_arrival = max([self._last_arrival, *(row.arrival or 0 for row in rows)])
        met = {row.id: row.is_ended for row in rows}
        self._seen |= met
        if is_wide:
            # Ended jobs that even a wide look has not met again are forgotten.
            self._seen = {key: ended for key, ended in self._seen.items() if key in met or not ended}
            spent = time.monotonic() - clock
            self._next_wide = time.monotonic() + max(_WIDE_PAUSE, spent * _WIDE_SHARE)

    def _list_moments(self, changed: Iterable[ChangedJob], jobs: dict[str, Job]) -> list[_Moment]:
        """Return when jobs started and ended, as far as that has not been seen, in the order of time."""
        moments: list[_Moment] = []
        latest = None
        for number, row in enumerate(changed):
            job = jobs.get(row.id)
            if job is None:
                continue
            begin = job.start_time
            if row.id not in self._seen:
                # Arrivals come in their order, whatever the clocks of the writers say.
                latest = begin = begin if latest is None else max(begin, latest)
                moments.append(_Moment(begin, False, number, job))
            if row.is_ended and job.end_time is not None:
                moments.append(_Moment(max(job.end_time, begin), True, number, job))
        return sorted(moments, key=lambda moment: moment[:3])

    async def _find_heartbeats(self, changed: dict[str, Execution]) -> list[Event]:
        known = [execution_id for execution_id in self._beats if execution_id not in changed]
        beats = await get_heartbeats(self._backend, known) if known else {}
        beating = sorted(key for key, beat in beats.items() if beat != self._beats[key])
        loaded = await load_all(self._backend, Execution, beating)
        self._beats.update(beats)
        for execution in changed.values():
            if execution.job is not None and execution.job.end_time is None:
                self._beats[execution.id] = execution.updated_time
            else:
                self._beats.pop(execution.id, None)
        return [
            Event("execution", "heartbeat", key, key, make_execution(execution).model_dump(mode="json"))
            for key, execution in sorted(loaded.items())
        ]


def _make_events(job: Job, shown: schemas.Job, executions: dict[str, Execution], ended: bool) -> list[Event]:
    """Return what the start or the end of a job amounts to: its execution's too, if it is at the root."""
    change = "ended" if ended else "started"
    events = [Event("job", change, job.id, job.execution_id, _show(shown, ended))]
    execution = executions.get(job.execution_id)
    if execution is not None and execution.job_id == job.id:
        content = _show(make_execution(execution), ended)
        event = Event("execution", change, execution.id, execution.id, content)
        events.insert(len(events) if ended else 0, event)
    return events


def _show(record: Any, ended: bool) -> dict[str, Any]:
    content: dict[str, Any] = record.model_dump(mode="json")
    if not ended:
        # It may have ended meanwhile: that is told by the next change.
        content.update(status="RUNNING", end_time=None, duration=None)
        if "call_hash" in content:
            content.update(call_hash=None, cached=False)
    return content
