"""The namespace of tasks and handles (mirrors `redun.namespace`)."""

from __future__ import annotations

import sys
from typing import Any

_current_namespace = ""


def namespace(name: str | None = None) -> None:
    """Set the namespace of the tasks and handles that are defined from now on; None unsets it."""
    global _current_namespace
    _current_namespace = name or ""


def compute_namespace(obj: Any, name: str | None = None) -> str:
    """
    Find the namespace of an object (mirrors redun's `compute_namespace`).

    Parameters
    ----------
    obj : Any
        A function or class.
    name : str, optional
        The namespace if it is given; `""` is one.

    Returns
    -------
    str
        `name`, else the variable `redun_namespace` of the object's module, else the current namespace.
    """
    if name is None:
        name = getattr(sys.modules.get(obj.__module__), "redun_namespace", None)
    return _current_namespace if name is None else name


def join_fullname(name_space: str | None, name: str) -> str:
    """Join a namespace, if there is one, and a name."""
    return f"{name_space}.{name}" if name_space else name
