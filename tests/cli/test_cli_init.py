"""`aredun init` makes redun.ini and the repository, and says what it made."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from aredun.cli import main
from aredun.config.backend import BackendConfig
from tests.support.commands import run_command

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.databases import PostgresCluster

    Run = Callable[..., list[str]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command in an empty folder; return the lines of its answer, or of its error."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("REDUN_CONFIG", raising=False)

    def run(*arguments: str, code: int = 0) -> list[str]:
        assert main(arguments) == code
        output, errors = capsys.readouterr()
        assert (output if code else errors) == ""
        return [*(output or errors).splitlines()]

    return run


def test_both_are_made_once(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / ".redun"
    assert run("init") == [
        f"made {folder}/redun.ini",
        f"made the repository sqlite:///{folder}/redun.db, version 3.5",
    ]
    before = (folder / "redun.ini").read_text(), (folder / "redun.db").read_bytes()
    assert run("init") == [
        f"found {folder}/redun.ini",
        f"found the repository sqlite:///{folder}/redun.db, version 3.5",
    ]
    assert ((folder / "redun.ini").read_text(), (folder / "redun.db").read_bytes()) == before
    assert run("log", "--count") == run("log", "--count")


def test_redun_reads_what_was_made_and_the_other_way_round(run: Run, tmp_path: Path) -> None:
    run("init", "ours")
    answer = run_command("redun", "db", "info", cwd=tmp_path / "ours")
    assert answer.returncode == 0, answer.stderr
    assert "3.5" in answer.stdout
    assert run_command("redun", "init", "theirs", cwd=tmp_path).returncode == 0
    assert [line.split()[0] for line in run("init", "theirs")] == ["found", "found"]


def test_a_database_elsewhere(run: Run, tmp_path: Path) -> None:
    assert run("init", "lab", "--db", "sqlite:///a$b.db") == [
        f"made {tmp_path}/lab/.redun/redun.ini",
        "made the repository sqlite:///a$b.db, version 3.5",
    ]
    assert (tmp_path / "a$b.db").exists()
    assert f"sqlite:///{tmp_path}/a$b.db" in " ".join(run("db", "info", "-c", "lab/.redun"))
    assert [line.split()[0] for line in run("init", "lab", "--db", f"sqlite:///{tmp_path}/a$b.db")] == [
        "found",
        "found",
    ]
    [message] = run("init", "lab", "--db", "sqlite:///other.db", code=2)
    assert "names another database: change its db_uri, or leave --db out" in message
    assert not (tmp_path / "other.db").exists()


def test_an_empty_database_of_a_server(run: Run, postgres: PostgresCluster) -> None:
    name = postgres.create_database()
    assert run("init", "--db", postgres.url(name))[1].startswith("made the repository postgresql")
    assert run("init")[1].startswith("found the repository postgresql")
    postgres.drop_database(name)


@pytest.mark.parametrize(("old", "new"), [("postgres@", "postgres:secret@"), ("?", "?password=secret&")])
def test_a_password_comes_into_no_file(
    run: Run, postgres: PostgresCluster, tmp_path: Path, old: str, new: str
) -> None:
    name = postgres.create_database()
    uri = postgres.url(name).replace(old, new)
    [message] = run("init", "--db", uri, code=2)
    assert message == (
        "aredun: a database URI must not hold a password: put it into an environment variable "
        "(REDUN_DB_USERNAME and REDUN_DB_PASSWORD by default)"
    )
    assert [*tmp_path.iterdir()] == []
    run("init")
    before = (tmp_path / ".redun" / "redun.ini").read_bytes()
    assert run("init", "--db", uri, code=2) == [message]
    assert (tmp_path / ".redun" / "redun.ini").read_bytes() == before
    postgres.drop_database(name)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--db", "nonsense"), "nonsense"),
        (("--db", "postgresql://nobody@127.0.0.1:1/none?connect_timeout=1"), "127.0.0.1"),
        (("--read-only",), "leave --read-only out"),
        (("lab", "-c", "other"), "give DIR or --config, not both"),
        (("text.txt",), "text.txt"),
    ],
)
def test_what_cannot_be_made_leaves_nothing(
    run: Run, tmp_path: Path, arguments: tuple[str, ...], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(BackendConfig, "db_retries_backoff", 0.001)
    (tmp_path / "text.txt").touch()
    [line] = run("init", *arguments, code=2)
    assert message in line
    assert [path.name for path in tmp_path.rglob("*")] == ["text.txt"]
