"""Sync: everything that the roots own arrives, once, whole, whatever happens on the way."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import shutil
import signal
import sys
import uuid
from base64 import b64decode
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa

from aredun.backend import RedunBackendDb
from aredun.errors import InvalidRecordError, UsageError
from aredun.models import CallNode, CallSubtreeTask, Evaluation, Execution, Job, Tag, Value
from aredun.sync import SyncReport, sync_records
from aredun.transfer.verify import verify_repository
from tests.support.record_shapes import (
    by_id,
    dispose,
    get_all,
    get_id,
    make_shapes,
    open_original,
)
from tests.support.sessions import until_connections_return

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

Record = dict[str, Any]


@pytest.fixture
async def source(shapes_path: Path) -> AsyncIterator[RedunBackendDb]:
    """aredun's backend on that repository."""
    async with RedunBackendDb(f"sqlite:///{shapes_path}") as backend:
        yield backend


async def get_exported(backend: RedunBackendDb) -> list[Record]:
    async with backend.session() as session:
        roots = list(await session.scalars(sa.select(Execution.id)))
    return [record async for record in backend.get_records(backend.iter_record_ids(roots))]


async def fetch_all(backend: RedunBackendDb, *columns: Any) -> set[tuple[Any, ...]]:
    async with backend.session() as session:
        return {tuple(row) for row in await session.execute(sa.select(*columns))}


@pytest.mark.parametrize(("workers", "batch_size"), [(4, 1000), (3, 5), (1, 1)])
async def test_everything_arrives(
    source: RedunBackendDb, backend: RedunBackendDb, workers: int, batch_size: int
) -> None:
    expected = await get_exported(source)
    told: list[int] = []
    report = await sync_records(
        source,
        backend,
        workers=workers,
        batch_size=batch_size,
        on_progress=lambda report: told.append(report.done),
    )
    assert (report.seen, report.written, report.refused) == (len(expected), len(expected), [])
    kinds = [record["_type"] for record in expected]
    assert report.by_type == {kind: kinds.count(kind) for kind in set(kinds)}
    assert report.bytes > 0
    assert report.roots_done == report.roots == kinds.count("Execution")
    assert told == sorted(told)
    assert told[-1] == len(expected)
    arrived = await get_exported(backend)
    assert {get_id(record): record for record in arrived} == {get_id(record): record for record in expected}
    again = await sync_records(source, backend)
    assert (again.seen, again.written) == (len(expected), 0)


async def test_between_databases_of_one_dialect(
    copied: RedunBackendDb, make_empty_database: Callable[[], str]
) -> None:
    """Rows that PostgreSQL gave go into PostgreSQL."""
    expected = await get_exported(copied)
    async with RedunBackendDb(make_empty_database(), {"automigrate": "true"}) as goal:
        report = await sync_records(copied, goal)
        assert (report.written, report.refused) == (len(expected), [])
        assert by_id(await get_exported(goal)) == by_id(expected)


async def _get_results(backend: RedunBackendDb) -> set[str]:
    return {row[0] for row in await fetch_all(backend, CallNode.value_hash)}


async def test_what_follows_is_rebuilt(source: RedunBackendDb, backend: RedunBackendDb) -> None:
    await sync_records(source, backend)
    columns = (CallSubtreeTask.call_hash, CallSubtreeTask.task_hash)
    rebuilt = await fetch_all(backend, *columns)
    assert rebuilt
    assert rebuilt < await fetch_all(source, *columns)
    steps = (Evaluation.eval_hash, Evaluation.task_hash, Evaluation.args_hash, Evaluation.value_hash)
    calls = await fetch_all(backend, CallNode.task_hash, CallNode.args_hash)
    expressions = {row[3] for row in await fetch_all(source, *steps)} - await _get_results(source)
    assert expressions
    assert await fetch_all(backend, *steps) == {
        row for row in await fetch_all(source, *steps) if row[1:3] in calls
    }
    current = dict(await fetch_all(backend, Tag.tag_hash, Tag.is_current))
    expected = dict(await fetch_all(source, Tag.tag_hash, Tag.is_current))
    assert current == {tag: expected[tag] for tag in current}


