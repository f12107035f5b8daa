"""Live changes: a snapshot, then each change once, from whichever process commits it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from contextlib import AsyncExitStack
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from aredun import task
from aredun.backend import RedunBackendDb
from aredun.server.change_poll import Event
from aredun.storage.watch import open_watch
from tests.support.databases import redun_uri
from tests.support.recording import FakeJob
from tests.support.server import receive, receive_until, serve

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.support.server import Served


@task(name="work", namespace="live")
def work() -> None:
    """Stand for any work."""


TASK: Any = work

REDUN_RUN = """
import sys
from redun import Scheduler, task
from redun.backends.db import RedunBackendDb
redun_namespace = "elsewhere"
@task()
def step(number):
    return number + 1
@task()
def main():
    return [step(number) for number in range(3)]
backend = RedunBackendDb(db_uri=sys.argv[1])
backend.load()
Scheduler(backend=backend).run(main())
"""


@pytest.fixture
async def served(backend: RedunBackendDb) -> AsyncIterator[Served]:
    """A server of an empty repository."""
    async with serve(backend) as served:
        yield served


@pytest.fixture
async def writer(database_url: str) -> AsyncIterator[RedunBackendDb]:
    """Another backend on the same database, as another process would have."""
    async with RedunBackendDb(database_url) as writer:
        yield writer


async def start(writer: Any, job: FakeJob) -> None:
    """Record the start of a job, and of its execution if it is the root."""
    if job.parent_job is None:
        await writer.record_execution(job.execution.id, ["run", "live.py", "work"])
    await writer.record_job_start(job)


def describe(message: dict[str, Any]) -> tuple[str, str, str]:
    """Return what a change is about."""
    record = message[message["type"]]
    return message["type"], message["change"], record["id"]


async def test_changes_come_once_and_in_order(served: Served, writer: RedunBackendDb, dialect: str) -> None:
    """Starts and ends of executions and jobs, soon after they are committed."""
    root = FakeJob(TASK)
    child = FakeJob(TASK, root.execution, root)
    async with served.connect("/ws/executions") as websocket:
        snapshot = await receive(websocket)
        assert (snapshot["type"], snapshot["executions"]) == ("snapshot", [])
        seen = []
        for job, record in [(root, start), (child, start), (child, _end), (root, _end)]:
            await record(writer, job)
            count = 2 if job is root else 1
            seen += [describe(await receive(websocket)) for _ in range(count)]
        assert seen == [
            ("execution", "started", root.execution.id),
            ("job", "started", root.id),
            ("job", "started", child.id),
            ("job", "ended", child.id),
            ("job", "ended", root.id),
            ("execution", "ended", root.execution.id),
        ]
        with pytest.raises(TimeoutError):
            await receive(websocket, 0.8)


async def test_a_watch_looks_at_once(backend: RedunBackendDb) -> None:
    """What was committed before it heard anything is not left for a later one; then it waits."""
    async with open_watch(backend.database) as watch:
        async with asyncio.timeout(20):
            assert await watch.wait(3600)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(watch.wait(3600), 0.3)


async def test_changes_of_aredun_do_not_wait_for_a_poll(
    backend: RedunBackendDb, writer: RedunBackendDb
) -> None:
    """On a database server writers announce them; in a sqlite file a cheap question finds them."""
    async with serve(backend, server_poll_interval=60.0) as served:
        async with served.connect("/ws/executions") as websocket:
            await receive(websocket)
            await start(writer, FakeJob(TASK))
            await receive_until(websocket, "job:started", timeout=20)
            root = FakeJob(TASK)
            await start(writer, root)
            await receive_until(websocket, "job:started", timeout=20)
            await writer.record_job_end(root)
            await receive_until(websocket, "execution:ended", timeout=20)


async def _end(writer: Any, job: FakeJob) -> None:
    await writer.record_job_end(job)


async def test_a_cursor_resumes(served: Served, writer: RedunBackendDb) -> None:
    """A client that comes back gets what it missed; one with a strange cursor starts anew."""
    root = FakeJob(TASK)
    async with served.connect("/ws/executions") as websocket:
        await receive(websocket)
        await start(writer, root)
        cursor = (await receive_until(websocket, "job:started"))[-1]["cursor"]
    await writer.record_job_end(root)
    async with served.connect(f"/ws/executions?after={cursor}") as websocket:
        assert await receive(websocket) == {"type": "resumed", "cursor": cursor}
        changes = await receive_until(websocket, "execution:ended")
        assert [describe(change)[:2] for change in changes] == [("job", "ended"), ("execution", "ended")]
        assert changes[-1]["execution"]["status"] == "DONE"
    async with served.connect("/ws/executions?after=elsewhere:7") as websocket:
        snapshot = await receive(websocket)
        assert [execution["status"] for execution in snapshot["executions"]] == ["DONE"]


@pytest.mark.parametrize("dialect", ["sqlite"], indirect=True)
async def test_who_resumes_while_changes_come_gets_them_in_order(
    served: Served, writer: RedunBackendDb
) -> None:
    """What was missed comes before what is found meanwhile, and nothing comes twice."""
    feed = served.app.state.feed
    async with AsyncExitStack() as stack:
        first, *_ = await stack.enter_async_context(feed.subscribe())
        await start(writer, FakeJob(TASK))
        seen = await first.take()
        async with feed._lock:
            # A look is under way, and finds something after the client has come.
            after = feed.make_cursor(seen.seq)
            coming = asyncio.create_task(stack.enter_async_context(feed.subscribe(None, after)))
            await asyncio.sleep(0)
            feed._publish(Event("job", "started", "job", "execution", {}))
        subscription, *_ = await coming
        assert [(await subscription.take()).seq for _ in range(2)] == [2, 3]
        feed._publish(Event("job", "ended", "job", "execution", {}))
        assert (await subscription.take()).seq == 4


async def test_one_execution(served: Served, writer: RedunBackendDb) -> None:
    """Only the jobs of that execution, beginning with those that are there."""
    mine, other = FakeJob(TASK), FakeJob(TASK)
    await start(writer, mine)
    await start(writer, other)
    async with served.connect(f"/ws/executions/{mine.execution.id[:18]}") as websocket:
        snapshot = await receive(websocket)
        assert snapshot["execution"]["id"] == mine.execution.id
        assert [job["id"] for job in snapshot["jobs"]] == [mine.id]
        child = FakeJob(TASK, mine.execution, mine)
        await writer.record_job_end(other)
        await start(writer, child)
        message = await receive(websocket)
        assert describe(message) == ("job", "started", child.id)
        assert message["job"]["parent_id"] == mine.id
    [error] = await served.receive_all("/ws/executions/nosuch")
    assert error["error"] == "not_found"


async def test_changes_of_redun_in_another_process(served: Served, database_url: str, tmp_path: Path) -> None:
    """redun announces nothing; its changes are seen all the same, each once."""
    script = tmp_path / "elsewhere.py"
    script.write_text(REDUN_RUN)
    async with served.connect("/ws/executions") as websocket:
        await receive(websocket)
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            str(script),
            redun_uri(database_url),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        messages = await receive_until(websocket, "execution:ended", timeout=60)
        assert await process.wait() == 0
        changes = [describe(message) for message in messages if message["change"] != "heartbeat"]
        assert len(changes) == len(set(changes)) == 2 * 4 + 2
        started: set[str] = set()
        for kind, change, record_id in changes:
            assert (change == "started") != (record_id in started), (kind, change)
            started.add(record_id)
        assert messages[-1]["execution"]["task"] == "elsewhere.main"


async def test_subscribers_share_one_feed(served: Served, backend: RedunBackendDb) -> None:
    """Fifty subscribers cost no more statements than one."""

    async def count(subscribers: int) -> int:
        sockets = [await served.connect("/ws/executions") for _ in range(subscribers)]
        for websocket in sockets:
            await receive(websocket)
        await asyncio.sleep(0.3)
        before = backend.database.counts.statements
        # Every look of fifty unshared feeds would show in this time.
        await asyncio.sleep(0.8)
        spent = backend.database.counts.statements - before
        for websocket in sockets:
            await websocket.close()
        return spent

    one, many = await count(1), await count(50)
    assert many <= one + 10
    if backend.database.file is not None:
        # Nothing changes: only the file's change counter is read.
        assert one == many == 0
    assert backend.database.checked_out == 0


async def test_a_subscriber_that_falls_behind_is_told(
    backend: RedunBackendDb, writer: RedunBackendDb
) -> None:
    """It gets an error and may come back; the server does not keep everything for it."""
    async with serve(backend, max_backlog=5) as served:
        async with served.connect("/ws/executions", max_queue=1) as websocket:
            await receive(websocket)
            root = FakeJob(TASK)
            await start(writer, root)
            await receive_until(websocket, "job:started")
            subscription = next(iter(served.app.state.feed._subscriptions))
            for _ in range(10):
                subscription.put(SimpleNamespace(execution_id="x"))
            message = await receive(websocket)
            assert (message["type"], message["error"]) == ("error", "too_slow")
            await websocket.wait_closed()
            assert websocket.close_code == 1013
