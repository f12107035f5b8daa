"""The examples run, and print what they promise."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.commands import run_aredun
from tests.support.snippets import find_blocks, fork, make_repository, run_snippet

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
    "ml_pipeline.py": [
        "degrees [1, 2, 3]: degree 3 is best; fits: 3 done",
        "degrees [1, 2, 3, 8]: degree 3 is best; fits: 3 cached, 1 done",
        "degree 3: 0.332",
        "degree 8: 0.335",
        "degree 2: 1.482",
        "degree 1: 1.484",
        "it came through ml.choose, ml.fit, ml.make_data, ml.score, ml.split",
    ],
    "on_dask.py": [
        "2262 primes below 20000: 4 new ranges",
        "2762 primes below 25000: 1 new ranges",
    ],
    "errors_and_limits.py": ["1: 10", "2: 20", "3: nobody knows", "4: 40", "5: 50"],
}


def test_the_readme_shows_its_example() -> None:
    assert read_readme("python") == (EXAMPLES / "readme.py").read_text()


def test_every_example_is_tested() -> None:
    # Below, in test_example_service.py and (the live one) in test_snippets_served.py; primes.py: on_dask.py.
    others = {"service.py", "live_service.py", "nightly_sync.py", "notebook.ipynb", "primes.py"}
    examples = {path.name for path in EXAMPLES.iterdir() if path.suffix in (".py", ".ipynb")}
    assert examples == {*OUTPUT, *others}
    told = re.findall(r"\]\(([\w/.]+)\)", (EXAMPLES / "README.md").read_text())
    assert {*told} == {*examples, "variants/README.md"}


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


def test_a_nightly_sync_tells_what_it_did(tmp_path: Path) -> None:
    make_repository(tmp_path)
    command = [str(EXAMPLES / "nightly_sync.py"), "sqlite:///team.db", "sqlite:///.redun/redun.db"]
    with fork(command, tmp_path) as process:
        done = process.wait()
    assert (done.code, done.stderr) == (0, "")
    first, last = done.stdout.splitlines()
    assert re.fullmatch(r"sqlite:///.redun/redun.db: (\d+) new records of \1, 0 refused", first)
    assert last.startswith("1 of 1 repositories in ")

    # One that is not there ends the night with an error, after the others.
    with fork([*command[:2], "sqlite:///nobody.db", command[2]], tmp_path) as process:
        done = process.wait()
    assert (done.code, done.stderr) == (1, "")
    missing, second, last = done.stdout.splitlines()
    assert missing.startswith("sqlite:///nobody.db: ")
    assert re.fullmatch(r"sqlite:///.redun/redun.db: 0 new records of \d+, 0 refused", second)
    assert last.startswith("1 of 2 repositories in ")
    assert not (tmp_path / "nobody.db").exists()


def test_the_notebook_writes_what_it_shows(tmp_path: Path) -> None:
    cells = json.loads((EXAMPLES / "notebook.ipynb").read_text())["cells"]
    codes = [cell for cell in cells if cell["cell_type"] == "code"]
    program = "\nprint('=====')\n".join("".join(cell["source"]) for cell in codes)
    done = run_snippet(program, "notebook.py", tmp_path)
    assert (done.code, done.stderr) == (0, "")
    shown = ["".join(line for output in cell["outputs"] for line in output["text"]) for cell in codes]
    assert done.stdout.split("=====\n") == shown
