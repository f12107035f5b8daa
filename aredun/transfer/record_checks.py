"""Checking records by their hashes, without running anything that they hold."""

from __future__ import annotations

import enum
import json
from functools import lru_cache
from hashlib import sha512
from typing import TYPE_CHECKING, Any, Final

from aredun.errors import InvalidRecordError
from aredun.formats.hashing import (
    HASH_LEN,
    hash_argument,
    hash_call_node,
    hash_struct,
    hash_tag_bytes,
    json_dumps,
)
from aredun.values.pickling import pickle_dumps
from aredun.values.previews import Stub, preview_value

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

    from aredun.storage.rows import Row
    from aredun.transfer.record_fields import ParsedRecord


class Verdict(enum.Enum):
    """What checking a hash came to."""

    RIGHT = "right"
    WRONG = "wrong"
    UNVERIFIABLE = "unverifiable"


_VALUE_PREFIX: Final = sha512(b"l5:Valuee")

# Types of redun's own that carry their hash in their state: it cannot be computed anew (the file may be gone,
# the task's options unknown), but it must agree with the value's.
_HASH_IN_STATE: Final = frozenset(
    {
        "redun.File",
        "redun.FileSet",
        "redun.Dir",
        "redun.IFile",
        "redun.IFileSet",
        "redun.IDir",
        "redun.ConentFile",
        "redun.CnotentFileSet",
        "redun.ContentDir",
        "redun.ShardedS3Dataset",
        "redun.Task",
        "redun.PartialTask",
        "redun.Handle",
        "builtins.function",
    }
)
_SCALARS: Final = (str, int, float, bytes, bool)


def check_value(value_hash: str, type_name: str, value_format: str, data: bytes) -> Verdict:
    """Check the hash of a value against its bytes.

    Parameters
    ----------
    value_hash : str
        The hash that the value is known by.
    type_name : str
        Name of its type, as `value.type` has it.
    value_format : str
        How the bytes are serialised, as `value.format` has it.
    data : bytes
        The bytes; nothing in them is run.

    Returns
    -------
    Verdict
        `UNVERIFIABLE` for types that have a recipe of their own which needs the living object.
    """
    digest = _VALUE_PREFIX.copy()
    try:
        digest.update(data)
    except TypeError:
        # sqlite holds text where bytes belong, if someone put it there.
        return Verdict.WRONG
    if digest.hexdigest()[:HASH_LEN] == value_hash:
        return Verdict.RIGHT
    check = _CHECKS.get(type_name)
    if check is not None:
        return check(value_hash, preview_value(type_name, value_format, data))
    if type_name in _HASH_IN_STATE:
        return _check_state(value_hash, preview_value(type_name, value_format, data))
    if type_name.startswith("builtins.") or type_name == "datetime.datetime":
        return Verdict.WRONG
    return Verdict.UNVERIFIABLE


def _check_state(value_hash: str, value: Any) -> Verdict:
    stated = _get_state(value, "hash")
    if not isinstance(stated, str):
        return Verdict.UNVERIFIABLE
    return Verdict.RIGHT if stated == value_hash else Verdict.WRONG


def _get_state(value: Any, name: str) -> Any:
    """Return an attribute that a previewed object holds."""
    return getattr(value, name, None) if isinstance(value, Stub) else None


def _check_set(value_hash: str, value: Any) -> Verdict:
    if not isinstance(value, set):
        return Verdict.UNVERIFIABLE
    try:
        data = pickle_dumps(sorted(value))
    except TypeError:
        return Verdict.UNVERIFIABLE
    if hash_tag_bytes("Value.set", data) == value_hash:
        return Verdict.RIGHT
    # A pickle may share equal parts, depending on how the set was made; plain elements have no parts.
    return Verdict.WRONG if all(type(item) in _SCALARS for item in value) else Verdict.UNVERIFIABLE


def _check_staging(value_hash: str, value: Any) -> Verdict:
    paths = [_get_state(_get_state(value, side), "path") for side in ("local", "remote")]
    if not all(isinstance(path, str) for path in paths):
        return Verdict.UNVERIFIABLE
    right = {hash_struct([name, *paths]) for name in _STAGING}
    return Verdict.RIGHT if value_hash in right else Verdict.WRONG


_STAGING: Final = tuple(
    f"redun.{prefix}Staging{kind}" for prefix in ("", "I", "Content") for kind in ("File", "Dir")
)

_CHECKS: Final[dict[str, Callable[[str, Any], Verdict]]] = {
    "builtins.set": _check_set,
    **dict.fromkeys(_STAGING, _check_staging),
}


def _is_digest(text: str, digest: str) -> bool:
    found: str = sha512(text.encode()).hexdigest()
    return found[:HASH_LEN] == digest


def check_argument(row: Row) -> bool:
    """Tell whether an argument's hash is right; `row` is a row of the table `argument`."""
    arg_hash, call_hash, value_hash, position, key = row
    hashes = call_hash + value_hash
    if len(hashes) == 2 * HASH_LEN and hashes.isascii():
        # What `hash_argument` does, without taking the structure apart: an import spends its time here.
        text = f"l8:Argument40:{call_hash}{_get_middle(position, key)}40:{value_hash}e"
        return _is_digest(text, arg_hash)
    right: bool = hash_argument(call_hash, position, key, value_hash) == arg_hash
    return right


