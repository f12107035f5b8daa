"""The command as a whole: help, exit codes, and bad input, which is told in one line and changes nothing."""

from __future__ import annotations

import pkgutil
import sqlite3
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from aredun.cli import main
from aredun.cli.parsers import make_parser
from aredun.config.backend import BackendConfig
from tests.cli.test_cli_documented import iter_parsers
from tests.support.commands import BIN

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.databases import PostgresCluster

WORKFLOW = """
from aredun import task

redun_namespace = "cli"


@task()
def main(x: int, y: int = 1):
    return x + y
"""


@pytest.fixture(scope="module")
def workflow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The workflow's only file: two files of this process cannot define the same task."""
    path = tmp_path_factory.mktemp("cli") / "cli_workflow.py"
    path.write_text(WORKFLOW)
    return path


@pytest.fixture
def folder(workflow: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a workflow and no repository."""
    (tmp_path / "cli_workflow.py").symlink_to(workflow)
    (tmp_path / "cli_broken.py").write_text("1 +")
    (tmp_path / "cli_failing.py").write_text("x = 1 / 0")
    (tmp_path / "cli_leaving.py").write_text("raise SystemExit(3)")
    (tmp_path / "cli_importing.py").write_text("import no_such_package")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("REDUN_CONFIG", raising=False)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.setattr(sys, "path", [*sys.path])
    # A server that is not there is asked as often as by default, only sooner.
    monkeypatch.setattr(BackendConfig, "db_retries_backoff", 0.001)
    return tmp_path


def list_files(folder: Path) -> dict[str, bytes]:
    """Return the contents of all files below a folder."""
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture
def check_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run a command that must be refused: exit code 2, one line on stderr, nothing changed."""

    def check(*arguments: str) -> str:
        before = list_files(folder)
        assert main(arguments) == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        lines = captured.err.splitlines()
        assert len(lines) == 1, captured.err
        assert lines[0].startswith("aredun: ")
        assert list_files(folder) == before
        return lines[0]

    return check


COMMANDS = [*dict.fromkeys(name.split()[1] for name, _ in iter_parsers(make_parser()))]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    assert f"usage: aredun {command}" in capsys.readouterr().out


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    short = capsys.readouterr().out
    assert main(["--help"]) == 0
    assert capsys.readouterr().out == short
    for name in COMMANDS:
        assert f"    {name} " in short


@pytest.mark.parametrize("command", [(), ("run",), ("log",), ("db", "info")])
def test_help_waits_for_no_library(command: tuple[str, ...]) -> None:
    program = """
import sys
from aredun.cli import main
assert main([*sys.argv[1:], "--help"]) == 0
slow = {"sqlalchemy", "alembic", "fsspec", "aiosqlite", "asyncpg", "aredun.scheduler", "aredun.workflow"}
print("imported:", sorted(slow & sys.modules.keys()))
"""
    answer = subprocess.run([sys.executable, "-c", program, *command], capture_output=True, text=True)
    assert answer.stdout.splitlines()[-1] == "imported: []", answer.stderr


def test_every_command_is_run_by_a_function() -> None:
    """Which one is written as text: none may be misspelt."""
    ending = {parser.get_default("run") for _, parser in iter_parsers(make_parser())} - {None}
    assert len(ending) > len(COMMANDS)
    for name in ending:
        assert callable(pkgutil.resolve_name(name)), name


def test_the_package_is_the_command(folder: Path) -> None:
    def run(*words: str) -> tuple[int, str, str]:
        answer = subprocess.run(words, cwd=folder, capture_output=True, text=True)
        return answer.returncode, answer.stdout, answer.stderr

    for arguments in (("log", "--help"), ("nonsense",), ("db", "versions")):
        assert run(sys.executable, "-m", "aredun", *arguments) == run(str(BIN / "aredun"), *arguments)


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("aredun ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nonsense",), "invalid choice: 'nonsense'"),
        (("--nonsense",), "unrecognized arguments: --nonsense"),
        (("db",), "the following arguments are required: COMMAND"),
        (("db", "info", "--nonsense"), "unrecognized arguments: --nonsense"),
        (("run",), "the following arguments are required: FILE, TASK"),
        (("run", "cli_workflow.py"), "the following arguments are required: TASK"),
        (("run", "nowhere.py", "main"), "no file nowhere.py"),
        (("run", "nowhere", "main"), "no module nowhere"),
        (("run", "cli_broken.py", "main"), "cannot import cli_broken.py: SyntaxError"),
        (("run", "cli_failing.py", "main"), "cannot import cli_failing.py: ZeroDivisionError"),
        (("run", "cli_importing.py", "main"), "No module named 'no_such_package'"),
        (("run", "cli_leaving.py", "main"), "cannot import cli_leaving.py: it calls sys.exit(3)"),
        (("run", "cli_workflow.py", "other"), "no task 'other' in cli_workflow.py"),
        (("run", "cli_workflow.py", "main"), "task cli.main needs --x"),
        (("run", "cli_workflow.py", "main", "--x", "one"), "argument --x: 'one' is not a valid int"),
        (("run", "cli_workflow.py", "main", "--x", "1", "--z", "1"), "unrecognized arguments: --z 1"),
        (("run", "cli_workflow.py", "main", "--x"), "argument --x: expected one argument"),
        (("run", "cli_workflow.py", "main", "--x", "1", "--tag", "a"), "tag 'a' has no value"),
        (("run", "--option", "a", "cli_workflow.py", "main", "--x", "1"), "'a'"),
        (("run", "--option", "check_valid=x", "cli_workflow.py", "main", "--x", "1"), "invalid --option"),
        (("run", "--option", "limits=5", "cli_workflow.py", "main", "--x", "1"), "option limits is 5: give"),
        (("run", "--option", "tags=a", "cli_workflow.py", "main", "--x", "1"), "option tags is 'a': give"),
        (("run", "--execution-id", "7", "cli_workflow.py", "main", "--x", "1"), "give a UUID"),
        (("run", "--context-file", "no.json", "cli_workflow.py", "main", "--x", "1"), "no.json"),
        (
            ("run", "--max-concurrency", "0", "cli_workflow.py", "main", "--x", "1"),
            "--max-concurrency: '0' is",
        ),
        (("db", "info"), "no database at"),
        (("db", "upgrade"), "no database at"),
        (("db", "downgrade", "2.0"), "no database at"),
        (("db", "info", "--db", "sqlite:///nowhere.db"), "no database at nowhere.db"),
        (("db", "info", "--db", "mysql://host/db"), "unsupported scheme"),
        (("db", "info", "--db", "nonsense"), "nonsense"),
        (("db", "info", "--db", "postgresql://user:secret@host/db"), "password"),
        (("db", "info", "--db", "postgresql://127.0.0.1:1/db"), "127.0.0.1"),
        (("run", "--db", "postgresql://u:secret@h/db", "cli_workflow.py", "main", "--x", "1"), "password"),
        (("run", "--db", "postgresql://127.0.0.1:1/db", "cli_workflow.py", "main", "--x", "1"), "127.0.0.1"),
        (("run", "cli_workflow.py", "main", "--x", "1", "--db", "postgresql://u:secret@h/db"), "password"),
        (("run", "cli_workflow.py", "main", "--x", "1", "-c", "cli_broken.py"), "Not a directory"),
    ],
)
def test_bad_input(check_refused: Callable[..., str], arguments: tuple[str, ...], message: str) -> None:
    line = check_refused(*arguments)
    assert message in line
    assert "secret" not in line


