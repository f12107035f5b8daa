"""Record ids in little memory: a hash of 40 digits takes 20 bytes, a UUID 16."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Packed = bytes | str

HASH_BYTES = 20
UUID_BYTES = 16


def pack(record_id: str) -> Packed:
    """Return a short form of an id, from which `unpack` makes the id again."""
    try:
        key = bytes.fromhex(record_id.replace("-", ""))
    except ValueError:
        return record_id
    # Upper case, blanks, and dashes in other places would be lost.
    return key if unpack(key) == record_id else record_id


def pack_all(record_ids: Sequence[str]) -> list[Packed]:
    """Return the short forms of ids, in order."""
    if set(map(len, record_ids)) <= {2 * HASH_BYTES}:
        digits = "".join(record_ids)
        try:
            keys = bytes.fromhex(digits)
        except ValueError:
            keys = b""
        if keys.hex() == digits:
            return [keys[start : start + HASH_BYTES] for start in range(0, len(keys), HASH_BYTES)]
    return [*map(pack, record_ids)]


def unpack(key: Packed) -> str:
    """Return the id that `pack` made short."""
    if isinstance(key, str):
        return key
    digits = key.hex()
    if len(key) != UUID_BYTES:
        return digits
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def unpack_all(keys: Iterable[Packed]) -> list[str]:
    """Return the ids that `pack` made short, in order."""
    return [*map(unpack, keys)]


class IdSet:
    """A set of record ids, in about 100 bytes each."""

    __slots__ = ("_keys",)

    def __init__(self) -> None:
        self._keys: set[Packed] = set()

    def add(self, record_id: str) -> bool:
        """Add an id; tell whether it was new."""
        size = len(self._keys)
        self._keys.add(pack(record_id))
        return len(self._keys) > size

    def add_all(self, record_ids: Iterable[str]) -> list[str]:
        """Add ids; return those that were new, each once, in order."""
        ids = list(dict.fromkeys(record_ids))
        new = [each for each, key in zip(ids, pack_all(ids), strict=True) if key not in self._keys]
        self._keys.update(pack_all(new))
        return new

    def find_new(self, record_ids: Iterable[str]) -> list[str]:
        """Return those of the ids that are not here, in order."""
        ids = list(record_ids)
        return [each for each, key in zip(ids, pack_all(ids), strict=True) if key not in self._keys]

    def __contains__(self, record_id: str) -> bool:
        return pack(record_id) in self._keys

    def __len__(self) -> int:
        return len(self._keys)
