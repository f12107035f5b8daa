"""What can never go on: found before a job waits, from what waits for the job in turn."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from aredun.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from aredun.workflow.jobs import Job
    from aredun.workflow.limits import LimitPool

_SHOWN_ENDS = 4


class Reason(NamedTuple):
    """Why a job cannot end before another one does: it waits for its result, or for a limit that it holds."""

    awaited: Job | None
    limit: str | None = None


Dependents = dict["Job", Reason]


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
    found = [(job, Reason(None))]
    while found:
        while found:
            waiting, reason = found.pop()
            if waiting not in dependents:
                dependents[waiting] = reason
                above = [waiting.parent_job] if waiting.parent_job else []
                found += [(other, Reason(waiting)) for other in (*above, *waiting.followers)]
        blocked = limits.find_blocked(dependents)
        found = [
            (other, Reason(_find_holder(dependents, name), name))
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
