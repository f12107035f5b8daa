"""The statements of an upstream walk: what follows from many nodes at once.

Every fragment is one kind of transition. It reads nodes from a table with the columns `hash` and `value`;
the same fragment serves the recursion (where it finds the nodes that come next) and the listing of edges.
`{n}` stands for that table with its join, `{w}` for its name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aredun.database.graph import GraphDialect

# Above this number of children, the ones that hold a value are looked up by the value.
FEW_CHILDREN = 32
# As many rows as there are: a subquery with a limit is not taken apart by either planner.
NO_LIMIT = 2**63 - 1

FULL_NAME = (
    "CASE WHEN t.namespace IS NULL OR t.namespace = '' THEN t.name ELSE t.namespace || '.' || t.name END"
)
INTERNAL_TASKS = "('redun.script', 'redun.postprocess_script')"


def holds(container: str, value: str) -> str:
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
        f"AND {FULL_NAME} IN {INTERNAL_TASKS} LIMIT 1 OFFSET 0)"
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
        f"AND k.call_hash = e.child_id AND {holds('k.value_hash', value)} AND NOT {is_internal('k')}"
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
FOLLOWED = f"CASE WHEN {holds('u.value_hash', '{w}.value')} THEN {{w}}.value ELSE u.value_hash END"

ARGUMENTS = "FROM {n} argument a WHERE a.call_hash = {w}.hash"
UPSTREAMS = (
    "FROM {n} argument_result r CROSS JOIN call_node u "
    "WHERE r.arg_hash = {w}.hash AND u.call_hash = r.result_call_hash"
)
PARENT_ARGUMENTS = (
    f"FROM {{n}} argument pa WHERE pa.call_hash = {{w}}.next AND {holds('pa.value_hash', '{w}.value')}"
)
CHILDREN = (
    "FROM {n} (SELECT 1 AS one) o LEFT JOIN call_node x "
    f"ON x.call_hash = {only_child('{w}.hash', '{w}.value')} WHERE {{w}}.hash IS NOT NULL"
)
# The parent that a call's or an argument's values are routed through.
_OWNER = "(SELECT o.call_hash FROM argument o WHERE o.arg_hash = {arg})"


def make_reach_statement(dialect: GraphDialect) -> str:
    """Return the statement that finds what a walk will reach from many nodes, breadth first, up to a limit.

    Parameters are the tables `seeds` (kind, hash, value), the strings `stop` (calls whose arguments are
    not followed) and `limit`; rows are `(kind, hash, value, next)`, the seeds among them. `next` is the
    latest parent of a call, and of an argument's call: it is looked for once per call.
    """
    stop = dialect.strings("stop")
    branches = [
        "SELECT 'A', a.arg_hash, a.value_hash, {w}.next "
        f"{ARGUMENTS} AND {{w}}.kind = 'C' AND {{w}}.hash NOT IN ({stop})",
        f"SELECT 'R', u.call_hash, {FOLLOWED}, NULL {UPSTREAMS} AND {{w}}.kind = 'A'",
        f"SELECT 'A', pa.arg_hash, {{w}}.value, {latest_parent('{w}.next')} {PARENT_ARGUMENTS} AND "
        f"{{w}}.kind = 'A'",
        "SELECT CASE WHEN x.call_hash IS NULL THEN 'C' ELSE 'R' END, COALESCE(x.call_hash, {w}.hash), "
        "CASE WHEN x.call_hash IS NULL THEN '' ELSE {w}.value END, "
        f"CASE WHEN x.call_hash IS NULL THEN {latest_parent('{w}.hash')} END {CHILDREN} AND {{w}}.kind = 'R'",
    ]
    seeds = (
        f"SELECT c1, c2, c3, CASE c1 WHEN 'C' THEN {latest_parent('c2')} "
        f"WHEN 'A' THEN {latest_parent(_OWNER.format(arg='c2'))} END FROM {dialect.table('seeds', 3)} z"
    )
    return dialect.recursive(seeds, branches)


_HOLDS_ITSELF = (
    "EXISTS (SELECT 1 FROM subvalue s WHERE s.value_hash = n.value AND s.parent_value_hash = n.value "
    "LIMIT 1 OFFSET 0)"
)
# What `make_edges_statement` selects, by branch.
_EDGE_BRANCHES = (
    "SELECT 0, n.idx, a.arg_hash, a.value_hash, NULL, NULL, NULL, a.arg_position, a.arg_key, 0 " + ARGUMENTS,
    f"SELECT 1, n.idx, u.call_hash, u.task_hash, u.value_hash, {FOLLOWED}, NULL, NULL, NULL, 0 {UPSTREAMS}",
    "SELECT 2, n.idx, pa.arg_hash, pa.value_hash, p.call_hash, p.task_hash, p.value_hash, "
    "pa.arg_position, pa.arg_key, "
    f"CASE WHEN pa.value_hash = n.value AND {_HOLDS_ITSELF} THEN 1 ELSE 0 END "
    f"{PARENT_ARGUMENTS} AND p.call_hash = n.next",
    f"SELECT 3, n.idx, x.call_hash, x.task_hash, x.value_hash, NULL, NULL, NULL, NULL, 0 {CHILDREN}",
)


def make_edges_statement(dialect: GraphDialect, kinds: str, with_parents: bool) -> str:
    """Return the statement that lists the edges out of many nodes.

    Parameters are the tables `c` (calls), `a` (arguments) and `r` (results), as far as `kinds` names them,
    each with the columns hash and value; `a` has the latest parent of its call as a third one if
    `with_parents`. Rows are `(branch, idx, h1, h2, h3, h4, h5, position, name, twice)`, in no order:

    - branch 0, an argument of call idx: its hash, its value;
    - branch 1, an upstream call of argument idx: its hash, task and result, the value followed;
    - branch 2, a matching argument of the latest parent: its hash, its value, the parent's hash, task and
      result; `twice` where it matches once more as a part of itself;
    - branch 3, the child that result idx is followed into: its hash, task and result, NULL if there is none.
    """
    parent = "c3" if with_parents else latest_parent(_OWNER.format(arg="c1"))
    sources = {
        kind: f"(SELECT idx, c1 AS hash, c2 AS value FROM {dialect.table(kind, 2)} y) n CROSS JOIN"
        for kind in "car"
    }
    routed = (
        f"(SELECT idx, c1 AS hash, c2 AS value, {parent} AS next "
        f"FROM {dialect.table('a', 3 if with_parents else 2)} y) n CROSS JOIN call_node p CROSS JOIN"
    )
    arguments, upstreams, parents, children = _EDGE_BRANCHES
    branches = {
        "c": [(sources["c"], arguments)],
        "a": [(sources["a"], upstreams), (routed, parents)],
        "r": [(sources["r"], children)],
    }
    return " UNION ALL ".join(
        branch.format(n=source, w="n") for kind in kinds for source, branch in branches[kind]
    )


def make_order_statement(dialect: GraphDialect) -> str:
    """Return the statement that orders the upstream calls of arguments under their latest common parent.

    The parameter is the table `a` of arguments; rows are `(idx, call_hash, call_order)`, none for an
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
        f"(SELECT n.idx, a.arg_hash, {context} AS parent FROM {dialect.table('a', 1)} n CROSS JOIN "
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


