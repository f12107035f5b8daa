"""Failures in a real browser: from the banner to the line at fault, from one failure to the next, filters."""

from __future__ import annotations

import asyncio
import inspect
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from playwright.async_api import expect

from aredun import CallGraphQuery, File, task
from tests.support.browser import DESKTOP, PHONE, check_page, view
from tests.support.databases import redun_uri
from tests.support.failing import parse, run_failing

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.async_api import Browser, Locator

    from aredun.backend import RedunBackendDb
    from aredun.scheduler import Scheduler

pytestmark = pytest.mark.parametrize("dialect", ["sqlite"], indirect=True)


async def check_highlighting(panel: Locator) -> None:
    """Assert that the source and the traceback are coloured, and are copied as they are."""
    await expect(panel.locator(".frame-line .code-keyword").first).to_have_text("raise")
    source = panel.locator("pre.code")
    await expect(source.locator(".code-definition")).to_have_text("parse")
    await expect(source.locator("mark .code-builtin")).to_have_text("ValueError")
    colours = await source.evaluate(
        """(pre) => [".code-keyword", ".code-definition", ".code-string", ".code-number"]
            .map((rule) => getComputedStyle(pre.querySelector(rule)).color)
            .concat(getComputedStyle(pre).color)"""
    )
    assert len(set(colours)) == len(colours)
    text = inspect.getsource(parse.func)
    written = text[text.index("def ") :]
    assert await source.text_content() == written
    await panel.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    for what in ("source", "traceback"):
        await panel.get_by_role("button", name=f"Copy the {what}").click()
        await expect(panel.get_by_role("button", name=f"Copy the {what}")).to_have_text("Copied")
        copied = await panel.page.evaluate("navigator.clipboard.readText()")
        if what == "source":
            assert copied == written
        else:
            assert copied.startswith("Traceback (most recent call last):\n  File ")
            lines = r", line \d+, in parse\n    raise ValueError\(f.*\nValueError: sample 's\d' has"
            assert re.search(lines, copied)


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["1440", "390"])
async def test_from_the_banner_to_the_line_at_fault(
    browser: Browser, backend: RedunBackendDb, scheduler: Scheduler, size: dict[str, int]
) -> None:
    """A failed execution says why, leads to the job at fault and its traceback, and on to the next one."""
    await run_failing(scheduler)
    async with view(browser, backend, "execution/-", size) as watched:
        page = watched.page
        banner = page.get_by_role("region", name="Why it failed")
        await expect(banner).to_contain_text(re.compile(r"ValueError\s*sample 's\d' has no <lane> 4"))
        await expect(banner.get_by_role("listitem")).to_have_text(
            [re.compile("main"), re.compile("align"), re.compile("trim"), re.compile("parse")]
        )
        await watched.shoot(f"failed-execution-{size['width']}")
        await banner.get_by_role("link", name="align").click()
        panel = page.get_by_role("complementary", name="Details")
        await expect(panel.get_by_role("heading", level=2)).to_have_text("lab.align")
        await expect(panel).to_contain_text("Raised below:")
        await page.get_by_role("link", name="Close the details").click()
        await banner.get_by_role("link", name="Show the job at fault").click()
        await expect(panel.get_by_role("heading", level=2)).to_have_text("lab.parse")
        await expect(panel.locator(".frame-line")).to_contain_text("raise ValueError(f")
        await expect(panel.locator(".frame-where")).to_contain_text(re.compile(r"failing\.py:\d+"))
        await expect(panel.locator("pre mark")).to_contain_text("raise ValueError(")
        await expect(panel.locator(".frame-variables")).to_have_text(re.compile(r"sample's\d'lane4"))
        await check_highlighting(panel)
        await expect(page.locator(".job-row[aria-selected=true]")).to_be_in_viewport(ratio=1)
        await expect(panel).to_contain_text(re.compile(r"Failure \d of 3"))
        await panel.get_by_role("link", name="lab.main").click()
        await expect(panel.get_by_role("heading", level=2)).to_have_text("lab.main")
        await panel.get_by_role("link", name="Next failed").click()
        await expect(panel).to_contain_text("Failure 1 of 3")
        first = page.url
        # The whole id: what was the newest execution is not so tomorrow.
        assert "/execution/-/" not in first
        await panel.get_by_role("link", name="Next failed").click()
        await expect(panel).to_contain_text("Failure 2 of 3")
        await panel.get_by_role("link", name="Previous failed").click()
        await expect(panel).to_contain_text("Failure 1 of 3")
        assert page.url == first
        await check_page(page)
        await watched.shoot(f"failed-job-{size['width']}")
        job_id = page.url.rpartition("/")[2]
        await watched.go(f"job/{job_id}")
        await expect(page.get_by_role("region", name="Failure", exact=True)).to_contain_text("ValueError")
        await page.get_by_role("link", name="Next failed").click()
        await expect(page.locator(".next-failed")).to_contain_text("Failure 2 of 3")
        await check_page(page)


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["1440", "390"])
async def test_jobs_are_filtered_and_counted(
    browser: Browser, backend: RedunBackendDb, scheduler: Scheduler, size: dict[str, int]
) -> None:
    """The number of failed jobs leads to them; filters are in the address; the table leads to its jobs."""
    await run_failing(scheduler)
    async with view(browser, backend, "execution/-", size) as watched:
        page = watched.page
        await page.get_by_role("link", name="10 failed").click()
        result = page.locator(".filter-result")
        await expect(result).to_have_text("10 of 46 jobs")
        await expect(page.locator(".job-row:not([data-status=FAILED])")).to_have_count(0)
        await page.get_by_label("Task", exact=True).select_option("lab.parse")
        await expect(result).to_have_text("3 of 46 jobs")
        await expect(page.get_by_role("treeitem").filter(has_text="trim").first).to_have_class(
            re.compile("on-the-way")
        )
        await page.get_by_label("Task", exact=True).select_option("")
        await page.get_by_label("Part of a task's name or of the arguments, or an id").fill("ALI")
        await expect(result).to_have_text("3 of 46 jobs")
        address = page.url
        assert "status=FAILED" in address
        assert "text=ALI" in address
        await page.goto("about:blank")
        await page.goto(address)
        await expect(result).to_have_text("3 of 46 jobs")
        await expect(page.get_by_label("Status", exact=True)).to_have_value("FAILED")
        await page.get_by_role("link", name="Timeline").click()
        await expect(page.locator(".job-row")).to_have_count(3)
        await page.get_by_role("button", name="Clear").click()
        await expect(result).to_have_text("")
        await (
            page.get_by_role("navigation", name="Views of the jobs").get_by_role("link", name="Tasks").click()
        )
        await expect(page.get_by_role("table").get_by_role("row")).to_have_count(7)
        await watched.shoot(f"task-counts-{size['width']}")
        await page.get_by_role("link", name="3 done of lab.parse").click()
        await expect(result).to_have_text("3 of 46 jobs")
        await expect(page.get_by_label("Task", exact=True)).to_have_value("lab.parse")
        await check_page(page)


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["1440", "390"])
async def test_rows_show_their_arguments(
    browser: Browser, backend: RedunBackendDb, scheduler: Scheduler, size: dict[str, int]
) -> None:
    """Rows of the tree and of the timeline tell their calls apart, in their room; the filter finds them."""
    await run_failing(scheduler)
    async with view(browser, backend, "execution/-", size) as watched:
        page = watched.page
        name = page.locator(".job-row .row-name").filter(has_text="trim('s2', 4)")
        await expect(name).to_have_attribute("title", "lab.trim('s2', 4)")
        await watched.shoot(f"rows-{size['width']}")
        await page.get_by_label("Part of a task's name or of the arguments, or an id").fill("'S2', 4")
        await expect(page.locator(".filter-result")).to_have_text("2 of 46 jobs")
        await page.get_by_role("link", name="Timeline").click()
        await expect(page.locator(".job-row")).to_have_count(2)
        await expect(name).to_have_attribute("title", "lab.trim('s2', 4)")
        await watched.shoot(f"timeline-rows-{size['width']}")
        # At once: rows are drawn anew when something changes.
        room, row = await page.evaluate(
            "() => ['.job-row .row-name', '.job-row']"
            ".map((rule) => document.querySelector(rule).getBoundingClientRect().right)"
        )
        assert 0 < room < row
        await check_page(page)


