"""The statements of a downstream walk; see `aredun.dataflow.statements` for how fragments are put
together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aredun.dataflow.statements import CANDIDATE_CALLS, WHOLES, holds

if TYPE_CHECKING:
    from aredun.database.graph import GraphDialect

# Whether two values have a part in common. Most values have no parts: that is looked at first.
_OVERLAPS = (
    "(EXISTS (SELECT 1 FROM subvalue z WHERE z.parent_value_hash = {w}.value LIMIT 1 OFFSET 0) AND EXISTS ("
    "SELECT 1 FROM subvalue x CROSS JOIN subvalue y WHERE x.parent_value_hash = {other} "
    "AND y.value_hash = x.value_hash AND y.parent_value_hash = {w}.value LIMIT 1 OFFSET 0))"
)
# What of a value is followed into another one that shares it: the value where the other is or holds it, else
# the whole other, NULL where they have nothing to do with each other.
_SHARED_ARGUMENT = (
    f"CASE WHEN {holds('b.value_hash', '{w}.value')} THEN {{w}}.value "
    f"WHEN {holds('{w}.value', 'b.value_hash')} OR {_OVERLAPS.replace('{other}', 'b.value_hash')} "
    "THEN b.value_hash END"
)
# The same where something was made of the value for certain.
_MADE_ARGUMENT = f"CASE WHEN {holds('b.value_hash', '{w}.value')} THEN {{w}}.value ELSE b.value_hash END"
_MADE_RESULT = f"CASE WHEN {holds('p.value_hash', '{w}.value')} THEN {{w}}.value ELSE p.value_hash END"

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


def _is_apart(result: str) -> str:
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
    f"AND k.call_hash = b.call_hash AND NOT {_is_apart('m.value_hash')}"
)
# The calls that made their results of a child's.
_PARENTS = (
    "FROM {n} call_edge e CROSS JOIN call_node p "
    "WHERE {unlikely}(e.child_id = {w}.hash) AND p.call_hash = e.parent_id"
)


def make_downstream_reach_statement(dialect: GraphDialect) -> str:
    """Return the statement that finds what a downstream walk will reach; parameters and rows as upstream,
    `next` is NULL.
    """
    stop = dialect.strings("stop")
    branches = [
        f"SELECT 'C', k.call_hash, '', NULL {_OWN_CALL} AND {{w}}.kind = 'A'",
        f"SELECT 'A', b.arg_hash, {_SHARED_ARGUMENT}, NULL {_CHILD_ARGUMENTS} AND {{w}}.kind = 'A'",
        f"SELECT 'R', k.call_hash, k.value_hash, NULL {_RESULT} AND {{w}}.kind = 'C' AND {{w}}.hash NOT "
        f"IN ({stop})",
        f"SELECT 'A', b.arg_hash, {_MADE_ARGUMENT}, NULL {_USES} AND {{w}}.kind = 'R'",
        f"SELECT 'R', p.call_hash, {_MADE_RESULT}, NULL {_PARENTS} AND {{w}}.kind = 'R'",
    ]
    return dialect.recursive(f"SELECT c1, c2, c3, NULL FROM {dialect.table('seeds', 3)} z", branches)


def make_downstream_edges_statement(dialect: GraphDialect, kinds: str) -> str:
    """Return the statement that lists the downstream edges of many nodes.

    Parameters are the tables `c`, `a` and `r` as upstream. Rows are `(branch, idx, call, task, result,
    value, argument, own value, position, name, call order, timestamp)`, in no order:

    - branch 0, the call of argument idx; branch 1, an argument of one of its children;
    - branch 2, the result of call idx;
    - branch 3, an argument that result idx went into; branch 4, a parent of call idx.
    """
    call, argument = (
        "k.call_hash, k.task_hash, k.value_hash",
        "b.arg_hash, b.value_hash, b.arg_position, b.arg_key",
    )
    nothing = "NULL, NULL, CAST(NULL AS INTEGER), NULL"
    branches = {
        "a": [
            f"SELECT 0, n.idx, {call}, NULL, {nothing}, 0, CAST(NULL AS TIMESTAMP) {_OWN_CALL}",
            f"SELECT 1, n.idx, {call}, {_SHARED_ARGUMENT}, {argument}, e.call_order, "
            f"CAST(NULL AS TIMESTAMP) {_CHILD_ARGUMENTS}",
        ],
        "c": [f"SELECT 2, n.idx, {call}, k.value_hash, {nothing}, 0, CAST(NULL AS TIMESTAMP) {_RESULT}"],
        "r": [
            f"SELECT 3, n.idx, {call}, {_MADE_ARGUMENT}, {argument}, 0, k.timestamp {_USES}",
            f"SELECT 4, n.idx, p.call_hash, p.task_hash, p.value_hash, {_MADE_RESULT}, {nothing}, 0, "
            f"p.timestamp {_PARENTS}",
        ],
    }
    return " UNION ALL ".join(
        branch.format(
            n=f"(SELECT idx, c1 AS hash, c2 AS value FROM {dialect.table(kind, 2)} y) n CROSS JOIN",
            w="n",
            unlikely=dialect.unlikely,
        )
        for kind in kinds
        for branch in branches[kind]
    )


_MADE_OF_VALUE = (
    f"FROM ({CANDIDATE_CALLS}) c CROSS JOIN argument_result r CROSS JOIN argument b CROSS JOIN call_node k "
    "WHERE r.result_call_hash = c.call_hash AND b.arg_hash = r.arg_hash AND k.call_hash = b.call_hash "
    f"AND NOT {_is_apart('c.value_hash')}"
)
_PARENTS_OF_VALUE = (
    f"FROM ({CANDIDATE_CALLS}) c CROSS JOIN call_edge e CROSS JOIN call_node p "
    "WHERE e.child_id = c.call_hash AND p.call_hash = e.parent_id "
    f"AND NOT {holds('p.value_hash', '{w}.value')}"
)


def _make_value_uses() -> str:
    """Return the statement that lists what a value went into."""
    call, argument = (
        "k.call_hash, k.task_hash, k.value_hash",
        "b.arg_hash, b.value_hash, b.arg_position, b.arg_key",
    )
    nothing = "NULL, NULL, CAST(NULL AS INTEGER), NULL"
    branches = [
        f"SELECT 0, {call}, NULL, {nothing}, 0, k.timestamp FROM call_node k WHERE k.task_hash = {{w}}.value",
        f"SELECT 1, {call}, {{w}}.value, {argument}, 0, k.timestamp FROM argument b CROSS JOIN call_node k "
        "WHERE b.value_hash = {w}.value AND k.call_hash = b.call_hash",
        f"SELECT 1, {call}, {{w}}.value, {argument}, 0, k.timestamp FROM argument b CROSS JOIN call_node k "
        f"WHERE b.value_hash IN ({WHOLES}) AND k.call_hash = b.call_hash",
        f"SELECT 1, {call}, {_MADE_ARGUMENT}, {argument}, 0, k.timestamp {_MADE_OF_VALUE}",
        f"SELECT 2, p.call_hash, p.task_hash, p.value_hash, p.value_hash, {nothing}, 0, p.timestamp "
        f"{_PARENTS_OF_VALUE}",
    ]
    return " UNION ALL ".join(branches).replace("{w}.value", ":value")


# What a value went into. Rows are `(branch, call, task, result, value, argument, own value, position, name,
# call order, timestamp)`, the same one more than once:
# - branch 0, the calls of the task that it is;
# - branch 1, the arguments that are or hold it, and those made of a result that is or holds it;
# - branch 2, the calls that made something else of such a result.
USES_OF_VALUE = _make_value_uses()
