"""Upstream: what a node came from."""

from __future__ import annotations

import asyncio
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple

import sqlalchemy as sa

from aredun.dataflow.load import Direction
from aredun.dataflow.statements import (
    CANDIDATE_CALLS,
    NO_ARGUMENT,
    Transition,
    has_part,
    is_internal,
    latest_parent,
    select_columns,
)
from aredun.loop.pacing import list_in_turns

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

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
        "SELECT e.child_id FROM (SELECT k0.call_hash, k0.task_hash FROM call_node k0 "
        f"WHERE k0.value_hash = {value} UNION ALL SELECT k1.call_hash, k1.task_hash FROM subvalue s "
        f"CROSS JOIN call_node k1 WHERE s.value_hash = {value} AND k1.value_hash = s.parent_value_hash "
        f"AND s.parent_value_hash <> {value}) k CROSS JOIN call_edge e "
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
        f"AND {_MATCHES} AND p.call_hash = pa.call_hash",
        select_columns("p", "{w}.value", "pa"),
        f"'A', pa.arg_hash, {{w}}.value, {latest_parent('{w}.next')}",
        reach=f"FROM {{n}} argument pa WHERE {_MATCHES}",
    ),
    # The only child that returned a value; the call itself, without its task and result, where it is its own.
    Transition(
        "R",
        f"FROM {{n}} (SELECT 1 AS one) o LEFT JOIN call_node x ON x.call_hash = {_ONLY_CHILD} "
        "WHERE {w}.hash IS NOT NULL",
        "COALESCE(x.call_hash, {w}.hash), x.task_hash, x.value_hash, "
        f"CASE WHEN x.call_hash IS NOT NULL THEN {{w}}.value END, {NO_ARGUMENT}",
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
        "(SELECT d.parent_id FROM (SELECT DISTINCT e.parent_id FROM call_edge e "
        "WHERE e.child_id = a.call_hash) d CROSS JOIN call_node q WHERE q.call_hash = d.parent_id "
        "AND NOT EXISTS (SELECT 1 FROM argument_result r0 CROSS JOIN call_node u0 "
        "WHERE r0.arg_hash = a.arg_hash AND u0.call_hash = r0.result_call_hash AND NOT EXISTS ("
        "SELECT 1 FROM call_edge e0 WHERE e0.parent_id = d.parent_id AND e0.child_id = r0.result_call_hash "
        "LIMIT 1 OFFSET 0) LIMIT 1 OFFSET 0) "
        "ORDER BY q.timestamp IS NULL, q.timestamp DESC, d.parent_id LIMIT 1)"
    )
    # The limit keeps the databases from looking for the common parent again for every upstream call.
    contexts = (
        f"(SELECT n.idx, a.arg_hash, {context} AS parent FROM {dialect.table('A', 1)} n "
        f"CROSS JOIN argument a WHERE a.arg_hash = n.c1 LIMIT {NO_LIMIT} OFFSET 0) c"
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


class Candidate(NamedTuple):
    """A call whose result is or holds a value; the latest start of its jobs, None without a job."""

    call_hash: str
    task_hash: str
    value_hash: str
    started: Any


async def _find_value_edges(session: AsyncSession, value_hash: str) -> list[Any]:
    """Return the edge from a value to the call that it came from, none for an origin."""
    found = await session.execute(sa.text(CANDIDATES), {"value": value_hash})
    candidates = await list_in_turns(map(Candidate._make, found))
    if not candidates:
        return []
    found = await session.execute(sa.text(ANCESTRY), {"value": value_hash})
    edges = await list_in_turns(map(tuple, found))
    origin = await asyncio.to_thread(find_origin, candidates, edges)
    return [] if origin is None else [(0, *origin[:3], *[None] * 5, 0, None)]


def find_origin(candidates: Sequence[Candidate], edges: Iterable[tuple[str, str, int]]) -> Candidate | None:
    """Return the call that a value came from, given the call edges above the candidates (see `ANCESTRY`).

    An ancestor of another candidate only passed the value on. Of the others, the candidate that ran last
    wins; None where none ran. No order hangs on a set or on rows.
    """
    parents: dict[str, list[str]] = {}
    for child, parent, _ in sorted(edges, key=itemgetter(2, 1)):
        parents.setdefault(child, []).append(parent)
    hashes = {candidate.call_hash for candidate in candidates}
    seen: set[str] = set()
    routing = {_find_ancestor(call_hash, hashes, parents, seen) for call_hash in sorted(hashes)}
    ran = [call for call in candidates if call.started is not None and call.call_hash not in routing]
    latest = max((call.started for call in ran), default=None)
    return min((call for call in ran if call.started == latest), default=None)


def _find_ancestor(
    call_hash: str, wanted: set[str], parents: Mapping[str, Sequence[str]], seen: set[str]
) -> str | None:
    """Return the first wanted ancestor in pre-order; skip what earlier calls have seen, and add to that."""
    path = [iter(parents.get(call_hash, ()))]
    while path:
        for parent in path[-1]:
            if parent in seen:
                continue
            if parent in wanted:
                # Not added to `seen`: the searches of other calls may end here, too.
                return parent
            seen.add(parent)
            path.append(iter(parents.get(parent, ())))
            break
        else:
            path.pop()
    return None


UPSTREAM = Direction(
    TRANSITIONS,
    _find_value_edges,
    parent=(
        f"CASE {{kind}} WHEN 'C' THEN {latest_parent('{hash}')} "
        f"WHEN 'A' THEN {latest_parent(_OWNER.format(arg='{hash}'))} END"
    ),
    ordered=_RESULTS,
    make_order_statement=make_order_statement,
)
