"""Conditions on the records of a call graph, each spelt in the two ways that planners need.

A condition that leads through other tables can be *sought* (`column IN (SELECT ...)`: the database starts
at the other table's index, good for few matches) or *probed* (`EXISTS (...)`: row by row, good for many
matches). Which one is better depends on how many rows match, so each condition can also count its matches;
`aredun.search.strategies` decides.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.orm import aliased

from aredun.formats.tag_syntax import is_storable_text
from aredun.tables.column_types import in_array

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy import ColumnElement, Select

    # Makes one of the spellings of a condition.
    Spelling = Callable[[], ColumnElement[bool]]
    # Makes the condition on records of a type, by its name; None where there is none.
    Filter = Callable[[str], "Condition | None"]


@dataclass(frozen=True, eq=False)
class Condition:
    """One condition on the rows of a model; each spelling is made when it is asked for.

    Attributes
    ----------
    seek : Callable[[], ColumnElement[bool]]
        Makes the spelling that starts from what is sought.
    probe : Callable[[], ColumnElement[bool]]
        Makes the spelling that looks at one row after the other.
    sources : Callable[[], Sequence[Select]] | None
        Makes selects whose rows, counted together, say about how many rows match; None when no index leads
        to the matches.
    on_key : bool
        Whether the condition confines the primary key itself, so that records in its order are found
        directly.
    seek_rows : int
        Up to how many rows of the sources seeking is the better way for the first rows, if that is more than
        usual.
    kept : tuple[Condition, dict[str, Any]] | None
        A condition that is made once, for every like question, and the parameters with which it says the
        same as this one.
    resolution : tuple[Select, Callable[[list[str]], Condition]] | None
        Selects few keys, and makes of them, once looked up, the condition that this one gives way to.
    """

    seek: Spelling
    probe: Spelling
    sources: Callable[[], Sequence[Select[Any]]] | None = None
    on_key: bool = False
    seek_rows: int = 0
    kept: tuple[Condition, dict[str, Any]] | None = None
    resolution: tuple[Select[Any], Callable[[list[str]], Condition]] | None = None


def for_types(**makers: Callable[[], Condition]) -> Filter:
    """Return the filter that makes conditions on records of these types."""
    return lambda name: makers[name]() if name in makers else None


@cache
def alias(model: Any, name: str) -> Any:
    """Return the alias of a model by which subqueries read it; kept, because making one is slow."""
    return aliased(model, name=name)


def identity(column: Any) -> Any:
    """Return the column as it is."""
    return column


def unindexed(column: Any) -> Any:
    """Return a text column such that no index of its own serves it.

    In a probe the planner must follow the outer row's key; sqlite, without statistics, may as well take the
    index of the value that is sought and read all its matches again for every row.
    """
    return column.concat("")


def indexed(column: Any, match: Callable[[Any], ColumnElement[bool]], *, on_key: bool = False) -> Condition:
    """
    Return a condition on a text column of the model's own that has an index.

    Parameters
    ----------
    column : InstrumentedAttribute
        The column.
    match : Callable[[Any], ColumnElement[bool]]
        Makes the condition on a column.
    on_key : bool
        As for `Condition`.
    """
    return Condition(
        lambda: match(column),
        lambda: match(unindexed(column)),
        lambda: [sa.select(column).where(match(column))],
        on_key=on_key,
    )


def among(column: Any, branches: Callable[[Any], Sequence[Select[Any]]]) -> Condition:
    """
    Return the condition that a column is among the keys that any of several selects gives.

    Parameters
    ----------
    column : InstrumentedAttribute
        A column of the model.
    branches : Callable[[Callable], Sequence[Select]]
        Makes selects of one column, over aliases of their own; called with `identity` for seeking and
        `unindexed` for probing, to be applied to the columns that hold what is sought.
    """

    def seek() -> ColumnElement[bool]:
        sought = branches(identity)
        keys: Any = sought[0] if len(sought) == 1 else sa.union_all(*sought)
        return column.in_(keys)  # type: ignore[no-any-return]  # columns are untyped here

    def probe() -> ColumnElement[bool]:
        # With an OFFSET PostgreSQL looks up each row; else it may turn the probe into one pass over the
        # table.
        probes = (branch.where(branch.selected_columns[0] == column) for branch in branches(unindexed))
        return sa.or_(*(probe.offset(sa.literal_column("0")).exists() for probe in probes))

    return Condition(seek, probe, lambda: branches(identity))


def any_of(conditions: Sequence[Condition]) -> Condition:
    """Return the condition that at least one of the conditions holds."""

    def sources() -> list[Select[Any]]:
        return [source for condition in conditions if condition.sources for source in condition.sources()]

    return Condition(
        lambda: sa.or_(*(condition.seek() for condition in conditions)),
        lambda: sa.or_(*(condition.probe() for condition in conditions)),
        sources if all(condition.sources for condition in conditions) else None,
    )


def is_one_of(column: Any, values: Sequence[str]) -> ColumnElement[bool]:
    """Return the condition that a text column is one of the values, however many they are.

    A value that no database can store is none that a record has.
    """
    storable = leave_out_unstorable(values)
    if len(storable) == 1:
        return column == storable[0]  # type: ignore[no-any-return]  # columns are untyped here
    return in_array(column, storable)


def leave_out_unstorable(values: Sequence[str]) -> list[str]:
    """Return the values that a database can store."""
    return [value for value in values if is_storable_text(value)]
