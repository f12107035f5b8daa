"""`aredun run --dryrun`, `--rerun`, `--input` and `--pdb`: what a person types, sees and finds recorded."""

from __future__ import annotations

import pickle
import sqlite3
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.support.commands import BIN, run_aredun

if TYPE_CHECKING:
    from pathlib import Path

WORKFLOW = """
from aredun import task

redun_namespace = "shop"


@task
def price(item: str, tax: int = 1) -> int:
    if item == "gold":
        worth = {"dear": 3}  # noqa: F841
        raise ValueError("too dear")
    return len(item) + tax


@task
async def total(a: str, b: str = "milk", *, c: int = 0) -> int:
    return await price(a) + await price(b, c)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A working folder with a workflow."""
    (tmp_path / "workflow.py").write_text(WORKFLOW)
    return tmp_path


def count_executions(folder: Path) -> int:
    """Return how many executions the repository of the folder has."""
    connection = sqlite3.connect(folder / ".redun" / "redun.db")
    try:
        [(count,)] = connection.execute("select count(*) from execution").fetchall()
        return int(count)
    finally:
        connection.close()


def test_dry_run_in_a_new_folder_creates_nothing(folder: Path) -> None:
    done = run_aredun("run", "workflow.py", "price", "--item", "tea", "--dryrun", cwd=folder)
    assert (done.returncode, done.stdout, done.stderr) == (1, "would run shop.price(item='tea', tax=1)\n", "")
    assert not (folder / ".redun").exists()


def test_dry_run_of_what_is_cached_gives_the_result(folder: Path) -> None:
    run_aredun("run", "workflow.py", "total", "--a", "tea", cwd=folder)
    done = run_aredun("run", "--dryrun", "workflow.py", "total", "--a", "tea", cwd=folder)
    assert (done.returncode, done.stdout, done.stderr) == (0, "8\n", "")
    assert count_executions(folder) == 1


def test_rerun_takes_the_arguments_of_a_job(folder: Path) -> None:
    run_aredun("run", "workflow.py", "total", "--a", "coffee", "--c", "5", cwd=folder)
    done = run_aredun("run", "workflow.py", "-", "--rerun", "--b", "", cwd=folder)
    assert (done.returncode, done.stdout) == (0, "12\n")
    assert "CACHED" in done.stderr


def test_rerun_of_a_job_that_failed_in_the_debugger(folder: Path) -> None:
    run_aredun("run", "workflow.py", "total", "--a", "gold", cwd=folder)
    done = subprocess.run(
        [BIN / "aredun", "run", "--rerun", "workflow.py", "-", "--pdb"],
        input="p worth\nup\nq\n",
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 1
    assert '-> raise ValueError("too dear")' in done.stdout
    assert "{'dear': 3}" in done.stdout
    assert "ValueError: too dear" in done.stderr
    done = run_aredun("run", "workflow.py", "shop.price", "--rerun", cwd=folder)
    assert done.returncode == 2
    assert done.stderr == "aredun: shop.price is no job and no execution: give the id of one after --rerun\n"


def test_input_file_and_arguments(folder: Path) -> None:
    (folder / "input.pickle").write_bytes(pickle.dumps((("coffee",), {"tax": 5})))
    done = run_aredun("run", "workflow.py", "price", "--input", "input.pickle", "--item", "tea", cwd=folder)
    assert (done.returncode, done.stdout) == (0, "8\n")
    done = run_aredun("run", "-i", "workflow.py", "workflow.py", "price", cwd=folder)
    assert done.returncode == 2
    assert done.stderr.startswith("aredun: --input workflow.py is no pickle of (args, kwargs): ")
    assert done.stderr.count("\n") == 1
