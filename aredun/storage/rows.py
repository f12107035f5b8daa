"""The tables that are written in bulk: rows, keys, references and statements, all from `Base.metadata`.

Recording, import, sync and verification go by this description. What no metadata tells stands here in four
short rules: which columns a later row changes, which no record holds, which reference is no foreign key, and
which column says to whom a row belongs.
"""

from __future__ import annotations

from collections import namedtuple
from dataclasses import dataclass
from graphlib import TopologicalSorter
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

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
    TagEdit,
    Task,
    Value,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

# A named tuple of a table's cells: `RowTable.row`. Its type is made of the metadata, which mypy does not see.
Row = Any


@dataclass(frozen=True)
class Changes:
    """What a row that is there already takes over from a new one of the same key.

    Attributes
    ----------
    columns : tuple[str, ...]
        Those that it takes over.
    decisive : str
        It takes them over only if this column of the new row is not null.
    """

    columns: tuple[str, ...] = ()
    decisive: str = ""


class Reference(NamedTuple):
    """A column that holds the key of another row."""

    column: str
    table: str
    key: str


_CHANGES: Final = {
    Evaluation: Changes(("value_hash",), "value_hash"),
    Job: Changes(("end_time", "cached", "call_hash"), "end_time"),
}
# Columns that records lack, and the SQL of their cells in imported rows; None is the column's default.
_NOT_IN_RECORDS: Final[dict[type[Any], dict[str, str | None]]] = {
    Execution: {"updated_time": None},
    Tag: {"is_current": "true"},
}
# A reference without a foreign key: a task is recorded as a value, too.
_LOOSE_REFERENCES: Final = {"task": {"hash": ("value.value_hash",)}}
# Tables whose rows are parts of a record, and the column that names the record.
OWNERS: Final = {
    "argument": "call_hash",
    "argument_result": "arg_hash",
    "call_edge": "parent_id",
    "call_subtree_task": "call_hash",
    "file": "value_hash",
    "handle_edge": "child_id",
    "subvalue": "parent_value_hash",
    "tag_edit": "child_id",
    "task": "hash",
}


class RowTable:
    """One table that rows are written to.

    Parameters
    ----------
    model : type
        The mapped class.

    Attributes
    ----------
    name : str
        The table's name.
    columns : tuple[str, ...]
        What a row holds, in this order, the primary key first.
    key : tuple[str, ...]
        The columns of the primary key.
    row : type
        The named tuple of a row.
    record_columns : tuple[str, ...]
        What of it a record holds.
    record_row : type
        The named tuple of those.
    defaults : dict[str, str]
        SQL of the cells that no record holds, where they are not the column's default.
    changes : Changes
        What a new row changes of one that is there.
    owner : str
        The column that says to which record a row belongs; empty where the row is a record's own.
    references : tuple[Reference, ...]
        Columns with keys of other rows, in the order of the columns.
    """

    def __init__(self, model: type[Any]) -> None:
        self.model = model
        self.table: sa.Table = Base.metadata.tables[model.__tablename__]
        self.name = self.table.name
        self.columns = tuple(self.table.columns.keys())
        self.key = tuple(column.name for column in self.table.primary_key)
        if self.columns[: len(self.key)] != self.key:
            raise TypeError(f"the columns of {self.name} must begin with its key: {', '.join(self.key)}")
        left_out = _NOT_IN_RECORDS.get(model, {})
        self.defaults = {name: text for name, text in left_out.items() if text is not None}
        self.record_columns = tuple(name for name in self.columns if name not in left_out)
        self.row = make_row_type(f"{model.__name__}Row", self.columns)
        self.record_row = (
            make_row_type(f"{model.__name__}RecordRow", self.record_columns) if left_out else self.row
        )
        self.changes = _CHANGES.get(model, Changes())
        self.owner = OWNERS.get(self.name, "")
        self.references = find_references(self.table)

    def merge(self, old: Row, new: Row) -> Row:
        """Return the row that two rows of one key, in order of arrival, amount to."""
        if not self.changes.columns or getattr(new, self.changes.decisive) is None:
            return old
        return old._replace(**{name: getattr(new, name) for name in self.changes.columns})

    def insert(self) -> postgresql.Insert:
        """Return the INSERT that both databases understand, for rows that may be there already."""
        # sqlite's compiler renders PostgreSQL's ON CONFLICT clause as it stands: it took the syntax over.
        statement = postgresql.insert(self.table)
        if not self.changes.columns:
            return statement.on_conflict_do_nothing()
        new = statement.excluded
        differs = (new[name].is_distinct_from(self.table.c[name]) for name in self.changes.columns)
        return statement.on_conflict_do_update(
            index_elements=self.key,
            set_={name: new[name] for name in self.changes.columns},
            where=sa.and_(new[self.changes.decisive].is_not(None), sa.or_(*differs)),
        )


def find_references(table: sa.Table) -> tuple[Reference, ...]:
    """Return the columns of a table that hold keys of other rows, in the order of the columns."""
    loose = _LOOSE_REFERENCES.get(table.name, {})
    return tuple(
        Reference(column.name, *target.split("."))
        for column in table.columns
        for target in (*(key.target_fullname for key in column.foreign_keys), *loose.get(column.name, ()))
    )


def make_row_type(name: str, columns: Iterable[str]) -> Any:
    """Return the named tuple of rows that have these columns."""
    make = cast("Any", namedtuple)
    return make(name, columns, rename=True)


VALUE = RowTable(Value)
FILE = RowTable(File)
TASK = RowTable(Task)
SUBVALUE = RowTable(Subvalue)
EVALUATION = RowTable(Evaluation)
EXECUTION = RowTable(Execution)
CALL_NODE = RowTable(CallNode)
JOB = RowTable(Job)
ARGUMENT = RowTable(Argument)
ARGUMENT_RESULT = RowTable(ArgumentResult)
CALL_EDGE = RowTable(CallEdge)
CALL_SUBTREE_TASK = RowTable(CallSubtreeTask)
TAG = RowTable(Tag)
TAG_EDIT = RowTable(TagEdit)


def _sort_tables(*tables: RowTable) -> dict[str, RowTable]:
    """Return the tables by name, each after those that it refers to."""
    by_name = {each.name: each for each in tables}
    before = {each.name: {reference.table for reference in each.references} - {each.name} for each in tables}
    # An execution and its root job refer to each other: that to the execution is checked at the commit.
    before[JOB.name].discard(EXECUTION.name)
    return {name: by_name[name] for name in TopologicalSorter(before).static_order()}


# In the order in which all writers write, so that they wait for each other instead of forming a deadlock. A
# sync writes tags before the jobs and executions that own them.
ROW_TABLES: Final = _sort_tables(
    TAG,
    TAG_EDIT,
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
)
