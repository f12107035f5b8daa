"""The records of a query: the columns that they are read by, and detached models made of the rows.

The ORM takes several times longer to load a record than the database takes to find it, so rows are read as
plain columns. What is made of them is what a closed session leaves behind: columns that were not read, and
all relationships but those named here, raise.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.orm import make_transient_to_detached
from sqlalchemy.orm.attributes import set_committed_value

from aredun.formats import statuses
from aredun.models import CallNode, Execution, Job, Task, Value
from aredun.search.filters import MODEL_CLASSES, PRIMARY_KEYS
from aredun.search.statuses import is_alive, join_result
from aredun.tables.behaviour import set_backend

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sqlalchemy import Select
    from sqlalchemy.orm import Mapper


class ModelMaker:
    """Makes models of one class from rows of its columns.

    Parameters
    ----------
    model : type
        The class, with a primary key of one column.
    without : str
        Names of columns that are not read.
    """

    def __init__(self, model: Any, *without: str) -> None:
        self._mapper: Mapper[Any] = sa.inspect(model)
        self._names = [item.key for item in self._mapper.column_attrs if item.key not in without]
        self._key = self._names.index(self._mapper.get_property_by_column(self._mapper.primary_key[0]).key)
        self.columns: list[Any] = [getattr(model, name) for name in self._names]

    def make(self, values: Sequence[Any], backend: Any, **related: Any) -> Any:
        """
        Return the model of a row, None when the row has none (an outer join).

        Parameters
        ----------
        values : Sequence[Any]
            By `columns`.
        backend : RedunBackendDb
            What the model hands over to.
        related : Any
            Relationships.
        """
        if values[self._key] is None:
            return None
        record = self._mapper.class_(**dict(zip(self._names, values, strict=True)))
        # It counts as loaded: attributes that were not read raise an error, they are not None.
        make_transient_to_detached(record)
        for name, value in related.items():
            set_committed_value(record, name, value)
        set_backend(record, backend)
        return record


class RecordReader:
    """How the records of a type are selected and made, with their task and what their status takes.

    Parameters
    ----------
    record_type : str
        "Execution", "Job", "CallNode", "Task" or "Value".
    load_values : bool
        Whether the data of values is read.
    """

    def __init__(self, record_type: str, load_values: bool = False) -> None:
        models = {"CallNode": (CallNode,), "Task": (Task,), "Job": (Job,), "Execution": (Execution, Job)}
        own = [ModelMaker(model) for model in models.get(record_type, ())]
        if record_type == "Value":
            own = [ModelMaker(Value, *(() if load_values else ("value",)))]
        if record_type != "Task" and record_type != "Value":
            own.append(ModelMaker(Task, "source"))
        self._makers = own
        self._record_type = record_type
        self.has_status = record_type in {"Execution", "Job"}

    def select(self, cutoff: Any = None, within: Any = None) -> Select[Any]:
        """
        Return the select of what `make` takes.

        Parameters
        ----------
        cutoff : datetime | BindParameter | None
            Tell for open records whether their run gave a sign of life since then.
        within : Subquery | None
            Confines the records to the primary keys in its column `pk`.
        """
        columns = [column for maker in self._makers for column in maker.columns]
        if self.has_status:
            columns.append(Value.type)
            if cutoff is not None:
                # Of jobs that are over nobody asks, so the database does not look.
                columns.append(sa.case((Job.end_time.is_(None), is_alive(Job.execution_id, cutoff))))
        statement = sa.select(*columns).select_from(MODEL_CLASSES[self._record_type])
        if within is not None:
            statement = statement.join(within, within.c.pk == PRIMARY_KEYS[self._record_type])
        if self._record_type == "CallNode":
            return statement.outerjoin(Task, Task.hash == CallNode.task_hash)
        if self._record_type == "Execution":
            statement = statement.outerjoin(Job, Job.id == Execution.job_id)
        if self.has_status:
            statement = join_result(statement.outerjoin(Task, Task.hash == Job.task_hash))
        return statement

    def make(self, rows: Iterable[Sequence[Any]], backend: Any, *, tells_alive: bool = False) -> list[Any]:
        """
        Return the records of rows.

        Parameters
        ----------
        rows : Iterable[Sequence[Any]]
            Of the columns of `select`, maybe with others behind them.
        backend : RedunBackendDb
            What the records hand over to.
        tells_alive : bool
            Whether they were selected with a `cutoff`.
        """
        tasks: dict[str | None, Any] = {}
        return [self._make_record(row, backend, tells_alive, tasks) for row in rows]

    def _make_record(
        self, row: Sequence[Any], backend: Any, tells_alive: bool, tasks: dict[str | None, Any]
    ) -> Any:
        parts, start = [], 0
        for maker in self._makers:
            parts.append(row[start : start + len(maker.columns)])
            start += len(maker.columns)
        if len(parts) == 1:
            return self._makers[0].make(parts[0], backend)
        *others, task_detacher = self._makers
        task_hash = parts[-1][0]
        if task_hash not in tasks:
            tasks[task_hash] = task_detacher.make(parts[-1], backend)
        record = others[-1].make(parts[-2], backend, task=tasks[task_hash])
        if len(others) == 2:
            record = others[0].make(parts[0], backend, job=record)
        if self.has_status:
            _keep_status(record, row[start], is_silent=tells_alive and row[start + 1] in (False, 0))
        return record


def _keep_status(record: Execution | Job, result_type: str | None, *, is_silent: bool) -> None:
    if record.calc_status(result_type) == statuses.RUNNING and is_silent:
        record._keep_status(statuses.ABANDONED)


@cache
def get_reader(record_type: str, load_values: bool = False) -> RecordReader:
    """Return the reader of records of a type; kept, because making one is slow."""
    return RecordReader(record_type, load_values)
