"""The filters of a call graph query as conditions on the records of each type."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from aredun.errors import UsageError
from aredun.formats.spelling import spell_id
from aredun.formats.tag_syntax import ANY_VALUE, is_storable_text
from aredun.models import Argument, CallNode, Execution, File, Job, Subvalue, Tag, Task, Value
from aredun.search.conditions import (
    Condition,
    alias,
    among,
    any_of,
    for_types,
    identity,
    indexed,
    is_one_of,
    leave_out_unstorable,
    unindexed,
)
from aredun.search.records import PRIMARY_KEYS
from aredun.tables.column_types import (
    JSON,
    get_prefix_bounds,
    in_parameter,
    matches_wildcards,
    starts_with,
    starts_with_parameters,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from sqlalchemy import ColumnElement, Select

    from aredun.search.conditions import Filter

# What belongs to executions is gathered up to this many jobs.
EXECUTION_SEEK_ROWS = 10_000
# One instance, whose key in the cache of statements is worked out once.
JSON_TYPE = JSON()


def filter_ids(ids: Sequence[str]) -> Filter:
    """Return the filter of records with one of the ids."""
    keys = leave_out_unstorable(ids)
    return lambda name: replace(
        _on_key(name, lambda key: is_one_of(key, keys)), kept=(_keep_ids(name), {"sought": keys})
    )


def _on_key(name: str, match: Callable[[Any], ColumnElement[bool]]) -> Condition:
    return indexed(PRIMARY_KEYS[name], match, on_key=True)


@cache
def _keep_ids(name: str) -> Condition:
    return _on_key(name, lambda key: in_parameter(key, "sought"))


def filter_id_prefix(prefix: str) -> Callable[[str], Condition]:
    """Return the filter of records whose id begins with a prefix, and of tasks of that name.

    Blanks around it do not count; hashes may be in upper case, names have their namespace or not.
    """
    if not is_storable_text(prefix):
        return filter_nothing
    # Nothing at all is the beginning of every id; blanks are no id.
    spellings = spell_id(prefix) or ([""] if not prefix else [])
    if not spellings:
        return filter_nothing
    namespace, dot, task_name = spellings[0].rpartition(".")
    parameters: dict[str, Any] = {
        "sought": spellings[0],
        "task_namespace": namespace if dot else None,
        "task_name": task_name,
    }
    bounds = get_prefix_bounds(spellings[0])

    def condition(name: str) -> Condition:
        found = _make_prefix_condition(
            name, lambda key: sa.or_(*(starts_with(key, spelling) for spelling in spellings)), parameters
        )
        if bounds is None or len(spellings) > 1:
            return found
        lower, upper = bounds
        return replace(found, kept=(_keep_prefix(name), {**parameters, "lower": lower, "upper": upper}))

    return condition


def _make_prefix_condition(
    name: str, begins: Callable[[Any], ColumnElement[bool]], parameters: dict[str, Any]
) -> Condition:
    condition = _on_key(name, begins)
    if name != "Task":
        return condition

    def is_called(column: Any) -> ColumnElement[bool]:
        in_namespace = sa.and_(
            column == parameters["task_name"], Task.namespace == parameters["task_namespace"]
        )
        return sa.or_(column == parameters["sought"], in_namespace)

    return any_of([condition, indexed(Task.name, is_called)])


@cache
def _keep_prefix(name: str) -> Condition:
    """Return the condition of `filter_id_prefix` for parameters."""
    text = sa.String()
    parameters = {key: sa.bindparam(key, type_=text) for key in ("sought", "task_namespace", "task_name")}
    return _make_prefix_condition(name, lambda key: starts_with_parameters(key, "lower", "upper"), parameters)


def filter_base(base: Select[Any], record_type: str) -> Filter:
    """Return the filter of records that a select of their model gives."""
    key = PRIMARY_KEYS[record_type]
    keys = base.with_only_columns(key, maintain_column_froms=True).correlate(None)
    clause = key.in_(keys)
    return for_types(**{record_type: lambda: Condition(lambda: clause, lambda: clause, lambda: [keys])})


def select_started(job_id: str) -> Select[Any]:
    """Return the select of the jobs that a job started, for `filter_base`."""
    return sa.select(Job).where(Job.parent_id == job_id)


def select_by_part(execution_id: str, text: str) -> Select[Any]:
    """Return the select of an execution's jobs by a part of a task's name, or the beginning of an id."""
    text = text.strip()
    fits = Task.fullname.icontains(text, autoescape=True) | starts_with(Job.id, text.lower())
    return sa.select(Job).join(Task, Task.hash == Job.task_hash).where(Job.execution_id == execution_id, fits)


def select_inside(value_hash: str) -> Select[Any]:
    """Return the select of the values inside a value."""
    inside = sa.select(Subvalue.value_hash).where(Subvalue.parent_value_hash == value_hash)
    return sa.select(Value).where(Value.value_hash.in_(inside))


def filter_nothing(name: str) -> Condition:
    """Filter all records out."""
    return _on_key(name, lambda _: sa.false())


def filter_task_names(names: Iterable[str]) -> Filter:
    """Return the filter of tasks of the names, with namespace or without, and of their jobs."""

    def matches(task: Any) -> ColumnElement[bool]:
        clauses = []
        for full_name in names:
            namespace, dot, name = full_name.rpartition(".")
            clause = task.name == name
            clauses.append(sa.and_(clause, task.namespace == namespace) if dot else clause)
        return sa.or_(sa.false(), *clauses)

    names = [name.strip() for name in names if is_storable_text(name)]
    task = alias(Task, "named_task")
    tasks = sa.select(task.hash).where(matches(task))
    # The versions of a task are few. Looked up first, they let the planner know which have many jobs.
    among_tasks = indexed(Job.task_hash, lambda column: column.in_(tasks))
    return for_types(
        Task=lambda: indexed(Task.name, lambda _: matches(Task)),
        Job=lambda: replace(among_tasks, resolution=(tasks, _has_task)),
    )


def _has_task(hashes: Sequence[str]) -> Condition:
    return indexed(Job.task_hash, lambda column: is_one_of(column, hashes))


def filter_task_hashes(hashes: Sequence[str]) -> Filter:
    """Return the filter of tasks with one of the hashes, and of their jobs."""
    return for_types(
        Task=lambda: _on_key("Task", lambda key: is_one_of(key, hashes)), Job=lambda: _has_task(hashes)
    )


def filter_arguments(value_hashes: Sequence[str]) -> Filter:
    """Return the filter of jobs that had one of the values as an argument, or inside one."""
    return for_types(Job=lambda: took_one_of(value_hashes))


def took_one_of(value_hashes: Sequence[str]) -> Condition:
    """Return the condition that a job had one of the values as an argument, or inside one."""
    return _among_calls(Argument, value_hashes)


def filter_results(value_hashes: Sequence[str]) -> Filter:
    """Return the filter of jobs that had one of the values as their result, or inside it."""
    return for_types(Job=lambda: _among_calls(CallNode, value_hashes))


def _among_calls(model: Any, value_hashes: Sequence[str]) -> Condition:
    condition = _make_call_condition(model, lambda column: is_one_of(column, value_hashes))
    if len(value_hashes) != 1 or not is_storable_text(value_hashes[0]):
        return condition
    return replace(condition, kept=(_keep_call_condition(model), {"sought": value_hashes[0]}))


@cache
def _keep_call_condition(model: Any) -> Condition:
    return _make_call_condition(model, lambda column: column == sa.bindparam("sought"))


def _make_call_condition(model: Any, is_sought: Callable[[Any], ColumnElement[bool]]) -> Condition:
    """Return the condition on jobs whose arguments, or call nodes, have such a value, or one around it."""
    alone, outer = (alias(model, f"{model.__tablename__}_{number}") for number in (1, 2))
    inner, job = alias(Subvalue, "subvalue_1"), alias(Job, "call_job")

    def branches(column: Any) -> list[Select[Any]]:
        held = sa.select(outer.call_hash).join(inner, inner.parent_value_hash == outer.value_hash)
        return [
            sa.select(alone.call_hash).where(is_sought(column(alone.value_hash))),
            held.where(is_sought(inner.value_hash)),
        ]

    def sources() -> list[Select[Any]]:
        # Jobs are counted, not calls: each cached run of a call adds a job.
        return [
            branch.join(job, job.call_hash == branch.selected_columns[0]).with_only_columns(
                job.id, maintain_column_froms=True
            )
            for branch in branches(identity)
        ]

    return replace(among(Job.call_hash, branches), sources=sources)


def filter_value_types(types: Sequence[str]) -> Filter:
    """Return the filter of values of the types."""
    return for_types(Value=lambda: indexed(Value.type, lambda column: is_one_of(column, types)))


def filter_file_paths(paths: Sequence[str]) -> Filter:
    """Return the filter of files whose path matches a pattern, in which `*` stands for any text."""

    exact = [path for path in paths if "*" not in path]
    patterns = [path for path in paths if "*" in path and is_storable_text(path)]

    def matches(column: Any) -> ColumnElement[bool]:
        clauses = [matches_wildcards(column, pattern) for pattern in patterns]
        return sa.or_(sa.false(), *([is_one_of(column, exact)] if exact else []), *clauses)

    def branches(column: Any) -> list[Select[Any]]:
        file = alias(File, "file_1")
        return [sa.select(file.value_hash).where(matches(column(file.path)))]

    return for_types(Value=lambda: among(Value.value_hash, branches))


def filter_tags(tags: Sequence[tuple[str, Any]]) -> list[Filter]:
    """Return one filter per tag, of records that carry the tag."""

    def make(tag: tuple[str, Any]) -> Filter:
        key, value = _bind_tag(tag)

        def condition(name: str) -> Condition:
            found = _make_tag_condition(name, key, value)
            if not isinstance(key, str) or not isinstance(value, sa.BindParameter):
                return found
            return replace(
                found, kept=(_keep_tag_condition(name), {"tag_key": key, "tag_value": value.value})
            )

        return condition

    return [make(tag) for tag in tags]


def _bind_tag(tag: Any) -> tuple[Any, Any]:
    """Return a tag's key and value as statements take them; NULL for what no tag has."""
    match tag:
        case (str(key), value):
            # redun compares with NULL, too, where the value is None; the same records are promised.
            sought = sa.null() if value is None else sa.literal(value, JSON_TYPE)
            return key if is_storable_text(key) else sa.null(), value if value is ANY_VALUE else sought
    raise UsageError(f"tag {tag!r} is not a pair: give (key, value)")


