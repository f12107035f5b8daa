"""Every step of the chain, up and down, does to schema and rows what redun's own step does."""

from __future__ import annotations

import asyncio
import os
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import OperationalError

from aredun.backend import RedunBackendDb
from aredun.errors import RedunDatabaseError, RedunVersionError
from aredun.formats.versions import REDUN_DB_VERSIONS, DBVersionInfo, null_db_version, parse_db_version
from aredun.models import Job, RedunSession, Subvalue
from aredun.storage import migrate as migrate_module
from aredun.storage.migrate import find_migrations, get_db_version, migrate
from tests.support.old_rows import TASKS, rows_at_1_0, rows_since
from tests.support.schemas import (
    aredun_migrate,
    fetch_all,
    insert_rows,
    open_connection,
    read_rows,
    read_schema,
    redun_migrate,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

OLDEST, LATEST = REDUN_DB_VERSIONS[0], REDUN_DB_VERSIONS[-1]


@pytest.fixture(autouse=True)
def far_from_utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Local time differs from UTC, in summer by another offset than in winter."""
    monkeypatch.setenv("TZ", "America/New_York")
    monkeypatch.setenv("PGTZ", "America/New_York")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def set_time_zone(url: str) -> None:
    """Have the server take the same local time as the process."""
    if url.startswith("postgresql"):
        name = url.rpartition("/")[0] and url.split("?")[0].rpartition("/")[2]
        fetch_all(url, f"ALTER DATABASE \"{name}\" SET timezone = 'America/New_York'")


@pytest.fixture
async def both(make_empty_database: Callable[[], str]) -> tuple[str, str]:
    """Two databases at version 1.0 with the same rows, redun's made by redun and aredun's by aredun."""
    theirs, ours = make_empty_database(), make_empty_database()
    for url in (theirs, ours):
        set_time_zone(url)
    redun_migrate(theirs, OLDEST)
    await aredun_migrate(ours, OLDEST)
    for url in (theirs, ours):
        insert_rows(url, rows_at_1_0())
    assert_same(theirs, ours)
    return theirs, ours


def assert_same(theirs: str, ours: str) -> None:
    """The two databases cannot be told apart."""
    assert read_schema(ours) == read_schema(theirs)
    assert read_rows(ours) == read_rows(theirs)


async def go(theirs: str, ours: str, versions: list[DBVersionInfo], *, add_rows: bool = False) -> None:
    """Take both databases through the versions and compare them after every step."""
    for version in versions:
        redun_migrate(theirs, version)
        assert await aredun_migrate(ours, version) == version
        if version < parse_db_version("3.1") and theirs.startswith("postgresql"):
            # The type that redun's downgrade leaves behind, and over which its next upgrade falls.
            fetch_all(theirs, "DROP TYPE IF EXISTS tagentitytype")
        if add_rows:
            for url in (theirs, ours):
                insert_rows(url, rows_since(str(version)))
        assert_same(theirs, ours)


async def test_every_step_up_down_and_up_again(both: tuple[str, str]) -> None:
    """Step by step, with rows added as their tables appear; then down to 1.0 and up again."""
    await go(*both, REDUN_DB_VERSIONS[1:], add_rows=True)
    await go(*both, REDUN_DB_VERSIONS[-2::-1])
    await go(*both, REDUN_DB_VERSIONS[1:])


async def test_all_steps_at_once(both: tuple[str, str]) -> None:
    """From 1.0 to the latest and back in one go each: aredun does it in one transaction."""
    await go(*both, [LATEST, OLDEST, LATEST])


async def test_upgrade_over_a_type_that_redun_left_behind(both: tuple[str, str], dialect: str) -> None:
    """aredun upgrades what redun downgraded, type and all."""
    theirs, ours = both
    redun_migrate(theirs)
    await aredun_migrate(ours)
    redun_migrate(theirs, parse_db_version("3.0"))
    await aredun_migrate(ours, parse_db_version("3.0"))
    leftovers = (
        []
        if dialect == "sqlite"
        else fetch_all(theirs, "SELECT 1 FROM pg_type WHERE typname = 'tagentitytype'")
    )
    assert bool(leftovers) == (dialect == "postgresql")
    for url in both:
        await aredun_migrate(url)
    assert_same(theirs, ours)


async def test_companion_values_in_batches(make_empty_database: Callable[[], str]) -> None:
    """More tasks than fit a batch all get their value, which redun can unpickle."""
    import pickle

    url = make_empty_database()
    await aredun_migrate(url, parse_db_version("2.0"))
    tasks = [
        {"hash": f"{number:040d}", "name": f"task_{number}", "namespace": "many", "source": ""}
        for number in range(2500)
    ]
    insert_rows(url, {"task": tasks})
    await aredun_migrate(url, parse_db_version("2.1"))
    values = fetch_all(url, "SELECT value_hash, value FROM value ORDER BY value_hash")
    assert [value_hash for value_hash, _ in values] == [task["hash"] for task in tasks]
    task = pickle.loads(bytes(values[-1][1]))
    assert task.fullname == "many.task_2499"


async def test_stub_executions_in_batches(make_empty_database: Callable[[], str]) -> None:
    """More root jobs than fit a batch all get an execution of their own."""
    url = make_empty_database()
    await aredun_migrate(url, parse_db_version("2.3"))
    rows = rows_at_1_0()
    jobs = [{**rows["job"][-1], "id": f"job-{number:05d}"} for number in range(2500)]
    insert_rows(url, {"task": rows["task"], "job": jobs})
    await aredun_migrate(url, parse_db_version("3.0"))
    pairs = fetch_all(
        url,
        "SELECT count(*) FROM job JOIN execution ON execution.id = job.execution_id"
        " WHERE execution.job_id = job.id",
    )
    assert pairs == [(2500,)]


@pytest.mark.parametrize(
    ("broken", "target"), [("v3_5_add_updated_time", "3.5"), ("v3_0_require_job_execution_id", "3.0")]
)
async def test_a_step_that_fails_changes_nothing(
    both: tuple[str, str], broken: str, target: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever was done before the failure is undone: the schema, the rows and the versions."""
    import shutil

    _, ours = both
    folder = tmp_path / "migrations"
    shutil.copytree(find_migrations(), folder)
    script = folder / "versions" / f"{broken}.py"
    script.write_text(
        script.read_text().replace(
            "def downgrade", "    op.execute('SELECT nonsense FROM nowhere')\n\n\ndef downgrade", 1
        )
    )
    monkeypatch.setattr(migrate_module, "find_migrations", lambda: folder)
    before = read_schema(ours), read_rows(ours)
    async with open_connection(ours) as connection:
        if connection.dialect.name == "sqlite":
            await connection.exec_driver_sql("PRAGMA foreign_keys=ON")
            await connection.rollback()
        with pytest.raises((RedunDatabaseError, OperationalError)):
            await migrate(connection, parse_db_version(target))
        assert not connection.in_transaction()
        if connection.dialect.name == "sqlite":
            result = await connection.exec_driver_sql("PRAGMA foreign_keys")
            assert result.scalar() == 1
    assert (read_schema(ours), read_rows(ours)) == before


async def test_data_that_does_not_fit_is_one_line(
    make_empty_database: Callable[[], str], dialect: str
) -> None:
    """A downgrade that would cut a name off is refused by PostgreSQL; sqlite has no lengths."""
    url = make_empty_database()
    await aredun_migrate(url)
    value = {"value_hash": "0" * 40, "type": "x" * 101, "format": "f", "value": b"v"}
    insert_rows(url, {"value": [value]})
    before = read_schema(url)
    if dialect == "sqlite":
        assert await aredun_migrate(url, parse_db_version("3.1")) == parse_db_version("3.1")
        return
    with pytest.raises(
        RedunDatabaseError, match=r"from 3\.5 to 3\.1, so it stays as it was: .*too long"
    ) as caught:
        await aredun_migrate(url, parse_db_version("3.1"))
    assert "\n" not in str(caught.value)
    assert read_schema(url) == before


async def test_concurrent_migrations_meet_once(make_empty_database: Callable[[], str]) -> None:
    """Several connections may migrate one database at a time; one does it, the others find it done."""
    url = make_empty_database()
    versions = await asyncio.gather(*(aredun_migrate(url) for _ in range(4)))
    assert versions == [LATEST] * 4
    assert fetch_all(url, "SELECT version FROM redun_version") == [(3,)]


async def test_the_loop_runs_on_meanwhile(make_empty_database: Callable[[], str]) -> None:
    """A migration never keeps the event loop for long."""
    longest = 0.0

    async def watch() -> None:
        nonlocal longest
        while True:
            before = time.thread_time()
            await asyncio.sleep(0.001)
            longest = max(longest, time.thread_time() - before)

    await aredun_migrate(make_empty_database())  # imports alembic
    attempts = []
    # Processor time of the loop's thread, in which other work on the machine does not count; best of three,
    # since all work takes longer on a busy machine.
    for url in [make_empty_database() for _ in range(3)]:
        longest = 0.0
        watcher = asyncio.create_task(watch())
        await aredun_migrate(url)
        watcher.cancel()
        attempts.append(longest)
    assert min(attempts) < 0.1


async def test_cancelled_migration_changes_nothing(make_empty_database: Callable[[], str]) -> None:
    """Cancelling leaves no half schema, and the next migration goes through."""
    url = make_empty_database()
    for delay in (0.0, 0.02, 0.05, 0.1):
        task = asyncio.create_task(aredun_migrate(url))
        await asyncio.sleep(delay)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        async with open_connection(url) as connection:
            assert await get_db_version(connection) in (null_db_version, LATEST)
    assert await aredun_migrate(url) == LATEST


async def test_version_of_a_session_and_of_a_connection(make_empty_database: Callable[[], str]) -> None:
    """Both are taken; an empty database has the null version."""
    url = make_empty_database()
    async with open_connection(url) as connection:
        assert await get_db_version(connection) == null_db_version
        await connection.rollback()
        await migrate(connection, parse_db_version("2.2"))
        async with RedunSession(None, connection) as session:
            assert str(await get_db_version(session)) == "2.2"


async def test_through_the_backend(make_empty_database: Callable[[], str]) -> None:
    """The backend's own connections migrate as well, and enforce foreign keys afterwards."""
    url = make_empty_database()
    async with RedunBackendDb(url, {"automigrate": "True", "statement_timeout": "5"}) as backend:
        for number in ("3.4", "2.1", "latest"):
            await backend.migrate(parse_db_version(number))
            assert await backend.get_db_version() == parse_db_version(number)
        edge = sa.insert(Subvalue).values(value_hash="0" * 40, parent_value_hash="1" * 40)
        with pytest.raises(RedunDatabaseError):
            await backend.database.write(lambda session: session.execute(edge))


async def test_upgrade_only_leaves_a_newer_database(make_empty_database: Callable[[], str]) -> None:
    """Migrating automatically never goes down."""
    url = make_empty_database()
    await aredun_migrate(url)
    async with open_connection(url) as connection:
        assert await migrate(connection, parse_db_version("3.1"), upgrade_only=True) == LATEST


async def test_unknown_versions(make_empty_database: Callable[[], str]) -> None:
    """A newer minor version is left alone or refused, a newer major version is refused."""
    url = make_empty_database()
    await aredun_migrate(url)
    fetch_all(url, "UPDATE alembic_version SET version_num = 'abcdefabcdef'")
    async with open_connection(url) as connection:
        version = await migrate(connection, upgrade_only=True)
        assert str(version) == "3.?"
        with pytest.raises(RedunVersionError, match=r"no way from version 3\.\?"):
            await migrate(connection)
        with pytest.raises(RedunVersionError, match=r"no migration leads to version 3\.7"):
            await migrate(connection, DBVersionInfo("", 3, 7, ""))
    fetch_all(url, "UPDATE redun_version SET version = 4")
    before = read_rows(url)
    with pytest.raises(RedunVersionError, match=r"too new for this program: 4\.\? > 3\.\?"):
        await aredun_migrate(url)
    assert read_rows(url) == before


@pytest.mark.parametrize(
    "statements",
    [
        ["CREATE TABLE customer (id INTEGER)"],
        ["CREATE TABLE job (id INTEGER)", "CREATE TABLE task (id INTEGER)"],
        [
            "CREATE TABLE alembic_version (version_num VARCHAR(32))",
            "INSERT INTO alembic_version VALUES ('other')",
        ],
        ["CREATE TABLE redun_version (name TEXT)"],
    ],
)
async def test_foreign_databases_are_left_alone(
    make_empty_database: Callable[[], str], statements: list[str]
) -> None:
    """A database with tables that are not redun's is never migrated into."""
    url = make_empty_database()
    for statement in statements:
        fetch_all(url, statement)
    before = read_schema(url)
    with pytest.raises(RedunVersionError, match="not a redun database") as caught:
        await aredun_migrate(url)
    assert "\n" not in str(caught.value)
    async with open_connection(url) as connection:
        with pytest.raises(RedunVersionError, match="not a redun database"):
            await get_db_version(connection)
    assert read_schema(url) == before


async def test_a_file_that_is_no_database(tmp_path: Any) -> None:
    """Any other file gets one line, and keeps its bytes."""
    path = tmp_path / "notes.txt"
    path.write_text("not a database, but long enough to have a header" * 10)
    before = path.read_bytes()
    with pytest.raises(RedunVersionError, match="not a redun database: file is not a database"):
        await aredun_migrate(f"sqlite:///{path}")
    assert path.read_bytes() == before


async def test_an_unfinished_beginning_of_redun_s(make_empty_database: Callable[[], str]) -> None:
    """An empty alembic_version, and aredun's own tables, do not make a database foreign."""
    url = make_empty_database()
    fetch_all(
        url,
        "CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL, "
        "CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num))",
    )
    assert await aredun_migrate(url) == LATEST

    other = make_empty_database()
    fetch_all(other, "CREATE TABLE aredun_notes (id INTEGER)")
    assert await aredun_migrate(other) == LATEST


async def test_an_open_transaction_is_refused(make_empty_database: Callable[[], str]) -> None:
    """The caller's own work is neither committed nor lost."""
    async with open_connection(make_empty_database()) as connection:
        await connection.execute(sa.text("SELECT 1"))
        with pytest.raises(RedunDatabaseError, match="without an open transaction"):
            await migrate(connection)


async def test_old_clients_times_are_converted(
    make_empty_database: Callable[[], str], dialect: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The trigger takes the zone that the migration was told; only connections of old redun are touched."""
    if dialect == "sqlite":
        assert "REDUN_LOCALTIMEZONE" not in os.environ
        return
    monkeypatch.setenv("REDUN_LOCALTIMEZONE", "Asia/Tokyo")
    theirs, ours = make_empty_database(), make_empty_database()
    redun_migrate(theirs)
    await aredun_migrate(ours)
    rows = rows_at_1_0()
    del rows["execution"]
    execution = [{"id": "exec-1", "args": "[]", "job_id": "job-root"}]
    jobs = [{**job, "execution_id": "exec-1"} for job in rows.pop("job")]
    for url in (theirs, ours):
        insert_rows(url, {**rows, "job": jobs, "execution": execution})
    assert read_rows(ours) == read_rows(theirs)

    start = datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC)
    job = sa.insert(Job).values(
        id="new", start_time=start, execution_id="exec-1", task_hash=TASKS[0]["hash"], cached=False
    )
    async with RedunBackendDb(ours) as backend:
        await backend.database.write(lambda session: session.execute(job))
    assert fetch_all(ours, "SELECT start_time FROM job WHERE id = 'new'") == [(start,)]
