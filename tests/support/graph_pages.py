"""What a person sees of a drawn dataflow: where boxes and lines are, what is written, and whether it fits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from playwright.async_api import expect

from tests.support.browser import PATIENCE

if TYPE_CHECKING:
    from playwright.async_api import Page

# The boxes and lines on the screen, what one frame writes and how large, whether lines have heads, lines
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
    const middle = (one, other, part) => [0, 1].map((axis) => one[axis] + (other[axis] - one[axis]) * part);
    // Where a pen is that does what the painter asks for.
    const follow = (link) => {
        const passed = [];
        let at = [0, 0];
        const pen = {
            moveTo: (...to) => { at = to; },
            lineTo: (...to) => {
                for (let part = 0; part <= 1; part += 0.1) passed.push(middle(at, to, part));
                at = to;
            },
            bezierCurveTo: (ax, ay, bx, by, ...to) => {
                for (let part = 0; part <= 1; part += 0.05) {
                    let places = [at, [ax, ay], [bx, by], to];
                    while (places.length > 1) {
                        places = places.slice(1).map((place, index) => middle(places[index], place, part));
                    }
                    passed.push(places[0]);
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
        const isWithin = ([px, py], { x, y }) => px > x && px < x + across && py > y && py < y + down;
        const others = scene.boxes.filter((box) => box !== link.from && box !== link.to);
        const crossed = others.filter((box) => passed.some((at) => isWithin(at, box)));
        return crossed.map((box) => [link.key, box.key]);
    });
    const boxes = scene.boxes.map(rect);
    const sides = ["Left", "Top", "Width", "Height"];
    const isCut = (text, title) => text.length > 4 && text === `${title.slice(0, text.length - 1)}\u2026`;
    const isWritten = (title) => written.some(([text]) => text.startsWith(title) || isCut(text, title));
    const shown = scene.boxes.filter((_, index) => inSight(boxes[index]));
    return {
        boxes, heads, crossings, isClean, size: [width, height],
        links: scene.links.map(({ from, to }) => [from.x + across, to.x]),
        titles: scene.boxes.map((box) => labels.title(box)),
        unwritten: shown.map((box) => labels.title(box)).filter((title) => !isWritten(title)),
        texts: written.map(([text]) => text),
        smallest: Math.min(...written.map(([, pixels]) => pixels)),
        root: rect(scene.root),
        map: map.canvas.hidden ? null : sides.map((side) => map.canvas[`offset${side}`]),
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
        " && !canvas.layer.isWaiting && canvas.width === canvas.canvas.clientWidth; }",
        timeout=PATIENCE,
    )


async def resize(page: Page, size: dict[str, int]) -> None:
    """Give the page another size and wait for its drawing."""
    size_: Any = size
    await page.set_viewport_size(size_)
    await settle(page)


async def look(page: Page) -> dict[str, Any]:
    """Return what is to be seen."""
    seen: dict[str, Any] = await page.evaluate(_LOOK)
    return seen


def check_first_view(seen: dict[str, Any]) -> None:
    """Assert that a graph that was just opened can be read: its beginning, what is written, the arrows."""
    _check_order(seen)
    assert _is_in_sight(seen["root"], seen)
    assert seen["smallest"] >= 8.99
    assert seen["unwritten"] == []
    assert seen["heads"]
    assert all(seen["heads"])
    # What is out of sight is on the map, which does not cover where the graph begins.
    assert (seen["map"] is None) is all(_is_in_sight(box, seen) for box in seen["boxes"])
    if seen["map"]:
        assert _is_in_sight(seen["map"], seen)
        assert seen["map"][2] >= 100
        assert _are_apart(seen["map"], seen["root"])


def check_drawing(seen: dict[str, Any]) -> None:
    """Assert that boxes stand apart and in sight, lines lead to the right, and nothing is cut."""
    _check_order(seen)
    assert all(_is_in_sight(box, seen) for box in seen["boxes"])
    assert seen["map"] is None
    # No line and no box reaches the edge of the drawing.
    assert seen["isClean"]


def _is_in_sight(box: list[float], seen: dict[str, Any]) -> bool:
    left, top, wide, high = box
    width, height = seen["size"]
    return left >= 0 and top >= 0 and left + wide <= width and top + high <= height


def _are_apart(one: list[float], other: list[float]) -> bool:
    return any(
        one[axis] + one[axis + 2] <= other[axis] or other[axis] + other[axis + 2] <= one[axis]
        for axis in (0, 1)
    )


def _check_order(seen: dict[str, Any]) -> None:
    boxes = seen["boxes"]
    assert all(_are_apart(box, other) for index, box in enumerate(boxes) for other in boxes[:index])
    assert seen["links"]
    assert all(end > start for start, end in seen["links"])
    # No line leads through a box that it does not belong to.
    assert seen["crossings"] == []
