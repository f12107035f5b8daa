"""Many small reads that come at the same time become one."""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from aredun.loop.pacing import ANSWER_SECONDS, take_turn
from aredun.storage.grouping import GroupDelay
from aredun.storage.retry import halve, is_passing, split_at_fault

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

K = TypeVar("K")
V = TypeVar("V")

# Keys that one statement asks for at most.
MAX_KEYS = 500
# Seconds: an answer that takes so long is worth waiting for more questions, for as long again at most. The
# check for whole calls reads all calls of a task; in an execution of 100,000 that took a third of the time.
SLOW_ANSWER: Final = 0.01
LONGEST_WAIT: Final = 0.1
# The wait is in so many parts: it ends with one in which nobody has asked.
WAIT_PARTS: Final = 4


class Coalescer(Generic[K, V]):
    """Answers questions in groups: those asked in one turn of the loop, or while a group is under way.

    Parameters
    ----------
    fetch : callable
        Takes distinct keys, returns the answers of those that have one.
    parallel : int
        Groups that may be under way at the same time.
    """

    def __init__(
        self, fetch: Callable[[Sequence[K]], Awaitable[Mapping[K, V]]], *, parallel: int = 2
    ) -> None:
        self._fetch = fetch
        self._parallel = parallel
        self._asked: dict[K, list[asyncio.Future[V | None]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._scheduled = False
        self._delay = GroupDelay()
        self._took = 0.0

    async def get(self, key: K) -> V | None:
        """Return the answer for one key, None where there is none."""
        loop = asyncio.get_running_loop()
        # A future of each caller's own: one that is cancelled does not take the answer away from others.
        future: asyncio.Future[V | None] = loop.create_future()
        asked = self._asked.get(key)
        if asked is not None:
            asked.append(future)
        else:
            self._asked[key] = [future]
            if not self._scheduled and len(self._tasks) < self._parallel:
                self._scheduled = True
                loop.call_soon(self._start)
        return await future

    def _start(self) -> None:
        task = asyncio.create_task(self._answer(), name="aredun-reads")
        self._tasks.add(task)
        task.add_done_callback(self._finish)

    def _finish(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if self._asked and not self._scheduled:
            self._scheduled = True
            self._start()

    async def _answer(self) -> None:
        try:
            await self._delay.wait(self._asked)
            if self._took >= SLOW_ANSWER:
                await self._wait_for_more()
        finally:
            # Not earlier: a second group would gather beside this one and be left without keys.
            self._scheduled = False
        asked, self._asked = self._asked, {}
        keys = list(asked)
        for index in range(MAX_KEYS, len(keys), MAX_KEYS):
            self._asked.update((key, asked.pop(key)) for key in keys[index : index + MAX_KEYS])
        began = monotonic()
        try:
            answers, refused = await self._fetch_or_split(keys[:MAX_KEYS])
            self._took = monotonic() - began
        except BaseException:
            for future in _pending(asked.values()):
                future.cancel()
            raise
        for key, futures in asked.items():
            error, answer = refused.get(key), answers.get(key)
            for future in futures:
                if not future.done():
                    future.set_result(answer) if error is None else future.set_exception(error)
                    await take_turn(ANSWER_SECONDS)

    async def _wait_for_more(self) -> None:
        """Wait for as long as the last answer took, while questions keep coming; one alone does not wait."""
        wait = min(self._took, LONGEST_WAIT)
        for _ in range(WAIT_PARTS):
            size = len(self._asked)
            if not 1 < size < MAX_KEYS:
                break
            await asyncio.sleep(wait / WAIT_PARTS)
            if len(self._asked) == size:
                break

    async def _fetch_or_split(self, keys: Sequence[K]) -> tuple[Mapping[K, V], dict[K, Exception]]:
        """Fetch the answers of keys; if one of them is at fault, find it and let it fail alone."""
        answers: dict[K, V] = {}
        refused: dict[K, Exception] = {}

        async def attempt(part: Sequence[K]) -> Sequence[Sequence[K]]:
            try:
                answers.update(await self._fetch(part))
            except Exception as error:
                cause = error.__cause__
                if len(part) > 1 and not is_passing(cause if isinstance(cause, Exception) else error):
                    return halve(part)
                refused.update(dict.fromkeys(part, error))
            return ()

        await split_at_fault(keys, attempt)
        return answers, refused

    async def close(self) -> None:
        """Wait for the groups under way."""
        while self._tasks:
            await asyncio.wait(self._tasks)


def _pending(groups: Iterable[list[asyncio.Future[V]]]) -> list[asyncio.Future[V]]:
    return [future for group in groups for future in group if not future.done()]
