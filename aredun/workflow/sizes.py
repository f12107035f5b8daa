"""A quick guess whether values are small enough to be pickled and hashed on the event loop."""

from __future__ import annotations

import asyncio
from datetime import date, time, timedelta
from enum import Enum
from typing import TYPE_CHECKING, Any, TypeVar

from aredun.values import File, is_file, is_handle, is_task
from aredun.values.expressions import ApplyExpression
from aredun.values.nested import SCALARS, is_long, iter_nested_value
from aredun.values.sizes import SMALL_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

T = TypeVar("T")

_BYTES_PER_LEAF = 32
_SMALL_TYPES = (int, float, complex, type(None), date, time, timedelta, Enum)


def is_light(value: Any) -> bool:
    """Tell whether a nested value is known to be small; what is not known counts as large."""
    if is_long(value):
        return False
    size = 0
    for leaf in _iter_weighed(value):
        if isinstance(leaf, str | bytes):
            size += len(leaf)
        elif not (isinstance(leaf, _SMALL_TYPES) or is_handle(leaf) or is_task(leaf) or _is_quick_file(leaf)):
            return False
        size += _BYTES_PER_LEAF
        if size > SMALL_BYTES:
            return False
    return True


async def run_through(value: Any, function: Callable[..., T], *args: Any) -> T:
    """Call a function that goes through a nested value, in a thread if that is long."""
    return await asyncio.to_thread(function, *args) if is_long(value) else function(*args)


def get_unhandled(registry: Any, value: Any) -> frozenset[type]:
    """Return the kinds of scalars in a long value that are passed and valid as they are: of no value type."""
    if not is_long(value):
        return frozenset()
    return frozenset(kind for kind in SCALARS if registry.get_type(kind, use_default=False) is None)


def iter_leaves(value: Any, unsought: frozenset[type]) -> Iterator[Any]:
    """Yield the leaves of a nested value, and those of the arguments of each expression among them."""
    for leaf in iter_nested_value(value, unsought):
        yield leaf
        if isinstance(leaf, ApplyExpression):
            yield from iter_leaves((leaf.args, leaf.kwargs), unsought)


def _is_quick_file(value: Any) -> bool:
    """Tell whether the hash of a file is known, or takes no more than a look at a local file."""
    if not is_file(value):
        return False
    return bool(getattr(value, "_hash", None)) or (type(value) is File and "://" not in value.path)


def _iter_weighed(value: Any) -> Iterator[Any]:
    for leaf in iter_nested_value(value):
        if isinstance(leaf, ApplyExpression) and not is_long((leaf.args, leaf.kwargs)):
            yield from _iter_weighed((leaf.args, leaf.kwargs))
        else:
            yield leaf
