"""Timeouts: what is cancelled when the time is up, what is left alone, and what does not count."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from aredun import RedunBackendDb, Scheduler, task
from aredun.models import CallEdge
from tests.support.scheduling import calls, get_statuses, select
from tests.support.verification import verify

redun_namespace = "timeouts"


async def test_async_function_is_cancelled_when_its_time_is_up(
    scheduler: Scheduler, backend: RedunBackendDb
) -> None:
    """With what it awaited, which the next try calls anew; the result is cached as ever."""

    @task(version="1")
    async def fetch() -> str:
        if not calls["cancelled"]:
            try:
                await asyncio.sleep(3600)
            finally:
                calls["cancelled"] += 1
        return "page"

    # However slow the machine is, one of so many tries is in time.
    @task(version="1", timeout=0.2, retries=50, retry_delay=0)
    async def slow() -> Any:
        calls["slow"] += 1
        return await fetch()

    assert await scheduler.run(slow()) == "page"
    tries = calls["slow"]
    assert tries > 1
    assert await scheduler.run(slow()) == "page"
    assert calls == {"slow": tries, "cancelled": 1}
    statuses = await get_statuses(backend)
    assert statuses["slow"] == ["CACHED", "DONE"]
    assert statuses["fetch"][:2] == ["DONE", "FAILED"]
    # The try that was cut short is no part of the call.
    assert len(await select(backend, CallEdge.child_id)) == 1
    assert (await verify(backend)).problems == []


async def test_error_of_time_that_is_up(scheduler: Scheduler, backend: RedunBackendDb) -> None:
    """It names the task and the time, shows where the function was, and is the function's own otherwise."""

    @task(timeout=0.01)
    async def slow() -> None:
        await asyncio.sleep(3600)

    @task(timeout=30)
    async def impatient() -> None:
        async with asyncio.timeout(0):
            await asyncio.sleep(3600)

    with pytest.raises(
        TimeoutError, match=r"^task timeouts\.slow did not end within its timeout of 0\.01 s\n"
    ):
        await scheduler.run(slow())
    assert scheduler.traceback is not None
    assert "await asyncio.sleep(3600)" in "".join(scheduler.traceback.format())
    with pytest.raises(TimeoutError, match=r"^\nin task timeouts\.impatient"):
        await scheduler.run(impatient())


async def test_function_in_a_thread_is_left_alone_when_its_time_is_up(
    scheduler: Scheduler, backend: RedunBackendDb
) -> None:
    """The next try begins beside it, and what it returns later is nobody's."""
    released, ended = threading.Event(), threading.Event()

    # However slow the machine is, one of so many tries is in time.
    @task(timeout=0.1, retries=50, retry_delay=0)
    def slow() -> str:
        calls["slow"] += 1
        if calls["slow"] > 1:
            return "second"
        released.wait(30)
        ended.set()
        return "first"

    assert await scheduler.run(slow()) == "second"
    tries = calls["slow"]
    assert not ended.is_set()
    released.set()
    assert await asyncio.to_thread(ended.wait, 30)
    assert await scheduler.run(slow()) == "second"
    assert calls["slow"] == tries


async def test_time_in_the_queue_of_threads_does_not_count(backend: RedunBackendDb) -> None:
    released = threading.Event()

    @task()
    def holder() -> None:
        calls["holder"] += 1
        released.wait(30)

    @task(timeout=0.3)
    def queued() -> int:
        return 1

    @task()
    async def release() -> None:
        await asyncio.sleep(0.5)
        released.set()

    async with Scheduler(backend, max_workers=1) as scheduler:
        assert await scheduler.run([holder(), queued(), release()]) == [None, 1, None]
