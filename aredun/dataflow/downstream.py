"""Downstream: what was derived from a node. redun has no such walk."""

from __future__ import annotations

from functools import partial
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from aredun.dataflow.load import Direction
from aredun.dataflow.sections import iter_unique
from aredun.dataflow.statements import CANDIDATE_CALLS, WHOLES, Transition, has_part, select_columns
from aredun.loop.pacing import list_in_turns

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

# Whether two values have a part in common. Most values have no parts: that is looked at first.
_OVERLAPS = (
    "(EXISTS (SELECT 1 FROM subvalue z WHERE z.parent_value_hash = {w}.value LIMIT 1 OFFSET 0) AND EXISTS ("
    "SELECT 1 FROM subvalue x CROSS JOIN subvalue y WHERE x.parent_value_hash = {other} "
    "AND y.value_hash = x.value_hash AND y.parent_value_hash = {w}.value LIMIT 1 OFFSET 0))"
)
# What of a value is followed into another one that shares it: the value where the other is or holds it, else
# the whole other, NULL where they have nothing to do with each other.
_SHARED_ARGUMENT = (
    f"CASE WHEN {has_part('b.value_hash', '{w}.value')} THEN {{w}}.value "
    f"WHEN {has_part('{w}.value', 'b.value_hash')} OR {_OVERLAPS.replace('{other}', 'b.value_hash')} "
    "THEN b.value_hash END"
)
# The same where something was made of the value for certain.
_MADE_ARGUMENT = f"CASE WHEN {has_part('b.value_hash', '{w}.value')} THEN {{w}}.value ELSE b.value_hash END"
_MADE_RESULT = f"CASE WHEN {has_part('p.value_hash', '{w}.value')} THEN {{w}}.value ELSE p.value_hash END"

# An argument's own call.
_OWN_CALL = (
    "FROM {n} argument a CROSS JOIN call_node k WHERE a.arg_hash = {w}.hash AND k.call_hash = a.call_hash"
)
# The arguments that child calls of an argument's call were given.
_CHILD_ARGUMENTS = (
    "FROM {n} argument a CROSS JOIN call_edge e CROSS JOIN argument b CROSS JOIN call_node k "
    "WHERE a.arg_hash = {w}.hash AND {unlikely}(e.parent_id = a.call_hash) AND b.call_hash = e.child_id "
    f"AND k.call_hash = e.child_id AND {_SHARED_ARGUMENT} IS NOT NULL"
)
_RESULT = "FROM {n} call_node k WHERE k.call_hash = {w}.hash"


def _is_other_part(result: str) -> str:
    """Return the condition that an argument is one part of a result, and the value followed is another."""
    return (
        f"({result} <> {{w}}.value AND {result} <> b.value_hash AND EXISTS (SELECT 1 FROM subvalue v "
        f"WHERE v.value_hash = b.value_hash AND v.parent_value_hash = {result} LIMIT 1 OFFSET 0) "
        f"AND {_SHARED_ARGUMENT} IS NULL)"
    )


# The arguments that were made of a call's result.
_USES = (
    "FROM {n} call_node m CROSS JOIN argument_result r CROSS JOIN argument b CROSS JOIN call_node k "
    "WHERE m.call_hash = {w}.hash AND {unlikely}(r.result_call_hash = {w}.hash) AND b.arg_hash = r.arg_hash "
    f"AND k.call_hash = b.call_hash AND NOT {_is_other_part('m.value_hash')}"
)
# The calls that made their results of a child's.
_PARENTS = (
    "FROM {n} call_edge e CROSS JOIN call_node p "
    "WHERE {unlikely}(e.child_id = {w}.hash) AND p.call_hash = e.parent_id"
)

TRANSITIONS = (
    Transition("A", _OWN_CALL, select_columns("k", "NULL"), "'C', k.call_hash, '', NULL"),
    Transition(
        "A",
        _CHILD_ARGUMENTS,
        select_columns("k", _SHARED_ARGUMENT, "b"),
        f"'A', b.arg_hash, {_SHARED_ARGUMENT}, NULL",
        order="e.call_order",
    ),
    Transition("C", _RESULT, select_columns("k", "k.value_hash"), "'R', k.call_hash, k.value_hash, NULL"),
    Transition(
        "R",
        _USES,
        select_columns("k", _MADE_ARGUMENT, "b"),
        f"'A', b.arg_hash, {_MADE_ARGUMENT}, NULL",
        time="k.timestamp",
    ),
    Transition(
        "R",
        _PARENTS,
        select_columns("p", _MADE_RESULT),
        f"'R', p.call_hash, {_MADE_RESULT}, NULL",
        time="p.timestamp",
    ),
)

_MADE_OF_VALUE = (
    f"FROM ({CANDIDATE_CALLS}) c CROSS JOIN argument_result r CROSS JOIN argument b CROSS JOIN call_node k "
    "WHERE r.result_call_hash = c.call_hash AND b.arg_hash = r.arg_hash AND k.call_hash = b.call_hash "
    f"AND NOT {_is_other_part('c.value_hash')}"
)
_PARENTS_OF_VALUE = (
    f"FROM ({CANDIDATE_CALLS}) c CROSS JOIN call_edge e CROSS JOIN call_node p "
    "WHERE e.child_id = c.call_hash AND p.call_hash = e.parent_id "
    f"AND NOT {has_part('p.value_hash', '{w}.value')}"
)
_GIVEN = "FROM argument b CROSS JOIN call_node k WHERE b.value_hash {holds} AND k.call_hash = b.call_hash"
_TO_ARGUMENT = select_columns("k", "{w}.value", "b")
# What a value went into: rows as those of `make_edges_statement`, without the index, the same one more than
# once.
USES_OF_VALUE = " UNION ALL ".join(
    f"SELECT {rank}, {columns}, 0, {call}.timestamp {body}".replace("{w}.value", ":value")
    for rank, call, columns, body in (
        # The calls of the task that it is.
        (0, "k", select_columns("k", "NULL"), "FROM call_node k WHERE k.task_hash = {w}.value"),
        # To arguments: those that are or hold the value, and those made of a result that is or holds it.
        (1, "k", _TO_ARGUMENT, _GIVEN.format(holds="= :value")),
        (1, "k", _TO_ARGUMENT, _GIVEN.format(holds=f"IN ({WHOLES})")),
        (1, "k", select_columns("k", _MADE_ARGUMENT, "b"), _MADE_OF_VALUE),
        # To results of calls that made something else of such a result.
        (2, "p", select_columns("p", "p.value_hash"), _PARENTS_OF_VALUE),
    )
)


async def _find_value_edges(session: AsyncSession, value_hash: str) -> list[Any]:
    """Return the edges from a value to what it went into."""
    found = await session.execute(sa.text(USES_OF_VALUE), {"value": value_hash})
    return await list_in_turns(map(tuple, found))


# A child that was called again is one edge all the same: the first call counts.
DOWNSTREAM = Direction(TRANSITIONS, _find_value_edges, choose=partial(iter_unique, key=attrgetter("key")))
