"""What a person sees of a drawn dataflow: where boxes and lines are, what is written, and whether it fits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from playwright.async_api import expect

from tests.support.browser import PATIENCE

if TYPE_CHECKING:
    from playwright.async_api import Page

# The boxes and lines on the screen, what one frame writes and how large, whether each line has its arrowhead, the lines
# that lead through boxes which are not their ends, and whether the outermost pixels are clean.
_LOOK = """async () => {
    const { canvas, scene, view: { map }, width: across, height: down } = globalThis.aredunGraph;
    const { Painter } = await import("./static/painter.js");
    const { view, width, height, ratio, labels } = canvas;
    const written = [];
    const write = canvas.context.fillText;
    canvas.context.fillText = (text, ...place) => {
        const { a } = canvas.context.getTransform();
        written.push([text, (parseFloat(canvas.context.font.match(/([\\d.]+)px/)[1]) * a) / ratio]);
        write.call(canvas.context, text, ...place);
    };
    canvas.draw();
    delete canvas.context.fillText;
    const { width: wide, height: high } = canvas.canvas;
    const strips = [[0, 0, wide, 2], [0, high - 2, wide, 2], [0, 0, 2, high], [wide - 2, 0, 2, high]];
    const copy = new OffscreenCanvas(wide, high).getContext("2d", { willReadFrequently: true });
    copy.drawImage(canvas.canvas, 0, 0);
    const [ground] = new Uint32Array(copy.getImageData(0, 0, 1, 1).data.buffer);
    const isClean = strips.every((strip) => {
        const { data } = copy.getImageData(...strip);
        const pixels = Array.from(new Uint32Array(data.buffer));
        return pixels.every((pixel) => pixel === ground);
    });
    const place = (x, y) => [x * view.scale + view.x, y * view.scale + view.y];
    const rect = (box) => [...place(box.x, box.y), across * view.scale, down * view.scale];
    const inSight = ([x, y, w = 0, h = 0]) => x >= 0 && y >= 0 && x + w <= width && y + h <= height;
    const isInk = (x, y) => {
        const [red, green, blue] = copy.getImageData(Math.floor(x * ratio), Math.floor(y * ratio), 1, 1).data;
        const before = [ground & 255, (ground >> 8) & 255, (ground >> 16) & 255];
        return Math.abs(red - before[0]) + Math.abs(green - before[1]) + Math.abs(blue - before[2]) > 40;
    };
    const head = Math.max(9 * view.scale, 5.5);
    const ends = scene.links.map(({ to }) => place(to.x, to.y + down / 2));
    const heads = ends.filter(([x, y]) => inSight([x - head - 2, y - head, head + 4, 2 * head]))
        .map(([x, y]) => isInk(x - 0.8 * head, y - 0.25 * head) && isInk(x - 0.8 * head, y + 0.25 * head));
    // Where a pen is that does what the painter asks for.
    const follow = (link) => {
        const passed = [];
        let at = [0, 0];
        const pen = {
            moveTo: (...to) => { at = to; },
            lineTo: (...to) => {
                for (let part = 0; part <= 1; part += 0.1) passed.push([0, 1].map((axis) => at[axis] + (to[axis] - at[axis]) * part));
                at = to;
            },
            bezierCurveTo: (ax, ay, bx, by, ...to) => {
                const [a, b, start] = [[ax, ay], [bx, by], at];
                for (let t = 0; t <= 1; t += 0.05) {
                    passed.push([0, 1].map((axis) => (1 - t) ** 3 * start[axis] + 3 * (1 - t) ** 2 * t * a[axis] + 3 * (1 - t) * t * t * b[axis] + t ** 3 * to[axis]));
                }
                at = to;
            },
            beginPath() {}, stroke() {}, fill() {}, closePath() {},
        };
        new Painter(pen, { ...canvas.look, scale: view.scale }).lines([link], "");
        return passed;
    };
    const crossings = scene.links.flatMap((link) => {
        const passed = follow(link);
        const isWithin = ({ x, y }) => passed.some(([px, py]) => px > x && px < x + across && py > y && py < y + down);
        return scene.boxes.filter((box) => box !== link.from && box !== link.to && isWithin(box)).map((box) => [link.key, box.key]);
    });
    const boxes = scene.boxes.map(rect);
    const isWritten = (title) => written.some(([text]) => text.startsWith(title) || (text.endsWith("\u2026") && text.length > 4 && title.startsWith(text.slice(0, -1))));
    const shown = scene.boxes.filter((_, index) => inSight(boxes[index]));
    return {
        boxes, heads, crossings, isClean, size: [width, height],
        links: scene.links.map(({ from, to }) => [from.x + across, to.x]),
        titles: scene.boxes.map((box) => labels.title(box)),
        unwritten: shown.map((box) => labels.title(box)).filter((title) => !isWritten(title)),
        texts: written.map(([text]) => text),
        smallest: Math.min(...written.map(([, pixels]) => pixels)),
        root: rect(scene.root),
        hasMap: !map.canvas.hidden && map.canvas.clientWidth > 0,
    };
}"""


async def open_graph(page: Page, url: str, record_id: str, query: str = "") -> None:
    """Open a dataflow and wait until it is complete, laid out and labelled."""
    await page.goto("about:blank")
    await page.goto(f"{url}/#/dataflow/{record_id}{query}")
    await expect(page.locator(".graph-status")).to_have_attribute("data-done", "true", timeout=PATIENCE)
    await settle(page)


async def settle(page: Page) -> None:
    """Wait until nothing moves, and all that is written is there."""
    await page.wait_for_function(
        "() => { const { canvas, scene, labels } = { ...aredunGraph, labels: aredunGraph.canvas.labels };"
        " return scene.isTidy && !scene.moves && !canvas.frame && !labels.timer && labels.asked.size"
        " && canvas.width === canvas.canvas.clientWidth; }",
        timeout=PATIENCE,
    )


async def look(page: Page) -> dict[str, Any]:
    """Return what is to be seen."""
    seen: dict[str, Any] = await page.evaluate(_LOOK)
    return seen


def check_first_view(seen: dict[str, Any]) -> None:
    """Assert that a graph that was just opened can be read: where it begins, what is written, where lines lead."""
    _check_order(seen)
    assert _is_in_sight(seen["root"], seen)
    assert seen["smallest"] >= 8.99
    assert seen["unwritten"] == []
    assert seen["heads"]
    assert all(seen["heads"])
    # What is out of sight is on the map.
    assert seen["hasMap"] is not all(_is_in_sight(box, seen) for box in seen["boxes"])


def check_drawing(seen: dict[str, Any]) -> None:
    """Assert that boxes stand apart and in sight, lines lead to the right, and nothing is cut."""
    _check_order(seen)
    assert all(_is_in_sight(box, seen) for box in seen["boxes"])
    assert not seen["hasMap"]
    # No line and no box reaches the edge of the drawing.
    assert seen["isClean"]


def _is_in_sight(box: list[float], seen: dict[str, Any]) -> bool:
    left, top, wide, high = box
    width, height = seen["size"]
    return left >= 0 and top >= 0 and left + wide <= width and top + high <= height


def _check_order(seen: dict[str, Any]) -> None:
    boxes = seen["boxes"]
    for index, (left, top, wide, high) in enumerate(boxes):
        for other_left, other_top, *_ in boxes[:index]:
            assert abs(left - other_left) >= wide or abs(top - other_top) >= high
    assert seen["links"]
    assert all(end > start for start, end in seen["links"])
    # No line leads through a box that it does not belong to.
    assert seen["crossings"] == []
