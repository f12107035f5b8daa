"""What models hand over to, beside redun's own properties on the same database."""

from __future__ import annotations

import os
import pickle
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa
from redun import File as RedunFile
from redun import Handle as RedunHandle
from redun import Scheduler, task
from redun.backends import db as redun_db
from redun.backends.base import TagEntity as RedunTagEntity

from aredun import models
from aredun.errors import RedunDatabaseError
from aredun.formats.hashing import hash_tag_bytes
from aredun.recording.entities import Entities
from aredun.storage.value_store import ValueStore
from aredun.tables.behaviour import PreviewValue
from aredun.tables.column_types import TagEntity

if TYPE_CHECKING:
    from pathlib import Path

    from aredun.backend import RedunBackendDb

redun_namespace = "entities_test"


class Unknown:
    """A class that a preview must not import."""

    def __init__(self, value: int) -> None:
        self.value = value


@task()
def leaf(x: int, y: int = 2, *, label: str = "a label that is rather long") -> Any:
    return [x, {"y": y}, label]


@task()
def touch(path: str, table: Any) -> Any:
    file = RedunFile(path)
    file.write("hello")
    return [file, table]


@task()
def main(path: str) -> Any:
    return [leaf(1), leaf(2, y=3), leaf(1), leaf(3, label="x"), touch(path, RedunHandle("t")), Unknown(7)]


@pytest.fixture
async def execution_id(redun_backend: Any, tmp_path: Path) -> str:
    """A workflow, run by redun."""
    scheduler = Scheduler(backend=redun_backend)
    scheduler.run(main(str(tmp_path / "data.txt")))
    execution = redun_backend.session.query(redun_db.Execution).one()
    call_hash = execution.job.call_hash
    redun_backend.record_call_node_context(call_hash, None, {"lab": {"name": "x"}, "n": 1})
    redun_backend.record_tags(RedunTagEntity.Execution, execution.id, [("a", 1)])
    return str(execution.id)


async def load_all(backend: RedunBackendDb, model: Any) -> list[Any]:
    """Load all rows of a model."""
    async with backend.session() as session:
        return list(await session.scalars(sa.select(model)))


def theirs(redun_backend: Any, name: str) -> dict[str, Any]:
    """Return redun's objects of a model by primary key."""
    objects = redun_backend.session.query(getattr(redun_db, name)).all()
    return {sa.inspect(item).identity[0]: item for item in objects}


@pytest.mark.usefixtures("execution_id")
async def test_calls_as_redun(backend: RedunBackendDb, redun_backend: Any) -> None:
    nodes = await load_all(backend, models.CallNode)
    originals = theirs(redun_backend, "CallNode")
    assert len(nodes) == len(originals) == 5
    for node in nodes:
        original = originals[node.call_hash]
        children = [child.call_hash for child in await node.children()]
        assert children == [child.call_hash for child in original.children]
        parents = [parent.call_hash for parent in await node.parents()]
        assert parents == [parent.call_hash for parent in original.parents]
        arguments = sorted(
            original.arguments, key=lambda arg: (arg.arg_position is None, arg.arg_position, arg.arg_key)
        )
        expected = repr([argument.value_parsed for argument in arguments])
        display = await node.args_display()
        assert display == (expected if len(expected) <= 100 else f"{expected[:96]}...]")
    root = next(node for node in nodes if node.task_name.endswith("main"))
    assert len(await root.children()) == 4
    # A call that was made twice is a child twice.
    result = await backend.record_value("result")
    twice = [node.call_hash for node in nodes[:2]] * 2
    call_hash = await backend.record_call_node(
        root.task_name, root.task_hash, "0" * 40, ((), {}), ((), {}), result, twice
    )
    assert [child.call_hash for child in await backend.entities.get_children(call_hash)] == twice
    assert [node.call_hash for node in await backend.entities.get_parents(twice[0])].count(call_hash) == 2


@pytest.mark.usefixtures("execution_id")
async def test_displays_of_many_calls_at_once(backend: RedunBackendDb) -> None:
    nodes = await load_all(backend, models.CallNode)
    hashes = [node.call_hash for node in nodes]
    before = backend.database.counts.statements
    displays = await backend.entities.get_args_displays(hashes)
    children = await backend.entities.get_children_of(hashes)
    assert backend.database.counts.statements - before == 3
    assert {node.call_hash: await node.args_display() for node in nodes} == displays
    for node in nodes:
        one_by_one = [child.call_hash for child in await node.children()]
        assert [child.call_hash for child in children[node.call_hash]] == one_by_one


@pytest.mark.usefixtures("execution_id")
async def test_previews_as_redun(backend: RedunBackendDb, redun_backend: Any) -> None:
    values = await load_all(backend, models.Value)
    originals = theirs(redun_backend, "Value")
    previews = await backend.get_previews([value.value_hash for value in values])
    assert list(previews) == [value.value_hash for value in values]
    for value in values:
        if "Unknown" not in repr(previews[value.value_hash]):
            # redun imports that class and shows it in the class's own way.
            assert repr(previews[value.value_hash]) == repr(originals[value.value_hash].preview), value
        assert repr(await value.preview()) == repr(previews[value.value_hash])
        assert repr(await value.value_parsed()) == repr(previews[value.value_hash])
    assert any("Unknown(value=7)" in repr(preview) for preview in previews.values())


