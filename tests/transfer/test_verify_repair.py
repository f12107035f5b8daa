"""Repair: what can be derived is mended, the rest is listed, and a second verification finds nothing new."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from aredun.backend import RedunBackendDb
from aredun.models import CallNode, CallSubtreeTask, Evaluation, File, Job, Task, Value
from tests.support.verification import pick, verify

if TYPE_CHECKING:
    from pathlib import Path

    from aredun.transfer.verify import VerifyReport

SUBTREES = (CallSubtreeTask.call_hash, CallSubtreeTask.task_hash)
EVALUATIONS = (Evaluation.eval_hash, Evaluation.task_hash, Evaluation.args_hash, Evaluation.value_hash)


async def damage(backend: RedunBackendDb, *statements: Any) -> None:
    """Run statements with foreign keys switched off."""

    async def operation(session: Any) -> None:
        if backend.database.dialect_name == "postgresql":
            await session.execute(sa.text("SET LOCAL session_replication_role = replica"))
        for statement in statements:
            await session.execute(statement.execution_options(synchronize_session=False))

    await backend.database.set_foreign_keys(False)
    await backend.database.write(operation)
    await backend.database.set_foreign_keys(True)


async def fetch_all(backend: RedunBackendDb, *columns: Any) -> set[tuple[Any, ...]]:
    async with backend.session() as session:
        return {tuple(row) for row in await session.execute(sa.select(*columns))}


def describe(report: VerifyReport) -> list[tuple[str, str]]:
    return sorted((problem.kind, problem.record) for problem in report.problems)


async def check_repair(backend: RedunBackendDb, expected: list[tuple[str, str]]) -> None:
    """Damage is found without being touched, then mended, and is gone then."""
    assert describe(await verify(backend)) == sorted(expected)
    report = await verify(backend, repair=True)
    assert set(describe(report)) >= set(expected)
    assert report.is_sound
    assert (await verify(backend)).problems == []


def get_call(name: str) -> Any:
    return sa.select(CallNode.call_hash).where(CallNode.task_name == name).order_by(CallNode.call_hash)


async def test_a_subtree_that_lacks_a_task(copied: RedunBackendDb) -> None:
    """It would pass off a result whose inner task has changed."""
    before = await fetch_all(copied, *SUBTREES)
    call = await pick(copied, get_call("shapes.nested"))
    leaf = await pick(copied, sa.select(Task.hash).where(Task.name == "leaf"))
    here = sa.and_(CallSubtreeTask.call_hash == call, CallSubtreeTask.task_hash == leaf)
    await damage(copied, sa.delete(CallSubtreeTask).where(here))
    await check_repair(copied, [("wrong subtree", f"CallNode {call}")])
    assert await fetch_all(copied, *SUBTREES) == before


async def test_a_subtree_that_lacks_the_task_of_a_rebuilt_child(copied: RedunBackendDb) -> None:
    """What is mended below shows what is wrong above."""
    before = await fetch_all(copied, *SUBTREES)
    leaf = await pick(copied, sa.select(Task.hash).where(Task.name == "leaf"))
    await damage(copied, sa.delete(CallSubtreeTask).where(CallSubtreeTask.task_hash == leaf))
    report = await verify(copied, repair=True)
    assert {kind for kind, _ in describe(report)} == {"empty subtree", "wrong subtree"}
    assert await fetch_all(copied, *SUBTREES) == before
    assert (await verify(copied)).problems == []


async def test_a_subtree_that_cannot_be_known(original: RedunBackendDb) -> None:
    """It made calls that were not recorded: it becomes a cache miss."""
    call = await pick(original, get_call("shapes.half_recorded"))
    leaf = await pick(original, sa.select(Task.hash).where(Task.name == "leaf"))
    here = sa.and_(CallSubtreeTask.call_hash == call, CallSubtreeTask.task_hash == leaf)
    await damage(original, sa.delete(CallSubtreeTask).where(here))
    await check_repair(original, [("wrong subtree", f"CallNode {call}")])
    assert call not in {row[0] for row in await fetch_all(original, *SUBTREES)}


async def test_evaluations(copied: RedunBackendDb) -> None:
    before = await fetch_all(copied, *EVALUATIONS)
    leaf = await pick(copied, sa.select(Task.hash).where(Task.name == "leaf"))
    lost, altered = sorted(row[0] for row in before if row[1] == leaf)[:2]
    await damage(
        copied,
        sa.delete(Evaluation).where(Evaluation.eval_hash == lost),
        sa.update(Evaluation).where(Evaluation.eval_hash == altered).values(args_hash="0" * 40),
    )
    expected = [("missing evaluation", f"Evaluation {lost}"), ("wrong hash", f"Evaluation {altered}")]
    await check_repair(copied, expected)
    assert await fetch_all(copied, *EVALUATIONS) == before


async def test_rows_without_an_owner(copied: RedunBackendDb) -> None:
    tables = (
        "argument",
        "argument_result",
        "call_edge",
        "call_subtree_task",
        "evaluation",
        "file",
        "subvalue",
        "tag_edit",
    )
    before = [await fetch_all(copied, sa.text(f"* FROM {table}")) for table in tables]
    call = await pick(copied, get_call("shapes.nested"))
    value = await pick(copied, sa.select(Value.value_hash))
    task = await pick(copied, sa.select(Task.hash))
    await damage(
        copied,
        sa.text(f"INSERT INTO argument VALUES ('a1', 'gone', '{value}', 0, NULL)"),
        sa.text(f"INSERT INTO argument_result VALUES ('a1', '{call}')"),
        sa.text(f"INSERT INTO argument_result VALUES ('a2', '{call}')"),
        sa.text(f"INSERT INTO call_edge VALUES ('gone', '{call}', 0)"),
        sa.text(f"INSERT INTO call_subtree_task VALUES ('gone', '{task}')"),
        sa.text("INSERT INTO file VALUES ('gone', '/gone')"),
        sa.text(f"INSERT INTO subvalue VALUES ('{value}', 'gone')"),
        sa.text(f"INSERT INTO evaluation VALUES ('gone', '{task}', 'args', 'gone')"),
        sa.text("INSERT INTO tag_edit SELECT tag_hash, 'gone' FROM tag WHERE NOT is_current LIMIT 1"),
    )
    report = await verify(copied)
    owners = {problem.record.split()[1] for problem in report.problems}
    assert owners == {"gone", "a2"}
    assert len(report.problems) == 9
    report = await verify(copied, repair=True)
    assert report.is_sound
    assert (await verify(copied)).problems == []
    assert [await fetch_all(copied, sa.text(f"* FROM {table}")) for table in tables] == before


async def test_lost_records_stay_listed(copied: RedunBackendDb) -> None:
    """What belonged to them goes, what refers to them is left as it is, whoever is asked how often."""
    call = await pick(copied, get_call("shapes.recover"))
    task = await pick(copied, sa.select(Task.hash).where(Task.name == "recover"))
    await damage(
        copied,
        sa.delete(CallNode).where(CallNode.call_hash == call),
        sa.delete(Task).where(Task.hash == task),
    )
    jobs = await fetch_all(copied, Job.id, Job.call_hash, Job.task_hash)
    first, second, third = [await verify(copied, repair=True) for _ in range(3)]
    assert not first.is_sound
    assert all(problem.kind == "dangling reference" for problem in second.problems)
    assert describe(second) == describe(third) != []
    assert not any(problem.repaired for problem in second.problems)
    assert await fetch_all(copied, Job.id, Job.call_hash, Job.task_hash) == jobs


async def test_the_path_of_a_file(copied: RedunBackendDb) -> None:
    before = await fetch_all(copied, File.value_hash, File.path)
    await damage(copied, sa.delete(File))
    await check_repair(copied, [("missing file", f"Value {value_hash}") for value_hash, _ in before])
    assert await fetch_all(copied, File.value_hash, File.path) == before


async def test_bytes_that_the_value_store_has(tmp_path: Path) -> None:
    config = {
        "db_uri": f"sqlite:///{tmp_path}/stored.db",
        "value_store_path": f"{tmp_path}/values",
        "value_store_min_size": "100",
    }
    async with RedunBackendDb(config=config) as backend:
        stored, lost = [await backend.record_value(each * 1000) for each in "ab"]
        (tmp_path / "values" / lost[:2] / lost[2:]).unlink()
        await damage(backend, sa.update(Value).values(value=b"\x80\x03K\x63."))
        report = await verify(backend, repair=True)
        assert {problem.record: problem.repaired for problem in report.problems} == {
            f"Value {stored}": True,
            f"Value {lost}": False,
        }
        assert await backend.get_value(stored) == ("a" * 1000, True)
        assert describe(await verify(backend)) == [("wrong hash", f"Value {lost}")]
