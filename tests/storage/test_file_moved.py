"""A sqlite file that is replaced or removed while it is open: said at once, and nothing of either is lost."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa
from redun.backends.db import RedunDatabaseError as TheirError

from aredun import redun_bridge
from aredun.backend import RedunBackendDb
from aredun.errors import DatabaseMovedError, RedunDatabaseError
from tests.server.test_server_changes import TASK, start
from tests.support.recording import FakeJob
from tests.support.server import receive, receive_until, serve

if TYPE_CHECKING:
    from pathlib import Path

COUNT = sa.text("select count(*) from value")
OLD, NEW = "of the old one", "of the new one"


@pytest.fixture
async def path(tmp_path: Path, sqlite_template: Path) -> Path:
    """A repository, beside another one that can come into its place."""
    for name in ("r.db", "new.db"):
        shutil.copyfile(sqlite_template, tmp_path / name)
        async with RedunBackendDb(f"sqlite:///{tmp_path / name}") as backend:
            await backend.record_value(OLD if name == "r.db" else NEW)
    return tmp_path / "r.db"


def read_values(path: Path) -> set[bytes]:
    """Return the values of a file that has to be whole."""
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("pragma integrity_check").fetchall() == [("ok",)]
        return {row[0] for row in connection.execute("select value from value")}


def holds(path: Path, *texts: str) -> bool:
    """Tell whether these texts, and nothing else, are the values of a file."""
    values = read_values(path)
    return len(values) == len(texts) and all(
        any(text.encode() in value for value in values) for text in texts
    )


async def assert_refused(backend: RedunBackendDb, what: str) -> None:
    """Assert that nothing works any more, however it gets to the file, and that it is said in one line."""

    async def operation(session: Any) -> None:
        await session.connection()

    async def run_session() -> None:
        async with backend.session() as session:
            await session.connection()
            await session.execute(COUNT)

    for attempt in (
        lambda: backend.record_value("lost?"),
        lambda: backend.get_value("0" * 40),
        lambda: backend.database.write(operation),
        lambda: backend.database.migrate(run_nothing),
        lambda: backend.get_db_version(),
        run_session,
    ):
        with pytest.raises(DatabaseMovedError, match=what) as caught:
            await attempt()
        assert "\n" not in str(caught.value)


async def run_nothing(connection: Any) -> None:
    raise AssertionError(connection)


async def test_a_file_that_is_replaced(path: Path) -> None:
    """`mv new.db r.db`: the log of the old file is not written over the new one, also not after the close."""
    async with RedunBackendDb(f"sqlite:///{path}") as backend:
        kept = path.with_name("kept.db")
        kept.hardlink_to(path)
        await backend.record_value("in the log")
        path.with_name("new.db").rename(path)
        await assert_refused(backend, "replaced by another one")
        assert holds(path, NEW)
    assert holds(path, NEW)
    # What had been committed is in the file that was open, wherever it is.
    assert holds(kept, OLD, "in the log")
    async with RedunBackendDb(f"sqlite:///{path}") as backend:
        await backend.record_value("goes on")
    assert holds(path, NEW, "goes on")


async def test_a_file_that_is_replaced_before_the_close(path: Path) -> None:
    async with RedunBackendDb(f"sqlite:///{path}") as backend:
        await backend.record_value("in the log")
        path.with_name("new.db").rename(path)
    assert holds(path, NEW)


@pytest.mark.parametrize("journal", ["wal", "delete"])
async def test_a_file_that_is_removed(path: Path, journal: str) -> None:
    async with RedunBackendDb(f"sqlite:///{path}", {"journal_mode": journal}) as backend:
        await backend.get_value("0" * 40)
        path.unlink()
        await assert_refused(backend, "removed")
        assert not path.exists()


async def test_a_file_that_is_moved_away_and_back(path: Path) -> None:
    async with RedunBackendDb(f"sqlite:///{path}") as backend:
        value_hash = await backend.record_value("in the log")
        path.rename(path.with_name("away.db"))
        await assert_refused(backend, "removed")
        path.with_name("away.db").rename(path)
        assert await backend.get_value(value_hash) == ("in the log", True)
        await backend.record_value("again")
    assert holds(path, OLD, "in the log", "again")


async def test_a_file_that_goes_during_a_transaction(path: Path) -> None:
    async with RedunBackendDb(f"sqlite:///{path}") as backend:

        async def operation(session: Any) -> None:
            path.unlink()

        with pytest.raises(DatabaseMovedError, match="removed"):
            await backend.database.write(operation)
        with pytest.raises(DatabaseMovedError, match="removed"):
            async with backend.batch():
                await backend.record_value("lost?")


async def test_readers_create_no_file(tmp_path: Path) -> None:
    path = tmp_path / "none.db"
    backend = RedunBackendDb(f"sqlite:///{path}")
    backend.create_engine()
    with pytest.raises(RedunDatabaseError, match=r"there is no database at .*none\.db: load"):
        await backend.get_value("0" * 40)
    with pytest.raises(RedunDatabaseError, match=r"there is no database at .*none\.db: load"):
        await backend.record_value(1)
    await backend.close()
    assert not path.exists()


@pytest.mark.parametrize("replaced", [True, False])
async def test_a_server_notices(path: Path, replaced: bool, caplog: pytest.LogCaptureFixture) -> None:
    """The live feed ends with an error, and so does whoever comes; nobody is sent here any more."""
    async with (
        RedunBackendDb(f"sqlite:///{path}") as backend,
        RedunBackendDb(f"sqlite:///{path}") as writer,
        serve(backend, sqlite_poll_interval=0.01) as served,
    ):
        root = FakeJob(TASK)
        async with served.connect("/ws/executions") as websocket:
            await receive(websocket)
            await start(writer, root)
            await receive_until(websocket, "execution:started")
            if replaced:
                path.with_name("new.db").rename(path)
            else:
                path.unlink()
            messages = await receive_until(websocket, "error:None")
        expected = (
            "the file of the database was replaced, removed or rewritten: the server has to be started again"
        )
        assert messages[-1]["message"] == expected
        answer = await served.http.get("/readyz")
        assert (answer.status_code, answer.json()["error"]) == (503, "not_ready")
        answer = await served.http.get(f"/api/find/{root.id}")
        assert (answer.status_code, answer.json()["message"]) == (503, expected)
        async with served.connect("/ws/executions") as websocket:
            assert (await receive(websocket))["message"] == expected
    assert not [record for record in caplog.records if record.exc_info]
    assert holds(path, NEW) if replaced else not path.exists()


def test_redun_on_aredun_notices(tmp_path: Path) -> None:
    path = tmp_path / "redun.db"
    backend: Any = redun_bridge.RedunBackendDb(f"sqlite:///{path}")
    backend.load()
    value_hash = backend.record_value("there")
    backend.flush()
    path.unlink()
    for attempt in (
        lambda: backend.get_value(value_hash),
        lambda: (backend.record_value("lost?"), backend.flush()),
        lambda: backend.session.execute(COUNT),
    ):
        with pytest.raises(TheirError, match="was removed while it was open"):
            attempt()
    backend.close()
    assert not path.exists()
