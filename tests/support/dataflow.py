"""Start nodes, comparisons with redun, and hostile call graphs for the tests of dataflow."""

from __future__ import annotations

import hashlib
import pickle
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from redun.backends import db as redun_db

from aredun.dataflow import display_dataflow, make_dataflow_dom, serialize_dataflow, walk_dataflow
from aredun.dataflow.nodes import get_identity
from tests.support.redun_dataflow import redun_dataflow

if TYPE_CHECKING:
    from collections.abc import Iterable

EPOCH = datetime(2024, 1, 1, tzinfo=UTC)
# What redun's own document builder raises on graphs that it did not expect.
REDUN_GIVES_UP = (AssertionError, KeyError, IndexError, ValueError)


def identify(edges: Iterable[Any]) -> list[tuple[Any, Any]]:
    """Return edges as the identities of their nodes, whoever made them."""
    return [
        (get_identity(edge.src), None if edge.dest is None else get_identity(edge.dest)) for edge in edges
    ]


def get_start_nodes(original: Any) -> list[Any]:
    """Return every node that a walk can begin at, as redun has it: parts of arguments and of results
    included.
    """
    session = original.session
    nodes: list[Any] = [*session.query(redun_db.Value), *session.query(redun_db.CallNode)]
    for argument in session.query(redun_db.Argument):
        for value in dict.fromkeys([argument.value, *argument.value.children]):
            nodes.append(redun_dataflow.ArgumentValue(argument, value))
    for call_node in session.query(redun_db.CallNode):
        for value in dict.fromkeys([call_node.value, *call_node.value.children]):
            nodes.append(redun_dataflow.CallNodeValue(call_node, value))
    return nodes


async def check_edges(backend: Any, original: Any, nodes: Iterable[Any]) -> int:
    """Assert that both walk the same edges from every node, and return their number."""
    count = 0
    for node in nodes:
        expected = identify(redun_dataflow.walk_dataflow(original, node))
        found = identify([edge async for edge in walk_dataflow(backend, node)])
        assert found == expected, f"from {get_identity(node)}"
        count += len(expected)
    return count


async def check_displays(backend: Any, original: Any, values: Iterable[Any]) -> int:
    """Assert that both write the same text and JSON for every value, and return the number that redun can
    write.
    """
    written = 0
    for value in values:
        text, json = await get_display(backend, value)
        try:
            dom = list(redun_dataflow.make_dataflow_dom(redun_dataflow.walk_dataflow(original, value)))
            expected_text = list(redun_dataflow.display_dataflow(dom))
            expected_json = list(redun_dataflow.serialize_dataflow(dom))
        except REDUN_GIVES_UP:
            continue
        written += 1
        assert text == expected_text
        assert json == expected_json
    return written


async def get_display(backend: Any, node: Any) -> tuple[list[str], list[dict[str, Any]]]:
    """Return the text and the JSON of a node's dataflow."""
    dom = [section async for section in make_dataflow_dom(walk_dataflow(backend, node))]
    return [line async for line in display_dataflow(backend, dom)], [
        section async for section in serialize_dataflow(backend, dom)
    ]


def make_hash(label: str) -> str:
    """Return a hash that looks like any other."""
    return hashlib.sha1(label.encode()).hexdigest()


