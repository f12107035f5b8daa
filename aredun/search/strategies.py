"""The ways to find a query's records in order, and the choice between them.

However many records match, and wherever they lie, the first must come at once and memory must stay flat. Left
to themselves databases fail at that: sqlite has no statistics, and PostgreSQL takes a filter on few rows for
one on many. So what is chosen here is written into the statement.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import sqlalchemy as sa

from aredun.search.statements import (
    count_kept,
    count_rows,
    keep_sought,
    list_records,
    select_sought,
    select_walked,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence

    from sqlalchemy import ColumnElement, Select
    from sqlalchemy.ext.asyncio import AsyncSession

    from aredun.search.conditions import Condition
    from aredun.search.statements import ScanPlan

# Seeking gathers all matches before it knows the first. So for the first rows a condition with more matches
# than this is probed, for all rows only one with many more.
SEEK_ROWS, RARE_SEEK_ROWS, ALL_SEEK_ROWS = 1_000, 20_000, 50_000
FEW = 2
# A walk over forty times the rows of the sample takes as long as gathering some thousands of matches.
SAMPLE_ROWS, WALKED_SAMPLES = 500, 40


class Listing(NamedTuple):
    """Reads records at once, by the order's index or by their own ids."""

    kept: Condition | None
    parameters: dict[str, Any]

    def select(self, plan: ScanPlan, goes_on: bool) -> Select[Any]:
        """Return the select of records, or ids, with their keys behind."""
        return list_records(plan, self.kept, goes_on)


class IndexWalk(NamedTuple):
    """Reads the order's index and probes each row: good where many match."""

    where: Sequence[ColumnElement[bool]]

    def select(self, plan: ScanPlan, goes_on: bool) -> Select[Any]:
        """Return the select of keys."""
        return select_walked(plan, self.where, goes_on)


class Seek(NamedTuple):
    """Gathers what some condition leads to and sorts it: good where few match."""

    where: Sequence[ColumnElement[bool]]
    # Tells the planner how few there are; rows that are added meanwhile still fit in.
    most: int | None

    def select(self, plan: ScanPlan, goes_on: bool) -> Select[Any]:
        """Return the select of keys."""
        return select_sought(plan, self.where, goes_on, self.most)


class KeptSeek(NamedTuple):
    """Seeks by the only condition with a statement that is kept: to make one takes as long as to ask."""

    kept: Condition
    parameters: dict[str, Any]

    def select(self, plan: ScanPlan, goes_on: bool) -> Select[Any]:
        """Return the select of keys."""
        return keep_sought(plan, self.kept, goes_on)


Strategy = Listing | IndexWalk | Seek | KeptSeek


def choose_listing(plan: ScanPlan, conditions: Sequence[Condition]) -> Listing | None:
    """Return the listing of records that nothing but the order and ids confines; None for others."""
    if not conditions:
        return Listing(None, {})
    condition, *others = conditions
    if others or plan.by_time or not condition.on_key or condition.kept is None:
        return None
    return Listing(*condition.kept)