async def test_a_link_shows_its_job_though_the_banner_comes_later(
    browser: Browser, backend: RedunBackendDb, scheduler: Scheduler
) -> None:
    """The chosen row stays in sight when the list gets shorter, and leaves whoever scrolls away alone."""
    await run_failing(scheduler)
    query = CallGraphQuery(backend, filter_types=["Job"]).filter_task_names(["lab.parse"])
    last = await query.filter_job_statuses(["FAILED"]).order_by("time").first()
    assert last is not None
    async with view(
        browser, backend, f"execution/-/tree/{last.id}", {"width": 1440, "height": 560}
    ) as watched:
        page = watched.page
        await expect(page.get_by_role("region", name="Why it failed")).to_be_visible()
        await expect(page.locator(".job-row[aria-selected=true]")).to_be_in_viewport(ratio=1)
        await page.set_viewport_size({"width": 1440, "height": 480})
        await expect(page.locator(".job-row[aria-selected=true]")).to_be_in_viewport(ratio=1)
        await page.locator(".rows").evaluate("(rows) => { rows.scrollTop = 0; }")
        await page.set_viewport_size({"width": 1440, "height": 520})
        await expect(page.locator(".job-row").first).to_be_in_viewport(ratio=1)


async def test_rows_call_files_by_their_names(
    browser: Browser, backend: RedunBackendDb, scheduler: Scheduler, tmp_path: Path
) -> None:
    """What else is known of a file is in the title."""
    folder = tmp_path / "reads"
    folder.mkdir()
    (folder / "s1.fastq").write_text("ACGT")

    @task(namespace="reads")
    def align(reads: list[File], genome: str) -> int:
        return len(reads)

    await scheduler.run(align([File(str(folder / "s1.fastq"))], "hg38"))
    async with view(browser, backend, "execution/-") as watched:
        name = watched.page.locator(".job-row .row-name").first
        await expect(name).to_have_text("reads.align([s1.fastq], 'hg38')")
        await expect(name).to_have_attribute("title", re.compile(re.escape(f"[File(path={folder}")))


