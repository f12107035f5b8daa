"""Records taken apart into the rows that they become, and the nested fields of records put together."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from aredun.errors import InvalidRecordError
from aredun.storage.rows import ARGUMENT, ARGUMENT_RESULT, CALL_EDGE, ROW_TABLES, SUBVALUE, TAG_EDIT
from aredun.transfer.record_fields import KINDS, VERSION, Kind, ParsedRecord, Record, bad_record, get_kind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from aredun.storage.rows import Row

_ONLY_TEXT = {str}
_NOTHING: list[str] = []


def _get_texts(record: Record, name: str, holder: Any = None) -> list[str]:
    texts = (record if holder is None else holder).get(name)
    if type(texts) is not list or (texts and set(map(type, texts)) != _ONLY_TEXT):
        raise bad_record(record, f"has a bad {name!r}: it must be a list of ids")
    return texts


def parse_records(records: Sequence[Any]) -> tuple[list[ParsedRecord], list[InvalidRecordError]]:
    """Take records apart into the rows that they become.

    Parameters
    ----------
    records : sequence of dict
        Records of any kinds. Fields that do not belong to a kind are passed over, as redun does.

    Returns
    -------
    tuple of two lists
        The records taken apart, kind by kind, and the errors of those that are malformed.
    """
    by_kind: dict[str, list[Record]] = {name: [] for name in KINDS}
    parsed: list[ParsedRecord] = []
    errors: list[InvalidRecordError] = []
    for record in records:
        try:
            by_kind[record["_type"]].append(record)
        except (KeyError, TypeError, IndexError):
            _parse_single(record, parsed, errors)
    for name, group in by_kind.items():
        if group:
            try:
                parsed.extend(_parse_kind(KINDS[name], group))
            except InvalidRecordError:
                for record in group:
                    _parse_single(record, parsed, errors)
    return parsed, errors


def _parse_single(record: Any, parsed: list[ParsedRecord], errors: list[InvalidRecordError]) -> None:
    try:
        parsed.append(parse_record(record))
    except InvalidRecordError as error:
        errors.append(error)


def parse_record(record: Any) -> ParsedRecord:
    """Take one record apart.

    Raises
    ------
    InvalidRecordError
        A field is missing or holds what it cannot hold; the message names the record and the field.
    """
    return _parse_kind(get_kind(record), [record])[0]


def _parse_kind(kind: Kind, records: Sequence[Record]) -> list[ParsedRecord]:
    for record in records:
        if record.get("_version") != VERSION:
            get_kind(record)
    name, split = kind.name, _SPLITS.get(kind.name)
    rows = kind.get_rows(records)
    if split is None:
        return [ParsedRecord(name, row) for row in rows]
    pairs = zip(records, rows, strict=True)
    return [ParsedRecord(name, row, split(record, row[0])) for record, row in pairs]


def _split_value(record: Record, value_hash: str) -> Sequence[Any]:
    subtype = record.get("subtype")
    subvalues = _get_texts(record, "subvalues")
    if subtype is None and not subvalues:
        return ()
    parts: list[Any] = []
    if subtype is not None:
        if not isinstance(subtype, dict):
            raise bad_record(record, "has a bad 'subtype': it must be an object or null")
        names = SUBTYPES.get(str(subtype.get("_type")))
        if names is not None:
            table, fields = names
            cells = [subtype.get(field) for field in fields]
            if not all(isinstance(cell, str) for cell in cells):
                raise bad_record(record, f"has a bad 'subtype': {', '.join(fields)} must be strings")
            parts += (table, ROW_TABLES[table].record_row(value_hash, *cells))
    for child in subvalues:
        parts += ("subvalue", SUBVALUE.row(value_hash=child, parent_value_hash=value_hash))
    return parts


# A file or a task has a second row, in the table of files or of tasks.
SUBTYPES: Final[dict[str, tuple[str, tuple[str, ...]]]] = {
    "File": ("file", ("path",)),
    "Task": ("task", ("name", "namespace", "source")),
}


def _split_call_node(record: Record, call_hash: str) -> Sequence[Any]:
    args = record.get("args")
    if type(args) is not dict:
        raise bad_record(record, "has bad 'args': they must be an object")
    parts: list[Any] = []
    for name, arg in args.items():
        try:
            arg_hash, arg_value, upstreams = arg["arg_hash"], arg["value_hash"], arg["upstream"]
        except (KeyError, TypeError):
            raise bad_record(
                record, f"has a bad argument {name!r}: it needs arg_hash, value_hash and upstream"
            ) from None
        if type(arg_hash) is not str or type(arg_value) is not str:
            raise bad_record(record, f"has a bad argument {name!r}: its hashes must be strings")
        position, key = split_arg_name(name)
        argument = ARGUMENT.row(
            arg_hash=arg_hash, call_hash=call_hash, value_hash=arg_value, arg_position=position, arg_key=key
        )
        parts += ("argument", argument)
        if upstreams != _NOTHING:
            for upstream in _get_texts(record, "upstream", arg):
                result = ARGUMENT_RESULT.row(arg_hash=arg_hash, result_call_hash=upstream)
                parts += ("argument_result", result)
    for order, child in enumerate(_get_texts(record, "children")):
        parts += ("call_edge", CALL_EDGE.row(parent_id=call_hash, child_id=child, call_order=order))
    return parts


# Most arguments are among the first few.
@lru_cache(maxsize=1024)
def split_arg_name(name: str) -> tuple[int | None, str | None]:
    """Return the position, or else the key, of an argument from its name in a record."""
    # What does not fit the column is no position.
    if name.isdecimal() and name.isascii() and len(name) <= 18:
        return int(name), None
    return None, name


def _split_tag(record: Record, tag_hash: str) -> Sequence[Any]:
    parts: list[Any] = []
    for parent in _get_texts(record, "parents"):
        parts += ("tag_edit", TAG_EDIT.row(parent_id=parent, child_id=tag_hash))
    return parts


_SPLITS: Final[dict[str, Callable[[Record, str], Sequence[Any]]]] = {
    "Value": _split_value,
    "CallNode": _split_call_node,
    "Tag": _split_tag,
}


def build_subtype(name: str, cells: Sequence[str]) -> Record:
    """Build the `subtype` of a Value record: `File` with its path, or `Task` with name, namespace, source."""
    return {"_type": name, **dict(zip(SUBTYPES[name][1], cells, strict=True))}


def build_args(arguments: Iterable[Row], results: Mapping[str, Sequence[Row]]) -> dict[str, dict[str, Any]]:
    """Build the `args` of a CallNode record: positions first, then keys.

    Parameters
    ----------
    arguments : iterable of Row
        The arguments of one call node: rows of `argument`.
    results : mapping
        Rows of `argument_result` by `arg_hash`, sorted: the calls that arguments came from.
    """
    ordered = list(arguments)
    if len(ordered) > 1:
        ordered.sort(key=_get_place)
    return {
        key or str(position): {
            "arg_hash": arg_hash,
            "value_hash": value_hash,
            "upstream": [call for _, call in results[arg_hash]] if arg_hash in results else [],
        }
        for arg_hash, _, value_hash, position, key in ordered
    }


def _get_place(argument: Row) -> Any:
    *_, position, key = argument
    return position is None, position or 0, key or ""
