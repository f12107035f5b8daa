"""The process that lays graphs out: a line of JSON with edges comes in, a line with places goes out.

It is a process of its own because fast-sugiyama keeps the interpreter's lock while it works, and ends the
process on a graph that it did not expect. Whoever starts it may end it: see `aredun.server.layout`.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from fast_sugiyama import from_edges

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

# A layer, counted from the left, and a row, in heights of a box.
Place = tuple[float, float]


def find_places(edges: Iterable[tuple[int, int]]) -> dict[int, Place]:
    """Return a place for every node of some edges; what is not connected stands below."""
    places: dict[int, Place] = {}
    top = 0.0
    for positions, *_ in from_edges(edges, vertex_spacing=1, dummy_vertices=False):
        rows = [row for _, (row, _) in positions]
        last = max(layer for _, (_, layer) in positions)
        for node, (row, layer) in positions:
            # The library counts layers from the last one.
            places[int(node)] = (round(last - layer), row - min(rows) + top)
        top += max(rows) - min(rows) + 1
    return places


def add_bends(
    edges: Sequence[tuple[int, int]], layers: dict[int, int], following: int
) -> tuple[list[tuple[int, int]], dict[tuple[int, int], int]]:
    """Cut edges at every layer that they pass; those of one node go together. Returns pieces and bends.

    Bends are numbered from `following` on.
    """
    bends: dict[tuple[int, int], int] = {}
    pieces: list[tuple[int, int]] = []
    for start, end in edges:
        previous = start
        for layer in range(layers[start] + 1, layers[end]):
            bend = bends.get((start, layer))
            if bend is None:
                bend = bends[start, layer] = following
                following += 1
                pieces.append((previous, bend))
            previous = bend
        pieces.append((previous, end))
    return pieces, bends


def lay_out(size: int, edges: Sequence[tuple[int, int]]) -> dict[str, object]:
    """
    Return where the nodes of a graph stand, and where its long edges bend.

    Parameters
    ----------
    size : int
        Number of nodes; nodes without edges stand below the others.
    edges : list of pairs of int
        Edges without cycles, each once.

    Returns
    -------
    dict
        `places`: a layer and a row for each node; `routes`: of each edge that is longer than a layer its
        number and the places that it passes.
    """
    layers = {node: int(layer) for node, (layer, _) in find_places(edges).items()} if edges else {}
    pieces, bends = add_bends(edges, layers, size) if edges else ([], {})
    places = find_places(pieces) if pieces else {}
    bottom = max((row for _, row in places.values()), default=-1.0)
    for node in range(size):
        if node not in places:
            bottom += 1
            places[node] = (0, bottom)
    spread(places)
    routes: list[Any] = [
        [number, [places[bends[start, layer]] for layer in range(layers[start] + 1, layers[end])]]
        for number, (start, end) in enumerate(edges)
        if layers[end] - layers[start] > 1
    ]
    return {"places": [places[node] for node in range(size)], "routes": routes}


def spread(places: dict[int, Place]) -> None:
    """Move what stands less than a row below another of its layer down."""
    by_layer: dict[float, list[int]] = defaultdict(list)
    for node in sorted(places, key=lambda node: (places[node][1], node)):
        by_layer[places[node][0]].append(node)
    for layer, nodes in by_layer.items():
        free = float("-inf")
        for node in nodes:
            row = max(places[node][1], free)
            places[node] = (layer, row)
            free = row + 1


def main() -> None:
    """Answer line by line until there are no more."""
    for line in sys.stdin:
        size, edges = json.loads(line)
        sys.stdout.write(json.dumps(lay_out(size, [(start, end) for start, end in edges])) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
