"""Stages that work side by side, each on another item."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Callable, Coroutine


class Stage(NamedTuple):
    """One stage of the way that items take.

    Attributes
    ----------
    work : callable
        Takes an item and returns what the next stage takes.
    width : int
        Items that may be worked on at a time.
    """

    work: Callable[[Any], Coroutine[Any, Any, Any]]
    width: int = 1


_Queue = asyncio.Queue[Any]

# Follows the last item.
_END: Final = object()


async def run_stages(items: AsyncIterable[Any], *stages: Stage) -> None:
    """Take each item through all stages; they are begun and handed on in order.

    Parameters
    ----------
    items : async iterable
        What the first stage takes.
    stages : Stage
        The stages.

    Raises
    ------
    BaseExceptionGroup
        Making an item or a stage failed; the others were cancelled.
    """
    queues: list[_Queue] = [asyncio.Queue(maxsize=1) for _ in range(len(stages) + 1)]
    async with asyncio.TaskGroup() as group:
        group.create_task(_feed(items, queues[0]))
        for stage, taken, given in zip(stages, queues[:-1], queues[1:], strict=True):
            group.create_task(_run(stage, taken, given, group))
        while await queues[-1].get() is not _END:
            pass


async def _feed(items: AsyncIterable[Any], queue: _Queue) -> None:
    async for item in items:
        await queue.put(item)
    await queue.put(_END)


async def _run(stage: Stage, taken: _Queue, given: _Queue, group: asyncio.TaskGroup) -> None:
    begun: _Queue = asyncio.Queue()
    slots = asyncio.Semaphore(stage.width)
    group.create_task(_hand_on(begun, given, slots))
    while (item := await taken.get()) is not _END:
        await slots.acquire()
        begun.put_nowait(group.create_task(stage.work(item)))
    begun.put_nowait(_END)


async def _hand_on(begun: _Queue, given: _Queue, slots: asyncio.Semaphore) -> None:
    while (task := await begun.get()) is not _END:
        await given.put(await task)
        slots.release()
    await given.put(_END)


class Writes:
    """Writes of one kind of records that are under way.

    Parameters
    ----------
    group : asyncio.TaskGroup
        Runs them.
    slots : asyncio.Semaphore
        Shared with all other work: each write takes one.
    most : int
        How many of these may be under way.
    """

    def __init__(self, group: asyncio.TaskGroup, slots: asyncio.Semaphore, most: int) -> None:
        self._group = group
        self._slots = slots
        self._most = most
        self._tasks: set[asyncio.Task[None]] = set()

    def __bool__(self) -> bool:
        return bool(self._tasks)

    async def wait_for_slot(self) -> None:
        """Wait until one more may begin; `begin` or `leave_slot` must follow."""
        while len(self._tasks) >= self._most:
            await self.wait()
        await self._slots.acquire()

    def leave_slot(self) -> None:
        """Begin nothing after all."""
        self._slots.release()

    def begin(self, write: Coroutine[Any, Any, None]) -> None:
        """Begin the write that a slot was waited for."""
        task = self._group.create_task(write)
        self._tasks.add(task)
        task.add_done_callback(self._end)

    def _end(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._slots.release()

    async def wait(self) -> None:
        """Wait until one of them has ended."""
        await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
