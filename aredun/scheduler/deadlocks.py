"""What can never go on: found before a job waits, from what waits for the job in turn."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from aredun.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from aredun.scheduler.jobs import Job
    from aredun.scheduler.limits import LimitPool

_SHOWN_ENDS = 4

# Jobs that cannot end before another one does, each with the one that it waits for.
Dependents = dict["Job", "Job | None"]


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
    found: list[tuple[Job, Job | None]] = [(job, None)]
    while found:
        while found:
            waiting, awaited = found.pop()
            if waiting not in dependents:
                dependents[waiting] = awaited
                above = [waiting.parent_job] if waiting.parent_job else []
                found += [(other, waiting) for other in (*above, *waiting.followers)]
        found = [pair for pair in limits.find_blocked(dependents) if pair[0] not in dependents]
    return dependents


def check_recursion(job: Job, leader: Job, limits: LimitPool) -> None:
    """Refuse to let a job wait for the result of an equal one that waits for the job in turn.

    Raises
    ------
    RecursionError
        They would wait for ever.
    """
    dependents = find_dependents(job, limits)
    if leader in dependents:
        raise RecursionError(
            f"{job.task.fullname} calls itself with equal arguments, so it never ends: "
            f"{_show_chain(dependents, leader)}"
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
    if name is None:
        return
    holder = next(other for other in dependents if other.held_limits.get(name))
    raise UsageError(
        f"task {job.task.fullname} needs limit {name!r}, which {holder.task.fullname} holds while it waits: "
        f"{_show_chain(dependents, holder)}; "
        f"give {name} = {held[name] + wanted[name]} in section [limits] of redun.ini, or take the limit off "
        f"one of the tasks"
    )


def sum_held(jobs: Iterable[Job]) -> Counter[str]:
    """Return how much of each limit some jobs hold."""
    held = Counter[str]()
    for job in jobs:
        held.update(job.held_limits)
    return held


def _show_chain(dependents: Dependents, first: Job) -> str:
    names: list[str] = []
    job: Job | None = first
    while job is not None:
        if names[-1:] != [job.task.fullname]:
            names.append(job.task.fullname)
        job = dependents[job]
    if len(names) == 1:
        names *= 2
    if len(names) > 2 * _SHOWN_ENDS:
        names[_SHOWN_ENDS:-_SHOWN_ENDS] = [f"({len(names) - 2 * _SHOWN_ENDS} more)"]
    return " -> ".join(names)
