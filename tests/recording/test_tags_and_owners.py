"""A tag goes in with what it hangs on, and never without it: imports, syncs, and what a repair removes."""

from __future__ import annotations

import asyncio
import random
import shutil
import sqlite3
import string
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa

from aredun import Scheduler, sync_records, task
from aredun.backend import RedunBackendDb
from aredun.models import Execution, Tag
from aredun.transfer.record_fields import KEYS
from aredun.transfer.verify import tags
from tests.support.verification import verify

if TYPE_CHECKING:
    from pathlib import Path


class StoppedError(Exception):
    """Ends a sync in its midst."""


LARGE = "".join(random.Random(10).choices(string.ascii_letters + string.digits, k=12_000))


@task(tags=[("kind", "leaf")])
def leaf(number: int) -> int:
    return number


@task()
def tagged_root(number: int) -> Any:
    return leaf.options(tags=[("of_job", number)])(number)


@pytest.fixture
async def source(sqlite_template: Path, tmp_path: Path) -> Any:
    """A repository with tags of all kinds of records, some of them edited and deleted."""
    path = tmp_path / "source.db"
    shutil.copyfile(sqlite_template, path)
    async with RedunBackendDb(f"sqlite:///{path}") as backend:
        async with Scheduler(backend, tags=[("project", "p")]) as scheduler:
            for number in range(3):
                await scheduler.run(tagged_root(number))
        async with backend.session() as session:
            (first, *_) = list(await session.scalars(sa.select(Execution.id).order_by(Execution.id)))
        await backend.record_tags("Execution", first, [("gone", 1)])
        await backend.delete_tags(first, [], keys=["gone"])
        await backend.update_tags("Execution", first, ["project"], [("project", "q")])
        yield backend


async def count_orphans(backend: RedunBackendDb) -> int:
    async with backend.session() as session:
        found = 0
        for kind, (table, key) in KEYS.items():
            if kind != "Tag":
                statement = sa.text(
                    f"SELECT count(*) FROM tag LEFT JOIN {table} AS t ON t.{key} = tag.entity_id"
                    f" WHERE CAST(tag.entity_type AS TEXT) = '{kind}' AND t.{key} IS NULL"
                )
                found += (await session.scalar(statement)) or 0
        return found


async def get_tags(backend: RedunBackendDb) -> set[Any]:
    async with backend.session() as session:
        rows = await session.execute(sa.select(Tag.tag_hash, Tag.is_current))
        return {tuple(row) for row in rows}


async def test_an_import_that_is_cut_short(source: RedunBackendDb, backend: RedunBackendDb) -> None:
    """Wherever a file of records ends, nothing is left that belongs to nothing."""
    ids = [each async for each in source.iter_record_ids(await all_executions(source))]
    records = [each async for each in source.get_records(ids)]
    assert sum(each["_type"] == "Tag" for each in records) >= 10
    refused: list[Any] = []
    for end in (len(records) // 4, len(records) // 2, len(records) - 3):
        await backend.put_records(records[:end], on_refused=refused.append)
        assert await count_orphans(backend) == 0
    random.Random(3).shuffle(records)
    await backend.put_records(records, on_refused=refused.append)
    assert await get_tags(backend) == await get_tags(source)


async def all_executions(backend: RedunBackendDb) -> list[str]:
    async with backend.session() as session:
        return list(await session.scalars(sa.select(Execution.id)))


async def test_a_sync_that_is_killed(source: RedunBackendDb, backend: RedunBackendDb) -> None:
    """At whatever point it ends, `verify` finds nothing, and the next one brings the rest."""
    stops = 0
    for stop in range(1, 16):
        calls = iter(range(stop))

        def stop_soon(report: Any, calls: Any = calls) -> None:
            if next(calls, None) is None:
                raise StoppedError

        try:
            await sync_records(source, backend, batch_size=2, on_progress=stop_soon)
        except StoppedError:
            stops += 1
        assert (await verify(backend)).problems == []
    assert stops >= 3
    await sync_records(source, backend, batch_size=2)
    assert await get_tags(backend) == await get_tags(source)
    assert (await verify(backend)).problems == []


async def test_a_refused_execution_leaves_no_tags(source: RedunBackendDb, backend: RedunBackendDb) -> None:
    assert source.config.url is not None
    with closing(sqlite3.connect(str(source.config.url.file_path))) as raw, raw:
        raw.execute("UPDATE value SET value = x'00' WHERE type = 'builtins.int'")
    report = await sync_records(source, backend)
    assert any(str(error).startswith("Tag ") for error in report.refused)
    assert await all_executions(backend) == []
    assert await count_orphans(backend) == 0
    assert (await verify(backend)).problems == []
    again = await sync_records(source, backend)
    assert again.written == 0
    assert sorted(map(str, again.refused)) == sorted(map(str, report.refused))


@pytest.mark.parametrize("through", ["sync", "import"])
async def test_a_tag_that_postgresql_does_not_take(
    through: str, source: RedunBackendDb, backend: RedunBackendDb
) -> None:
    """It is refused by name; what it hangs on, and all of its other tags, go in."""
    executions = await all_executions(source)
    ((large, *_),) = await source.record_tags("Execution", executions[0], [("large", LARGE)])
    refused: list[Any] = []
    if through == "sync":
        refused = (await sync_records(source, backend)).refused
    else:
        ids = [each async for each in source.iter_record_ids(executions)]
        await backend.put_records(source.get_records(ids), on_refused=refused.append)
    expected = {tag for tag, _ in await get_tags(source)}
    if backend.database.dialect_name == "postgresql":
        expected.discard(large)
        (error,) = refused
        assert str(error).startswith(f"Tag {large} was refused by the d")
    else:
        assert refused == []
    assert {tag for tag, _ in await get_tags(backend)} == expected
    assert sorted(await all_executions(backend)) == sorted(executions)


async def test_repair_removes_tags_without_owner(
    source: RedunBackendDb, backend: RedunBackendDb, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tags, "BEGINNING", 0.0)
    await sync_records(source, backend)
    before = await get_tags(backend)
    await backend.record_tags("Execution", "lost", [("a", 1), ("b", 2)])
    await backend.update_tags("Execution", "lost", ["a"], [("a", 3)])
    await backend.delete_tags("lost", [], keys=["b"])
    found = (await verify(backend)).problems
    assert {each.kind for each in found} == {"dangling reference"}
    assert len(found) == 3
    report = await verify(backend, repair=True)
    assert report.is_sound
    assert await get_tags(backend) == before
    assert (await verify(backend)).problems == []


async def test_repair_spares_what_a_sync_is_about_to_own(
    source: RedunBackendDb, backend: RedunBackendDb, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tags that a killed sync of old left behind get their owner while the repair is under way."""
    monkeypatch.setattr(tags, "BEGINNING", 0.2)
    # Its tags were not edited: recorded alone they have the same hashes.
    execution = max(await all_executions(source))
    async with source.session() as session:
        rows = await session.execute(sa.select(Tag.key, Tag.value).where(Tag.entity_id == execution))
        pairs = [tuple(row) for row in rows]
    await backend.record_tags("Execution", execution, pairs)
    await asyncio.gather(verify(backend, repair=True), sync_records(source, backend))
    assert await count_orphans(backend) == 0
    await sync_records(source, backend)
    assert {tag for tag, _ in await get_tags(source)} == {tag for tag, _ in await get_tags(backend)}
