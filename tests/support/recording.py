"""Workflows to record: jobs as both backends read them, and all rows of a database to compare."""

from __future__ import annotations

import contextlib
import shutil
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import redun
import sqlalchemy as sa

from aredun.formats.hashing import hash_eval
from aredun.values import CacheCheckValid, CacheResult, CacheScope
from tests.support.databases import redun_uri

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import pytest

    from aredun.backend import RedunBackendDb
    from tests.support.databases import PostgresCluster

START = datetime(2024, 5, 1, 12, 0, tzinfo=UTC)


def at(seconds: float) -> datetime:
    """Return a time so many seconds after the beginning of every test."""
    return START + timedelta(seconds=seconds)


def new_id() -> str:
    """Return a fresh id of a job or an execution."""
    return str(uuid.uuid4())


@dataclass
class FakeExecution:
    """What backends read of an execution."""

    id: str = field(default_factory=new_id)


@dataclass
class FakeJob:
    """What backends read of a job."""

    task: Any
    execution: FakeExecution = field(default_factory=FakeExecution)
    parent_job: FakeJob | None = None
    id: str = field(default_factory=new_id)
    was_cached: bool = False
    call_hash: str | None = None


@contextlib.contextmanager
def other_database(dialect: str, request: pytest.FixtureRequest, folder: Path) -> Iterator[str]:
    """Give a second migrated database of the same kind."""
    if dialect == "sqlite":
        path = folder / "other.db"
        shutil.copyfile(request.getfixturevalue("sqlite_template"), path)
        yield f"sqlite:///{path}"
        return
    cluster: PostgresCluster = request.getfixturevalue("postgres")
    name = cluster.create_database(request.getfixturevalue("postgres_template"))
    yield cluster.url(name)
    cluster.drop_database(name)


def read_rows(url: str) -> dict[str, list[tuple[Any, ...]]]:
    """Return all rows of all tables, sorted, without what differs from run to run.

    Left out are the times that redun takes itself (`call_node.timestamp`) and the history of versions.
    """
    engine = sa.create_engine(redun_uri(url))
    metadata = sa.MetaData()
    rows: dict[str, list[tuple[Any, ...]]] = {}
    with engine.connect() as connection:
        metadata.reflect(connection)
        for table in metadata.tables.values():
            if table.name in ("redun_version", "alembic_version"):
                continue
            columns = [column for column in table.columns if column.name != "timestamp"]
            found = connection.execute(sa.select(*columns)).all()
            rows[table.name] = sorted((tuple(map(_plain, row)) for row in found), key=repr)
    engine.dispose()
    return rows


def count_rows(url: str, table: str) -> int:
    """Return the number of rows of one table."""
    engine = sa.create_engine(redun_uri(url))
    with engine.connect() as connection:
        count: int = connection.execute(sa.text(f"SELECT count(*) FROM {table}")).scalar_one()
    engine.dispose()
    return count


def execute(url: str, *statements: str) -> None:
    """Run statements behind the backend's back."""
    engine = sa.create_engine(redun_uri(url))
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(sa.text(statement))
    engine.dispose()


def _plain(value: Any) -> Any:
    if isinstance(value, memoryview):
        return bytes(value)
    if isinstance(value, datetime) and value.tzinfo is None:
        return value.replace(tzinfo=UTC)
    return value.astimezone(UTC) if isinstance(value, datetime) else value


@redun.task(name="align", namespace="writer")
def align(sample: int, depth: int) -> int:
    return sample * depth


async def start(backend: RedunBackendDb) -> FakeJob:
    """Record an execution and its root job."""
    root = FakeJob(align, FakeExecution())
    await backend.record_execution(root.execution.id, ["main"])
    await backend.record_job_start(root)
    return root


async def record_call(backend: RedunBackendDb, root: FakeJob, number: int) -> None:
    """Record one call: cache check, job start, value, evaluation, call node with two arguments, job end."""
    job = FakeJob(align, root.execution, root)
    arguments = (number, 3)
    eval_hash, args_hash = hash_eval(backend.type_registry, align.hash, arguments, {})
    _, _, kind = await backend.check_cache(
        align.hash,
        args_hash,
        eval_hash,
        root.execution.id,
        {align.hash},
        CacheScope.BACKEND,
        CacheCheckValid.FULL,
    )
    assert kind is CacheResult.MISS
    await backend.record_job_start(job)
    result_hash = await backend.record_value([number])
    await backend.set_eval_cache(eval_hash, align.hash, args_hash, [number], result_hash)
    job.call_hash = await backend.record_call_node(
        align.fullname, align.hash, args_hash, (arguments, {}), (arguments, {}), result_hash, [], {align}
    )
    await backend.record_job_end(job)
