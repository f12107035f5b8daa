"""Small things in a real browser: tags lead on, runs carry theirs, colours are chosen, ids are copied."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import axe_core_python
import pytest
from playwright.async_api import expect

from aredun.backend import RedunBackendDb
from tests.server.test_server_changes import TASK, start
from tests.support.browser import DESKTOP, PHONE, check_page, view
from tests.support.failing import run_failing
from tests.support.recording import FakeJob

if TYPE_CHECKING:
    from playwright.async_api import Browser, Page

    from aredun.scheduler import Scheduler

pytestmark = pytest.mark.parametrize("dialect", ["sqlite"], indirect=True)
AXE = next(Path(axe_core_python.__file__).parent.rglob("axe.min.js"))
PAPER = "getComputedStyle(document.documentElement).backgroundColor"


async def find_serious(page: Page, **options: object) -> list[list[object]]:
    """Return what axe-core finds serious or critical: the rule, how often, and the first element."""
    if not await page.evaluate("'axe' in globalThis"):
        await page.evaluate(f"{AXE.read_text(encoding='utf-8')}; null")
    serious: list[list[object]] = await page.evaluate(
        "(options) => axe.run(options).then(({ violations }) => violations"
        ".filter(({ impact }) => ['serious', 'critical'].includes(impact))"
        ".map(({ id, nodes }) => [id, nodes.length, nodes[0].html]))",
        {"resultTypes": ["violations"], **options},
    )
    return serious


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["1440", "390"])
async def test_tags_of_a_running_execution_lead_on(
    browser: Browser, backend: RedunBackendDb, database_url: str, size: dict[str, int]
) -> None:
    """A row that appears while the list is watched has its tags; one leads to all that carries it."""
    async with (
        RedunBackendDb(database_url) as writer,
        view(browser, backend, "executions", size) as watched,
    ):
        page = watched.page
        await expect(page.locator(".notice")).to_contain_text("Nothing has run yet")
        root = FakeJob(TASK)
        await writer.record_tags("Execution", root.execution.id, [("project", "atlas 2")])
        await start(writer, root)
        chip = page.locator(".run .tag").filter(has_text="atlas 2")
        await expect(chip).to_be_visible()
        await watched.shoot(f"tags-{size['width']}")
        await chip.click()
        await expect(page.get_by_role("heading", level=1)).to_contain_text("Tagged project=")
        await expect(page.locator(".records li")).to_have_count(1)
        await page.locator(".records a").click()
        await expect(page.locator(".title-line .status")).to_have_text("Running")
        await check_page(page)


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["1440", "390"])
async def test_colours_are_chosen_and_ids_copied(
    browser: Browser, backend: RedunBackendDb, scheduler: Scheduler, size: dict[str, int]
) -> None:
    """The choice of colours outlives the page, against the system's, too; an id goes to the clipboard."""
    await run_failing(scheduler)
    async with view(browser, backend, "execution/-", size) as watched:
        page = watched.page
        await expect(page.locator(".job-row").first).to_be_visible()
        light = await page.evaluate(PAPER)
        await page.get_by_label("Colours").select_option("dark")
        dark = await page.evaluate(PAPER)
        assert dark != light
        await page.reload()
        await expect(page.get_by_label("Colours")).to_have_value("dark")
        assert await page.evaluate(PAPER) == dark
        await watched.shoot(f"dark-{size['width']}")
        await page.emulate_media(color_scheme="dark")
        await page.get_by_label("Colours").select_option("light")
        assert await page.evaluate(PAPER) == light
        await page.get_by_label("Colours").select_option("")
        assert await page.evaluate(PAPER) == dark
        await page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        await page.locator(".job-row").first.click()
        job_id = page.url.rpartition("/")[2]
        await page.get_by_role("button", name="Copy the id").click()
        await expect(page.get_by_role("button", name="Copy the id")).to_have_text("Copied")
        assert await page.evaluate("navigator.clipboard.readText()") == job_id
        await check_page(page)
