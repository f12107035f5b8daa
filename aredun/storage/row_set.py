"""The rows of one transaction, one per key, in the order in which they are written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aredun.storage.rows import EXECUTION, JOB, ROW_TABLES

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Sequence

    from aredun.storage.rows import Row, RowTable


@dataclass(frozen=True, slots=True, eq=False)
class ValueRows:
    """A value with everything that belongs to it: its file or task, its subvalues and the links to them.

    Attributes
    ----------
    value_hash : str
        The hash of the value at the top.
    rows : Sequence[tuple[RowTable, Row]]
        All rows.
    size : int
        Bytes of data in them.
    """

    value_hash: str
    rows: Sequence[tuple[RowTable, Row]]
    size: int


class RowSet:
    """The rows of one transaction, one per key, merged in order of arrival.

    Parameters
    ----------
    known : Container[str]
        Hashes of values that are in the database: where a foreign key would notice an error (`add_value`),
        their rows are not sent again.
    """

    __slots__ = ("_known", "_rows", "heartbeats", "implied")

    def __init__(self, known: Container[str] = ()) -> None:
        self._known = known
        self._rows: dict[RowTable, dict[Any, Row]] = {}
        self.heartbeats: dict[str, Any] = {}
        self.implied: set[str] = set()

    def __len__(self) -> int:
        return sum(map(len, self._rows.values())) + len(self.heartbeats)

    def add(self, rows: Iterable[tuple[RowTable, Row]]) -> None:
        """Add rows; of two with one key the table's `merge` makes one."""
        for table, row in rows:
            known = self._rows.get(table)
            if known is None:
                known = self._rows[table] = {}
            size = len(table.key)
            key = row[0] if size == 1 else row[:size]
            old = known.get(key)
            if old is None:
                known[key] = row
            else:
                known[key] = table.merge(old, row)

    def add_value(self, value: ValueRows) -> None:
        """Add the rows of a value that another row refers to, unless they are known to be there."""
        if value.value_hash not in self._known and value.value_hash not in self.implied:
            self.implied.add(value.value_hash)
            self.add(value.rows)

    def add_heartbeat(self, execution_id: str, time: Any) -> None:
        """Set the `updated_time` of an execution, whether it is among the rows or in the database."""
        known = self._rows.get(EXECUTION, {})
        if execution_id in known:
            known[execution_id] = known[execution_id]._replace(updated_time=time)
        else:
            self.heartbeats[execution_id] = time

    def tables(self) -> list[tuple[RowTable, list[Row]]]:
        """Return the rows by table: tables in the order of foreign keys, rows by key, jobs after parents.

        All writers lock in this one order, so that they wait for each other instead of forming a deadlock.
        """
        result = []
        for table in ROW_TABLES.values():
            rows = self._rows.get(table)
            if not rows:
                continue
            if table is JOB:
                # Only their own process writes jobs: they cannot be part of a deadlock.
                result.append((table, _parents_first(rows)))
            else:
                result.append((table, [rows[key] for key in sorted(rows)]))
        return result


def _parents_first(jobs: dict[Any, Row]) -> list[Row]:
    if not any(row.parent_id in jobs for row in jobs.values()):
        return list(jobs.values())
    ordered: dict[Any, Row] = {}
    for job_id in jobs:
        chain = []
        while job_id in jobs and job_id not in ordered and job_id not in chain:
            chain.append(job_id)
            job_id = jobs[job_id].parent_id
        ordered.update((waiting, jobs[waiting]) for waiting in reversed(chain))
    return list(ordered.values())
