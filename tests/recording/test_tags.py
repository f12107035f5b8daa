"""Tags: redun's semantics call for call, history, and concurrent editors."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa
from redun.backends.base import TagEntity as RedunTagEntity
from redun.utils import MultiMap as RedunMultiMap

from aredun.errors import UsageError
from aredun.models import Tag, TagEdit
from aredun.recording.tags import (
    delete_tags,
    get_tags,
    record_tags,
    update_tags,
)
from aredun.tables.column_types import TagEntity
from tests.support.sessions import PlainDatabase, open_plain, redun_rows
from tests.support.twins import open_twin

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

JOB = TagEntity.Job


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[PlainDatabase]:
    """Plain sessions on the test's database."""
    async with open_plain(database_url) as plain:
        yield plain


@pytest.fixture
def twin(dialect: str, request: pytest.FixtureRequest, tmp_path: Any) -> Iterator[Any]:
    """redun on a database of its own, to do the same calls on."""
    with open_twin(dialect, request, tmp_path) as redun:
        yield redun


class Both:
    """Does every call on aredun and on redun, and compares what they return and what they stored."""

    def __init__(self, database: PlainDatabase, redun: Any) -> None:
        self.database = database
        self.redun = redun

    async def record(self, entity: str, tags: list[tuple[str, Any]], **options: Any) -> list[Any]:
        ours = await self.database.write(lambda session: record_tags(session, JOB, entity, tags, **options))
        theirs = self.redun.record_tags(RedunTagEntity.Job, entity, tags, **options)
        assert ours == theirs
        await self.compare()
        return ours

    async def update(self, entity: str, keys: list[str], tags: list[tuple[str, Any]]) -> list[Any]:
        ours = await self.database.write(lambda session: update_tags(session, JOB, entity, keys, tags))
        assert ours == self.redun.update_tags(RedunTagEntity.Job, entity, keys, tags)
        await self.compare()
        return ours

    async def delete(self, entity: str, tags: list[tuple[str, Any]], keys: list[str]) -> list[Any]:
        ours = await self.database.write(lambda session: delete_tags(session, entity, tags, keys))
        assert ours == self.redun.delete_tags(entity, tags, keys)
        await self.compare()
        return ours

    async def compare(self) -> None:
        for model in (Tag, TagEdit):
            assert await self.database.rows(model) == redun_rows(self.redun, model.__tablename__)


@pytest.fixture
def both(database: PlainDatabase, twin: Any) -> Both:
    """Both implementations, each on its own database."""
    return Both(database, twin)


async def current(database: PlainDatabase, entity: str) -> dict[str, list[Any]]:
    """Return an entity's current tags."""
    tags = await database.read(lambda session: get_tags(session, [entity]))
    return tags[entity].as_dict() if entity in tags else {}


VALUES = [1, 2.5, "text", "", None, True, [1, "a", {"b": None}], {"z": 1, "a": [2]}, "snø ☃", 10**15]


async def test_values_of_every_kind(both: Both) -> None:
    await both.record("job1", [(f"key{index}", value) for index, value in enumerate(VALUES)])
    ours = await both.database.read(lambda session: get_tags(session, ["job1", "nobody"]))
    theirs = both.redun.get_tags(["job1", "nobody"])
    assert ours == theirs
    assert ours.keys() == {"job1"}
    for index, value in enumerate(VALUES):
        assert ours["job1"][f"key{index}"] == [value]


async def test_recording_again_changes_nothing(both: Both) -> None:
    first = await both.record("job1", [("a", 1), ("b", 2)])
    assert await both.record("job1", [("a", 1), ("b", 2)]) == first
    assert await both.record("job1", []) == []


async def test_same_key_may_have_several_values(both: Both) -> None:
    await both.record("job1", [("a", 1), ("a", 2)])
    assert sorted((await current(both.database, "job1"))["a"]) == [1, 2]


async def test_update_supersedes_same_keys(both: Both) -> None:
    await both.record("job1", [("a", 1), ("a", 2), ("b", 3)])
    await both.record("job2", [("a", 1)])
    await both.record("job1", [("a", 4), ("c", 5)], update=True)
    assert await current(both.database, "job1") == {"a": [4], "b": [3], "c": [5]}
    assert await current(both.database, "job2") == {"a": [1]}


