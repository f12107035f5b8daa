"""Files and tasks over time in a real browser: what is seen, where links lead, what does not fit."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
from playwright.async_api import expect

from aredun.search import file_versions
from tests.server.test_viewer_comfort import find_serious
from tests.support.browser import DESKTOP, PHONE, check_page, view

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from playwright.async_api import Browser, Locator, Page

    from aredun.backend import RedunBackendDb

pytestmark = pytest.mark.parametrize("dialect", ["sqlite"], indirect=True)
each_look = pytest.mark.parametrize(
    ("size", "scheme"), [(DESKTOP, "light"), (PHONE, "dark")], ids=["1440-light", "390-dark"]
)


@pytest.fixture
def database_url(dialect: str, histories: Callable[[str], tuple[str, Path]]) -> str:
    """The URI of the repository."""
    return histories(dialect)[0]


@pytest.fixture
def folder(dialect: str, histories: Callable[[str], tuple[str, Path]]) -> Path:
    """Where its files are."""
    return histories(dialect)[1]


async def check_look(page: Page) -> None:
    """Nothing is cut off, no texts lie upon each other, and axe-core finds nothing serious."""
    await check_page(page)
    assert await find_serious(page) == []


def row(page: Page, kind: str, text: str) -> Locator:
    """Return the row of a list that has a text."""
    return page.locator(f".{kind}-row").filter(has_text=text)


@each_look
async def test_files_lead_to_their_versions_and_makers(
    browser: Browser, backend: RedunBackendDb, folder: Path, size: dict[str, int], scheme: str
) -> None:
    """A file tells when and by what it was written; its page has every version, with who read it."""
    async with view(browser, backend, "files", size, scheme) as watched:
        page = watched.page
        report = row(page, "file", "report.txt")
        await expect(report).to_contain_text("2 versions")
        await expect(report).to_contain_text(re.compile("written (just now|.* ago)"))
        await expect(report.get_by_role("link", name="lab.files.write")).to_have_attribute(
            "title", re.compile(r"lab\.files\.write\('.*report\.txt', 'second, longer'\)")
        )
        given = row(page, "file", "given.txt")
        await expect(given.locator(".none [aria-hidden]")).to_have_text(["—", "—"])
        await watched.shoot(f"files-{size['width']}")
        await check_look(page)
        await report.get_by_role("link", name="lab.files.write").click()
        await expect(page.locator(".details h2")).to_have_text("lab.files.write")
        await expect(page.locator("main")).to_contain_text("second, longer")
        await page.go_back()
        await report.locator(".record-name").click()
        await expect(page.get_by_role("heading", level=1)).to_have_text(f"{folder}/out/report.txt")
        versions = page.locator(".version-row")
        await expect(versions).to_have_count(2)
        await expect(versions.first).to_contain_text("read by 3 jobs")
        await expect(versions.last).to_contain_text("read by 2 jobs")
        await expect(versions.first).to_contain_text(re.compile(r"record of \d+ B"))
        await watched.shoot(f"file-{size['width']}")
        await check_look(page)
        address = page.url
        await versions.last.get_by_role("link", name="lab.files.write").click()
        await expect(page.locator("main")).to_contain_text("'first'")
        await page.goto(address)
        value_hash = await versions.first.locator(".hash").get_attribute("title")
        await versions.first.locator(".hash").click()
        await expect(page.get_by_role("link", name="What followed from it")).to_be_visible()
        assert page.url.endswith(f"#/value/{value_hash}")
        await page.get_by_role("link", name="All versions of this file").click()
        await expect(versions).to_have_count(2)


async def test_files_are_filtered(
    browser: Browser, backend: RedunBackendDb, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The address keeps the text; what one look does not reach is reached by another."""
    async with view(browser, backend, "files", DESKTOP) as watched:
        page = watched.page
        box = page.get_by_role("searchbox", name="Part of a path")
        await box.fill("OFTEN")
        await expect(page.locator(".file-row")).to_have_count(1)
        await expect(page.locator(".file-row")).to_contain_text("10 versions")
        assert page.url.endswith("#/files?text=OFTEN")
        await page.reload()
        await expect(box).to_have_value("OFTEN")
        await expect(page.locator(".file-row")).to_have_count(1)
        await box.fill("nowhere")
        await expect(page.locator(".notice")).to_contain_text("No path has “nowhere”")
        monkeypatch.setattr(file_versions, "MAX_LOOKED", 1)
        await box.fill("report")
        await expect(page.locator(".notice")).to_contain_text("so far")
        further = page.get_by_role("button", name=re.compile("Look further|Show more"))
        for _ in range(8):
            if await page.locator(".file-row").count():
                break
            async with page.expect_response(re.compile("/api/files")):
                await further.click()
        await expect(page.locator(".file-row")).to_contain_text("report.txt")
        await watched.go("file?path=/nowhere")
        await expect(page.get_by_role("alert")).to_contain_text("/nowhere")
        watched.problems.clear()


