"""How many functions run at once: each holds a slot, and lends it while it waits for others."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio


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
        # A coroutine that the function left running needs no slot to await other jobs.
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
