"""Retries: whole transactions, bounded, and a server that goes away under a hundred recorders."""

from __future__ import annotations

import asyncio
import errno
import logging
import sqlite3
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest
import sqlalchemy as sa
from sqlalchemy.exc import OperationalError

from aredun.backend import RedunBackendDb
from aredun.config import BackendConfig
from aredun.errors import RedunDatabaseError
from aredun.storage.retry import is_conflict, is_outage, is_passing, retry
from tests.support.recording import FakeExecution, FakeJob, align, count_rows, record_call, start

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy.ext.asyncio import AsyncSession

    from tests.support.databases import PostgresCluster

FAST = {"db_retries_backoff": "0.01", "db_retries_backoff_max": "0.05"}
LOGGER = logging.getLogger("aredun.tests")


def config(**settings: Any) -> BackendConfig:
    return BackendConfig.parse({**FAST, **{key: str(value) for key, value in settings.items()}}, "sqlite://")


def passing_error() -> OperationalError:
    error = sqlite3.OperationalError("database is locked")
    error.sqlite_errorcode = sqlite3.SQLITE_BUSY
    return OperationalError("BEGIN IMMEDIATE", None, error)


async def test_an_attempt_that_passes_later_succeeds() -> None:
    attempts = 0

    async def attempt() -> str:
        nonlocal attempts
        attempts += 1
        if attempts < 3:
            raise passing_error()
        return "done"

    assert await retry(attempt, config(), LOGGER, "it") == "done"
    assert attempts == 3


@pytest.mark.parametrize(("retries", "attempts"), [(0, 1), (3, 4)])
async def test_attempts_are_bounded(retries: int, attempts: int) -> None:
    made = 0

    async def attempt() -> None:
        nonlocal made
        made += 1
        raise passing_error()

    with pytest.raises(OperationalError):
        await retry(attempt, config(db_retries=retries), LOGGER, "it")
    assert made == attempts


async def test_no_retry_starts_after_the_deadline() -> None:
    made = 0

    async def attempt() -> None:
        nonlocal made
        made += 1
        raise ConnectionResetError

    settings = config(db_retries=1000, db_retries_backoff=0.05, retry_deadline=0.3)
    with pytest.raises(ConnectionResetError):
        await retry(attempt, settings, LOGGER, "it")
    assert made < 100


async def test_what_would_fail_again_is_not_tried_again() -> None:
    made = 0

    async def attempt() -> None:
        nonlocal made
        made += 1
        raise ValueError("for good")

    with pytest.raises(ValueError, match="for good"):
        await retry(attempt, config(), LOGGER, "it")
    assert made == 1


def test_kinds_of_failure_are_told_apart() -> None:
    assert is_conflict(passing_error())
    assert is_conflict(asyncpg.DeadlockDetectedError("deadlock"))
    assert is_conflict(asyncpg.SerializationError("could not serialize"))
    for error in (
        asyncpg.AdminShutdownError("terminating connection"),
        asyncpg.CannotConnectNowError("starting up"),
        asyncpg.TooManyConnectionsError("too many"),
        asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation"),
        asyncpg.InterfaceError("connection is closed"),
        ConnectionRefusedError(),
        TimeoutError(),
        # The socket of a server that is being restarted.
        FileNotFoundError(errno.ENOENT, "No such file or directory"),
    ):
        assert is_outage(error), error
    for final in (
        asyncpg.ForeignKeyViolationError("no"),
        asyncpg.InvalidPasswordError("no"),
        sqlite3.IntegrityError("no"),
        ValueError("no"),
        FileNotFoundError("no"),
        FileNotFoundError(errno.ENOENT, "No such file or directory", "values/ab/cd"),
    ):
        assert not is_passing(final), final


async def test_reads_are_tried_again_as_a_whole(backend: RedunBackendDb) -> None:
    attempts = 0

    async def operation(session: AsyncSession) -> int:
        nonlocal attempts
        attempts += 1
        if attempts == 1:
            raise passing_error()
        return int((await session.execute(sa.text("SELECT 7"))).scalar_one())

    assert await backend.database.read(operation) == 7
    assert attempts == 2


async def test_a_lock_that_another_process_holds_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "redun.db"
    async with RedunBackendDb(f"sqlite:///{path}", {**FAST, "busy_timeout": "0.05"}) as backend:
        other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        other.execute("BEGIN IMMEDIATE")
        writing = asyncio.create_task(backend.record_value("waits"))
        await asyncio.sleep(0.15)
        other.execute("ROLLBACK")
        other.close()
        assert await writing


async def test_a_lock_that_stays_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "redun.db"
    settings = {**FAST, "busy_timeout": "0.01", "db_retries": "1"}
    async with RedunBackendDb(f"sqlite:///{path}", settings) as backend:
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        results = await asyncio.gather(
            *(backend.record_value(number) for number in range(3)), return_exceptions=True
        )
        other.execute("ROLLBACK")
        other.close()
        assert [str(result) for result in results] == ["the database refused: database is locked"] * 3
        assert await backend.record_value("afterwards")