def _tagged_ids(tag: Any, key: Any, value: Any) -> Select[Any]:
    select = sa.select(tag.entity_id).where(tag.is_current, key)
    return select if value is ANY_VALUE else select.where(tag.value == sa.cast(value, JSON_TYPE))


def _make_tag_condition(name: str, key: Any, value: Any) -> Condition:
    tag = alias(Tag, "tag_1")
    return among(PRIMARY_KEYS[name], lambda column: [_tagged_ids(tag, column(tag.key) == key, value)])


@cache
def _keep_tag_condition(name: str) -> Condition:
    return _make_tag_condition(name, sa.bindparam("tag_key"), sa.bindparam("tag_value", type_=JSON_TYPE))


def execution_ids_clause(ids: Sequence[str]) -> Callable[[Any], ColumnElement[bool]]:
    """Return the demand that an execution has one of the ids."""
    return lambda column: is_one_of(column, ids)


def execution_tag_clauses(tags: Sequence[tuple[str, Any]]) -> list[Callable[[Any], ColumnElement[bool]]]:
    """Return the demands that an execution carries each of the tags; without tags, that there is one."""
    tag = alias(Tag, "execution_tag")

    def make(key: Any, value: Any) -> Callable[[Any], ColumnElement[bool]]:
        return lambda column: column.in_(_tagged_ids(tag, tag.key == key, value))

    return [make(*_bind_tag(tag)) for tag in tags] or [lambda _: sa.true()]