@dataclass
class Graph:
    """Rows of a call graph, put together by hand."""

    tasks: list[dict[str, Any]] = field(default_factory=list)
    values: list[dict[str, Any]] = field(default_factory=list)
    subvalues: list[dict[str, Any]] = field(default_factory=list)
    calls: list[dict[str, Any]] = field(default_factory=list)
    edges: list[dict[str, Any]] = field(default_factory=list)
    arguments: list[dict[str, Any]] = field(default_factory=list)
    results: list[dict[str, Any]] = field(default_factory=list)
    jobs: list[dict[str, Any]] = field(default_factory=list)

    def add_task(self, name: str, namespace: str = "", source: str | None = None) -> str:
        """Add a task and return its hash."""
        task_hash = make_hash(f"task {namespace}.{name}")
        source = f"def {name}(first, second):\n    pass\n" if source is None else source
        self.tasks.append({"hash": task_hash, "name": name, "namespace": namespace, "source": source})
        return task_hash

    def add_value(self, content: Any, parts: Iterable[str] = ()) -> str:
        """Add a value and return its hash."""
        value_hash = make_hash(f"value {content!r}")
        self.values.append(
            {
                "value_hash": value_hash,
                "type": f"builtins.{type(content).__name__}",
                "format": "application/python-pickle",
                "value": pickle.dumps(content, protocol=3),
            }
        )
        for part in parts:
            self.subvalues.append({"value_hash": part, "parent_value_hash": value_hash})
        return value_hash

    def add_call(
        self, label: str, task: str, value: str, timestamp: int = 0, starts: Iterable[int] = (0,)
    ) -> str:
        """Add a call and its jobs, and return its hash."""
        call_hash = make_hash(f"call {label}")
        self.calls.append(
            {
                "call_hash": call_hash,
                "task_name": "task",
                "task_hash": task,
                "args_hash": make_hash(f"args {label}"),
                "value_hash": value,
                "timestamp": EPOCH + timedelta(seconds=timestamp),
            }
        )
        for number, start in enumerate(starts):
            self.jobs.append(
                {
                    "id": f"job-{label}-{number}",
                    "start_time": EPOCH + timedelta(seconds=start),
                    "end_time": None,
                    "task_hash": task,
                    "cached": False,
                    "call_hash": call_hash,
                    "parent_id": None,
                    "execution_id": "execution",
                }
            )
        return call_hash

    def add_child(self, parent: str, child: str, order: int) -> None:
        """Make a call the child of another."""
        self.edges.append({"parent_id": parent, "child_id": child, "call_order": order})

    def add_argument(
        self,
        call: str,
        value: str,
        position: int | None = None,
        key: str | None = None,
        upstream: Iterable[str] = (),
    ) -> str:
        """Add an argument and what it came from, and return its hash."""
        arg_hash = make_hash(f"argument {call} {position} {key} {value}")
        self.arguments.append(
            {
                "arg_hash": arg_hash,
                "call_hash": call,
                "value_hash": value,
                "arg_position": position,
                "arg_key": key,
            }
        )
        for result in upstream:
            self.results.append({"arg_hash": arg_hash, "result_call_hash": result})
        return arg_hash

    def insert(self, original: Any) -> None:
        """Write the rows through redun's engine, in the order that settles what redun leaves to the order of
        rows.
        """
        rows: list[tuple[Any, list[dict[str, Any]], tuple[str, ...]]] = [
            (redun_db.Value, self.values, ("value_hash",)),
            (redun_db.Task, self.tasks, ("hash",)),
            (redun_db.Subvalue, self.subvalues, ("parent_value_hash", "value_hash")),
            (redun_db.CallNode, self.calls, ("call_hash",)),
            (redun_db.CallEdge, self.edges, ("call_order", "parent_id", "child_id")),
            (redun_db.Argument, self.arguments, ()),
            (redun_db.ArgumentResult, self.results, ("arg_hash", "result_call_hash")),
            (redun_db.Job, self.jobs, ("id",)),
        ]
        with original.engine.begin() as connection:
            if original.engine.dialect.name == "sqlite":
                connection.execute(sa.text("PRAGMA defer_foreign_keys = ON"))
            else:
                # The checks of foreign keys take longer than all the rest, and these rows are right.
                connection.execute(sa.text("SET LOCAL session_replication_role = replica"))
            if self.jobs:
                job_id = min(job["id"] for job in self.jobs)
                execution = {"id": "execution", "args": "[]", "updated_time": None, "job_id": job_id}
                connection.execute(sa.insert(redun_db.Execution.__table__), [execution])
            for model, table_rows, order in rows:
                unique = {tuple(row[name] for name in _get_key(model)): row for row in table_rows}
                ordered = sorted(unique.values(), key=lambda row: _sort_key(row, order))
                for begin in range(0, len(ordered), 10_000):
                    connection.execute(sa.insert(model.__table__), ordered[begin : begin + 10_000])


def _get_key(model: Any) -> list[str]:
    return [column.name for column in model.__table__.primary_key]


def _sort_key(row: dict[str, Any], order: tuple[str, ...]) -> Any:
    if order:
        return tuple(row[name] for name in order)
    return row["arg_position"] is None, row["arg_position"] or 0, row["arg_key"] or "", row["arg_hash"]


def make_chains(chains: int, length: int) -> tuple[Graph, str]:
    """Return a workflow of many chains of calls that end in one merge, and the hash of its result.

    Every call of a chain has two arguments, one of which came from the call before: 5 edges a call.
    """
    graph = Graph()
    step, merge, main = graph.add_task("step"), graph.add_task("merge"), graph.add_task("main")
    constant = graph.add_value("constant")
    ends, results, order = [], [], 0
    calls = []
    for chain in range(chains):
        call, value = "", graph.add_value(f"input {chain}")
        for number in range(length):
            label = f"{chain}/{number}"
            previous, given = call, value
            value = graph.add_value(label)
            call = graph.add_call(label, step, value, 1 + order)
            graph.add_argument(call, given, 0, None, [previous] if previous else [])
            graph.add_argument(call, constant, 1)
            calls.append(call)
            order += 1
        ends.append(call)
        results.append(value)
    merged = graph.add_value("merged")
    merge_call = graph.add_call("merge", merge, merged, 1 + order, (order,))
    graph.add_argument(merge_call, graph.add_value(results, results), 0, None, ends)
    main_call = graph.add_call("main", main, merged, 0)
    for number, call in enumerate([*calls, merge_call]):
        graph.add_child(main_call, call, number)
    return graph, merged