async def test_sync_back_to_redun(
    source: RedunBackendDb, backend: RedunBackendDb, redun_backend: Any
) -> None:
    await sync_records(source, backend)
    expected = by_id(await get_exported(source))
    found = by_id(redun_backend.get_records(list(expected)))
    for record_id, record in expected.items():
        if record["_type"] == "Job":
            record["children"] = found[record_id]["children"]
        assert found[record_id] == record


@pytest.mark.parametrize("model", [Execution, Job, CallNode, Value, Tag])
async def test_roots_of_each_kind(source: RedunBackendDb, backend: RedunBackendDb, model: Any) -> None:
    key = sa.inspect(model).primary_key[0]
    async with source.session() as session:
        root_id = str(await session.scalar(sa.select(sa.func.min(key))))
        owner: Any = root_id
        if model is Job:
            owner = await session.scalar(sa.select(Job.execution_id).where(Job.id == root_id))
    owned = {record_id async for record_id in source.iter_record_ids([owner])}
    if model is Tag:
        # A tag is nothing without what it hangs on.
        alone = await sync_records(source, backend, [root_id])
        assert (alone.written, len(alone.refused), alone.seen) == (0, len(owned), len(owned))
        assert "hangs on, or replaces, what is not at the destination" in str(alone.refused[0])
        async with source.session() as session:
            root_id = (await session.scalars(sa.select(Tag.entity_id).where(Tag.tag_hash == root_id))).one()
            owner = await session.scalar(sa.select(Job.execution_id).where(Job.id == root_id)) or root_id
        owned = {record_id async for record_id in source.iter_record_ids([owner])}
    report = await sync_records(source, backend, [root_id, "nowhere"])
    assert report.written == report.seen == len(owned)
    assert set(await backend.has_records(owned)) == owned


async def test_what_is_new_at_the_source_follows(source: RedunBackendDb, backend: RedunBackendDb) -> None:
    await sync_records(source, backend)
    async with source.session() as session:
        entity = str(await session.scalar(sa.select(sa.func.min(CallNode.value_hash))))
    try:
        ((tag_hash, *_),) = await source.record_tags("Value", entity, [("late", uuid.uuid4().hex)])
        assert (await sync_records(source, backend)).by_type == {"Tag": 1}
        ((newer, *_),) = await source.update_tags("Value", entity, ["late"], [("late", "two")])
        assert (await sync_records(source, backend)).by_type == {"Tag": 1}
    finally:
        await source.delete_tags(entity, [], keys=["late"])
    current = dict(await fetch_all(backend, Tag.tag_hash, Tag.is_current))
    assert (current[tag_hash], current[newer]) == (False, True)


async def test_a_job_that_ends_later(backend: RedunBackendDb, tmp_path: Path) -> None:
    from tests.support.call_graphs import make_repository

    make_repository(f"sqlite:///{tmp_path}/running.db", tmp_path)
    async with RedunBackendDb(f"sqlite:///{tmp_path}/running.db") as running:
        await sync_records(running, backend)
        unfinished = sa.select(Job.id).where(Job.end_time.is_(None))
        async with running.session() as session:
            ids = set(await session.scalars(unfinished))
        assert ids

        async def finish(session: Any) -> None:
            from aredun.tables.column_types import utcnow

            await session.execute(sa.update(Job).where(Job.end_time.is_(None)).values(end_time=utcnow()))

        await running.database.write(finish)
        report = await sync_records(running, backend)
        assert report.by_type == {"Job": len(ids)}
        async with backend.session() as session:
            assert not set(await session.scalars(unfinished))


async def test_out_of_and_into_value_stores(backend: RedunBackendDb, tmp_path: Path) -> None:
    config = {"value_store_path": f"{tmp_path}/values", "value_store_min_size": "1024"}
    original = open_original(f"sqlite:///{tmp_path}/stored.db", **config)
    make_shapes(original, tmp_path / "files")
    records = get_all(original)
    dispose(original)
    other = {**config, "value_store_path": f"{tmp_path}/other", "db_uri": f"sqlite:///{tmp_path}/other.db"}
    async with (
        RedunBackendDb(f"sqlite:///{tmp_path}/stored.db", config) as stored,
        RedunBackendDb(config=other) as second,
    ):
        assert (await sync_records(stored, second)).written == len(records)
        assert (await sync_records(second, backend)).written == len(records)
        expected = await get_exported(stored)
        assert by_id(await get_exported(backend)) == by_id(expected)
        assert by_id(await get_exported(second)) == by_id(expected)
        assert (tmp_path / "other").exists()


