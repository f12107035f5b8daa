"""Many callers at once: none of the loop's turns is long, and what they write stays together."""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import time
from collections import Counter
from typing import TYPE_CHECKING

from aredun.loop.pacing import ANSWER_SECONDS, TURN_SECONDS, run_in_turns, take_turn
from aredun.storage import Coalescer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Generator, Sequence

    from aredun.backend import RedunBackendDb

CALLERS = 100


class _Clock:
    """Counts turns of the loop, and who did something in each."""

    def __init__(self) -> None:
        self.turn = 0
        self._woken: list[int] = []

    async def run(self) -> None:
        while True:
            self.turn += 1
            await asyncio.sleep(0)

    def note(self) -> None:
        self._woken.append(self.turn)

    @property
    def count(self) -> int:
        return len(self._woken)

    @property
    def busiest(self) -> int:
        return max(Counter(self._woken).values())


@contextlib.asynccontextmanager
async def _running_clock() -> AsyncIterator[_Clock]:
    clock = _Clock()
    task = asyncio.create_task(clock.run())
    try:
        yield clock
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def test_writers_are_answered_a_few_at_a_time(backend: RedunBackendDb) -> None:
    async with _running_clock() as clock:

        async def write(number: int) -> None:
            await backend.record_value(["turn", number])
            clock.note()

        await asyncio.gather(*map(write, range(CALLERS)))
    # Two turns of answers may meet in one of this clock.
    assert clock.busiest <= 2 * TURN_SECONDS / ANSWER_SECONDS


async def test_readers_are_answered_a_few_at_a_time(backend: RedunBackendDb) -> None:
    hashes = await asyncio.gather(*(backend.record_value(["turn", number]) for number in range(CALLERS)))
    async with _running_clock() as clock:

        async def read(value_hash: str) -> None:
            await backend.get_value(value_hash)
            clock.note()

        await asyncio.gather(*map(read, hashes))
    assert clock.busiest <= 2 * TURN_SECONDS / ANSWER_SECONDS


async def test_callers_who_are_answered_in_turns_write_together(backend: RedunBackendDb) -> None:
    rounds = 20
    before = backend.database.counts.commits

    async def work(caller: int) -> None:
        for number in range(rounds):
            value_hash = await backend.record_value([caller, number])
            assert await backend.get_value(value_hash) == ([caller, number], True)

    await asyncio.gather(*map(work, range(CALLERS)))
    # One group a round; on a busy machine a group may break in two.
    assert backend.database.counts.commits - before <= 2 * rounds


def _take_a_turn() -> None:
    time.sleep(TURN_SECONDS)


async def test_tasks_that_work_in_turns_take_them_one_after_the_other() -> None:
    """However many there are; one that is cancelled while it waits keeps nobody waiting."""
    async with _running_clock() as clock:

        async def work() -> None:
            for _ in range(5):
                _take_a_turn()
                await take_turn()
                clock.note()

        tasks = [asyncio.create_task(work()) for _ in range(10)]
        await asyncio.sleep(0)
        for task in tasks[::3]:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    assert clock.count == 5 * len([task for task in tasks if not task.cancelled()])
    assert clock.busiest == 1


async def test_a_group_of_questions_is_never_empty() -> None:
    groups: list[list[int]] = []

    async def fetch(keys: Sequence[int]) -> dict[int, int]:
        groups.append(list(keys))
        await asyncio.sleep(0.001)
        return {key: -key for key in keys}

    coalescer: Coalescer[int, int] = Coalescer(fetch)

    async def ask(number: int) -> None:
        for _ in range(number % 7):
            await asyncio.sleep(0)
        assert await coalescer.get(number) == -number

    await asyncio.gather(*map(ask, range(200)))
    await coalescer.close()
    assert all(groups)
    assert sorted(number for group in groups for number in group) == list(range(200))


async def test_slow_answers_are_asked_for_by_more_at_a_time() -> None:
    """Questions that keep coming are one group where an answer takes long; one alone is asked at once."""
    groups: list[int] = []

    async def fetch(keys: Sequence[int]) -> dict[int, int]:
        groups.append(len(keys))
        await asyncio.sleep(0.04)
        return dict.fromkeys(keys, 0)

    coalescer: Coalescer[int, int] = Coalescer(fetch)
    await coalescer.get(0)
    questions: list[asyncio.Task[int | None]] = []
    for number in range(1, 81, 2):
        questions += [asyncio.create_task(coalescer.get(each)) for each in (number, number + 1)]
        for _ in range(4):
            await asyncio.sleep(0)
    await asyncio.gather(*questions)
    assert groups == [1, 80]
    alone = asyncio.create_task(coalescer.get(0))
    for _ in range(10):
        await asyncio.sleep(0)
    assert groups == [1, 80, 1]
    await alone


async def test_a_statement_does_not_wait_for_long_work(backend: RedunBackendDb) -> None:
    """The thread of a driver gets the interpreter's lock between two turns of what else the loop does."""
    turns = 0
    read = False

    def work() -> Generator[None, None, None]:
        nonlocal turns
        while not read:
            end = time.monotonic() + TURN_SECONDS / 2
            while time.monotonic() < end:
                pass
            turns += 1
            yield

    working = asyncio.create_task(run_in_turns(work()))
    waits = []
    for _ in range(20):
        before = turns
        assert await backend.has_records(["nothing"]) == []
        waits.append(turns - before)
    read = True
    await working
    # One of five kinds of records after the other is asked for: that is five statements.
    assert statistics.median(waits) < 50