def make_samples(samples: int, failed: int = 0) -> tuple[Graph, str, str]:
    """Return a workflow of trim, align and call for each of many samples, then a merge, and the hashes of the
    genome that all are aligned to and of the merged result.

    The calls of the last samples failed: nothing was made of them.
    """
    graph = Graph()
    trim, align, call, merge = (graph.add_task(name, "lab") for name in ("trim", "align", "call", "merge"))
    genome = graph.add_value("genome.fasta")
    ends, results = [], []
    for number in range(samples):
        name = f"s{number:04}"
        reads = graph.add_value(f"{name}.fastq")
        trimmed, aligned = (graph.add_value(f"{name}.{ending}") for ending in ("fq", "bam"))
        trim_call = graph.add_call(f"trim {name}", trim, trimmed, 3 * number, (3 * number,))
        graph.add_argument(trim_call, reads, 0)
        align_call = graph.add_call(f"align {name}", align, aligned, 3 * number + 1, (3 * number + 1,))
        graph.add_argument(align_call, trimmed, 0, None, [trim_call])
        graph.add_argument(align_call, genome, 1)
        variants = graph.add_value(f"{name}.vcf")
        if number >= samples - failed:
            graph.values[-1]["type"] = "redun.ErrorValue"
        variants_call = graph.add_call(f"call {name}", call, variants, 3 * number + 2, (3 * number + 2,))
        graph.add_argument(variants_call, aligned, 0, None, [align_call])
        graph.add_argument(variants_call, genome, 1)
        if number < samples - failed:
            ends.append(variants_call)
            results.append(variants)
    merged = graph.add_value("merged.vcf")
    last = 3 * samples
    merge_call = graph.add_call("merge", merge, merged, last, (last,))
    graph.add_argument(merge_call, graph.add_value(results, results), 0, None, ends)
    for job in graph.jobs:
        job["end_time"] = job["start_time"] + timedelta(seconds=1)
    return graph, genome, merged


def make_wide_call(children: int) -> tuple[Graph, str, str]:
    """Return a call with many children of which one returned the value, and the hashes of the call and the
    value.
    """
    graph = Graph()
    task, wanted = graph.add_task("step"), graph.add_value("wanted")
    other, both = graph.add_value("other"), graph.add_value(["wanted", "other"], [wanted])
    parent = graph.add_call("parent", task, both)
    for number in range(children):
        value = wanted if number == children // 2 else other
        graph.add_child(parent, graph.add_call(str(number), task, value, starts=()), number)
    return graph, parent, wanted


def make_popular_value(wholes: int) -> tuple[Graph, str]:
    """Return a value that is a part of many values, each the result of a call, and its hash."""
    graph = Graph()
    task, part = graph.add_task("step"), graph.add_value("part")
    main = graph.add_call("main", task, graph.add_value("main"))
    for number in range(wholes):
        call = graph.add_call(str(number), task, graph.add_value([number], [part]), starts=(number,))
        graph.add_child(main, call, number)
    return graph, part


def make_shared_upstream(chains: int, length: int, shared: int) -> tuple[Graph, str]:
    """Return many chains that all begin at the end of one long chain, and the hash of the result of their
    merge.
    """
    graph = Graph()
    step, merge = graph.add_task("step"), graph.add_task("merge")
    end, value = "", graph.add_value("input")

    def extend(label: str, previous: str, given: str) -> tuple[str, str]:
        result = graph.add_value(label)
        call = graph.add_call(label, step, result)
        graph.add_argument(call, given, 0, None, [previous] if previous else [])
        return call, result

    for number in range(shared):
        end, value = extend(f"shared/{number}", end, value)
    ends, results = [], []
    for chain in range(chains):
        call, result = end, value
        for number in range(length):
            call, result = extend(f"{chain}/{number}", call, result)
        ends.append(call)
        results.append(result)
    merged = graph.add_value("merged")
    merge_call = graph.add_call("merge", merge, merged, 1)
    graph.add_argument(merge_call, graph.add_value(results, results), 0, None, ends)
    return graph, merged


def make_equal_fan(width: int) -> tuple[Graph, str]:
    """Return a call whose many children return one value, each used by a call of its own, and the merged
    result.
    """
    graph = Graph()
    step, use, merge = graph.add_task("step"), graph.add_task("use"), graph.add_task("merge")
    equal, merged = graph.add_value("equal"), graph.add_value("merged")
    main = graph.add_call("main", merge, merged)
    fan = graph.add_call("fan", step, graph.add_value([equal] * width, [equal]), 1)
    users, results = [], []
    for number in range(width):
        child = graph.add_call(f"step/{number}", step, equal)
        graph.add_argument(child, graph.add_value(number), 0)
        graph.add_child(fan, child, number)
        # The same call made again and again: equal to itself.
        graph.add_child(main, fan, number)
        result = graph.add_value(f"use/{number}")
        user = graph.add_call(f"use/{number}", use, result)
        graph.add_argument(user, equal, 0, None, [fan, child])
        graph.add_child(main, user, width + number)
        users.append(user)
        results.append(result)
    call = graph.add_call("merge", merge, merged, 2, (2,))
    graph.add_argument(call, graph.add_value(results, results), 0, None, users)
    graph.add_child(main, call, 2 * width)
    return graph, merged
