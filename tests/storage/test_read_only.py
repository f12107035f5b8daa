"""Reading where nothing can be written, and refusing to write where nothing is to be written."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from aredun.backend import RedunBackendDb
from aredun.cli import main
from aredun.errors import RedunDatabaseError
from aredun.models import Value
from tests.server.test_server_changes import TASK, start
from tests.support.recording import FakeJob

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# Permissions do not bind root, unless it is started without its capabilities.
UNPRIVILEGED = ["setpriv", "--bounding-set=-all"] if os.geteuid() == 0 else []
MAIN = """
import contextlib, io, json, sys
from aredun.cli import main
for arguments in json.loads(sys.argv[1]):
    out, err = io.TextIOWrapper(io.BytesIO()), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(arguments)
    out.flush()
    print(json.dumps([code, out.buffer.getvalue().decode(), err.getvalue()]))
"""
BRIDGE = """
import sys
import sqlalchemy as sa
from aredun.redun_bridge import RedunBackendDb
backend = RedunBackendDb(sys.argv[1])
backend.load()
print(backend.session.execute(sa.text("select count(*) from execution")).scalar())
print(len(list(backend.iter_record_ids([sys.argv[2]]))))
backend.close()
"""


def run_unprivileged(program: str, *arguments: str) -> str:
    """Run a Python program that is bound by permissions."""
    command = [*UNPRIVILEGED, sys.executable, "-c", program, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout


def run_commands(*commands: list[str]) -> list[Any]:
    """Run commands where permissions bind; return the exit code and the outputs of each."""
    return [json.loads(line) for line in run_unprivileged(MAIN, json.dumps(commands)).splitlines()]


async def record(path: Path) -> str:
    """Record a run that has ended; return its id."""
    async with RedunBackendDb(f"sqlite:///{path}") as backend:
        root = FakeJob(TASK)
        await start(backend, root)
        await backend.record_job_end(root)
        return root.execution.id


@pytest.fixture
def folder(tmp_path: Path, sqlite_template: Path) -> Iterator[Path]:
    """A folder with a repository in WAL mode; it may be shut."""
    folder = tmp_path / "shut"
    folder.mkdir()
    shutil.copyfile(sqlite_template, folder / "redun.db")
    yield folder
    folder.chmod(0o755)


def test_all_reading_commands_without_permission(folder: Path, tmp_path: Path) -> None:
    """What aredun made is read where the folder cannot be written to, by every command that reads."""
    execution_id = asyncio.run(record(folder / "redun.db"))
    (folder / "redun.ini").write_text("[backend]\ndb_uri = sqlite:///redun.db\n")
    before = {path.name for path in folder.iterdir()}
    folder.chmod(0o555)
    config, copy = ["-c", str(folder)], tmp_path / "copy.db"
    reading = [
        ["log", *config],
        ["log", execution_id, *config],
        ["query", *config],
        ["tag", "list", *config],
        ["db", "info", *config],
        ["export", *config],
        ["verify", *config],
        ["sync", str(folder), str(copy)],
        ["log", "--read-only", *config],
    ]
    writing = [
        ["tag", "add", execution_id, "a=1", *config],
        ["import", "-f", os.devnull, *config],
        ["db", "downgrade", "2.2", *config],
    ]
    answers = run_commands(*reading, *writing)
    for command, (code, out, err) in zip(reading, answers, strict=False):
        assert (code, err) == (0, ""), (command, err)
        assert execution_id[:8] in out or command[0] in ("tag", "db", "verify", "sync", "query"), (
            command,
            out,
        )
    with closing(sqlite3.connect(copy)) as connection:
        assert connection.execute("select id from execution").fetchall() == [(execution_id,)]
    for command, (code, _, err) in zip(writing, answers[len(reading) :], strict=True):
        assert code == 2, command
        assert err.startswith("aredun: ")
        assert "redun.db cannot be written to: there is no permission" in err, command
        assert err.count("\n") == 1
    assert {path.name for path in folder.iterdir()} == before
    # redun on aredun reads there too, on both sides.
    answer = run_unprivileged(BRIDGE, f"sqlite:///{folder}/redun.db", execution_id)
    assert answer.split()[0] == "1"
    assert int(answer.split()[1]) >= 3


def test_a_log_that_cannot_be_read(folder: Path, tmp_path: Path) -> None:
    """What a killed process left in the log is not passed over: the command says why it cannot read."""
    away = tmp_path / "away"
    away.mkdir()

    async def leave_log() -> str:
        async with RedunBackendDb(f"sqlite:///{folder}/redun.db") as backend:
            root = FakeJob(TASK)
            await start(backend, root)
            for path in folder.iterdir():
                shutil.copyfile(path, away / path.name)
            return root.execution.id

    execution_id = asyncio.run(leave_log())
    (away / "redun.db-shm").unlink()
    away.chmod(0o555)
    try:
        [(code, out, err)] = run_commands(["log", "--db", f"sqlite:///{away}/redun.db"])
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert "cannot be read without permission to write in" in err
        assert "commits in the log beside it are not in the file yet" in err
    finally:
        away.chmod(0o755)
    # What the message says helps.
    assert main(["db", "info", "--db", f"sqlite:///{away}/redun.db"]) == 0
    away.chmod(0o555)
    try:
        [(code, out, _)] = run_commands(["log", "--db", f"sqlite:///{away}/redun.db"])
        assert code == 0
        assert execution_id[:8] in out
    finally:
        away.chmod(0o755)


def test_others_write_meanwhile(folder: Path) -> None:
    """Who reads without taking part in the locking is told, rather than shown what was."""
    asyncio.run(record(folder / "redun.db"))
    folder.chmod(0o555)
    program = """
