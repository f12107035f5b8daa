"""The demo and a cohort of 1,810 jobs in a real browser, wide and narrow, as a person goes through them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from playwright.async_api import expect

from aredun import RedunBackendDb
from tests.pictures.taking import show_comparison, show_search, show_why
from tests.support.browser import DESKTOP, PHONE, check_page, view
from tests.support.graph_pages import check_drawing, check_first_view, look, open_graph, settle

if TYPE_CHECKING:
    from playwright.async_api import Browser

    from tests.support.browser import Watched

each_size = pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["1440", "390"])


async def check_failures(watched: Watched, width: int) -> None:
    """From the banner to the job at fault, and from one failure to the next."""
    page = watched.page
    banner = page.get_by_role("region", name="Why it failed")
    await expect(banner).to_contain_text(re.compile(r"ValueError\s*s00\d\d has no reads to align to"))
    path = banner.get_by_role("listitem")
    await expect(path).to_have_text([re.compile(name) for name in ("main", "batch", "process", "align")])
    await watched.shoot(f"cohort-failed-{width}")
    await banner.get_by_role("link", name="Show the job at fault").click()
    panel = page.get_by_role("complementary", name="Details")
    await expect(panel.locator(".frame-line")).to_contain_text('raise ValueError(f"{sample} has no reads')
    await expect(page.locator(".job-row[aria-selected=true]")).to_be_in_viewport()
    await panel.get_by_role("link", name="cohort.main").click()
    for number in (1, 2, 3):
        await panel.get_by_role("link", name="Next failed").click()
        await expect(panel.locator(".next-failed")).to_contain_text(f"Failure {number} of 3")
        await expect(page.locator(".job-row[aria-selected=true]")).to_be_in_viewport()
    await expect(panel.get_by_role("link", name="Next failed")).to_have_count(0)
    await watched.shoot(f"cohort-fault-{width}")
    await page.get_by_role("link", name="Close the details").click()


async def check_low_window(watched: Watched, size: dict[str, int]) -> None:
    """Between the bars of a phone's browser the head fills the window: the rows are scrolled to."""
    page = watched.page
    await page.set_viewport_size({"width": size["width"], "height": 600})
    await check_page(page)
    await page.get_by_role("treeitem").first.focus()
    await page.keyboard.press("End")
    await expect(page.locator(".row:focus")).to_contain_text("33 more cohort.process")
    await expect(page.locator(".row:focus")).to_be_in_viewport(ratio=1)
    place = await page.locator(".rows").bounding_box()
    assert place is not None
    assert place["height"] > 150
    await page.set_viewport_size({"width": size["width"], "height": size["height"]})


async def check_rows(watched: Watched, width: int) -> None:
    """Many of one task are one row, but none that failed is hidden in it; numbers lead to their jobs."""
    page = watched.page
    await page.get_by_role("treeitem").first.focus()
    await page.keyboard.press("Home")
    more = page.locator(".fold-row").first
    # Whatever the order in which they began, the failures stand among the twelve that are shown.
    failed = page.locator(".job-row[data-status=FAILED]")
    for _ in range(12):
        if await more.is_visible():
            break
        await page.keyboard.press("PageDown")
    await expect(more).to_contain_text("33 more cohort.process")
    await expect(more).to_contain_text("33 done" if width > PHONE["width"] else "more")
    await page.get_by_role("link", name="8 failed").click()
    result = page.locator(".filter-result")
    await expect(result).to_have_text("8 of 1,806 jobs")
    await expect(failed).to_have_count(8)
    await page.get_by_label("Task", exact=True).select_option("cohort.align")
    await expect(result).to_have_text("3 of 1,806 jobs")
    await watched.shoot(f"cohort-filter-{width}")
    await page.get_by_role("button", name="Clear").click()
    await page.get_by_role("link", name="Tasks", exact=True).last.click()
    table = page.get_by_role("row").filter(has_text="cohort.align")
    await expect(table.get_by_role("cell")).to_have_text(["357", "3", "360"])
    await watched.shoot(f"cohort-tasks-{width}")


@each_size
async def test_a_cohort(browser: Browser, large: dict[str, str], size: dict[str, int]) -> None:
    """Its failures, its rows, its time, what changed when it ran again, and what its genome led to."""
    width = size["width"]
    async with (
        RedunBackendDb(large["cohort"]) as backend,
        view(browser, backend, "execution/~2", size) as watched,
    ):
        page = watched.page
        await check_failures(watched, width)
        await check_low_window(watched, size)
        await check_rows(watched, width)
        await page.get_by_role("link", name="Timeline").click()
        await expect(page.locator(".bar-span[data-status=FAILED]").first).to_be_visible()
        await watched.shoot(f"cohort-timeline-{width}")
        await show_comparison(watched)
        await watched.shoot(f"cohort-compare-{width}")
        await show_search(watched)
        await watched.shoot(f"cohort-search-{width}")
        await open_graph(page, watched.url, "genome.fasta", "?direction=downstream")
        seen = await look(page)
        check_first_view(seen)
        assert any("align" in text for text in seen["texts"])
        await watched.shoot(f"cohort-genome-{width}")
        await page.get_by_role("button", name="Show everything").click()
        check_drawing(await look(page))


@each_size
async def test_the_demo(browser: Browser, large: dict[str, str], size: dict[str, int]) -> None:
    """A file's graph is titled by its path and leads both ways; a job says why it ran again."""
    width = size["width"]
    async with (
        RedunBackendDb(large["demo"]) as backend,
        view(browser, backend, "executions", size) as watched,
    ):
        page = watched.page
        await expect(page.locator(".run")).to_have_count(3)
        await watched.shoot(f"demo-{width}")
        await open_graph(page, watched.url, "sample4.bam")
        await expect(page.get_by_role("heading", level=1)).to_have_text("Dataflow of sample4.bam")
        seen = await look(page)
        check_first_view(seen)
        assert {"sample4.fastq", "genome.fasta", "sample4.bam"} <= {*seen["titles"]}
        await watched.shoot(f"demo-upstream-{width}")
        await page.get_by_role("link", name="What followed", exact=True).click()
        await expect(page.locator(".graph-status")).to_have_attribute("data-done", "true")
        await settle(page)
        seen = await look(page)
        check_first_view(seen)
        assert {"sample4.bam", "sample4.vcf"} <= {*seen["titles"]}
        await watched.shoot(f"demo-downstream-{width}")
        await show_why(watched)
        await watched.shoot(f"demo-why-{width}")
