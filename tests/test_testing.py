"""The pytest plugin, in a pytest of its own with the tests of the how-to page, and what notebooks show."""

from __future__ import annotations

import html
import re
import subprocess
import sys
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

import pytest

from aredun import CallGraphQuery, RedunBackendDb, Scheduler, task, walk_dataflow
from aredun.dataflow import ValueRef, render_dataflow
from tests.support.dependencies import CHECKOUT, read_project

if TYPE_CHECKING:
    from pathlib import Path

redun_namespace = "test_testing"

TESTS = """
import asyncio

import pytest

from aredun import task

redun_namespace = "here"


@task
def price(item: str) -> int:
    if item == "gold":
        raise ValueError("too dear")
    return len(item)


@task
async def total(items: list[str]) -> int:
    return sum([await price(item) for item in items])


def test_what_ran_and_what_was_cached(aredun_workflow):
    assert aredun_workflow.run(total(["tea", "milk"])) == 7
    aredun_workflow.assert_ran(total, price)
    aredun_workflow.assert_cached()
    assert aredun_workflow.ran == {"here.total": 1, "here.price": 2}

    assert aredun_workflow.run(total(["tea", "bread"])) == 8
    aredun_workflow.assert_ran("here.total", price)
    aredun_workflow.assert_cached(price)

    aredun_workflow.run(total(["tea", "bread"]))
    aredun_workflow.assert_ran()
    aredun_workflow.assert_cached(total)


def test_each_test_has_a_repository_of_its_own(aredun_workflow):
    assert asyncio.run(aredun_workflow.arun(price("tea"), tags=[("a", 1)])) == 3
    aredun_workflow.assert_ran(price)


def test_failures(aredun_workflow):
    with pytest.raises(ValueError, match="too dear"):
        aredun_workflow.run(total(["gold"]))
    aredun_workflow.assert_failed(price, total)
    with pytest.raises(AssertionError, match="^nothing ran, not here.price$"):
        aredun_workflow.assert_ran(price)
"""


@task
def quiet(text: str, number: int = 0) -> str:
    return text


def test_plugin(tmp_path: Path) -> None:
    (tmp_path / "test_here.py").write_text(TESTS)
    page = (CHECKOUT / "docs" / "how-to" / "test-workflows.md").read_text()
    for name, block in re.findall(r"```python\n# (test_\w+\.py)\n(.*?)```", page, re.DOTALL):
        (tmp_path / name).write_text(block)
    options = ["-q", "-p", "no:asyncio", "-p", "no:cacheprovider", "-W", "error"]
    # pytest finds it itself unless the environment is older than the plugin.
    if "aredun" not in entry_points(group="pytest11").names:
        options += ["-p", "aredun.testing"]
    command = [sys.executable, "-m", "pytest", *options]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "5 passed" in done.stdout, done.stdout + done.stderr


def test_pytest_finds_the_plugin() -> None:
    assert read_project()["entry-points"]["pytest11"] == {"aredun": "aredun.testing"}
    done = subprocess.run(
        [sys.executable, "-c", "import sys, aredun.testing; sys.exit('sqlalchemy' in sys.modules)"],
        cwd=CHECKOUT,
        check=False,
    )
    assert done.returncode == 0


async def test_scheduler_without_async_with() -> None:
    scheduler = await Scheduler().open()
    assert await scheduler.run(quiet("a")) == "a"
    await scheduler.close()
    await scheduler.close()
    await scheduler.open()
    assert await scheduler.run(quiet("b")) == "b"
    await scheduler.close()


def test_a_call_in_a_notebook_is_escaped() -> None:
    call: Any = quiet("<b>", number=2)
    assert call._repr_html_() == f"<code>{html.escape(repr(call))}</code>"
    assert "<b>" not in call._repr_html_()
    assert "&lt;" in (call + "<i>")._repr_html_()
    for name in ("_ipython_display_", "_ipython_canary_method_should_not_exist_", "_repr_png_"):
        with pytest.raises(AttributeError):
            getattr(call, name)


async def test_records_and_dataflow_in_a_notebook(scheduler: Scheduler, backend: RedunBackendDb) -> None:
    await scheduler.run(quiet(quiet("<script>", number=1)), ["run", "<img>"])
    query = CallGraphQuery(backend)
    execution = await query.filter_types(["Execution"]).one()
    shown = execution._repr_html_()
    assert f"<tr><th>id</th><td>{execution.id}</td></tr>" in shown
    assert "<tr><th>status</th><td>DONE</td></tr>" in shown
    assert "&lt;img&gt;" in shown
    job = await query.filter_types(["Job"]).first()
    assert job is not None
    assert f"<td>{job.task_hash}</td>" in job._repr_html_()

    node = await query.filter_types(["CallNode"]).first()
    assert node is not None
    text = await render_dataflow(backend, walk_dataflow(backend, ValueRef(node.value_hash)))
    assert "quiet" in text
    assert text._repr_html_() == f"<pre>{html.escape(text)}</pre>"
    assert "<script>" not in text._repr_html_()
