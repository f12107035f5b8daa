"""Texts of users' values for titles and tracebacks, which no run waits for."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from aredun.formats.describe import describe, describe_class
from aredun.values.expressions import TaskExpression
from aredun.workflow.sizes import is_light

if TYPE_CHECKING:
    from collections.abc import Sequence

# What takes longer is shown by its class.
MAX_SECONDS = 0.5
# So many threads ask at a time. When so many are stuck in somebody's `repr`, nobody is asked any more.
MAX_ASKING = 4

_turns = threading.Semaphore(MAX_ASKING)
_stuck: set[threading.Thread] = set()


async def describe_values(values: Sequence[Any], max_length: int) -> list[str]:
    """Return the texts of values, each cut to a length.

    Those that may ask a user's class are made in a thread of their own, which is left alone when it takes too
    long.

    Parameters
    ----------
    values : Sequence[Any]
        Any values.
    max_length : int
        Characters of each.
    """
    if all(map(is_light, values)):
        return [describe(value, max_length) for value in values]
    # Copied in one step: other loops may add to it.
    _stuck.difference_update([thread for thread in list(_stuck) if not thread.is_alive()])
    texts: list[str] = []
    if len(_stuck) < MAX_ASKING:
        await _describe_aside(values, max_length, texts)
    done = texts[: len(values)]
    return done + [_name(value) for value in values[len(done) :]]


async def _describe_aside(values: Sequence[Any], max_length: int, texts: list[str]) -> None:
    loop = asyncio.get_running_loop()
    done = asyncio.Event()

    def work() -> None:
        if _turns.acquire(timeout=MAX_SECONDS):
            # A repr may raise what is no Exception too.
            with suppress(BaseException):
                for value in values:
                    texts.append(describe(value, max_length))  # noqa: PERF401 - what is done is there at once
            _turns.release()
        # The loop may be closed by now.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(done.set)

    thread = threading.Thread(target=work, name="aredun-repr", daemon=True)
    thread.start()
    try:
        with suppress(TimeoutError):
            await asyncio.wait_for(done.wait(), MAX_SECONDS)
    finally:
        if not done.is_set():
            _stuck.add(thread)


def _name(value: Any) -> str:
    return f"{value.task_name}(...)" if isinstance(value, TaskExpression) else describe_class(value)
