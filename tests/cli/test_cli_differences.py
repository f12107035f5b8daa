"""`aredun why` and `aredun diff` tell in words what made calls run again."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from aredun.cli import main
from tests.support.commands import run_command

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Tell = Callable[..., str]

WORKFLOW = """
from aredun import File, task

redun_namespace = "reasons"


@task(version="1")
def read(path: File, n: int = 1):
    return len(path.read()) * n


@task()
def double(x):
    return x * 2


@task()
def main(n: int, by_name: bool = False):
    if n == 0:
        raise ValueError("nothing")
    file = File("a.txt")
    return double(read(file, n=n) if by_name else read(file, n))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository in which a workflow ran again and again, each time with something else."""
    folder = tmp_path_factory.mktemp("reasons")
    workflow, data = folder / "reasons.py", folder / "a.txt"

    def run(*options: str, code: int = 0) -> None:
        answer = run_command("aredun", "run", "-q", "reasons.py", "main", *options, cwd=folder)
        assert answer.returncode == code, answer.stderr

    workflow.write_text(WORKFLOW)
    data.write_text("one")
    run("--n", "1")
    data.write_text("one and two")
    run("--n", "1")
    workflow.write_text(WORKFLOW.replace('"1"', '"2"').replace("x * 2", "x + x"))
    run("--n", "1")
    run("--n", "1", "--by-name")
    run("--n", "1", "--by-name", "--no-cache")
    run("--n", "0", code=1)
    run("--n", "0", code=1)
    run("--n", "1")
    return folder


@pytest.fixture
def tell(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Tell:
    """Run a command in the folder and return its answer, ids written as ID."""
    monkeypatch.chdir(folder)
    monkeypatch.delenv("REDUN_CONFIG", raising=False)

    def tell(*arguments: str) -> str:
        assert main(arguments) == 0
        output, errors = capsys.readouterr()
        assert errors == ""
        return re.sub(r"\b[0-9a-f]{8}\b", "ID", output)

    return tell


def find_job(tell: Tell, execution: str, name: str, capsys: pytest.CaptureFixture[str]) -> str:
    """Return the id of an execution's job of a task."""
    options = ("--job", "--exec-id", execution, "--task-name", f"reasons.{name}", "--select", "id")
    assert main(["query", *options]) == 0
    return capsys.readouterr().out.split()[0]


CASES = [
    ("~8", "read", ["It ran for the first time: no execution before has called its task."]),
    (
        "~7",
        "read",
        [
            "- argument path changed: File(path=a.txt, hash=ID) -> File(path=a.txt, hash=ID)",
            "- file a.txt has changed",
        ],
    ),
    (
        "~7",
        "double",
        ["- argument x changed: 3 -> 11", "it is the result of reasons.read: 'aredun why ID' tells why"],
    ),
    ("~7", "main", ["- calls that it made ran again:", "reasons.read: 'aredun why ID' tells why"]),
    ("~6", "read", ["- the version of the task changed: 1 -> 2"]),
    ("~6", "double", ["- the source of the task changed:", "-    return x * 2", "+    return x + x"]),
    ("~5", "read", ["- argument n is given by position in one call, by keyword in the other"]),
    ("~5", "main", ["- argument by_name changed: False -> True"]),
    ("~4", "read", ["- the same arguments, source and version", "- it was run with --no-cache"]),
    ("~2", "main", ["- the earlier call failed, and failures are not taken from the cache"]),
    ("~1", "read", ["It did not run: its result was taken from the cache."]),
]


@pytest.mark.parametrize(("execution", "name", "expected"), CASES)
def test_why_a_job_ran(
    tell: Tell, capsys: pytest.CaptureFixture[str], execution: str, name: str, expected: list[str]
) -> None:
    answer = tell("why", find_job(tell, execution, name, capsys))
    assert answer.startswith(f"Job ID reasons.{name}\n")
    for line in expected:
        assert f" {line}" in answer


def test_beside_others_of_a_first_run_nothing_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The call that it is most like is told, and in what they differ: that made nothing run again."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("REDUN_CONFIG", raising=False)
    source = WORKFLOW.replace("    file = File", "    return [double(n), double(n + 1)]\n    file = File")
    (tmp_path / "first.py").write_text(source)
    assert main(("run", "-q", "first.py", "main", "--n", "3")) == 0
    assert main(("query", "--job", "--task-name", "reasons.double", "--select", "id")) == 0
    answers = []
    for job_id in capsys.readouterr().out.split()[-2:]:
        assert main(("why", job_id)) == 0
        answers.append(capsys.readouterr().out)
    assert all("It ran for the first time: no execution before" in answer for answer in answers)
    assert not any("changed" in answer for answer in answers)
    [compared] = [answer for answer in answers if "Compared with" in answer]
    assert "of this execution, " in compared
    assert "    - argument x differs: 3 -> 4" in compared


def test_how_two_executions_differ(tell: Tell) -> None:
    answer = tell("diff", "~8", "~7")
    assert answer.splitlines()[:2] == ["Exec ID -> ID", "  reasons.main: 1 changed"]
    assert "    Job ID -> Job ID\n      - argument x changed: 3 -> 11\n" in answer
    assert "- file a.txt has changed: ID -> ID" in answer
    assert tell("diff", "~4", "~5").count("1 the same") == 3
    assert "reasons.read: 1 only before" in tell("diff", "~1", "~2")


def test_an_execution_is_no_job(tell: Tell, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (("why", "zzz"), ("diff", "-", "zzz"), ("diff", "-", "~99")):
        tell("log", "--count")
        assert main(arguments) == 2
        output, errors = capsys.readouterr()
        assert (output, len(errors.splitlines())) == ("", 1)