async def get_marks(page: Page) -> dict[str, Any]:
    """Return the marks of the plot by status, and whether all of them lie within it."""
    marks: dict[str, Any] = await page.evaluate(
        """() => {
            const frame = document.querySelector(".plot-place").getBoundingClientRect();
            const marks = [...document.querySelectorAll(".plot-place .mark")];
            const counts = {};
            for (const mark of marks) counts[mark.dataset.status] = (counts[mark.dataset.status] ?? 0) + 1;
            const isWithin = marks.every((mark) => {
                const { left, right, top, bottom } = mark.getBoundingClientRect();
                return left >= frame.left && right <= frame.right
                    && top >= frame.top && bottom <= frame.bottom;
            });
            const pairs = marks.map((mark) => [mark.dataset.status, getComputedStyle(mark).color]);
            const colours = Object.fromEntries(pairs);
            return { counts, isWithin, colours };
        }"""
    )
    return marks


@each_look
async def test_tasks_lead_to_versions_jobs_and_durations(
    browser: Browser, backend: RedunBackendDb, size: dict[str, int], scheme: str
) -> None:
    """A task tells versions, jobs, failures, last run; its page has a plot, sources and latest jobs."""
    async with view(browser, backend, "tasks", size, scheme) as watched:
        page = watched.page
        read = page.locator(".task-row").filter(
            has=page.get_by_role("link", name="lab.files.read", exact=True)
        )
        for text in ("1 version", "8 jobs", "1 failed", "ran "):
            await expect(read).to_contain_text(text)
        await expect(row(page, "task", "measure")).to_contain_text("none failed")
        await watched.shoot(f"tasks-{size['width']}")
        await check_look(page)
        await read.get_by_role("link").click()
        await expect(page.get_by_role("heading", level=1)).to_have_text("lab.files.read")
        plot = page.get_by_role("img", name="Durations of the latest jobs over time")
        await expect(plot).to_be_visible()
        marks = await get_marks(page)
        assert marks["isWithin"]
        assert marks["counts"] == {"DONE": 6, "CACHED": 1, "FAILED": 1}
        assert len(set(marks["colours"].values())) == 3
        await expect(page.locator("figcaption")).to_contain_text(
            re.compile(r"8 latest jobs that ended, median .*, longest .*, 1 failed, 1 cached")
        )
        await expect(page.locator(".latest-row")).to_have_count(8)
        await expect(page.locator(".latest-row").first).to_contain_text("Failed")
        await expect(page.locator(".task-version pre")).to_contain_text("def read(")
        await watched.shoot(f"task-{size['width']}")
        await check_look(page)
        width = await plot.get_attribute("width")
        # Narrower than the page is at most.
        await page.set_viewport_size({"width": min(size["width"] - 20, 1_000), "height": size["height"]})
        await expect(plot).not_to_have_attribute("width", str(width))
        assert (await get_marks(page))["isWithin"]
        await page.locator(".latest-row a").first.click()
        await expect(page.locator(".details h2")).to_have_text("lab.files.read")
        await expect(page.locator(".details .status").first).to_have_text("Failed")


async def test_versions_of_a_task_show_their_source(browser: Browser, backend: RedunBackendDb) -> None:
    """The one that ran last is open; another opens by key; a version's own page leads back to all."""
    async with view(browser, backend, "tasks?text=MEAS", DESKTOP) as watched:
        page = watched.page
        await expect(page.locator(".task-row")).to_have_count(1)
        await page.locator(".task-row a").click()
        versions = page.locator(".task-version")
        await expect(versions).to_have_count(2)
        await expect(versions.first).to_contain_text("4 jobs")
        await expect(versions.first.locator("pre")).to_contain_text("return value")
        await expect(versions.last.locator("pre")).to_have_count(0)
        await versions.last.locator("summary").first.focus()
        await page.keyboard.press("Enter")
        await expect(versions.last.locator("pre")).to_contain_text("return value")
        await expect(versions.last).to_contain_text(re.compile("3 jobs.*first ran .*last ran "))
        await versions.last.get_by_role("link", name="This version").click()
        await expect(page.locator(".details h2")).to_have_text("measure")
        await page.get_by_role("link", name="All versions and jobs").click()
        await expect(versions).to_have_count(2)