async def test_jobs_and_executions_as_redun(
    backend: RedunBackendDb, redun_backend: Any, execution_id: str
) -> None:
    (execution,) = await load_all(backend, models.Execution)
    original = theirs(redun_backend, "Execution")[execution_id]
    call_node, task_row = await execution.call_node(), await execution.task()
    assert call_node is not None
    assert task_row is not None
    assert call_node.call_hash == original.call_node.call_hash
    assert task_row.fullname == original.task.fullname
    jobs = theirs(redun_backend, "Job")
    contexts = {job.id: await job.context() for job in await load_all(backend, models.Job)}
    assert contexts == {job_id: job.context for job_id, job in jobs.items()}
    assert {"lab": {"name": "x"}, "n": 1} in contexts.values()
    assert await backend.entities.get_job_task("nobody") is None
    assert await backend.entities.get_job_call_node("nobody") is None


async def test_tags_as_redun(backend: RedunBackendDb, redun_backend: Any, execution_id: str) -> None:
    originals = theirs(redun_backend, "Tag")
    tags = await load_all(backend, models.Tag)
    for tag in tags:
        original = originals[tag.tag_hash]
        assert sa.inspect(await tag.entity()).identity == sa.inspect(original.entity).identity
        if isinstance(tag.value, str):
            assert await tag.value_parsed() == original.value_parsed
    execution = await backend.entities.get_entity(TagEntity.Execution, execution_id)
    assert isinstance(execution, models.Execution)
    assert execution.id == execution_id
    many = await backend.entities.get_entities([(tag.entity_type, tag.entity_id) for tag in tags])
    assert len(many) == len({(tag.entity_type, tag.entity_id) for tag in tags})
    with pytest.raises(RedunDatabaseError, match="no Job has the id 'nobody'"):
        await backend.entities.get_entity(TagEntity.Job, "nobody")


@pytest.mark.usefixtures("execution_id")
async def test_files_and_handles_as_redun(backend: RedunBackendDb, redun_backend: Any) -> None:
    for model, name in ((models.File, "File"), (models.Handle, "Handle")):
        originals = theirs(redun_backend, name)
        rows = await load_all(backend, model)
        assert rows
        for row in rows:
            original = originals[sa.inspect(row).identity[0]]
            own, *holding = [value.value_hash for value in await row.values()]
            assert [own, *sorted(holding)] == [own, *holding]
            assert {own, *holding} == {value.value_hash for value in original.values}


async def test_nothing_of_a_value_is_run(backend: RedunBackendDb, tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(tmp_path / "boom"),)

    data = pickle.dumps([Bomb()], protocol=3)
    value_hash = hash_tag_bytes("Value", data)
    await backend.record_value("harmless")
    async with backend.session() as session:
        row = {"value_hash": value_hash, "type": "builtins.list", "format": "application/python-pickle"}
        await session.execute(sa.insert(models.Value), [{**row, "value": data}])
        await session.commit()
    assert "mkdir" in repr((await backend.get_previews([value_hash]))[value_hash])
    assert os.listdir(tmp_path).count("boom") == 0


async def test_large_and_missing_values(backend: RedunBackendDb) -> None:
    large = await backend.record_value("x" * 1_000_001)
    middle = await backend.record_value("y" * 500_000)
    small = await backend.record_value([1, 2])
    none = await backend.record_value(None)
    previews = await backend.get_previews([large, "0" * 40, middle, small, none])
    assert list(previews) == [large, middle, small, none]
    assert isinstance(previews[large], PreviewValue)
    assert repr(previews[large]) == f"builtins.str(hash={large[:8]}, size={previews[large].size})"
    assert previews[middle] == "y" * 500_000
    assert (previews[small], previews[none]) == ([1, 2], None)
    assert await backend.entities.get_value_parsed(large) == "x" * 1_000_001
    assert await backend.entities.get_preview("0" * 40) is None


async def test_values_in_the_value_store(database_url: str, tmp_path: Path) -> None:
    from aredun.backend import RedunBackendDb

    store = ValueStore(str(tmp_path / "values"))
    async with RedunBackendDb(database_url, {"value_store_path": str(tmp_path / "values")}) as backend:
        stored = [await backend.record_value("z" * size) for size in (2_000, 3_000, 4_000, 1_200_000)]
        lost, damaged, whole, large = stored
        os.remove(store.get_value_path(lost))
        os.truncate(store.get_value_path(damaged), 100)
        previews = await backend.get_previews(stored)
        assert previews[whole] == "z" * 4_000
        assert repr(previews[lost]) == f"builtins.str(hash={lost[:8]}, size=-1)"
        assert repr(previews[damaged]) == f"builtins.str(hash={damaged[:8]}, size=100)"
        assert isinstance(previews[large], PreviewValue)
        without_store = Entities(backend.database)
        assert repr(await without_store.get_preview(whole)) == f"builtins.str(hash={whole[:8]}, size=-1)"
