"""The vocabulary of redun.functools and wraps_task: results and the whole call graph are redun's."""

from __future__ import annotations

import linecache
import pkgutil
import re
import sys
import types
from pathlib import Path
from typing import Any

import pytest
import redun
import redun.config
import redun.functools
import redun.scheduler
import sqlalchemy as sa

from aredun import RedunBackendDb, Scheduler, UsageError, task
from aredun.scheduler import get_current_scheduler
from aredun.workflow import functools
from aredun.workflow.wrapping import wraps_task

redun_namespace = "test_functools"

NAMES_PAGE = Path(__file__).parent.parent.parent / "docs" / "reference" / "redun-names.md"

IMPORTS = {
    "aredun": """
from aredun import task
from aredun.workflow.functools import *
from aredun.workflow.operators import map_
from aredun.workflow.wrapping import wraps_task
from aredun.values.expressions import quote
""",
    "redun": """
from redun import task
from redun.expression import quote
from redun.functools import *
from redun.scheduler import with_export_options
from redun.task import wraps_task
""",
}

# The import is all that differs between the two modules.
WORKFLOW = """
redun_namespace = "words"


@task
def add(a, b=10):
    return a + b


@task
def double(number):
    return number * 2


@task
def spread(count):
    return [add(number) for number in range(count)]


@task
def fail(number):
    raise ValueError(f"no {number}")


def twice():
    @wraps_task(wrapper_hash_includes=["twice"], version="1")
    def _twice(inner):
        def call(*args, **kwargs):
            return [inner(*args, **kwargs), inner.func(*args, **kwargs)]

        return call

    return _twice


def around(**options):
    @wraps_task("around", **options)
    def _around(inner):
        def call(*args, **kwargs):
            return {"inner": inner(*args, **kwargs)}

        return call

    return _around


@twice()
def wrapped(a, b=3):
    return a + b


@around(use_wrapper_signature=True, version="1")
@around()
@twice()
@task(version="5")
def deep(a, b=4):
    return a - b


@task
def main():
    numbers = spread(3)
    return {
        "flatten": flatten([spread(2), [add(7)]]),
        "flat_map": flat_map(spread, [1, add(1, b=1)]),
        "zip_": zip_(numbers, spread(2)),
        "eval_": eval_("number + more", add(1), pos_args=["number"], more=add(2)),
        "apply_func": apply_func(max, add(1), 3),
        "as_task": as_task(sorted)([add(4), 5], reverse=True),
        "identity": identity(add(8)),
        "compose": compose(double, add)(20, b=add(21)),
        "compose_apply": compose_apply([double, double], add(30)),
        "force": force(delay(add(40))),
        "starmap": starmap(add, [{"a": 1}, {"a": add(50), "b": 2}]),
        "starmap of a call": starmap(add, identity([{"a": 60}])),
        "starmap of none": starmap(add),
        "map_": map_(add, [add(1), 70]),
        "map_ of a call": map_(double, numbers),
        "map_ of map_": map_(double, map_(add, map_(double, spread(2)))),
        "map_ of a partial": map_(add.partial(b=5), numbers),
        "map_ of a lazy task": map_(identity(double), [80, 81]),
        "no_prov": no_prov(double(add(90))),
        "with_export_options": with_export_options(quote(add(100)), {"tags": [["a", 1]]}),
        "wrapped": wrapped(1),
        "wrapped twice": deep(10, b=add(1)),
        "wrapped in map_": map_(wrapped, [2, 3]),
    }
"""

TABLES = {
    "call_node": "call_hash, task_name, task_hash, args_hash, value_hash",
    "call_edge": "parent_id, child_id, call_order",
    "call_subtree_task": "call_hash, task_hash",
    "argument": "arg_hash, call_hash, value_hash, arg_position, arg_key",
    "argument_result": "arg_hash, result_call_hash",
    "evaluation": "eval_hash, task_hash, args_hash, value_hash",
    # Of the words themselves each engine records its own source, and how it comes by redun's hash.
    "task": "hash, name, namespace, case when namespace = 'redun' then '' else source end",
    "value": "value_hash, type, format, case when value_hash in "
    "(select hash from task where namespace = 'redun') then '' else value end",
    "subvalue": "value_hash, parent_value_hash",
    "job": "task_hash, cached, call_hash",
}


def load(engine: str) -> Any:
    """Return the module of the workflow for one of the engines."""
    module = types.ModuleType(f"words_of_{engine}")
    module.__file__ = f"/{module.__name__}.py"
    sys.modules[module.__name__] = module
    text = IMPORTS[engine] + WORKFLOW
    linecache.cache[module.__file__] = (len(text), None, text.splitlines(keepends=True), module.__file__)
    exec(compile(text, module.__file__, "exec"), module.__dict__)
    return module


