"""What type checkers see of tasks, runs and queries: mypy and pyright, both strict, on small clients."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, get_type_hints

import pytest

from aredun import Call, Scheduler, task
from aredun.workflow.operators import cond

ROOT = Path(__file__).parent.parent.parent
CLIENTS = ROOT / "tests" / "typing_clients"

redun_namespace = "test_types"


@task
def price(item: str, *, discount: int = 0) -> int:
    return len(item) - discount


def find_marked(name: str, *marks: str) -> set[tuple[str, int]]:
    """Return the lines of a client that say that they are wrong."""
    lines = (CLIENTS / name).read_text().splitlines()
    return {(name, number) for number, line in enumerate(lines, 1) if line.endswith(marks)}


def run_checker(*command: str) -> subprocess.CompletedProcess[str]:
    """Run a type checker on all clients at once; one that is not there gives no output."""
    return subprocess.run(
        [sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, check=False
    )


def test_mypy_sees_what_comes_back() -> None:
    """All of it in one run, with the settings and the cache of `make check`."""
    clients = [str(path) for path in sorted(CLIENTS.glob("*.py"))]
    ran = run_checker("mypy", *clients)
    found = re.findall(r"(\w+\.py):(\d+): error", ran.stdout)
    assert len(clients) == 2
    assert {(name, int(line)) for name, line in found} == find_marked("wrong.py", "# wrong"), (
        ran.stdout + ran.stderr
    )


def test_pyright_sees_what_comes_back() -> None:
    """By basedpyright, which is pyright with its own node: the same faults, on the same lines."""
    ran = run_checker("basedpyright", "--outputjson", "--pythonpath", sys.executable)
    assert ran.stdout, ran.stderr
    report = json.loads(ran.stdout)
    found = {
        (Path(each["file"]).name, each["range"]["start"]["line"] + 1) for each in report["generalDiagnostics"]
    }
    assert report["summary"]["filesAnalyzed"] == 2
    assert found == find_marked("wrong.py", "# wrong", "# wrong for pyright"), ran.stdout


@pytest.mark.parametrize(
    ("args", "kwargs", "message"),
    [
        ((), {}, "missing a required argument: 'item'"),
        (("tea", 1), {}, "too many positional arguments"),
        (("tea",), {"currency": "EUR"}, "got an unexpected keyword argument 'currency'"),
    ],
)
def test_wrong_arguments_raise_at_the_call(
    args: tuple[Any, ...], kwargs: dict[str, Any], message: str
) -> None:
    called: Any = price
    for asked in (called, called.options(cache=False), called.partial()):
        with pytest.raises(TypeError, match=f"^task test_types.price cannot be called so: {message}$"):
            asked(*args, **kwargs)


def test_an_operator_is_checked_without_what_the_scheduler_gives_it() -> None:
    called: Any = cond
    with pytest.raises(TypeError, match=r"^task redun.cond cannot be called so: missing .* 'then'"):
        called(True)


async def test_a_wrong_call_in_a_task_names_both(scheduler: Scheduler) -> None:
    @task
    def shop() -> int:
        called: Any = price
        return called("tea", colour=1)  # type: ignore[no-any-return]  # an error

    with pytest.raises(TypeError, match=r"task test_types\.price cannot be called so"):
        await scheduler.run(shop())


def test_a_call_can_be_annotated_at_run_time() -> None:
    def make() -> Call[int]:
        return price("tea")

    assert get_type_hints(make) == {"return": Call[int]}
    assert isinstance(make(), Call)
