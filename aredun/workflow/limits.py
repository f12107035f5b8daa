"""Named limits that jobs share (`limits` of a task), and what can never go on: found before a job waits.

What a job waits for may wait for the job in turn: for its result, or for a limit that it holds.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from typing import TYPE_CHECKING, NamedTuple

from aredun.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from aredun.workflow.jobs import Job

DEFAULT_LIMIT = 1
_SHOWN_ENDS = 4


class LimitPool:
    """Named resources that jobs hold while their function runs (as the limits of redun's scheduler).

    Parameters
    ----------
    limits : Mapping[str, int]
        How much there is of each resource; one that is not named has 1, as in redun.
    """

    def __init__(self, limits: Mapping[str, int] | None = None) -> None:
        self._limits = dict(limits or {})
        self._used = Counter[str]()
        self._waiting: deque[tuple[Job, Mapping[str, int], asyncio.Future[None]]] = deque()

    async def take(self, job: Job, wanted: Mapping[str, int]) -> None:
        """Take resources until `give_back`; waits until there are enough, first come first served.

        Parameters
        ----------
        job : Job
            Who holds them.
        wanted : Mapping[str, int]
            Count of each resource.

        Raises
        ------
        UsageError
            More is wanted than there will ever be, or than there can be before the job ends.
        """
        for name, count in wanted.items():
            if count > self._get_limit(name):
                raise UsageError(
                    f"a task needs {count} of the limit {name!r}, which is {self._get_limit(name)}: "
                    f"raise it with {name} = {count} in section [limits] of redun.ini"
                )
        if self._fits(wanted):
            self._used.update(wanted)
        else:
            check_limits(job, wanted, self)
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append((job, wanted, turn))
            try:
                await turn
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():
                    self._release(wanted)
                raise
        job.held_limits = wanted

    def give_back(self, job: Job) -> None:
        """Give back the resources that a job took."""
        wanted, job.held_limits = job.held_limits, {}
        self._release(wanted)

    def _get_limit(self, name: str) -> int:
        return self._limits.get(name, DEFAULT_LIMIT)

    def _fits(self, wanted: Mapping[str, int]) -> bool:
        return all(self._used[name] + count <= self._get_limit(name) for name, count in wanted.items())

    def find_lack(self, wanted: Mapping[str, int], held: Mapping[str, int]) -> str | None:
        """Return the limit of which there is not enough as long as some jobs hold what they hold."""
        for name, count in wanted.items():
            if held.get(name) and held[name] + count > self._get_limit(name):
                return name
        return None

    def find_blocked(self, holders: Collection[Job]) -> list[tuple[Job, str]]:
        """Return the jobs that wait for what some jobs hold, each with a limit that these have to release."""
        held = sum_held(holders)
        waiting = self._waiting if held else ()
        lacks = ((job, self.find_lack(wanted, held)) for job, wanted, _ in waiting)
        return [(job, name) for job, name in lacks if name is not None]

    def _release(self, wanted: Mapping[str, int]) -> None:
        self._used.subtract(wanted)
        still_waiting: deque[tuple[Job, Mapping[str, int], asyncio.Future[None]]] = deque()
        for waiter in self._waiting:
            _, needed, turn = waiter
            if turn.done():
                continue
            if self._fits(needed):
                self._used.update(needed)
                turn.set_result(None)
            else:
                still_waiting.append(waiter)
        self._waiting = still_waiting


class Obstacle(NamedTuple):
    """Why a job cannot end before another one does: it waits for its result, or for a limit that it holds."""

    awaited: Job | None
    limit: str | None = None


Dependents = dict["Job", Obstacle]


def find_dependents(job: Job, limits: LimitPool) -> Dependents:
    """Find the jobs that wait for a job, directly or not, itself included.

    Parameters
    ----------
    job : Job
        Its parents wait for it, equal jobs wait for its result, and jobs wait for the limits that these hold.
    limits : LimitPool
        Who holds and who waits for limits.
    """
    dependents: Dependents = {}
    found = [(job, Obstacle(None))]
    while found:
        while found:
            waiting, reason = found.pop()
            if waiting not in dependents:
                dependents[waiting] = reason
                above = [waiting.parent_job] if waiting.parent_job else []
                found += [(other, Obstacle(waiting)) for other in (*above, *waiting.followers)]
        blocked = limits.find_blocked(dependents)
        found = [
            (other, Obstacle(_find_holder(dependents, name), name))
            for other, name in blocked
            if other not in dependents
        ]
    return dependents


def check_result(job: Job, leader: Job, limits: LimitPool) -> None:
    """Refuse to let a job wait for the result of an equal one that waits for the job in turn.

    Raises
    ------
    RecursionError
        They would wait for ever, since tasks call each other.
    UsageError
        They would, since one holds a limit that another one needs.
    """
    dependents = find_dependents(job, limits)
    if leader not in dependents:
        return
    chain = _get_chain(dependents, leader)
    for waiting in chain:
        awaited, name = dependents[waiting]
        if awaited is not None and name is not None:
            needed = awaited.held_limits[name] + waiting.get_limits()[name]
            raise _make_limit_error(waiting, awaited, name, needed, chain)
    raise RecursionError(
        f"{job.task.fullname} calls itself with equal arguments, so it never ends: {_show(chain)}"
    )


def check_limits(job: Job, wanted: Mapping[str, int], limits: LimitPool) -> None:
    """Refuse to let a job wait for limits that are held by jobs that wait for it in turn.

    Raises
    ------
    UsageError
        It would wait for ever.
    """
    dependents = find_dependents(job, limits)
    held = sum_held(dependents)
    name = limits.find_lack(wanted, held)
    if name is not None:
        holder = _find_holder(dependents, name)
        chain = _get_chain(dependents, holder)
        raise _make_limit_error(job, holder, name, held[name] + wanted[name], chain)


def _make_limit_error(job: Job, holder: Job, name: str, needed: int, chain: list[Job]) -> UsageError:
    return UsageError(
        f"task {job.task.fullname} needs limit {name!r}, which {holder.task.fullname} holds while it waits: "
        f"{_show(chain)}; give {name} = {needed} in section [limits] of redun.ini, or take the limit off one "
        f"of the tasks"
    )


def _find_holder(jobs: Iterable[Job], name: str) -> Job:
    return next(job for job in jobs if job.held_limits.get(name))


def sum_held(jobs: Iterable[Job]) -> Counter[str]:
    """Return how much of each limit some jobs hold."""
    held = Counter[str]()
    for job in jobs:
        held.update(job.held_limits)
    return held


def _get_chain(dependents: Dependents, first: Job) -> list[Job]:
    """Return the jobs from one that waits to the one that all wait for."""
    chain = []
    job: Job | None = first
    while job is not None:
        chain.append(job)
        job = dependents[job].awaited
    return chain


def _show(chain: list[Job]) -> str:
    names = [job.task.fullname for job in chain]
    if len(names) > 2 * _SHOWN_ENDS:
        names[_SHOWN_ENDS:-_SHOWN_ENDS] = [f"({len(names) - 2 * _SHOWN_ENDS} more)"]
    return " -> ".join(names)
