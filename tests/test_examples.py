"""The examples run, and print what they promise."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.commands import run_aredun
from tests.support.snippets import find_blocks

EXAMPLES = Path(__file__).parent.parent / "examples"


def read_readme(kind: str) -> str:
    """Return the README's only block of a kind: its example is the Python, what that prints the text."""
    (block,) = [block for block in find_blocks("README.md") if block.kind == kind]
    return block.text


OUTPUT = {
    "first_steps.py": [
        "{'Emma': 4, 'Moby Dick': 5}",
        "{'Emma': 4, 'Moby Dick': 5}",
        "first_steps.count_all {'cached': 1, 'done': 1}",
        "first_steps.count_words {'done': 2}",
        "first_steps.fetch {'done': 2}",
        "first_steps.main {'cached': 1, 'done': 1}",
    ],
    "readme.py": [*read_readme("text").splitlines(), ""],
    "errors_and_limits.py": ["1: 10", "2: 20", "3: nobody knows", "4: 40", "5: 50"],
}


def test_the_readme_shows_its_example() -> None:
    assert read_readme("python") == (EXAMPLES / "readme.py").read_text()


def test_every_example_is_tested() -> None:
    # The service has a test of its own, test_example_service.py.
    assert {path.name for path in EXAMPLES.glob("*.py")} == {*OUTPUT, "service.py"}


@pytest.mark.parametrize("name", OUTPUT)
def test_example(name: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.stderr == ""
    assert done.stdout.splitlines() == OUTPUT[name]


def test_example_through_the_command(tmp_path: Path) -> None:
    done = run_aredun("run", str(EXAMPLES / "first_steps.py"), "main", "--titles", "a", "b c", cwd=tmp_path)
    assert done.stdout == "{'a': 4, 'b c': 5}\n"
