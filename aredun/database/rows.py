"""The tables that are written in bulk: what a row of each looks like, and how rows of one key merge."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from aredun.models import (
    Argument,
    ArgumentResult,
    Base,
    CallEdge,
    CallNode,
    CallSubtreeTask,
    Evaluation,
    Execution,
    File,
    Job,
    Subvalue,
    Tag,
    Task,
    Value,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Sequence

Row = tuple[Any, ...]


@dataclass(frozen=True, eq=False)
class RowTable:
    """One table that rows are written to.

    Attributes
    ----------
    model : type
        The mapped class.
    columns : tuple[str, ...]
        What a row holds, in this order, the primary key first.
    key_size : int
        Number of columns of the primary key.
    updates : tuple[str, ...]
        Columns that a row which is already there takes over from a new one; without any it stays as it is.
    update_if : str
        A new row changes one that is already there only if this column of it is not null.
    merge : callable, optional
        Gives the row that two rows of one key, in order of arrival, amount to; the first one by default.
    """

    model: type[Base]
    columns: tuple[str, ...]
    key_size: int = 1
    updates: tuple[str, ...] = ()
    update_if: str = ""
    merge: Callable[[Row, Row], Row] | None = None

    @property
    def table(self) -> sa.Table:
        """The table itself."""
        return Base.metadata.tables[self.model.__tablename__]

    def insert(self) -> postgresql.Insert:
        """Return the INSERT that both databases understand, for rows that may be there already."""
        # sqlite's compiler renders PostgreSQL's ON CONFLICT clause as it stands: it took the syntax over.
        statement = postgresql.insert(self.table)
        if not self.updates:
            return statement.on_conflict_do_nothing()
        new = statement.excluded
        differs = (new[name].is_distinct_from(self.table.c[name]) for name in self.updates)
        return statement.on_conflict_do_update(
            index_elements=self.columns[: self.key_size],
            set_={name: new[name] for name in self.updates},
            where=sa.and_(new[self.update_if].is_not(None), sa.or_(*differs)),
        )


def _merge_job(old: Row, new: Row) -> Row:
    if new[2] is None:
        return old
    return (old[0], old[1], new[2], old[3], new[4], new[5], *old[6:])


VALUE = RowTable(Value, ("value_hash", "type", "format", "value"))
FILE = RowTable(File, ("value_hash", "path"))
TASK = RowTable(Task, ("hash", "name", "namespace", "source"))
SUBVALUE = RowTable(Subvalue, ("value_hash", "parent_value_hash"), 2)
EVALUATION = RowTable(
    Evaluation,
    ("eval_hash", "task_hash", "args_hash", "value_hash"),
    updates=("value_hash",),
    update_if="value_hash",
    merge=lambda old, new: new,
)
EXECUTION = RowTable(Execution, ("id", "args", "updated_time", "job_id"))
CALL_NODE = RowTable(
    CallNode, ("call_hash", "task_name", "task_hash", "args_hash", "value_hash", "timestamp")
)
JOB = RowTable(
    Job,
    ("id", "start_time", "end_time", "task_hash", "cached", "call_hash", "parent_id", "execution_id"),
    updates=("end_time", "cached", "call_hash"),
    update_if="end_time",
    merge=_merge_job,
)
ARGUMENT = RowTable(Argument, ("arg_hash", "call_hash", "value_hash", "arg_position", "arg_key"))
ARGUMENT_RESULT = RowTable(ArgumentResult, ("arg_hash", "result_call_hash"), 2)
CALL_EDGE = RowTable(CallEdge, ("parent_id", "child_id", "call_order"), 3)
CALL_SUBTREE_TASK = RowTable(CallSubtreeTask, ("call_hash", "task_hash"), 2)
TAG = RowTable(Tag, ("tag_hash", "entity_type", "entity_id", "key", "value", "is_current"))

# In the order of their foreign keys; a job's towards its execution is checked at the commit.
ROW_TABLES = (
    VALUE,
    FILE,
    TASK,
    SUBVALUE,
    EVALUATION,
    CALL_NODE,
    JOB,
    EXECUTION,
    ARGUMENT,
    ARGUMENT_RESULT,
    CALL_EDGE,
    CALL_SUBTREE_TASK,
    TAG,
)


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
            key = row[0] if table.key_size == 1 else row[: table.key_size]
            old = known.get(key)
            if old is None:
                known[key] = row
            elif table.merge is not None:
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
            row = known[execution_id]
            known[execution_id] = (*row[:2], time, *row[3:])
        else:
            self.heartbeats[execution_id] = time

    def tables(self) -> list[tuple[RowTable, list[Row]]]:
        """Return the rows by table: tables in the order of foreign keys, rows by key, jobs after parents.

        All writers lock in this one order, so that they wait for each other instead of forming a deadlock.
        """
        result = []
        for table in ROW_TABLES:
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
    parent = JOB.columns.index("parent_id")
    if not any(row[parent] in jobs for row in jobs.values()):
        return list(jobs.values())
    ordered: dict[Any, Row] = {}
    for job_id in jobs:
        chain = []
        while job_id in jobs and job_id not in ordered and job_id not in chain:
            chain.append(job_id)
            job_id = jobs[job_id][parent]
        ordered.update((waiting, jobs[waiting]) for waiting in reversed(chain))
    return list(ordered.values())
