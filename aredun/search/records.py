"""The records of a query: the columns that they are read by, and detached models made of the rows.

The ORM takes several times longer to load a record than the database takes to find it, so rows are read as
plain columns. What is made of them is what a closed session leaves behind: columns that were not read, and
all relationships but those named here, raise.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, get_args

import sqlalchemy as sa
from sqlalchemy.orm import make_transient_to_detached
from sqlalchemy.orm.attributes import set_committed_value

from aredun.formats import statuses
from aredun.models import CallNode, Execution, Job, Task, Value
from aredun.search.statuses import is_alive, join_result
from aredun.storage.reads import read_rows
from aredun.tables.behaviour import set_backend
from aredun.tables.column_types import in_parameter

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from sqlalchemy import Select

    from aredun.search.repository import Repository


Record = Execution | Job | CallNode | Task | Value
MODEL_CLASSES: dict[str, Any] = {model.__name__: model for model in get_args(Record)}


def get_primary_key(model: Any) -> Any:
    """Return the attribute of a model that is its primary key, of one column."""
    (column,) = model.__table__.primary_key
    return getattr(model, column.name)


PRIMARY_KEYS = {name: get_primary_key(model) for name, model in MODEL_CLASSES.items()}


def get_key(record: Any) -> str:
    """Return the whole id of a record."""
    return str(getattr(record, PRIMARY_KEYS[type(record).__name__].key))


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
        self._model = model
        self._names = [item.key for item in sa.inspect(model).column_attrs if item.key not in without]
        self._key = self._names.index(get_primary_key(model).key)
        self.columns: list[Any] = [getattr(model, name) for name in self._names]

    def make(self, values: Sequence[Any], backend: Any, related: Mapping[str, Any] | None = None) -> Any:
        """
        Return the model of a row, None when the row has none (an outer join).

        Parameters
        ----------
        values : Sequence[Any]
            By `columns`.
        backend : RedunBackendDb
            What the model hands over to.
        related : Mapping[str, Any] | None
            Relationships.
        """
        if values[self._key] is None:
            return None
        record = self._model(**dict(zip(self._names, values, strict=True)))
        # It counts as loaded: attributes that were not read raise an error, they are not None.
        make_transient_to_detached(record)
        for name, value in (related or {}).items():
            set_committed_value(record, name, value)
        set_backend(record, backend)
        return record


class RecordReader:
    """How the records of a model are selected and made, with their task and what their status takes.

    Parameters
    ----------
    model : type
        Of `aredun.models`, with a primary key of one column.
    load_values : bool
        Whether the data of values is read.
    """

    def __init__(self, model: Any, load_values: bool = False) -> None:
        self.model = model
        self._own = ModelMaker(model, *(("value",) if model is Value and not load_values else ()))
        # The job of an execution, and the task of what has one, stand behind in a row.
        self._job = ModelMaker(Job) if model is Execution else None
        self._task = ModelMaker(Task, "source") if model in (Execution, Job, CallNode) else None
        makers = [maker for maker in (self._own, self._job, self._task) if maker is not None]
        self._columns = [column for maker in makers for column in maker.columns]
        self._has_status = model in (Execution, Job)

    def select(self, cutoff: Any = None, within: Any = None) -> Select[Any]:
        """
        Return the select of what `make` takes.

        Parameters
        ----------
        cutoff : datetime | BindParameter | None
            Tell for open records whether their run gave a sign of life since then.
        within : FromClause | None
            Confines the records to the primary keys in its column `pk`.
        """
        columns = list(self._columns)
        if self._has_status:
            columns.append(Value.type)
            if cutoff is not None:
                # Of jobs that are over nobody asks, so the database does not look.
                columns.append(sa.case((Job.end_time.is_(None), is_alive(Job.execution_id, cutoff))))
        statement = sa.select(*columns).select_from(self.model)
        if within is not None:
            statement = statement.join(within, within.c.pk == get_primary_key(self.model))
        if self.model is CallNode:
            return statement.outerjoin(Task, Task.hash == CallNode.task_hash)
        if self.model is Execution:
            statement = statement.outerjoin(Job, Job.id == Execution.job_id)
        if self._has_status:
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
        place, width = len(self._own.columns), len(self._columns)
        if self._task is None:
            return self._own.make(row[:place], backend)
        cells = row[width - len(self._task.columns) : width]
        # One object stands for the task of many rows.
        if cells[0] not in tasks:
            tasks[cells[0]] = self._task.make(cells, backend)
        related = {"task": tasks[cells[0]]}
        if self._job is not None:
            job = row[place : place + len(self._job.columns)]
            related = {"job": self._job.make(job, backend, related)}
        record = self._own.make(row[:place], backend, related)
        if self._has_status:
            is_silent = tells_alive and row[width + 1] in (False, 0)
            if record.calc_status(row[width]) == statuses.RUNNING and is_silent:
                record._keep_status(statuses.ABANDONED)
        return record


@cache
def get_reader(model: Any, load_values: bool = False) -> RecordReader:
    """Return the reader of records of a model; kept, because making one is slow."""
    return RecordReader(model, load_values)


@cache
def select_by_keys(reader: RecordReader, *, tells_alive: bool) -> Select[Any]:
    """Return the select of the records with the primary keys `keys`, for the parameter `cutoff` if asked."""
    cutoff: Any = sa.bindparam("cutoff") if tells_alive else None
    return reader.select(cutoff).where(in_parameter(get_primary_key(reader.model), "keys"))


async def read_records(
    backend: Repository, model: Any, keys: Select[Any], *order: Any, cutoff: datetime | None = None
) -> list[Any]:
    """
    Return the records of a model whose primary keys a select gives, in an order.

    Parameters
    ----------
    backend : RedunBackendDb
        The repository to look in.
    model : type
        As for `RecordReader`.
    keys : Select
        Of the column `pk`.
    *order : ColumnElement
        Of columns of the model.
    cutoff : datetime | None
        As for `RecordReader.select`: what is silent since then is ABANDONED.
    """
    reader = get_reader(model)
    statement = reader.select(cutoff, keys.subquery("keys")).order_by(*order)
    rows = await read_rows(backend.database, statement)
    return reader.make(rows, backend.database.backend, tells_alive=cutoff is not None)