async def choose_strategy(
    plan: ScanPlan,
    conditions: Sequence[Condition],
    session: AsyncSession,
    fetch: Callable[[Select[Any], dict[str, Any]], Awaitable[Any]],
    *,
    wanted: int | None,
) -> Strategy:
    """
    Choose how to find the records that meet all conditions.

    What only the order and ids confine is listed (`choose_listing`). Other records are sought where some
    condition leads to few rows, which the database counts up to a bound: 1,000, or what the condition names.
    The bound is 50,000 if all records are wanted, and 20,000 if more than a record or two is and so few of
    the first 500 of the order match that a walk would be long. Else the order's index is walked.

    Parameters
    ----------
    plan : ScanPlan
        What is read, in which order.
    conditions : Sequence[Condition]
        All must hold.
    session : AsyncSession
        An open session, to count in.
    fetch : Callable
        Reads the rows of a statement that is kept.
    wanted : int | None
        How many records; None for all.
    """
    kept = conditions[0].kept if len(conditions) == 1 else None
    bounds = [(SEEK_ROWS, False)]
    if kept is not None:
        condition, parameters = kept
        ((count,),) = await fetch(count_kept(condition), {**parameters, "bound": SEEK_ROWS + 1})
        if count <= SEEK_ROWS:
            return KeptSeek(condition, {**parameters, "most": _get_most(SEEK_ROWS)})
        bounds = []
    conditions = [await _resolve(session, condition) for condition in conditions]
    direct = [condition.seek() for condition in conditions if condition.on_key and not plan.by_time]
    others = [condition for condition in conditions if plan.by_time or not condition.on_key]
    if wanted is None:
        bounds.append((ALL_SEEK_ROWS, True))
    for usual, for_all in bounds:
        most = [max(usual, other.seek_rows[for_all]) for other in others]
        few = await _find_few(session, others, most)
        if few:
            return _make_seek(direct, others, dict(zip(others, most, strict=True)), few)
    seek = await _seek_rare(plan, direct, others, session, wanted)
    return seek or IndexWalk([*direct, *(other.probe() for other in others)])


async def _seek_rare(
    plan: ScanPlan,
    direct: Sequence[ColumnElement[bool]],
    others: Sequence[Condition],
    session: AsyncSession,
    wanted: int | None,
) -> Seek | None:
    """Return the seek by the condition that leads to the fewest rows; None where a walk is as good."""
    # Executions are few beside what conditions lead to: a walk over all of them is short.
    if wanted is None or wanted <= FEW or plan.record_type == "Execution":
        return None
    if not any(other.sources for other in others) or not await _is_rare(
        plan, direct, others, session, wanted
    ):
        return None
    few = await _find_few(session, others, [RARE_SEEK_ROWS] * len(others))
    if not few:
        return None
    fewest = min(few, key=lambda condition: few[condition])
    return _make_seek(direct, others, {fewest: RARE_SEEK_ROWS}, [fewest])


def _make_seek(
    direct: Sequence[ColumnElement[bool]],
    others: Sequence[Condition],
    bounds: Mapping[Condition, int],
    few: Collection[Condition],
) -> Seek:
    """Return the seek by the few, which lead to no more rows than their bounds."""
    terms = [other.seek() if other in few else other.probe() for other in others]
    limits = [bounds[other] for other in few if other.is_bounded]
    return Seek([*direct, *terms], _get_most(min(limits)) if limits else None)


async def _is_rare(
    plan: ScanPlan,
    direct: Sequence[ColumnElement[bool]],
    others: Sequence[Condition],
    session: AsyncSession,
    wanted: int,
) -> bool:
    """Tell whether so few of the first records of the order match that a walk to the wanted ones is long."""
    key = plan.order.columns[-1]
    first = sa.select(key).order_by(*plan.order.sort(plan.order.columns)).limit(SAMPLE_ROWS)
    probes = (other.probe() for other in others)
    count = sa.select(sa.func.count()).where(key.in_(first), *direct, *probes)
    return (await session.scalar(count) or 0) * WALKED_SAMPLES < wanted


async def _resolve(session: AsyncSession, condition: Condition) -> Condition:
    if condition.resolution is None:
        return condition
    keys, make = condition.resolution
    return make(list(await session.scalars(keys)))


async def _find_few(
    session: AsyncSession, conditions: Sequence[Condition], bounds: Sequence[int]
) -> dict[Condition, int]:
    """Return the conditions that lead to no more rows than their bounds, and to how many."""
    bounded = [pair for pair in zip(conditions, bounds, strict=True) if pair[0].sources is not None]
    if not bounded:
        return {}
    counts = sa.select(*(count_rows(condition, bound + 1) for condition, bound in bounded))
    sizes = (await session.execute(counts)).one()
    return {condition: size for (condition, bound), size in zip(bounded, sizes, strict=True) if size <= bound}


def _get_most(bound: int) -> int:
    return 2 * bound + 1_000
