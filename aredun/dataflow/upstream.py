"""Upstream: what a node came from."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from aredun.dataflow.load import Direction
from aredun.dataflow.origin import Candidate, find_origin, sort_parents
from aredun.dataflow.statements import (
    CANDIDATE_CALLS,
    Transition,
    has_part,
    is_internal,
    latest_parent,
    select_columns,
)
from aredun.loop.pacing import list_in_turns

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.ext.asyncio import AsyncSession

    from aredun.storage.graph import GraphDialect

# Above this number of children, the ones that hold a value are looked up by the value.
FEW_CHILDREN = 32
# No limit in fact, but neither planner merges a subquery that has one.
NO_LIMIT = 2**63 - 1


def only_child(call: str, value: str) -> str:
    """Return the expression for the only child that holds a value, NULL when there is none or more than one.

    A repeated child counts as often as it was called. Few children are looked at one by one; above that
    the calls that returned the value are looked for among the children.
    """
    bucket = (
        f"(SELECT CASE WHEN count(*) = 0 THEN 0 WHEN count(*) <= {FEW_CHILDREN} THEN 1 ELSE 2 END FROM "
        f"(SELECT 1 AS one FROM call_edge f WHERE f.parent_id = {call} LIMIT {FEW_CHILDREN + 1}) g)"
    )
    only = "(SELECT CASE WHEN count(*) = 1 THEN min(m.child_id) END FROM ({rows} LIMIT 2) m)"
    few = (
        f"SELECT e.child_id FROM call_edge e CROSS JOIN call_node k WHERE e.parent_id = {call} "
        f"AND k.call_hash = e.child_id AND {has_part('k.value_hash', value)} AND NOT {is_internal('k')}"
    )
    many = (
        "SELECT e.child_id FROM ("
        f"SELECT k0.call_hash, k0.task_hash FROM call_node k0 WHERE k0.value_hash = {value} UNION ALL "
        "SELECT k1.call_hash, k1.task_hash FROM subvalue s CROSS JOIN call_node k1 WHERE s.value_hash = "
        f"{value} "
        f"AND k1.value_hash = s.parent_value_hash AND s.parent_value_hash <> {value}) k CROSS JOIN "
        "call_edge e "
        f"WHERE e.parent_id = {call} AND e.child_id = k.call_hash AND NOT {is_internal('k')}"
    )
    return f"CASE {bucket} WHEN 1 THEN {only.format(rows=few)} WHEN 2 THEN {only.format(rows=many)} END"


# The value that is followed into a result: itself where the result holds it, else the whole result.
_FOLLOWED = f"CASE WHEN {has_part('u.value_hash', '{w}.value')} THEN {{w}}.value ELSE u.value_hash END"
# A value that is a part of itself matches twice.
_TWICE = (
    "(SELECT 0 AS again UNION ALL SELECT 1) t WHERE (t.again = 0 OR pa.value_hash = {w}.value AND EXISTS ("
    "SELECT 1 FROM subvalue s WHERE s.value_hash = {w}.value AND s.parent_value_hash = {w}.value "
    "LIMIT 1 OFFSET 0))"
)
_MATCHES = f"pa.call_hash = {{w}}.next AND {has_part('pa.value_hash', '{w}.value')}"
_ONLY_CHILD = only_child("{w}.hash", "{w}.value")
# The call whose parent an argument's value is routed through.
_OWNER = "(SELECT o.call_hash FROM argument o WHERE o.arg_hash = {arg})"

TRANSITIONS = (
    # The arguments of a call.
    Transition(
        "C",
        "FROM {n} argument a WHERE a.call_hash = {w}.hash",
        select_columns(None, "a.value_hash", "a"),
        "'A', a.arg_hash, a.value_hash, {w}.next",
    ),
    # The calls whose results an argument was made of.
    Transition(
        "A",
        "FROM {n} argument_result r CROSS JOIN call_node u "
        "WHERE r.arg_hash = {w}.hash AND u.call_hash = r.result_call_hash",
        select_columns("u", _FOLLOWED),
        f"'R', u.call_hash, {_FOLLOWED}, NULL",
    ),
    # The matching arguments of the latest parent.
    Transition(
        "A",
        f"FROM {{n}} argument pa CROSS JOIN call_node p CROSS JOIN {_TWICE} "
        f"AND {_MATCHES} AND p.call_hash = {{w}}.next",
        select_columns("p", "{w}.value", "pa"),
        f"'A', pa.arg_hash, {{w}}.value, {latest_parent('{w}.next')}",
        needs_next=True,
        reach=f"FROM {{n}} argument pa WHERE {_MATCHES}",
    ),
    # The only child that returned a value, NULLs where it is the call's own.
    Transition(
        "R",
        f"FROM {{n}} (SELECT 1 AS one) o LEFT JOIN call_node x ON x.call_hash = {_ONLY_CHILD} "
        "WHERE {w}.hash IS NOT NULL",
        select_columns("x", "CASE WHEN x.call_hash IS NOT NULL THEN {w}.value END"),
        "CASE WHEN x.call_hash IS NULL THEN 'C' ELSE 'R' END, COALESCE(x.call_hash, {w}.hash), "
        "CASE WHEN x.call_hash IS NULL THEN '' ELSE {w}.value END, "
        f"CASE WHEN x.call_hash IS NULL THEN {latest_parent('{w}.hash')} END",
    ),
)
_RESULTS = 1


def make_order_statement(dialect: GraphDialect) -> str:
    """Return the statement that orders the upstream calls of arguments under their latest common parent.

    The parameter is the table `A` of arguments; rows are `(idx, call_hash, call_order)`, none for an
    argument without a common parent.
    """
    context = (
        "(SELECT d.parent_id FROM (SELECT DISTINCT e.parent_id FROM call_edge e WHERE e.child_id = "
        "a.call_hash) d "
        "CROSS JOIN call_node q WHERE q.call_hash = d.parent_id AND NOT EXISTS ("
        "SELECT 1 FROM argument_result r0 CROSS JOIN call_node u0 "
        "WHERE r0.arg_hash = a.arg_hash AND u0.call_hash = r0.result_call_hash AND NOT EXISTS ("
        "SELECT 1 FROM call_edge e0 WHERE e0.parent_id = d.parent_id AND e0.child_id = r0.result_call_hash "
        "LIMIT 1 OFFSET 0) LIMIT 1 OFFSET 0) "
        "ORDER BY q.timestamp IS NULL, q.timestamp DESC, d.parent_id LIMIT 1)"
    )
    # The limit keeps the databases from looking for the common parent again for every upstream call.
    contexts = (
        f"(SELECT n.idx, a.arg_hash, {context} AS parent FROM {dialect.table('A', 1)} n CROSS JOIN "
        "argument a "
        f"WHERE a.arg_hash = n.c1 LIMIT {NO_LIMIT} OFFSET 0) c"
    )
    last = (
        "(SELECT max(o.call_order) FROM call_edge o "
        "WHERE o.parent_id = c.parent AND o.child_id = r.result_call_hash)"
    )
    return (
        f"SELECT c.idx, r.result_call_hash, {last} FROM {contexts} CROSS JOIN argument_result r "
        "CROSS JOIN call_node u WHERE c.parent IS NOT NULL AND r.arg_hash = c.arg_hash "
        "AND u.call_hash = r.result_call_hash"
    )


# Which calls may have produced a value: (call_hash, task_hash, value_hash, latest start of their jobs).
# The count keeps PostgreSQL from reading all jobs from the last one backwards until it meets the call.
CANDIDATES = (
    "SELECT c.call_hash, c.task_hash, c.value_hash, "
    "(SELECT max(j.start_time) FROM job j WHERE j.call_hash = c.call_hash HAVING count(*) > 0) AS started "
    f"FROM ({CANDIDATE_CALLS}) c WHERE NOT {is_internal('c')}"
)

# The call edges above them: (child_id, parent_id, least call_order), each pair once.
ANCESTRY = (
    f"WITH RECURSIVE c(hash) AS (SELECT call_hash FROM ({CANDIDATE_CALLS}) k), "
    "up(hash) AS (SELECT hash FROM c UNION SELECT e.parent_id FROM up CROSS JOIN call_edge e "
    "WHERE e.child_id = up.hash) "
    "SELECT e.child_id, e.parent_id, min(e.call_order) FROM up CROSS JOIN call_edge e CROSS JOIN call_node q "
    "WHERE e.child_id = up.hash AND q.call_hash = e.parent_id GROUP BY e.child_id, e.parent_id"
)


async def _find_value_edges(session: AsyncSession, value_hash: str) -> list[Any]:
    """Return the edge from a value to the call that it came from, none for an origin."""
    found = await session.execute(sa.text(CANDIDATES), {"value": value_hash})
    candidates = await list_in_turns(map(Candidate._make, found))
    if not candidates:
        return []
    found = await session.execute(sa.text(ANCESTRY), {"value": value_hash})
    edges = await list_in_turns(map(tuple, found))
    origin = await asyncio.to_thread(lambda: find_origin(candidates, sort_parents(edges)))
    return [] if origin is None else [(0, *origin[:3], *[None] * 5, 0, None)]


async def _find_orders(
    session: AsyncSession, dialect: GraphDialect, arguments: Sequence[str]
) -> dict[tuple[str, str], int]:
    """Return the order of the upstream calls of some arguments, by argument and call."""
    statement = sa.text(make_order_statement(dialect))
    found = await session.execute(statement, dialect.bind("A", [(arg,) for arg in arguments], 1))
    # The call made last comes first.
    return dict(
        await list_in_turns(((arguments[index], call), -(order or 0)) for index, call, order in found)
    )


UPSTREAM = Direction(
    TRANSITIONS,
    parent_of_argument=latest_parent(_OWNER.format(arg="c1")),
    parent_of_seed=(
        f"CASE c1 WHEN 'C' THEN {latest_parent('c2')} WHEN 'A' THEN {latest_parent(_OWNER.format(arg='c2'))} "
        "END"
    ),
    find_value_edges=_find_value_edges,
    ordered=_RESULTS,
    find_orders=_find_orders,
    repeats=True,
)
