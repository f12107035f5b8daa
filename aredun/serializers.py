"""Serializers: models to records and back (mirrors `redun.backends.db.serializers`).

A record is redun's record JSON, field for field; `transfer.record_fields` describes it. These classes work on
models, one at a time or by query; in bulk, `get_records` and `put_records` go from rows to records directly.
"""

from __future__ import annotations

import abc
import json
from datetime import UTC, datetime
from operator import attrgetter
from typing import TYPE_CHECKING, Any, ClassVar

from sqlalchemy.orm import joinedload, selectinload

from aredun.errors import InvalidRecordError
from aredun.formats.hashing import json_dumps
from aredun.formats.statuses import get_job_status
from aredun.models import (
    Argument,
    Base,
    CallNode,
    Execution,
    Job,
    Tag,
    Task,
    Value,
)
from aredun.storage.rows import ROW_TABLES
from aredun.tables.column_types import TagEntity
from aredun.transfer.record_fields import (
    CALL_NODE,
    EXECUTION,
    JOB,
    KINDS,
    TAG,
    VALUE,
    VERSION,
    Record,
    bad_record,
    format_timestamp,
    get_kind,
    parse_timestamp,
)
from aredun.transfer.record_parsing import build_args, build_subtype, parse_record

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import sqlalchemy as sa
    from sqlalchemy.ext.asyncio import AsyncSession

    from aredun.formats.versions import DBVersionInfo
    from aredun.storage.rows import Row
    from aredun.transfer.record_fields import Kind

__all__ = [
    "VERSION",
    "CallNodeSerializer",
    "ExecutionSerializer",
    "JobSerializer",
    "RecordSerializer",
    "Serializer",
    "TagSerializer",
    "ValueSerializer",
    "deserialize_timestamp",
    "serialize_timestamp",
]

_TIMES = frozenset({"start_time", "end_time", "timestamp"})


def serialize_timestamp(timestamp: datetime | None) -> str | None:
    """Return a point in time as a record holds it (mirrors redun's `serialize_timestamp`).

    Parameters
    ----------
    timestamp : datetime or None
        Without a time zone it counts as UTC.

    Returns
    -------
    str or None
        `2026-11-29 16:37:36+00:00`, in UTC; None for None.
    """
    return None if timestamp is None else format_timestamp(timestamp)


def deserialize_timestamp(date_str: str | None) -> datetime | None:
    """Return the point in time that a record holds (mirrors redun's `deserialize_timestamp`).

    Mirrors redun's `deserialize_timestamp`.

    Parameters
    ----------
    date_str : str or None
        As a record holds it.

    Returns
    -------
    datetime or None
        In UTC; None for None and "".

    Raises
    ------
    ValueError
        The text is no date.
    """
    if not date_str:
        return None
    return datetime.fromisoformat(parse_timestamp(date_str)).replace(tzinfo=UTC)


class Serializer(abc.ABC):
    """Turns models of one kind into records and back (mirrors redun's `Serializer`).

    Parameters
    ----------
    db_version : DBVersionInfo, optional
        The version of the schema; records are the same for all that this library reads.
    """

    pk_field: str = ""

    def __init__(self, db_version: DBVersionInfo | None = None) -> None:
        self._db_version = db_version

    def get_pk(self, spec: Record) -> str:
        """Return the id of a record (mirrors redun's `Serializer.get_pk`).

        Parameters
        ----------
        spec : Record
            The record, a dict.

        Returns
        -------
        str
            The id or hash.

        Raises
        ------
        InvalidRecordError
            The record has none.
        """
        pk = spec.get(self.pk_field)
        if not isinstance(pk, str):
            raise bad_record(spec, f"has no {self.pk_field!r}")
        return pk

    @abc.abstractmethod
    def serialize(self, row: Any) -> Record:
        """Return the record of a model whose relationships are loaded, as `serialize_query` loads them.

        Mirrors redun's `Serializer.serialize`.

        Parameters
        ----------
        row : Base
            The model, of the serializer's kind.

        Returns
        -------
        Record
            The record, a dict that JSON can hold.
        """

    @abc.abstractmethod
    def load(self, query: sa.Select[Any]) -> sa.Select[Any]:
        """Return the query with the options that load what `serialize` needs.

        Parameters
        ----------
        query : Select
            Selects one model.

        Returns
        -------
        Select
            The same query with loader options.
        """

    async def serialize_query(self, query: sa.Select[Any], session: AsyncSession) -> AsyncIterator[Record]:
        """Yield the records of all models that a query selects.

        Mirrors redun's `Serializer.serialize_query`.

        Parameters
        ----------
        query : Select
            Selects one model, e.g. `select(Value).where(...)`.
        session : AsyncSession
            Where to run it.

        Yields
        ------
        Record
            One record at a time, in the order of the query.
        """
        for row in (await session.scalars(self.load(query))).unique():
            yield self.serialize(row)

    def deserialize(self, spec: Record) -> list[Base]:
        """Return new models for all rows that a record becomes.

        Mirrors redun's `Serializer.deserialize`.

        Parameters
        ----------
        spec : Record
            The record, a dict.

        Returns
        -------
        list of Base
            Models in no session; that of the record itself comes first.

        Raises
        ------
        InvalidRecordError
            The record is malformed, or of another kind.
        """
        kind = get_kind(spec)
        if kind.pk != self.pk_field or not isinstance(self, _SERIALIZERS[kind.name]):
            raise bad_record(spec, f"is no record for {type(self).__name__}")
        return [_make_model(table, row) for table, row in parse_record(spec).iter_rows()]


