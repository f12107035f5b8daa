"""Verification: each kind of damage is found, with the record at fault, and what follows is mended."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from aredun.backend import RedunBackendDb
from aredun.models import (
    Argument,
    CallNode,
    CallSubtreeTask,
    Evaluation,
    Execution,
    Tag,
    TagEdit,
    Value,
)
from aredun.transfer.verify import VerifyReport, verify_repository
from tests.support.verification import pick, verify

if TYPE_CHECKING:
    from pathlib import Path


async def change(backend: RedunBackendDb, *statements: Any) -> None:
    async def operation(session: Any) -> None:
        for statement in statements:
            await session.execute(statement.execution_options(synchronize_session=False))

    await backend.database.write(operation)


def describe(report: VerifyReport) -> list[tuple[str, str]]:
    return [(problem.kind, problem.record) for problem in report.problems]


async def test_what_redun_records_is_sound(original: RedunBackendDb) -> None:
    told: list[int] = []
    report = await verify_repository(
        original.database, None, on_progress=lambda report: told.append(sum(report.checked.values()))
    )
    assert report.problems == []
    assert report.is_sound
    assert {"value", "call_node", "argument", "tag", "evaluation"} <= report.checked.keys()
    assert told


async def test_what_was_synced_is_sound(copied: RedunBackendDb) -> None:
    assert (await verify(copied)).problems == []


async def test_wrong_hashes(copied: RedunBackendDb) -> None:
    value = await pick(copied, sa.select(Value.value_hash).where(Value.type == "builtins.int"))
    call = await pick(copied, sa.select(CallNode.call_hash).where(CallNode.task_name == "shapes.nested"))
    other = await pick(copied, sa.select(Value.value_hash).where(Value.type == "builtins.str"))
    argument = await pick(copied, sa.select(Argument.arg_hash).where(Argument.call_hash != call))
    owner = await pick(copied, sa.select(Argument.call_hash).where(Argument.arg_hash == argument))
    tag = await pick(copied, sa.select(Tag.tag_hash).where(Tag.key == "project"))
    evaluation = await pick(copied, sa.select(Evaluation.eval_hash))
    await change(
        copied,
        sa.update(Value).where(Value.value_hash == value).values(value=b"\x80\x03K\x63."),
        sa.update(CallNode).where(CallNode.call_hash == call).values(value_hash=other),
        sa.update(Argument).where(Argument.arg_hash == argument).values(arg_position=9),
        sa.update(Tag).where(Tag.tag_hash == tag).values(value="stolen"),
        sa.update(Evaluation).where(Evaluation.eval_hash == evaluation).values(args_hash="0" * 40),
    )
    report = await verify(copied, repair=True)
    assert sorted(describe(report)) == sorted(
        ("wrong hash", record)
        for record in (
            f"Value {value}",
            f"CallNode {call}",
            f"CallNode {owner}",
            f"Tag {tag}",
            f"Evaluation {evaluation}",
        )
    )
    assert not report.is_sound


async def test_wrong_flags_are_mended(copied: RedunBackendDb) -> None:
    old = await pick(copied, sa.select(TagEdit.parent_id))
    new = await pick(copied, sa.select(Tag.tag_hash).where(Tag.is_current))
    await change(
        copied,
        sa.update(Tag).where(Tag.tag_hash == old).values(is_current=True),
        sa.update(Tag).where(Tag.tag_hash == new).values(is_current=False),
    )
    expected = sorted([("wrong is_current", f"Tag {old}"), ("wrong is_current", f"Tag {new}")])
    assert sorted(describe(await verify(copied))) == expected
    report = await verify(copied, repair=True)
    assert sorted(describe(report)) == expected
    assert report.is_sound
    assert (await verify(copied)).problems == []


async def test_missing_subtrees_are_rebuilt(copied: RedunBackendDb) -> None:
    """What redun's own import leaves behind."""

    async def fetch() -> set[tuple[Any, ...]]:
        async with copied.session() as session:
            rows = await session.execute(sa.select(CallSubtreeTask.call_hash, CallSubtreeTask.task_hash))
            return {tuple(row) for row in rows}

    expected = await fetch()
    await change(copied, sa.delete(CallSubtreeTask), sa.delete(Evaluation))
    report = await verify(copied, repair=True)
    assert {kind for kind, _ in describe(report)} == {"empty subtree"}
    assert await fetch() == expected
    assert await pick(copied, sa.select(Evaluation.eval_hash)) is not None
    assert (await verify(copied)).problems == []


