"""What a person waits for in the viewer: the first boxes of a graph, frames while it is moved, the page.

    python -m benchmarks.viewer [--edges 10000] [--seconds 3]

A real Chromium without a GPU shows graphs that a server in this process streams. Frames are those that the
browser made while a mouse dragged the graph about. Work is the time that the page's thread had a processor:
unlike the clock, it hardly grows when other programs run. redun has no such page.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import math
import multiprocessing
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from typing import TYPE_CHECKING, Any

from playwright.async_api import async_playwright

from aredun.backend import RedunBackendDb
from benchmarks.support import percentile, print_table, temporary_databases
from tests.support.browser import ARGUMENTS, CHROMIUM, Watched
from tests.support.graph_pages import open_graph
from tests.support.server import serve

if TYPE_CHECKING:
    from playwright.async_api import Browser, CDPSession, Page

CHAINS, HUB = "100 chains that are merged", "a value that a third of all calls took"
WINDOW: Any = {"width": 1440, "height": 900}
# When the first frame after boxes were drawn began, and the times of frames while they are counted.
WATCH = """
globalThis.watch = { frames: [], painted: null };
const step = (now) => {
    watch.frames.push(now);
    if (globalThis.aredunGraph?.canvas.stats.first != null) watch.painted ??= performance.now();
    requestAnimationFrame(step);
};
requestAnimationFrame(step);
"""
TRACED = ["__metadata", "devtools.timeline", "disabled-by-default-devtools.timeline"]
# Until no box stands for several.
UNFOLD = """() => {
    const { scene, view } = aredunGraph;
    for (let groups = [0]; groups.length; groups = scene.boxes.filter((box) => box.isGroup)) {
        for (const group of groups) if (group) scene.opened.add(group.key);
        scene.build();
    }
    return view.rearrange(scene.root);
}"""
# From the whole to its middle.
ZOOM = "(scale) => aredunGraph.canvas.zoom(scale / aredunGraph.canvas.view.scale)"
READ = """() => ({
    first: watch.painted - aredunGraph.view.firstEdge,
    stream: aredunGraph.view.lastEdge - aredunGraph.view.firstEdge,
    edges: aredunGraph.flow.edges,
    nodes: aredunGraph.scene.nodes,
    boxes: aredunGraph.scene.boxes.length,
})"""


def fill(uri: str, name: str, edges: int) -> str:
    """Fill a database with a graph; returns the address of the dataflow to show."""
    from benchmarks.support import load_redun
    from tests.support.dataflow import make_chains, make_samples

    if name == CHAINS:
        graph, start = make_chains(100, edges // 500)
    else:
        graph, start, _ = make_samples(edges // 10, failed=2)
    graph.insert(load_redun(uri))
    return start if name == CHAINS else f"{start}?direction=downstream"


def find_longest_task(trace: bytes) -> str:
    """Return the longest task of the page's thread since the first edge: its work, and its time."""
    events = json.loads(trace)["traceEvents"]
    threads = {
        (event["pid"], event["tid"]): event["args"]["name"]
        for event in events
        if event["name"] == "thread_name"
    }
    began = min(event["ts"] for event in events if event["name"] == "WebSocketReceive")
    tasks = [
        event
        for event in events
        if event["name"] == "RunTask"
        and event["ts"] + event.get("dur", 0) > began
        and threads.get((event["pid"], event["tid"])) == "CrRendererMain"
    ]
    work, wall = (max(task.get(name, 0) for task in tasks) / 1000 for name in ("tdur", "dur"))
    return f"{work:.0f} ms of work, {wall:.0f} ms by the clock"


async def rest(page: Page) -> None:
    """Wait until nothing moves, and no label is on its way."""
    still = "() => !aredunGraph.scene.moves && !aredunGraph.canvas.frame && !aredunGraph.canvas.labels.timer"
    await page.wait_for_function(still)


async def open_clock(page: Page) -> CDPSession:
    """Begin to count the time that the page's thread works, whatever else the machine has to do."""
    session = await page.context.new_cdp_session(page)
    await session.send("Performance.enable", {"timeDomain": "threadTicks"})
    return session


async def read_clock(session: CDPSession) -> float:
    """Return for how many seconds the page's thread has worked."""
    metrics = (await session.send("Performance.getMetrics"))["metrics"]
    return next(float(metric["value"]) for metric in metrics if metric["name"] == "TaskDuration")


