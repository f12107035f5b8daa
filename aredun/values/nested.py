"""Values within values: containers, named tuples and dataclasses, walked in redun's order."""

from __future__ import annotations

import copy
import dataclasses
import operator
import types
from contextlib import suppress
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Set

_CONTAINERS = (list, tuple, set)
_NESTING = frozenset({*_CONTAINERS, dict})
_UNSET = object()

SCALARS: frozenset[type] = frozenset({str, int, float, complex, bool, bytes, type(None)})
_NOTHING: frozenset[type] = frozenset()
# A container of more items is looked at as a whole first: if all are of kinds that do not matter, there is no
# need to go through them one by one.
_FEW = 32
# As many leaves as a walk goes through in about a millisecond.
_LONG = 1_000
# Items that a thread looks at before it lets others run.
_GLANCE = 1 << 15
# Levels that the quick look goes down; the walks see to deeper values, and to cycles.
_DEEPEST = 8


def is_named_tuple(value: Any) -> bool:
    """Tell whether a value is a named tuple, as redun tells it: a tuple with `_fields`."""
    return isinstance(value, tuple) and hasattr(value, "_fields")


def get_children(value: Any) -> list[Any] | None:
    """List the direct children of a container, or return None for a leaf."""
    kind = type(value)
    if kind in _CONTAINERS or is_named_tuple(value):
        return list(value)
    if kind is dict:
        return [*value.keys(), *value.values()]
    if dataclasses.is_dataclass(kind):
        return [part for _, part in _iter_fields(value)]
    return None


def is_long(value: Any, most: int = _LONG) -> bool:
    """Tell whether a nested value has so many leaves that the event loop would notice a walk through them.

    Parameters
    ----------
    value : Any
        Any value.
    most : int
        The number of leaves up to which it is not long.
    """
    count = 0
    stack = [value]
    while stack:
        item = stack.pop()
        kind = type(item)
        if kind in SCALARS:
            continue
        if kind in _CONTAINERS or kind is dict:
            count += len(item)
            if count > most:
                return True
        children = get_children(item)
        if children is not None:
            count += 1
            stack += children
        if count > most:
            return True
    return False


def holds(value: Any, is_sought: Callable[[Any], bool], unsought: Set[type] = SCALARS) -> bool:
    """Tell whether any leaf of a nested value is one that is sought; none of the kinds in `unsought` is."""
    return any(map(is_sought, iter_nested_value(value, unsought)))


def _is_plain(value: Any, kinds: Set[type]) -> bool:
    """Tell quickly whether a container of many holds only leaves of some kinds; few are left to the walks."""
    kind = type(value)
    if not kinds or kind not in _NESTING or len(value) <= _FEW:
        return False
    parts = (value.keys(), value.values()) if kind is dict else (value,)
    return all(_all_are(items, kinds, _DEEPEST) for items in parts)


def _all_are(items: Iterable[Any], kinds: Set[type], depth: int) -> bool:
    rest = iter(items)
    while chunk := list(islice(rest, _GLANCE)):
        found = set(map(type, chunk))
        others = found - kinds
        if others and (depth == 0 or not others <= _NESTING):
            return False
        for kind in others:
            same: list[Any] = chunk if len(found) == 1 else [item for item in chunk if type(item) is kind]
            if kind is dict and not _all_are(chain.from_iterable(map(dict.values, same)), kinds, depth - 1):
                return False
            # The items of a list, or the keys of a dict.
            if not _all_are(chain.from_iterable(same), kinds, depth - 1):
                return False
    return True


def _copy_plain(value: Any, kinds: Set[type]) -> Any:
    """Copy the containers of a value that has only leaves of some kinds."""
    if type(value) is dict:
        return {
            key if type(key) in kinds else _copy_plain(key, kinds): (
                item if type(item) in kinds else _copy_plain(item, kinds)
            )
            for key, item in value.items()
        }
    # A tuple too becomes another one: pickle writes an object that it meets again as a reference.
    return type(value)([item if type(item) in kinds else _copy_plain(item, kinds) for item in value])


def get_parts(value: Any, unsought: Set[type]) -> list[Any] | None:
    """List the children as `get_children` does; none if they are many and hold nothing that is sought."""
    return [] if _is_plain(value, unsought) else get_children(value)


def iter_nested_value(value: Any, unsought: Set[type] = _NOTHING) -> Iterator[Any]:
    """
    Yield the leaves of a nested value (mirrors redun's `iter_nested_value`).

    Looks into `list`, `tuple`, `set` and `dict` (not their subclasses), named tuples and dataclasses.

    Parameters
    ----------
    value : Any
        Any value; one that is no container is its own and only leaf.
    unsought : Set[type]
        Kinds of leaves that may be left out. A long list of nothing else takes hardly any time.

    Yields
    ------
    Any
        Leaves in redun's order, which subvalues are recorded in: depth first, last child first, and of a
        dict the values before the keys.

    Raises
    ------
    ValueError
        If a container holds itself (redun never comes back from one).
    """
    children = get_parts(value, unsought)
    if children is None:
        yield value
        return
    open_ids = {id(value)}
    stack = [(value, children)]
    while stack:
        owner, rest = stack[-1]
        if not rest:
            stack.pop()
            open_ids.discard(id(owner))
            continue
        item = rest.pop()
        children = get_parts(item, unsought)
        if children is None:
            yield item
        elif id(item) in open_ids:
            raise ValueError(f"a {type(item).__name__} contains itself: nested values must not have cycles")
        else:
            open_ids.add(id(item))
            stack.append((item, children))


