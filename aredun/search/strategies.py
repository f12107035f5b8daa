"""The ways to find a query's records in order, and the choice between them.

However many records match, and wherever they lie, the first must come at once and memory must stay flat. Left
to themselves databases fail at that: sqlite has no statistics, and PostgreSQL takes a filter on few rows for
one on many. So what is chosen here is written into the statement.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import sqlalchemy as sa

from aredun.search.statements import bound_sources, count_sources, select_sought, select_walked

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
# One or two records are met by a walk before others are counted.
FEW = 2
# A walk over forty times the rows of the sample takes as long as gathering some thousands of matches.
SAMPLE_ROWS, WALKED_SAMPLES = 500, 40


class IndexWalk(NamedTuple):
    """Reads records along the order's index, and probes each row: good where many match."""

    where: tuple[Spelling, ...]

    def select(self, plan: ScanPlan, goes_on: bool) -> Select[Any]:
        """Return the select of records, or ids, with their keys behind."""
        return select_walked(plan, self.where, goes_on)


class Seek(NamedTuple):
    """Gathers what some condition leads to and sorts it: good where few match."""

    where: tuple[Spelling, ...]

    def select(self, plan: ScanPlan, goes_on: bool) -> Select[Any]:
        """Return the select of keys."""
        return select_sought(plan, self.where, goes_on)


async def choose_strategy(
    plan: ScanPlan,
    conditions: Sequence[Condition],
    ask: Ask,
    parameters: Mapping[str, Any],
    *,
    wanted: int | None,
) -> IndexWalk | Seek:
    """
    Choose how to find the records that meet all conditions.

    What only the order and ids confine is where the order's index leads: a walk. Other records are sought
    where some condition leads to few rows, which the database counts up to a bound: 1,000, or what the
    condition names, then 50,000 if all records are wanted, or 20,000 if more than a record or two is and so
    few of the first 500 of the order match that a walk would be long. Else the order's index is walked.

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
    conditions = [await _resolve(condition, ask) for condition in conditions]
    indirect = [condition for condition in conditions if plan.by_time or not condition.on_key]
    counted = tuple(condition for condition in indirect if condition.sources is not None)

    def spell(few: Collection[Condition]) -> tuple[Spelling, ...]:
        is_probed = {condition for condition in indirect if condition not in few}
        return tuple(each.probe if each in is_probed else each.seek for each in conditions)

    async def find_few(usual: int) -> Seek | None:
        """Return the seek by the conditions that lead to few rows."""
        bounds = [max(usual, condition.seek_rows) for condition in counted]
        beyond = bound_sources(bound + 1 for bound in bounds)
        (sizes,) = await ask(count_sources(counted), {**parameters, **beyond})
        few = [each for each, size, bound in zip(counted, sizes, bounds, strict=True) if size <= bound]
        return Seek(spell(few)) if few else None

    async def is_rare(wanted: int) -> bool:
        """Tell whether so few of the first records match that a walk to the wanted ones is long."""
        # Executions are few beside what conditions lead to: a walk over all of them is short.
        if wanted <= FEW or plan.record_type == "Execution":
            return False
        key = plan.order.columns[-1]
        first = sa.select(key).order_by(*plan.order.sort(plan.order.columns)).limit(SAMPLE_ROWS)
        matches = sa.select(sa.func.count()).where(key.in_(first), *(each() for each in spell(())))
        ((count,),) = await ask(matches, parameters)
        return bool(count * WALKED_SAMPLES < wanted)

    seek = await find_few(SEEK_ROWS) if counted else None
    if counted and seek is None and wanted is None:
        seek = await find_few(ALL_SEEK_ROWS)
    elif counted and seek is None and wanted is not None and await is_rare(wanted):
        seek = await find_few(RARE_SEEK_ROWS)
    return seek or IndexWalk(spell(()))


async def _resolve(condition: Condition, ask: Ask) -> Condition:
    if condition.resolution is None:
        return condition
    keys, make = condition.resolution
    return make([key for (key,) in await ask(keys, {})])
