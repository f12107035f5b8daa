"""The door: opening, versions, cloning, closing."""

from __future__ import annotations

import asyncio
import sqlite3
from typing import TYPE_CHECKING, Any

import pytest

from aredun.backend import RedunBackendDb
from aredun.errors import RedunDatabaseError, RedunVersionError, UsageError
from aredun.formats.versions import null_db_version, parse_db_version
from tests.support.databases import redun_uri
from tests.support.recording import other_database, read_rows

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def other_url(dialect: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A second migrated database of the same kind."""
    with other_database(dialect, request, tmp_path) as url:
        yield url


async def test_load_makes_a_database_that_redun_opens(empty_database_url: str) -> None:
    from redun.backends.db import RedunBackendDb as Original

    async with RedunBackendDb(empty_database_url, {"automigrate": "true"}) as backend:
        assert str(await backend.get_db_version()) == "3.5"
        value_hash = await backend.record_value([1, "two"])
    original = Original(db_uri=redun_uri(empty_database_url))
    original.load(migrate=False)
    assert original.get_value(value_hash) == ([1, "two"], True)
    original.session.close()
    original.engine.dispose()


async def test_values_come_back(backend: RedunBackendDb) -> None:
    value_hash = await backend.record_value({"a": [1, 2.5, None]})
    assert await backend.get_value(value_hash) == ({"a": [1, 2.5, None]}, True)
    assert await backend.get_value("0" * 40) == (None, False)


async def test_a_missing_file_is_not_made_by_looking(tmp_path: Path) -> None:
    path = tmp_path / "none" / "redun.db"
    backend = RedunBackendDb(f"sqlite:///{path}")
    with pytest.raises(RedunVersionError, match=r"^there is no database at .*\.db: load\(migrate"):
        await backend.load(migrate=False)
    backend.create_engine()
    assert await backend.get_db_version() == null_db_version
    await backend.close()
    assert not path.exists()


async def test_calls_before_load_say_what_to_do() -> None:
    with pytest.raises(RedunDatabaseError, match="load"):
        await RedunBackendDb("sqlite:///:memory:").record_value(1)


async def test_nothing_works_after_close(database_url: str) -> None:
    backend = RedunBackendDb(database_url)
    await backend.load()
    value_hash = await backend.record_value(1)
    await backend.close()
    await backend.close()
    for call in (backend.record_value(2), backend.get_value(value_hash), backend.get_tags(["x"])):
        with pytest.raises(RedunDatabaseError, match="load"):
            await call
    await backend.load()
    assert await backend.get_value(value_hash) == (1, True)
    await backend.close()


async def test_a_clone_of_a_closed_backend_opens_nothing(database_url: str) -> None:
    backend = RedunBackendDb(database_url)
    await backend.load()
    clone = backend.clone()
    value_hash = await backend.record_value(1)
    await backend.close()
    for call in (
        clone.record_value(2),
        clone.get_value(value_hash),
        clone.get_job("job"),
        backend.get_previews([value_hash]),
    ):
        with pytest.raises(RedunDatabaseError, match="closed"):
            await call
    with pytest.raises(RedunDatabaseError, match="closed"):
        clone.session()


def test_a_server_s_backend_belongs_to_one_loop(postgres: Any, postgres_template: str) -> None:
    name = postgres.create_database(postgres_template)
    backend = RedunBackendDb(postgres.url(name))

    async def use_elsewhere() -> None:
        for call in (backend.record_value(2), backend.get_value("x"), backend.get_job("job")):
            with pytest.raises(RedunDatabaseError, match="another event loop"):
                await call

    async def use() -> None:
        async with backend:
            value_hash = await backend.record_value(1)
            await asyncio.to_thread(asyncio.run, use_elsewhere())
            assert await backend.get_value(value_hash) == (1, True)

    asyncio.run(use())
    postgres.drop_database(name)


async def test_a_clone_shares_the_database(backend: RedunBackendDb) -> None:
    clone = backend.clone()
    value_hash = await clone.record_value("shared")
    assert clone.database is backend.database
    await clone.close()
    assert await backend.get_value(value_hash) == ("shared", True)
    with pytest.raises(RedunDatabaseError, match="load"):
        RedunBackendDb("sqlite:///:memory:").clone()


async def test_migrating_down_and_up(empty_database_url: str) -> None:
    backend = RedunBackendDb(empty_database_url)
    await backend.load(migrate=True)
    older = parse_db_version("3.4")
    await backend.migrate(older)
    assert await backend.get_db_version() == older
    assert not await backend.is_db_compatible()
    await backend.close()
    with pytest.raises(RedunVersionError, match=r"incompatible version 3\.4"):
        await backend.load(migrate=False)
    await backend.load(migrate=True)
    assert await backend.is_db_compatible()
    # Never down on the way of loading.
    await backend.migrate(older, upgrade_only=True)
    assert str(await backend.get_db_version()) == "3.5"
    await backend.close()


async def test_servers_are_not_migrated_unasked(empty_database_url: str, dialect: str) -> None:
    backend = RedunBackendDb(empty_database_url)
    if dialect == "sqlite":
        await backend.load()
        await backend.close()
        return
    with pytest.raises(RedunVersionError):
        await backend.load()


async def test_many_processes_may_load_at_once(empty_database_url: str) -> None:
    backends = [RedunBackendDb(empty_database_url, {"automigrate": "true"}) for _ in range(4)]
    await asyncio.gather(*(backend.load() for backend in backends))
    hashes = await asyncio.gather(*(backend.record_value("same") for backend in backends))
    assert len(set(hashes)) == 1
    for backend in backends:
        await backend.close()


async def test_a_failed_load_leaves_nothing_open(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE somebody_elses (x)")
    other.close()
    backend = RedunBackendDb(f"sqlite:///{path}")
    with pytest.raises(RedunVersionError, match="not a redun database"):
        await backend.load()
    with pytest.raises(RedunDatabaseError, match="load"):
        assert backend.database


@pytest.mark.parametrize("uri", ["mysql://host/db", "nonsense", "sqlite://host/path"])
def test_bad_uris_are_refused(uri: str) -> None:
    with pytest.raises(UsageError):
        RedunBackendDb(uri)


def test_a_password_in_a_uri_is_refused() -> None:
    with pytest.raises(RedunDatabaseError, match="password") as caught:
        RedunBackendDb("postgresql://user:secret@host/db")
    assert "secret" not in str(caught.value)


async def test_an_unreachable_server_is_one_line() -> None:
    backend = RedunBackendDb("postgresql://localhost:1/none", {"db_retries": "0"})
    with pytest.raises(RedunDatabaseError, match="cannot be reached") as caught:
        await backend.load()
    assert "\n" not in str(caught.value)


async def test_tag_histories_are_those_of_redun(
    backend: RedunBackendDb, database_url: str, redun_backend: Any, other_url: str
) -> None:
    from redun.backends.base import TagEntity as OriginalEntity
    from redun.backends.db import RedunBackendDb as Original

    original = Original(db_uri=redun_uri(other_url))
    original.load()
    kind = OriginalEntity.Execution
    steps: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = [
        ("record_tags", (kind, "x", [("a", 1), ("b", {"c": [2]})]), {}),
        ("record_tags", (kind, "x", [("a", 2)]), {"update": True}),
        ("record_tags", (kind, "x", [("a", 1)]), {"new": True}),
        ("update_tags", (kind, "x", ["b"], [("d", [1])]), {}),
        ("delete_tags", ("x", [("d", [1])]), {"keys": ["a"]}),
        ("record_tags", (kind, "x", [("a", "again")]), {}),
        ("record_tags", (kind, "x", []), {}),
    ]
    for name, args, kwargs in steps:
        expected = getattr(original, name)(*args, **kwargs)
        assert await getattr(backend, name)(*args, **kwargs) == expected, name
    assert await backend.get_tags(["x"]) == original.get_tags(["x"])
    original.session.close()
    original.engine.dispose()
    own, right = read_rows(database_url), read_rows(other_url)
    assert own["tag"] == right["tag"]
    assert own["tag_edit"] == right["tag_edit"]


async def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(RedunDatabaseError, match="cannot be made") as caught:
        await RedunBackendDb(f"sqlite:///{tmp_path}/taken/redun.db").load()
    assert "\n" not in str(caught.value)


def test_has_the_names_of_the_original() -> None:
    import redun.backends.db as original

    import aredun.backend as door

    names = {
        name
        for name, item in vars(original).items()
        if getattr(item, "__module__", None) == original.__name__
        and (isinstance(item, type) or name.endswith("_child_edges"))
        and not name.startswith("_")
    }
    assert {"Column", "Value", "get_tag_entity_child_edges"} < names
    assert (
        sorted(name for name in {*names, "get_abs_path", "parse_db_version"} if not hasattr(door, name)) == []
    )