async def test_dangling_references(original: RedunBackendDb, tmp_path: Path) -> None:
    import sqlite3

    execution = await pick(original, sa.select(Execution.id).order_by(Execution.id))
    entity = await pick(original, sa.select(Tag.entity_id).where(Tag.entity_type == "Value"))
    raw = sqlite3.connect(tmp_path / "copy.db")
    raw.execute("UPDATE execution SET job_id = 'nowhere' WHERE id = ?", (execution,))
    raw.execute("DELETE FROM value WHERE value_hash = ?", (entity,))
    raw.commit()
    raw.close()
    report = await verify(original)
    assert {kind for kind, _ in describe(report)} == {"dangling reference"}
    messages = [str(problem) for problem in report.problems]
    assert f"Execution {execution}: dangling reference: its job_id nowhere is not among the jobs" in messages
    assert any(f"the Value {entity} that it hangs on is missing" in message for message in messages)


async def test_value_store(tmp_path: Path) -> None:
    config = {
        "db_uri": f"sqlite:///{tmp_path}/stored.db",
        "value_store_path": f"{tmp_path}/values",
        "value_store_min_size": "100",
    }
    async with RedunBackendDb(config=config) as backend:
        hashes = [await backend.record_value(f"{index}" * 1000) for index in range(3)]
        assert (await verify(backend)).problems == []
        paths = [tmp_path / "values" / each[:2] / each[2:] for each in hashes]
        paths[0].unlink()
        paths[1].write_bytes(b"\x80\x03K\x63.")
        report = await verify(backend)
        assert sorted(describe(report)) == sorted(
            [("missing bytes", f"Value {hashes[0]}"), ("wrong hash", f"Value {hashes[1]}")]
        )
        without = await verify_repository(backend.database, None)
        assert {problem.detail for problem in without.problems} == {
            "its bytes are in a value store, and value_store_path is not set"
        }


async def test_large_values(backend: RedunBackendDb) -> None:
    value_hash = await backend.record_value("x" * 200_000)
    assert (await verify(backend)).problems == []
    await change(backend, sa.update(Value).values(value=b"y" * 200_000))
    assert describe(await verify(backend)) == [("wrong hash", f"Value {value_hash}")]


async def test_nothing_is_run(backend: RedunBackendDb, tmp_path: Path) -> None:
    """A pickle that would leave a file behind is looked at, and leaves none."""
    import pickle

    from aredun.formats.hashing import hash_tag_bytes

    class Trap:
        def __reduce__(self) -> Any:
            return open, (str(tmp_path / "sprung"), "w")

    data = pickle.dumps(Trap(), 3)
    rows: list[dict[str, Any]] = [
        {"value_hash": hash_tag_bytes("Value", data), "type": "any.Type"},
        {"value_hash": "1" * 40, "type": "builtins.set"},
        {"value_hash": "2" * 40, "type": "redun.File"},
        {"value_hash": "3" * 40, "type": "redun.StagingFile"},
        {"value_hash": "4" * 40, "type": "builtins.list"},
    ]
    rows = [{**row, "format": "application/python-pickle", "value": data} for row in rows]
    await change(backend, sa.insert(Value).values(rows))
    report = await verify(backend)
    assert describe(report) == [("wrong hash", "Value " + "4" * 40)]
    assert report.unverifiable == 3
    assert not (tmp_path / "sprung").exists()
