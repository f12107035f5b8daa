"""The hash recipes of a redun repository: SHA-512 cut to 40 hex digits over bencoded structures."""

from __future__ import annotations

import hashlib
import json
from typing import IO, TYPE_CHECKING, Any, Protocol

from aredun.formats.bencode import bencode

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

HASH_LEN = 40
"""Length of every hash, in hexadecimal digits."""

_STREAM_BLOCK = 1 << 18


class ValueHasher(Protocol):
    """What the argument recipes ask of a type registry, aredun's or redun's."""

    def get_hash(self, value: Any) -> str:
        """Hash one value by its type's recipe."""
        ...


def hash_bytes(data: bytes) -> str:
    """
    Hash bytes (mirrors redun's `hash_bytes`).

    Returns
    -------
    str
        40 hexadecimal digits.
    """
    return hashlib.sha512(data).hexdigest()[:HASH_LEN]


def hash_text(text: str) -> str:
    """Hash a text by its UTF-8 bytes (mirrors redun's `hash_text`)."""
    return hash_bytes(text.encode("utf-8"))


def hash_struct(struct: Any) -> str:
    """
    Hash a structure by its bencoding (mirrors redun's `hash_struct`).

    Parameters
    ----------
    struct : Any
        Whatever `aredun.formats.bencode.bencode` takes.

    Returns
    -------
    str
        40 hexadecimal digits.

    Raises
    ------
    TypeError
        If the structure holds something that cannot be bencoded.
    """
    return hash_bytes(bencode(struct))


def hash_tag_bytes(tag: str, data: bytes) -> str:
    """
    Hash bytes under a tag, so that equal bytes of different kinds differ.

    Mirrors redun's `hash_tag_bytes`.

    Parameters
    ----------
    tag : str
        The kind of the data, e.g. `"Value"` or `"Value.set"`.
    data : bytes
        The data; it is not copied.
    """
    digest = hashlib.sha512(bencode([tag]))
    digest.update(data)
    return digest.hexdigest()[:HASH_LEN]


def hash_stream(stream: IO[bytes]) -> str:
    """Hash what is left of a binary stream, block by block (mirrors redun's `hash_stream`). Blocks."""
    digest = hashlib.sha512()
    while block := stream.read(_STREAM_BLOCK):
        digest.update(block)
    return digest.hexdigest()[:HASH_LEN]


def json_dumps(value: Any) -> str:
    """Write JSON in its normal form: sorted keys, no blanks (mirrors redun's `json_dumps`)."""
    return json.dumps(value, separators=(",", ":"), sort_keys=True)


def hash_positional_args(registry: ValueHasher, args: Sequence[Any]) -> list[str]:
    """Hash positional arguments, in their order (mirrors redun's `hash_positional_args`)."""
    return [registry.get_hash(arg) for arg in args]


def hash_kwargs(registry: ValueHasher, kwargs: Mapping[str, Any]) -> dict[str, str]:
    """Hash keyword arguments, under their names (mirrors redun's `hash_kwargs`)."""
    return {key: registry.get_hash(arg) for key, arg in kwargs.items()}


def hash_arguments(registry: ValueHasher, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
    """
    Hash the arguments of a task call (mirrors redun's `hash_arguments`).

    Parameters
    ----------
    registry : ValueHasher
        The type registry that hashes each argument.
    args : Sequence[Any]
        Positional arguments.
    kwargs : Mapping[str, Any]
        Keyword arguments; their order does not matter.

    Returns
    -------
    str
        The `args_hash` of the call.
    """
    return hash_struct(["TaskArguments", hash_positional_args(registry, args), hash_kwargs(registry, kwargs)])


def hash_eval(
    registry: ValueHasher, task_hash: str, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> tuple[str, str]:
    """
    Hash a task's evaluation on arguments (mirrors redun's `hash_eval`).

    Returns
    -------
    tuple[str, str]
        `eval_hash`, the key of the evaluation cache, and `args_hash`.
    """
    args_hash = hash_arguments(registry, args, kwargs)
    return hash_struct(["Eval", task_hash, args_hash]), args_hash


def hash_tag(entity_id: str, key: str, value: Any, parents: Sequence[str]) -> str:
    """
    Hash a tag (mirrors redun's `hash_tag`).

    Parameters
    ----------
    entity_id : str
        Id of the tagged entity.
    key : str
        The tag's key.
    value : Any
        The tag's value, JSON-like.
    parents : Sequence[str]
        Hashes of the tags that this one replaces, in the order in which they are given.
    """
    return hash_struct(["Tag", entity_id, key, json_dumps(value), list(parents)])


def hash_call_node(task_hash: str, args_hash: str, result_hash: str, child_call_hashes: Sequence[str]) -> str:
    """
    Hash a call node (mirrors redun's `hash_call_node`).

    Parameters
    ----------
    task_hash, args_hash, result_hash : str
        Hashes of the called task, its arguments and its result.
    child_call_hashes : Sequence[str]
        Call hashes of the child calls, in any order; duplicates count.

    Returns
    -------
    str
        The `call_hash`.
    """
    return hash_struct(["CallNode", task_hash, args_hash, result_hash, sorted(child_call_hashes)])


def hash_argument(call_hash: str, position: int | None, key: str | None, value_hash: str) -> str:
    """
    Hash one argument of a call node (mirrors the recipe in redun's `RedunBackendDb._record_args`).

    Parameters
    ----------
    call_hash : str
        The call node that the argument belongs to.
    position : int or None
        Index of a positional argument, `None` for a keyword argument.
    key : str or None
        Name of a keyword argument, `None` for a positional argument.
    value_hash : str
        The argument's value.

    Returns
    -------
    str
        The `arg_hash`.
    """
    return hash_struct(["Argument", call_hash, str(position), str(key), value_hash])
