"""Call graphs that no scheduler would record, for the tests of dataflow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from redun.backends import db as redun_db

from tests.support.dataflow import Graph

if TYPE_CHECKING:
    from random import Random

TABLES = (
    redun_db.Job,
    redun_db.Execution,
    redun_db.ArgumentResult,
    redun_db.Argument,
    redun_db.CallEdge,
    redun_db.CallNode,
    redun_db.Task,
    redun_db.Subvalue,
    redun_db.Value,
)


def make_random_graph(random: Random) -> Graph:
    """Return a graph without any regard for what a scheduler would record: cycles, ties, wrappers, calls
    without jobs.
    """
    graph = Graph()
    tasks = [
        graph.add_task("one"),
        graph.add_task("two", "space"),
        graph.add_task("broken", "", "not a function"),
        graph.add_task("script", "redun"),
    ]
    values = [graph.add_value(number) for number in range(random.randint(1, 6))]
    held: dict[str, list[str]] = {}
    for number in range(random.randint(0, 4)):
        parts = dict.fromkeys(random.sample(values, random.randint(0, min(3, len(values)))))
        for part in list(parts):
            # As redun records them: parts of parts are parts.
            parts.update(dict.fromkeys(held.get(part, ())))
        values.append(graph.add_value([number], parts))
        held[values[-1]] = list(parts)
    calls = []
    for number in range(random.randint(1, 12)):
        starts = [random.randint(0, 3) for _ in range(random.choice([0, 1, 1, 2]))]
        task, value = random.choice(tasks), random.choice(values)
        calls.append(graph.add_call(str(number), task, value, random.randint(0, 3), starts))
    for _ in range(random.randint(0, 25)):
        graph.add_child(random.choice(calls), random.choice(calls), random.randint(0, 4))
    for call in calls:
        for position in range(random.randint(0, 2)):
            upstream = random.sample(calls, random.choice([0, 0, 1, min(3, len(calls))]))
            graph.add_argument(call, random.choice(values), position, None, upstream)
        for key in random.sample(["first", "second", "x"], random.randint(0, 2)):
            upstream = random.sample(calls, random.choice([0, 1]))
            graph.add_argument(call, random.choice(values), None, key, upstream)
    return graph


def clear(original: Any) -> None:
    """Delete every row."""
    original.session.rollback()
    original.session.expunge_all()
    with original.engine.begin() as connection:
        if original.engine.dialect.name == "sqlite":
            connection.exec_driver_sql("PRAGMA defer_foreign_keys = ON")
        for model in TABLES:
            connection.execute(model.__table__.delete())
