"""A mapping with repeated keys, as tags are."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping
from itertools import chain
from typing import Any, Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Item = TypeVar("Item")


class MultiMap(Generic[Key, Item]):
    """
    An associative array in which a key may occur several times (mirrors redun's `MultiMap`).

    Parameters
    ----------
    items : iterable of (key, value) pairs, optional
        Kept in order within each key; keys are kept in order of their first occurrence.
    """

    def __init__(self, items: Iterable[tuple[Key, Item] | list[Any]] = ()) -> None:
        self._values: dict[Key, list[Item]] = {}
        for key, value in items:
            self.add(key, value)

    def __repr__(self) -> str:
        return f"MultiMap({list(self)})"

    def __len__(self) -> int:
        return sum(map(len, self._values.values()))

    def __getitem__(self, key: Key) -> list[Item]:
        return self._values[key]

    def __iter__(self) -> Iterator[tuple[Key, Item]]:
        return ((key, value) for key, values in self._values.items() for value in values)

    def __contains__(self, key: object) -> bool:
        return key in self._values

    def __eq__(self, other: object) -> bool:
        """Compare without regard to order with a multimap (redun's too), a dict of lists, or pairs."""
        if not isinstance(other, Iterable):
            return False
        if isinstance(other, Mapping):
            pairs = [(key, value) for key, values in other.items() for value in values]
        else:
            pairs = [tuple(pair) if isinstance(pair, tuple | list) else pair for pair in other]
        # Values need not be sortable nor hashable: tags hold any JSON.
        for pair in self:
            if pair not in pairs:
                return False
            pairs.remove(pair)
        return not pairs

    __hash__ = None  # type: ignore[assignment]  # mutable, hence not hashable

    def has_item(self, key: Key, value: Item) -> bool:
        """Tell whether the pair occurs."""
        return value in self._values.get(key, ())

    def get(self, key: Key, default: Any = None) -> Any:
        """Return the values of a key; without any, `default`, or an empty list if that is not given."""
        return self._values.get(key, [] if default is None else default)

    def keys(self) -> Iterator[Key]:
        """Iterate over the keys, each once."""
        return iter(self._values)

    def values(self) -> Iterator[Item]:
        """Iterate over the values of all keys."""
        return chain.from_iterable(self._values.values())

    def items(self) -> Iterator[tuple[Key, Item]]:
        """Iterate over the (key, value) pairs."""
        return iter(self)

    def as_dict(self) -> dict[Key, list[Item]]:
        """Return the values by key: the dict that backs the multimap."""
        return self._values

    def add(self, key: Key, value: Item) -> None:
        """Add a pair."""
        self._values.setdefault(key, []).append(value)
