"""Kinds of values that a repository has tables for, told for aredun's and for redun's own objects."""

from __future__ import annotations

import functools
from typing import Any

from aredun.values.expressions import Expression
from aredun.values.file import File
from aredun.values.handle import Handle
from aredun.values.task_value import TaskValue


@functools.lru_cache(maxsize=4096)
def _derives_from(kind: type, own: type, redun_module: str, redun_name: str) -> bool:
    return issubclass(kind, own) or any(
        base.__name__ == redun_name and base.__module__ == redun_module for base in kind.__mro__
    )


def _is_kind(value: Any, own: type, redun_module: str, redun_name: str) -> bool:
    kind: Any = type(value)
    return _derives_from(kind, own, redun_module, redun_name)


def is_file(value: Any) -> bool:
    """Tell whether a value is a `File` (not a `FileSet` or `Dir`), aredun's or redun's."""
    return _is_kind(value, File, "redun.file", "File")


def is_handle(value: Any) -> bool:
    """Tell whether a value is a `Handle`, aredun's or redun's."""
    return _is_kind(value, Handle, "redun.handle", "Handle")


def is_task(value: Any) -> bool:
    """Tell whether a value is a task, aredun's or redun's."""
    return _is_kind(value, TaskValue, "redun.task", "Task")


def is_expression(value: Any) -> bool:
    """Tell whether a value is a lazy expression, aredun's or redun's."""
    return _is_kind(value, Expression, "redun.expression", "Expression")