def filter_executions(clauses: Sequence[Callable[[Any], ColumnElement[bool]]]) -> Filter:
    """
    Return the filter of records that belong to an execution which meets all clauses.

    A value belongs to an execution when it is, or is inside, an argument or the result of one of its calls.
    All clauses are about one and the same execution.
    """
    job = alias(Job, "job_1")

    def chosen(column: Any) -> ColumnElement[bool]:
        return sa.and_(*(clause(column) for clause in clauses))

    def count_jobs(condition: Condition, seek_rows: int = 0) -> Condition:
        # What there is to look up grows with the executions' jobs, by whichever of the ways it is found.
        sources = [sa.select(job.id).where(chosen(job.execution_id))]
        return replace(condition, sources=lambda: sources, seek_rows=seek_rows)

    def call_branches(column: Any) -> list[Select[Any]]:
        return [sa.select(job.call_hash).where(chosen(column(job.execution_id)))]

    def task_branches(column: Any) -> list[Select[Any]]:
        tasks = (
            sa.select(job.task_hash).where(chosen(column(job.execution_id))).distinct().cte("chosen_tasks")
        )
        # Materialised, or PostgreSQL goes through the jobs of each task in search of one in the execution.
        return [sa.select(tasks.prefix_with("MATERIALIZED").c.task_hash)]

    def value_branches(column: Any) -> list[Select[Any]]:
        return _seek_values(chosen) if column is identity else _probe_values(chosen)

    return for_types(
        Execution=lambda: indexed(Execution.id, chosen),
        Job=lambda: count_jobs(indexed(Job.execution_id, chosen), EXECUTION_SEEK_ROWS),
        CallNode=lambda: count_jobs(among(CallNode.call_hash, call_branches), EXECUTION_SEEK_ROWS),
        # Never probed: a task that has many jobs, but none there, would take as many look-ups as it has.
        Task=lambda: replace(among(Task.hash, task_branches), sources=list),
        # Seeking takes ten look-ups a job: too many to wait for where the first values are wanted at once.
        Value=lambda: count_jobs(among(Value.value_hash, value_branches)),
    )


