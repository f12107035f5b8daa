"""The graph of a dataflow in a real browser: its order, its groups, and that all of it is to be seen."""

from __future__ import annotations

import pickle
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import pytest
from playwright.async_api import expect

from aredun import task
from tests.support.browser import DESKTOP, PHONE, Watched, open_page
from tests.support.dataflow import make_samples
from tests.support.graph_pages import check_drawing, check_first_view, look, open_graph, resize, settle
from tests.support.server import serve

if TYPE_CHECKING:
    from playwright.async_api import Browser, Page, Route

    from aredun.backend import RedunBackendDb
    from aredun.scheduler import Scheduler

redun_namespace = "graphs"

DOWN = "?direction=downstream"

pytestmark = pytest.mark.parametrize("dialect", ["sqlite"], indirect=True)


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["1440", "390"])
async def test_the_data_go_from_left_to_right(
    browser: Browser, backend: RedunBackendDb, redun_backend: Any, size: dict[str, int]
) -> None:
    """Both ways; calls tell their arguments; what is in sight can be read, nothing overlaps or is cut."""
    graph, genome, merged = make_samples(4, failed=1)
    graph.insert(redun_backend)
    async with serve(backend) as served:
        watched = await open_page(browser, size)
        page = watched.page
        await open_graph(page, served.url, merged)
        seen = await look(page)
        check_first_view(seen)
        await watched.shoot(f"dataflow-upstream-{size['width']}")
        if size is DESKTOP:
            check_drawing(seen)
            # What was given, three steps for each of three samples, their results, and the merge.
            assert sorted(seen["titles"]).count("trim") == 3
            assert len(seen["titles"]) == 1 + 3 * 7 + 2
            left = {title: box[0] for title, box in zip(seen["titles"], seen["boxes"], strict=True)}
            assert left["'s0001.fastq'"] < left["trim"] < left["align"] < left["call"] < left["merge"]
            assert left["merge"] < left["'merged.vcf'"]
            assert set(seen["titles"]) <= set(seen["texts"])
            arguments = [text for text in seen["texts"] if text.startswith("'s0001.fq', 'gen")]
            assert len(arguments) == 1
        await page.get_by_role("button", name="Show everything").click()
        check_drawing(await look(page))
        await page.get_by_role("button", name="In words").click()
        await expect(page.locator(".words")).to_contain_text("first was made of:")
        await expect(page.locator(".words")).not_to_contain_text("derives from")
        await open_graph(page, served.url, genome, DOWN)
        seen = await look(page)
        check_first_view(seen)
        await watched.shoot(f"dataflow-downstream-{size['width']}")
        await page.get_by_role("button", name="Show everything").click()
        await settle(page)
        seen = await look(page)
        check_drawing(seen)
        left = {title: box[0] for title, box in zip(seen["titles"], seen["boxes"], strict=True)}
        assert left["'genome.fasta'"] < left["align"] < left["call"] < left["'merged.vcf'"]
        legend = await page.locator(".legend").bounding_box()
        assert legend is not None
        assert legend["x"] >= 0
        assert legend["x"] + legend["width"] <= size["width"]
        assert await page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
        assert watched.problems == []


async def test_many_alike_are_one_box(browser: Browser, backend: RedunBackendDb, redun_backend: Any) -> None:
    """A hub of 10,000 edges is a handful of boxes with counts and failures, which unfold where they stand."""
    graph, genome, _ = make_samples(1_000, failed=2)
    graph.insert(redun_backend)
    async with serve(backend) as served:
        watched = await open_page(browser, DESKTOP)
        page = watched.page
        await open_graph(page, served.url, genome, DOWN)
        await expect(page.locator(".graph-status")).to_contain_text("4,003 nodes, 7 boxes")
        seen = await look(page)
        check_first_view(seen)
        check_drawing(seen)
        assert {"\u00d71,000 +", "2 failed"} <= set(seen["texts"])
        # It was drawn long before all edges were there.
        assert await page.evaluate("aredunGraph.canvas.stats.first < aredunGraph.view.lastEdge")
        await watched.shoot("dataflow-hub")
        await resize(page, PHONE)
        check_first_view(await look(page))
        await watched.shoot("dataflow-hub-390")
        await resize(page, DESKTOP)
        await _check_unfolding(watched)
        # An address leads to one among many.
        await page.keyboard.press("Escape")
        key = await page.evaluate(
            "aredunGraph.scene.boxes.find((box) => box.task === 'lab.align').members[90].key"
        )
        await page.evaluate("(key) => { location.hash += `&node=${key}`; }", key)
        panel = page.get_by_role("complementary", name="Details")
        await expect(panel.locator(".crumbs")).to_have_text("call")
        assert await page.evaluate("aredunGraph.canvas.selected.key") == key
        await page.get_by_role("button", name="Put unfolded groups together again").click()
        await expect(page.locator(".graph-status")).to_contain_text("7 boxes")
        assert watched.problems == []


