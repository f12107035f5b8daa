"""Conditions on the records of a call graph, each spelt in the two ways that planners need.

A condition that leads through other tables can be *sought* (`column IN (SELECT ...)`: the database starts
at the other table's index, good for few matches) or *probed* (`EXISTS (...)`: row by row, good for many
matches). Which one is better depends on how many rows match, so each condition can also count its matches;
`aredun.search.scan` decides.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.orm import aliased

from aredun.formats.tag_syntax import is_storable_text
from aredun.tables.column_types import in_array

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from sqlalchemy import ColumnElement, Select


class Condition:
    """One condition on the rows of a model; each spelling is made when it is asked for.

    Parameters
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
    seek_rows : tuple[int, int]
        Up to how many rows of the sources seeking is the better way, for the first rows and beyond them, if
        that is more than usual.
    is_bounded : bool
        Whether there are never more matches than rows of the sources.
    """

    def __init__(
        self,
        seek: Callable[[], ColumnElement[bool]],
        probe: Callable[[], ColumnElement[bool]],
        sources: Callable[[], Sequence[Select[Any]]] | None,
        *,
        on_key: bool = False,
        seek_rows: tuple[int, int] = (0, 0),
        is_bounded: bool = True,
    ) -> None:
        self._seek, self._probe, self._sources = seek, probe, sources
        self.on_key, self._seek_rows, self.is_bounded = on_key, seek_rows, is_bounded
        self.resolution: tuple[Select[Any], Callable[[list[str]], Condition]] | None = None
        self.prepared: tuple[Condition, dict[str, Any]] | None = None

    @property
    def seek(self) -> ColumnElement[bool]:
        """The spelling that starts from what is sought."""
        return self._seek()

    @property
    def probe(self) -> ColumnElement[bool]:
        """The spelling that looks at one row after the other."""
        return self._probe()

    @property
    def sources(self) -> Sequence[Select[Any]]:
        """Selects whose rows, counted together, say about how many rows match."""
        return self._sources() if self._sources is not None else ()

    @property
    def is_sought(self) -> bool:
        """Whether an index leads to the matches."""
        return self._sources is not None

    def get_seek_rows(self, goes_on: bool) -> int:
        """Return up to how many rows seeking is the better way, for the first rows or beyond them."""
        return self._seek_rows[goes_on]

    def resolve_by(self, keys: Select[Any], make: Callable[[list[str]], Condition]) -> Condition:
        """Return the condition that gives way to what `make` makes of few keys, once looked up."""
        resolved = Condition(self._seek, self._probe, self._sources)
        resolved.resolution = (keys, make)
        return resolved

    def prepare(self, kept: Condition, parameters: dict[str, Any]) -> Condition:
        """Return the condition that says the same as another, which is kept, with some parameters."""
        prepared = self.count_by(self._sources, seek_rows=self._seek_rows, is_bounded=self.is_bounded)
        prepared.prepared = (kept, parameters)
        return prepared

    def count_by(
        self,
        sources: Callable[[], Sequence[Select[Any]]] | None,
        *,
        seek_rows: tuple[int, int] = (0, 0),
        is_bounded: bool = True,
    ) -> Condition:
        """Return the same condition with other sources."""
        return Condition(
            self._seek,
            self._probe,
            sources,
            on_key=self.on_key,
            seek_rows=seek_rows,
            is_bounded=is_bounded,
        )


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


def indexed(
    column: Any, match: Callable[[Any], ColumnElement[bool]], key: Any, *, on_key: bool = False
) -> Condition:
    """
    Return a condition on a text column of the model's own that has an index.

    Parameters
    ----------
    column : InstrumentedAttribute
        The column.
    match : Callable[[Any], ColumnElement[bool]]
        Makes the condition on a column.
    key : InstrumentedAttribute
        The model's primary key.
    on_key : bool
        As for `Condition`.
    """
    return Condition(
        lambda: match(column),
        lambda: match(unindexed(column)),
        lambda: [sa.select(key).where(match(column))],
        on_key=on_key,
    )


def unsought(make_clause: Callable[[], ColumnElement[bool]]) -> Condition:
    """Return a condition that no index serves."""
    return Condition(make_clause, make_clause, None)


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
        return [source for condition in conditions for source in condition.sources]

    return Condition(
        lambda: sa.or_(*(condition.seek for condition in conditions)),
        lambda: sa.or_(*(condition.probe for condition in conditions)),
        sources if all(condition.is_sought for condition in conditions) else None,
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


def combine(conditions: Iterable[ColumnElement[bool]]) -> ColumnElement[bool]:
    """Return the condition that all conditions hold; true without any."""
    return sa.and_(sa.true(), *conditions)
