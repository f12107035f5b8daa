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
    from collections.abc import Awaitable, Callable, Sequence

    from sqlalchemy import ColumnElement, Select
    from sqlalchemy.ext.asyncio import AsyncSession

    from aredun.search.conditions import Condition
    from aredun.search.statements import Plan

# For the first rows a condition that leads to more matches than this is probed, not sought: what is sought
# must be gathered whole before the first of it is known. For all rows seeking pays much longer.
SEEK_ROWS, RARE_SEEK_ROWS, ALL_SEEK_ROWS = 1_000, 20_000, 50_000
FEW = 2
# A walk over forty times as many rows as are tried takes as long as gathering some thousands of matches.
SAMPLE_ROWS, WALKED_SAMPLES = 500, 40


class Listing(NamedTuple):
    """Reads records at once, by the order's index or by their own ids."""

    kept: Condition | None
    parameters: dict[str, Any]

    def select(self, plan: Plan, goes_on: bool) -> Select[Any]:
        """Return the select of records, or ids, with their keys behind."""
        return list_records(plan, self.kept, goes_on)


class Walk(NamedTuple):
    """Reads the order's index and probes each row: good where many match."""

    where: Sequence[ColumnElement[bool]]

    def select(self, plan: Plan, goes_on: bool) -> Select[Any]:
        """Return the select of keys."""
        return select_walked(plan, self.where, goes_on)


class Seek(NamedTuple):
    """Gathers what some condition leads to and sorts it: good where few match."""

    where: Sequence[ColumnElement[bool]]
    # Tells the planner how few there are; rows that are added meanwhile still fit in.
    most: int | None

    def select(self, plan: Plan, goes_on: bool) -> Select[Any]:
        """Return the select of keys."""
        return select_sought(plan, self.where, goes_on, self.most)


class KeptSeek(NamedTuple):
    """Seeks by the only condition with a statement that is kept: to make one takes as long as to ask."""

    kept: Condition
    parameters: dict[str, Any]

    def select(self, plan: Plan, goes_on: bool) -> Select[Any]:
        """Return the select of keys."""
        return keep_sought(plan, self.kept, goes_on)


Strategy = Listing | Walk | Seek | KeptSeek


def choose_listing(plan: Plan, conditions: Sequence[Condition]) -> Listing | None:
    """Return the listing of records that nothing but the order and ids confines; None for others."""
    if not conditions:
        return Listing(None, {})
    condition, *others = conditions
    if others or plan.by_time or not condition.on_key or condition.kept is None:
        return None
    return Listing(*condition.kept)


async def choose_strategy(
    plan: Plan,
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
    plan : Plan
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
        seek = await _choose_seek(session, direct, others, usual, for_all=for_all)
        if seek is not None:
            return seek
    probes = [*direct, *(other.probe() for other in others)]
    if await _is_rare(plan, probes, session, wanted):
        return await _choose_seek(session, direct, others, RARE_SEEK_ROWS, for_all=False) or Walk(probes)
    return Walk(probes)


async def _choose_seek(
    session: AsyncSession,
    direct: Sequence[ColumnElement[bool]],
    others: Sequence[Condition],
    bound: int,
    *,
    for_all: bool,
) -> Seek | None:
    """Return the seek by the conditions that lead to no more rows than a bound; None where none does."""
    few = await _find_few(session, others, [max(bound, other.seek_rows[for_all]) for other in others])
    if not few:
        return None
    terms = [other.seek() if other in few else other.probe() for other in others]
    limits = [bound for other, bound in few.items() if other.is_bounded]
    return Seek([*direct, *terms], _get_most(min(limits)) if limits else None)


async def _is_rare(
    plan: Plan, where: Sequence[ColumnElement[bool]], session: AsyncSession, wanted: int | None
) -> bool:
    """Tell whether so few of the first records of the order match that a walk to the wanted ones is long."""
    # Executions are few beside what conditions lead to: a walk over all of them is short.
    if wanted is None or wanted <= FEW or plan.record_type == "Execution":
        return False
    key = plan.order.columns[-1]
    first = sa.select(key).order_by(*plan.order.sort(plan.order.columns)).limit(SAMPLE_ROWS)
    count = sa.select(sa.func.count()).where(key.in_(first), *where)
    return (await session.scalar(count) or 0) * WALKED_SAMPLES < wanted


async def _resolve(session: AsyncSession, condition: Condition) -> Condition:
    if condition.resolution is None:
        return condition
    keys, make = condition.resolution
    return make(list(await session.scalars(keys)))


async def _find_few(
    session: AsyncSession, conditions: Sequence[Condition], bounds: Sequence[int]
) -> dict[Condition, int]:
    """Return the conditions that lead to no more rows than their bounds, and the bounds."""
    bounded = [pair for pair in zip(conditions, bounds, strict=True) if pair[0].sources is not None]
    if not bounded:
        return {}
    counts = sa.select(*(count_rows(condition, bound + 1) for condition, bound in bounded))
    sizes = (await session.execute(counts)).one()
    return {
        condition: bound for (condition, bound), size in zip(bounded, sizes, strict=True) if size <= bound
    }


def _get_most(bound: int) -> int:
    return 2 * bound + 1_000
