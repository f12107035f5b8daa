"""Hostile shapes: right edges, and few statements however large the graph."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest
from redun.backends import db as redun_db

from aredun.dataflow import CallNodeRef, CallNodeValue, TaskRef, ValueRef, walk_dataflow
from aredun.dataflow.nodes import get_identity
from tests.support.dataflow import (
    check_edges,
    identify,
    make_chains,
    make_equal_fan,
    make_popular_value,
    make_shared_upstream,
    make_wide_call,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.dataflow import Graph

# Graphs are made when a test runs: every worker collects all the tests.
MakeGraph: TypeAlias = "Callable[[], tuple[Graph, str]]"


async def walk(backend: Any, start: Any) -> tuple[int, int]:
    """Return the numbers of edges and of statements of a walk."""
    before = backend.database.counts.statements
    edges = 0
    async for _ in walk_dataflow(backend, start):
        edges += 1
    return edges, backend.database.counts.statements - before


def allowed_statements(edges: int) -> int:
    """Return how many statements a walk may take."""
    return 24 + 4 * math.ceil(edges / 5_000)


@pytest.mark.parametrize(
    "make_graph",
    [
        partial(make_chains, 5, 7),
        partial(make_chains, 1, 40),
        partial(make_chains, 40, 1),
        partial(make_shared_upstream, 12, 3, 30),
        partial(make_equal_fan, 40),
        partial(make_popular_value, 50),
    ],
    ids=["chains", "deep", "wide", "shared", "equal", "popular"],
)
async def test_small_ones_have_the_edges_of_redun(
    backend: Any, redun_backend: Any, make_graph: MakeGraph
) -> None:
    graph, start = make_graph()
    graph.insert(redun_backend)
    assert await check_edges(backend, redun_backend, [redun_backend.session.get(redun_db.Value, start)])


@pytest.mark.parametrize(
    ("make_graph", "edges"),
    [
        (partial(make_chains, 100, 10), 5_102),
        (partial(make_chains, 2, 500), 5_004),
        (partial(make_chains, 2_000, 5), 52_002),
        (partial(make_chains, 2, 5_000), 50_004),
        (partial(make_shared_upstream, 2_000, 5, 2_000), None),
        (partial(make_equal_fan, 2_000), None),
    ],
    ids=["100 chains of 10", "2 chains of 500", "2,000 chains of 5", "2 chains of 5,000", "shared", "equal"],
)
async def test_few_statements(
    backend: Any, redun_backend: Any, make_graph: MakeGraph, edges: int | None
) -> None:
    graph, start = make_graph()
    graph.insert(redun_backend)
    found, statements = await walk(backend, ValueRef(start))
    assert edges is None or found == edges
    assert statements <= allowed_statements(found)


@pytest.mark.parametrize("children", [30, 40, 20_000])
async def test_a_call_with_many_children(backend: Any, redun_backend: Any, children: int) -> None:
    graph, parent, wanted = make_wide_call(children)
    graph.insert(redun_backend)
    start = CallNodeValue(CallNodeRef(parent, TaskRef("", ""), ValueRef("")), ValueRef(wanted))
    edges = identify([edge async for edge in walk_dataflow(backend, start)])
    [child] = [call["call_hash"] for call in graph.calls if call["value_hash"] == wanted]
    assert edges[0] == (("R", parent, wanted), ("R", child, wanted))
    found, statements = await walk(backend, start)
    assert found == 3
    assert statements < 10


async def test_a_value_in_many_others(backend: Any, redun_backend: Any) -> None:
    graph, part = make_popular_value(20_000)
    graph.insert(redun_backend)
    edges = [edge async for edge in walk_dataflow(backend, ValueRef(part))]
    last = max(graph.jobs, key=lambda job: job["start_time"])["call_hash"]
    assert get_identity(edges[0].dest) == ("C", last, "")
