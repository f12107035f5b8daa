"""The walk downstream: what was derived from a node."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redun.backends import db as redun_db

from aredun.dataflow import (
    CallNodeRef,
    CallNodeValue,
    TaskRef,
    ValueRef,
    get_dataflow_call_node,
    walk_dataflow,
    walk_downstream,
)
from aredun.dataflow.downstream import DOWNSTREAM
from aredun.dataflow.nodes import get_identity
from aredun.dataflow.statements import make_edges_statement
from aredun.storage.graph import get_graph_dialect
from tests.support.dataflow import Graph, get_start_nodes, identify, make_chains, make_popular_value
from tests.support.dataflow_workflows import run_all
from tests.support.random_graphs import clear, make_random_graph

if TYPE_CHECKING:
    from pathlib import Path
    from random import Random


async def collect(edges: Any) -> list[Any]:
    """Return all edges of a walk."""
    return [edge async for edge in edges]


def get_calls(edges: list[Any]) -> set[str]:
    """Return the hashes of the calls that edges lead to."""
    return {
        edge.dest.call_hash for edge in edges if edge.dest is not None and get_identity(edge.dest)[0] == "C"
    }


def make_alignment() -> tuple[Graph, dict[str, str]]:
    """Return two files that calls align one by one and a last call merges, and what the graph is made of."""
    graph = Graph()
    align, align_all, merge = (graph.add_task(name) for name in ("align", "align_all", "merge"))
    made = {"fastq1": graph.add_value("fastq1"), "fastq2": graph.add_value("fastq2")}
    for name in ("bam1", "bam2", "vcf", "log"):
        made[name] = graph.add_value(name)
    fastqs = graph.add_value(["fastq1", "fastq2"], [made["fastq1"], made["fastq2"]])
    bams = graph.add_value(["bam1", "bam2"], [made["bam1"], made["bam2"]])
    made["all"] = graph.add_call("all", align_all, bams, 1)
    made["all argument"] = graph.add_argument(made["all"], fastqs, 0)
    for number in ("1", "2"):
        call = made[f"align{number}"] = graph.add_call(f"align{number}", align, made[f"bam{number}"], 2)
        made[f"argument{number}"] = graph.add_argument(call, made[f"fastq{number}"], 0)
        graph.add_child(made["all"], call, int(number))
    made["merge"] = graph.add_call("merge", merge, made["vcf"], 3)
    made["merge argument"] = graph.add_argument(made["merge"], bams, 0, None, [made["all"]])
    made["bams"], made["fastqs"] = bams, fastqs
    made["align task"], made["unused"] = align, graph.add_value("unused")
    return graph, made


async def test_what_a_value_went_into(backend: Any, redun_backend: Any) -> None:
    graph, made = make_alignment()
    graph.insert(redun_backend)
    edges = identify(await collect(walk_downstream(backend, ValueRef(made["fastq1"]))))
    value, bams, vcf = made["fastq1"], made["bams"], made["vcf"]
    held, own = ("A", made["all argument"], value), ("A", made["argument1"], value)
    assert edges == [
        (("V", value, ""), held),
        (("V", value, ""), own),
        (held, ("C", made["all"], "")),
        (held, own),
        (("C", made["all"], ""), ("R", made["all"], bams)),
        (("R", made["all"], bams), ("A", made["merge argument"], bams)),
        (("A", made["merge argument"], bams), ("C", made["merge"], "")),
        (("C", made["merge"], ""), ("R", made["merge"], vcf)),
        (("R", made["merge"], vcf), None),
        (own, ("C", made["align1"], "")),
        (("C", made["align1"], ""), ("R", made["align1"], made["bam1"])),
        (("R", made["align1"], made["bam1"]), ("R", made["all"], made["bam1"])),
        (("R", made["all"], made["bam1"]), ("A", made["merge argument"], made["bam1"])),
        (("A", made["merge argument"], made["bam1"]), ("C", made["merge"], "")),
    ]


async def test_a_task_leads_to_its_calls(backend: Any, redun_backend: Any) -> None:
    graph, made = make_alignment()
    graph.insert(redun_backend)
    task = redun_backend.session.get(redun_db.Task, made["align task"])
    edges = await collect(walk_downstream(backend, task))
    calls = sorted([made["align1"], made["align2"]])
    assert identify(edges)[:2] == [(("V", made["align task"], ""), ("C", call, "")) for call in calls]
    assert get_calls(edges) == {made["align1"], made["align2"], made["merge"]}


async def test_a_list_leads_to_the_calls_that_took_its_parts(backend: Any, redun_backend: Any) -> None:
    graph, made = make_alignment()
    graph.insert(redun_backend)
    edges = await collect(walk_downstream(backend, ValueRef(made["fastqs"])))
    assert get_calls(edges) == {made["all"], made["align1"], made["align2"], made["merge"]}


def make_containers() -> tuple[Graph, dict[str, str]]:
    """Return a call that makes two files, its parent that returns them within something else, calls that use
    one of them each, and what the graph is made of.
    """
    graph = Graph()
    task = graph.add_task("step")
    made = {name: graph.add_value(name) for name in ("file1", "file2", "out1", "out2", "seed")}
    files = [made["file1"], made["file2"]]
    made["list"] = graph.add_value(["file1", "file2"], files)
    made["make"] = graph.add_call("make", task, made["list"], 1)
    graph.add_argument(made["make"], made["seed"], 0)
    made["wrap"] = graph.add_call("wrap", task, graph.add_value({"files": files, "count": 2}, files), 2)
    graph.add_child(made["wrap"], made["make"], 0)
    for number in ("1", "2"):
        made[f"use{number}"] = graph.add_call(f"use{number}", task, made[f"out{number}"], 3)
        graph.add_argument(made[f"use{number}"], made[f"file{number}"], 0, None, [made["wrap"]])
    return graph, made


async def test_values_are_followed_from_container_to_container(backend: Any, redun_backend: Any) -> None:
    graph, made = make_containers()
    graph.insert(redun_backend)
    users = {made["use1"], made["use2"]}
    for start in (made["list"], made["seed"]):
        calls = get_calls(await collect(walk_downstream(backend, ValueRef(start))))
        assert calls - {made["make"]} == users
    made_call = CallNodeRef(made["make"], TaskRef("", ""), ValueRef(""))
    edges = await collect(walk_downstream(backend, made_call))
    assert get_calls(edges) == users


async def test_other_parts_of_a_result_are_left_out(backend: Any, redun_backend: Any) -> None:
    graph, made = make_containers()
    graph.insert(redun_backend)
    made_call = CallNodeRef(made["make"], TaskRef("", ""), ValueRef(""))
    for start in (ValueRef(made["file1"]), CallNodeValue(made_call, ValueRef(made["file1"]))):
        assert get_calls(await collect(walk_downstream(backend, start))) == {made["use1"]}


async def test_parts_that_are_not_recorded_are_followed(backend: Any, redun_backend: Any) -> None:
    graph = Graph()
    step, gather = graph.add_task("step"), graph.add_task("gather")
    number, numbers = graph.add_value(5), graph.add_value([5])
    # redun records files within a list, but no numbers.
    child, parent = graph.add_call("child", step, number), graph.add_call("parent", gather, numbers)
    graph.add_child(parent, child, 0)
    total = graph.add_call("total", step, graph.add_value("total"))
    graph.add_argument(total, numbers, 0, None, [parent])
    graph.insert(redun_backend)
    assert get_calls(await collect(walk_downstream(backend, ValueRef(number)))) == {total}


async def test_arguments_with_a_part_in_common(backend: Any, redun_backend: Any) -> None:
    graph = Graph()
    task = graph.add_task("step")
    file = graph.add_value("file")
    parent, child, grandchild = (
        graph.add_call(label, task, graph.add_value(label)) for label in ("parent", "child", "grandchild")
    )
    graph.add_child(parent, child, 0)
    graph.add_child(child, grandchild, 0)
    start = graph.add_value(["file", "other"], [file])
    graph.add_argument(parent, start, 0)
    graph.add_argument(child, graph.add_value({"file": "file"}, [file]), 0)
    graph.add_argument(grandchild, file, 0)
    graph.insert(redun_backend)
    found = get_calls(await collect(walk_downstream(backend, ValueRef(start))))
    assert found == {parent, child, grandchild}


def get_call(node: Any) -> str:
    """Return the hash of the call that a node belongs to."""
    call_hash: str = get_dataflow_call_node(node).call_hash
    return call_hash


async def test_an_argument_that_several_calls_made(backend: Any, redun_backend: Any) -> None:
    graph = Graph()
    task = graph.add_task("step")
    made = {name: graph.add_value(name) for name in ("bam1", "bam2", "raw", "out1", "out2", "out3")}
    parts = [made["bam1"], made["bam2"], made["raw"]]
    align1, align2 = (graph.add_call(f"align{n}", task, made[f"bam{n}"], 1) for n in "12")
    merge = graph.add_call("merge", task, graph.add_value("merged"), 2)
    graph.add_argument(merge, graph.add_value(["bam1", "bam2", "raw"], parts), 0, None, [align1, align2])
    uses = []
    for number, part in enumerate(parts, 1):
        uses.append(graph.add_call(f"use{number}", task, made[f"out{number}"], 3))
        graph.add_argument(uses[-1], part, 0)
        graph.add_child(merge, uses[-1], number)
    graph.insert(redun_backend)

    # Upstream of each part redun has both calls, the one that did not make it as well.
    for use in uses:
        upstream = get_calls(
            await collect(walk_dataflow(backend, CallNodeRef(use, TaskRef("", ""), ValueRef(""))))
        )
        assert {align1, align2} <= upstream
    # Downstream of each call are the list and what took its own part of it, not what took the others'.
    for align, use in zip((align1, align2), uses[:2], strict=True):
        found = await collect(walk_downstream(backend, CallNodeRef(align, TaskRef("", ""), ValueRef(""))))
        assert get_calls(found) == {merge, use}


def is_followed_back(edge: Any, parts: set[tuple[str, str]]) -> bool:
    """Tell whether walking downstream goes an upstream edge the other way.

    Upstream, a part of an argument leads to every result that the argument was made of. Downstream, a result
    that the argument holds is followed as that part of it, not into the parts beside it.
    """
    if (get_identity(edge.src)[0], get_identity(edge.dest)[0]) != ("A", "R"):
        return True
    own, part = edge.src.argument.value.value_hash, edge.src.value.value_hash
    result = edge.dest.call_node.value.value_hash
    return part == result or (result, part) in parts or (own, result) not in parts


def get_upstream(start: Any, edges: list[Any], parts: set[tuple[str, str]]) -> set[Any]:
    """Return the nodes upstream of a start that it is downstream of."""
    following: dict[Any, list[Any]] = {}
    for edge in edges:
        if edge.dest is not None and is_followed_back(edge, parts):
            following.setdefault(get_identity(edge.src), []).append(edge.dest)
    found: dict[Any, Any] = {}
    waiting = [get_identity(start)]
    while waiting:
        for node in following.get(waiting.pop(), ()):
            if get_identity(node) not in found:
                found[get_identity(node)] = node
                waiting.append(get_identity(node))
    return set(found.values())


@settings(
    max_examples=4,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(random=st.randoms(use_true_random=False))
async def test_the_two_walks_agree_on_any_graph(backend: Any, redun_backend: Any, random: Random) -> None:
    clear(redun_backend)
    graph = make_random_graph(random)
    graph.insert(redun_backend)
    parts = {(row["parent_value_hash"], row["value_hash"]) for row in graph.subvalues}
    starts = [node for node in get_start_nodes(redun_backend) if get_identity(node)[0] != "V"]
    derived: dict[Any, set[str]] = {}
    for start in random.sample(starts, min(4, len(starts))):
        for node in get_upstream(start, await collect(walk_dataflow(backend, start)), parts):
            if node not in derived:
                edges = await collect(walk_downstream(backend, node))
                derived[node] = {get_call(edge.src) for edge in edges}
            call = start.argument.call_node if hasattr(start, "argument") else start
            assert getattr(call, "call_node", call).call_hash in derived[node]


async def test_nothing_was_derived(backend: Any, redun_backend: Any) -> None:
    graph, made = make_alignment()
    graph.insert(redun_backend)
    unused = ValueRef(made["unused"])
    assert await collect(walk_downstream(backend, unused)) == [(unused, None)]


async def test_bounds(backend: Any, redun_backend: Any) -> None:
    graph, made = make_alignment()
    graph.insert(redun_backend)
    start = ValueRef(made["fastq1"])
    edges = await collect(walk_downstream(backend, start))
    assert await collect(walk_downstream(backend, start, after=3, max_edges=4)) == edges[3:7]
    assert await collect(walk_downstream(backend, start, max_depth=1)) == edges[:2]
    assert len(await collect(walk_downstream(backend, start, max_depth=2))) == 5


async def test_what_was_upstream_has_it_downstream(backend: Any, redun_backend: Any, tmp_path: Path) -> None:
    run_all(redun_backend, tmp_path)
    calls = [call for (call,) in redun_backend.session.query(redun_db.CallNode.call_hash)]
    nowhere = TaskRef("", "")
    downstream = {
        call: get_calls(await collect(walk_downstream(backend, CallNodeRef(call, nowhere, ValueRef("")))))
        for call in calls
    }
    checked = 0
    for call in calls:
        edges = await collect(walk_dataflow(backend, CallNodeRef(call, nowhere, ValueRef(""))))
        for upstream in get_calls(edges):
            assert call in downstream[upstream]
            checked += 1
    assert checked > 30


@pytest.mark.parametrize("chains", [(2_000, 5), (2, 3_000)], ids=["wide", "deep"])
async def test_few_statements(backend: Any, redun_backend: Any, chains: tuple[int, int]) -> None:
    graph, result = make_chains(*chains)
    graph.insert(redun_backend)
    constant = next(row["value_hash"] for row in graph.arguments if row["arg_position"] == 1)
    before = backend.database.counts.statements
    edges = await collect(walk_downstream(backend, ValueRef(constant)))
    statements = backend.database.counts.statements - before
    assert ("R", result) in {get_identity(edge.src)[::2] for edge in edges}
    assert statements <= 24 + 4 * -(-len(edges) // 5_000)
    assert backend.database.checked_out == 0


async def test_a_value_in_many_others(backend: Any, redun_backend: Any) -> None:
    graph, part = make_popular_value(5_000)
    for number, call in enumerate(graph.calls[1:]):
        graph.add_argument(call["call_hash"], part, number)
    graph.insert(redun_backend)
    assert len(get_calls(await collect(walk_downstream(backend, ValueRef(part))))) == 5_000


@pytest.mark.parametrize("dialect", ["sqlite"], indirect=True)
async def test_statistics_do_not_turn_probes_into_scans(redun_backend: Any) -> None:
    # One parent, one value that all calls are given, one result that all arguments were made of.
    graph, part = make_popular_value(1_000)
    children = [call["call_hash"] for call in graph.calls[1:]]
    for call in children:
        graph.add_argument(call, part, 0, None, [children[0]])
    graph.insert(redun_backend)
    graph_dialect = get_graph_dialect("sqlite")
    parameters = {}
    for kind in "CAR":
        parameters.update(graph_dialect.bind(kind, [(children[0], part, None)], 3))
    statement = make_edges_statement(graph_dialect, DOWNSTREAM.transitions, DOWNSTREAM.parent)
    with redun_backend.engine.begin() as connection:
        connection.exec_driver_sql("ANALYZE")
        plan = connection.execute(sa.text(f"EXPLAIN QUERY PLAN {statement}"), parameters).all()
    # Only the nodes that are asked for are read from end to end: n, made from JSON.
    scans = {step[3].split()[1] for step in plan if step[3].startswith("SCAN")}
    assert scans == {"json_each", "n"}
