"""The statements of both walks: what follows from many nodes at once.

A `Transition` tells one kind of edge. The same transitions serve the recursion that looks ahead (where they
find the nodes that come next) and the listing of edges. In their SQL `{n}` stands for the table of the nodes
that they leave with its join, `{w}` for its name; its columns are `hash`, `value` and `next`, the latest
parent of a call, and of an argument's call.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import sqlalchemy as sa
from sqlalchemy.orm import aliased

from aredun.dataflow.naming import REDUN_INTERNAL_TASKS
from aredun.models import Argument, CallNode, Execution, Job, Task

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aredun.storage.graph import GraphDialect

FULL_NAME = str(aliased(Task, name="t").fullname.compile())
INTERNAL_TASKS = ", ".join(f"'{name}'" for name in sorted(REDUN_INTERNAL_TASKS))
# Of nodes that edges leave: calls, values within arguments, values within results.
KINDS = "CAR"
# Columns of `make_edges_statement`.
EDGE_WIDTH = 12
NO_TIME = "CAST(NULL AS TIMESTAMP)"
NO_ARGUMENT = "NULL, NULL, CAST(NULL AS INTEGER), NULL"


class Transition(NamedTuple):
    """One kind of edge.

    Attributes
    ----------
    kind : str
        What it leaves: `C`, a call; `A`, a value within an argument; `R`, a value within a result.
    body : str
        FROM and WHERE of the statement that finds where it leads to.
    columns : str
        The call, the value and the argument that it leads to (see `select_columns`).
    node : str
        Kind, hash, value followed and latest parent of the node that it leads to.
    order, time : str
        What orders the edges of one transition out of one node (see `make_rank`).
    reach : str
        What `body` is for the recursion, where that asks for less.
    """

    kind: str
    body: str
    columns: str
    node: str
    order: str = "0"
    time: str = NO_TIME
    reach: str = ""


def select_columns(call: str | None, value: str, argument: str | None = None) -> str:
    """Return the columns of an edge: call, task, result, value, argument, own value, position, name.

    `call` and `argument` are names of their tables in the statement; None selects NULLs.
    """
    calls = f"{call}.call_hash, {call}.task_hash, {call}.value_hash" if call else "NULL, NULL, NULL"
    names = ("arg_hash", "value_hash", "arg_position", "arg_key")
    arguments = ", ".join(f"{argument}.{name}" for name in names) if argument else NO_ARGUMENT
    return f"{calls}, {value}, {arguments}"


def make_reach_statement(dialect: GraphDialect, transitions: Sequence[Transition], parent: str) -> str:
    """Return the statement that finds what a walk will reach from many nodes, breadth first, up to a limit.

    Parameters are the table `seeds` (kind, hash, value), the strings `stop` (calls that are not followed)
    and `limit`; rows are `(kind, hash, value, next)`, the seeds among them.
    """
    branches = []
    for transition in transitions:
        body = transition.reach or transition.body
        branch = f"SELECT {transition.node} {body} AND {{w}}.kind = '{transition.kind}'"
        if transition.kind == "C":
            branch += f" AND {{w}}.hash NOT IN ({dialect.strings('stop')})"
        branches.append(branch)
    parent = parent.format(kind="c1", hash="c2")
    seeds = f"SELECT c1, c2, c3, {parent} FROM {dialect.table('seeds', 3)} z"
    return dialect.recursive(seeds, branches)


def make_edges_statement(dialect: GraphDialect, transitions: Sequence[Transition], parent: str) -> str:
    """Return the statement that lists the edges out of many nodes.

    Parameters are the tables of the nodes of each kind (`C`, `A`, `R`), with the columns hash, value and
    next (see `parent` of a `Direction` for where that is not known). Rows are `(number of the transition,
    index of the node, call, task, result, value, argument, own value, position, name, order, time)`, in no
    order.
    """
    tables = ", ".join(
        f"{kind}(idx, hash, value, next) AS (SELECT idx, c1, c2, "
        f"COALESCE(c3, {parent.format(kind=repr(kind), hash='c1')}) FROM {dialect.table(kind, 3)} y)"
        for kind in KINDS
    )
    branches = " UNION ALL ".join(
        f"SELECT {number}, n.idx, {transition.columns}, {transition.order}, {transition.time} "
        + transition.body.replace("{n}", f"{transition.kind} n CROSS JOIN")
        for number, transition in enumerate(transitions)
    )
    return f"WITH {tables} {branches.format(w='n', unlikely=dialect.unlikely)}"


def has_part(container: str, value: str) -> str:
    """Return the condition that a value is another one or a part of it: a probe of the primary key, never a
    blob.

    OFFSET keeps PostgreSQL from collecting all parts, or all wholes, to look them up in.
    """
    return (
        f"({container} = {value} OR EXISTS (SELECT 1 FROM subvalue s "
        f"WHERE s.value_hash = {value} AND s.parent_value_hash = {container} LIMIT 1 OFFSET 0))"
    )


def is_internal(call: str) -> str:
    """Return the condition that a call is one of redun's wrappers."""
    return (
        f"EXISTS (SELECT 1 FROM task t WHERE t.hash = {call}.task_hash "
        f"AND {FULL_NAME} IN ({INTERNAL_TASKS}) LIMIT 1 OFFSET 0)"
    )


