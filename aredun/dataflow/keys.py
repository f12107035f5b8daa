"""What tells a node from all others. A walk remembers one key per node, so keys are small. Pure."""

from __future__ import annotations

from typing import Any, TypeAlias

from aredun.dataflow.nodes import get_identity

# Bytes where the hashes are hexadecimal, as redun's are; else the kind, the hash and the value followed.
Key: TypeAlias = "bytes | tuple[str, str, str]"

_HASH_LENGTH = 40
_PREFIXES = {"A": "0a", "C": "0c", "R": "0e", "V": "0f"}
_KINDS = {int(prefix, 16): kind for kind, prefix in _PREFIXES.items()}
_fromhex = bytes.fromhex


def make_key(kind: str, node_hash: str, value_hash: str = "") -> Key:
    """Return the key of a node, given what identifies it (see `get_identity`)."""
    text = f"{_PREFIXES[kind]}{node_hash}{value_hash}"
    try:
        key = _fromhex(text)
    except ValueError:
        return kind, node_hash, value_hash
    # White space and capitals would be lost.
    if len(node_hash) == _HASH_LENGTH and key.hex() == text:
        return key
    return kind, node_hash, value_hash


def parse_key(key: Key) -> tuple[str, str, str]:
    """Return what a key was made of."""
    if isinstance(key, bytes):
        text = key.hex()
        return _KINDS[key[0]], text[2 : 2 + _HASH_LENGTH], text[2 + _HASH_LENGTH :]
    return key


def get_key(node: Any) -> Key:
    """Return the key of a node."""
    return make_key(*get_identity(node))


def is_value_key(key: Key) -> bool:
    """Tell whether a key is that of a value as such, with which a walk may begin."""
    return parse_key(key)[0] == "V"
