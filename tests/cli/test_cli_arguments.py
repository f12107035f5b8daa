"""Arguments of tasks, by all kinds of types and names, and the files that define the tasks."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from aredun.cli import main

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Run = Callable[..., str]

WORKFLOW = """
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime
from typing import Literal, NewType, Optional

from aredun import task

redun_namespace = "typed"
Count = NewType("Count", int)

@task()
def helped(help: int = 1): return help

@task()
def cased(n: int, N: int): return n, N

@task()
def sets(x: set[int], y: frozenset[str] = frozenset()): return sorted(x), sorted(y)

@task()
def pair(x: tuple[int, str]): return x

@task()
def many(x: tuple[int, ...], y: Sequence[int] = (), z: Iterable[str] = ()): return x, y, z

@task()
def literal(x: Literal["a", 3]): return x

@task()
def mapping(x: dict[str, int], y: Mapping = {}): return x, y

@task()
def dates(x: date, y: datetime): return x.isoformat(), y.isoformat()

@task()
def named(a: int, **more: int): return a, more

@task()
def mixed(a: int, /, b: int = 2, *c: int, d: int = 4): return a, b, c, d

@task()
def maybe(x: Optional[int] = 3, y: int | str = 0): return [x, y]

@task()
def flags(flag: bool = True, cache: bool = True): return flag, cache

@task()
def new(x: Count, y: bytes = b"", z: object = None): return x, y, z
"""


@pytest.fixture(scope="module")
def workflow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("typed") / "typed_workflow.py"
    path.write_text(WORKFLOW)
    return path


@pytest.fixture
def run(
    workflow: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    """Run a task in this process; return what a person sees: the result, or the only line of an error."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("REDUN_CONFIG", raising=False)
    # The command looks for modules in the folder of a workflow, which is full of odd names here.
    monkeypatch.setattr(sys, "path", [*sys.path])

    def run_task(*arguments: str, code: int = 0, script: Path = workflow) -> str:
        assert main(["run", "--db", "sqlite:///typed.db", str(script), *arguments]) == code
        output, errors = capsys.readouterr()
        if code == 0:
            return output.strip()
        [line] = errors.splitlines()
        assert not (tmp_path / "typed.db").exists()
        return line

    return run_task


@pytest.mark.parametrize(
    ("command", "result"),
    [
        ("helped --help 3", "3"),
        ("cased --n 1 --N 2", "(1, 2)"),
        ("sets --x 2 1 1 --y b a", "([1, 2], ['a', 'b'])"),
        ("pair --x 1 2", "(1, '2')"),
        ("many --x 1 2 --y 3 4 --z 5", "((1, 2), [3, 4], ['5'])"),
        ("literal --x 3", "3"),
        ("literal --x a", "'a'"),
        ("mapping --x a=1 b=2 --y c=3", "({'a': 1, 'b': 2}, {'c': '3'})"),
        ('mapping --x {"a":1,"b":"2"}', "({'a': 1, 'b': 2}, {})"),
        ("dates --x 2024-01-02 --y 2024-01-02T03:04", "('2024-01-02', '2024-01-02T03:04:00')"),
        ("named --a 1 --b-c 3 --d=4", "(1, {'b_c': 3, 'd': 4})"),
        ("named --a 1", "(1, {})"),
        ("mixed --a 1 --c 5 6", "(1, 2, (5, 6), 4)"),
        ("mixed --a 1 --d 7", "(1, 2, (), 7)"),
        ("maybe --x None --y 5", "[None, 5]"),
        ("maybe --x 4 --y word", "[4, 'word']"),
        ("flags --no-flag", "(False, True)"),
        ("flags --flag --cache false", "(True, False)"),
        ("flags --flag false --no-cache", "(False, True)"),
        ("new --x 3 --y ab --z text", "(3, b'ab', 'text')"),
    ],
)
def test_values_of_all_types(run: Run, command: str, result: str) -> None:
    assert run(*command.split()) == result


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("cased --n 1", "task typed.cased needs --N"),
        ("sets --x a", "argument --x: 'a' is not a valid int"),
        ("pair --x 1", "argument --x: expected 2 values, one for each place of the tuple"),
        ("pair --x a b", "argument --x: invalid literal for int() with base 10: 'a'"),
        ("literal --x b", "'b' is not a valid Literal, choose from a, 3 (see"),
        ("mapping --x a", "'a' is not a valid dict (write KEY=VALUE, or a JSON object)"),
        ("mapping --x {1", "'{1' is not a valid dict (Expecting property name"),
        ("dates --x 20 --y 2024-01-02", "'20' is not a valid date (Invalid isoformat string: '20')"),
        ("named --a 1 --b x", "argument --b: 'x' is not a valid int"),
        ("named --a 1 word", "unrecognized arguments: word"),
        ("helped --no-help", "unrecognized arguments: --no-help"),
        ("maybe --x none", "argument --x: 'none' is not a valid int"),
        ("flags --flag maybe", "unknown bool 'maybe': use 'true' or 'false'"),
    ],
)
def test_what_does_not_fit_is_one_line(run: Run, command: str, message: str) -> None:
    assert message in run(*command.split(), code=2)


def test_help_of_a_task_whose_argument_is_called_help(run: Run) -> None:
    text = run("helped", "-h")
    assert "--help HELP" in text
    assert "-h " in text


@pytest.mark.parametrize("name", ["rich", "json", "time", "my.flow", "typed_workflow"])
def test_a_file_is_run_whatever_its_name_is(run: Run, tmp_path: Path, name: str) -> None:
    namespace = f"as_{name.replace('.', '_')}"
    script = tmp_path / f"{name}.py"
    script.write_text(
        f"from aredun import task\nredun_namespace = {namespace!r}\n@task()\ndef mine(): return {name!r}\n"
    )
    assert run("mine", script=script) == repr(name)


@pytest.mark.parametrize("ending", [".json", ".ini"])
def test_byte_order_marks_are_skipped(run: Run, tmp_path: Path, ending: str) -> None:
    """Editors of Windows put one at the beginning of a text file."""
    name = f"marked_{ending[1:]}"
    script = tmp_path / f"{name}.py"
    script.write_text(
        "from aredun import task\nfrom aredun.workflow.operators import get_context\n"
        f"redun_namespace = {name!r}\n@task()\ndef ask(): return get_context('a')\n",
        encoding="utf-8-sig",
    )
    if ending == ".json":
        (tmp_path / "context.json").write_text('{"a": 5}', encoding="utf-8-sig")
        assert run("ask", "--context-file", "context.json", script=script) == "5"
    else:
        (tmp_path / ".redun").mkdir()
        ini = '[scheduler]\ncontext = {"a": 5}\n'
        (tmp_path / ".redun" / "redun.ini").write_text(ini, encoding="utf-8-sig")
        assert run("ask", script=script) == "5"


def test_missing_files_are_named(run: Run) -> None:
    line = run("helped", "--context-file", "no.json", code=2)
    assert line == "aredun: no.json: No such file or directory"
