"""What goes wrong outside of aredun is one line that helps, and exit code 2."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from typing import TYPE_CHECKING

import pytest

from aredun.backend import RedunBackendDb
from aredun.cli import main
from aredun.cli.execution_tags import get_execution_tags
from aredun.formats.versions import parse_db_version

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Refuse = Callable[..., str]

PAGE = 4096


@pytest.fixture
def refuse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Refuse:
    """Run a command that has to fail in an empty folder; return its only line."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("REDUN_CONFIG", raising=False)

    def run(*arguments: str) -> str:
        assert main(arguments) == 2
        output, errors = capsys.readouterr()
        assert output == ""
        [line] = errors.splitlines()
        assert "Errno" not in line
        return line

    return run


def make_database(path: Path, version: str = "latest") -> None:
    """Make a repository of a version, in one file."""

    async def make() -> None:
        backend = RedunBackendDb(db_uri=f"sqlite:///{path}")
        backend.create_engine()
        await backend.migrate(parse_db_version(version))
        await backend.close()

    asyncio.run(make())
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA journal_mode = DELETE")
    connection.close()


COMMANDS = [["log"], ["query"], ["verify"], ["tag", "list"], ["export"], ["db", "info"]]


@pytest.mark.parametrize("command", COMMANDS[:-1], ids=" ".join)
def test_an_older_schema_names_the_command_that_upgrades_it(
    refuse: Refuse, tmp_path: Path, command: list[str]
) -> None:
    make_database(tmp_path / "old.db", "3.4")
    line = refuse(*command, "--db", f"sqlite:///{tmp_path}/old.db")
    assert "incompatible version 3.4" in line
    assert "'aredun db upgrade'" in line


@pytest.mark.parametrize("command", [*COMMANDS, ["import", "--file", os.devnull]], ids=" ".join)
def test_a_damaged_file_is_called_damaged(refuse: Refuse, tmp_path: Path, command: list[str]) -> None:
    path = tmp_path / "damaged.db"
    make_database(path)
    data = path.read_bytes()
    path.write_bytes(data[:PAGE] + b"\xff" * (len(data) - PAGE))
    line = refuse(*command, "--db", f"sqlite:///{path}")
    assert "is damaged" in line
    assert "not a redun" not in line
    path.write_bytes(data[: len(data) // 2])
    assert "is damaged" in refuse(*command, "--db", f"sqlite:///{path}")


@pytest.mark.parametrize("command", [*COMMANDS, ["import", "--file", os.devnull]], ids=" ".join)
def test_a_file_of_something_else(refuse: Refuse, tmp_path: Path, command: list[str]) -> None:
    path = tmp_path / "text.db"
    path.write_text("no database at all\n" * 100)
    assert "not a redun database" in refuse(*command, "--db", f"sqlite:///{path}")


def test_tags_that_are_not_there(refuse: Refuse, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script = tmp_path / "tagged_workflow.py"
    script.write_text("from aredun import task\nredun_namespace = 'tagged'\n@task()\ndef one(): return 1\n")
    options = ("--user", "me", "--project", "p", "--tag", "size=3")
    assert main(["run", *options, str(script), "one"]) == 0
    capsys.readouterr()
    for arguments, name in (
        (("size=4",), "size=4"),
        (('size="3"',), 'size="3"'),
        (("--", "sise"), "sise"),
        (("size=3", "--", "sise"), "sise"),
    ):
        line = refuse("tag", "rm", "-", *arguments)
        assert f"has no tag {name}: it has" in line
        assert "size=3" in line
    assert main(["tag", "rm", "-", "size=3", "--", "user"]) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("sync", "required: SRC, DST (see 'aredun sync --help')"),
        ("sync a", "required: DST (see 'aredun sync --help')"),
        ("log -c missing", "no folder missing: --config takes one that has a redun.ini"),
        ("-c missing db info", "no folder missing: --config takes one that has a redun.ini"),
        ("sync -c missing a b", "no folder missing: --config takes one that has a redun.ini"),
        ("import --file missing.json", "missing.json: No such file or directory"),
        ("log --config text.txt", "text.txt/redun.ini: Not a directory"),
        ("run missing.py task", "no file missing.py"),
        ("serve --host [::2]", "::2 can be reached by others: give a --token"),
        ("serve --host [::1]", "no database at"),
        ("serve --allow-origin lab.example", "'lab.example' is no origin: give a scheme and a host"),
        ("serve --allow-origin https://lab.example/page", "'https://lab.example/page' is no origin"),
        ("serve --allow-origin *", "'*' is no origin"),
    ],
)
def test_one_line_that_helps(refuse: Refuse, tmp_path: Path, arguments: str, message: str) -> None:
    (tmp_path / "text.txt").write_text("text")
    assert message in refuse(*arguments.split())


def test_newest_execution_of_an_empty_repository(refuse: Refuse, tmp_path: Path) -> None:
    make_database(tmp_path / "empty.db")
    line = refuse("log", "--exec-id", "-", "--db", f"sqlite:///{tmp_path}/empty.db")
    assert line == "aredun: there is no execution yet: 'aredun run' makes one"


def test_a_user_without_a_name_is_tagged_by_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """Containers run under any uid."""
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME", "REDUN_USER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 54321)
    assert dict(asyncio.run(get_execution_tags()))["user"] == "54321"
