"""What one caller writes, and how the rows of many callers come together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from aredun.database.turns import ROWS_AT_ONCE, Turns

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Sequence
    from datetime import datetime

    from sqlalchemy.ext.asyncio import AsyncSession

    from aredun.database.batch import Batch
    from aredun.database.rows import Row, RowSet, RowTable, ValueRows

T = TypeVar("T")


class Draft(Protocol):
    """Rows that depend on which calls are recorded already."""

    @property
    def call_hashes(self) -> Sequence[str]:
        """The calls that it depends on."""

    @property
    def with_tasks(self) -> bool:
        """Whether it depends on the tasks of their subtrees too."""

    @property
    def size(self) -> int:
        """Bytes of data in it."""

    def add_rows(self, calls: dict[str, set[str]], rows: RowSet) -> None:
        """Add the rows, given the recorded calls with their subtrees' tasks; then the own call to those."""


@dataclass(slots=True, eq=False)
class Unit:
    """What one caller writes: all of it or none of it.

    Attributes
    ----------
    rows : Sequence[tuple[RowTable, Row]]
        Rows to write.
    values : Sequence[ValueRows]
        Values that the rows refer to.
    drafts : Sequence[Draft]
        Rows that depend on the calls that are there.
    heartbeats : Sequence[tuple[str, datetime]]
        New `updated_time` of executions.
    operation : callable, optional
        Runs on a session of the transaction, after the rows of all units.
    on_commit : Sequence[callable]
        Called without arguments once the unit is durable.
    result : Any
        What the operation returned.
    extra_size : int
        Bytes of data in `rows`.
    held : Batch, optional
        The batch that keeps the transaction of this unit open.
    """

    # Empty tuples, which cost nothing: thousands of units are waiting at a time.
    rows: Sequence[tuple[RowTable, Row]] = ()
    values: Sequence[ValueRows] = ()
    drafts: Sequence[Draft] = ()
    heartbeats: Sequence[tuple[str, datetime]] = ()
    operation: Callable[[AsyncSession], Awaitable[Any]] | None = None
    on_commit: Sequence[Callable[[], None]] = ()
    result: Any = None
    extra_size: int = 0
    held: Batch | None = None

    def measure(self) -> tuple[int, int]:
        """Return about how many rows it amounts to, and the bytes of data in them."""
        rows, size = len(self.rows) + 1, self.extra_size
        for value in self.values:
            rows += len(value.rows)
            size += value.size
        for draft in self.drafts:
            rows += 4
            size += draft.size
        return rows, size

    def __bool__(self) -> bool:
        return bool(self.rows or self.values or self.drafts or self.heartbeats)

    def extend(self, other: Unit) -> None:
        """Take over what another unit, without an operation, writes."""
        self.rows = _join(self.rows, other.rows)
        self.values = _join(self.values, other.values)
        self.drafts = _join(self.drafts, other.drafts)
        self.heartbeats = _join(self.heartbeats, other.heartbeats)
        self.on_commit = _join(self.on_commit, other.on_commit)
        self.extra_size += other.extra_size


def _join(mine: Sequence[T], others: Sequence[T]) -> Sequence[T]:
    """Return both, reusing a list that is `mine` alone: batches grow by one unit at a time."""
    if not others:
        return mine
    joined = mine if isinstance(mine, list) else list(mine)
    joined.extend(others)
    return joined


class _DrainLookup:
    """Resolves the drafts of a drain against one answer of the database."""

    def __init__(self, drafts: Sequence[Draft], rows: RowSet) -> None:
        self._drafts = drafts
        self._rows = rows
        self.call_hashes = list(dict.fromkeys(call for draft in drafts for call in draft.call_hashes))
        self.with_tasks = any(draft.with_tasks for draft in drafts)

    def resolve(self, found: Sequence[tuple[str, str | None]]) -> Iterator[None]:
        calls: dict[str, set[str]] = {}
        for call_hash, task_hash in found:
            tasks = calls.setdefault(call_hash, set())
            if task_hash is not None:
                tasks.add(task_hash)
        for draft in self._drafts:
            draft.add_rows(calls, self._rows)
            yield


async def fill(rows: RowSet, units: Sequence[Unit]) -> _DrainLookup | None:
    """Put the rows of units together; returns the lookup that completes them, if one is needed."""
    drafts: list[Draft] = []
    turns = Turns(ROWS_AT_ONCE)
    for unit in units:
        for value in unit.values:
            rows.add_value(value)
        rows.add(unit.rows)
        drafts += unit.drafts
        await turns.pause_after(len(unit.rows) + len(unit.values) + 1)
    for unit in units:
        for execution_id, time in unit.heartbeats:
            rows.add_heartbeat(execution_id, time)
    return _DrainLookup(drafts, rows) if drafts else None