async def _check_unfolding(watched: Watched) -> None:
    page = watched.page
    await page.get_by_role("searchbox", name="Search this graph").fill("lab.call")
    await page.keyboard.press("Enter")
    panel = page.get_by_role("complementary", name="Details")
    await expect(panel.get_by_role("heading", level=2)).to_have_text("1,000 \u00d7 call")
    await expect(panel).to_contain_text("2 calls failed")
    before = await page.evaluate("aredunGraph.canvas.selected.x")
    await panel.get_by_role("button", name="Unfold").click()
    await settle(page)
    seen = await look(page)
    assert seen["titles"].count("call") == 25
    unfolded = await page.evaluate(
        "aredunGraph.scene.boxes.filter((box) => box.task === 'lab.call').map((box) => box.x)"
    )
    assert set(unfolded) == {before}
    await page.get_by_role("button", name="Show everything").click()
    seen = await look(page)
    check_drawing(seen)
    # Those that failed come first, and are not among the rest.
    failed = await page.evaluate(
        """() => {
            const { scene, canvas } = aredunGraph;
            const isFailed = (node) => canvas.labels.isFailed(node);
            const failed = scene.boxes.filter((box) => box.members.some(isFailed));
            return failed.map((box) => box.members.length);
        }"""
    )
    assert failed == [1, 1]
    await watched.shoot("dataflow-hub-unfolded")


async def test_a_drawing_is_looked_over_and_saved(
    browser: Browser, backend: RedunBackendDb, redun_backend: Any
) -> None:
    """Saved as PNG and SVG, whole, texts as text; a map shows what is out of sight; lines are told."""
    graph, genome, _ = make_samples(8)
    graph.values[0] = {**graph.values[0], "value": pickle.dumps("<b>&genome", protocol=3)}
    graph.insert(redun_backend)
    async with serve(backend) as served:
        watched = await open_page(browser, DESKTOP)
        page = watched.page
        await open_graph(page, served.url, genome, DOWN)
        seen = await look(page)
        await _check_saving(page, seen)
        await _check_map(watched)
        assert watched.problems == []


async def _check_saving(page: Page, seen: dict[str, Any]) -> None:
    async with page.expect_download() as saving:
        await page.get_by_role("button", name="Save as a drawing (SVG)").click()
    saved = await saving.value
    assert saved.suggested_filename.endswith(".svg")
    drawing = ElementTree.fromstring(Path(await saved.path()).read_bytes())
    written = {element.text for element in drawing.iter("{http://www.w3.org/2000/svg}text")}
    assert {text for text in seen["texts"] if not text.endswith("\u2026")} <= written
    assert "'<b>&genome'" in written
    async with page.expect_download() as saving:
        await page.get_by_role("button", name="Save as a picture (PNG)").click()
    picture = Path(await (await saving.value).path()).read_bytes()
    assert picture.startswith(b"\x89PNG\r\n\x1a\n")
    assert picture.endswith(b"IEND\xaeB`\x82")
    bounds = await page.evaluate("aredunGraph.scene.bounds")
    # Twice as sharp as the screen, with a margin.
    assert int.from_bytes(picture[16:20]) == pytest.approx(2 * (bounds["right"] - bounds["left"] + 48), abs=1)
    assert int.from_bytes(picture[20:24]) == pytest.approx(2 * (bounds["bottom"] - bounds["top"] + 48), abs=1)