def map_nested_value(
    func: Callable[[Any], Any],
    value: Any,
    unchanged: Set[type] = _NOTHING,
    _met: dict[int, Any] | None = None,
) -> Any:
    """
    Rebuild a nested value with a function applied to each leaf (mirrors redun's `map_nested_value`).

    Parameters
    ----------
    func : Callable[[Any], Any]
        Called once a leaf, in reading order: first child first, of a dict each key before its value.
    value : Any
        Any value; looked into as `iter_nested_value` does.
    unchanged : Set[type]
        Kinds of leaves that the function returns as they are. A long list of nothing else is copied at once.

    Returns
    -------
    Any
        A new value of the same shape; the given one is left as it is. A named tuple or dataclass of which no
        part is another one is the same object, else a copy with its fields set: no constructor is called
        again, as that may change what it is given. Lists, tuples, sets and dicts are always new.
    """
    kind = type(value)
    if kind not in _NESTING and not dataclasses.is_dataclass(kind) and not is_named_tuple(value):
        return func(value)
    if _is_plain(value, unchanged):
        return _copy_plain(value, unchanged)
    met = {} if _met is None else _met
    if kind in _CONTAINERS:
        # A loop, as a comprehension is one more frame: calls nested in calls go through here again and again.
        mapped = []
        for item in value:
            mapped.append(map_nested_value(func, item, unchanged, met))  # noqa: PERF401
        return kind(mapped)
    if kind is dict:
        return {
            map_nested_value(func, key, unchanged, met): map_nested_value(func, item, unchanged, met)
            for key, item in value.items()
        }
    # Pickle writes an object that it meets again as a reference. redun makes a copy for each place, so its
    # hash knows of none.
    is_met = id(value) in met
    met[id(value)] = value
    return _map_record(value, lambda part: map_nested_value(func, part, unchanged, met), is_met)


def map_in_steps(
    func: Callable[[Any], Any],
    value: Any,
    unchanged: Set[type] = _NOTHING,
    _met: dict[int, Any] | None = None,
) -> Generator[None, None, Any]:
    """Do what `map_nested_value` does; yield after each item of a container of many, return the new value."""
    kind = type(value)
    if kind not in _NESTING or not is_long(value, _FEW) or _is_plain(value, unchanged):
        return map_nested_value(func, value, unchanged, _met)
    met = {} if _met is None else _met
    items = chain.from_iterable(value.items()) if kind is dict else value
    mapped = []
    for item in items:
        mapped.append((yield from map_in_steps(func, item, unchanged, met)))
        yield
    return dict(zip(mapped[::2], mapped[1::2], strict=True)) if kind is dict else kind(mapped)


def _map_record(value: Any, map_part: Callable[[Any], Any], must_copy: bool) -> Any:
    """Return a named tuple or dataclass with each part mapped; itself if that changes nothing."""
    if is_named_tuple(value):
        items = [map_part(item) for item in value]
        if not must_copy and all(map(operator.is_, items, value)):
            return value
        made = tuple.__new__(type(value), items)
        if hasattr(value, "__dict__"):
            made.__dict__.update(value.__dict__)
        return made
    changed = {}
    for name, part in _iter_fields(value):
        mapped = map_part(part)
        if mapped is not part:
            changed[name] = mapped
    return _copy_dataclass(value, changed) if changed or must_copy else value


def _iter_fields(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield the fields of a dataclass that are set."""
    for field in dataclasses.fields(value):
        # A field without a default need not be set: one with `init=False`, or one that was deleted.
        part = getattr(value, field.name, _UNSET)
        if part is not _UNSET:
            yield field.name, part


def _copy_dataclass(value: Any, changed: dict[str, Any]) -> Any:
    """Copy a dataclass, frozen or with slots as it may be, with some fields set to other values."""
    kind = type(value)
    try:
        made = object.__new__(kind)
    except TypeError:
        # It derives from one of Python's own types, such as dict or Exception, whose content is no field.
        made = copy.copy(value)
    else:
        for base in kind.__mro__:
            for slot in vars(base).values():
                if isinstance(slot, types.MemberDescriptorType):
                    with suppress(AttributeError):
                        slot.__set__(made, slot.__get__(value))
        if hasattr(value, "__dict__"):
            made.__dict__.update(value.__dict__)
    own = getattr(made, "__dict__", {})
    for name, part in changed.items():
        if name in own:
            own[name] = part
        else:
            # A frozen dataclass refuses setattr.
            object.__setattr__(made, name, part)
    return made