def _make_model(table: str, row: Row) -> Base:
    cells: dict[str, Any] = row._asdict()
    for name, cell in cells.items():
        if name in _TIMES:
            cells[name] = deserialize_timestamp(cell)
    if table == "tag":
        cells["entity_type"] = TagEntity(cells["entity_type"])
        cells["value"] = json.loads(cells["value"])
        cells["is_current"] = True
    model: Base = ROW_TABLES[table].model(**cells)
    return model


def _get_row(model: Any, kind: Kind) -> Row:
    cells = {name: getattr(model, name) for name in ROW_TABLES[kind.table].record_columns}
    return kind.make_row(**cells)


_get_argument_row = attrgetter(*ROW_TABLES["argument"].columns)


class ExecutionSerializer(Serializer):
    """Turns executions into records and back (mirrors redun's `ExecutionSerializer`).

    Parameters
    ----------
    db_version : DBVersionInfo, optional
        The version of the schema; records are the same for all that this library reads.
    """

    pk_field = EXECUTION.pk

    def load(self, query: sa.Select[Any]) -> sa.Select[Any]:
        """Return the query: an execution's record needs no relationships."""
        return query

    def serialize(self, row: Execution) -> Record:
        """Return the record of an execution (mirrors redun's `ExecutionSerializer.serialize`)."""
        return EXECUTION.build(_get_row(row, EXECUTION))


class JobSerializer(Serializer):
    """Turns jobs into records and back; `children` are all child jobs, whatever else is asked for.

    Mirrors redun's `JobSerializer`.

    Parameters
    ----------
    db_version : DBVersionInfo, optional
        The version of the schema; records are the same for all that this library reads.
    """

    pk_field = JOB.pk

    def load(self, query: sa.Select[Any]) -> sa.Select[Any]:
        """Return the query with the child jobs and what the status needs."""
        return query.options(
            selectinload(Job.child_jobs), joinedload(Job.call_node).joinedload(CallNode.value)
        )

    def serialize(self, row: Job) -> Record:
        """Return the record of a job whose `child_jobs` and `call_node.value` are loaded.

        Mirrors redun's `JobSerializer.serialize`.
        """
        result = row.call_node.value if row.call_node else None
        status = get_job_status(row.end_time, row.cached, result.type if result else None)
        children = sorted(row.child_jobs, key=lambda job: (job.start_time, job.id))
        return JOB.build(_get_row(row, JOB), status, [job.id for job in children])


class ValueSerializer(Serializer):
    """Turns values into records and back, with their files, tasks and subvalues.

    Mirrors redun's `ValueSerializer`.

    Parameters
    ----------
    db_version : DBVersionInfo, optional
        The version of the schema; records are the same for all that this library reads.
    """

    pk_field = VALUE.pk

    def load(self, query: sa.Select[Any]) -> sa.Select[Any]:
        """Return the query with file, task and subvalues."""
        return query.options(joinedload(Value.file), joinedload(Value.task), selectinload(Value.child_edges))

    def serialize(self, row: Value) -> Record:
        """Return the record of a value whose `file`, `task` and `child_edges` are loaded.

        Mirrors redun's `ValueSerializer.serialize`.

        A value whose bytes are in a value store has empty `data`; `get_records` fetches them.
        """
        subtype = None
        if row.file:
            subtype = build_subtype("File", (row.file.path,))
        elif row.task:
            subtype = build_subtype("Task", (row.task.name, row.task.namespace, row.task.source))
        subvalues = sorted(edge.value_hash for edge in row.child_edges)
        return VALUE.build(_get_row(row, VALUE), subvalues, subtype)


