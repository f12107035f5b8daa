"""The database: connections as they should be, readers that never wait, nothing left behind."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects.sqlite.aiosqlite import dialect as sqlite_dialect

from aredun.backend import RedunBackendDb
from aredun.config import BackendConfig
from aredun.errors import RedunDatabaseError
from aredun.models import Job, Value
from aredun.storage import translate_error
from aredun.storage.inserts import format_time
from aredun.storage.sqlite import SqliteFile
from aredun.tables.column_types import DateTimeUTC
from tests.support.recording import count_rows, start
from tests.support.sessions import until_threads_end

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

    from tests.support.databases import PostgresCluster


async def pragma(backend: RedunBackendDb, name: str) -> object:
    async with backend.session() as session:
        return (await session.execute(sa.text(f"PRAGMA {name}"))).scalar_one()


async def test_a_new_file_gets_wal(tmp_path: Path) -> None:
    async with RedunBackendDb(f"sqlite:///{tmp_path / 'deep' / 'redun.db'}") as backend:
        assert await pragma(backend, "journal_mode") == "wal"
        assert await pragma(backend, "synchronous") == 1
        assert await pragma(backend, "foreign_keys") == 1


@pytest.mark.parametrize(
    ("settings", "expected"),
    [({}, "delete"), ({"journal_mode": "wal"}, "wal"), ({"journal_mode": "keep"}, "delete")],
)
async def test_a_file_of_somebody_else_keeps_its_journal(
    tmp_path: Path, settings: dict[str, str], expected: str
) -> None:
    from redun.backends.db import RedunBackendDb as Original

    uri = f"sqlite:///{tmp_path / 'redun.db'}"
    original = Original(db_uri=uri)
    original.load()
    original.session.close()
    original.engine.dispose()
    async with RedunBackendDb(uri, settings) as backend:
        await backend.record_value(1)
        assert await pragma(backend, "journal_mode") == expected
        assert await pragma(backend, "synchronous") == (2 if expected == "delete" else 1)
        assert await pragma(backend, "foreign_keys") == 1


async def test_synchronous_can_be_chosen(tmp_path: Path) -> None:
    async with RedunBackendDb(f"sqlite:///{tmp_path / 'a.db'}", {"synchronous": "full"}) as backend:
        assert await pragma(backend, "synchronous") == 2


async def test_foreign_keys_stay_on_after_an_error(backend: RedunBackendDb, dialect: str) -> None:
    for _ in range(2):
        with pytest.raises(RedunDatabaseError):
            await backend.set_eval_cache("e" * 40, "no such task", "a" * 40, 1)
    if dialect == "sqlite":
        assert await pragma(backend, "foreign_keys") == 1


async def test_memory_is_one_database_for_readers_and_the_writer() -> None:
    async with RedunBackendDb("sqlite:///:memory:") as first, RedunBackendDb("sqlite:///:memory:") as other:
        value_hash = await first.record_value("mine")
        assert await first.get_value(value_hash) == ("mine", True)
        assert await other.get_value(value_hash) == (None, False)
        async with first.session() as session:
            assert (await first.get_value(value_hash))[1]
            await asyncio.wait_for(first.record_value("written meanwhile"), 5)
            assert len((await session.scalars(sa.select(Value))).all()) == 2
        file = first.database.file
        assert file is not None
        assert file.path is not None
        path = file.path
        assert path.exists()
    assert not path.exists()


async def test_readers_do_not_wait_for_an_open_transaction(backend: RedunBackendDb) -> None:
    value_hash = await backend.record_value("there")
    inside, leave = asyncio.Event(), asyncio.Event()

    async def operation(session: object) -> None:
        inside.set()
        await leave.wait()

    writing = asyncio.create_task(backend.database.write(operation))
    await inside.wait()
    assert await asyncio.wait_for(backend.get_value(value_hash), 5) == ("there", True)
    leave.set()
    await writing


async def test_a_session_writes_on_its_own(backend: RedunBackendDb, database_url: str) -> None:
    async with backend.session() as session:
        session.add(Value(value_hash="1" * 40, type="builtins.int", format="x", value=b"1"))
        await session.flush()
        await session.rollback()
    assert count_rows(database_url, "value") == 0
    async with backend.session() as session:
        session.add(Value(value_hash="1" * 40, type="builtins.int", format="x", value=b"1"))
        await session.commit()
    assert count_rows(database_url, "value") == 1
    assert backend.database.checked_out == 0


async def test_a_session_streams_rows(backend: RedunBackendDb) -> None:
    """Row by row, or in parts, as any `AsyncSession` does."""
    hashes = sorted([await backend.record_value(number) for number in range(10)])
    ordered = sa.select(Value.value_hash).order_by(Value.value_hash)
    async with backend.session() as session:
        result = await session.stream_scalars(ordered)
        assert [each async for each in result] == hashes
        result = await session.stream_scalars(ordered.execution_options(yield_per=4))
        parts = [list(part) async for part in result.partitions()]
        assert [len(part) for part in parts] == [4, 4, 2]
        assert [each for part in parts for each in part] == hashes
    assert backend.database.checked_out == 0


async def test_sessions_in_use_are_counted(backend: RedunBackendDb) -> None:
    await backend.record_value(1)
    assert backend.database.checked_out == 0
    async with backend.session() as session:
        await session.execute(sa.text("SELECT 1"))
        assert backend.database.checked_out == 1
    assert backend.database.checked_out == 0


async def test_the_server_knows_who_is_connected(backend: RedunBackendDb, dialect: str) -> None:
    if dialect == "postgresql":
        async with backend.session() as session:
            assert (await session.execute(sa.text("SHOW application_name"))).scalar_one() == "aredun"


async def test_a_long_statement_is_stopped(database_url: str, dialect: str) -> None:
    if dialect == "postgresql":
        async with RedunBackendDb(database_url, {"statement_timeout": "0.1"}) as backend:
            with pytest.raises(RedunDatabaseError, match="timeout"):
                await backend.database.read(lambda session: session.execute(sa.text("SELECT pg_sleep(5)")))


async def test_a_pooler_in_between_is_supported(database_url: str) -> None:
    async with RedunBackendDb(database_url, {"prepared_statements": "false"}) as backend:
        hashes = await asyncio.gather(*(backend.record_value(number) for number in range(20)))
        assert await backend.get_value(hashes[3]) == (3, True)


async def test_behind_a_pooler_times_stay_as_they_are(
    postgres: PostgresCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDUN_LOCALTIMEZONE", "America/New_York")
    name = postgres.create_database()
    backend = RedunBackendDb(postgres.url(name), {"prepared_statements": "false"})
    await backend.load(migrate=True)
    async with backend:
        began = datetime.now(UTC)
        await start(backend)
        async with backend.batch():
            # An answer in the middle keeps the transaction open.
            await backend.get_value(await backend.record_value(1))
            await start(backend)
        async with backend.session() as session:
            times = (await session.execute(sa.select(Job.start_time))).scalars().all()
    postgres.drop_database(name)
    assert len(times) == 2
    for time in times:
        assert abs(time - began) < timedelta(minutes=30)


async def test_a_long_write_runs_beside_the_queue(
    backend: RedunBackendDb, database_url: str, dialect: str
) -> None:
    inside, leave = asyncio.Event(), asyncio.Event()

    async def operation(session: AsyncSession) -> str:
        session.add(Value(value_hash="1" * 40, type="builtins.int", format="x", value=b"1"))
        await session.flush()
        inside.set()
        await leave.wait()
        return "done"

    writing = asyncio.create_task(backend.database.write(operation, own_transaction=True))
    await inside.wait()
    if dialect == "postgresql":
        await asyncio.wait_for(backend.record_value("meanwhile"), 5)
    leave.set()
    assert await writing == "done"
    assert (await backend.get_value("1" * 40)) == (None, False)
    assert backend.database.checked_out == 0


async def test_a_damaged_file_is_no_database(tmp_path: Path) -> None:
    path = tmp_path / "redun.db"
    path.write_bytes(b"not a database at all" * 1000)
    with pytest.raises(RedunDatabaseError, match="not a"):
        await RedunBackendDb(f"sqlite:///{path}").load()
    assert path.read_bytes() == b"not a database at all" * 1000


async def test_a_connection_that_fails_leaves_no_thread(tmp_path: Path) -> None:
    path = tmp_path / "notes.db"
    path.write_bytes(b"These are notes, and not a database at all.\n" * 20)
    file = SqliteFile(BackendConfig.parse(db_uri=f"sqlite:///{path}"))
    before = set(threading.enumerate())
    for _ in range(20):
        with pytest.raises(sqlite3.DatabaseError, match="not a database"):
            await file.connect()
        await until_threads_end(before)


async def test_a_file_uri_is_opened(tmp_path: Path) -> None:
    async with RedunBackendDb(f"sqlite:///{tmp_path / 'redun.db'}") as backend:
        await backend.record_value(1)
    read_only = RedunBackendDb(f"sqlite:///file:{tmp_path / 'redun.db'}?mode=ro&uri=true")
    await read_only.load(migrate=False)
    with pytest.raises(RedunDatabaseError, match="read-only"):
        await read_only.record_value(2)
    await read_only.close()


def test_the_file_of_a_uri() -> None:
    uris = ("sqlite:///a/b.db", "sqlite:///:memory:", "postgresql://host/db")
    paths = [BackendConfig.parse(db_uri=uri, environ={}).get_url().file_path for uri in uris]
    assert paths == [Path("a/b.db"), None, None]


def test_errors_become_one_line() -> None:
    translated = translate_error(sqlite3.OperationalError("no such table: x\nmore"))
    assert isinstance(translated, RedunDatabaseError)
    assert str(translated) == "the database refused: no such table: x"
    error = ValueError("mine")
    assert translate_error(error) is error


@pytest.mark.parametrize(
    "time",
    [
        datetime(2024, 5, 1, 12, 0, 0, 123456, tzinfo=UTC),
        datetime(2024, 5, 1, 12, 0, tzinfo=UTC),
        datetime(2024, 5, 1, 12, 0, 0, 7, tzinfo=timezone(timedelta(hours=-5, minutes=30))),
        None,
    ],
)
def test_times_are_written_as_sqlalchemy_writes_them(time: datetime | None) -> None:
    column_type = DateTimeUTC()
    process = column_type.dialect_impl(sqlite_dialect()).bind_processor(sqlite_dialect())
    assert process is not None
    assert format_time(time) == process(time)


def test_a_time_without_a_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="time zone"):
        format_time(datetime(2024, 5, 1))


async def test_a_cancelled_close_goes_on_and_is_joined(database_url: str) -> None:
    threads = set(threading.enumerate())
    backend = RedunBackendDb(database_url)
    await backend.load()
    await backend.record_value(1)
    database = backend.database
    closing = asyncio.create_task(backend.close())
    await asyncio.sleep(0)
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    await backend.close()
    assert database.checked_out == 0
    with pytest.raises(RedunDatabaseError, match="closed"):
        database.session()
    await until_threads_end(threads)
