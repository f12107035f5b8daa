"""The order of a query's records, and the statements that are made once and sent for every like question.

Making a statement takes longer than running it where few rows are read.
"""

from __future__ import annotations

import operator
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import sqlalchemy as sa

from aredun.models import Execution, Job
from aredun.search.conditions import alias
from aredun.search.records import MODEL_CLASSES, PRIMARY_KEYS, get_reader

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sqlalchemy import ColumnElement, Select

    from aredun.search.conditions import Condition, Spelling
    from aredun.search.records import RecordReader

Key = tuple[Any, ...]

# How many statements of a kind are kept.
KEPT = 256

# No index has executions by time. Their root jobs are looked for among so many of the newest jobs, before
# all executions are sorted: with 100,000 of them that takes 0.6 to 0.9 s on sqlite.
RECENT_JOBS = 10_000


class Order(NamedTuple):
    """The order of a model's records: its columns, the primary key last, all in one direction."""

    columns: tuple[Any, ...]
    descending: bool = False
    # Whether there are records without a place in it.
    is_partial: bool = False

    def sort(self, columns: Iterable[ColumnElement[Any]]) -> list[ColumnElement[Any]]:
        """Return the ORDER BY terms over columns that stand for the order's own."""
        return [column.desc() if self.descending else column.asc() for column in columns]

    def cut(self, keys: Select[Any], columns: Sequence[ColumnElement[Any]], goes_on: bool) -> Select[Any]:
        """Return a select's rows in this order, for the parameters that `place` gives."""
        if goes_on:
            strict, weak = (operator.lt, operator.le) if self.descending else (operator.gt, operator.ge)
            after: list[Any] = [sa.bindparam(f"k{index}") for index in range(len(columns))]
            # The first term follows from the second: an index on the leading column can use it.
            keys = keys.where(weak(columns[0], after[0]), sa.or_(*map(strict, columns, after)))
        if self.is_partial:
            keys = keys.where(columns[0].is_not(None))
        size, skip = (sa.bindparam(name, type_=sa.Integer()) for name in ("size", "skip"))
        return keys.order_by(*self.sort(columns)).limit(size).offset(skip)

    def place(self, after: Key | None, size: int, skip: int = 0) -> dict[str, Any]:
        """Return the parameters of `cut`: `size` rows beyond a key, after the first `skip` of them."""
        places = {f"k{index}": value for index, value in enumerate(after or ())}
        return {"size": size, "skip": skip, **places}


@cache
def get_order(record_type: str, by_time: bool) -> Order:
    """
    Return the order in which records of a type are read.

    Parameters
    ----------
    record_type : str
        A key of `MODEL_CLASSES`.
    by_time : bool
        Executions and jobs: newest start first (an execution starts with its root job, and is left out
        without one, as by redun's join), ties by id downwards. Other records have no time and keep to their
        primary key, as without `by_time`.
    """
    key = PRIMARY_KEYS[record_type]
    if by_time and record_type == "Job":
        return Order((Job.start_time, key), descending=True)
    if by_time and record_type == "Execution":
        root = alias(Job, "ordering_job")
        # A scalar, so that executions are read (there are few) and not all jobs by time in search of roots.
        start_time = sa.select(root.start_time).where(root.id == Execution.job_id).scalar_subquery()
        return Order((start_time, key), descending=True, is_partial=True)
    return Order((key,))


class ScanPlan(NamedTuple):
    """What is read, in which order: see `Scan`.

    Attributes
    ----------
    record_type : str
        A key of `MODEL_CLASSES`.
    by_time : bool
        As for `get_order`.
    ids_only : bool
        Read primary keys instead of records.
    load_values : bool
        Read the data of values, which are left out otherwise.
    """

    record_type: str
    by_time: bool = False
    ids_only: bool = False
    load_values: bool = False

    @property
    def order(self) -> Order:
        """The order of the records."""
        return get_order(self.record_type, self.by_time)

    @property
    def reader(self) -> RecordReader:
        """What selects and makes the records."""
        return get_reader(MODEL_CLASSES[self.record_type], self.load_values)