class CallNodeSerializer(Serializer):
    """Turns call nodes into records and back, with their arguments and children.

    Mirrors redun's `CallNodeSerializer`.

    Parameters
    ----------
    db_version : DBVersionInfo, optional
        The version of the schema; records are the same for all that this library reads.
    """

    pk_field = CALL_NODE.pk

    def load(self, query: sa.Select[Any]) -> sa.Select[Any]:
        """Return the query with arguments, their upstream results, and children."""
        return query.options(
            selectinload(CallNode.arguments).selectinload(Argument.arg_results),
            selectinload(CallNode.child_edges),
        )

    def serialize(self, row: CallNode) -> Record:
        """Return the record of a call node whose `arguments.arg_results` and `child_edges` are loaded.

        Mirrors redun's `CallNodeSerializer.serialize`.
        """
        results = {
            arg.arg_hash: sorted((arg.arg_hash, result.result_call_hash) for result in arg.arg_results)
            for arg in row.arguments
        }
        arguments = map(_get_argument_row, row.arguments)
        edges = sorted(row.child_edges, key=lambda edge: edge.call_order)
        children = [edge.child_id for edge in edges]
        return CALL_NODE.build(_get_row(row, CALL_NODE), build_args(arguments, results), children)


class TagSerializer(Serializer):
    """Turns tags into records and back, with the tags that they replace (mirrors redun's `TagSerializer`).

    Parameters
    ----------
    db_version : DBVersionInfo, optional
        The version of the schema; records are the same for all that this library reads.
    """

    pk_field = TAG.pk

    def load(self, query: sa.Select[Any]) -> sa.Select[Any]:
        """Return the query with the edits that led to each tag."""
        return query.options(selectinload(Tag.parent_edits))

    def serialize(self, row: Tag) -> Record:
        """Return the record of a tag whose `parent_edits` are loaded.

        Mirrors redun's `TagSerializer.serialize`.
        """
        cells = _get_row(row, TAG)._replace(entity_type=row.entity_type.name, value=json_dumps(row.value))
        return TAG.build(cells, sorted(edit.parent_id for edit in row.parent_edits))


class RecordSerializer(Serializer):
    """Turns models of all kinds into records and back (mirrors redun's `RecordSerializer`).

    Parameters
    ----------
    db_version : DBVersionInfo, optional
        The version of the schema; records are the same for all that this library reads.
    """

    _kind_of: ClassVar[dict[type[Base], str]] = {
        ROW_TABLES[kind.table].model: kind.name for kind in KINDS.values()
    }

    def __init__(self, db_version: DBVersionInfo | None = None) -> None:
        super().__init__(db_version)
        self._serializers = {name: serializer(db_version) for name, serializer in _SERIALIZERS.items()}

    def get_pk(self, spec: Record) -> str:
        """Return the id of a record of any kind (mirrors redun's `RecordSerializer.get_pk`)."""
        return self.get_subserializer(get_kind(spec).name).get_pk(spec)

    def get_subserializer(self, type: str) -> Serializer:
        """Return the serializer of one kind of record.

        Mirrors redun's `RecordSerializer.get_subserializer`.

        Parameters
        ----------
        type : str
            `Execution`, `Job`, `CallNode`, `Value` or `Tag`.

        Returns
        -------
        Serializer
            The serializer of that kind.

        Raises
        ------
        InvalidRecordError
            There is no such kind.
        """
        if type not in self._serializers:
            raise InvalidRecordError(f"unknown record type {type!r}: it must be one of {', '.join(KINDS)}")
        return self._serializers[type]

    def load(self, query: sa.Select[Any]) -> sa.Select[Any]:
        """Return the query with the options for the model that it selects."""
        return self._of_query(query).load(query)

    def serialize(self, row: Any) -> Record:
        """Return the record of a model; that of a task is its value's, which must be loaded.

        Mirrors redun's `RecordSerializer.serialize`.
        """
        if isinstance(row, Task):
            row = row.value
        kind = self._kind_of.get(type(row))
        if kind is None:
            raise InvalidRecordError(f"{type(row).__name__} has no record of its own")
        return self._serializers[kind].serialize(row)

    def _of_query(self, query: sa.Select[Any]) -> Serializer:
        descriptions = query.column_descriptions
        kind = self._kind_of.get(descriptions[0]["type"]) if len(descriptions) == 1 else None
        if kind is None:
            raise InvalidRecordError(f"a query for records selects one of {', '.join(KINDS)}")
        return self._serializers[kind]

    def deserialize(self, spec: Record) -> list[Base]:
        """Return new models for all rows that a record becomes, its own first.

        Mirrors redun's `RecordSerializer.deserialize`.
        """
        return self.get_subserializer(get_kind(spec).name).deserialize(spec)


_SERIALIZERS: dict[str, type[Serializer]] = {
    "Execution": ExecutionSerializer,
    "Job": JobSerializer,
    "CallNode": CallNodeSerializer,
    "Value": ValueSerializer,
    "Tag": TagSerializer,
}