async def _check_map(watched: Watched) -> None:
    page = watched.page
    minimap = page.locator(".minimap")
    await expect(minimap).to_be_hidden()
    link = await page.evaluate(
        """() => {
            const { scene, canvas, width } = aredunGraph;
            const link = scene.links.find(({ from, to }) => to.task === "lab.call" && from.inputs[0]);
            const place = canvas.canvas.getBoundingClientRect();
            const { scale, x, y } = canvas.view;
            return [place.x + ((link.from.x + width + link.to.x) / 2) * scale + x,
                    place.y + ((link.from.y + link.to.y) / 2 + 28) * scale + y];
        }"""
    )
    await page.mouse.move(*link)
    await expect(page.get_by_role("tooltip")).to_have_text("first of call")
    await page.get_by_role("button", name="Zoom in").click(click_count=6)
    await expect(minimap).to_be_visible()
    before = await page.evaluate("({ ...aredunGraph.canvas.view })")
    await minimap.click(position={"x": 20, "y": 20})
    after = await page.evaluate("({ ...aredunGraph.canvas.view })")
    assert after["scale"] == before["scale"]
    assert after["x"] > before["x"]
    await watched.shoot("dataflow-minimap")


@task()
def report(path: str, number: int) -> str:
    """Make something of a text."""
    return f"{path} {number}"


@task()
def reports(path: str, count: int) -> list[str]:
    """Make several."""
    return [report(path, number) for number in range(count)]


async def test_calls_join_while_a_run_goes_on(
    browser: Browser, backend: RedunBackendDb, scheduler: Scheduler
) -> None:
    """What follows from a value appears beside what stands; a look inside a call shows its calls."""
    await scheduler.run(reports("a.txt", 2))
    async with serve(backend) as served:
        watched = await open_page(browser, DESKTOP)
        page = watched.page
        given = (await served.get("/api/query?type=Value&value_type=builtins.str"))["items"]
        [start] = [value["value_hash"] for value in given if value["preview"] == "'a.txt'"]
        await open_graph(page, served.url, start, DOWN)
        await expect(page.locator("#live")).to_have_text("Live")
        seen = await look(page)
        assert seen["titles"].count("report") == 2
        assert {"'a.txt', 0", "'a.txt', 1"} <= set(seen["texts"])
        standing = "Object.fromEntries(aredunGraph.scene.boxes.map(({ key, x, y }) => [key, [x, y]]))"
        before = await page.evaluate(standing)
        await scheduler.run(reports("a.txt", 3))
        await page.wait_for_function(f"() => aredunGraph.scene.boxes.length === {len(before) + 2}")
        after = await page.evaluate(standing)
        assert before.items() <= after.items()
        await page.get_by_role("button", name="Lay the graph out again").click()
        await settle(page)
        seen = await look(page)
        check_drawing(seen)
        assert seen["titles"].count("report") == 3
        await open_graph(page, served.url, "-", DOWN)
        # The latest execution may be another tomorrow: the address names this one.
        latest = (await served.get("/api/executions"))["items"][0]["id"]
        await expect(page).to_have_url(f"{served.url}/#/dataflow/{latest}{DOWN}")
        await page.get_by_role("link", name="Inside").click()
        await expect(page).to_have_url(f"{served.url}/#/dataflow/{latest}?direction=inside")
        await expect(page.get_by_role("heading", level=1)).to_have_text("Inside reports")
        await settle(page)
        seen = await look(page)
        check_drawing(seen)
        assert seen["titles"].count("report") == 3
        assert seen["titles"].count("reports") == 0
        await watched.shoot("dataflow-inside")
        await _check_lines_in_the_panel(page, served.url)
        assert watched.problems == []


async def _check_lines_in_the_panel(page: Page, url: str) -> None:
    """What a pointer is told of a line is there for keys and fingers, too, and leads on."""
    call = await page.evaluate(
        "aredunGraph.scene.boxes.find(({ task }) => task === 'graphs.report').node.hash"
    )
    await open_graph(page, url, call)
    await page.locator("canvas.graph").focus()
    await page.keyboard.press("Home")
    lines = page.locator(".box-links")
    await expect(lines).to_contain_text("path of report, by way of reports")
    await lines.get_by_role("button", name="'a.txt'").click()
    await expect(page).to_have_url(re.compile("node="))
    await expect(lines).to_contain_text("path of report, by way of reports")
    await page.get_by_role("button", name="Close").click()
    await expect(page.locator(".panel")).to_be_hidden()


