"""The ways to find a query's records in order, and the choice between them.

However many records match, and wherever they lie, the first must come at once and memory must stay flat. Left
to themselves databases fail at that: sqlite has no statistics, and PostgreSQL takes a filter on few rows for
one on many. So what is chosen here is written into the statement.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import sqlalchemy as sa

from aredun.search.statements import count_sources, select_sought, select_walked

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence

    from sqlalchemy import Select

    from aredun.search.conditions import Condition, Spelling
    from aredun.search.statements import ScanPlan

    # Reads the rows of a statement with these parameters.
    Ask = Callable[[Select[Any], Mapping[str, Any]], Awaitable[Sequence[Any]]]

# Seeking gathers all matches before it knows the first. So for the first rows a condition with more matches
# than this is probed, for all rows only one with many more.
SEEK_ROWS, RARE_SEEK_ROWS, ALL_SEEK_ROWS = 1_000, 20_000, 50_000
# A walk over forty times the rows of the sample takes as long as gathering some thousands of matches.
SAMPLE_ROWS, WALKED_SAMPLES = 500, 40
_UNBOUNDED = 2**40


class Walk(NamedTuple):
    """Reads records along the order's index, and probes each row: good where many match."""

    where: tuple[Spelling, ...]

    def select(self, plan: ScanPlan, goes_on: bool) -> Select[Any]:
        """Return the select of records, or ids, with their keys behind."""
        return select_walked(plan, self.where, goes_on)


class Seek(NamedTuple):
    """Gathers what some condition leads to and sorts it: good where few match."""

    where: tuple[Spelling, ...]
    # Tells the planner how few there are; rows that are added meanwhile still fit in.
    most: int

    def select(self, plan: ScanPlan, goes_on: bool) -> Select[Any]:
        """Return the select of keys, for the parameter `most` too."""
        return select_sought(plan, self.where, goes_on)


async def choose_strategy(
    plan: ScanPlan,
    conditions: Sequence[Condition],
    ask: Ask,
    parameters: Mapping[str, Any],
    *,
    wanted: int | None,
) -> Walk | Seek:
    """
    Choose how to find the records that meet all conditions.

    What only the order and ids confine is where the order's index leads: a walk. Other records are sought
    where some condition leads to few rows, which the database counts up to a bound: 1,000, then 50,000 if all
    records are wanted, or 20,000 if so few of the first 500 of the order match that a walk would be long.
    Else the order's index is walked.

    Parameters
    ----------
    plan : ScanPlan
        What is read, in which order.
    conditions : Sequence[Condition]
        All must hold.
    ask : Callable
        Reads the rows of a statement.
    parameters : Mapping[str, Any]
        Those of the conditions.
    wanted : int | None
        How many records; None for all.
    """
    indirect = [condition for condition in conditions if plan.by_time or not condition.on_key]
    counted = tuple(condition for condition in indirect if condition.sources is not None)

    def spell(few: Collection[Condition]) -> tuple[Spelling, ...]:
        is_probed = {condition for condition in indirect if condition not in few}
        return tuple(each.probe if each in is_probed else each.seek for each in conditions)

    async def find_few(bound: int) -> list[Condition]:
        (sizes,) = await ask(count_sources(counted), {**parameters, "bound": bound + 1})
        return [condition for condition, size in zip(counted, sizes, strict=True) if size <= bound]

    async def is_rare() -> bool:
        """Tell whether so few of the first records match that a walk to the wanted ones is long."""
        # Executions are few beside what conditions lead to: a walk over all of them is short.
        if wanted is None or plan.record_type == "Execution":
            return wanted is None
        key = plan.order.columns[-1]
        first = sa.select(key).order_by(*plan.order.sort(plan.order.columns)).limit(SAMPLE_ROWS)
        matches = sa.select(sa.func.count()).where(key.in_(first), *(each() for each in spell(())))
        ((count,),) = await ask(matches, parameters)
        return bool(count * WALKED_SAMPLES < wanted)

    bound, few = SEEK_ROWS, await find_few(SEEK_ROWS) if counted else []
    if counted and not few and await is_rare():
        bound = ALL_SEEK_ROWS if wanted is None else RARE_SEEK_ROWS
        few = await find_few(bound)
    if not few:
        return Walk(spell(()))
    is_bounded = any(condition.is_bounded for condition in few)
    return Seek(spell(few), 2 * bound + 1_000 if is_bounded else _UNBOUNDED)