def latest_parent(call: str) -> str:
    """Return the expression for the parent of a call that was recorded last; no timestamp counts as the
    oldest.
    """
    return (
        f"(SELECT e.parent_id FROM call_edge e CROSS JOIN call_node q WHERE e.child_id = {call} "
        "AND q.call_hash = e.parent_id "
        "ORDER BY q.timestamp IS NULL, q.timestamp DESC, e.call_order, e.parent_id LIMIT 1)"
    )


# The calls whose results are or hold a value. A join would scan all calls for every whole where sqlite's
# statistics say that most calls return the same; IN scans them once at most.
WHOLES = "SELECT s.parent_value_hash FROM subvalue s WHERE s.value_hash = :value"
CANDIDATE_CALLS = (
    "SELECT k.call_hash, k.task_hash, k.value_hash FROM call_node k WHERE k.value_hash = :value UNION "
    f"SELECT k.call_hash, k.task_hash, k.value_hash FROM call_node k WHERE k.value_hash IN ({WHOLES})"
)

_CALL_COLUMNS = (CallNode.call_hash, CallNode.task_hash, CallNode.value_hash)
CALL = sa.select(*_CALL_COLUMNS).where(CallNode.call_hash == sa.bindparam("hash"))
ARGUMENT = (
    sa.select(*_CALL_COLUMNS, Argument.arg_hash, Argument.value_hash, Argument.arg_position, Argument.arg_key)
    .join(CallNode, CallNode.call_hash == Argument.call_hash)
    .where(Argument.arg_hash == sa.bindparam("hash"))
)


def _list_strings(dialect: GraphDialect, name: str) -> sa.TextualSelect:
    """Return the strings bound to a name, for IN."""
    return sa.text(dialect.strings(name)).columns(sa.column("item", sa.String))


def make_tasks_statement(dialect: GraphDialect) -> sa.Executable:
    """Return the statement that loads tasks: `(hash, name, namespace, source)` of the strings `tasks`."""
    columns = (Task.hash, Task.name, Task.namespace, Task.source)
    return sa.select(*columns).where(Task.hash.in_(_list_strings(dialect, "tasks")))


def make_counts_statement(dialect: GraphDialect) -> sa.Executable:
    """Return the statement that counts the arguments of calls: `(call_hash, count)` of the strings
    `calls`."""
    call = Argument.call_hash
    return sa.select(call, sa.func.count()).where(call.in_(_list_strings(dialect, "calls"))).group_by(call)


def make_jobs_statement(dialect: GraphDialect) -> sa.Executable:
    """Return the statement that finds the latest jobs of calls: `(call_hash, job_id, execution_id)` of the
    strings `calls`.

    An execution that is not recorded is NULL.
    """
    latest = (Job.start_time.is_(None), Job.start_time.desc(), Job.id)
    place = sa.func.row_number().over(partition_by=Job.call_hash, order_by=latest).label("place")
    ranked = (
        sa.select(Job.call_hash, Job.id, Execution.id.label("execution_id"), place)
        .outerjoin(Execution, Execution.id == Job.execution_id)
        .where(Job.call_hash.in_(_list_strings(dialect, "calls")))
        .subquery()
    )
    return sa.select(ranked.c.call_hash, ranked.c.id, ranked.c.execution_id).where(ranked.c.place == 1)