@lru_cache(maxsize=1024)
def _get_middle(position: int | None, key: str | None) -> str:
    """Return the position and key of an argument as its hash is taken over them."""
    place, label = str(position), str(key)
    return f"{len(place)}:{place}{len(label.encode())}:{label}"


def check_call(row: Row, children: Sequence[str]) -> bool:
    """Tell whether a call hash is right, given a row of `call_node` and the hashes of all its children."""
    task_hash, args_hash, value_hash = row.task_hash, row.args_hash, row.value_hash
    tail = "40:" + "40:".join(sorted(children)) if children else ""
    text = f"l8:CallNode40:{task_hash}40:{args_hash}40:{value_hash}l{tail}ee"
    # Other lengths cannot cancel each other out: the digits in front of each part would not match.
    if len(text) == _CALL_LENGTH + len(children) * (HASH_LEN + 3) and text.isascii():
        return _is_digest(text, row.call_hash)
    right: bool = hash_call_node(task_hash, args_hash, value_hash, children) == row.call_hash
    return right


_CALL_LENGTH: Final = len("l8:CallNode40:40:40:lee") + 3 * HASH_LEN


def normalize_json(text: str) -> str:
    """Return the value of a tag in the form that hashes are taken over, which PostgreSQL does not keep.

    What is no JSON stays as it is: it has no right hash.
    """
    try:
        normal: str = json_dumps(json.loads(text))
    except (ValueError, RecursionError):
        return text
    return normal


def check_tag(row: Row, parents: Iterable[str]) -> bool:
    """Tell whether a tag's hash is right, given a row of `tag` (its value as JSON) and its parents."""
    fields = ["Tag", row.entity_id, row.key, row.value, sorted(parents)]
    right: bool = hash_struct(fields) == row.tag_hash
    return right


def check_record(parsed: ParsedRecord) -> Verdict:
    """Check every hash of a record that its own fields determine.

    Returns
    -------
    Verdict
        `WRONG` only for a call node whose call hash does not follow from its fields: it was altered, or calls
        that it made were not recorded (`prov=False`), which its record does not tell.

    Raises
    ------
    InvalidRecordError
        The record was forged or damaged; the message names it.
    """
    if parsed.kind == "Value":
        return _check_value_record(parsed.row)
    if parsed.kind == "CallNode":
        return _check_call_record(parsed)
    if parsed.kind == "Tag" and not check_tag(parsed.row, parsed.parents):
        raise InvalidRecordError(f"Tag {parsed.id} is not what its hash says: it was altered or damaged")
    return Verdict.RIGHT


def _check_value_record(row: Row) -> Verdict:
    if not row.value:
        # An empty placeholder: the bytes are in a value store, here or elsewhere.
        return Verdict.UNVERIFIABLE
    verdict = check_value(*row)
    if verdict is Verdict.WRONG:
        raise InvalidRecordError(
            f"Value {row.value_hash} is not what its hash says:"
            f" its {len(row.value)} bytes were altered or damaged"
        )
    return verdict


def _check_call_record(parsed: ParsedRecord) -> Verdict:
    children = []
    rows = iter(parsed.parts)
    for table, row in zip(rows, rows, strict=True):
        if table == "argument" and not check_argument(row):
            raise InvalidRecordError(
                f"CallNode {parsed.id} has an argument {row.arg_hash} that is not what its hash says:"
                " it was altered or damaged"
            )
        if table == "call_edge":
            children.append(row.child_id)
    return Verdict.RIGHT if check_call(parsed.row, children) else Verdict.WRONG


def find_alteration(parsed: ParsedRecord, others: Collection[str]) -> str | None:
    """Find out which field of a call node was altered, if it was.

    A call node whose hash does not follow from its fields either was altered, or made calls that were not
    recorded. It was altered for certain if another hash in one field's place makes it right.

    Parameters
    ----------
    parsed : ParsedRecord
        A call node that `check_record` finds `WRONG`.
    others : collection of str
        Hashes to try: of the values, tasks and calls that came along with it.

    Returns
    -------
    str or None
        The altered field, None if none can be shown to be.
    """
    row = parsed.row
    children = parsed.children
    for field in ("value_hash", "task_hash", "args_hash"):
        candidates: Iterable[str] = others if field != "args_hash" else [_hash_args(parsed)]
        for other in candidates:
            if check_call(row._replace(**{field: other}), children):
                return field
    for index in range(len(children)):
        if check_call(row, children[:index] + children[index + 1 :]):
            return "children"
    for other in others:
        if check_call(row, [*children, other]):
            return "children"
    return None


def _hash_args(parsed: ParsedRecord) -> str:
    arguments = parsed.get_rows("argument")
    placed = sorted(arguments, key=lambda row: row.arg_position or 0)
    positional = [row.value_hash for row in placed if row.arg_position is not None]
    named = {row.arg_key: row.value_hash for row in arguments if row.arg_position is None}
    return hash_struct(["TaskArguments", positional, named])