# The calls whose results are or hold a value. A join would scan all calls for every whole where sqlite's
# statistics say that most calls return the same; IN scans them once at most.
WHOLES = "SELECT s.parent_value_hash FROM subvalue s WHERE s.value_hash = :value"
CANDIDATE_CALLS = (
    "SELECT k.call_hash, k.task_hash, k.value_hash FROM call_node k WHERE k.value_hash = :value UNION "
    f"SELECT k.call_hash, k.task_hash, k.value_hash FROM call_node k WHERE k.value_hash IN ({WHOLES})"
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

CALL = "SELECT call_hash, task_hash, value_hash FROM call_node WHERE call_hash = :hash"
ARGUMENT = (
    "SELECT a.arg_hash, a.value_hash, k.call_hash, k.task_hash, k.value_hash, a.arg_position, a.arg_key "
    "FROM argument a JOIN call_node k ON k.call_hash = a.call_hash WHERE a.arg_hash = :hash"
)


def make_tasks_statement(dialect: GraphDialect) -> str:
    """Return the statement that loads tasks: `(hash, name, namespace, source)` of the strings `tasks`."""
    wanted = dialect.strings("tasks")
    return f"SELECT t.hash, t.name, t.namespace, t.source FROM task t WHERE t.hash IN ({wanted})"


def make_counts_statement(dialect: GraphDialect) -> str:
    """Return the statement that counts the arguments of calls: `(call_hash, count)` of the strings
    `calls`."""
    return (
        "SELECT a.call_hash, count(*) FROM argument a "
        f"WHERE a.call_hash IN ({dialect.strings('calls')}) GROUP BY a.call_hash"
    )


def make_jobs_statement(dialect: GraphDialect) -> str:
    """Return the statement that finds the latest jobs of calls: `(call_hash, job_id, execution_id)` of the
    strings `calls`.

    An execution that is not recorded is NULL.
    """
    return (
        "SELECT call_hash, id, execution_id FROM (SELECT j.call_hash, j.id, x.id AS execution_id, "
        "row_number() OVER ("
        "PARTITION BY j.call_hash ORDER BY j.start_time IS NULL, j.start_time DESC, j.id) AS place "
        "FROM job j LEFT JOIN execution x ON x.id = j.execution_id "
        f"WHERE j.call_hash IN ({dialect.strings('calls')})) ranked WHERE place = 1"
    )
