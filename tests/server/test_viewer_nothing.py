"""Views that have nothing to show, in a real browser: each says what is missing, and leads on."""

from __future__ import annotations

import contextlib
import re
import sqlite3
from typing import TYPE_CHECKING

import pytest
from playwright.async_api import expect

from aredun import task
from aredun.backend import RedunBackendDb
from tests.server.test_server_changes import TASK, start
from tests.server.test_viewer_comfort import find_serious
from tests.support.browser import DESKTOP, PHONE, Watched, check_page, view
from tests.support.recording import FakeJob

if TYPE_CHECKING:
    from playwright.async_api import Browser, Locator

    from aredun.scheduler import Scheduler

pytestmark = pytest.mark.parametrize("dialect", ["sqlite"], indirect=True)


async def check_notice(watched: Watched, title: str, inside: str = "main") -> Locator:
    """Assert that one thing is said to be missing, with a next step, and that it fits phone and desk."""
    page = watched.page
    notice = page.locator(f"{inside} .notice")
    await expect(notice.locator("strong")).to_have_text(title)
    for size in (PHONE, DESKTOP):
        await page.set_viewport_size({"width": size["width"], "height": size["height"]})
        await expect(notice.locator(".command, a.button").first).to_be_in_viewport()
        await check_page(page)
    return notice


async def test_an_empty_repository(browser: Browser, backend: RedunBackendDb) -> None:
    """Its lists say how they are filled; a command is copied whole; a search leads to the lists."""
    async with view(browser, backend, "executions") as watched:
        page = watched.page
        notice = await check_notice(watched, "Nothing has run yet")
        await watched.shoot("nothing")
        assert await find_serious(page) == []
        await page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        await notice.get_by_role("button", name="Copy the command").click()
        await expect(notice.get_by_role("button")).to_have_text("Copied")
        assert await page.evaluate("navigator.clipboard.readText()") == "aredun run workflow.py main"
        await page.get_by_role("link", name="Failed", exact=True).click()
        notice = await check_notice(watched, "No execution has failed")
        await notice.get_by_role("link", name="Show all executions").click()
        await check_notice(watched, "Nothing has run yet")
        await watched.go("tagged?tag=project%3D%22it's%22")
        notice = await check_notice(watched, "Nothing carries this tag")
        await expect(notice.locator("code")).to_have_text("""aredun tag add ID 'project="it'\\''s"'""")
        await watched.go("tasks")
        await check_notice(watched, "No task is recorded")
        box = page.get_by_role("combobox", name="Find a record")
        await box.fill("nobody")
        found = page.locator("#found")
        await expect(found).to_contain_text(re.compile("Nothing.*fits “nobody”.*by any part"))
        await box.press("Enter")
        await expect(page).to_have_url(re.compile("#/tasks$"))
        await box.press("ArrowDown")
        await box.press("ArrowDown")
        assert await find_serious(page) == []
        await watched.shoot("nothing-found")
        await box.press("Enter")
        await expect(page).to_have_url(re.compile("#/files$"))
        notice = await check_notice(watched, "No file is recorded")
        await expect(notice).to_contain_text("aredun.File")


async def test_an_execution_without_what_is_sought(
    browser: Browser, backend: RedunBackendDb, scheduler: Scheduler
) -> None:
    """No failed jobs, no job that fits, a job without others below it, a value that nothing followed from."""

    @task(namespace="alone")
    def main(x: int) -> int:
        return x + 1

    await scheduler.run(main(41))
    async with view(browser, backend, "execution/-/tree?status=FAILED") as watched:
        page = watched.page
        await check_notice(watched, "No job has failed", ".jobs")
        await watched.shoot("no-failed")
        await page.get_by_label("Part of a task's name or of the arguments, or an id").fill("nobody")
        notice = await check_notice(watched, "No job fits", ".jobs")
        assert await find_serious(page) == []
        await notice.get_by_role("link", name="Show all jobs").click()
        await expect(notice).to_be_hidden()
        await page.locator(".job-row").click()
        below = page.get_by_role("region", name="Jobs below it")
        await expect(below.locator("strong")).to_have_text("It called no other task")
        await below.get_by_role("link", name="What followed from it").click()
        await expect(page.locator(".graph-status")).to_have_attribute("data-done", "true")
        notice = await check_notice(watched, "Nothing followed from it yet")
        await watched.shoot("nothing-followed")
        assert await find_serious(page) == []
        await notice.get_by_role("link", name="Where it comes from").click()
        await expect(page.locator(".graph-status")).to_contain_text("nodes")
        await expect(page.locator(".graph-nothing")).to_be_hidden()
        await page.get_by_role("link", name="Inside", exact=True).click()
        await check_notice(watched, "It called no other task")
        await watched.go("execution/-")
        await page.locator(".job-row").click()
        await page.get_by_role("link", name=re.compile("^41")).click()
        await page.get_by_role("link", name="Where it comes from").click()
        notice = await check_notice(watched, "Nothing is recorded before it")
        await notice.get_by_role("link", name="What followed").click()
        await expect(page.locator(".graph-status")).to_contain_text("nodes")
        await expect(page.locator(".graph-nothing")).to_be_hidden()


async def test_a_run_that_has_just_begun(
    browser: Browser, backend: RedunBackendDb, database_url: str
) -> None:
    """The page says what will come, and shows it as it comes; a job that runs has none below it yet."""
    root = FakeJob(TASK)
    async with RedunBackendDb(database_url) as writer:
        await start(writer, root)
        async with view(browser, backend, f"execution/{root.execution.id}") as watched:
            page = watched.page
            notice = await check_notice(watched, "Its first job runs, no other has started", ".jobs")
            await watched.shoot("first-job")
            await notice.get_by_role("link", name="Show the first job").click()
            below = page.get_by_role("region", name="Jobs below it")
            await expect(below.locator("strong")).to_have_text("It has called no other task yet")
            child = FakeJob(TASK, root.execution, root)
            await start(writer, child)
            await expect(page.locator(".job-row")).to_have_count(2)
            await expect(notice).to_be_hidden()
            await watched.go(f"job/{root.id}")
            await (
                page.get_by_role("region", name="Jobs below it").get_by_role("link", name="live.work").click()
            )
            await expect(page).to_have_url(re.compile(child.id))


async def test_an_execution_whose_jobs_are_elsewhere(
    browser: Browser, backend: RedunBackendDb, database_url: str
) -> None:
    """A file that was put together without foreign keys may hold an execution alone."""
    with contextlib.closing(sqlite3.connect(database_url.removeprefix("sqlite:///"))) as file:
        file.execute("INSERT INTO execution (id, args, job_id) VALUES ('alone', '[]', 'gone')")
        file.commit()
    async with view(browser, backend, "execution/alone/tasks") as watched:
        await check_notice(watched, "No job is recorded", ".jobs")
        await watched.page.get_by_role("link", name="Timeline").click()
        await check_notice(watched, "No job is recorded", ".jobs")
        await expect(watched.page.locator(".axis")).to_be_hidden()
