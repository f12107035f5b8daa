"""The upstream walk against redun's, from every start node of hostile graphs; its bounds, and how it ends."""

from __future__ import annotations

import asyncio
import inspect
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redun.backends import db as redun_db

from aredun.backend import RedunBackendDb
from aredun.dataflow import (
    CallNodeRef,
    CallNodeValue,
    TaskRef,
    ValueRef,
    walk_dataflow,
    walk_dataflow_argument_value,
    walk_dataflow_callnode,
    walk_dataflow_callnode_value,
    walk_dataflow_node,
    walk_dataflow_value,
    walk_downstream,
)
from aredun.dataflow.nodes import get_identity, make_key, parse_key
from aredun.errors import UsageError
from tests.support.dataflow import (
    Graph,
    check_displays,
    check_edges,
    get_start_nodes,
    identify,
    make_chains,
)
from tests.support.random_graphs import clear, make_random_graph
from tests.support.redun_dataflow import redun_dataflow
from tests.support.sessions import until_connections_return

if TYPE_CHECKING:
    from random import Random


@settings(
    max_examples=12,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(random=st.randoms(use_true_random=False))
async def test_any_graph_is_walked_as_redun_walks_it(
    backend: Any, redun_backend: Any, random: Random
) -> None:
    clear(redun_backend)
    make_random_graph(random).insert(redun_backend)
    assert await check_edges(backend, redun_backend, get_start_nodes(redun_backend))
    await check_displays(backend, redun_backend, redun_backend.session.query(redun_db.Value))


@pytest.fixture
async def chains(backend: Any, redun_backend: Any) -> str:
    """Three chains of four calls; the hash of the result."""
    graph, start = make_chains(3, 4)
    graph.insert(redun_backend)
    return start


async def collect(edges: Any) -> list[Any]:
    """Return all edges of a walk."""
    return [edge async for edge in edges]


async def test_edges_of_one_node(backend: Any, redun_backend: Any, chains: str) -> None:
    walkers = {
        "V": walk_dataflow_value,
        "C": walk_dataflow_callnode,
        "A": walk_dataflow_argument_value,
        "R": walk_dataflow_callnode_value,
    }
    for node in get_start_nodes(redun_backend):
        expected = identify(redun_dataflow.walk_dataflow_node(redun_backend, node))
        assert identify(await collect(walk_dataflow_node(backend, node))) == expected
        assert identify(await collect(walkers[get_identity(node)[0]](backend, node))) == expected


@pytest.mark.parametrize(
    "walker",
    [
        walk_dataflow,
        walk_downstream,
        walk_dataflow_node,
        walk_dataflow_value,
        walk_dataflow_callnode,
        walk_dataflow_argument_value,
        walk_dataflow_callnode_value,
        RedunBackendDb.get_records,
    ],
)
def test_what_yields_is_an_async_generator_function(walker: Any) -> None:
    assert inspect.isasyncgenfunction(walker)


async def test_light_nodes_know_their_names(backend: Any, redun_backend: Any, chains: str) -> None:
    first, second, *_ = await collect(walk_dataflow(backend, ValueRef(chains)))
    assert first.src.value_hash == chains
    assert first.dest.task.fullname == "merge"
    assert second.src == first.dest
    argument = second.dest.argument
    assert argument.call_node == first.dest
    assert (argument.arg_position, argument.arg_key) == (0, None)
    assert second.dest.value.value_hash == argument.value.value_hash
    assert redun_backend.session.get(redun_db.Argument, argument.arg_hash).call_hash == first.dest.call_hash


async def test_a_walk_goes_on_behind_any_edge(backend: Any, chains: str) -> None:
    start = ValueRef(chains)
    edges = await collect(walk_dataflow(backend, start))
    for after in (0, 1, 7, len(edges) - 1, len(edges), len(edges) + 5):
        assert await collect(walk_dataflow(backend, start, after=after)) == edges[after:]
        assert (
            await collect(walk_dataflow(backend, start, after=after, max_edges=3)) == edges[after : after + 3]
        )
    assert await collect(walk_dataflow(backend, start, max_edges=0)) == []


async def test_depth_is_the_shortest_way_from_the_start(backend: Any, chains: str) -> None:
    start = ValueRef(chains)
    edges = await collect(walk_dataflow(backend, start))
    distances = {start: 0}
    queue = [start]
    for node in queue:
        for edge in edges:
            if edge.src == node and edge.dest is not None and edge.dest not in distances:
                distances[edge.dest] = distances[node] + 1
                queue.append(edge.dest)
    for depth in (0, 1, 2, 3, 6, 100):
        near = await collect(walk_dataflow(backend, start, max_depth=depth))
        assert near == [edge for edge in edges if distances[edge.src] < depth]


@pytest.mark.parametrize("bound", ["max_depth", "max_edges", "after"])
async def test_bounds_are_checked(backend: Any, bound: str) -> None:
    bounds: dict[str, Any] = {bound: -1}
    with pytest.raises(UsageError, match=bound):
        await collect(walk_dataflow(backend, ValueRef("x"), **bounds))


async def test_unknown_starts(backend: Any) -> None:
    unknown = CallNodeRef("no such call", TaskRef("", ""), ValueRef("v"))
    with pytest.raises(UsageError, match="no call node no such call"):
        await collect(walk_dataflow(backend, unknown))
    with pytest.raises(UsageError, match="no call node no such call"):
        await collect(walk_dataflow(backend, CallNodeValue(unknown, ValueRef("v"))))
    [edge] = await collect(walk_dataflow(backend, ValueRef("no such value")))
    assert edge.dest is None
    with pytest.raises(TypeError, match="no dataflow node"):
        await collect(walk_dataflow(backend, object()))


async def test_nothing_is_held_while_edges_are_handed_out(backend: Any, redun_backend: Any) -> None:
    graph, start = make_chains(300, 5)
    graph.insert(redun_backend)
    edges = walk_dataflow(backend, ValueRef(start))
    count = 0
    async for _ in edges:
        count += 1
        if count in (1, 2, 3, 40, 700, 3_000):
            # What is being loaded ahead comes to its end by itself.
            await until_connections_return(backend.database)
        if count == 4_000:
            break
    await edges.aclose()
    await until_connections_return(backend.database)


@pytest.mark.parametrize("delay", [0.0, 0.002, 0.01, 0.03])
async def test_a_cancelled_walk_frees_its_connection(backend: Any, redun_backend: Any, delay: float) -> None:
    graph, start = make_chains(300, 5)
    graph.insert(redun_backend)
    task = asyncio.create_task(collect(walk_dataflow(backend, ValueRef(start))))
    await asyncio.sleep(delay)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until_connections_return(backend.database)
    assert len(await collect(walk_dataflow(backend, ValueRef(start)))) == 7_802


def test_keys_tell_all_nodes_apart() -> None:
    hashes = ["a" * 40, "A" * 40, "a" * 38 + "  ", "a" * 39, "a" * 41, "ab/cd", "ab", "\ud800" * 40, "7" * 40]
    parts = [(kind, first, second) for kind in "ACRV" for first in hashes for second in (*hashes, "")]
    keys = [make_key(*part) for part in parts]
    assert len(set(keys)) == len(parts)
    assert [parse_key(key) for key in keys] == parts


async def test_hashes_that_differ_by_their_case_alone(backend: Any, redun_backend: Any) -> None:
    graph = Graph()
    task, value = graph.add_task("work"), graph.add_value("value")
    call = graph.add_call("call", task, graph.add_value("result"))
    for position, arg_hash in enumerate(["ab" * 20, "AB" * 20]):
        upstream = graph.add_call(f"upstream {position}", task, value, position)
        graph.add_argument(call, value, position, upstream=[upstream])
        graph.arguments[-1]["arg_hash"] = graph.results[-1]["arg_hash"] = arg_hash
    graph.insert(redun_backend)
    assert await check_edges(backend, redun_backend, [redun_backend.session.get(redun_db.CallNode, call)])
