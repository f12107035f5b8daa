"""`aredun run`: arguments by type, options, tags, output, failures, and Ctrl-C."""

from __future__ import annotations

import json
import os
import pty
import signal
import sqlite3
import subprocess
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.commands import BIN, run_aredun

if TYPE_CHECKING:
    from pathlib import Path

WORKFLOW = '''
import asyncio
import enum
import time
from typing import Optional

from aredun import File, task
from aredun.workflow.operators import get_context

redun_namespace = "runs"


class Color(enum.Enum):
    red = 1
    blue = 2


@task()
def show(
    number: int,
    text="plain",
    ratio: float = 0.5,
    flag: bool = False,
    files: list[File] = [],
    numbers: list[int] | None = None,
    maybe: Optional[int] = None,
    color: Color = Color.red,
    file_name: str = "",
):
    """Show all arguments."""
    return [number, text, ratio, flag, [file.path for file in files], numbers, maybe, color.name, file_name]


@task()
def tagged(tag: str):
    return tag


@task()
async def fail(x: int):
    return inner(x)


@task()
def inner(y: int):
    raise ValueError(f"bad\\n{y}")


@task()
def ask():
    return get_context("a.b")


@task()
async def sleep(seconds: float):
    await asyncio.sleep(seconds)


@task()
def block(seconds: float):
    time.sleep(seconds)


@task()
def nothing():
    print("from a task")
'''


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A working folder with a workflow, in no git repository."""
    (tmp_path / "workflow.py").write_text(WORKFLOW)
    return tmp_path


def run(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a task and demand success."""
    done = run_aredun("run", *arguments, cwd=folder, REDUN_USER="tester", **environment)
    assert done.returncode == 0, done.stderr
    return done


def query(folder: Path, statement: str) -> list[Any]:
    """Read from the repository of the folder."""
    connection = sqlite3.connect(folder / ".redun" / "redun.db")
    try:
        return connection.execute(statement).fetchall()
    finally:
        connection.close()


def test_arguments_are_read_by_their_types(folder: Path) -> None:
    done = run(
        folder,
        "workflow.py",
        "show",
        *("--number", "1", "--ratio", "2.5", "--flag", "true", "--files", "a.txt", "b.txt"),
        *("--numbers", "3", "4", "--maybe", "5", "--color", "blue", "--file-name=x y"),
    )
    assert done.stdout == "[1, 'plain', 2.5, True, ['a.txt', 'b.txt'], [3, 4], 5, 'blue', 'x y']\n"


def test_defaults(folder: Path) -> None:
    done = run(folder, "workflow.py", "runs.show", "--number", "-1")
    assert done.stdout == "[-1, 'plain', 0.5, False, [], None, None, 'red', '']\n"


def test_module_name_and_repository_files(folder: Path) -> None:
    """The first run makes `.redun/redun.ini`, as redun does."""
    run(folder, "workflow", "nothing")
    assert (folder / ".redun" / "redun.ini").exists()
    assert (folder / ".redun" / "redun.db").exists()


def test_execution_is_recorded_as_redun_does(folder: Path) -> None:
    execution_id = "11111111-2222-3333-4444-555555555555"
    arguments = ("workflow.py", "show", "--number", "1")
    options = ("--tag", "env=prod", "--tag", "n=[1]", "--doc", "Why", "--execution-id", execution_id)
    run(folder, *options, *arguments, REDUN_GIT_COMMIT="abc")

    [(recorded_id, argv)] = query(folder, "SELECT id, args FROM execution")
    assert recorded_id == execution_id
    assert json.loads(argv) == ["aredun", "run", *options, *arguments]
    tags = query(folder, f"SELECT key, value FROM tag WHERE entity_id = '{execution_id}'")
    assert {key: json.loads(value) for key, value in tags if key != "redun.version"} == {
        "doc": "Why",
        "env": "prod",
        "git_commit": "abc",
        "n": [1],
        "project": "runs",
        "user": "tester",
    }
    assert "redun.version" in dict(tags)


def test_execution_id_is_used_once(folder: Path) -> None:
    arguments = ("workflow.py", "tagged", "--tag", "x", "--execution-id", "1" * 32)
    run(folder, *arguments)
    done = run_aredun("run", *arguments, cwd=folder)
    assert done.returncode == 2
    assert done.stderr.startswith(
        "aredun: execution 11111111-1111-1111-1111-111111111111 is recorded already"
    )
    assert len(done.stderr.splitlines()) == 1
    assert query(folder, "SELECT count(*) FROM job") == [(1,)]


def test_options_after_the_task_and_names_that_collide(folder: Path) -> None:
    """An argument of the task goes before an option of `run` that has the same name."""
    done = run(folder, "workflow.py", "tagged", "--tag", "mine", "--user", "someone", "--no-cache")
    assert done.stdout == "'mine'\n"
    assert query(folder, "SELECT value FROM tag WHERE key = 'user'") == [('"someone"',)]


def test_second_run_is_cached_unless_told_otherwise(folder: Path) -> None:
    arguments = ("workflow.py", "show", "--number", "1")
    assert "RUNNING" in run(folder, *arguments).stderr
    assert "RUNNING" not in run(folder, *arguments).stderr
    assert "RUNNING" in run(folder, "--no-cache", *arguments).stderr
    assert "RUNNING" in run(folder, "--option", "cache=false", *arguments).stderr
    run(folder, "--no-prov", *arguments)
    assert query(folder, "SELECT count(*) FROM job") == [(4,)]


