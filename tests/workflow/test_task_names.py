"""Two files cannot have a task of the same full name: a call of one would run the other."""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING

import pytest

from aredun import UsageError
from tests.support.commands import run_aredun

if TYPE_CHECKING:
    from pathlib import Path

TASK = "from aredun import task\n\n\n@task()\ndef same_name():\n    return {result!r}\n"
FACTORY = (
    "from aredun import task\n\n\ndef make():\n    @task()\n    def same_local_name():\n"
    "        return {result!r}\n    return same_local_name\n"
)
MAIN = """
from aredun import task
import names_a, names_b

redun_namespace = "names"

@task()
def main():
    return [names_a.same_name(), names_b.same_name()]
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("a", "b"):
        (tmp_path / f"names_{name}.py").write_text(TASK.format(result=name))
        (tmp_path / f"factory_{name}.py").write_text(FACTORY.format(result=name))
        for module in ("names", "factory"):
            monkeypatch.delitem(sys.modules, f"{module}_{name}", raising=False)
    return tmp_path


def test_a_run_is_refused_with_both_files_named(folder: Path) -> None:
    (folder / "main.py").write_text(MAIN)
    done = run_aredun("run", "main.py", "main", cwd=folder)
    assert done.returncode == 2
    assert str(folder / "names_a.py") in done.stderr
    assert str(folder / "names_b.py") in done.stderr
    assert "redun_namespace" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_file_may_be_loaded_again(folder: Path) -> None:
    first = importlib.import_module("names_a")
    (folder / "names_a.py").write_text(TASK.format(result="other"))
    importlib.reload(first)
    first.same_name()
    with pytest.raises(UsageError, match=r"names_a\.py and in .*names_b\.py"):
        importlib.import_module("names_b")
    # A module that is no longer imported holds no name.
    del sys.modules["names_a"]
    importlib.import_module("names_b").same_name()


def test_calls_of_local_tasks_are_refused_where_another_would_run(folder: Path) -> None:
    first = importlib.import_module("factory_a").make()
    first()
    second = importlib.import_module("factory_b").make()
    second.options(cache=False)()
    with pytest.raises(UsageError, match=r"factory_a\.py|factory_b\.py"):
        first()
