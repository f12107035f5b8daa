"""What a person sees of a drawn dataflow: where boxes and lines are, what is written, and whether it fits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from playwright.async_api import expect

from tests.support.browser import PATIENCE

if TYPE_CHECKING:
    from playwright.async_api import Page

# The boxes and lines on the screen, the texts of one frame, and the ink on the outermost pixels.
_LOOK = """async () => {
    const { canvas, scene, width: across, height: down } = globalThis.aredunGraph;
    const { view, width, height, ratio } = canvas;
    const texts = [];
    const write = canvas.context.fillText;
    canvas.context.fillText = (text, ...place) => {
        texts.push(text);
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
    const place = ({ x, y }) => [x * view.scale + view.x, y * view.scale + view.y];
    return {
        boxes: scene.boxes.map((box) => [...place(box), across * view.scale, down * view.scale]),
        links: scene.links.map(({ from, to }) => [from.x + across, to.x]),
        titles: scene.boxes.map((box) => canvas.labels.title(box)),
        texts, isClean, size: [width, height],
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
        " return scene.isTidy && !scene.moves && !canvas.frame && !labels.timer && labels.asked.size; }",
        timeout=PATIENCE,
    )


async def look(page: Page) -> dict[str, Any]:
    """Return what is to be seen."""
    seen: dict[str, Any] = await page.evaluate(_LOOK)
    return seen


def check_drawing(seen: dict[str, Any]) -> None:
    """Assert that boxes stand apart and in sight, lines lead to the right, and nothing is cut."""
    width, height = seen["size"]
    boxes = seen["boxes"]
    for index, (left, top, wide, high) in enumerate(boxes):
        assert left >= 0
        assert top >= 0
        assert left + wide <= width
        assert top + high <= height
        for other_left, other_top, *_ in boxes[:index]:
            assert abs(left - other_left) >= wide or abs(top - other_top) >= high
    assert seen["links"]
    assert all(end > start for start, end in seen["links"])
    # No line and no box reaches the edge of the drawing.
    assert seen["isClean"]