def test_context(folder: Path) -> None:
    (folder / "context.json").write_text('{"a": {"b": "file"}}')
    assert run(folder, "workflow.py", "ask", "--context-file", "context.json").stdout == "'file'\n"
    assert run(folder, "workflow.py", "ask", "--context", "a.b=option").stdout == "'option'\n"


def test_settings_of_redun_ini(folder: Path) -> None:
    config = folder / "settings"
    config.mkdir()
    (config / "redun.ini").write_text(
        "[backend]\ndb_uri = sqlite:///other.db\n[tags]\nteam = a\n"
        '[scheduler]\ncontext = {"a": {"b": 7}}\n[limits]\ndb = 3\n[executors.default]\nmax_workers = 2\n'
    )
    assert run(folder, "--config", "settings", "workflow.py", "ask").stdout == "7\n"
    assert run(folder, "workflow.py", "ask", REDUN_CONFIG="settings").stdout == "7\n"
    assert (config / "other.db").exists()
    assert not (folder / ".redun").exists()


def test_help_of_file_and_task(folder: Path) -> None:
    """A link to the file is as good as the file."""
    (folder / "link.py").symlink_to("workflow.py")
    assert run(folder, "link.py", "help").stdout.split() == [
        f"runs.{name}" for name in ("ask", "block", "fail", "inner", "nothing", "show", "sleep", "tagged")
    ]
    text = run(folder, "workflow.py", "show", "--help").stdout
    assert "Show all arguments." in text
    assert "--file-name" in text
    assert not (folder / ".redun").exists()


def test_failure_of_the_workflow(folder: Path) -> None:
    """Exit code 1; the error in one line, then the way to it through the tasks."""
    done = run_aredun("run", "workflow.py", "fail", "--x", "7", cwd=folder)
    assert done.returncode == 1
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    first = next(line for line in lines if line.startswith("aredun: "))
    assert first.endswith("failed: ValueError: bad 7")
    assert "in runs.fail" in done.stderr
    assert "y = 7" in done.stderr
    assert "aredun/workflow" not in done.stderr
    assert query(folder, "SELECT count(*) FROM job WHERE end_time IS NULL") == [(0,)]


def wait_for(folder: Path, statement: str) -> None:
    """Wait until a query of the repository finds something."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            if query(folder, statement):
                return
        except sqlite3.OperationalError:
            pass
        time.sleep(0.1)
    pytest.fail(f"nothing found by {statement}")


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    """Start `aredun run`, to be stopped by a signal."""
    return subprocess.Popen(
        [str(BIN / "aredun"), "run", *arguments],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell that runs the tests in the background hands on that SIGINT is ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


@pytest.mark.parametrize("name", ["sleep", "block"])
@pytest.mark.parametrize(
    ("number", "code", "message"),
    [(signal.SIGINT, 130, "aredun: interrupted"), (signal.SIGTERM, 143, "aredun: terminated")],
)
def test_signals_leave_a_consistent_repository(
    folder: Path, name: str, number: signal.Signals, code: int, message: str
) -> None:
    """The job is recorded as failed; a function in a thread cannot be interrupted, and is not waited for."""
    process = start(folder, "workflow.py", name, "--seconds", "3600")
    wait_for(folder, "SELECT id FROM job")
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == code
    assert errors.splitlines()[-1] == message
    assert "Traceback" not in errors
    assert query(folder, "SELECT count(*) FROM job WHERE end_time IS NULL") == [(0,)]
    [(result_type,)] = query(
        folder,
        "SELECT type FROM value JOIN call_node USING (value_hash) JOIN job USING (call_hash)",
    )
    assert result_type == "redun.ErrorValue"


def test_ctrl_c_while_the_workflow_loads(folder: Path) -> None:
    (folder / "slow.py").write_text("import time\nprint('loading', flush=True)\ntime.sleep(3600)\n")
    process = start(folder, "slow.py", "main")
    assert process.stdout is not None
    assert process.stdout.readline() == "loading\n"
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (130, "aredun: interrupted\n")


def test_killed_run_does_not_stand_in_the_way(folder: Path) -> None:
    """After a kill the next run starts, on a repository that is whole."""
    process = subprocess.Popen(
        [str(BIN / "aredun"), "run", "workflow.py", "sleep", "--seconds", "3600"],
        cwd=folder,
        stderr=subprocess.DEVNULL,
    )
    wait_for(folder, "SELECT id FROM job")
    process.kill()
    process.wait(timeout=60)
    assert query(folder, "PRAGMA integrity_check") == [("ok",)]
    assert query(folder, "PRAGMA foreign_key_check") == []
    run(folder, "workflow.py", "sleep", "--seconds", "0.01")


def test_live_progress_on_a_terminal(folder: Path) -> None:
    """On a terminal the progress is a table that is drawn over itself."""
    primary, secondary = pty.openpty()
    process = subprocess.Popen(
        [str(BIN / "aredun"), "run", "workflow.py", "sleep", "--seconds", "0.5"],
        cwd=folder,
        stdin=secondary,
        stdout=secondary,
        stderr=secondary,
        env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "100"},
    )
    os.close(secondary)
    shown = b""
    while True:
        try:
            chunk = os.read(primary, 4096)
        except OSError:
            break
        if not chunk:
            break
        shown += chunk
    os.close(primary)
    assert process.wait(timeout=60) == 0
    text = shown.decode()
    assert "runs.sleep" in text
    assert "running" in text
    assert "\x1b[" in text