async def test_update_to_an_old_value_and_back(both: Both) -> None:
    for value in (1, 2, 1, 2, 2, 1):
        await both.record("job1", [("a", value)], update=True)
        assert await current(both.database, "job1") == {"a": [value]}


async def test_parents_are_superseded(both: Both) -> None:
    (first, *_), (second, *_) = await both.record("job1", [("a", 1), ("b", 2)])
    await both.record("job1", [("c", 3)], parents=[second, first])
    assert await current(both.database, "job1") == {"c": [3]}
    # The old tags have been superseded; recording them again does not bring them back ...
    await both.record("job1", [("a", 1)])
    assert await current(both.database, "job1") == {"c": [3]}
    # ... unless they are to be new.
    assert await both.record("job1", [("a", 1)], new=True) == []
    assert await current(both.database, "job1") == {"a": [1], "c": [3]}


async def test_delete_by_pair_and_by_key(both: Both) -> None:
    await both.record("job1", [("a", 1), ("a", 2), ("b", "1"), ("c", [1]), ("d", "x")])
    await both.delete("job1", [("a", 1), ("b", "1"), ("c", [1])], [])
    assert await current(both.database, "job1") == {"a": [2], "d": ["x"]}
    await both.delete("job1", [("nothing", 1)], ["a", "d"])
    assert await current(both.database, "job1") == {}
    await both.delete("job1", [("a", 1)], [])


async def test_delete_of_null(database: PlainDatabase) -> None:
    # redun compares with SQL's NULL here and finds nothing to delete.
    await database.write(lambda session: record_tags(session, JOB, "job1", [("a", None), ("a", 1)]))
    await database.write(lambda session: delete_tags(session, "job1", [("a", None)]))
    assert await current(database, "job1") == {"a": [1]}


async def test_deleted_tag_can_be_new_again_and_again(both: Both) -> None:
    for _ in range(4):
        await both.record("job1", [("a", 1)], new=True)
        assert await current(both.database, "job1") == {"a": [1]}
        await both.delete("job1", [], ["a"])
        assert await current(both.database, "job1") == {}
    await both.record("job1", [("a", 1)], update=True)
    assert await current(both.database, "job1") == {"a": [1]}


async def test_long_chain_of_edits(database: PlainDatabase) -> None:
    async def toggle(session: Any) -> None:
        for _ in range(150):
            await record_tags(session, JOB, "job1", [("a", 1)], new=True)
            await delete_tags(session, "job1", [], ["a"])
        await record_tags(session, JOB, "job1", [("a", 1)], new=True)

    await database.write(toggle)
    assert await current(database, "job1") == {"a": [1]}


async def test_update_tags_renames_keys(both: Both) -> None:
    await both.record("job1", [("a", 1), ("b", 2), ("c", 3)])
    await both.update("job1", ["a", "b"], [("d", 4), ("e", 5)])
    assert await current(both.database, "job1") == {"c": [3], "d": [4], "e": [5]}
    assert await both.update("job1", ["c"], []) == []
    await both.update("job1", ["nothing"], [("f", 6)])


async def test_get_tags_of_many_entities(database: PlainDatabase) -> None:
    entities = [f"job{index}" for index in range(1500)]

    async def record(session: Any) -> None:
        for entity in entities[:50]:
            await record_tags(session, JOB, entity, [("b", entity), ("a", 1)])

    await database.write(record)
    tags = await database.read(lambda session: get_tags(session, entities))
    assert list(tags) == sorted(entities[:50])
    assert list(tags["job7"]) == [("a", 1), ("b", "job7")]


async def test_tags_equal_reduns_multimap(database: PlainDatabase) -> None:
    await database.write(lambda session: record_tags(session, JOB, "job1", [("a", 1), ("b", 2), ("a", 3)]))
    tags = (await database.read(lambda session: get_tags(session, ["job1"])))["job1"]
    assert tags == RedunMultiMap([("b", 2), ("a", 3), ("a", 1)])
    assert RedunMultiMap([("b", 2), ("a", 3), ("a", 1)]) == tags
    assert tags == {"a": [3, 1], "b": [2]}
    assert tags != {"a": [1]}


