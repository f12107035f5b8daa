"""What the command tells on stderr beside its answer, by `--log-level`."""

from __future__ import annotations

import logging
import socket
from typing import TYPE_CHECKING

import pytest

from aredun.cli import main
from tests.support.commands import run_command

if TYPE_CHECKING:
    from pathlib import Path

WORKFLOW = """
import logging
from aredun import task

redun_namespace = "levels"


@task()
def main(n: int):
    logging.getLogger("aredun").warning("something is odd")
    return n if n else 1 / n
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a workflow and its repository."""
    folder = tmp_path_factory.mktemp("levels")
    (folder / "levels_workflow.py").write_text(WORKFLOW)
    answer = run_command("aredun", "run", "-v", "levels_workflow.py", "main", "--n", "1", cwd=folder)
    assert answer.returncode == 0, answer.stderr
    # A new database is migrated, which is told of at this level.
    assert "Upgrading db from version" in answer.stderr
    return folder


def run(folder: Path, *options: str, n: int = 1) -> tuple[int, str, str]:
    """Run the workflow without the cache; return the exit code, stdout and stderr."""
    where = ("levels_workflow.py", "main", "--n", str(n))
    answer = run_command("aredun", "run", "--no-cache", *where, *options, cwd=folder)
    return answer.returncode, answer.stdout, answer.stderr


def test_by_default_progress_and_warnings(folder: Path) -> None:
    code, output, errors = run(folder)
    assert (code, output) == (0, "1\n")
    assert "something is odd\n" in errors
    assert "levels.main" in errors
    assert "SELECT" not in errors


@pytest.mark.parametrize("option", [("-q",), ("--quiet",), ("--log-level", "error")])
def test_a_quiet_run_says_nothing_but_its_result(folder: Path, option: tuple[str, ...]) -> None:
    assert run(folder, *option) == (0, "1\n", "")


def test_a_quiet_run_that_fails_says_why(folder: Path) -> None:
    code, output, errors = run(folder, "-q", n=0)
    assert (code, output) == (1, "")
    assert "failed: ZeroDivisionError" in errors.splitlines()[0]
    assert "something is odd" not in errors


def test_debug_shows_the_statements(folder: Path) -> None:
    answer = run_command("aredun", "log", "--count", "--log-level", "debug", cwd=folder)
    assert answer.returncode == 0
    assert "SELECT" in answer.stderr
    assert answer.stdout == run_command("aredun", "log", "--count", cwd=folder).stdout
    assert "INSERT" in run(folder, "--log-level", "debug")[2]


def test_tries_to_connect_are_told_of_when_asked_for(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    uri = f"postgresql://nobody@127.0.0.1:{port}/none"
    (folder / "far").mkdir()
    (folder / "far" / "redun.ini").write_text(
        f"[backend]\ndb_uri = {uri}\ndb_retries = 1\ndb_retries_backoff = 0.001\n"
    )
    quiet = run_command("aredun", "log", "-c", "far", cwd=folder)
    assert (quiet.returncode, len(quiet.stderr.splitlines())) == (2, 1)
    told = run_command("aredun", "-v", "log", "-c", "far", cwd=folder)
    assert told.returncode == 2
    assert "failed (attempt 1 of 2)" in told.stderr


def test_an_unknown_level_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["log", "--log-level", "loud"]) == 2
    message = capsys.readouterr().err
    assert "argument --log-level: invalid choice: 'loud'" in message
    assert message.count("\n") == 1


def test_levels_are_put_back(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    names = ("aredun", "sqlalchemy.engine")
    before = [logging.getLogger(name).level for name in names]
    assert main(["log", "--no-pager", "--log-level", "debug"]) == 0
    assert [logging.getLogger(name).level for name in names] == before
