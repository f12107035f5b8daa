"""The record format: what a record's fields are called, hold, and become in the tables, in both directions.

A record is redun's record JSON, field for field. Between a record and the database stands a *row*: a tuple of
the cells of one table (`RowTable.record_row`), in a form that is the same for both databases (timestamps
are naive UTC text, JSON is normalised text).
"""

from __future__ import annotations

import json
import re
from binascii import a2b_base64, b2a_base64
from datetime import UTC, datetime
from functools import partial
from itertools import repeat
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import sqlalchemy as sa

from aredun.errors import InvalidRecordError
from aredun.formats.describe import shorten
from aredun.formats.hashing import json_dumps
from aredun.storage.rows import ROW_TABLES
from aredun.tables.column_types import JSON, DateTimeUTC

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from aredun.storage.rows import Row, RowTable

VERSION: Final = 1

Record = dict[str, Any]

# The kinds of owners of tags; a tag that marks a deletion has no owner.
TAGGED: Final = ("Execution", "Job", "CallNode", "Task", "Value")
TAG_ENTITIES: Final = {*TAGGED, "Null"}

Need = tuple[str, str]


class ParsedRecord:
    """A record taken apart.

    Attributes
    ----------
    kind : str
        `Execution`, `Job`, `CallNode`, `Value` or `Tag`.
    row : Row
        The record's own row; its first cell is the record's id.
    parts : sequence
        Its rows in other tables: name of the table, row, name, row, and so on. A flat sequence, because the
        garbage collector goes through every object that holds others, again and again.
    is_whole : bool
        For a call node: all calls that it made are recorded, as far as is known.
    """

    __slots__ = ("id", "is_whole", "kind", "parts", "row")

    def __init__(self, kind: str, row: Row, parts: Sequence[Any] = (), is_whole: bool = True) -> None:
        self.kind = kind
        self.id: str = row[0]
        self.row = row
        self.parts = parts
        self.is_whole = is_whole

    @property
    def size(self) -> int:
        """Bytes of data that it carries."""
        return len(self.row.value) if self.kind == "Value" else 0

    @property
    def is_task(self) -> bool:
        """Whether it is a value that is a task."""
        return self.kind == "Value" and "task" in self.parts[:1]

    @property
    def owner(self) -> Need | None:
        """What a tag hangs on; None for other records, and for the tags that mark deletions."""
        if self.kind != "Tag" or self.row.entity_type not in TAGGED:
            return None
        return self.row.entity_type, self.row.entity_id

    @property
    def needs(self) -> list[Need]:
        """What must be in the database for its rows to go in, or goes in along with them: kinds and ids."""
        needs = [
            (kind, record_id)
            for table, row in self.iter_rows()
            for column, kind in REFERENCES.get(table, ())
            if (record_id := getattr(row, column)) is not None
        ]
        owner = self.owner
        return needs if owner is None else [owner, *needs]

    def iter_rows(self) -> Iterator[tuple[str, Row]]:
        """Yield tables and rows, the record's own first."""
        yield KINDS[self.kind].table, self.row
        yield from zip(self.parts[::2], self.parts[1::2], strict=True)

    def get_rows(self, table: str) -> list[Row]:
        """Return its rows in one of the other tables."""
        parts = self.parts
        return [parts[place + 1] for place in range(0, len(parts), 2) if parts[place] == table]

    @property
    def children(self) -> list[str]:
        """The calls that a call node made, in order."""
        return [edge.child_id for edge in self.get_rows("call_edge")]

    @property
    def parents(self) -> list[str]:
        """The tags that a tag replaces."""
        return [edit.parent_id for edit in self.get_rows("tag_edit")]

    def provides(self) -> list[Need]:
        """Return what others may need of it."""
        if self.is_task:
            return [("Value", self.id), ("Task", self.id)]
        return [(self.kind, self.id)]


class _Codec(NamedTuple):
    """How one cell is read from a record and written to it; both None where they are the same."""

    type: type = str
    decode: Callable[[Any], Any] | None = None
    encode: Callable[[Any], Any] | None = None
    nullable: bool = False

    def get_types(self) -> frozenset[Any] | None:
        """Return the types that the field may have in a record, None where it may have any."""
        if self.type is object:
            return None
        return frozenset({self.type, type(None)} if self.nullable else {self.type})