async def test_large_values(source: RedunBackendDb, backend: RedunBackendDb, tmp_path: Path) -> None:
    async with RedunBackendDb(f"sqlite:///{tmp_path}/large.db") as large:
        hashes = [await large.record_value(f"{index}" * 300_000) for index in range(5)]
        parent = await large.record_value([f"{index}" * 300_000 for index in range(5)])
        report = await sync_records(large, backend, [*hashes, parent], batch_size=2)
        assert report.written == 6
        assert report.bytes > 3_000_000
        assert await backend.get_value(hashes[0]) == ("0" * 300_000, True)


class TestRefusal:
    """A damaged source is copied but for what is damaged, and what hangs on it."""

    @pytest.fixture
    async def damaged(self, shapes_path: Path, tmp_path: Path) -> AsyncIterator[RedunBackendDb]:
        """A copy of the repository to damage."""
        shutil.copyfile(shapes_path, tmp_path / "damaged.db")
        async with RedunBackendDb(f"sqlite:///{tmp_path}/damaged.db") as backend:
            yield backend

    async def test_a_damaged_value(self, damaged: RedunBackendDb, backend: RedunBackendDb) -> None:
        async with damaged.session() as session:
            call = sa.select(CallNode.value_hash).where(CallNode.task_name == "shapes.recover")
            value_hash = str(await session.scalar(call))

        async def damage(session: Any) -> None:
            await session.execute(
                sa.update(Value).where(Value.value_hash == value_hash).values(value=b"\x80\x03K\x07.")
            )

        await damaged.database.write(damage)
        report = await sync_records(damaged, backend)
        assert f"Value {value_hash} is not what its hash says" in str(report.refused[0])
        assert all(isinstance(error, InvalidRecordError) for error in report.refused)
        assert await backend.has_records([value_hash]) == []
        executions = await fetch_all(backend, Execution.id)
        assert executions
        assert executions < await fetch_all(damaged, Execution.id)
        async with backend.session() as session:
            roots = list(await session.scalars(sa.select(Execution.id)))
        owned = [record_id async for record_id in damaged.iter_record_ids(roots)]
        assert await backend.has_records(owned) == owned


async def test_bad_arguments(source: RedunBackendDb, backend: RedunBackendDb, shapes_path: Path) -> None:
    with pytest.raises(UsageError, match="source and destination are the same"):
        await sync_records(source, source)
    async with RedunBackendDb(f"sqlite:///{shapes_path}") as same:
        with pytest.raises(UsageError, match="source and destination are the same"):
            await sync_records(source, same)
    with pytest.raises(UsageError, match="must be at least 1"):
        await sync_records(source, backend, workers=0)


async def test_itself_by_another_name(backend: RedunBackendDb, database_url: str, tmp_path: Path) -> None:
    if database_url.startswith("sqlite"):
        os.link(tmp_path / "redun.db", tmp_path / "other.db")
        other = f"sqlite:///{tmp_path}/other.db"
    else:
        other = f"{database_url}&application_name=other"
    async with RedunBackendDb(other) as same:
        with pytest.raises(UsageError, match="source and destination are the same"):
            await sync_records(backend, same)


async def test_cancelled(source: RedunBackendDb, backend: RedunBackendDb) -> None:
    steps = 0

    def interrupt(_: SyncReport) -> None:
        nonlocal steps
        steps += 1
        if steps == 12:
            task.cancel()

    task = asyncio.ensure_future(sync_records(source, backend, batch_size=3, on_progress=interrupt))
    with pytest.raises(asyncio.CancelledError):
        await task
    await until_connections_return(backend.database)
    await until_connections_return(source.database)
    await check_whole(source, backend)
    await sync_records(source, backend)
    assert by_id(await get_exported(backend)) == by_id(await get_exported(source))


