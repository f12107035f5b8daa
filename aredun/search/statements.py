"""The order of a query's records, and the statements that are made once and sent for every like question.

Making a statement takes longer than running it where few rows are read.
"""

from __future__ import annotations

import operator
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

import sqlalchemy as sa

from aredun.models import Execution, Job
from aredun.search.conditions import alias, combine
from aredun.search.filters import PRIMARY_KEYS
from aredun.search.records import get_reader
from aredun.tables.column_types import in_parameter

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import ColumnElement, Select

    from aredun.search.conditions import Condition

Key = tuple[Any, ...]


class Order(NamedTuple):
    """The order of a model's records: its columns, the primary key last, all in one direction."""

    columns: tuple[Any, ...]
    descending: bool

    def sort(self, columns: Sequence[ColumnElement[Any]]) -> list[ColumnElement[Any]]:
        """Return the ORDER BY terms over columns that stand for the order's own."""
        return [column.desc() if self.descending else column.asc() for column in columns]

    def beyond(self, columns: Sequence[ColumnElement[Any]], key: Key | None) -> ColumnElement[bool]:
        """Return the condition that a row comes after `key`; true for None."""
        if key is None:
            return sa.true()
        strict, weak = (operator.lt, operator.le) if self.descending else (operator.gt, operator.ge)
        return _compare(columns, key, strict, weak, strict)

    def up_to(self, columns: Sequence[ColumnElement[Any]], key: Key | None) -> ColumnElement[bool]:
        """Return the condition that a row comes no later than `key`; true for None."""
        if key is None:
            return sa.true()
        strict, weak = (operator.gt, operator.ge) if self.descending else (operator.lt, operator.le)
        return _compare(columns, key, strict, weak, weak)


def _compare(
    columns: Sequence[ColumnElement[Any]], key: Key, strict: Any, weak: Any, last: Any
) -> ColumnElement[bool]:
    if len(columns) == 1:
        return last(columns[0], key[0])  # type: ignore[no-any-return]  # columns are untyped here
    # The first term follows from the second; it is the one that an index on the leading column can use.
    return sa.and_(weak(columns[0], key[0]), sa.or_(strict(columns[0], key[0]), last(columns[1], key[1])))


@cache
def get_order(record_type: str, by_time: bool) -> Order:
    """
    Return the order in which records of a type are read.

    Parameters
    ----------
    record_type : str
        A key of `MODEL_CLASSES`.
    by_time : bool
        Executions and jobs: newest start first (an execution starts with its root job), ties by id
        downwards. Other records have no time and keep to their primary key, as without `by_time`.
    """
    key = PRIMARY_KEYS[record_type]
    if by_time and record_type == "Job":
        return Order((Job.start_time, key), True)
    if by_time and record_type == "Execution":
        root = alias(Job, "ordering_job")
        # A scalar, so that executions are read (there are few) and not all jobs by time in search of roots.
        start_time = sa.select(root.start_time).where(root.id == Execution.job_id).scalar_subquery()
        return Order((start_time, key), True)
    return Order((key,), False)


class Plan(NamedTuple):
    """What is read of each record: see `Scan`."""

    record_type: str
    load_values: bool
    has_cutoff: bool

    def select(self, within: Any = None) -> Select[Any]:
        """Return the select of the records, for the parameter `cutoff`."""
        cutoff: Any = sa.bindparam("cutoff") if self.has_cutoff else None
        return get_reader(self.record_type, self.load_values).select(cutoff, within)


@cache
def prepare_walk(
    plan: Plan, by_time: bool, ids_only: bool, goes_on: bool, condition: Condition | None
) -> Select[Any]:
    """Return the select of records, or ids, and their places; kept, as making one outlasts running it."""
    order, primary_key = get_order(plan.record_type, by_time), PRIMARY_KEYS[plan.record_type]
    after: Key | None = (
        tuple(sa.bindparam(f"k{index}") for index in range(len(order.columns))) if goes_on else None
    )
    keys = sa.select(*label(order.columns[:-1]), primary_key.label("pk"))
    keys = keys.where(order.beyond(order.columns, after)).order_by(*order.sort(order.columns))
    size, skip = (sa.bindparam(name, type_=sa.Integer()) for name in ("size", "skip"))
    keys = keys.limit(size).offset(skip)
    if condition is not None:
        keys = keys.where(condition.seek)
    if by_time and plan.record_type == "Execution":
        keys = keys.where(order.columns[0].is_not(None))
    if ids_only:
        return keys
    chosen = keys.subquery("keys")
    return plan.select(chosen).add_columns(*chosen.c).order_by(*order.sort(list(chosen.c)))


@cache
def prepare_load(plan: Plan) -> Select[Any]:
    """Return the select of the records with the primary keys `keys`."""
    return plan.select().where(in_parameter(PRIMARY_KEYS[plan.record_type], "keys"))


@cache
def prepare_count(condition: Condition) -> Select[Any]:
    """Return the select of `count_rows` of a condition that is kept, for the parameter `bound`."""
    return sa.select(count_rows(condition, sa.bindparam("bound", type_=sa.Integer())))


@cache
def prepare_sought(condition: Condition, record_type: str, by_time: bool) -> Select[Any]:
    """Return `select_sought` of a condition that is kept, for the parameters `most` and `size`."""
    size, most = (sa.bindparam(name, type_=sa.Integer()) for name in ("size", "most"))
    order = get_order(record_type, by_time)
    return select_sought(record_type, order, combine([condition.seek]), most, None).limit(size)


def count_rows(condition: Condition, bound: Any) -> ColumnElement[Any]:
    """Return the number of rows that a condition leads to; of each of its ways, no more than `bound`."""
    bounded = [source.limit(bound).subquery() for source in condition.sources]
    terms = [sa.select(sa.func.count()).select_from(rows).scalar_subquery() for rows in bounded]
    return sum(terms, sa.literal(0))


def select_sought(
    record_type: str, order: Order, where: ColumnElement[bool], most: Any, after: Key | None
) -> Select[Any]:
    """Return the keys of the rows that are gathered first and sorted then."""
    # Materialised, so that no planner walks the order's index in the hope of meeting the few matches.
    matched = (
        sa.select(PRIMARY_KEYS[record_type].label("pk"), *label(order.columns[:-1]))
        .where(where)
        .limit(most)
        .cte("matched")
        .prefix_with("MATERIALIZED")
    )
    columns = [*(matched.c[f"k{index}"] for index in range(len(order.columns) - 1)), matched.c.pk]
    return sa.select(*columns).where(order.beyond(columns, after)).order_by(*order.sort(columns))


def label(columns: Sequence[ColumnElement[Any]]) -> list[Any]:
    """Return the columns named k0, k1 and so on."""
    return [column.label(f"k{index}") for index, column in enumerate(columns)]
