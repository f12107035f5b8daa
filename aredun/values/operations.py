"""The operations that a lazy expression can stand for, by the names that redun stores them under."""

from __future__ import annotations

import operator
from itertools import chain
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence


def format_arguments(
    args: Sequence[Any], kwargs: Mapping[str, Any], show: Callable[[Any], str] = repr
) -> str:
    """Write the arguments of a call as text, keywords in alphabetical order."""
    items = chain(map(show, args), (f"{key}={show(value)}" for key, value in sorted(kwargs.items())))
    return ", ".join(items)


# By the names that redun stores operators under: how each is written, and what it does.
_OPERATORS: dict[str, tuple[str, Callable[[Any, Any], Any]]] = {
    "eq": ("==", operator.eq),
    "ne": ("!=", operator.ne),
    "lt": ("<", operator.lt),
    "le": ("<=", operator.le),
    "gt": (">", operator.gt),
    "ge": (">=", operator.ge),
    "add": ("+", operator.add),
    "sub": ("-", operator.sub),
    "mul": ("*", operator.mul),
    "div": ("/", operator.truediv),
    "and": ("&", lambda this, other: this and other),
    "or": ("|", lambda this, other: this or other),
}
# Those with a form for a plain value on the left, in which the operands are stored the other way round.
_REVERSED = {f"r{name}": name for name in ("add", "sub", "mul", "div", "and", "or")}


def format_operation(
    func_name: str, args: Sequence[Any], kwargs: Mapping[str, Any], show: Callable[[Any], str] = repr
) -> str:
    """Write an operation as Python code would have it, as far as it can be."""
    if len(args) == 2:
        left, right = args
        if func_name in _OPERATORS:
            return f"({show(left)} {_OPERATORS[func_name][0]} {show(right)})"
        if func_name in _REVERSED:
            return f"({show(right)} {_OPERATORS[_REVERSED[func_name]][0]} {show(left)})"
        if func_name == "getitem":
            return f"{show(left)}[{show(right)}]"
        if func_name == "getattr":
            return f"{show(left)}.{right}"
    elif len(args) == 3 and func_name == "call":
        return f"{show(args[0])}({format_arguments(args[1], args[2], show)})"
    return f"SimpleExpression({func_name!r}, {show(args)}, {show(kwargs)})"


def _reverse(operation: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    return lambda this, other: operation(other, this)


def _call(this: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None) -> Any:
    return this(*args, **(kwargs or {}))


_operations: dict[str, Callable[..., Any]] = {
    "getattr": getattr,
    "getitem": operator.getitem,
    "call": _call,
    **{name: operation for name, (_, operation) in _OPERATORS.items()},
    **{reverse: _reverse(_OPERATORS[name][1]) for reverse, name in _REVERSED.items()},
}


def get_lazy_operation(name: str) -> Callable[..., Any] | None:
    """Return the function that a `SimpleExpression` names, to be called with its evaluated arguments."""
    return _operations.get(name)
