"""Which jobs begin: one that has not is a small object, one that has is a task of the loop."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from aredun.loop.pacing import ANSWER_SECONDS, take_turn

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from aredun.workflow.jobs import Job

# Jobs that may look for a cached result, or wait for a slot, at a time.
MAX_ARRIVING: Final = 1000
# Places that are given away together: the questions of many jobs to the caches are then one read.
LEAST_ROOM: Final = MAX_ARRIVING // 2


@dataclass(slots=True)
class StartQueue:
    """Lets the jobs that wait for the same places begin in their order, a bounded number of them at once.

    A job leaves when its function begins, or before it waits for another job or for a limit: what is in the
    queue waits for nothing that has still to enter it.

    Attributes
    ----------
    begin : Callable[[Job], bool]
        Makes a job begin; False if it has ended before.
    spawn : Callable[[Coroutine[Any, Any, None]], object]
        Runs a coroutine as a part of the execution.
    """

    begin: Callable[[Job], bool]
    spawn: Callable[[Coroutine[Any, Any, None]], object]
    _room: int = field(init=False, default_factory=lambda: MAX_ARRIVING)
    _waiting: deque[Job] = field(init=False, default_factory=deque)
    _is_filling: bool = field(init=False, default=False)

    def enter(self, job: Job) -> None:
        """Let a job begin as soon as there is room; those that came earlier are before it."""
        self._waiting.append(job)
        if len(self._waiting) == 1 and self._room and not self._is_filling:
            self._admit()

    def leave(self) -> None:
        """Give the room of a job that had begun to the next one."""
        self._room += 1
        if self._waiting and self._room >= LEAST_ROOM and not self._is_filling:
            self._is_filling = True
            self.spawn(self._fill())

    async def _fill(self) -> None:
        while self._room and self._waiting:
            self._admit()
            await take_turn(ANSWER_SECONDS)
        self._is_filling = False

    def _admit(self) -> None:
        job = self._waiting.popleft()
        # It is taken before the job begins, as it may leave at once.
        self._room -= 1
        job.give_room = self.leave
        if not self.begin(job):
            job.give_room = None
            self._room += 1
