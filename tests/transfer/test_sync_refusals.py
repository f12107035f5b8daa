"""Sync of a damaged source: what cannot go in is refused by name, and all else goes in whole."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest
import sqlalchemy as sa

from aredun.backend import RedunBackendDb
from aredun.errors import RedunDatabaseError
from aredun.models import CallNode, Execution, Job, Value
from aredun.storage.retry import is_refusal
from aredun.sync import sync_records
from aredun.transfer.verify import verify_repository

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

# The id of an execution, and of a job that is not the root of one.
FIRST = "(SELECT min(id) FROM execution)"
INNER = "(SELECT min(id) FROM job WHERE parent_id IS NOT NULL)"
NUL = "'a' || char(0) || 'b'"

# Damage that no database takes, and what the refusals must name.
EVERYWHERE = {
    "an execution without its root job": (
        f"DELETE FROM job WHERE id = (SELECT job_id FROM execution WHERE id = {FIRST})",
        "Execution {first} was refused by the destination",
    ),
    "a job that is its own parent": (
        f"UPDATE job SET parent_id = id WHERE id = {INNER}",
        "needs it in turn",
    ),
    "a job with an id that cannot be asked for": (
        f"UPDATE job SET id = {NUL} WHERE id = {INNER}",
        r"Job a\x00b is not at the source",
    ),
    "an execution with an id that cannot be asked for": (
        f"UPDATE execution SET id = {NUL} WHERE id = {FIRST}",
        r"Execution a\x00b was refused by the destination",
    ),
    "a call that is missing": (
        "DELETE FROM call_node WHERE task_name = 'shapes.recover'",
        "Execution",
    ),
    "a result that is missing": (
        "DELETE FROM value WHERE value_hash = (SELECT value_hash FROM call_node"
        " WHERE task_name = 'shapes.recover')",
        "is referred to, but cannot be found at the source",
    ),
    "bytes that are text": (
        "UPDATE value SET value = 'text' WHERE value_hash = (SELECT value_hash FROM call_node"
        " WHERE task_name = 'shapes.recover')",
        "is not what its hash says",
    ),
    "a tag that is no JSON": (
        "UPDATE tag SET value = '{' WHERE key = 'colour'",
        "Tag",
    ),
    "a call among those that it made": (
        "INSERT INTO call_edge SELECT child_id, parent_id, 77 FROM call_edge LIMIT 1",
        "refers to records that were refused",
    ),
}
# Damage that sqlite takes and PostgreSQL does not.
ON_POSTGRES = {
    "arguments with NUL": (
        f"UPDATE execution SET args = {NUL} WHERE id = {FIRST}",
        "Execution {first} was refused by the destination: the database refused: invalid byte sequence",
    ),
    "a path with NUL": (
        f"UPDATE file SET path = {NUL}",
        "was refused by the destination: the database refused: invalid byte sequence",
    ),
    "a task with NUL": (
        f"UPDATE task SET source = {NUL} WHERE name = 'recover'",
        "was refused by the destination: the database refused: invalid byte sequence",
    ),
    "a call with NUL": (
        f"UPDATE call_node SET task_name = {NUL} WHERE task_name = 'shapes.recover'",
        "was refused by the destination: the database refused: invalid byte sequence",
    ),
    "a tag of an unknown kind": (
        "UPDATE tag SET entity_type = 'Nonsense' WHERE key = 'colour'",
        "was refused by the destination: the database refused: invalid input value",
    ),
    "a moment that is none": (
        f"UPDATE job SET start_time = 'noon' WHERE id = {INNER}",
        "was refused by the destination: the database refused: invalid input syntax",
    ),
}


@pytest.fixture
def damage(shapes_path: Path, tmp_path: Path) -> Callable[[str], tuple[str, str]]:
    """Makes a copy of the repository and damages it; returns its URI and the id of its first execution."""

    def make(statement: str) -> tuple[str, str]:
        path = tmp_path / "damaged.db"
        shutil.copyfile(shapes_path, path)
        with closing(sqlite3.connect(path)) as raw, raw:
            raw.execute("PRAGMA ignore_check_constraints = 1")
            (first,) = raw.execute("SELECT min(id) FROM execution").fetchone()
            assert raw.execute(statement).rowcount > 0
        return f"sqlite:///{path}", first

    return make


async def fetch_ids(backend: RedunBackendDb, *columns: Any) -> list[str]:
    async with backend.session() as session:
        return [each for column in columns for each in await session.scalars(sa.select(column))]


async def sync_damaged(url: str, backend: RedunBackendDb) -> list[str]:
    """Sync twice; what arrives must be whole and right, and must not change any more."""
    async with RedunBackendDb(url) as source:
        report = await sync_records(source, backend, batch_size=10)
        roots = await fetch_ids(backend, Execution.id, Job.id, CallNode.call_hash, Value.value_hash)
        owned = [record_id async for record_id in source.iter_record_ids(roots)]
        refused = {record_id for _, record_id in get_names(report.refused)}
        assert set(await backend.has_records(owned)) == set(owned) - refused
        again = await sync_records(source, backend)
    assert again.written == 0
    assert get_names(again.refused) == get_names(report.refused)
    assert (await verify_repository(backend.database)).problems == []
    messages = [str(error) for error in report.refused]
    assert all(len(message) < 600 and message.isprintable() for message in messages)
    return messages


def get_names(errors: list[Any]) -> list[tuple[str, str]]:
    """Return kinds and ids of what was refused."""
    return sorted((words[0], words[1]) for words in (str(error).split() for error in errors))


@pytest.mark.parametrize("name", EVERYWHERE)
async def test_damage(name: str, damage: Callable[[str], tuple[str, str]], backend: RedunBackendDb) -> None:
    statement, expected = EVERYWHERE[name]
    url, first = damage(statement)
    messages = await sync_damaged(url, backend)
    assert any(expected.format(first=first) in message for message in messages)
    assert len(await fetch_ids(backend, Execution.id)) >= 2


@pytest.mark.parametrize("name", ON_POSTGRES)
async def test_damage_that_sqlite_takes(
    name: str, damage: Callable[[str], tuple[str, str]], backend: RedunBackendDb
) -> None:
    statement, expected = ON_POSTGRES[name]
    url, first = damage(statement)
    messages = await sync_damaged(url, backend)
    if backend.database.dialect_name == "sqlite":
        assert messages == []
        assert len(await fetch_ids(backend, Execution.id)) == 4
    else:
        assert any(expected.format(first=first) in message for message in messages)
        assert len(await fetch_ids(backend, Execution.id)) >= 2


async def test_a_lost_cached_step_is_no_loss(
    damage: Callable[[str], tuple[str, str]], backend: RedunBackendDb
) -> None:
    url, _ = damage(
        "DELETE FROM value WHERE value_hash = (SELECT max(value_hash) FROM evaluation"
        " WHERE value_hash NOT IN (SELECT value_hash FROM call_node))"
    )
    assert await sync_damaged(url, backend) == []
    assert len(await fetch_ids(backend, Execution.id)) == 4


@pytest.mark.parametrize(
    ("cause", "expected"),
    [
        (asyncpg.UniqueViolationError("twice"), True),
        (asyncpg.CharacterNotInRepertoireError("NUL"), True),
        (asyncpg.StatementTooComplexError("deep"), True),
        (asyncpg.DiskFullError("full"), False),
        (asyncpg.InsufficientPrivilegeError("no"), False),
        (asyncpg.DeadlockDetectedError("busy"), False),
        (asyncpg.AdminShutdownError("gone"), False),
        (sqlite3.IntegrityError("twice"), True),
        (sqlite3.OperationalError("disk full"), False),
        (sqlite3.DatabaseError("malformed"), False),
        (OSError("no space"), False),
    ],
)
def test_only_data_is_refused(cause: Exception, expected: bool) -> None:
    """A database that fails must end the sync, not have all records refused one by one."""
    error = RedunDatabaseError("the database refused")
    error.__cause__ = cause
    assert is_refusal(error) is expected
