"""Finding the jobs that have changed since the last look, and what is told of them."""

from __future__ import annotations

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


class _Seen(NamedTuple):
    """What is known of a job that was seen: whether it had ended, and in which look it was seen last."""

    ended: bool
    look: int


class _Look(NamedTuple):
    """What a look has found, when it began (time of jobs, monotonic clock), and whether it went far back."""

    rows: list[ChangedJob]
    began: datetime
    clock: float
    is_wide: bool


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
        self._seen: dict[str, _Seen] = {}
        # Executions whose root job is open, and their last heartbeat.
        self._beats: dict[str, datetime | None] = {}
        self._look = 0
        self._next_wide = 0.0
        self._last_look = utcnow()

    async def begin(self) -> None:
        """Take what is there as seen."""
        # By its number; only what is open or recent is known by name.
        self._last_arrival = await get_last_arrival(self._backend)
        look = await self._find_rows()
        self._beats = await get_heartbeats(self._backend, None)
        self._take_as_seen(look)

    async def read(self) -> list[Event]:
        """Return what happened since the last call that did not fail, in the order in which it did."""
        look = await self._find_rows()
        changed = self._find_changed(look)
        jobs = await load_all(self._backend, Job, {job_id for job_id, _, _ in changed})
        roots = {job.execution_id for job in jobs.values() if job.parent_id is None}
        executions = await load_all(self._backend, Execution, roots)
        moments: list[_Moment] = []
        latest = None
        for number, (job_id, started, ended) in enumerate(changed):
            job = jobs.get(job_id)
            if job is None:
                continue
            begin = job.start_time
            if started:
                # Arrivals come in their order, whatever the clocks of the writers say.
                latest = begin = begin if latest is None else max(begin, latest)
                moments.append(_Moment(begin, False, number, job))
            if ended and job.end_time is not None:
                moments.append(_Moment(max(job.end_time, begin), True, number, job))
        moments.sort(key=lambda moment: (moment.time, moment.ended, moment.number))
        calls = [moment.job.call_hash for moment in moments if moment.ended]
        arguments = await get_brief_arguments(self._backend, calls)
        made = []
        for _, ended, _, job in moments:
            shown = make_job(job, arguments.get(job.call_hash or "") if ended else None)
            made += _make_events(job, shown, executions, ended)
        made += await self._find_heartbeats(executions)
        # Not before all is read: what is taken as seen is not told again.
        self._take_as_seen(look)
        return made

    async def _find_rows(self) -> _Look:
        """Look for jobs that may have changed."""
        now, clock = utcnow(), time.monotonic()
        is_wide = clock >= self._next_wide
        since = min(now, self._last_look) - (_WIDE_OVERLAP if is_wide else _OVERLAP)
        known_open = [job_id for job_id, seen in self._seen.items() if not seen.ended]
        rows = await find_changed_jobs(
            self._backend, since, self._last_arrival, known_open, with_open=is_wide
        )
        return _Look(rows, now, clock, is_wide)

    def _find_changed(self, look: _Look) -> list[tuple[str, bool, bool]]:
        """Return which jobs have started or ended, in the order of arrival as far as that is known."""
        changed: list[tuple[str, bool, bool]] = []
        for job_id, is_ended, _ in look.rows:
            seen = self._seen.get(job_id)
            if seen is None:
                changed.append((job_id, True, is_ended))
            elif is_ended and not seen.ended:
                changed.append((job_id, False, True))
        return changed

    def _take_as_seen(self, look: _Look) -> None:
        self._look += 1
        for job_id, is_ended, arrival in look.rows:
            self._last_arrival = max(self._last_arrival, arrival or 0)
            self._seen[job_id] = _Seen(is_ended, self._look)
        self._last_look = look.began
        if look.is_wide:
            self._forget()
            spent = time.monotonic() - look.clock
            self._next_wide = time.monotonic() + max(_WIDE_PAUSE, spent * _WIDE_SHARE)

    def _forget(self) -> None:
        """Forget ended jobs that even a wide look has not met again."""
        gone = [job_id for job_id, seen in self._seen.items() if seen.ended and seen.look != self._look]
        for job_id in gone:
            del self._seen[job_id]

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