def make_foreign_database(path: Path) -> None:
    """Make a sqlite database that has nothing to do with redun."""
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE job (name TEXT)")
    connection.execute("INSERT INTO job VALUES ('mine')")
    connection.commit()
    connection.close()


RUN = ("cli_workflow.py", "main", "--x", "1")


@pytest.mark.parametrize("command", [("run", *RUN), ("db", "upgrade")])
def test_database_that_is_not_reduns(
    check_refused: Callable[..., str], folder: Path, command: tuple[str, ...]
) -> None:
    make_foreign_database(folder / "foreign.db")
    assert "redun" in check_refused("--db", "sqlite:///foreign.db", *command)


@pytest.mark.parametrize("command", [("run", *RUN), ("db", "info"), ("db", "upgrade")])
def test_file_that_is_no_database(
    check_refused: Callable[..., str], folder: Path, command: tuple[str, ...]
) -> None:
    (folder / "notes.db").write_text("These are my notes, and not a database at all.\n" * 20)
    assert "not a database" in check_refused("--db", "sqlite:///notes.db", *command)


@pytest.mark.parametrize("command", [("run", *RUN), ("db", "upgrade")])
def test_database_that_is_too_new(
    check_refused: Callable[..., str], folder: Path, sqlite_template: Path, command: tuple[str, ...]
) -> None:
    connection = sqlite3.connect(folder / "new.db")
    sqlite3.connect(sqlite_template).backup(connection)
    connection.execute("UPDATE redun_version SET version = 4")
    connection.execute("UPDATE alembic_version SET version_num = 'ffff00000000'")
    connection.commit()
    connection.close()
    assert "4.?" in check_refused("--db", "sqlite:///new.db", *command)


@pytest.mark.parametrize("command", [("run", *RUN), ("db", "upgrade")])
def test_postgresql_database_that_is_not_reduns(
    check_refused: Callable[..., str], postgres: PostgresCluster, command: tuple[str, ...]
) -> None:
    name = postgres.create_database()
    postgres.execute(name, "CREATE TABLE job (name text)")
    assert "redun" in check_refused("--db", postgres.url(name), *command)
    postgres.drop_database(name)


def test_missing_postgresql_database(check_refused: Callable[..., str], postgres: PostgresCluster) -> None:
    assert "does not exist" in check_refused("--db", postgres.url("no_such_database"), "run", *RUN)


def test_reader_that_leaves_is_no_error(folder: Path) -> None:
    """`aredun ... | head -1` ends quietly."""
    process = subprocess.Popen(
        [str(BIN / "aredun"), "db", "versions"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=folder
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    process.wait(timeout=60)