async def drag(page: Page, seconds: float) -> str:
    """Drag the graph to and fro for some time, and tell how many frames a second there were."""
    box = await page.locator("canvas.graph").bounding_box()
    assert box is not None
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    session = await open_clock(page)
    await page.mouse.move(x, y)
    await page.mouse.down()
    await page.mouse.move(x + 10, y, steps=3)
    await page.evaluate("() => { watch.frames = []; aredunGraph.canvas.stats.frames = 0; }")
    worked = await read_clock(session)
    began = time.perf_counter()
    moves = []
    while (passed := time.perf_counter() - began) < seconds:
        # A mouse does not wait until the page has seen where it is.
        place = {"x": x + 300 * math.sin(3 * passed), "y": y + 150 * math.sin(2 * passed)}
        event = {"type": "mouseMoved", "button": "left", "buttons": 1, **place}
        moves.append(asyncio.ensure_future(session.send("Input.dispatchMouseEvent", event)))
        await asyncio.sleep(0.01)
    frames, drawn = await page.evaluate("[watch.frames, aredunGraph.canvas.stats.frames]")
    await asyncio.gather(*moves)
    work = 1000 * (await read_clock(session) - worked) / drawn
    await page.mouse.up()
    gaps = [after - before for before, after in itertools.pairwise(frames)]
    rate = 1000 * len(gaps) / (frames[-1] - frames[0])
    return f"{rate:.0f}, p95 {percentile(gaps, 0.95):.0f} ms; {work:.1f} ms of work each"


async def measure_graph(browser: Browser, url: str, start: str, seconds: float) -> list[list[str]]:
    """Show one graph, folded and unfolded, and move it about."""
    context = await browser.new_context(viewport=WINDOW)
    await context.add_init_script(WATCH)
    page = Watched(await context.new_page()).page
    await browser.start_tracing(page=page, categories=TRACED)
    await open_graph(page, url, start)
    trace = await browser.stop_tracing()
    seen = await page.evaluate(READ)
    rows = [
        ["edges, nodes, boxes", f"{seen['edges']:,}, {seen['nodes']:,}, {seen['boxes']:,}"],
        ["first paint after the first edge", f"{seen['first']:.0f} ms"],
        ["last edge after the first", f"{seen['stream']:.0f} ms"],
        ["longest task of the page meanwhile", find_longest_task(trace)],
    ]
    for state in ("folded", "unfolded"):
        if state == "unfolded":
            await page.evaluate(UNFOLD)
            await rest(page)
            rows.append(["boxes, unfolded", f"{await page.evaluate('aredunGraph.scene.boxes.length'):,}"])
        for place, scale in (("near", 0.8), ("farther", 0.3), ("all in sight", None)):
            await page.get_by_role("button", name="Show everything").click()
            if scale is not None:
                await page.evaluate(ZOOM, scale)
            await rest(page)
            rows.append([f"frames a second, {state}, {place}", await drag(page, seconds)])
    await context.close()
    return rows


async def weigh(browser: Browser, url: str) -> list[list[str]]:
    """Load the first page and a graph with an empty cache, and count what came over the wire."""
    context = await browser.new_context(viewport=WINDOW)
    page = await context.new_page()
    session = await context.new_cdp_session(page)
    sizes: list[float] = []
    session.on("Network.loadingFinished", lambda event: sizes.append(event["encodedDataLength"]))
    await session.send("Network.enable")
    await page.goto(url)
    await page.locator(".notice, .run").first.wait_for()
    await page.wait_for_load_state("networkidle")
    await context.close()
    return [["the page, all its files and its first answers", f"{sum(sizes) / 1000:.0f} kB in {len(sizes)}"]]


async def measure(uri: str, name: str, start: str, seconds: float) -> None:
    """Measure everything on one database."""
    async with (
        async_playwright() as playwright,
        RedunBackendDb(uri) as backend,
        serve(backend) as served,
    ):
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        rows = await measure_graph(browser, served.url, start, seconds)
        rows += await weigh(browser, served.url)
        print_table(name, ["figure", "measured"], rows)
        await browser.close()


def main(argv: list[str] | None = None) -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--edges", type=int, default=10_000, help="edges of each graph, at least 500")
    parser.add_argument("--seconds", type=float, default=3.0, help="how long each graph is dragged about")
    args = parser.parse_args(argv)
    if CHROMIUM is None:
        sys.exit("the viewer's figures need a browser: apt-get install chromium")
    with temporary_databases(["sqlite"]) as makers:
        # redun, which makes the tables, stays out of the process that serves.
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as executor:
            for name in (CHAINS, HUB):
                uri = makers["sqlite"]()
                start = executor.submit(fill, uri, name, args.edges).result()
                asyncio.run(measure(uri, name, start, args.seconds))


if __name__ == "__main__":
    main()