def read_graph(path: Path) -> dict[str, list[Any]]:
    """Return the call graph in a sqlite file, without ids and times."""
    with sa.create_engine(f"sqlite:///{path}").connect() as connection:
        return {
            table: sorted(
                repr(tuple(row)) for row in connection.execute(sa.text(f"select {columns} from {table}"))
            )
            for table, columns in TABLES.items()
        }


async def run_both(folder: Path, name: str = "main") -> tuple[Any, Any]:
    """Run the workflow with both engines, each on a sqlite file of its own; return the results."""
    async with (
        RedunBackendDb(f"sqlite:///{folder / 'aredun.db'}") as backend,
        Scheduler(backend) as scheduler,
    ):
        own = await scheduler.run(getattr(load("aredun"), name)())
    config = redun.config.Config({"backend": {"db_uri": f"sqlite:///{folder / 'redun.db'}"}})
    original = redun.Scheduler(config=config)
    original.load()
    result = original.run(getattr(load("redun"), name)())
    original.backend.session.close()
    original.backend.engine.dispose()
    return own, result


async def test_results_and_call_graph_are_reduns(tmp_path: Path) -> None:
    own, original = await run_both(tmp_path)
    assert own == original
    assert own["wrapped twice"] == {"inner": {"inner": [10 - 11, 10 - 11]}}
    ours, theirs = read_graph(tmp_path / "aredun.db"), read_graph(tmp_path / "redun.db")
    for table, rows in theirs.items():
        assert ours[table] == rows, table


@pytest.mark.parametrize(
    "name", ["compose_apply", "identity", "apply_func", "eval_", "flatten", "flat_map", "zip_"]
)
def test_hashes_are_reduns(name: str) -> None:
    assert getattr(functools, name).hash == getattr(redun.functools, name).hash


def test_eval_needs_a_name_for_each_argument() -> None:
    with pytest.raises(TypeError, match="2 arguments by position, pos_args 1 names"):
        functools.eval_.func("a", 1, 2, pos_args=["a"])


async def test_current_scheduler(scheduler: Scheduler) -> None:
    @task(version="1", cache=False)
    def in_thread() -> bool:
        return get_current_scheduler() is scheduler

    @task(version="1", cache=False)
    async def on_loop() -> bool:
        return get_current_scheduler() is scheduler

    assert await scheduler.run([in_thread(), on_loop()]) == [True, True]
    assert get_current_scheduler(required=False) is None
    with pytest.raises(UsageError, match="no scheduler runs here: call get_current_scheduler in a task"):
        get_current_scheduler()


async def test_wrapped_async_task(scheduler: Scheduler) -> None:
    """The wrapper may be async, and await the task within; arguments are checked against that."""

    @wraps_task(version="1")
    def _doubled(inner: Any) -> Any:
        async def call(*args: Any, **kwargs: Any) -> Any:
            return 2 * await inner(*args, **kwargs)

        return call

    @_doubled
    async def fetch(number: int) -> int:
        return number + 1

    assert (fetch.fullname, fetch.inner_task.fullname) == (
        "test_functools.fetch",
        "test_functools._doubled.fetch",
    )
    assert await scheduler.run(fetch(3)) == 8
    unchecked: Any = fetch
    with pytest.raises(
        TypeError, match=r"task test_functools\.fetch cannot be called so: missing .* 'number'"
    ):
        unchecked()


def test_wrapper_refuses_unknown_options() -> None:
    with pytest.raises(UsageError, match="task of wraps_task: unknown option limit: did you mean limits"):
        wraps_task(limit=["db"])


MODULES = ("redun.functools", "redun.scheduler", "redun.task")


def list_names() -> set[str]:
    """Return the public names of redun that workflows are written with."""
    names = set(redun.__all__)
    for module in map(sys.modules.__getitem__, MODULES):
        for name, value in vars(module).items():
            home = getattr(value.func if isinstance(value, redun.Task) else value, "__module__", None)
            if home == module.__name__ and callable(value) and not name.startswith("_"):
                names.add(name)
    return names


def test_table_of_names_is_complete() -> None:
    """Each name of the redun that is installed has a row, with what is here, which is there, or why not."""
    rows = [line.split("|")[1:4] for line in NAMES_PAGE.read_text().splitlines() if line.startswith("| `")]
    listed = [name for row in rows for name in re.findall(r"`(\w+)`", row[0])]
    assert sorted(listed) == sorted(list_names())
    for row in rows:
        here = re.findall(r"`(aredun\.[\w.]+)`", row[1])
        assert len(here) in (0, len(re.findall("`", row[0])) // 2), row
        assert here or row[2].strip(), row
        for path in here:
            assert pkgutil.resolve_name(path) is not None