import asyncio, sys
from aredun import RedunBackendDb
from aredun.errors import DatabaseMovedError
async def main():
    async with RedunBackendDb(sys.argv[1]) as backend:
        await backend.get_value("0" * 40)
        print("open", flush=True)
        sys.stdin.readline()
        try:
            await backend.get_value("0" * 40)
        except DatabaseMovedError as error:
            print(error)
asyncio.run(main())
"""
    command = [*UNPRIVILEGED, sys.executable, "-c", program, f"sqlite:///{folder}/redun.db"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as reader:
        assert reader.stdout is not None
        assert reader.stdout.readline() == "open\n"
        folder.chmod(0o755)
        asyncio.run(record(folder / "redun.db"))
        out, _ = reader.communicate("\n", timeout=100)
    assert out.startswith("somebody has written to ")


async def test_a_backend_that_is_read_only(database_url: str) -> None:
    async with RedunBackendDb(database_url) as backend:
        value_hash = await backend.record_value("there")
    async with RedunBackendDb(database_url, {"read_only": "true"}) as backend:
        assert await backend.get_value(value_hash) == ("there", True)
        for attempt in (
            lambda: backend.record_value("refused"),
            lambda: backend.update_tags("Value", value_hash, [], [("a", 1)]),
            backend.migrate,
        ):
            with pytest.raises(RedunDatabaseError, match="is open read-only: nothing can be written"):
                await attempt()
        with pytest.raises(RedunDatabaseError, match="read-only"):
            async with backend.batch():
                await backend.record_value("refused")
        async with backend.session() as session:
            with pytest.raises(DBAPIError, match=r"read-?only"):
                await session.execute(sa.delete(Value))
    async with RedunBackendDb(database_url) as backend:
        assert await backend.get_value(value_hash) == ("there", True)


def test_the_option_of_the_command(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = f"sqlite:///{folder}/redun.db"
    execution_id = asyncio.run(record(folder / "redun.db"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "flow.py").write_text(
        "from aredun import task\n@task()\ndef step_once() -> int:\n    return 1\n"
    )
    assert main(["--read-only", "log", "--db", uri]) == 0
    assert execution_id[:8] in capsys.readouterr().out
    for arguments, expected in (
        (["tag", "add", execution_id, "a=1", "--db", uri], "is open read-only: nothing can be written"),
        (["tag", "add", execution_id, "a=1", "--db", f"{uri}?mode=ro"], "is open read-only"),
        (["verify", "--repair", "--db", uri], "this command writes to the database"),
        (["db", "downgrade", "2.2", "--db", uri], "is open read-only"),
        (["import", "-f", os.devnull, "--db", uri], "this command writes to the database"),
        (["run", "flow.py", "step_once"], "this command writes to the database"),
    ):
        option = [] if "mode=ro" in arguments[-1] else ["--read-only"]
        assert main([*option, *arguments]) == 2, arguments
        shown = capsys.readouterr().err
        assert expected in shown
        assert shown.count("\n") == 1
    assert {path.name for path in tmp_path.iterdir()} == {"flow.py", "shut"}
