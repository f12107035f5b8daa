"""The same workflow leaves the same rows, whichever engine ran it."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

import pytest

from tests.support.commands import run_command

if TYPE_CHECKING:
    from pathlib import Path

IMPORTS = {
    "aredun": "from aredun import task\nfrom aredun.workflow.operators import *",
    "redun": "from redun import apply_tags, cond, get_context, task\nfrom redun.functools import seq",
}

WORKFLOW = """
from collections import namedtuple
from dataclasses import dataclass

redun_namespace = "rows"
Point = namedtuple("Point", ["x", "y"])


@dataclass
class Box:
    width: int
    label: str = "box"


@task()
def inc(x: int, *, by: int = 1) -> int:
    return x + by


@task(tags=[("kind", "sum")])
def total(*values, **named) -> int:
    return sum(values) + sum(named.values())


@task(check_valid="shallow", version="4")
def shallow(x):
    return [inc(x), inc(inc(x), by=2)]


@task()
def point(x, y=inc(40)):
    return Point(inc(x), y=inc(y))


@task()
def box(width):
    return {"box": Box(inc(width)), "again": [inc(width), inc(width)]}


@task()
def lookup():
    return get_context("a.b", 0)


@task(prov=False)
def hidden(x):
    return inc(x)


@task()
def main(n: int = 2):
    here = point(n)
    boxed = box(here.x)
    deep = shallow(boxed["again"][0] * 2)
    return [
        total(here.x, inc(here.y), deep=deep[0] + deep[1]),
        boxed,
        cond(inc(n) == 3, "yes", inc(100)),
        seq([inc(7), inc(8)]),
        apply_tags(inc(9), [("color", "red")], job_tags=[("job", 1)], execution_tags=[("exec", [1])]),
        lookup.update_context(a={"b": 5})(),
        hidden(1),
        inc.options(limits=["db"])(60),
        {inc(70): (inc(71), None)},
    ]
"""

TABLES = {
    "value": "value_hash, type, format, value",
    "subvalue": "value_hash, parent_value_hash",
    "task": "hash, name, namespace, source",
    "call_node": "call_hash, task_name, task_hash, args_hash, value_hash",
    "argument": "arg_hash, call_hash, value_hash, arg_position, arg_key",
    "argument_result": "arg_hash, result_call_hash",
    "call_edge": "parent_id, child_id, call_order",
    "call_subtree_task": "call_hash, task_hash",
    "evaluation": "eval_hash, task_hash, args_hash, value_hash",
}
JOBS = "SELECT task_hash, cached, call_hash, parent_id IS NULL, end_time IS NULL FROM job"
TAGS = (
    "SELECT entity_type, key, value, is_current FROM tag "
    "WHERE key NOT IN ('redun.version', 'user', 'user_aws', 'user_aws_arn', 'user_gcp')"
)


def get_rows(path: Path, statement: str) -> list[tuple[object, ...]]:
    """Read rows in an order that does not depend on who wrote them."""
    connection = sqlite3.connect(path)
    try:
        return sorted(connection.execute(statement).fetchall(), key=repr)
    finally:
        connection.close()


@pytest.fixture(scope="module")
def repositories(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The database files that two runs of each engine leave."""
    paths = {}
    for engine, imports in IMPORTS.items():
        folder = tmp_path_factory.mktemp(engine)
        (folder / "rows.py").write_text(imports + "\n" + WORKFLOW)
        for n in ("2", "2"):
            done = run_command(engine, "run", "rows.py", "main", "--n", n, cwd=folder)
            assert done.returncode == 0, done.stdout + done.stderr
        paths[engine] = folder / ".redun" / "redun.db"
    return paths


@pytest.mark.parametrize("table", TABLES)
def test_same_rows(repositories: dict[str, Path], table: str) -> None:
    statement = f"SELECT {TABLES[table]} FROM {table}"
    own, original = (get_rows(repositories[engine], statement) for engine in ("aredun", "redun"))
    assert own == original
    assert own


@pytest.mark.parametrize("statement", [JOBS, TAGS], ids=["jobs", "tags"])
def test_same_jobs_and_tags(repositories: dict[str, Path], statement: str) -> None:
    own, original = (get_rows(repositories[engine], statement) for engine in ("aredun", "redun"))
    assert own == original
    assert own
