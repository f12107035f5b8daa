"""The timeline in a real browser: nested rows, round ticks, zoom by wheel, drag and keys, quiet colours."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

import pytest
from playwright.async_api import expect

from tests.support.browser import DESKTOP, PHONE, check_page, view
from tests.support.failing import run_failing

if TYPE_CHECKING:
    from playwright.async_api import Browser, CDPSession, Page

    from aredun.backend import RedunBackendDb
    from aredun.scheduler import Scheduler

pytestmark = pytest.mark.parametrize("dialect", ["sqlite"], indirect=True)


async def read_ticks(page: Page) -> list[float]:
    """Return the seconds that the ticks say."""
    texts = await page.locator(".ticks span").all_text_contents()
    numbers = [(float(text.split()[0]), text.endswith("ms")) for text in texts]
    return [number / 1000 if is_small else number for number, is_small in numbers]


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["1440", "390"])
async def test_timeline_is_nested(
    browser: Browser, backend: RedunBackendDb, scheduler: Scheduler, size: dict[str, int]
) -> None:
    """Jobs stand below those that called them; what went well is quiet."""
    await run_failing(scheduler)
    async with view(browser, backend, "execution/-/timeline", size) as watched:
        page = watched.page
        rows = page.get_by_role("treeitem")
        await expect(rows.first).to_contain_text("main(3)")
        await expect(rows.nth(1)).to_have_attribute("aria-level", "2")
        # Many of one task are one lane with the bars of all.
        await rows.first.focus()
        await page.keyboard.press("End")
        many = page.locator(".fold-row")
        await expect(many).to_contain_text("18 more lab.qc")
        await expect(many.locator(".bar-span").first).to_be_attached()
        await page.keyboard.press("Home")
        # What went well has no word and no colour of its own.
        await expect(page.locator(".bar-text").filter(has_text="Done")).to_have_count(0)
        await expect(page.locator(".bar-text").filter(has_text="Failed").first).to_be_visible()
        colours = await page.evaluate(
            "() => ['DONE', 'FAILED'].map((status) => getComputedStyle(document.querySelector("
            "`.job-row .bar-span[data-status=${status}]`)).backgroundColor)"
        )
        assert colours[0] != colours[1]
        await check_page(page)


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["1440", "390"])
async def test_timeline_is_zoomed(
    browser: Browser, backend: RedunBackendDb, scheduler: Scheduler, size: dict[str, int]
) -> None:
    """Wheel, dragging, keys and buttons change the time in sight; ticks stay round."""
    await run_failing(scheduler)
    async with view(browser, backend, "execution/-/timeline", size) as watched:
        page = watched.page
        rows = page.get_by_role("treeitem")
        await expect(rows.first).to_contain_text("main(3)")
        whole = await read_ticks(page)
        step = whole[1] - whole[0]
        assert f"{step:.6g}".strip("0.")[0] in "125"
        # What comes above moves the rest down.
        await expect(page.get_by_role("region", name="Why it failed")).to_be_visible()
        line = await page.locator(".axis-line").bounding_box()
        assert line is not None
        middle, height = line["x"] + line["width"] / 2, line["y"] + line["height"] / 2
        await page.mouse.move(middle, height)
        await page.mouse.wheel(0, -600)
        await expect(page.get_by_role("button", name="Show the whole time")).to_be_enabled()
        closer = await read_ticks(page)
        # On a phone there may be room for one tick only.
        assert all(after - before < step for before, after in pairwise(closer))
        assert closer != whole
        await watched.shoot(f"timeline-zoomed-{size['width']}")
        await page.get_by_role("button", name="Show the whole time").click()
        await expect(page.get_by_role("button", name="Show the whole time")).to_be_disabled()
        assert await read_ticks(page) == whole
        await page.mouse.move(line["x"] + line["width"] * 0.6, height)
        await page.mouse.down()
        await page.mouse.move(line["x"] + line["width"] * 0.9, height, steps=3)
        await page.mouse.up()
        await expect(page.locator(".axis output")).to_contain_text("From")
        chosen = await page.locator(".axis output").text_content()
        await rows.first.focus()
        await page.keyboard.press("Shift+ArrowLeft")
        await expect(page.locator(".axis output")).not_to_have_text(chosen or "")
        await page.keyboard.press("+")
        await page.keyboard.press("-")
        await page.keyboard.press("0")
        await expect(page.locator(".axis output")).to_have_text("")
        # Keys of the tree work here, too.
        await page.keyboard.press("ArrowLeft")
        await expect(page.locator(".job-row")).to_have_count(1)
        assert await page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0


async def read_window(page: Page) -> tuple[float, float]:
    """Return the seconds between which the time in sight lies, as the address says."""
    await expect(page).to_have_url(re.compile("from="))
    query = parse_qs(page.url.partition("?")[2])
    return float(query["from"][0]), float(query["to"][0])


async def touch(session: CDPSession, kind: str, *places: tuple[float, float]) -> None:
    """Have fingers touch, move to places, or go."""
    points = [{"x": x, "y": y, "id": number} for number, (x, y) in enumerate(places)]
    await session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})


async def test_fingers_zoom_and_move(browser: Browser, backend: RedunBackendDb, scheduler: Scheduler) -> None:
    """What lies below two fingers stays there, one moves it; the address brings the stretch back."""
    await run_failing(scheduler)
    async with view(browser, backend, "execution/-/timeline", PHONE) as watched:
        page = watched.page
        await expect(page.get_by_role("treeitem").first).to_contain_text("main(3)")
        # What comes above moves the rest down.
        await expect(page.get_by_role("region", name="Why it failed")).to_be_visible()
        line = await page.locator(".axis-line").bounding_box()
        row = await page.get_by_role("treeitem").nth(3).bounding_box()
        assert line is not None
        assert row is not None
        session = await page.context.new_cdp_session(page)

        def at(share: float, down: float) -> tuple[float, float]:
            return line["x"] + line["width"] * share, row["y"] + down

        # Rows are drawn anew below the fingers.
        await touch(session, "touchStart", at(0.4, 20))
        await touch(session, "touchStart", at(0.4, 20), at(0.6, 30))
        for step in range(1, 6):
            wide = 0.06 * step
            await touch(session, "touchMove", at(0.4 - wide, 20 - 4 * step), at(0.6 + wide, 30 + 4 * step))
        await touch(session, "touchEnd")
        begin, end = await read_window(page)
        assert begin / end == pytest.approx(0.375 / 0.625, rel=0.01)
        assert await page.evaluate("visualViewport.scale") == 1
        await watched.shoot("timeline-pinched-390")
        await touch(session, "touchStart", at(0.7, 60))
        for step in range(1, 6):
            await touch(session, "touchMove", at(0.7 - 0.08 * step, 60))
        await touch(session, "touchEnd")
        await expect(page).not_to_have_url(re.compile(f"from={begin}&"))
        moved = await read_window(page)
        assert moved[0] - begin == pytest.approx(0.4 * (end - begin), rel=0.02)
        assert moved[1] - moved[0] == pytest.approx(end - begin, rel=0.001)
        told = await page.locator(".axis output").text_content()
        address = page.url
        await page.goto("about:blank")
        await page.goto(address)
        await expect(page.locator(".axis output")).to_have_text(told or "")
        # It lasts while a job is looked at.
        await page.locator(".job-row").first.click()
        await expect(page.get_by_role("complementary", name="Details")).to_be_visible()
        assert await read_window(page) == moved
        await page.get_by_role("link", name="Close the details").click()
        await page.get_by_role("button", name="Show the whole time").click()
        await expect(page).not_to_have_url(re.compile("from="))


TICKS = [
    (2.99, 900, 0.5, ["0", "0.5 s", "1 s", "1.5 s", "2 s", "2.5 s"]),
    (0.0031, 500, 0.001, ["0", "1 ms", "2 ms", "3 ms"]),
    (47, 500, 10, ["0", "10 s", "20 s", "30 s", "40 s"]),
    (200, 700, 30, ["0", "30 s", "1 min", "1 min 30 s", "2 min", "2 min 30 s", "3 min"]),
    (30_000, 600, 7200, ["0", "2 h", "4 h", "6 h", "8 h"]),
    (400_000, 500, 86_400, ["0", "1 d", "2 d", "3 d", "4 d"]),
]


async def test_ticks_are_round(browser: Browser, backend: RedunBackendDb) -> None:
    """Ticks stand at times that people count in."""
    async with view(browser, backend) as watched:
        page = watched.page
        for seconds, width, step, texts in TICKS:
            found = await page.evaluate(
                """async ([seconds, width]) => {
                    const { chooseStep, tickText } = await import("./static/timeline.js");
                    const step = chooseStep(seconds, width);
                    const numbers = [...Array(Math.floor(seconds / step) + 1).keys()];
                    return [step, numbers.map((number) => tickText(number * step, step))];
                }""",
                [seconds, width],
            )
            assert found == [step, texts]