class Kind:
    """The fields of one kind of record: the one description that serves both directions.

    What a field may hold follows from its column.

    Parameters
    ----------
    name : str
        What `_type` says.
    table : str
        The table whose row the fields are the cells of.
    fields : str
        The names of the fields in their order: the columns of the table, in theirs, with those fields among
        them that are read from other rows.

    Attributes
    ----------
    pk : str
        The field that holds the record's id.
    build : callable
        `build(row, *derived)` gives a record: from the cells of its own row, in their order, and the fields
        that are no columns, in the order in which the kind lists them.
    """

    def __init__(self, name: str, table: str, fields: str) -> None:
        self.name = name
        self.table = table
        own = ROW_TABLES[table]
        (self.pk,) = own.key
        names = [(field, _COLUMNS.get(field, field)) for field in fields.split()]
        self._stored = {
            field: _get_codec(own.table.c[column]) for field, column in names if column in own.record_columns
        }
        # A record's own row, by the cells in their order: as columns, but `data` of a value is its `value`.
        self.make_row = own.record_row
        self._get = itemgetter(*self._stored)
        self._types = [codec.get_types() for codec in self._stored.values()]
        codecs = list(enumerate(self._stored.values()))
        self._decoders = [(index, codec.decode) for index, codec in codecs if codec.decode]
        self.build = self._make_build(fields.split())

    def _make_build(self, fields: Sequence[str]) -> Callable[..., Record]:
        """Return the function that builds a record from the cells of its own row and the derived fields."""
        # Compiled, as a namedtuple is: a loop over the fields takes three times as long for each record.
        names = {field: f"cell{place}" for place, field in enumerate(fields)}
        encoders = {f"encode_{names[field]}": codec.encode for field, codec in self._stored.items()}
        values = [
            f"encode_{name}({name})" if encoders.get(f"encode_{name}") else name for name in names.values()
        ]
        items = ", ".join(f"{field!r}: {value}" for field, value in zip(fields, values, strict=True))
        cells = ", ".join(names[field] for field in self._stored)
        parameters = ", ".join(["row", *(names[field] for field in fields if field not in self._stored)])
        source = (
            f"def build({parameters}):\n    {cells} = row\n"
            f"    return {{'_version': {VERSION}, '_type': {self.name!r}, {items}}}\n"
        )
        namespace: dict[str, Any] = encoders
        exec(compile(source, f"<record {self.name}>", "exec"), namespace)
        build: Callable[..., Record] = namespace["build"]
        return build

    def get_rows(self, records: Sequence[Record]) -> list[Row]:
        """Return the own rows of records of this kind; the opposite of `build`.

        It goes column by column, which takes a third of the time of going record by record.

        Raises
        ------
        InvalidRecordError
            A field is missing or holds what it cannot hold. Given a single record, the message says which.
        """
        try:
            rows: list[Row] = list(map(self._get, records))
        except KeyError as error:
            raise bad_record(records[0], f"has no field {error}") from None
        columns: list[Any] = list(zip(*rows, strict=True))
        for types, column, row in zip(self._types, columns, repeat(rows[0])):
            if types is not None and not types.issuperset(map(type, column)):
                self._check_types(records[0], row)
                raise bad_record(records[0], "or another one has a bad field")
        for index, decode in self._decoders:
            column = columns[index]
            try:
                if None in column and self._types[index] is not None:
                    columns[index] = [None if cell is None else decode(cell) for cell in column]
                else:
                    columns[index] = list(map(decode, column))
            except (ValueError, TypeError, OverflowError) as error:
                raise bad_record(records[0], f"has a bad {list(self._stored)[index]!r}: {error}") from None
        # `_make` is a function of Python's, and slower.
        make = partial(tuple.__new__, self.make_row)
        return list(map(make, zip(*columns, strict=True) if self._decoders else rows))

    def _check_types(self, record: Record, cells: Row) -> None:
        for (name, codec), cell in zip(self._stored.items(), cells, strict=True):
            if (cell is None and codec.nullable) or isinstance(cell, codec.type):
                continue
            wanted = "true or false" if codec.type is bool else "a string"
            raise bad_record(record, f"has a bad {name!r}: it must be {wanted}, not {type(cell).__name__}")


def parse_timestamp(text: str) -> str:
    """Return a timestamp of a record as naive UTC text with microseconds, the form that rows hold."""
    moment = _parse_date(text)
    offset = moment.utcoffset()
    if offset is None:
        moment = moment.replace(tzinfo=UTC)
    elif offset:
        moment = moment.astimezone(UTC)
    return moment.replace(tzinfo=None).isoformat(" ", "microseconds")


def _parse_date(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        from dateutil.parser import parse

        return parse(text)


_UTC_TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d{6})?\+00:00")


def _decode_timestamp(text: str) -> str:
    # The form that redun writes, checked for being a date at all; everything else takes the long way.
    if _UTC_TIMESTAMP.fullmatch(text):
        datetime.fromisoformat(text)
        return text[:19] + (text[19:-6] or ".000000")
    return parse_timestamp(text)


