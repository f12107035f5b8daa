"""Records: read as redun reads them, written in any order, beside other writers, with nothing lost."""

from __future__ import annotations

import asyncio
import errno
import random
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa

from aredun.backend import RedunBackendDb
from aredun.errors import InvalidRecordError
from aredun.loop.pacing import run_in_turns
from aredun.models import CallEdge, CallNode, CallSubtreeTask, Evaluation, Execution, Job, Tag, Value
from aredun.transfer.records import write
from aredun.transfer.records.check import parse_items
from aredun.transfer.records.window import Window
from aredun.transfer.records.write import put_records
from aredun.transfer.verify import verify_repository
from tests.support.record_shapes import (
    by_id,
    dispose,
    get_all,
    get_id,
    make_shapes,
    open_original,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

Record = dict[str, Any]


@pytest.fixture(scope="module")
def shapes(shapes_path: Path) -> list[Record]:
    """Its records, as real redun exports them, with the children of all jobs."""
    original = open_original(f"sqlite:///{shapes_path}")
    records = get_all(original)
    dispose(original)
    by_parent: dict[str, list[Record]] = {}
    for record in records:
        if record["_type"] == "Job":
            by_parent.setdefault(record["parent_id"], []).append(record)
    for record in records:
        if record["_type"] == "Job":
            children = sorted(by_parent.get(record["id"], []), key=lambda job: job["start_time"])
            record["children"] = [job["id"] for job in children]
    return records


async def get_exported(backend: RedunBackendDb) -> list[Record]:
    async with backend.session() as session:
        roots = list(await session.scalars(sa.select(Execution.id)))
    return [record async for record in backend.get_records(backend.iter_record_ids(roots))]


async def fetch_all(backend: RedunBackendDb, *columns: Any) -> set[tuple[Any, ...]]:
    async with backend.session() as session:
        return {tuple(row) for row in await session.execute(sa.select(*columns))}


async def test_reads_the_records_that_redun_reads(shapes_path: Path, shapes: list[Record]) -> None:
    async with RedunBackendDb(f"sqlite:///{shapes_path}") as backend:
        records = await get_exported(backend)
    assert by_id(records) == by_id(shapes)
    assert [list(record) for record in records] == [list(by_id(shapes)[get_id(record)]) for record in records]


async def test_round_trip_through_both(backend: RedunBackendDb, shapes: list[Record], tmp_path: Path) -> None:
    assert await backend.put_records(shapes) == len(shapes)
    records = await get_exported(backend)
    assert by_id(records) == by_id(shapes)
    again = open_original(f"sqlite:///{tmp_path}/again.db")
    assert again.put_records(records) == len(shapes)
    returned = by_id(get_all(again))
    dispose(again)
    for record_id, record in by_id(shapes).items():
        if record["_type"] == "Job":
            record["children"] = returned[record_id]["children"]
        assert returned[record_id] == record


async def test_children_keep_the_order_of_their_calls(backend: RedunBackendDb, shapes_path: Path) -> None:
    columns = (CallEdge.parent_id, CallEdge.child_id, CallEdge.call_order)
    async with RedunBackendDb(f"sqlite:///{shapes_path}") as source:
        records = await get_exported(source)
        edges = await fetch_all(source, *columns)
    await backend.put_records(records)
    again = await get_exported(backend)
    assert {get_id(record): record for record in again} == {get_id(record): record for record in records}
    # A call without provenance leaves a gap in the numbers, which records do not carry.
    assert sorted(await fetch_all(backend, *columns)) == renumber(edges)


def renumber(edges: set[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    by_parent: dict[str, list[tuple[int, str]]] = {}
    for parent, child, order in edges:
        by_parent.setdefault(parent, []).append((order, child))
    return sorted(
        (parent, child, index)
        for parent, children in by_parent.items()
        for index, (_, child) in enumerate(sorted(children))
    )


async def test_redun_reads_what_was_put(
    backend: RedunBackendDb, redun_backend: Any, shapes: list[Record]
) -> None:
    await backend.put_records(shapes)
    returned = by_id(redun_backend.get_records([get_id(record) for record in shapes]))
    assert returned.keys() == by_id(shapes).keys()
    for record_id, record in by_id(shapes).items():
        if record["_type"] != "Job":
            assert returned[record_id] == record


async def test_any_order_and_again(backend: RedunBackendDb, shapes: list[Record]) -> None:
    shuffled = [*shapes, *shapes[:20]]
    random.Random(1).shuffle(shuffled)
    assert await backend.put_records(shuffled) == len(shapes)
    assert await backend.put_records(shapes) == 0
    assert by_id(await get_exported(backend)) == by_id(shapes)


@pytest.mark.parametrize("order", ["forward", "backward", "shuffled"])
async def test_small_windows_and_the_disk(
    backend: RedunBackendDb, shapes: list[Record], order: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(write, "WINDOW_SIZE", 12)
    monkeypatch.setattr(write, "FLUSH_SIZE", 6)
    monkeypatch.setattr(write, "READ_SIZE", 5)
    records = {
        "forward": shapes,
        "backward": shapes[::-1],
        "shuffled": random.Random(2).sample(shapes, len(shapes)),
    }
    assert await write.put_records(backend.database, records[order], batch_size=4) == len(shapes)
    assert by_id(await get_exported(backend)) == by_id(shapes)


async def test_async_iterables(backend: RedunBackendDb, shapes: list[Record]) -> None:
    async def stream() -> AsyncIterator[Record]:
        for record in shapes:
            await asyncio.sleep(0)
            yield record

    assert await backend.put_records(stream()) == len(shapes)

    async def ids() -> AsyncIterator[str]:
        for record in shapes:
            yield get_id(record)

    assert [get_id(record) async for record in backend.get_records(ids())] == [get_id(r) for r in shapes]
    assert len(await backend.has_records(ids())) == len(shapes)


async def test_order_of_ids(backend: RedunBackendDb, shapes: list[Record]) -> None:
    await backend.put_records(shapes)
    ids = random.Random(3).sample([get_id(record) for record in shapes], 20)
    wanted = [*ids, "nowhere", ids[0]]
    assert [get_id(record) async for record in backend.get_records(wanted)] == [*ids, ids[0]]
    unsorted = [get_id(record) async for record in backend.get_records(wanted, sorted=False)]
    assert sorted(unsorted) == sorted(ids)
    assert await backend.has_records(wanted) == [*ids, ids[0]]


async def test_child_edges_are_reduns(
    backend: RedunBackendDb, redun_backend: Any, shapes: list[Record]
) -> None:
    await backend.put_records(shapes)
    import redun.backends.db as original

    models = {"Execution": Execution, "Job": Job, "CallNode": CallNode, "Value": Value, "Tag": Tag}
    for kind, model in models.items():
        ids = [get_id(record) for record in shapes if record["_type"] == kind]
        theirs = redun_backend.get_child_record_ids(
            [(getattr(original, kind), record_id) for record_id in ids]
        )
        expected = sorted(
            (label, model.__name__, record_id) for label, model, record_id in theirs if record_id
        )
        edges = backend.get_child_record_ids([(model, record_id) for record_id in ids])
        assert sorted([(label, model.__name__, each) async for label, model, each in edges]) == expected
    for root in [*ids[:2], get_id(shapes[0])]:
        walked = [record_id async for record_id in backend.iter_record_ids([root])]
        assert len(walked) == len(set(walked))
        assert set(walked) == set(redun_backend.iter_record_ids([root])) - {None}


async def test_current_tags(backend: RedunBackendDb, shapes_path: Path, shapes: list[Record]) -> None:
    await backend.put_records(shapes)
    async with RedunBackendDb(f"sqlite:///{shapes_path}") as source:
        expected = await fetch_all(source, Tag.tag_hash, Tag.is_current)
    current = dict(await fetch_all(backend, Tag.tag_hash, Tag.is_current))
    assert current == {tag: is_current for tag, is_current in expected if tag in current}
    assert set(current.values()) == {True, False}


async def test_edit_that_comes_later(backend: RedunBackendDb) -> None:
    from aredun.formats.hashing import hash_tag

    entity = await backend.record_value("tagged")

    def tag(value: str, parents: list[str]) -> Record:
        tag_hash = hash_tag(entity, "k", value, parents)
        return {
            "_version": 1,
            "_type": "Tag",
            "tag_hash": tag_hash,
            "entity_type": "Value",
            "entity_id": entity,
            "key": "k",
            "value": value,
            "parents": parents,
        }

    old = tag("old", [])
    new = tag("new", [old["tag_hash"]])
    await backend.put_records([old])
    assert await backend.put_records([new, old]) == 1
    assert await fetch_all(backend, Tag.value, Tag.is_current) == {("old", False), ("new", True)}


async def test_subtree_tasks_are_those_of_a_recording(
    backend: RedunBackendDb, shapes_path: Path, shapes: list[Record]
) -> None:
    await backend.put_records(shapes)
    async with RedunBackendDb(f"sqlite:///{shapes_path}") as source:
        recorded = await fetch_all(source, CallSubtreeTask.call_hash, CallSubtreeTask.task_hash)
    rebuilt = await fetch_all(backend, CallSubtreeTask.call_hash, CallSubtreeTask.task_hash)
    calls = {record["call_hash"]: record["task_name"] for record in shapes if record["_type"] == "CallNode"}
    partial = {
        "shapes.everything",
        "shapes.half_recorded",
        "shapes.only_unrecorded",
        "shapes.above_unrecorded",
    }
    assert rebuilt == {row for row in recorded if calls[row[0]] not in partial}
    assert {calls[call] for call, _ in rebuilt} == set(calls.values()) - partial


async def test_evaluations_of_leaves(
    backend: RedunBackendDb, shapes_path: Path, shapes: list[Record]
) -> None:
    await backend.put_records(shapes)
    columns = (Evaluation.eval_hash, Evaluation.task_hash, Evaluation.args_hash, Evaluation.value_hash)
    async with RedunBackendDb(f"sqlite:///{shapes_path}") as source:
        recorded = await fetch_all(source, *columns)
    rebuilt = await fetch_all(backend, *columns)
    assert rebuilt
    # A set inside a result may be pickled in another order before and after redun has copied the result.
    assert {row[:3] for row in rebuilt} <= {row[:3] for row in recorded}
    leaves = {
        record["task_hash"]
        for record in shapes
        if record["_type"] == "CallNode" and record["task_name"] == "shapes.leaf"
    }
    assert {row for row in recorded if row[1] in leaves} == {row for row in rebuilt if row[1] in leaves}


async def test_eight_writers_of_overlapping_halves(
    backend: RedunBackendDb, database_url: str, shapes: list[Record]
) -> None:
    async def put(seed: int) -> None:
        part = random.Random(seed).sample(shapes, len(shapes)) if seed % 2 else list(shapes)
        async with RedunBackendDb(database_url) as other:
            await write.put_records(other.database, part, batch_size=7)

    async with asyncio.TaskGroup() as group:
        for seed in range(8):
            group.create_task(put(seed))
    assert by_id(await get_exported(backend)) == by_id(shapes)
    current = await fetch_all(backend, Tag.tag_hash, Tag.is_current)
    edited = {parent for record in shapes if record["_type"] == "Tag" for parent in record["parents"]}
    assert {tag for tag, is_current in current if not is_current} == edited


async def test_writers_insert_jobs_in_one_order(shapes: list[Record]) -> None:
    """Whatever order the records come in; on PostgreSQL two writers would form a deadlock otherwise."""
    orders = set()
    for seed in range(5):
        items, _, _ = parse_items(random.Random(seed).sample(shapes, len(shapes)), True)
        window = Window()
        window.add(items)
        ready, _ = await run_in_turns(window.split({}))
        orders.add(tuple(item.id for item in ready if item.kind == "Job"))
    assert len(orders) == 1


class TestRefusal:
    """What is forged, damaged or incomplete is named, and the rest goes in."""

    async def put(self, backend: RedunBackendDb, records: list[Record]) -> list[str]:
        errors: list[InvalidRecordError] = []
        await backend.put_records(records, on_refused=errors.append)
        return [str(error) for error in errors]

    def copy(self, records: list[Record], kind: str, **match: Any) -> tuple[list[Record], Record]:
        records = [dict(record) for record in records]
        found = [record for record in records if record["_type"] == kind]
        found = [record for record in found if all(record[name] == value for name, value in match.items())]
        return records, found[-1]

    async def test_value(self, backend: RedunBackendDb, shapes: list[Record]) -> None:
        records, forged = self.copy(shapes, "Value", type="builtins.int")
        forged["data"] = "gANLBy4="
        errors = await self.put(backend, records)
        assert f"Value {forged['value_hash']} is not what its hash says" in errors[0]
        assert await backend.has_records([forged["value_hash"]]) == []
        assert 0 < len(await get_exported(backend)) < len(shapes)

    @pytest.mark.parametrize("field", ["value_hash", "task_hash", "args_hash"])
    async def test_call_node(self, backend: RedunBackendDb, shapes: list[Record], field: str) -> None:
        records, forged = self.copy(shapes, "CallNode", task_name="shapes.nested")
        _, other = self.copy(shapes, "CallNode", task_name="shapes.write_files")
        forged[field] = other[field]
        errors = await self.put(backend, records)
        message = f"CallNode {forged['call_hash']} is not what its hash says: its '{field}' was altered"
        assert message in errors
        assert await backend.has_records([forged["call_hash"]]) == []

    @pytest.mark.parametrize("more", [True, False])
    async def test_children(self, backend: RedunBackendDb, shapes: list[Record], more: bool) -> None:
        records, forged = self.copy(shapes, "CallNode", task_name="shapes.nested")
        _, other = self.copy(shapes, "CallNode", task_name="shapes.write_files")
        children = forged["children"]
        forged["children"] = [*children, other["call_hash"]] if more else children[1:]
        errors = await self.put(backend, records)
        assert (
            f"CallNode {forged['call_hash']} is not what its hash says: its 'children' was altered" in errors
        )

    async def test_argument(self, backend: RedunBackendDb, shapes: list[Record]) -> None:
        records, forged = self.copy(shapes, "CallNode", task_name="shapes.leaf")
        forged["args"] = {name: dict(arg) for name, arg in forged["args"].items()}
        next(iter(forged["args"].values()))["value_hash"] = forged["value_hash"]
        errors = await self.put(backend, records)
        assert f"CallNode {forged['call_hash']} has an argument" in errors[0]

    async def test_tag(self, backend: RedunBackendDb, shapes: list[Record]) -> None:
        records, forged = self.copy(shapes, "Tag", key="project")
        forged["value"] = "stolen"
        with pytest.raises(InvalidRecordError, match=f"1 record was refused: Tag {forged['tag_hash']}"):
            await backend.put_records(records)
        assert len(await get_exported(backend)) == len(shapes) - 1

    async def test_dangling(self, backend: RedunBackendDb, shapes: list[Record]) -> None:
        _, call = self.copy(shapes, "CallNode", task_name="shapes.fail")
        records = [record for record in shapes if get_id(record) != call["value_hash"]]
        errors = await self.put(backend, records)
        assert any(f"CallNode {call['call_hash']} refers to" in error for error in errors)
        assert await backend.has_records([call["call_hash"]]) == []

    async def test_without_bytes(self, backend: RedunBackendDb, shapes: list[Record]) -> None:
        records, empty = self.copy(shapes, "Value", type="builtins.int")
        empty["data"] = ""
        errors = await self.put(backend, records)
        assert f"Value {empty['value_hash']} comes without its bytes" in errors[0]

    @pytest.mark.parametrize(
        ("record", "message"),
        [
            (7, "must be a JSON object"),
            ({"_type": "Nonsense"}, "unknown record type 'Nonsense'"),
            ({"_version": 2, "_type": "Tag", "tag_hash": "t"}, "Tag t has version 2"),
            ({"_version": 1, "_type": "Execution", "id": "x"}, "Execution x has no field 'args'"),
            (
                {"_version": 1, "_type": "Execution", "id": "x", "args": 3, "job_id": "y"},
                "Execution x has a bad 'args': it must be a string, not int",
            ),
        ],
    )
    async def test_malformed(self, backend: RedunBackendDb, record: Any, message: str) -> None:
        with pytest.raises(InvalidRecordError, match="1 record was refused") as caught:
            await backend.put_records([record])
        assert message in str(caught.value)

    async def test_what_the_database_refuses(self, backend: RedunBackendDb, shapes: list[Record]) -> None:
        records, bad = self.copy(shapes, "Execution")
        bad["args"] = "\ud800"
        errors = await self.put(backend, records)
        assert any(f"Execution {bad['id']} was refused by the database" in error for error in errors)
        others = [record for record in shapes if record["_type"] == "Execution" and record["id"] != bad["id"]]
        assert len(await backend.has_records([record["id"] for record in others])) == len(others)

    async def test_what_needs_a_record_that_the_database_refuses_meanwhile(
        self, backend: RedunBackendDb, shapes: list[Record], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # Each record is prepared while the one before it is being written.
        monkeypatch.setattr(write, "READ_SIZE", 1)
        monkeypatch.setattr(write, "FLUSH_SIZE", 1)
        records, bad = self.copy(shapes, "CallNode", task_name="shapes.leaf")
        bad["task_name"] = "\ud800"
        order = ["Tag", "Value", "CallNode", "Execution", "Job"]
        records.sort(key=lambda record: (order.index(record["_type"]), record.get("timestamp", "")))
        errors = await self.put(backend, records)
        assert any(f"CallNode {bad['call_hash']} was refused by the database" in error for error in errors)
        report = await verify_repository(backend.database)
        assert [problem for problem in report.problems if not problem.record.startswith("Tag")] == []

    @pytest.mark.parametrize("text", ["a\x00b", "\ud800", "a" * 100_000 + "\n"])
    @pytest.mark.parametrize(
        ("kind", "field"), [("Job", "task_hash"), ("CallNode", "value_hash"), ("Tag", "key")]
    )
    async def test_text_that_no_id_can_be(
        self, backend: RedunBackendDb, shapes: list[Record], kind: str, field: str, text: str
    ) -> None:
        records, bad = self.copy(shapes, kind)
        bad[field] = text
        errors = await self.put(backend, records)
        assert any(f"{kind} {get_id(bad)} " in error for error in errors)
        assert all(len(error) < 500 and error.isprintable() for error in errors)
        values = [record["value_hash"] for record in shapes if record["_type"] == "Value"]
        assert await backend.has_records([*values, text]) == values
        assert [record async for record in backend.get_records([text])] == []

    async def test_any_text_that_the_database_holds(
        self, backend: RedunBackendDb, shapes: list[Record]
    ) -> None:
        records, odd = self.copy(shapes, "Execution")
        odd["args"] = '["\\u0000", "\x01\t\n\u2028\U0001f600\\"]'
        records, nul = self.copy(records, "Execution", args=odd["args"])
        if backend.database.dialect_name == "sqlite":
            nul["args"] += "\x00 and more"
        assert await self.put(backend, records) == []
        (stored,) = [record async for record in backend.get_records([nul["id"]])]
        assert stored["args"] == nul["args"]


class TestValueStore:
    """Bytes that are in a value store travel, too."""

    @pytest.fixture
    def stored(self, tmp_path: Path) -> tuple[dict[str, str], list[Record]]:
        """The settings of a repository with a value store, and its records with real bytes."""
        config = {"value_store_path": f"{tmp_path}/values", "value_store_min_size": "1024"}
        original = open_original(f"sqlite:///{tmp_path}/stored.db", **config)
        make_shapes(original, tmp_path / "files")
        records = get_all(original)
        dispose(original)
        assert any(record["_type"] == "Value" and not record["data"] for record in records)
        return {"db_uri": f"sqlite:///{tmp_path}/stored.db", **config}, records

    async def test_out_of_a_store(self, backend: RedunBackendDb, stored: Any) -> None:
        config, records = stored
        async with RedunBackendDb(config=config) as source:
            exported = await get_exported(source)
        assert len(exported) == len(records)
        assert all(record["data"] for record in exported if record["_type"] == "Value")
        assert await backend.put_records(exported) == len(records)
        assert by_id(await get_exported(backend)) == by_id(exported)

    async def test_into_a_store(self, tmp_path: Path, shapes: list[Record]) -> None:
        config = {
            "db_uri": f"sqlite:///{tmp_path}/new.db",
            "value_store_path": f"{tmp_path}/new",
            "value_store_min_size": "100",
        }
        async with RedunBackendDb(config=config) as backend:
            await backend.put_records(shapes)
            assert by_id(await get_exported(backend)) == by_id(shapes)
            empty = {row for row in await fetch_all(backend, Value.value_hash, Value.value) if not row[1]}
        assert empty
        assert all((tmp_path / "new" / hash_[:2] / hash_[2:]).exists() for hash_, _ in empty)

    async def test_a_store_that_fails(self, backend: RedunBackendDb, shapes: list[Record]) -> None:
        """Its error is told as it is, and nothing goes on behind the caller's back."""

        class FullStore:
            async def put(self, value_hash: str, data: bytes) -> None:
                await asyncio.sleep(0)
                raise OSError(errno.ENOSPC, "No space left on device")

        before = asyncio.all_tasks()
        store: Any = FullStore()
        with pytest.raises(OSError, match="No space left"):
            await put_records(backend.database, shapes, store, value_store_min_size=1)
        assert asyncio.all_tasks() == before


async def test_children_in_another_order_are_not_added(backend: RedunBackendDb, shapes: list[Record]) -> None:
    """redun exports the children of a call in no certain order: a second import must not double them."""
    turned = [
        {**record, "children": record["children"][::-1]} if record["_type"] == "CallNode" else record
        for record in shapes
    ]
    assert turned != shapes
    # One writer's order wins, whether they come at the same time or one after the other.
    await asyncio.gather(*[backend.put_records(each) for each in (shapes, turned)])
    columns = (CallEdge.parent_id, CallEdge.child_id, CallEdge.call_order)
    edges = await fetch_all(backend, *columns)
    assert len(edges) == sum(len(each["children"]) for each in shapes if each["_type"] == "CallNode")
    assert [await backend.put_records(each) for each in (turned, shapes)] == [0, 0]
    assert await fetch_all(backend, *columns) == edges
