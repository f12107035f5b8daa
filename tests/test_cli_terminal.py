"""What a person sees on a terminal: the final screen of a real pty."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.terminal import run_in_terminal

if TYPE_CHECKING:
    from pathlib import Path

WORKFLOW = """
from aredun import task

redun_namespace = "words"

@task()
def count(text: str = "a b"):
    print("printed by the task")
    return {"words": len(text.split())}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "workflow.py").write_text(WORKFLOW)
    return tmp_path


@pytest.mark.parametrize("columns", [80, 40])
def test_result_of_a_run_stays_on_the_screen(folder: Path, columns: int) -> None:
    code, screen = run_in_terminal("run", "workflow.py", "count", cwd=folder, columns=columns)
    assert code == 0, screen
    assert screen[-1] == "{'words': 2}"
    table = next(index for index, line in enumerate(screen) if line.startswith("task "))
    assert "printed by the task" in screen[:table]


def test_redirected_stdout_takes_what_a_task_prints(folder: Path) -> None:
    output = folder / "out.txt"
    code, screen = run_in_terminal("run", "workflow.py", "count", cwd=folder, stdout=output)
    assert code == 0, screen
    assert output.read_text() == "printed by the task\n{'words': 2}\n"
    assert "printed by the task" not in screen
