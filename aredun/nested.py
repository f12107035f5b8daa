"""Values within values: containers, named tuples and dataclasses, walked in redun's order."""

from __future__ import annotations

import copy
import dataclasses
import operator
import types
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_CONTAINERS = (list, tuple, set)
_UNSET = object()


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


def iter_nested_value(value: Any) -> Iterator[Any]:
    """
    Yield the leaves of a nested value (mirrors `redun.utils.iter_nested_value`).

    Looks into `list`, `tuple`, `set` and `dict` (not their subclasses), named tuples and dataclasses.

    Parameters
    ----------
    value : Any
        Any value; one that is no container is its own and only leaf.

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
    children = get_children(value)
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
        children = get_children(item)
        if children is None:
            yield item
        elif id(item) in open_ids:
            raise ValueError(f"a {type(item).__name__} contains itself: nested values must not have cycles")
        else:
            open_ids.add(id(item))
            stack.append((item, children))


def map_nested_value(func: Callable[[Any], Any], value: Any, _met: dict[int, Any] | None = None) -> Any:
    """
    Rebuild a nested value with a function applied to each leaf (mirrors `redun.utils.map_nested_value`).

    Parameters
    ----------
    func : Callable[[Any], Any]
        Called once a leaf, in reading order: first child first, of a dict each key before its value.
    value : Any
        Any value; looked into as `iter_nested_value` does.

    Returns
    -------
    Any
        A new value of the same shape; the given one is left as it is. A named tuple or dataclass of which no
        part is another one is the same object, else a copy with its fields set: no constructor is called
        again, as that may change what it is given. Lists, tuples, sets and dicts are always new.
    """
    kind = type(value)
    if kind in _CONTAINERS:
        # A loop, as a comprehension is one more frame: calls nested in calls go through here again and again.
        met = {} if _met is None else _met
        mapped = []
        for item in value:
            mapped.append(map_nested_value(func, item, met))  # noqa: PERF401
        return kind(mapped)
    if kind is dict:
        met = {} if _met is None else _met
        return {
            map_nested_value(func, key, met): map_nested_value(func, item, met) for key, item in value.items()
        }
    if dataclasses.is_dataclass(kind) or is_named_tuple(value):
        met = {} if _met is None else _met
        # Pickle writes an object that it meets again as a reference. redun makes a copy for each place, so
        # its hash knows of none.
        is_met = id(value) in met
        met[id(value)] = value
        return _map_record(value, lambda part: map_nested_value(func, part, met), is_met)
    return func(value)


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