async def test_deadlocks_are_tried_again(postgres_url: str) -> None:
    async with RedunBackendDb(postgres_url, FAST) as first, RedunBackendDb(postgres_url, FAST) as second:
        hashes = [await first.record_value(number) for number in range(2)]
        meeting = asyncio.Barrier(2)
        met = False

        async def update(backend: RedunBackendDb, order: list[str]) -> None:
            async def operation(session: AsyncSession) -> None:
                nonlocal met
                for number, value_hash in enumerate(order):
                    if number == 1 and not met:
                        await meeting.wait()
                        met = True
                    statement = sa.text("UPDATE value SET format = format WHERE value_hash = :key")
                    await session.execute(statement, {"key": value_hash})

            await backend.database.write(operation)

        await asyncio.gather(update(first, hashes), update(second, hashes[::-1]))


@pytest.mark.parametrize("mode", ["fast", "immediate"])
async def test_a_server_restart_under_a_hundred_recorders(
    postgres: PostgresCluster, postgres_url: str, mode: str
) -> None:
    settings = {"db_retries": "8", "db_retries_backoff": "0.2", "db_retries_backoff_max": "2"}
    recorded: list[int] = []
    async with RedunBackendDb(postgres_url, settings) as backend:
        root = await start(backend)
        numbers = iter(range(1_000_000))
        stop, enough, more = False, 100, asyncio.Event()

        async def work() -> None:
            while not stop:
                number = next(numbers)
                await record_call(backend, root, number)
                recorded.append(number)
                if len(recorded) >= enough:
                    more.set()

        workers = [asyncio.create_task(work()) for _ in range(100)]
        await more.wait()
        await asyncio.to_thread(postgres.restart, mode)
        more.clear()
        enough = len(recorded) + 200
        await more.wait()
        stop = True
        await asyncio.gather(*workers)
        results = await asyncio.gather(*(backend.record_value([number]) for number in recorded))
    assert len(set(results)) == len(recorded)
    assert count_rows(postgres_url, "call_node") == len(recorded)
    assert count_rows(postgres_url, "job") == len(recorded) + 1
    assert count_rows(postgres_url, "argument") == 2 * len(recorded)


async def test_a_server_that_stays_away_is_reported(postgres: PostgresCluster, postgres_url: str) -> None:
    backend = RedunBackendDb(postgres_url, {**FAST, "db_retries": "1"})
    await backend.load()
    await backend.record_value(1)
    await asyncio.to_thread(postgres.stop)
    try:
        results = await asyncio.gather(
            backend.record_value(2),
            backend.get_value("0" * 40),
            backend.record_job_start(FakeJob(align, FakeExecution())),
            return_exceptions=True,
        )
    finally:
        await asyncio.to_thread(postgres.start)
    for result in results:
        assert isinstance(result, RedunDatabaseError)
        assert "\n" not in str(result)
    assert await backend.record_value(3)
    await backend.close()


async def test_killed_connections_are_replaced(postgres: PostgresCluster, postgres_url: str) -> None:
    async with RedunBackendDb(postgres_url, FAST) as backend:
        kill = (
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE application_name = 'aredun' AND pid <> pg_backend_pid()"
        )
        for number in range(3):
            value_hash = await backend.record_value(number)
            assert await backend.get_value(value_hash) == (number, True)
            await asyncio.to_thread(postgres.execute, "postgres", kill)
        assert backend.database.checked_out == 0


async def test_connections_that_the_server_has_just_ended_are_closed(
    postgres: PostgresCluster, postgres_url: str
) -> None:
    """Nobody has heard of the end yet: whoever says goodbye meets a broken pipe."""
    async with RedunBackendDb(postgres_url, FAST) as backend:
        value_hash = await backend.record_value(1)
        async with backend.database.engine.connect() as connection:
            await connection.execute(sa.text("SELECT 1"))
        # Without a turn of the loop, in which the driver would notice.
        postgres.execute(
            "postgres",
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = 'aredun'",
        )
        await backend.database.engine.dispose()
        assert await backend.get_value(value_hash) == (1, True)


@pytest.mark.parametrize(
    "message",
    [
        "cache lookup failed for type 16402",
        "could not open relation with OID 16402",
        "cached plan must not change result type",
    ],
)
async def test_what_a_restore_replaced_is_asked_again(
    postgres: PostgresCluster, postgres_url: str, message: str
) -> None:
    """A real server says it, once, and from then on works: as after a restore under open connections."""
    name = postgres_url.partition("?")[0].rpartition("/")[2]
    postgres.execute(
        name,
        "CREATE SEQUENCE attempts",
        "CREATE FUNCTION stale() RETURNS trigger LANGUAGE plpgsql AS $body$ BEGIN "
        f"IF nextval('attempts') = 1 THEN RAISE EXCEPTION '{message}' USING ERRCODE = 'XX000'; END IF; "
        "RETURN NEW; END $body$",
        "CREATE TRIGGER stale BEFORE INSERT ON value FOR EACH ROW EXECUTE FUNCTION stale()",
    )
    async with RedunBackendDb(postgres_url, FAST) as backend:
        value_hash = await backend.record_value(1)
        assert await backend.get_value(value_hash) == (1, True)
