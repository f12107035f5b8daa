"""Whoever uses the keys only, or a screen reader: everything is reached, told and left again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from playwright.async_api import expect

from aredun.query import CallGraphQuery
from tests.server.test_viewer_comfort import find_serious
from tests.support.browser import DESKTOP, PHONE, open_page, view
from tests.support.dataflow import make_samples
from tests.support.failing import run_failing
from tests.support.graph_pages import open_graph
from tests.support.server import serve

if TYPE_CHECKING:
    from playwright.async_api import Browser, Page

    from aredun.backend import RedunBackendDb
    from aredun.scheduler import Scheduler

pytestmark = pytest.mark.parametrize("dialect", ["sqlite"], indirect=True)
DOWN = "?direction=downstream"


async def find_in_both(page: Page) -> list[list[object]]:
    """Return what axe-core finds serious or critical, in both colours."""
    serious = await find_serious(page)
    await page.emulate_media(color_scheme="dark")
    serious += await find_serious(page, runOnly=["color-contrast"])
    await page.emulate_media(color_scheme="light")
    return serious


async def press_until(page: Page, key: str, rule: str) -> None:
    """Press a key until the focus is on, or in, what a rule names."""
    for _ in range(40):
        await page.keyboard.press(key)
        if await page.evaluate("(rule) => Boolean(document.activeElement.closest(rule))", rule):
            return
    raise AssertionError(f"{key} does not lead to {rule}")


async def skip_to_content(page: Page) -> None:
    """Go by keys to the content, as if the page had just been opened."""
    await page.evaluate("document.activeElement.blur()")
    await press_until(page, "Tab", ".skip")
    await page.keyboard.press("Enter")
    await expect(page.locator("main")).to_be_focused()


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["1280", "390"])
async def test_screen_readers_find_nothing_serious(
    browser: Browser, backend: RedunBackendDb, scheduler: Scheduler, redun_backend: Any, size: dict[str, int]
) -> None:
    """axe-core finds nothing serious or critical on any view, with what opens on it, in both colours."""
    await run_failing(scheduler)
    graph, genome, _ = make_samples(16, failed=1)
    graph.insert(redun_backend)
    query = CallGraphQuery(backend, filter_types=["Job"]).filter_task_names(["lab.parse"])
    failed = await query.filter_job_statuses(["FAILED"]).first()
    assert failed is not None
    execution = f"execution/{failed.execution_id}"
    shown = {
        "executions": ".run",
        execution: ".job-row",
        f"{execution}/tree/{failed.id}": ".panel .frame-line",
        f"{execution}/timeline": ".bar-span",
        f"{execution}/tasks": ".counts",
        f"job/{failed.id}": ".frame-line .code-keyword",
        "tasks": ".task-row",
        "compare/-/-": ".side",
        f"dataflow/{failed.execution_id}": ".legend",
        f"dataflow/{genome}{DOWN}&as=words": ".words button",
    }
    async with view(browser, backend, "executions", size) as watched:
        page = watched.page
        for route, rule in shown.items():
            await page.evaluate("(route) => { location.hash = `#/${route}`; }", route)
            await expect(page.locator(rule).first).to_be_visible()
            serious = await find_in_both(page)
            assert (route, serious) == (route, [])
        await open_graph(page, watched.url, genome, DOWN)
        await page.get_by_label("Search this graph").fill("lab.align")
        await page.keyboard.press("Enter")
        await expect(page.locator(".panel .group-members button").first).to_be_visible()
        assert await find_in_both(page) == []
        await page.get_by_role("combobox", name="Find a record").fill("lab")
        await expect(page.locator("#found [role=option]").first).to_be_visible()
        assert await find_in_both(page) == []
        await watched.shoot(f"found-{size['width']}")


async def test_keys_lead_to_a_job_and_back(
    browser: Browser, backend: RedunBackendDb, scheduler: Scheduler
) -> None:
    """From the skip link to the rows, into the details of one and back to where that was opened."""
    await run_failing(scheduler)
    async with view(browser, backend, "execution/-") as watched:
        page = watched.page
        await expect(page.locator(".job-row").nth(1)).to_be_visible()
        await skip_to_content(page)
        await press_until(page, "Tab", ".job-row")
        await page.keyboard.press("ArrowDown")
        row = page.locator(".job-row").nth(1)
        await expect(row).to_be_focused()
        panel = page.get_by_role("complementary", name="Details")
        for leave in ("Escape", "Enter"):
            await page.keyboard.press("Enter")
            await expect(panel.locator("h2")).to_be_visible()
            await expect(row).to_have_attribute("aria-selected", "true")
            await press_until(page, "Tab", ".panel")
            await page.keyboard.press(leave)
            await expect(panel).to_be_hidden()
            await expect(row).to_be_focused()


async def test_a_graph_is_told(browser: Browser, backend: RedunBackendDb, redun_backend: Any) -> None:
    """What keys choose is said, with what leads there and on; its details are entered and left by keys."""
    graph, genome, _ = make_samples(16, failed=1)
    graph.insert(redun_backend)
    async with serve(backend) as served:
        watched = await open_page(browser, url=served.url)
        page = watched.page
        await open_graph(page, served.url, genome, DOWN)
        await skip_to_content(page)
        await press_until(page, "Tab", "canvas.graph")
        said = page.locator(".graph-place [aria-live=polite]")
        await page.keyboard.press("ArrowRight")
        await expect(said).to_have_text(
            "Value 'genome.fasta'. Nothing before it. To 16 \u00d7 align, 16 \u00d7 call."
        )
        await page.keyboard.press("ArrowRight")
        await expect(said).to_contain_text("Group 16 \u00d7 align. From 'genome.fasta'")
        canvas, panel = page.locator("canvas.graph"), page.get_by_role("complementary", name="Details")
        await expect(panel.get_by_role("heading", level=2)).to_have_text("16 \u00d7 align")
        await page.keyboard.press("Enter")
        await expect(panel.get_by_role("button", name="Unfold")).to_be_focused()
        await press_until(page, "Tab", ".group-members")
        # What comes meanwhile takes nobody away from where they are.
        await page.evaluate("aredunGraph.view.panel.refresh()")
        await expect(panel.locator(".group-members button").first).to_be_focused()
        await page.keyboard.press("Enter")
        await expect(panel.locator(".crumbs")).to_have_text("call")
        await expect(panel).to_be_focused()
        await page.keyboard.press("Escape")
        await expect(panel).to_be_hidden()
        await expect(canvas).to_be_focused()
        await expect(said).to_have_text("")
        assert watched.problems == []


@pytest.mark.parametrize("direction", ["downstream", "inside"])
async def test_a_graph_is_read_as_a_list(
    browser: Browser, backend: RedunBackendDb, redun_backend: Any, direction: str
) -> None:
    """Boxes in the direction of the data, each with what leads there and on; one opens its details."""
    graph, genome, _ = make_samples(3, failed=1)
    graph.insert(redun_backend)
    start = genome if direction == "downstream" else graph.calls[-1]["call_hash"]
    async with serve(backend) as served:
        watched = await open_page(browser, PHONE, url=served.url)
        page = watched.page
        await open_graph(page, served.url, start, f"?direction={direction}")
        await page.get_by_role("button", name="In words").click()
        button = page.get_by_role("button", name="call('s0001.bam', 'genome.fasta')")
        told = page.locator(".words li").filter(has=button)
        before = "From 's0001.bam', 'genome.fasta'." if direction == "downstream" else "Nothing before it."
        await expect(told.locator(".by-way")).to_have_text([before, "To 's0001.vcf'."])
        await button.focus()
        await page.keyboard.press("Enter")
        panel = page.get_by_role("complementary", name="Details")
        await expect(panel.locator(".crumbs")).to_have_text("call")
        await expect(panel).to_be_focused()
        await watched.shoot(f"dataflow-list-{direction}")
        await page.keyboard.press("Escape")
        await expect(panel).to_be_hidden()
        await expect(button).to_be_focused()
        assert watched.problems == []