async def check_whole(source: RedunBackendDb, backend: RedunBackendDb) -> None:
    """Each record at the destination has everything that it owns at the source."""
    ids: list[str] = []
    for column in (Execution.id, Job.id, CallNode.call_hash, Value.value_hash):
        ids.extend(row[0] for row in await fetch_all(backend, column))
    owned = [record_id async for record_id in source.iter_record_ids(ids)]
    assert len(await backend.has_records(owned)) == len(owned)


# Starts a sync for each line that it reads: a fork of its own, that has nothing left to import.
SYNCS = """
import asyncio, os, sys
import aiosqlite, asyncpg, sqlalchemy.dialects.postgresql.asyncpg, sqlalchemy.dialects.sqlite.aiosqlite
from aredun.backend import RedunBackendDb
from aredun.sync import sync_records

async def main():
    async with RedunBackendDb(sys.argv[1]) as a, RedunBackendDb(sys.argv[2]) as b:
        await b.load(migrate=False)
        print(os.getpid(), flush=True)
        await sync_records(a, b, batch_size=2)

for _ in sys.stdin:
    child = os.fork()
    if not child:
        asyncio.run(main())
        os._exit(0)
    print(os.WIFSIGNALED(os.waitpid(child, 0)[1]), flush=True)
"""


async def test_killed_at_random_moments(
    source: RedunBackendDb, backend: RedunBackendDb, shapes_path: Path, database_url: str
) -> None:
    """SIGKILL, look, go on: in the end all is there."""
    chance = random.Random(4)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", SYNCS, f"sqlite:///{shapes_path}", database_url),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    finished = False
    for _ in range(6):
        process.stdin.write(b"go\n")
        child = int(await asyncio.wait_for(process.stdout.readline(), 60))
        try:
            end = await asyncio.wait_for(process.stdout.readline(), chance.uniform(0.02, 0.5))
        except TimeoutError:
            os.kill(child, signal.SIGKILL)
            end = await asyncio.wait_for(process.stdout.readline(), 60)
        await check_whole(source, backend)
        finished = end == b"False\n"
        if finished:
            break
    process.stdin.close()
    assert await process.wait() == 0
    await sync_records(source, backend)
    assert by_id(await get_exported(backend)) == by_id(await get_exported(source))


LIMITS = {"none": None, "low": "50", "middle": "5000", "high": "1000000"}


@pytest.mark.parametrize("way", ["none low none", "low none", "low middle low", "high low middle none"])
async def test_between_value_stores(sqlite_template: Path, tmp_path: Path, way: str) -> None:
    """From store to store, with other limits of what goes into them, the bytes stay the same."""
    values: list[Any] = ["x" * size for size in (1, 200, 9_000, 100_000)]
    async with contextlib.AsyncExitStack() as stack:
        chain: list[RedunBackendDb] = []
        for number, name in enumerate(way.split()):
            shutil.copyfile(sqlite_template, tmp_path / f"{number}.db")
            config = {"db_uri": f"sqlite:///{tmp_path}/{number}.db"}
            if limit := LIMITS[name]:
                config |= {"value_store_path": f"{tmp_path}/{number}", "value_store_min_size": limit}
            chain.append(await stack.enter_async_context(RedunBackendDb(config=config)))
        first, *others = chain
        hashes = [await first.record_value(value) for value in [*values, values]]
        records = [record async for record in first.get_records(hashes)]
        for number, other in enumerate(others):
            if number % 2:
                assert await other.put_records(chain[number].get_records(hashes)) == len(hashes)
            else:
                assert (await sync_records(chain[number], other, hashes)).written == len(hashes)
        for each in chain:
            assert [record async for record in each.get_records(hashes)] == records
            assert (await verify_repository(each.database, each.value_store)).problems == []
            stored = await fetch_all(each, Value.value_hash, sa.func.length(Value.value))
            least = each.config.value_store_min_size if each.value_store else 1 << 30
            sizes = {record["value_hash"]: sys.getsizeof(b64decode(record["data"])) for record in records}
            assert {value_hash for value_hash, size in stored if not size} == {
                value_hash for value_hash, size in sizes.items() if size >= least
            }
