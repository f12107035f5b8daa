"""The graph of a dataflow while it grows, in a real browser: what stands stays, and what joins has room."""

from __future__ import annotations

import asyncio
import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.browser import DESKTOP, PHONE, open_page, view
from tests.support.dataflow import make_samples
from tests.support.graph_pages import check_first_view, look, open_graph
from tests.support.server import serve

if TYPE_CHECKING:
    from playwright.async_api import Browser, WebSocketRoute

    from aredun.backend import RedunBackendDb

pytestmark = pytest.mark.parametrize("dialect", ["sqlite"], indirect=True)


async def test_nothing_jumps_while_edges_stream(
    browser: Browser, backend: RedunBackendDb, redun_backend: Any
) -> None:
    """On the screen: what has been drawn stays where it is as long as edges come, however slowly."""
    graph, _, merged = make_samples(30)
    graph.insert(redun_backend)
    async with serve(backend) as served:
        watched = await open_page(browser, DESKTOP)
        page = watched.page
        await page.route_web_socket(re.compile("/ws/dataflow/"), _slow_down)
        await page.add_init_script(_WATCH_JUMPS)
        await open_graph(page, served.url, merged)
        seen = await page.evaluate("globalThis.watched")
        assert seen["steps"] > 2
        assert seen["boxes"] > 8
        assert seen["jumps"] == []
        assert seen["unseen"] == 0
        check_first_view(await look(page))
        assert watched.problems == []


def _slow_down(socket: WebSocketRoute) -> None:
    """Hand on some hundred edges a second."""
    server = socket.connect_to_server()
    pieces: asyncio.Queue[list[Any]] = asyncio.Queue()

    async def send() -> None:
        while True:
            piece = await pieces.get()
            socket.send(json.dumps(piece))
            if piece[-1]["type"] == "end":
                await socket.close()
                return
            await asyncio.sleep(0.004 * len(piece))

    def take(message: str | bytes) -> None:
        pieces.put_nowait(json.loads(message))

    server.on_message(take)
    server.on_close(lambda code, reason: None)
    sending = asyncio.create_task(send())
    socket.on_close(lambda code, reason: sending.cancel() and None)


_WATCH_JUMPS = """
    globalThis.watched = { steps: 0, edges: 0, boxes: 0, unseen: 0, jumps: [] };
    const before = new Map();
    const look = () => {
        requestAnimationFrame(look);
        const { canvas, flow, scene, view } = globalThis.aredunGraph ?? {};
        if (!view || view.isDone || canvas.stats.first === null) return;
        const { watched } = globalThis;
        if (flow.edges > watched.edges) watched.steps += 1;
        Object.assign(watched, { edges: flow.edges, boxes: scene.boxes.length });
        for (const box of scene.boxes) {
            const [x, y] = ["x", "y"].map((axis) => box[axis] * canvas.view.scale + canvas.view[axis]);
            const [lastX, lastY] = before.get(box.key) ?? [x, y];
            if (Math.hypot(x - lastX, y - lastY) > 0.5) watched.jumps.push([box.key, lastX, lastY, x, y]);
            before.set(box.key, [x, y]);
            const isSeen = x > 0 && x < canvas.width && y > 0 && y < canvas.height;
            if (box === scene.root && !isSeen) watched.unseen += 1;
        }
    };
    look();
"""


async def test_what_joins_while_a_layout_is_made_has_room(
    browser: Browser, backend: RedunBackendDb, redun_backend: Any
) -> None:
    """The layout knows nothing of it, and puts another box where it stands."""
    graph, _, merged = make_samples(3)
    graph.insert(redun_backend)
    async with view(browser, backend) as watched:
        await open_graph(watched.page, watched.url, merged)
        places = await watched.page.evaluate(_JOIN_LATE)
        assert len(places) == len({tuple(place) for place in places}) == 24


_JOIN_LATE = """() => {
    const { scene } = aredunGraph;
    const late = scene.boxes.find((box) => box !== scene.root);
    const boxes = scene.boxes.filter((box) => box !== late);
    const other = boxes.find((box) => box !== scene.root);
    const places = boxes.map((box) => (box === other ? [late.column, late.row] : [box.column, box.row]));
    scene.apply({ boxes, links: [] }, { places, routes: [] }, scene.root, false);
    return scene.boxes.map(({ x, y }) => [x, y]);
}"""


async def test_what_stands_stays_while_edges_arrive(
    browser: Browser, backend: RedunBackendDb, redun_backend: Any
) -> None:
    """However many edges follow, no box moves, and none is put onto another."""
    graph, genome, merged = make_samples(40)
    graph.insert(redun_backend)
    async with view(browser, backend, size=PHONE, scheme="dark") as watched:
        for start, direction in ((merged, "upstream"), (genome, "downstream")):
            seen = await watched.page.evaluate(_GROW, [start, direction])
            assert seen["steps"] > 20
            assert seen["moved"] == []
            assert seen["overlaps"] == 0
            assert seen["boxes"] < 12
        # A value that was passed on again and again is one box, however deep that goes.
        deep = await watched.page.evaluate(_DEEP)
        assert deep == {"nodes": 2, "told": 12}


_DEEP = """async () => {
    const { Flow } = await import("./static/flow.js");
    const flow = new Flow(false);
    const call = { kind: "CallNode", call_hash: "c", task: "lab.use" };
    const given = (depth) => ({
        kind: "ArgumentValue", arg_hash: `${depth}`, value_hash: "v", name: "x",
        call_hash: `c${depth}`, task: `t${depth}`,
    });
    flow.add({ src: call, dest: given(0) });
    for (let depth = 0; depth < 20000; depth += 1) flow.add({ src: given(depth), dest: given(depth + 1) });
    const { nodes, edges: [edge] } = flow.fold(true);
    return { nodes: nodes.size, told: edge.through.size };
}"""

_GROW = """async ([start, direction]) => {
    const { Flow } = await import("./static/flow.js");
    const { Scene, WIDTH, HEIGHT } = await import("./static/scene.js");
    const socket = new WebSocket(`ws://${location.host}/ws/dataflow/${start}?batch=16&direction=${direction}`);
    const messages = [];
    socket.onmessage = ({ data }) => messages.push(JSON.parse(data));
    await new Promise((resolve) => { socket.onclose = resolve; });
    const flow = new Flow(direction === "downstream");
    const scene = new Scene(direction === "downstream", () => false);
    const moved = [];
    let overlaps = 0;
    for (const batch of messages) {
        const before = new Map(scene.boxes.map((box) => [box.key, `${box.x} ${box.y}`]));
        for (const message of batch) if (message.type === "edge") flow.add(message);
        scene.show(flow.fold(false));
        for (const box of scene.boxes) {
            if (before.has(box.key) && before.get(box.key) !== `${box.x} ${box.y}`) moved.push(box.key);
            for (const other of scene.boxes) {
                const [across, down] = [Math.abs(other.x - box.x), Math.abs(other.y - box.y)];
                overlaps += other !== box && across < WIDTH && down < HEIGHT;
            }
        }
    }
    return { steps: messages.length, moved, overlaps, boxes: scene.boxes.length };
}"""
