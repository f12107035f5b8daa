"""What is to be done to its end, however often whoever waits for it is cancelled."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


async def finish(
    work: Awaitable[Any], on_cancel: Callable[[], object] | None = None
) -> asyncio.CancelledError | None:
    """Wait for work to its end: what is known is not lost, and what was begun is not left behind.

    Parameters
    ----------
    work : Awaitable
        What is done, in a task of its own.
    on_cancel : Callable[[], object] | None
        Called when the waiter is cancelled for the first time, to shorten the work.

    Returns
    -------
    asyncio.CancelledError | None
        The waiter's first cancellation meanwhile, for it to raise.

    Raises
    ------
    Exception
        What the work raised.
    """
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:
            if cancelled is None and on_cancel is not None:
                on_cancel()
            cancelled = cancelled or error
    task.result()
    return cancelled