async def test_concurrent_updates_follow_each_other(database: PlainDatabase) -> None:
    async def edit(value: int) -> None:
        await database.write(
            lambda session: record_tags(session, JOB, "job1", [("a", value), ("b", value)], update=True)
        )

    async with asyncio.TaskGroup() as group:
        for value in range(20):
            group.create_task(edit(value))
    tags = await current(database, "job1")
    assert len(tags["a"]) == 1
    assert tags["a"] == tags["b"]
    # Nobody's edit got lost: all are there, and all but the last pair are history.
    assert len(await database.rows(Tag)) == 40


async def test_concurrent_writers_of_the_same_tags(database: PlainDatabase) -> None:
    tags = [(f"key{index}", index) for index in range(20)]
    seed = await database.write(lambda session: record_tags(session, JOB, "job1", [("x", 1), ("y", 2)]))
    parents = [tag_hash for tag_hash, *_ in seed]

    async def record(order: int) -> None:
        shuffled = tags[order:] + tags[:order]
        mine = parents[:: 1 if order % 2 else -1]
        await database.write(
            lambda session: record_tags(session, JOB, "job1", shuffled, parents=mine, new=order % 3 == 0)
        )

    async with asyncio.TaskGroup() as group:
        for order in range(12):
            group.create_task(record(order))
    assert await current(database, "job1") == {key: [value] for key, value in sorted(tags)}
    assert len(await database.rows(TagEdit)) == 40


async def test_concurrent_delete_and_new(database: PlainDatabase) -> None:
    async def bring(_: int) -> None:
        await database.write(lambda session: record_tags(session, JOB, "job1", [("a", 1)], new=True))

    async def remove(_: int) -> None:
        await database.write(lambda session: delete_tags(session, "job1", [], ["a"]))

    async with asyncio.TaskGroup() as group:
        for index in range(16):
            group.create_task((bring, remove)[index % 2](index))
    rows = await database.rows(Tag)
    edits = {parent for parent, _ in await database.rows(TagEdit)}
    for tag_hash, *_, is_current in rows:
        assert is_current == (tag_hash not in edits)


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        ([("a", object())], "is not JSON"),
        ([("a", float("nan"))], "is not JSON"),
        ([("a", "x\0y")], "NUL"),
        ([(1, 1)], "tag key 1"),
        (["abc"], "is not a pair"),
    ],
)
async def test_malformed_tags_are_refused(database: PlainDatabase, tags: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        await database.write(lambda session: record_tags(session, JOB, "job1", [("ok", 1), *tags]))
    assert "\n" not in str(caught.value)
    assert await database.rows(Tag) == []


async def test_unknown_parent_type_and_empty_delete_are_refused(database: PlainDatabase) -> None:
    with pytest.raises(UsageError, match="no tag has the hash 'nope'"):
        await database.write(lambda session: record_tags(session, JOB, "job1", [("a", 1)], parents=["nope"]))
    with pytest.raises(UsageError, match="give one of Execution, Job"):
        await database.write(lambda session: record_tags(session, "Jobs", "job1", [("a", 1)]))
    with pytest.raises(UsageError, match="no tags to delete"):
        await database.write(lambda session: delete_tags(session, "job1", []))
    assert await database.rows(Tag) == []


async def test_two_backends_edit_the_same_entities(database_url: str) -> None:
    """Two writers that share transactions among their callers still follow each other, in whatever order."""
    from aredun.backend import RedunBackendDb

    config = {"db_retries": "20", "db_retries_backoff": "0.01", "db_retries_backoff_max": "0.1"}
    entities = ["job1", "job2", "job3"]
    async with RedunBackendDb(database_url, config) as one, RedunBackendDb(database_url, config) as other:

        async def edit(backend: RedunBackendDb, entity: str, value: int) -> None:
            await backend.record_tags(JOB, entity, [("a", value)], update=True)

        async with asyncio.TaskGroup() as group:
            for value in range(10):
                for entity in entities:
                    group.create_task(edit(one, entity, value))
                for entity in reversed(entities):
                    group.create_task(edit(other, entity, 100 + value))
        tags = await one.get_tags(entities)
        assert {entity: len(tags[entity]["a"]) for entity in entities} == dict.fromkeys(entities, 1)
        async with one.session() as session:
            recorded = await session.scalars(sa.select(Tag.value).where(Tag.entity_id == "job2"))
            assert set(recorded) == {*range(10), *range(100, 110)}
