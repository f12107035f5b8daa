"""The graph of a run while it goes on, in a real browser: boxes come and change their colours, none moves."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import pytest
from playwright.async_api import expect

from aredun import task
from tests.support.browser import DESKTOP, PHONE, open_page, view
from tests.support.graph_pages import settle

if TYPE_CHECKING:
    from playwright.async_api import Browser, Page

    from aredun.backend import RedunBackendDb
    from aredun.scheduler import Scheduler

redun_namespace = "live"

# What each job waits for.
gates: dict[str, asyncio.Event] = defaultdict(asyncio.Event)

pytestmark = pytest.mark.parametrize("dialect", ["sqlite"], indirect=True)


@task()
async def trim(sample: str) -> str:
    """Wait, then shorten a text."""
    await gates[sample].wait()
    return sample[:2]


@task()
async def align(read: str, genome: str) -> str:
    """Wait, then put texts together, or fail."""
    await gates[read].wait()
    if read == "s2":
        raise ValueError("no such read")
    return f"{read} {genome}"


@task()
def main(samples: list[str]) -> list[str]:
    """Process some samples."""
    return [align(trim(sample), "genome.fasta") for sample in samples]


@task()
async def many(samples: list[str]) -> list[str]:
    """Process very many samples."""
    return await asyncio.gather(*[trim(sample) for sample in samples])


# Of every box what is written on it, where it stands, and the colour of its stripe.
_LOOK = """() => {
    const { scene, canvas, height } = aredunGraph;
    const { view, ratio, labels, context, colours } = canvas;
    canvas.draw();
    const { width: wide, height: high } = canvas.canvas;
    const copy = new OffscreenCanvas(wide, high).getContext("2d", { willReadFrequently: true });
    copy.drawImage(canvas.canvas, 0, 0);
    const paint = (colour) => { context.fillStyle = colour; return context.fillStyle; };
    const parts = (colour) => [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
    const named = ["accent", "running", "failed", "cached", "abandoned", "surface", "sunken"]
        .map((name) => [name, parts(paint(colours[name]))]);
    // A stripe is only a pixel or two wide where the drawing is small: its colour is the nearest one.
    const read = (x, y) => {
        if (x < 0 || y < 0 || x * ratio >= wide || y * ratio >= high) return "out of sight";
        const { data } = copy.getImageData(Math.round(x * ratio), Math.round(y * ratio), 1, 1);
        const far = (colour) => Math.hypot(...colour.map((part, at) => part - data[at]));
        return named.reduce((one, other) => (far(other[1]) < far(one[1]) ? other : one))[0];
    };
    return {
        scale: view.scale,
        size: [canvas.width, canvas.height],
        boxes: scene.boxes.map((box) => {
            const [x, y] = [box.x * view.scale + view.x, box.y * view.scale + view.y];
            const middle = y + (height * view.scale) / 2;
            return {
                kind: box.kind, key: box.key, title: labels.title(box), text: labels.subtitle(box),
                x, y, stands: [box.x, box.y],
                colour: box.kind === "call" ? read(x + 2 * view.scale, middle) : "",
            };
        }),
    };
}"""


class Graph:
    """A graph that is watched while it grows: nothing that stood may stand elsewhere.

    Parameters
    ----------
    page : Page
        Shows it.
    """

    def __init__(self, page: Page) -> None:
        self.page = page
        self.standing: set[tuple[Any, ...]] = set()
        self.has_begun = False

    async def see(self, *expected: tuple[str, str, str]) -> None:
        """Wait until the calls are these: name, what is written below, colour."""
        seen: list[tuple[str, str, str]] = []
        for _ in range(100):
            look = await self.page.evaluate(_LOOK)
            if self.has_begun:
                self.check(look["boxes"])
            calls = [box for box in look["boxes"] if box["kind"] == "call"]
            seen = sorted((box["title"], box["text"], box["colour"]) for box in calls)
            is_told = [told[:2] for told in seen] == sorted(told[:2] for told in expected)
            if is_told and all(told in expected for told in seen if told[2] != "out of sight"):
                if not self.has_begun:
                    # The first time it is laid out at once.
                    await self.page.wait_for_load_state("networkidle")
                    await self.rest()
                    self.has_begun = True
                return
            await self.page.wait_for_timeout(100)
        raise AssertionError(f"{seen} and not {sorted(expected)}")

    def check(self, boxes: list[dict[str, Any]]) -> None:
        """Assert that where a call or a value stood one of its kind stands, and no two stand at one place."""
        stands = [(box["kind"] == "call" and box["title"], *box["stands"]) for box in boxes]
        gone = self.standing - set(stands)
        # A job that calls others leaves its place to them; what is returned is the result.
        assert all(name in ("main", "many", False) for name, *_ in gone), gone
        assert len({place for _, *place_ in stands for place in [tuple(place_)]}) == len(stands)
        self.standing = set(stands)

    async def rest(self) -> dict[str, Any]:
        """Return what is to be seen once nothing moves and all is named."""
        still = """() => {
            const { scene, canvas } = aredunGraph;
            return !scene.moves && !canvas.gliding && !canvas.labels.timer;
        }"""
        await self.page.wait_for_function(still)
        look: dict[str, Any] = await self.page.evaluate(_LOOK)
        return look

    async def click(self, title: str, text: str) -> None:
        """Click a box."""
        boxes = (await self.rest())["boxes"]
        box = next(box for box in boxes if (box["title"], box["text"]) == (title, text))
        await self.page.locator("canvas.graph").click(position={"x": box["x"] + 30, "y": box["y"] + 10})


async def test_a_run_is_watched_in_its_graph(
    browser: Browser, backend: RedunBackendDb, scheduler: Scheduler
) -> None:
    """Running, cached, done, failed: each where it stands; at the end it is the graph that a visitor gets."""
    gates.clear()
    gates["s1.fastq"].set()
    await scheduler.run(trim("s1.fastq"))
    run = asyncio.create_task(scheduler.run(main(["s1.fastq", "s2.fastq", "s3.fastq"])))
    async with view(browser, backend, "execution/-", DESKTOP) as watched:
        page = watched.page
        phone = await open_page(browser, PHONE, "dark", watched.url)
        await page.get_by_role("link", name="Graph of the run").click()
        await phone.page.goto(page.url)
        graphs = [Graph(page), Graph(phone.page)]
        await expect(page.get_by_role("heading", level=1)).to_have_text("Inside main")
        await expect(page.locator(".graph-status")).to_contain_text("3 jobs running")
        cached = ("trim", "'s1.fastq'", "cached")
        trims, aligns = [("trim", "running", "running")] * 2, [("align", "running", "running")] * 2
        await graphs[0].see(cached, *trims, aligns[0])
        await graphs[0].click("align", "running")
        panel = page.get_by_role("complementary", name="Details")
        await expect(panel).to_contain_text("It has not ended yet")
        await watched.shoot("live-running-1440")
        gates["s2.fastq"].set()
        gates["s1"].set()
        done = [("trim", "'s2.fastq'", "accent"), ("align", "'s1', 'genome.fasta'", "accent")]
        await graphs[0].see(cached, *done, trims[0], aligns[0])
        await graphs[1].see(cached, *done, trims[0], aligns[0])
        # The job that was chosen has become a call.
        await expect(panel).to_contain_text("'s1 genome.fasta'")
        await panel.get_by_role("button", name="Close").click()
        await phone.shoot("live-running-390")
        gates["s3"].set()
        gates["s3.fastq"].set()
        last = [("trim", "'s3.fastq'", "accent"), ("align", "'s3', 'genome.fasta'", "accent")]
        await graphs[0].see(cached, *done, *last, aligns[0])
        gates["s2"].set()
        with pytest.raises(ValueError, match="no such read"):
            await run
        last.append(("align", "'s2', 'genome.fasta'", "failed"))
        for graph in graphs:
            await graph.see(cached, *done, *last)
            await expect(graph.page.locator(".graph-status")).to_have_text("27 edges, 16 nodes")
            await check_finished(graph)
        await watched.shoot("live-finished-1440")
        await phone.shoot("live-finished-390")
        assert phone.problems == []


async def check_finished(graph: Graph) -> None:
    """Assert that the end of a run is in sight and can be read, and that it is what a visitor finds later."""
    page = graph.page
    look = await graph.rest()
    [root] = [box for box in look["boxes"] if box["key"] == "root"]
    assert 0 <= root["x"] < root["x"] + 216 * look["scale"] <= look["size"][0]
    assert look["scale"] >= 0.5
    keys = sorted(box["key"] for box in look["boxes"])
    await page.reload()
    await expect(page.locator(".graph-status")).to_have_attribute("data-done", "true")
    await settle(page)
    later = await page.evaluate(_LOOK)
    assert sorted(box["key"] for box in later["boxes"]) == keys


async def test_very_many_that_run_are_one_box(
    browser: Browser, backend: RedunBackendDb, scheduler: Scheduler
) -> None:
    """It tells how many run, and stays where it is when they end."""
    gates.clear()
    names = [f"{number:02}.fastq" for number in range(70)]
    run = asyncio.create_task(scheduler.run(many(names)))
    async with view(browser, backend, "", DESKTOP) as watched:
        await watched.go("dataflow/-?direction=inside")
        graph = Graph(watched.page)
        await graph.see(("trim", "70 running", "running"))
        await watched.shoot("live-group")
        for name in names[:8]:
            gates[name].set()
        await graph.see(("trim", "62 running", "running"))
        for name in names:
            gates[name].set()
        await run
        await graph.see(("trim", "", "accent"))
