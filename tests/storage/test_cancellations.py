"""However callers are cancelled, nothing is left behind: no connection, no half write, nothing on stderr."""

from __future__ import annotations

import asyncio
import gc
import logging
import random
from typing import TYPE_CHECKING, Any

import pytest

from aredun.backend import RedunBackendDb
from aredun.tables.column_types import TagEntity
from tests.support.recording import count_rows
from tests.support.sessions import until_connections_return

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def complaints(caplog: pytest.LogCaptureFixture) -> Iterator[list[str]]:
    """What asyncio would print about tasks and futures that nobody asks for any more."""
    found: list[str] = []
    caplog.set_level(logging.WARNING, logger="asyncio")
    yield found
    gc.collect()
    found += [record.getMessage() for record in caplog.records if record.name == "asyncio"]
    assert found == []


def _listen(complaints: list[str]) -> None:
    asyncio.get_running_loop().set_exception_handler(
        lambda loop, context: complaints.append(f"{context['message']} {context.get('exception')!r}")
    )


async def test_a_batch_that_is_cancelled_twice(
    backend: RedunBackendDb, database_url: str, complaints: list[str]
) -> None:
    _listen(complaints)

    async def write(number: int) -> None:
        async with backend.batch():
            await backend.record_tags(TagEntity.Job, f"job {number}", [("a", 1)], update=True)
            await asyncio.sleep(60)

    for steps in range(0, 40, 4):
        task = asyncio.create_task(write(steps))
        await asyncio.sleep(0.01)
        task.cancel()
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
    assert await backend.record_value("after")
    assert count_rows(database_url, "tag") == 0
    gc.collect()
    await asyncio.sleep(0)
    assert complaints == []


async def test_a_storm_of_cancellations(
    backend: RedunBackendDb, database_url: str, complaints: list[str]
) -> None:
    _listen(complaints)
    chance = random.Random(7)
    known = await backend.record_value("known")

    async def read(number: int) -> Any:
        return await backend.get_value(known)

    async def write(number: int) -> Any:
        return await backend.record_value(["storm", number])

    async def tag(number: int) -> Any:
        return await backend.record_tags(TagEntity.Job, f"job {number % 5}", [("a", number)], update=True)

    async def ask(number: int) -> Any:
        return await backend.get_tags([f"job {number % 5}"])

    async def batch(number: int) -> Any:
        async with backend.batch():
            await backend.record_value(["batch", number])
            await backend.delete_tags(f"job {number % 5}", [], ["a"])

    for round_number in range(4):
        calls = [chance.choice((read, write, tag, ask, batch)) for _ in range(60)]
        tasks = [asyncio.create_task(call(60 * round_number + n)) for n, call in enumerate(calls)]
        while pending := [task for task in tasks if not task.done()]:
            for task in chance.sample(pending, min(3, len(pending))):
                task.cancel()
            await asyncio.sleep(chance.choice((0, 0, 0.001)))
    assert await backend.get_value(known) == ("known", True)
    assert await backend.record_value("after")
    await until_connections_return(backend.database)
    gc.collect()
    await asyncio.sleep(0)
    assert complaints == []


async def test_a_close_that_is_cancelled_ends_and_is_joined(database_url: str, complaints: list[str]) -> None:
    _listen(complaints)
    backend = RedunBackendDb(database_url)
    await backend.load()
    writing = [asyncio.create_task(backend.record_value(number)) for number in range(20)]
    await asyncio.sleep(0)
    database = backend.database
    closing = [asyncio.create_task(backend.close()) for _ in range(2)]
    await asyncio.sleep(0)
    closing[0].cancel()
    await asyncio.sleep(0)
    closing[0].cancel()
    await asyncio.wait(closing)
    assert closing[0].cancelled()
    assert closing[1].exception() is None
    assert database.checked_out == 0
    assert database.engine.sync_engine.pool.checkedin() == 0  # type: ignore[attr-defined]  # QueuePool's
    await asyncio.gather(*writing)
    assert count_rows(database_url, "value") == 20


def test_a_loop_that_ends_while_closing(database_url: str, capfd: pytest.CaptureFixture[str]) -> None:
    async def work() -> None:
        backend = RedunBackendDb(database_url)
        await backend.load()
        await backend.record_value("kept")
        task = asyncio.create_task(backend.close())
        await asyncio.sleep(0)
        task.cancel()

    asyncio.run(work())
    gc.collect()
    assert count_rows(database_url, "value") == 1
    assert capfd.readouterr().err == ""
