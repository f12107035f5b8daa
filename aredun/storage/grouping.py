"""How long a group of callers waits for more of them, before it goes to the database as one."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sized

# Turns of the loop that a group waits for more members at most; turns without a new one that end the wait.
MOST_TURNS: Final = 50
QUIET_TURNS: Final = 2
# After so many groups of one in a row the next one does not wait.
TIMES_ALONE: Final = 10


class GroupDelay:
    """The delay of a group commit: who was answered in turns of the loop comes back in turns.

    Callers that are split once stay apart, and then each of their groups costs what one of all would.
    """

    __slots__ = ("_times_alone",)

    def __init__(self) -> None:
        self._times_alone = 0

    async def wait(self, queue: Sized) -> None:
        """Wait for as long as turns of the loop bring more; a lone caller is not kept waiting."""
        if self._times_alone < TIMES_ALONE:
            quiet = 0
            for _ in range(MOST_TURNS):
                size = len(queue)
                await asyncio.sleep(0)
                quiet = quiet + 1 if len(queue) == size else 0
                if quiet == QUIET_TURNS:
                    break
        self._times_alone = self._times_alone + 1 if len(queue) == 1 else 0
