"""Layouts of graphs: layers in the order of the data, boxes apart, and a server that goes on."""

from __future__ import annotations

import asyncio
import itertools
import random
from typing import TYPE_CHECKING, Any

import pytest

from aredun.server.layout_worker import lay_out
from tests.support.server import serve

if TYPE_CHECKING:
    from aredun.backend import RedunBackendDb
    from aredun.server.layout import LayoutProcess


def make_graph(seed: int) -> tuple[int, list[tuple[int, int]]]:
    """Return the number of nodes and the edges of a random graph without cycles."""
    dice = random.Random(seed)
    size = dice.randrange(2, 100)
    pairs = ((dice.randrange(size), dice.randrange(size)) for _ in range(dice.randrange(size, 3 * size)))
    return size, sorted({(start, end) for start, end in pairs if start < end})


def check_layout(size: int, edges: list[tuple[int, int]]) -> None:
    """Assert that edges lead to later layers, pass those between, and that nothing stands on another."""
    answer: Any = lay_out(size, edges)
    places = [tuple(place) for place in answer["places"]]
    routes = dict(answer["routes"])
    for number, (start, end) in enumerate(edges):
        passed = [layer for layer, _ in routes.get(number, [])]
        # A long edge passes every layer between its ends, once.
        assert passed == list(range(int(places[start][0]) + 1, int(places[end][0])))
        assert places[start][0] < places[end][0]
    bends = {tuple(bend) for passed in routes.values() for bend in passed}
    by_layer: dict[float, list[float]] = {}
    for layer, row in [*places, *bends]:
        by_layer.setdefault(layer, []).append(row)
    for rows in by_layer.values():
        rows.sort()
        assert all(lower - upper > 0.999 for upper, lower in itertools.pairwise(rows))


def test_edges_lead_to_the_right_and_boxes_stand_apart() -> None:
    """Also where the graph has parts, nodes without edges, or edges over many layers."""
    for seed in range(40):
        check_layout(*make_graph(seed))


@pytest.mark.parametrize("dialect", ["sqlite"], indirect=True)
async def test_layouts_are_made_beside_the_server(backend: RedunBackendDb) -> None:
    """One process answers all, refuses what makes no sense, and another takes its place when it ends."""
    async with serve(backend) as served:

        async def post(nodes: int, edges: Any) -> Any:
            return await served.http.post("/api/layout", json={"nodes": nodes, "edges": edges})

        answer = (await post(4, [[0, 1], [1, 2], [0, 2]])).json()
        assert [layer for layer, _ in answer["places"]] == [0, 1, 2, 0]
        assert [number for number, _ in answer["routes"]] == [2]
        cycle = await post(3, [[0, 1], [1, 2], [2, 0]])
        assert cycle.status_code == 400
        assert cycle.json()["message"].startswith("the edges form a cycle: ")
        outside = await post(2, [[0, 7]])
        assert outside.status_code == 400
        assert "leads outside: there are 2 nodes" in outside.json()["message"]
        assert (await post(2, [[0, 1], [0, 1]])).status_code == 400
        assert (await post(3_000, [])).status_code == 422
        layouts: LayoutProcess = served.app.state.layouts
        process = layouts._process
        assert process is not None
        process.kill()
        await process.wait()
        assert (await post(2, [[0, 1]])).status_code == 503
        answers = await asyncio.gather(*(post(2, [[0, 1]]) for _ in range(5)))
        assert [found.json()["places"] for found in answers] == [[[0, 0], [1, 0]]] * 5
    assert layouts._process is None
