"""Paths with characters that mean something in a URI, to a shell or to fsspec: always the file they name."""

from __future__ import annotations

import os
import re
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa
from redun import Scheduler as RedunScheduler
from redun import task as redun_task
from redun.cli import setup_config

from aredun.backend import RedunBackendDb
from aredun.cli import main
from aredun.config import BackendConfig, make_file_uri
from aredun.errors import UsageError
from aredun.redun_bridge import setup_scheduler
from aredun.storage.value_store import ValueStore

if TYPE_CHECKING:
    from pathlib import Path

# The last two are more than redun itself can live in.
NAMES = [
    "feature%2Flogin",
    "run?1",
    " a#b&c=d[x]*",
    "new\nline 'q\"",
    "ü:memory:é::x",
    "$d",
    os.fsdecode(b"\xff"),
]
# All runs share a process, in which a task has one file.
WORKFLOW = """
from aredun import task

redun_namespace = "paths_{number}"


@task()
def count(n: int = 1) -> int:
    return n
"""

redun_namespace = "paths"


@redun_task()
def count_letters() -> str:
    return "v" * 2000


def count_executions(path: Path) -> int:
    """Count the executions of a repository, which has to be there."""
    with closing(sqlite3.connect(path)) as connection:
        (count,) = connection.execute("select count(*) from execution").fetchone()
    return int(count)


def make_folder(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a folder, and work in it."""
    monkeypatch.delenv("REDUN_CONFIG", raising=False)
    folder = tmp_path / name
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def list_files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", NAMES)
def test_the_command_works_in_a_folder(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_folder(tmp_path, name, monkeypatch)
    number = NAMES.index(name)
    (folder / f"counting_{number}.py").write_text(WORKFLOW.format(number=number))
    assert main(["run", f"counting_{number}.py", "count"]) == 0
    assert count_executions(folder / ".redun" / "redun.db") == 1
    monkeypatch.chdir(tmp_path)
    capsys.readouterr()
    assert main(["log", "-c", f"{name}/.redun"]) == 0
    assert main(["log", "-c", f"{name}/.redun/redun.ini"]) == 0
    assert main(["log", "--db", make_file_uri(f"{name}/.redun/redun.db")]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert len(shown) == 3
    # How long ago it ran may be another second in each.
    assert len({re.sub(r" \((now|\d+s ago)\)", "", line) for line in shown}) == 1
    # Records go from repository to repository, by the names that a shell would take.
    assert main(["sync", name, f"{name}.db"]) == 0
    assert main(["sync", f"{name}.db", f"copy {name}.db"]) == 0
    assert count_executions(tmp_path / f"copy {name}.db") == 1
    assert main(["export", "-c", f"{name}/.redun", "-f", f"{name}.jsonl"]) == 0
    assert main(["import", "--db", make_file_uri(tmp_path / f"new {name}.db"), "-f", f"{name}.jsonl"]) == 0
    assert count_executions(tmp_path / f"new {name}.db") == 1
    beside = {path.name for path in tmp_path.iterdir()}
    assert beside == {name, f"{name}.db", f"copy {name}.db", f"new {name}.db", f"{name}.jsonl"}


@pytest.mark.parametrize("name", NAMES[:-2])
def test_redun_on_aredun_works_in_a_folder(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_folder(tmp_path, name, monkeypatch)
    (folder / ".redun").mkdir()
    values = name.replace("$", "$$").replace("\n", "")
    (folder / ".redun" / "redun.ini").write_text(
        f"[backend]\ndb_uri = sqlite:///redun.db\nvalue_store_path = values {values}\n"
    )
    scheduler: RedunScheduler = setup_scheduler(setup_config(str(folder / ".redun")))
    scheduler.load(migrate=True)
    assert scheduler.run(count_letters()) == "v" * 2000
    backend: Any = scheduler.backend
    # redun's own connection is to the same file.
    assert backend.session.execute(sa.text("select count(*) from execution")).scalar() == 1
    backend.close()
    assert count_executions(folder / ".redun" / "redun.db") == 1
    assert {path.name for path in tmp_path.iterdir()} == {name}
    kept = list_files(folder / ".redun") - {"redun.db", "redun.ini"}
    assert len(kept) == 1, kept


@pytest.mark.parametrize("name", NAMES)
async def test_the_uri_of_a_path(name: str, tmp_path: Path) -> None:
    path = tmp_path / name / f"{name}.db"
    uri = make_file_uri(path)
    url = BackendConfig.parse(db_uri=uri).url
    assert url is not None
    assert url.file_path == path
    assert not url.is_memory
    async with RedunBackendDb(uri) as backend:
        await backend.record_value(1)
    assert list_files(tmp_path) == {f"{name}/{name}.db"}


@pytest.mark.parametrize("name", NAMES)
async def test_a_value_store_in_a_folder(name: str, tmp_path: Path) -> None:
    store = ValueStore(str(tmp_path / name))
    await store.put("ab" * 20, b"data")
    assert list_files(tmp_path) == {f"{name}/ab/{'ab' * 19}"}


@pytest.mark.parametrize(
    ("uri", "option"),
    [
        ("sqlite:///run?1.db", "1.db=''"),
        ("sqlite:///run?", "no options"),
        ("sqlite:///redun.db?tiemout=3", "tiemout='3'"),
        ("sqlite:///redun.db?mode=reed", "mode='reed'"),
        ("sqlite:///file:redun.db?uri=true&isolation_level=x", "isolation_level='x'"),
        ("sqlite:///redun.db?timeout=soon", "timeout='soon'"),
    ],
)
def test_options_that_sqlite_does_not_know(
    uri: str, option: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=option.replace("(", "")):
        RedunBackendDb(uri)
    assert main(["log", "--db", uri]) == 2
    shown = capsys.readouterr()
    assert (shown.out, len(shown.err.splitlines())) == ("", 1)
    assert not list_files(tmp_path)


def test_the_timeout_of_a_uri_is_the_busy_timeout() -> None:
    assert BackendConfig.parse(db_uri="sqlite:///redun.db?timeout=3").busy_timeout == 3
    assert BackendConfig.parse(db_uri="sqlite:///redun.db").busy_timeout == 30


def test_a_file_uri_is_its_path(tmp_path: Path) -> None:
    for uri in (f"file:{tmp_path}/a%2520b", f"file://{tmp_path}/a%20b", f"file://localhost{tmp_path}/a%20b"):
        url = BackendConfig.parse(db_uri=f"sqlite:///{uri}?mode=ro&uri=true").url
        assert url is not None
        assert url.file_path == tmp_path / "a b"