async def test_a_filter_finds_what_a_large_execution_does_not_show(
    browser: Browser, backend: RedunBackendDb, scheduler: Scheduler
) -> None:
    """Jobs beyond those that are shown at once are counted and found on the server."""
    await run_failing(scheduler)
    async with view(browser, backend, "execution/-", snapshot_jobs=5) as watched:
        page = watched.page
        await page.get_by_role("link", name="10 failed").click()
        await expect(page.locator(".filter-result")).to_have_text("10 of 46 jobs")
        await expect(page.locator(".job-row").filter(has_text="parse")).to_have_count(3)
        notice = page.locator(".cut")
        await page.get_by_role("button", name="Clear").click()
        await expect(notice).to_contain_text(
            re.compile(r"\d+ of 46 jobs are here\. The filter and the counts")
        )
        await watched.shoot("execution-cut")
        await notice.get_by_role("button", name=re.compile(r"Load \d+ more")).click()
        await expect(notice).to_be_hidden()
        await page.locator(".filter select").nth(1).select_option("lab.qc")
        await expect(page.locator(".filter-result")).to_have_text("30 of 46 jobs")
        await expect(page.locator(".job-row").filter(has_text="qc(")).to_have_count(12)


REDUN_RUN = """
import sys
from redun import Scheduler, task
from redun.backends.db import RedunBackendDb
redun_namespace = "elsewhere"
def check(number):
    raise ValueError(f"no {number}")
@task()
def step(number, name="x"):
    return check(number)
@task()
def main():
    return step(7, name="seven")
backend = RedunBackendDb(db_uri=sys.argv[1])
backend.load()
try:
    Scheduler(backend=backend).run(main())
except ValueError:
    pass
"""


async def test_a_failure_of_redun_shows_what_it_was_called_with(
    browser: Browser, backend: RedunBackendDb, database_url: str, tmp_path: Path
) -> None:
    """An error is recorded without arguments, by either engine: they are shown with the task's own line."""
    (tmp_path / "elsewhere.py").write_text(REDUN_RUN)
    answer = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "elsewhere.py", redun_uri(database_url)],
        cwd=tmp_path,
        capture_output=True,
        check=True,
    )
    assert b"no 7" in answer.stderr
    async with view(browser, backend, "execution/-", DESKTOP) as watched:
        await watched.page.get_by_role("link", name="Show the job at fault").click()
        frames = watched.page.locator(".frames > li")
        await expect(frames).to_have_count(2)
        await expect(frames.first.locator(".frame-where")).to_contain_text("step")
        await expect(frames.first.locator(".frame-variables")).to_have_text("number7name'seven'")
        await expect(frames.nth(1).locator(".frame-where")).to_contain_text("check")
        await expect(frames.nth(1).locator(".frame-variables")).to_have_count(0)
        await watched.shoot("failed-job-of-redun")
