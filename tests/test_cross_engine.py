"""The cache crosses engines: what `redun run` recorded is cached for aredun's scheduler, and vice versa."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa

from aredun.models import CallNode, Execution, Job
from tests.support.commands import run_aredun, run_redun
from tests.support.databases import redun_uri

if TYPE_CHECKING:
    from pathlib import Path

    from aredun import RedunBackendDb

IMPORTS = {
    "aredun": "from aredun import File, task\nfrom aredun.workflow.operators import catch, cond, seq",
    "redun": "from redun import File, catch, cond, task\nfrom redun.functools import seq",
}

# The import is all that differs between the two files.
WORKFLOW = '''
redun_namespace = "cross"


@task()
def make_file(path: str, text: str) -> File:
    """Write a file."""
    file = File(path)
    file.write(text)
    return file


@task()
def count(file: File) -> int:
    return len(file.read())


@task()
def add(a: int, b: int = 10, *, c: int = 0) -> int:
    return a + b + c


@task(version="2")
def spread(n: int) -> list[int]:
    return [add(i, b=i) for i in range(n)]


@task()
def total(values, names, *rest, **more):
    return sum(values) + sum(rest) + sum(more.values())


@task()
def record(x) -> dict:
    return {"a": add(x), "b": [add(x, c=2), (add(x, 1), None)], add(0, 0): File("never.txt")}


@task(check_valid="shallow")
def deep(x):
    return record(add(x))


@task(nout=2)
def two():
    return [1, 2]


@task()
def apply(function, value):
    return function(value)


@task()
def fail(message):
    raise ValueError(message)


@task()
def recover(error):
    return str(error)


@task()
def main(folder: str, n: int = 3):
    file = make_file(folder + "/a.txt", text="hello")
    numbers = spread(n)
    recorded = record(numbers[0])
    first, second = two()
    return {
        "total": total(numbers, {"x": recorded["a"]}, add(5), other=add(6)),
        "count": count(file) + 1,
        "again": [count(file), count(file=file)],
        "deep": deep(second)["b"][1][0],
        "options": add.options(limits=["db"])(1, first),
        "context": add.update_context(color="red")(7),
        "apply": apply(add, 3),
        "caught": catch(fail("expected"), ValueError, recover),
        "cond": cond(first == 1, add(20), add(30)),
        "seq": seq([add(41), add(42)]),
        "file": file,
    }
'''

RESULT = {
    "total": 0 + 2 + 4 + 15 + 16,
    "count": 6,
    "again": [5, 5],
    "deep": 13,
    "options": 2,
    "context": 17,
    "apply": 13,
    "caught": "expected",
    "cond": 30,
    "seq": [51, 52],
}


@pytest.fixture
def folder(tmp_path: Path, database_url: str) -> Path:
    """A folder with the workflow for both engines and a configuration that names one database."""
    for engine, imports in IMPORTS.items():
        (tmp_path / engine).mkdir()
        (tmp_path / engine / "workflow.py").write_text(imports + "\n" + WORKFLOW)
    (tmp_path / ".redun").mkdir()
    (tmp_path / ".redun" / "redun.ini").write_text(f"[backend]\ndb_uri = {redun_uri(database_url)}\n")
    return tmp_path


def run_engine(engine: str, folder: Path) -> dict[str, object]:
    """Run the workflow with one engine; returns its result, which both print in the same way."""
    arguments = ("run", f"{engine}/workflow.py", "main", "--folder", str(folder))
    done = (run_aredun if engine == "aredun" else run_redun)(*arguments, cwd=folder)
    assert done.returncode == 0, done.stderr
    text = "".join(line for line in done.stdout.splitlines(keepends=True) if "File(" not in line)
    result: dict[str, object] = ast.literal_eval(text.rstrip().rstrip(",").rstrip("}") + "}")
    return result


async def get_jobs(backend: RedunBackendDb) -> list[set[tuple[str, bool, str | None]]]:
    """Return task, cached and call hash of the jobs of each execution, in the order of the executions."""
    statement = (
        sa.select(Job.execution_id, CallNode.task_name, Job.cached, Job.call_hash)
        .join(CallNode, CallNode.call_hash == Job.call_hash)
        .join(Execution, Execution.id == Job.execution_id)
        .order_by(Job.start_time)
    )
    jobs: dict[str, set[tuple[str, bool, str | None]]] = {}
    async with backend.session() as session:
        for execution_id, name, cached, call_hash in await session.execute(statement):
            jobs.setdefault(execution_id, set()).add((name, cached, call_hash))
    return list(jobs.values())


@pytest.mark.parametrize(("first", "second"), [("redun", "aredun"), ("aredun", "redun")])
async def test_cache_crosses_engines(backend: RedunBackendDb, folder: Path, first: str, second: str) -> None:
    """The second engine runs no function, and comes to the same calls as the first when that runs again.

    Then a task changes: it is a miss for the other engine, and so is what depends on it, and nothing else.
    """
    for engine in (first, second, first):
        assert run_engine(engine, folder) == RESULT
    path = folder / second / "workflow.py"
    path.write_text(path.read_text().replace("return a + b + c", "return a + b + c + 0"))
    assert run_engine(second, folder) == RESULT

    computed, replayed, replayed_again, changed = await get_jobs(backend)
    assert "cross.main" in {name for name, cached, _ in computed if not cached}
    assert {name for name, cached, _ in replayed if not cached} == set()
    # Each call is the same, down to the calls that it consists of.
    assert replayed == replayed_again
    misses = {name for name, cached, _ in changed if not cached}
    # What passes the task itself as a value has another argument now.
    assert (
        {"cross.add"} <= misses <= {"cross.add", "cross.apply", "cross.main", "cross.total", "cross.record"}
    )
