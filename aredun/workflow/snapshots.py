"""Values as they were: what a function is given, and what it may change of it."""

from __future__ import annotations

import asyncio
import dataclasses
from datetime import date, time, timedelta, tzinfo
from enum import Enum
from types import BuiltinFunctionType, FunctionType
from typing import TYPE_CHECKING, Any

from aredun.values import is_task
from aredun.values.nested import SCALARS, get_children, get_parts, iter_nested_value, map_nested_value
from aredun.workflow.sizes import is_light
from aredun.workflow.tasks import JobInfo

if TYPE_CHECKING:
    from aredun.backend import RedunBackendDb
    from aredun.formats.hashing import ValueHasher
    from aredun.workflow.jobs import Job

_UNCHANGEABLE = frozenset(
    {int, float, complex, bool, str, bytes, type(None), FunctionType, BuiltinFunctionType}
)
_UNCHANGEABLE_KINDS = (date, time, timedelta, tzinfo, Enum, type)


def serialize_arguments(backend: RedunBackendDb, job: Job) -> ValueHasher:
    """Serialize the arguments that a job's function could change, into `recorded_args`; blocks.

    Parameters
    ----------
    backend : RedunBackendDb
        Where they will be recorded.
    job : Job
        With the evaluated arguments and those that its function gets.

    Returns
    -------
    ValueHasher
        Hashes the arguments that the function gets, by the very bytes that will be recorded.
    """
    if not job.is_recording():
        hasher: ValueHasher = backend.type_registry
        return hasher
    known: dict[int, str] = {}

    def serialize(given: Any, passed: Any) -> Any:
        if isinstance(given, JobInfo) or not _may_change(given):
            return given
        serialized = backend.serialize_value(given)
        if _has_same_leaves(given, passed):
            known[id(passed)] = serialized.value_hash
        return serialized

    (given, given_by_name), (passed, passed_by_name) = job.eval_args, job.args
    job.recorded_args = (
        tuple(map(serialize, given, passed)),
        {name: serialize(value, passed_by_name[name]) for name, value in given_by_name.items()},
    )
    return _Hasher(backend.type_registry, known)


class _Hasher:
    """Hashes values; of some the hash is known by their identity."""

    def __init__(self, registry: ValueHasher, known: dict[int, str]) -> None:
        self._registry = registry
        self._known = known

    def get_hash(self, value: Any) -> str:
        """Return a value's hash."""
        known = self._known.get(id(value))
        return self._registry.get_hash(value) if known is None else known


def _may_change(value: Any) -> bool:
    """Tell whether a function that gets a value can change the original; of containers it gets a copy."""
    stack = [value]
    while stack:
        item = stack.pop()
        kind = type(item)
        if kind in _UNCHANGEABLE or isinstance(item, _UNCHANGEABLE_KINDS) or is_task(item):
            continue
        children = get_parts(item, SCALARS)
        if children is None or dataclasses.is_dataclass(kind):
            return True
        stack += children
    return False


def _has_same_leaves(value: Any, other: Any) -> bool:
    """Tell whether a value that was prepared to be passed is made of the same parts: handles are not."""
    pairs = zip(iter_nested_value(value, SCALARS), iter_nested_value(other, SCALARS), strict=True)
    return all(one is another for one, another in pairs)


async def copy_containers(value: Any) -> Any:
    """Return a value with containers of its own, for a function that awaited it; others may want it too."""
    if get_children(value) is None:
        return value
    if is_light(value):
        return map_nested_value(_keep, value)
    return await asyncio.to_thread(map_nested_value, _keep, value, SCALARS)


def _keep(leaf: Any) -> Any:
    return leaf
