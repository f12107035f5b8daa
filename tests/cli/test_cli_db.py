"""`aredun db`: the schema version of a database, seen and changed."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import TYPE_CHECKING, Any

import boto3
import pytest
import redun.backends.db
import sqlalchemy as sa

from aredun import CacheCheckValid, CacheScope, RedunBackendDb
from aredun.cli import main
from tests.support.databases import redun_uri
from tests.support.object_store import run_object_store

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.databases import PostgresCluster


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No repository but the one that a test names."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("REDUN_CONFIG", raising=False)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)


def run(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> str:
    """Run `aredun db` and return what it prints."""
    capsys.readouterr()
    assert main(["db", *arguments]) == code
    captured = capsys.readouterr()
    return captured.out if code == 0 else captured.err


def get_tables(url: str) -> list[str]:
    """Return the names of a database's tables."""
    engine = sa.create_engine(redun_uri(url))
    try:
        return sorted(sa.inspect(engine).get_table_names())
    finally:
        engine.dispose()


def get_redun_version(url: str) -> str:
    """Return the version that the real redun finds."""
    backend: Any = redun.backends.db.RedunBackendDb(db_uri=redun_uri(url))
    backend.create_engine()
    version = str(backend.get_db_version())
    backend.session.close()
    backend.engine.dispose()
    return version


def test_info(database_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = run(capsys, "info", "--db", database_url)
    assert "version     3.5 (Add updated_time.)" in text
    assert "compatible  yes" in text
    assert database_url in text


def test_info_of_an_empty_database(empty_database_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What is to be told of it is that there is no schema; none is made."""
    sa.create_engine(redun_uri(empty_database_url)).connect().close()
    text = run(capsys, "info", "--db", empty_database_url)
    assert "compatible  no" in text
    assert get_tables(empty_database_url) == []


def test_versions(capsys: pytest.CaptureFixture[str]) -> None:
    lines = run(capsys, "versions").splitlines()
    assert len(lines) == 12
    assert lines[1].split()[:2] == ["1.0", "806f5dcb11bf"]
    assert lines[-1].split()[:2] == ["3.5", "0bee3d6dba76"]


def test_down_and_up(database_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "downgrade", "2.2", "--db", database_url).endswith("went from 3.5 to 2.2.\n")
    assert get_redun_version(database_url) == "2.2"
    assert "compatible  no" in run(capsys, "info", "--db", database_url)
    assert run(capsys, "upgrade", "3.0", "--db", database_url).endswith("went from 2.2 to 3.0.\n")
    assert run(capsys, "upgrade", "--db", database_url).endswith("went from 3.0 to 3.5.\n")
    assert run(capsys, "upgrade", "--db", database_url) == "The database is at 3.5: nothing to do.\n"
    assert get_redun_version(database_url) == "3.5"


def test_upgrade_makes_the_schema_of_an_empty_database(
    empty_database_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    sa.create_engine(redun_uri(empty_database_url)).connect().close()
    assert "to 3.5" in run(capsys, "upgrade", "latest", "--db", empty_database_url)
    assert "call_node" in get_tables(empty_database_url)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("upgrade", "2.0"), "use 'aredun db downgrade 2.0'"),
        (("downgrade", "latest"), "nothing to do"),
        (("upgrade", "9.9"), "9.9"),
        (("upgrade", "new"), "invalid version 'new'"),
        (("downgrade",), "required: version"),
    ],
)
def test_wrong_direction_or_version(
    database_url: str, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], message: str
) -> None:
    code = 0 if message == "nothing to do" else 2
    text = run(capsys, *arguments, "--db", database_url, code=code)
    assert message in text
    assert len(text.splitlines()) == 1
    assert get_redun_version(database_url) == "3.5"


def test_index(database_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The index is made and dropped once; redun and the way to other versions do not mind it."""
    assert "call index  no" in run(capsys, "info", "--db", database_url)
    assert run(capsys, "index", "--db", database_url) == "The call index is made.\n"
    assert run(capsys, "index", "--db", database_url) == "The call index is there already.\n"
    assert "call index  yes" in run(capsys, "info", "--db", database_url)
    assert get_redun_version(database_url) == "3.5"
    run(capsys, "downgrade", "2.2", "--db", database_url)
    assert "2.2" in run(capsys, "index", "--db", database_url, code=2)
    run(capsys, "upgrade", "--db", database_url)
    run(capsys, "index", "--db", database_url)
    assert run(capsys, "index", "--drop", "--db", database_url) == "The call index is dropped.\n"
    assert run(capsys, "index", "--drop", "--db", database_url) == "The call index is not there.\n"
    assert "leave --read-only out" in run(capsys, "index", "--read-only", "--db", database_url, code=2)


async def test_checks_use_the_index(database_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A check for whole calls looks up those with its arguments, of however many the task has."""
    statements: list[tuple[str, Any]] = []

    def take(*event: Any) -> None:
        if "'ultimate'" in event[2]:
            statements.append((event[2], event[3]))

    explain = "EXPLAIN" if database_url.startswith("postgresql") else "EXPLAIN QUERY PLAN"
    await asyncio.to_thread(run, capsys, "index", "--db", database_url)
    async with RedunBackendDb(database_url) as backend:
        sa.event.listen(sa.Engine, "before_cursor_execute", take)
        try:
            await backend.check_cache(
                "t" * 40, "a" * 40, "e" * 40, "x", set(), CacheScope.BACKEND, CacheCheckValid.SHALLOW
            )
        finally:
            sa.event.remove(sa.Engine, "before_cursor_execute", take)
        async with backend.session() as session:
            connection = await session.connection()
            if explain == "EXPLAIN":
                # The table is empty, so the server would read all of it.
                await connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
            rows = await connection.exec_driver_sql(f"{explain} {statements[0][0]}", statements[0][1])
            plan = "\n".join(map(str, rows))
    assert "aredun_calls_by_arguments" in plan
    assert "args_hash" in plan.partition("aredun_calls_by_arguments")[2]


def test_configuration_is_found_above(
    tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`.redun/redun.ini` of a parent folder counts, as for redun."""
    (tmp_path / ".redun").mkdir()
    (tmp_path / ".redun" / "redun.ini").write_text(f"[backend]\ndb_uri = {database_url}\n")
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    assert "compatible  yes" in run(capsys, "info")


def test_a_secret_names_the_database(
    postgres: PostgresCluster,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Commands fetch it before they connect, also those that do not demand a schema version."""
    name = postgres.create_database()
    secret = {"engine": "postgres", "username": "postgres", "password": "p@ss", "dbname": name}
    secret |= {"host": str(postgres.socket_folder), "port": "5432"}
    (tmp_path / ".redun").mkdir()
    (tmp_path / ".redun" / "redun.ini").write_text("[backend]\ndb_aws_secret_name = commands/db\n")
    with run_object_store(monkeypatch):
        client = boto3.client("secretsmanager")
        client.create_secret(Name="commands/db", SecretString=json.dumps(secret))
        assert "AWS secret commands/db" in run(capsys, "info")
        assert "to 3.5" in run(capsys, "upgrade")
        capsys.readouterr()
        assert main(["log", "--count"]) == 0
        assert capsys.readouterr().out.split() == ["0", "Execution"]
    postgres.drop_database(name)