@lru_cache(KEPT)
def select_walked(plan: ScanPlan, where: Sequence[Spelling], goes_on: bool) -> Select[Any]:
    """Return the rows that the order's index leads to, their keys behind; takes what `Order.place` gives."""
    terms = [spell() for spell in where]
    keys = sa.select(*_name_columns(plan.order)).where(*terms)
    if plan.record_type == "Execution" and plan.by_time:
        keys = _select_recent(plan.order, keys, terms, goes_on)
    else:
        keys = plan.order.cut(keys, plan.order.columns, goes_on)
    if plan.ids_only:
        return keys
    chosen = keys.subquery("keys")
    records = plan.reader.select(sa.bindparam("cutoff"), chosen)
    return records.add_columns(*chosen.c).order_by(*plan.order.sort(chosen.c))


def _select_recent(
    order: Order, keys: Select[Any], where: Iterable[ColumnElement[bool]], goes_on: bool
) -> Select[Any]:
    """Return the keys of executions from among the newest jobs, from all if those do not have enough."""
    root = alias(Job, "recent_job")
    newest = sa.select(root.id, root.execution_id, root.start_time)
    if goes_on:
        newest = newest.where(root.start_time <= sa.bindparam("k0"))
    jobs = (
        newest.order_by(root.start_time.desc()).limit(RECENT_JOBS).cte("newest").prefix_with("MATERIALIZED")
    )
    # Of the jobs that started with the last of these, others may be left out.
    whole = jobs.c.start_time > sa.select(sa.func.min(jobs.c.start_time)).scalar_subquery()
    columns: list[Any] = [jobs.c.start_time, Execution.id]
    own = sa.select(columns[0].label("k0"), columns[1].label("pk")).select_from(jobs)
    own = own.join(Execution, sa.and_(Execution.id == jobs.c.execution_id, Execution.job_id == jobs.c.id))
    recent = order.cut(own.where(whole, *where), columns, goes_on).cte("recent").prefix_with("MATERIALIZED")
    size = sa.bindparam("size", type_=sa.Integer())
    count = sa.select(sa.func.count()).select_from(recent).scalar_subquery()
    # A limit of zero ends a select before it reads anything.
    rest = order.cut(keys, order.columns, goes_on).limit(sa.case((count < size, size), else_=0)).subquery()
    found = sa.union_all(sa.select(recent).where(count >= size), sa.select(rest)).subquery("found")
    return sa.select(found).order_by(*order.sort(found.c))


@lru_cache(KEPT)
def select_sought(plan: ScanPlan, where: Sequence[Spelling], goes_on: bool) -> Select[Any]:
    """Return the keys of rows that are gathered first, for the parameters of `Order.place`."""
    # Materialised, so that no planner walks the order's index in the hope of meeting the few matches.
    matched = sa.select(*_name_columns(plan.order)).where(*(spell() for spell in where))
    columns = list(matched.cte("matched").prefix_with("MATERIALIZED").c)
    return plan.order.cut(sa.select(*columns), columns, goes_on)


@lru_cache(KEPT)
def count_sources(conditions: Sequence[Condition]) -> Select[Any]:
    """Return the select of how many rows each condition leads to, for the parameters of `bound_sources`."""
    totals = []
    for place, condition in enumerate(conditions):
        bound = sa.bindparam(f"bound{place}", type_=sa.Integer())
        sources = (
            [source.limit(bound).subquery() for source in condition.sources()] if condition.sources else []
        )
        counts = (sa.select(sa.func.count()).select_from(rows).scalar_subquery() for rows in sources)
        totals.append(sum(counts, sa.literal(0)))
    return sa.select(*totals)


def bound_sources(bounds: Iterable[int]) -> dict[str, Any]:
    """Return the parameters of `count_sources`: up to what is counted of each way of each condition."""
    return {f"bound{place}": bound for place, bound in enumerate(bounds)}


def _name_columns(order: Order) -> list[Any]:
    *others, key = order.columns
    return [*(column.label(f"k{index}") for index, column in enumerate(others)), key.label("pk")]
