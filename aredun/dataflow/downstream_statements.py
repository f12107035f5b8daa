"""The statements of a downstream walk; see `aredun.dataflow.statements` for how fragments are put
together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aredun.dataflow.statements import holds

if TYPE_CHECKING:
    from aredun.database.graph import GraphDialect

# What of a value is followed into another one that shares it: the value where the other is or holds it, the
# other where it is a part of the value, NULL where they have nothing to do with each other.
_SHARED = (
    f"CASE WHEN {holds('{other}', '{w}.value')} THEN {{w}}.value "
    f"WHEN {holds('{w}.value', '{other}')} THEN {{other}} END"
)
_SHARED_ARGUMENT = _SHARED.replace("{other}", "b.value_hash")
_SHARED_RESULT = _SHARED.replace("{other}", "p.value_hash")
_FOLLOWED = f"CASE WHEN {holds('b.value_hash', '{w}.value')} THEN {{w}}.value ELSE b.value_hash END"

# An argument's own call.
_OWN_CALL = (
    "FROM {n} argument a CROSS JOIN call_node k WHERE a.arg_hash = {w}.hash AND k.call_hash = a.call_hash"
)
# The arguments that child calls of an argument's call were given.
_CHILD_ARGUMENTS = (
    "FROM {n} argument a CROSS JOIN call_edge e CROSS JOIN argument b CROSS JOIN call_node k "
    "WHERE a.arg_hash = {w}.hash AND e.parent_id = a.call_hash AND b.call_hash = e.child_id "
    f"AND k.call_hash = e.child_id AND {_SHARED_ARGUMENT} IS NOT NULL"
)
_RESULT = "FROM {n} call_node k WHERE k.call_hash = {w}.hash"
# The arguments that were made of a call's result.
_USES = (
    "FROM {n} argument_result r CROSS JOIN argument b CROSS JOIN call_node k "
    "WHERE r.result_call_hash = {w}.hash AND b.arg_hash = r.arg_hash AND k.call_hash = b.call_hash"
)
# The calls that handed the result of a child on.
_PARENTS = (
    "FROM {n} call_edge e CROSS JOIN call_node p "
    f"WHERE e.child_id = {{w}}.hash AND p.call_hash = e.parent_id AND {_SHARED_RESULT} IS NOT NULL"
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
        f"SELECT 'A', b.arg_hash, {_FOLLOWED}, NULL {_USES} AND {{w}}.kind = 'R'",
        f"SELECT 'R', p.call_hash, {_SHARED_RESULT}, NULL {_PARENTS} AND {{w}}.kind = 'R'",
    ]
    return dialect.recursive(f"SELECT c1, c2, c3, NULL FROM {dialect.table('seeds', 3)} z", branches)


def make_downstream_edges_statement(dialect: GraphDialect, kinds: str) -> str:
    """Return the statement that lists the downstream edges of many nodes.

    Parameters are the tables `c`, `a` and `r` as upstream. Rows are `(branch, idx, call, task, result,
    value, argument, own value, position, name, call order, timestamp)`, in no order:

    - branch 0, the call of argument idx; branch 1, an argument of one of its children;
    - branch 2, the result of call idx;
    - branch 3, an argument that result idx went into; branch 4, a parent that handed it on.
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
            f"SELECT 3, n.idx, {call}, {_FOLLOWED}, {argument}, 0, k.timestamp {_USES}",
            f"SELECT 4, n.idx, p.call_hash, p.task_hash, p.value_hash, {_SHARED_RESULT}, {nothing}, 0, "
            f"p.timestamp {_PARENTS}",
        ],
    }
    return " UNION ALL ".join(
        branch.format(
            n=f"(SELECT idx, c1 AS hash, c2 AS value FROM {dialect.table(kind, 2)} y) n CROSS JOIN", w="n"
        )
        for kind in kinds
        for branch in branches[kind]
    )


_ROW = (
    "k.call_hash, k.task_hash, k.value_hash, b.arg_hash, b.value_hash, b.arg_position, b.arg_key, k.timestamp"
)

# What a value went into: the calls of the task that it is, and the arguments that are or hold it.
USES_OF_VALUE = (
    "SELECT k.call_hash, k.task_hash, k.value_hash, NULL, NULL, NULL, NULL, k.timestamp FROM call_node k "
    "WHERE k.task_hash = :value UNION ALL "
    f"SELECT {_ROW} FROM argument b CROSS JOIN call_node k WHERE b.value_hash = :value AND k.call_hash = "
    "b.call_hash "
    f"UNION ALL SELECT {_ROW} FROM subvalue s CROSS JOIN argument b CROSS JOIN call_node k "
    "WHERE s.value_hash = :value AND s.parent_value_hash <> :value "
    "AND b.value_hash = s.parent_value_hash AND k.call_hash = b.call_hash"
)
