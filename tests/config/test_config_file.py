"""redun.ini: where it is found, and what is read from it, beside redun's own reading."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from redun import cli as redun_cli
from redun.backends.db import RedunBackendDb as RedunBackend

from aredun.config import find_config, get_config_dir, load_config, write_default_config
from aredun.errors import RedunDatabaseError, UsageError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, with nothing of redun in the environment."""
    for name in [name for name in os.environ if name.startswith("REDUN_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_find_config(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = repository / "a" / "b"
    deep.mkdir(parents=True)
    monkeypatch.chdir(deep)
    assert get_config_dir() == ".redun" == redun_cli.get_config_dir()
    (repository / ".redun").mkdir()
    assert find_config() == str(repository / ".redun") == redun_cli.find_config_dir()
    assert get_config_dir() == redun_cli.get_config_dir() == str(repository / ".redun")
    monkeypatch.setenv("REDUN_CONFIG", "/else/where")
    assert get_config_dir() == redun_cli.get_config_dir() == "/else/where"
    assert get_config_dir("given") == redun_cli.get_config_dir("given") == "given"


INI = """
[backend]
db_uri = sqlite:///sub/${NAME}.db
value_store_path = values
Db_Retries = 1
db_retries = 8
own = mine
NAME = file

[scheduler]
greeting = $$5 ${backend:own}

[executors.default]
type = local

[executors.batch]
image = ${MISSING}

[repos.other]
config_dir = other/.redun
"""


def test_load_config_as_redun(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (repository / ".redun").mkdir()
    (repository / ".redun" / "redun.ini").write_text(INI)
    for environment in ({}, {"NAME": "environment"}):
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        theirs = redun_cli.setup_config()
        ours = load_config()
        config = ours.backend()
        assert config.db_uri == theirs["backend"]["db_uri"]
        assert config.db_retries == 8
        redun_backend = RedunBackend(config=theirs["backend"])
        assert config.value_store_path == redun_backend.value_store.root_path
        assert ours.section("scheduler")["greeting"] == theirs["scheduler"]["greeting"] == "$5 mine"
        assert ours.subsections("repos") == {"other": {"config_dir": "other/.redun"}}
    assert "environment" in config.db_uri
    with pytest.raises(UsageError, match=r"section \[executors.batch\]") as caught:
        ours.section("executors.batch")
    assert "\n" not in str(caught.value)
    assert ours.section("nothing") == {}


@pytest.mark.parametrize(
    "uri", ["", "sqlite:///.redun/redun.db", "sqlite:///redun.db", "sqlite:////abs.db", "postgresql://h/d"]
)
def test_paths_in_the_file_are_relative_to_it(uri: str, repository: Path) -> None:
    (repository / ".redun").mkdir()
    (repository / ".redun" / "redun.ini").write_text(f"[backend]\ndb_uri = {uri}\n")
    assert load_config().backend().db_uri == redun_cli.setup_config()["backend"]["db_uri"]
    assert load_config(".redun").backend("sqlite:///my.db").db_uri == "sqlite:///my.db"
    assert load_config(repository / ".redun" / "redun.ini").config_dir == str(repository / ".redun")


def test_missing_and_broken_files(repository: Path) -> None:
    assert load_config().backend().db_uri == f"sqlite:////{str(repository)[1:]}/.redun/redun.db"
    with pytest.raises(UsageError, match=r"no redun.ini in .*/\.redun"):
        load_config(required=True)
    (repository / ".redun").mkdir()
    ini = repository / ".redun" / "redun.ini"
    for broken in (b"no section = 1\n", b"[a]\nx = 1\nx = 2\n", b"[a\n", b"\xff\xfe[backend]"):
        ini.write_bytes(broken)
        with pytest.raises(UsageError, match=r"cannot read .*redun.ini") as caught:
            load_config()
        assert "\n" not in str(caught.value)


def test_remote_config(repository: Path) -> None:
    import fsspec

    with fsspec.open("memory://lab/.redun/redun.ini", "w") as file:
        file.write("[backend]\ndb_uri = postgresql://db/prov\nvalue_store_path = values\n")
    config = load_config("memory://lab/.redun").backend()
    assert config.db_uri == "postgresql://db/prov"
    assert config.value_store_path == "memory://lab/.redun/values"


def test_repositories(repository: Path) -> None:
    for folder, text in ((".redun", INI), ("other/.redun", "[backend]\ndb_uri = postgresql://db/other\n")):
        (repository / folder).mkdir(parents=True)
        (repository / folder / "redun.ini").write_text(text)
    ini = load_config()
    assert ini.repository("default") is ini
    assert ini.repository("other").backend().db_uri == "postgresql://db/other"
    with pytest.raises(UsageError, match=r"unknown repository 'x'.* names default, other"):
        ini.repository("x")


def test_default_config_is_reduns(repository: Path) -> None:
    assert write_default_config(repository / ".redun")
    assert not write_default_config(repository / ".redun", "postgresql://ignored/db")
    ours = load_config().backend()
    theirs = redun_cli.setup_config()
    assert theirs["backend"]["db_uri"] == ours.db_uri
    assert theirs["executors"]["default"]["type"] == "local"


@pytest.mark.parametrize("uri", ["postgresql://me:secret@db/lab", "postgresql://db/lab?password=secret"])
def test_a_password_is_written_into_no_file(repository: Path, uri: str) -> None:
    with pytest.raises(RedunDatabaseError, match="must not hold a password"):
        write_default_config(repository / "new", uri)
    assert not (repository / "new").exists()
