"""What a person sees on a terminal: the final screen of a real pty."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.support.terminal import run_in_terminal

DEMO = Path(__file__).parents[2] / "examples" / "variants"
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


FAILING = """
from aredun import task

redun_namespace = "screen"

@task()
def fail():
    raise ValueError("no such sample")
"""
MANY = "from aredun import task\n\nredun_namespace = 'many'\n" + "".join(
    f"\n@task()\ndef step_{number:02}():\n    return {number}\n" for number in range(40)
)
MANY += f"\n@task()\ndef main():\n    return [{', '.join(f'step_{number:02}()' for number in range(40))}]\n"
TABLE_HEAD = ["task", "pending", "running", "failed", "cached", "done", "total"]


def test_a_failed_run_tells_on_the_screen_what_failed(tmp_path: Path) -> None:
    (tmp_path / "workflow.py").write_text(FAILING)
    code, screen = run_in_terminal("run", "workflow.py", "fail", cwd=tmp_path, columns=120, lines=50)
    assert code == 1, screen
    [failed] = [index for index, line in enumerate(screen) if "failed: ValueError: no such sample" in line]
    [table] = [index for index, line in enumerate(screen) if line.split() == TABLE_HEAD]
    assert failed < table == len(screen) - 2
    assert screen[-1].split() == ["screen.fail", "1", "1"]


def test_a_table_taller_than_the_screen_ends_whole(tmp_path: Path) -> None:
    """What scrolled away is not seen here, but nothing is twice and nothing is half."""
    (tmp_path / "workflow.py").write_text(MANY)
    code, screen = run_in_terminal("run", "workflow.py", "main", cwd=tmp_path, lines=24, scrollback=True)
    assert code == 0, screen
    tables = [index for index, line in enumerate(screen) if line.split() == TABLE_HEAD]
    names = [line.split()[0] for line in screen[tables[-1] + 1 :] if line.startswith("many.")]
    assert sorted(names) == sorted(["many.main", *(f"many.step_{number:02}" for number in range(40))])
    assert screen[-1].endswith("39]")


@pytest.mark.parametrize("environment", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_terminals_that_want_no_colours_get_none(folder: Path, environment: dict[str, Any]) -> None:
    code, screen = run_in_terminal("run", "workflow.py", "count", cwd=folder, **environment)
    assert code == 0, screen
    assert screen[-1] == "{'words': 2}"
    assert "printed by the task" in screen
    [table] = [index for index, line in enumerate(screen) if line.split() == TABLE_HEAD]
    assert screen[table + 1].split() == ["words.count", "1", "1"]


def test_progress_of_records_leaves_the_screen_to_the_result(folder: Path) -> None:
    """The lines of progress are gone at the end, whatever they showed."""
    code, _ = run_in_terminal("run", "workflow.py", "count", cwd=folder)
    assert code == 0
    for command, last in (
        (["export", "--file", "out.json"], None),
        (["import", "--db", "sqlite:///other.db", "--file", "out.json"], "imported "),
        (["sync", "default", "third.db"], "copied "),
        (["verify"], "checked "),
    ):
        code, screen = run_in_terminal(*command, cwd=folder, columns=200)
        assert code == 0, screen
        assert [line.startswith(last) for line in screen] == [True] if last else screen == [], screen


STOPPED = """
import asyncio, time
from aredun import task

redun_namespace = "stop"

@task()
def quick(number: int):
    return number

@task()
async def wait():
    print("waiting")
    await asyncio.sleep(3600)

@task()
def block():
    print("blocking")
    time.sleep(3600)

@task()
def many():
    return [quick(1), wait(), block(), quick(2)]

@task()
async def tidy():
    try:
        await wait()
    except asyncio.CancelledError:
        print("tidying up")
        await asyncio.sleep(3600)
"""
CTRL_C = b"\x03"


@pytest.mark.parametrize(
    ("name", "typed"),
    [
        ("many", [("blocking", CTRL_C)]),
        ("many", [("waiting", CTRL_C * 2), ("waiting", CTRL_C)]),
        ("tidy", [("waiting", CTRL_C), ("tidying up", CTRL_C)]),
    ],
    ids=["once", "impatient", "twice"],
)
def test_ctrl_c_ends_a_run_cleanly(tmp_path: Path, name: str, typed: list[tuple[str, bytes]]) -> None:
    """Each press cancels what is waited for; no press breaks into what is being recorded."""
    (tmp_path / "workflow.py").write_text(STOPPED)
    code, screen = run_in_terminal("run", "workflow.py", name, cwd=tmp_path, scrollback=True, typed=typed)
    assert code == 130, screen
    [table] = [index for index, line in enumerate(screen) if line.split() == TABLE_HEAD]
    assert screen[-1] == "aredun: interrupted"
    printed, rows = screen[:table], screen[table + 1 : -1]
    assert set(printed) <= {"waiting", "blocking", "tidying up"}
    assert rows
    assert all(row.startswith("stop.") for row in rows)
    with closing(sqlite3.connect(tmp_path / ".redun" / "redun.db")) as connection:
        [(jobs, ended)] = connection.execute("SELECT count(*), count(end_time) FROM job")
        roots = "SELECT value.type FROM job JOIN call_node USING (call_hash) JOIN value USING (value_hash)"
        root = connection.execute(f"{roots} WHERE job.parent_id IS NULL").fetchall()
    assert jobs == ended > 0
    # So its execution is shown as failed.
    assert root == [("redun.ErrorValue",)]


def test_the_demo_on_a_terminal(tmp_path: Path) -> None:
    demo = tmp_path / "variants"
    shutil.copytree(DEMO, demo, ignore=shutil.ignore_patterns("run", "__pycache__"))
    code, screen = run_in_terminal(cwd=demo, program=demo / "demo.py", lines=24, scrollback=True)
    assert code == 0, screen
    tables = [index for index, line in enumerate(screen) if line.split() == TABLE_HEAD]
    assert len(tables) == 3, screen
    for index in tables:
        rows = [line.split() for line in screen[index + 1 : index + 6]]
        assert [row[-1] for row in rows] == ["1", "1", "1", "4", "4"], screen
        assert all(row[0].startswith("variants.") for row in rows)
        assert screen[index + 6].startswith("[File(path=sample1.vcf, hash=")
        assert screen[index + 9].startswith(" File(path=sample4.vcf, hash=")
    assert "ref_genome_3 <-- origin" in screen
    assert screen[-1] == "then open http://127.0.0.1:8080"