async def test_an_address_tells_what_is_seen(
    browser: Browser, backend: RedunBackendDb, redun_backend: Any
) -> None:
    """The beginning of an id becomes the whole; groups that were unfolded are so after a reload."""
    graph, genome, _ = make_samples(30, failed=1)
    graph.insert(redun_backend)
    async with serve(backend) as served:
        watched = await open_page(browser, DESKTOP)
        page = watched.page
        await open_graph(page, served.url, genome[:9], DOWN)
        await expect(page).to_have_url(f"{served.url}/#/dataflow/{genome}{DOWN}")
        await expect(page.get_by_role("link", name="Where it comes from")).to_have_attribute(
            "href", f"#/dataflow/{genome}"
        )
        await page.evaluate(
            "aredunGraph.view.unfold(aredunGraph.scene.boxes.find((box) => box.task === 'lab.call'))"
        )
        await settle(page)
        before = await page.evaluate(_MEMBERS)
        assert sorted(before) == [1] * 24 + [6]
        await page.reload()
        await expect(page.locator(".graph-status")).to_contain_text("31 boxes")
        await settle(page)
        assert await page.evaluate(_MEMBERS) == before
        # What failed stands alone, as it did.
        assert await page.evaluate(
            "(({ scene, canvas: { labels } }) =>"
            " scene.boxes.some((box) => !box.isGroup && labels.isFailed(box.node)))(aredunGraph)"
        )
        check_first_view(await look(page))
        assert watched.problems == []


_MEMBERS = (
    "aredunGraph.scene.boxes.filter(({ task }) => task === 'lab.call').map((box) => box.members.length)"
)


async def test_what_is_not_laid_out_says_so(
    browser: Browser, backend: RedunBackendDb, redun_backend: Any
) -> None:
    """A drawing that is too large, is cut, or has no layout tells so, and what can be done."""
    graph, _, merged = make_samples(4)
    graph.insert(redun_backend)
    async with serve(backend) as served:
        watched = await open_page(browser, DESKTOP)
        page = watched.page
        await _limit(page, "dataflow", "MAX_EDGES = 50000", "MAX_EDGES = 30")
        reason = {"code": "unavailable", "message": "too many graphs wait for their layout: try again soon"}
        await page.route("**/api/layout", lambda route: route.fulfill(status=503, json=reason))
        await page.goto(f"{served.url}/#/dataflow/{merged}")
        status = page.locator(".graph-status")
        await expect(status).to_contain_text("The first 30 edges")
        await expect(status).to_contain_text("not laid out: too many graphs wait for their layout: try again")
        await page.get_by_role("button", name="Load more edges").click()
        await expect(status).to_contain_text("58 edges, 31 nodes; not laid out")
        await expect(page.get_by_role("button", name="Load more edges")).to_be_hidden()
        await page.unroute("**/api/layout")
        await page.get_by_role("button", name="Lay the graph out again").click()
        await expect(status).to_have_text("58 edges, 31 nodes")
        await settle(page)
        check_first_view(await look(page))
        await _limit(page, "graph_layout", "MAX_BOXES = 2000", "MAX_BOXES = 20")
        await page.reload()
        await expect(status).to_contain_text("not laid out: more than 20 boxes. Fold boxes with C")
        await expect(page.get_by_role("button", name="Lay the graph out again")).to_be_hidden()
        # As it grew, lines lead behind boxes; laid out they never do.
        assert (await look(page))["crossings"]
        await watched.shoot("dataflow-not-laid-out")
        await page.locator("canvas.graph").focus()
        await page.keyboard.press("Home")
        await page.keyboard.press("c")
        await expect(status).not_to_contain_text("not laid out")
        assert [problem for problem in watched.problems if "503" not in problem] == []


async def _limit(page: Page, module: str, written: str, instead: str) -> None:
    """Have a module of the viewer bounds that a small graph meets."""

    async def answer(route: Route) -> None:
        source = await (await route.fetch()).text()
        assert written in source
        await route.fulfill(body=source.replace(written, instead), content_type="text/javascript")

    await page.route(f"**/static/{module}.js", answer)
