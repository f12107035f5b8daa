"""How often a function is tried, how long one waits between two tries, and how long a try may take."""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aredun.values.task_options import MAX_RETRY_DELAY

if TYPE_CHECKING:
    from collections.abc import Mapping

DEFAULT_RETRY_DELAY = 1.0
# Enough doublings for any delay to become the longest; after a thousand a float overflows.
_MAX_DOUBLINGS = 60


@dataclass(frozen=True)
class RetryPolicy:
    """When the function of a job is tried again.

    Attributes
    ----------
    retries : int
        How many more tries there are after the first one.
    delay : float
        Seconds before the second try, at most.
    errors : tuple[type[Exception], ...]
        The errors that are worth another try.
    timeout : float | None
        Seconds that each try may take; None for no bound.
    """

    retries: int
    delay: float
    errors: tuple[type[Exception], ...]
    timeout: float | None

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> RetryPolicy:
        """Read the options of a job, which are checked already.

        Parameters
        ----------
        options : Mapping[str, Any]
            Evaluated options.
        """
        errors = options.get("retry_on", Exception)
        return cls(
            retries=int(options.get("retries", 0)),
            delay=float(options.get("retry_delay", DEFAULT_RETRY_DELAY)),
            errors=tuple(errors) if isinstance(errors, list | tuple) else (errors,),
            timeout=options.get("timeout"),
        )

    def allows_retry(self, attempts: int, error: Exception) -> bool:
        """Tell whether there is another try.

        Parameters
        ----------
        attempts : int
            How many tries have been made.
        error : Exception
            What the last one failed with.
        """
        return attempts <= self.retries and isinstance(error, self.errors)

    def draw_delay(self, attempts: int) -> float:
        """Return how many seconds to wait: up to `delay`, doubled with each try, so that jobs do not meet.

        Parameters
        ----------
        attempts : int
            How many tries have been made.
        """
        longest = min(self.delay * 2.0 ** min(attempts - 1, _MAX_DOUBLINGS), MAX_RETRY_DELAY)
        return random.uniform(0, longest)


class TimeLimit:
    """Cancels its block when the time is up, and raises `TimeoutError`, which says so.

    Parameters
    ----------
    task_name : str
        Whose function is called in the block.
    seconds : float | None
        How long it may take; None for no bound.
    """

    def __init__(self, task_name: str, seconds: float | None) -> None:
        self._task_name = task_name
        self._seconds = seconds
        self._loop = asyncio.get_running_loop()
        self._deadline = asyncio.timeout(None)

    async def __aenter__(self) -> TimeLimit:
        await self._deadline.__aenter__()
        return self

    async def __aexit__(self, *raised: Any) -> None:
        try:
            await self._deadline.__aexit__(*raised)
        except TimeoutError:
            late = TimeoutError(
                f"task {self._task_name} did not end within its timeout of {self._seconds:g} s"
            )
            # The traceback shows where the function was cancelled.
            raise late.with_traceback(raised[2]) from None

    def begin(self) -> None:
        """Count the time from now on; called from any thread when the function begins."""
        if self._seconds is not None:
            # The loop may be closed by now.
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._start, self._loop.time() + self._seconds)

    def _start(self, end: float) -> None:
        # The deadline is over once its waiter was cancelled, and then refuses to be moved.
        with suppress(RuntimeError):
            self._deadline.reschedule(end)
