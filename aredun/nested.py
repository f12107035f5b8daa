"""Values within values: containers, named tuples and dataclasses, walked in redun's order."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_CONTAINERS = (list, tuple, set)


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
        return [getattr(value, field.name) for field in dataclasses.fields(value)]
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


def map_nested_value(func: Callable[[Any], Any], value: Any) -> Any:
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
        A new value of the same shape; the given one is left as it is.
    """
    kind = type(value)
    if kind in _CONTAINERS or is_named_tuple(value):
        # A loop, as a comprehension is one more frame: calls nested in calls go through here again and again.
        mapped = []
        for item in value:
            mapped.append(map_nested_value(func, item))  # noqa: PERF401
        return kind(*mapped) if is_named_tuple(value) else kind(mapped)
    if kind is dict:
        return {map_nested_value(func, key): map_nested_value(func, item) for key, item in value.items()}
    if dataclasses.is_dataclass(kind):
        return _map_dataclass(func, value)
    return func(value)


def _map_dataclass(func: Callable[[Any], Any], value: Any) -> Any:
    mapped = {
        field.name: map_nested_value(func, getattr(value, field.name)) for field in dataclasses.fields(value)
    }
    init_names = {field.name for field in dataclasses.fields(value) if field.init}
    copy = type(value)(**{name: item for name, item in mapped.items() if name in init_names})
    for name, item in mapped.items():
        if name not in init_names:
            # A frozen dataclass refuses setattr; its non-init fields must be carried over all the same.
            object.__setattr__(copy, name, item)
    if hasattr(value, "__dict__"):
        for name, item in value.__dict__.items():
            copy.__dict__.setdefault(name, item)
    return copy