def format_timestamp(cell: str | datetime | None) -> str | None:
    """Return a timestamp as a record holds it: the text of an aware datetime in UTC.

    Parameters
    ----------
    cell : str, datetime or None
        Naive UTC text as rows and sqlite hold it, or a datetime.
    """
    if cell is None:
        return None
    if isinstance(cell, datetime):
        if cell.tzinfo is UTC:
            return str(cell)
        return str(cell.astimezone(UTC) if cell.tzinfo else cell.replace(tzinfo=UTC))
    if len(cell) == 26 and cell[10] == " ":
        return (cell[:19] if cell.endswith(".000000") else cell) + "+00:00"
    return str(_parse_date(parse_timestamp(cell)).replace(tzinfo=UTC))


def encode_data(data: bytes) -> str:
    """Return the bytes of a value as a record holds them."""
    return b2a_base64(data, newline=False).decode("ascii")


def _decode_data(text: str) -> bytes:
    return a2b_base64(text, strict_mode=True)


def _decode_entity(text: str) -> str:
    if text not in TAG_ENTITIES:
        raise ValueError(f"{text!r} is none of {', '.join(sorted(TAG_ENTITIES))}")
    return text


# By types of columns, for those whose cells are no texts.
_CODECS: Final = {
    DateTimeUTC: _Codec(decode=_decode_timestamp, encode=format_timestamp),
    JSON: _Codec(object, json_dumps, json.loads),
    sa.Boolean: _Codec(bool, encode=bool),
    sa.Enum: _Codec(decode=_decode_entity),
    sa.LargeBinary: _Codec(decode=_decode_data, encode=encode_data),
}
# Fields that have other names than their columns.
_COLUMNS: Final = {"data": "value"}


def _get_codec(column: sa.Column[Any]) -> _Codec:
    return _CODECS.get(type(column.type), _Codec())._replace(nullable=bool(column.nullable))


EXECUTION = Kind("Execution", "execution", "id args job_id")
JOB = Kind(
    "Job",
    "job",
    "id start_time end_time task_hash cached status call_hash parent_id children execution_id",
)
VALUE = Kind("Value", "value", "value_hash type format data subvalues subtype")
CALL_NODE = Kind(
    "CallNode",
    "call_node",
    "call_hash task_name task_hash args_hash value_hash timestamp args children",
)
TAG = Kind("Tag", "tag", "tag_hash entity_type entity_id key value parents")

KINDS: Final[dict[str, Kind]] = {kind.name: kind for kind in (EXECUTION, JOB, CALL_NODE, VALUE, TAG)}

# A value that is a task is asked for as kind `Task`.
_KIND_OF_TABLE: Final = {"task": "Task", **{kind.table: kind.name for kind in KINDS.values()}}


def _find_references(table: RowTable) -> tuple[tuple[str, str], ...]:
    return tuple(
        (each.column, _KIND_OF_TABLE[each.table])
        for each in table.references
        if each.column != table.owner and each.table in _KIND_OF_TABLE
    )


# By table: the columns that hold ids of other records, and the kinds of these records.
REFERENCES: Final = {
    name: references for name, table in ROW_TABLES.items() if (references := _find_references(table))
}

# Where the ids of what records refer to are found: table and column by kind.
KEYS: Final[dict[str, tuple[str, str]]] = {
    **{kind.name: (kind.table, kind.pk) for kind in KINDS.values()},
    "Task": ("task", "hash"),
}


def bad_record(record: Any, problem: str) -> InvalidRecordError:
    """Return the error that says what is wrong with a record, by name."""
    return InvalidRecordError(f"{name_record(record)} {shorten(problem)}")


def name_record(record: Any) -> str:
    """Return what an error calls a record: its kind and id, whatever state it is in."""
    if not isinstance(record, dict):
        return f"a record of type {type(record).__name__}"
    kind = _find_kind(record)
    if kind is None:
        return f"a record of type {shorten(repr(record.get('_type')), 80)}"
    return f"{kind.name} {shorten(str(record.get(kind.pk)), 80)}"


def _find_kind(record: Record) -> Kind | None:
    name = record.get("_type")
    return KINDS.get(name) if isinstance(name, str) else None


def get_kind(record: Any) -> Kind:
    """Return the kind of a record.

    Raises
    ------
    InvalidRecordError
        It is no record, of a kind that does not exist, or of another version.
    """
    if not isinstance(record, dict):
        raise InvalidRecordError(f"a record must be a JSON object, not {type(record).__name__}")
    kind = _find_kind(record)
    if kind is None:
        name = shorten(repr(record.get("_type")), 80)
        raise InvalidRecordError(f"unknown record type {name}: it must be one of {', '.join(KINDS)}")
    if record.get("_version") != VERSION:
        raise bad_record(record, f"has version {record.get('_version')!r}, only {VERSION} can be read")
    return kind