def _seek_values(chosen: Callable[[Any], ColumnElement[bool]]) -> list[Select[Any]]:
    """Return all that the calls of the chosen executions were given and returned, and what is inside that."""
    job, node, argument = alias(Job, "job_1"), alias(CallNode, "call_node_1"), alias(Argument, "argument_1")
    results = sa.select(node.call_hash, node.value_hash).join(job, job.call_hash == node.call_hash)
    calls = results.where(chosen(job.execution_id)).cte("chosen_calls").prefix_with("MATERIALIZED")
    # UNION, not UNION ALL: a value that was given to every call is looked into once.
    held = sa.union(
        sa.select(calls.c.value_hash),
        sa.select(argument.value_hash).join(calls, calls.c.call_hash == argument.call_hash),
    )
    values = held.cte("held_values").prefix_with("MATERIALIZED")
    subvalue = alias(Subvalue, "subvalue_1")
    inside = sa.select(subvalue.value_hash).join(values, values.c.value_hash == subvalue.parent_value_hash)
    return [sa.select(values.c.value_hash), inside]


def _probe_values(chosen: Callable[[Any], ColumnElement[bool]]) -> list[Select[Any]]:
    """Return the four ways from jobs to values: results, arguments, and the values inside either."""
    job, subvalue = alias(Job, "job_1"), alias(Subvalue, "subvalue_1")
    branches = []
    for source in (alias(CallNode, "call_node_1"), alias(Argument, "argument_1")):
        held = sa.select(source.value_hash).join(job, job.call_hash == source.call_hash)
        held = held.where(chosen(unindexed(job.execution_id)))
        inside = held.join(subvalue, subvalue.parent_value_hash == source.value_hash)
        branches += [held, inside.with_only_columns(subvalue.value_hash, maintain_column_froms=True)]
    return branches


def to_list(items: Iterable[Any], what: str) -> list[Any]:
    """Return what a filter is given as a list, pairs of a mapping; raises UsageError for a bare text."""
    if isinstance(items, str):
        raise UsageError(f"{what} must be a list, not the text {items!r}")
    return list(items.items() if isinstance(items, Mapping) else items)
