"""What running jobs share: named limits (`limits` of a task) and slots for running functions."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

from aredun.errors import UsageError
from aredun.workflow.deadlocks import check_limits, sum_held

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from aredun.workflow.jobs import Job

DEFAULT_LIMIT = 1


class LimitPool:
    """Named resources that jobs hold while their function runs (mirrors redun's scheduler limits).

    Parameters
    ----------
    limits : Mapping[str, int]
        How much there is of each resource; one that is not named has 1, as in redun.
    """

    def __init__(self, limits: Mapping[str, int] | None = None) -> None:
        self._limits = dict(limits or {})
        self._used: dict[str, int] = {}
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
        if wanted:
            await self._acquire(job, wanted)
        job.held_limits = wanted

    def give_back(self, job: Job) -> None:
        """Give back the resources that a job took."""
        wanted, job.held_limits = job.held_limits, {}
        self._release(wanted)

    def _get_limit(self, name: str) -> int:
        return self._limits.get(name, DEFAULT_LIMIT)

    def _fits(self, wanted: Mapping[str, int]) -> bool:
        return all(self._used.get(name, 0) + count <= self._get_limit(name) for name, count in wanted.items())

    def _take(self, wanted: Mapping[str, int]) -> None:
        for name, count in wanted.items():
            self._used[name] = self._used.get(name, 0) + count

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

    async def _acquire(self, job: Job, wanted: Mapping[str, int]) -> None:
        if self._fits(wanted):
            self._take(wanted)
            return
        check_limits(job, wanted, self)
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((job, wanted, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._release(wanted)
            raise

    def _release(self, wanted: Mapping[str, int]) -> None:
        for name, count in wanted.items():
            self._used[name] -= count
        still_waiting: deque[tuple[Job, Mapping[str, int], asyncio.Future[None]]] = deque()
        for waiter in self._waiting:
            _, needed, turn = waiter
            if turn.done():
                continue
            if self._fits(needed):
                self._take(needed)
                turn.set_result(None)
            else:
                still_waiting.append(waiter)
        self._waiting = still_waiting


class Slot:
    """The right of one job to run its function once, given back while the function awaits other jobs.

    Without that, parents that wait for their children would hold every slot and nothing could go on.

    Attributes
    ----------
    unanswered_calls : int
        Awaited calls of the function that have not come to a result: unfinished, failed or cancelled.
    """

    def __init__(self, slots: asyncio.Semaphore) -> None:
        self._slots = slots
        self._held = False
        self._is_over = False
        self._waits = 0
        self.unanswered_calls = 0

    async def __aenter__(self) -> Slot:
        await self._slots.acquire()
        self._held = True
        return self

    async def __aexit__(self, *_: object) -> None:
        # What the function left running may go on waiting for other jobs; it takes no slot for it.
        self._is_over = True
        self._give_back()

    def lend(self) -> None:
        """Lend the slot to others until `take_back`, of several calls the last one."""
        self._waits += 1
        self._give_back()

    async def take_back(self) -> None:
        """Take the slot back from others; waits until there is one."""
        self._waits -= 1
        if self._waits == 0 and not self._is_over:
            await self._slots.acquire()
            # Meanwhile the function may have ended, or begun to wait for another job.
            if self._held or self._waits or self._is_over:
                self._slots.release()
            else:
                self._held = True

    def _give_back(self) -> None:
        if self._held:
            self._held = False
            self._slots.release()
