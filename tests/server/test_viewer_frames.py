"""What a frame costs while somebody moves a large graph about: counted, not timed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.support.browser import view
from tests.support.dataflow import make_samples
from tests.support.graph_pages import open_graph

if TYPE_CHECKING:
    from playwright.async_api import Browser

    from aredun.backend import RedunBackendDb

pytestmark = pytest.mark.parametrize("dialect", ["sqlite"], indirect=True)

# What one frame asks of the pen that draws lines, of the statuses of calls, and of the map's boxes.
COUNT = """() => {
    const { canvas, view } = aredunGraph;
    const counts = { lines: 0, statuses: 0, rectangles: 0 };
    const count = (owner, method, name) => {
        const real = owner[method];
        owner[method] = (...given) => { counts[name] += 1; return real.apply(owner, given); };
        return () => { delete owner[method]; };
    };
    const undo = [
        count(canvas.context, "bezierCurveTo", "lines"), count(canvas.labels.calls, "get", "statuses"),
        count(view.map.canvas.getContext("2d"), "fillRect", "rectangles"),
    ];
    canvas.pan(3, 2);
    canvas.draw();
    undo.forEach((end) => end());
    return counts;
}"""
UNFOLD = """async () => {
    const { canvas, scene, view } = aredunGraph;
    for (let groups = scene.boxes; groups.length; groups = scene.boxes.filter((box) => box.isGroup)) {
        for (const group of groups) scene.opened.add(group.key);
        scene.build();
    }
    view.rearrange(scene.root);
    canvas.fit();
    while (!canvas.layer.picture || canvas.layer.isWaiting || canvas.frame) {
        await new Promise((resolve) => setTimeout(resolve, 20));
    }
}"""
# Whether a line is seen half-way between its ends.
SEE = """() => {
    const { canvas, scene, width } = aredunGraph;
    const { scale, x, y } = canvas.view;
    const { width: wide, height: high } = canvas.canvas;
    const copy = new OffscreenCanvas(wide, high).getContext("2d", { willReadFrequently: true });
    copy.drawImage(canvas.canvas, 0, 0);
    const isSeen = scene.links.filter(({ from }) => from === scene.root).map(({ from, to }) => {
        const across = ((from.x + width + to.x) / 2) * scale + x;
        const down = ((from.y + to.y) / 2 + 28) * scale + y;
        const { data } = copy.getImageData((across - 2) * canvas.ratio, (down - 2) * canvas.ratio, 4, 4);
        return new Set(new Uint32Array(data.buffer)).size > 1;
    });
    return isSeen.filter(Boolean).length / isSeen.length;
}"""


async def test_what_a_frame_costs(browser: Browser, backend: RedunBackendDb, redun_backend: Any) -> None:
    """Folded, no frame looks at members of groups; unfolded, a worker draws the lines, which move along."""
    graph, genome, _ = make_samples(200, failed=1)
    graph.insert(redun_backend)
    async with view(browser, backend) as watched:
        page = watched.page
        await open_graph(page, watched.url, genome, "?direction=downstream")
        folded = await page.evaluate(COUNT)
        assert folded["lines"] >= 7
        assert folded["statuses"] < 30
        await page.evaluate(UNFOLD)
        assert await page.evaluate("aredunGraph.scene.boxes.length") == 803
        await page.evaluate("aredunGraph.canvas.zoom(2)")
        unfolded = await page.evaluate(COUNT)
        assert unfolded["lines"] == 0
        assert unfolded["rectangles"] == 0
        # Before the worker has answered the lines are where they belong.
        assert await page.evaluate(SEE) > 0.5
        # Where there is no worker the page draws them.
        await page.evaluate("aredunGraph.canvas.layer.isBroken = true")
        assert (await page.evaluate(COUNT))["lines"] > 300
