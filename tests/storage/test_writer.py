"""The write queue: one transaction for many, answers after its commit, errors for their caller alone."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa

from aredun.backend import RedunBackendDb
from aredun.errors import RedunDatabaseError
from aredun.models import Job, Tag, Value
from aredun.tables.column_types import TagEntity
from aredun.values import Handle
from tests.support.recording import FakeExecution, FakeJob, align, count_rows, record_call, start
from tests.support.sessions import until_connections_return

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession


async def test_a_hundred_callers_share_transactions(backend: RedunBackendDb, database_url: str) -> None:
    root = await start(backend)
    calls = 1000
    rest = iter(range(calls))

    async def work() -> None:
        for number in rest:
            await record_call(backend, root, number)

    counts = backend.database.counts
    before = (counts.statements, counts.commits)
    async with asyncio.TaskGroup() as group:
        for _ in range(100):
            group.create_task(work())
    assert (counts.statements - before[0]) / calls <= 0.5
    assert (counts.commits - before[1]) / calls <= 0.1
    assert count_rows(database_url, "call_node") == calls
    assert count_rows(database_url, "argument") == 2 * calls
    assert count_rows(database_url, "job") == calls + 1


async def test_the_server_counts_as_few_commits(
    backend: RedunBackendDb, database_url: str, dialect: str
) -> None:
    root = await start(backend)
    count_commits = "SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()"

    async def commits() -> int:
        if dialect == "sqlite":
            return backend.database.counts.commits
        async with backend.session() as session:
            await session.execute(sa.text("SELECT pg_stat_clear_snapshot(), pg_stat_force_next_flush()"))
            return int((await session.execute(sa.text(count_commits))).scalar_one())

    before = await commits()
    async with asyncio.TaskGroup() as group:
        for number in range(100):
            group.create_task(record_call(backend, root, number))
    await asyncio.sleep(0.1)
    # The server's figure includes the reads, which are transactions to it.
    assert await commits() - before <= 30


async def test_a_write_is_durable_when_it_returns(backend: RedunBackendDb, database_url: str) -> None:
    for number in range(20):
        await backend.record_value(number)
        assert count_rows(database_url, "value") == number + 1


async def test_one_bad_write_of_many_fails_alone(backend: RedunBackendDb, database_url: str) -> None:
    root = await start(backend)
    good = [backend.record_value(["good", number]) for number in range(50)]
    orphans = [
        backend.record_job_start(FakeJob(align, FakeExecution("nowhere"), FakeJob(align))) for _ in range(3)
    ]
    more = [backend.record_job_start(FakeJob(align, root.execution, root)) for _ in range(50)]
    results = await asyncio.gather(*good, *orphans, *more, return_exceptions=True)
    assert all(isinstance(result, str) for result in results[:50])
    assert all(isinstance(result, RedunDatabaseError) for result in results[50:53])
    assert all(isinstance(result, Job) for result in results[53:])
    assert count_rows(database_url, "job") == 51


async def test_a_failing_operation_takes_nothing_with_it(backend: RedunBackendDb, database_url: str) -> None:
    async def fail(session: AsyncSession) -> None:
        session.add(Tag(tag_hash="x" * 40, entity_type=TagEntity.Job, entity_id="j", key="k", value=1))
        await session.flush()
        raise ValueError("on purpose")

    async def break_it(session: AsyncSession) -> None:
        await session.execute(sa.text("SELECT nonsense FROM nowhere"))

    results = await asyncio.gather(
        backend.record_value(1),
        backend.database.write(fail),
        backend.database.write(break_it),
        backend.record_tags(TagEntity.Job, "j", [("k", 2)], update=True),
        backend.record_value(2),
        return_exceptions=True,
    )
    assert isinstance(results[1], ValueError)
    assert isinstance(results[2], RedunDatabaseError)
    assert count_rows(database_url, "tag") == 1
    assert count_rows(database_url, "value") == 2


async def test_a_cancelled_writer_leaves_whole_writes(backend: RedunBackendDb, database_url: str) -> None:
    writers = [asyncio.create_task(backend.record_value([number, "x"])) for number in range(40)]
    await asyncio.sleep(0)
    for writer in writers[::2]:
        writer.cancel()
    kept = await asyncio.gather(*writers[1::2])
    for value_hash in kept:
        assert (await backend.get_value(value_hash))[1]
    assert await backend.record_value("next")
    await until_connections_return(backend.database)


async def test_the_same_write_from_everywhere(database_url: str) -> None:
    async with RedunBackendDb(database_url) as first, RedunBackendDb(database_url) as second:
        root = await start(first)

        async def record(backend: RedunBackendDb) -> str:
            await backend.record_job_start(root)
            value_hash = await backend.record_value({"same": [1, 2]})
            await backend.set_eval_cache("e" * 40, align.hash, "a" * 40, {"same": [1, 2]})
            call_hash = await backend.record_call_node(
                align.fullname, align.hash, "a" * 40, ((1,), {}), ((1,), {}), value_hash, [], {align}
            )
            await backend.record_tags(TagEntity.Job, root.id, [("k", "v")])
            return call_hash

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(record(backend)) for backend in (first, second) * 20]
    assert len({task.result() for task in tasks}) == 1
    assert count_rows(database_url, "call_node") == 1
    assert count_rows(database_url, "argument") == 1
    assert count_rows(database_url, "tag") == 1


async def test_a_batch_is_all_or_nothing(backend: RedunBackendDb, database_url: str) -> None:
    commits = backend.database.counts.commits
    async with backend.batch():
        hashes = [await backend.record_value(["batch", number]) for number in range(100)]
        assert count_rows(database_url, "value") == 0
    assert backend.database.counts.commits - commits == 1
    assert count_rows(database_url, "value") == len(hashes)

    async def break_off() -> None:
        async with backend.batch():
            await backend.record_value("lost")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await break_off()
    assert count_rows(database_url, "value") == len(hashes)

    async def be_refused() -> None:
        async with backend.batch():
            await backend.record_value("lost too")
            await backend.set_eval_cache("e" * 40, "no such task", "a" * 40, 1)

    with pytest.raises(RedunDatabaseError):
        await be_refused()
    assert count_rows(database_url, "value") == len(hashes)


async def test_a_batch_with_answers_is_all_or_nothing(backend: RedunBackendDb, database_url: str) -> None:
    await backend.record_tags(TagEntity.Job, "job", [("state", "old")])
    others = [asyncio.create_task(backend.record_value(["other", number])) for number in range(5)]
    commits = backend.database.counts.commits
    async with backend.batch():
        await backend.record_value("before")
        ((_, _, key, value),) = await backend.record_tags(
            TagEntity.Job, "job", [("state", "new")], update=True
        )
        assert (key, value) == ("state", "new")
        await backend.update_tags(TagEntity.Job, "job", ["state"], [("state", "newest")])
        await backend.record_value("after")
        others.append(asyncio.create_task(asyncio.sleep(0, "")))
    await asyncio.gather(*others)
    assert backend.database.counts.commits - commits <= 3
    assert (await backend.get_tags(["job"]))["job"]["state"] == ["newest"]
    assert count_rows(database_url, "value") == 7

    async def break_off() -> None:
        async with backend.batch():
            await backend.record_value("lost")
            await backend.delete_tags("job", [], ["state"])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await break_off()
    assert (await backend.get_tags(["job"]))["job"]["state"] == ["newest"]
    assert count_rows(database_url, "value") == 7
    await until_connections_return(backend.database)


async def test_tasks_of_a_batch_belong_to_it(backend: RedunBackendDb, database_url: str) -> None:
    with contextlib.suppress(ZeroDivisionError):
        async with backend.batch():
            async with asyncio.TaskGroup() as group:
                for number in range(5):
                    group.create_task(backend.record_value(number))
            async with backend.batch():
                await backend.record_value("inner")
            raise ZeroDivisionError
    assert count_rows(database_url, "value") == 0


async def test_a_cancelled_batch_leaves_nothing(backend: RedunBackendDb, database_url: str) -> None:
    inside = asyncio.Event()

    async def work() -> None:
        async with backend.batch():
            await backend.record_value("lost")
            await backend.record_tags(TagEntity.Job, "job", [("a", 1)], update=True)
            inside.set()
            await asyncio.sleep(60)

    task = asyncio.create_task(work())
    await inside.wait()
    waiting = asyncio.create_task(backend.record_value("kept"))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await waiting
    assert count_rows(database_url, "tag") == 0
    assert count_rows(database_url, "value") == 1


async def test_a_batch_that_is_cancelled_anywhere_leaves_nothing(
    backend: RedunBackendDb, database_url: str
) -> None:
    for steps in range(0, 60, 2):

        async def work(number: int) -> None:
            async with backend.batch():
                await backend.record_value(["lost", number])
                await backend.record_tags(TagEntity.Job, f"job {number}", [("a", 1)], update=True)
                await backend.record_tags(TagEntity.Job, f"job {number}", [("a", 2)], update=True)

        task = asyncio.create_task(work(steps))
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        # Whatever it was interrupted in, the next one finds a connection that works.
        await asyncio.wait_for(backend.record_value(["kept", steps]), 10)
        await until_connections_return(backend.database)
    tags = await backend.get_tags([f"job {steps}" for steps in range(60)])
    assert all(dict(found.items()) == {"a": 2} for found in tags.values())
    assert count_rows(database_url, "tag") == 2 * len(tags)


async def test_an_inner_batch_fails_alone(backend: RedunBackendDb, database_url: str) -> None:
    async with backend.batch():
        await backend.record_value("outer")
        with contextlib.suppress(ZeroDivisionError):
            async with backend.batch():
                await backend.record_value("inner")
                async with backend.batch():
                    await backend.record_value("innermost")
                raise ZeroDivisionError
        async with backend.batch():
            await backend.record_value("second inner")
            assert count_rows(database_url, "value") == 0
        await backend.record_value("outer again")
    assert count_rows(database_url, "value") == 3


async def test_an_inner_batch_that_gave_answers_fails_with_the_outer(
    backend: RedunBackendDb, database_url: str
) -> None:
    async def work() -> None:
        async with backend.batch():
            await backend.record_value("outer")
            with contextlib.suppress(ZeroDivisionError):
                async with backend.batch():
                    await backend.record_tags(TagEntity.Job, "job", [("a", 1)], update=True)
                    raise ZeroDivisionError

    with pytest.raises(RedunDatabaseError, match="nothing of the batch"):
        await work()
    assert count_rows(database_url, "value") == count_rows(database_url, "tag") == 0
    async with backend.batch(), backend.batch():
        await backend.record_tags(TagEntity.Job, "job", [("a", 1)], update=True)
    assert count_rows(database_url, "tag") == 1


async def test_tasks_outlive_the_batches_they_came_from(backend: RedunBackendDb, database_url: str) -> None:
    go_on = asyncio.Event()

    async def write(text: str) -> None:
        async with backend.batch():
            await backend.record_value([text, 1])
            await go_on.wait()
            await backend.record_value([text, 2])

    async with backend.batch():
        async with backend.batch():
            inner = asyncio.create_task(write("inner"))
            await asyncio.sleep(0)
        outer = asyncio.create_task(write("outer"))
        await asyncio.sleep(0)
    assert count_rows(database_url, "value") == 0
    go_on.set()
    await asyncio.gather(inner, outer)
    assert count_rows(database_url, "value") == 4


async def test_handles_advance_in_one_transaction(backend: RedunBackendDb) -> None:
    first, second = Handle("conn"), Handle("conn").apply_call("0" * 40)
    await backend.advance_handle([first], second)
    assert first.__handle__.is_recorded
    assert await backend.is_valid_handle(first)
    assert await backend.is_valid_handle(second)
    await backend.rollback_handle(first)
    assert await backend.is_valid_handle(first)
    assert not await backend.is_valid_handle(second)


async def test_the_queue_is_bounded(database_url: str) -> None:
    async with RedunBackendDb(database_url, {"queue_rows": "20", "queue_bytes": "100000"}) as backend:
        most = 0

        async def record(number: int) -> None:
            nonlocal most
            await backend.record_value([number, "x" * 1000])
            most = max(most, backend.database.writer._rows, backend.database.writer._bytes // 5000)

        async with asyncio.TaskGroup() as group:
            for number in range(300):
                group.create_task(record(number))
        # One that is larger than the queue goes alone.
        await backend.record_value("y" * 300_000)
        assert most <= 20
    assert count_rows(database_url, "value") == 301


async def test_close_writes_what_is_queued(database_url: str) -> None:
    backend = RedunBackendDb(database_url)
    await backend.load()
    database = backend.database
    writers = [asyncio.create_task(backend.record_value(number)) for number in range(50)]
    await asyncio.sleep(0)
    await backend.close()
    await asyncio.gather(*writers)
    assert count_rows(database_url, "value") == 50
    with pytest.raises(RedunDatabaseError, match="closed"):
        await database.write(lambda session: asyncio.sleep(0))


async def test_what_was_deleted_behind_the_back_is_written_again(
    backend: RedunBackendDb, database_url: str
) -> None:
    root = await start(backend)
    await record_call(backend, root, 1)
    async with backend.session() as session:
        for table in ("argument", "call_subtree_task", "evaluation", "tag_edit", "tag"):
            await session.execute(sa.text(f"DELETE FROM {table}"))
        await session.execute(sa.text("UPDATE job SET call_hash = NULL"))
        await session.execute(sa.text("DELETE FROM call_node"))
        await session.execute(sa.delete(Value).where(Value.type == "builtins.int"))
        await session.commit()
    # The writer remembers these values as recorded; the foreign keys tell it better.
    await record_call(backend, root, 1)
    assert count_rows(database_url, "argument") == 2


async def test_an_open_session_does_not_stop_writers(backend: RedunBackendDb) -> None:
    await backend.record_value("first")
    async with backend.session() as session:
        found: Any = (await session.scalars(sa.select(Value))).all()
        assert len(found) == 1
        await asyncio.wait_for(backend.record_value("second"), 5)
