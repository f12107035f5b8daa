"""How a type hint reads values from the command line: one text or several, and what they become."""

from __future__ import annotations

import collections.abc
import datetime
import json
import types
import typing
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from typing import Any

from aredun.values import get_type_registry

# What their constructors do not read from a text; redun's registry has no types for them.
_READERS: dict[Any, Callable[[str], Any]] = {
    datetime.date: datetime.date.fromisoformat,
    datetime.time: datetime.time.fromisoformat,
    bytes: str.encode,
    type(None): lambda text: {"None": None}[text],
}
_LISTS = (list, collections.abc.Sequence, collections.abc.MutableSequence)
_ITERABLES = (collections.abc.Iterable, collections.abc.Collection)
_SETS = (set, frozenset, collections.abc.Set, collections.abc.MutableSet)
_MAPPINGS = (dict, collections.abc.Mapping, collections.abc.MutableMapping)
_TEXTS = (None, Any, object)


@dataclass(frozen=True)
class Hint:
    """
    What a parameter's hint means on the command line.

    Attributes
    ----------
    type : Any
        The type of one value, for messages.
    read : Callable[[str], Any]
        Reads one text; any exception says that it is not valid.
    nargs : str | None
        How many texts there may be, as argparse has it; "?" for an option that may stand without one.
    collect : Callable[[list[Any]], Any] | None
        Makes the argument of several values.
    choices : tuple[Any, ...]
        The only values, if they are few.
    """

    type: Any
    read: Callable[[str], Any]
    nargs: str | None = None
    collect: Callable[[list[Any]], Any] | None = None
    choices: tuple[Any, ...] = ()


def read_hint(hint: Any) -> Hint:
    """Return how values of a hint are read; what no type is known for is text.

    Parameters
    ----------
    hint : Any
        A type, or what `typing` makes of types; None for a parameter without a hint.
    """
    hint = _strip(hint)
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    kind = origin or hint
    if origin in (typing.Union, types.UnionType):
        return _read_union([read_hint(argument) for argument in _order(arguments)])
    if origin is typing.Literal:
        choices = {show_choice(choice): choice for choice in arguments}
        return Hint(hint, choices.__getitem__, choices=tuple(choices.values()))
    if origin is Callable:
        return _read_one(types.FunctionType)
    if kind is tuple:
        return _read_tuple(arguments)
    if kind in _SETS:
        return _read_several(arguments, set if kind in (set, collections.abc.MutableSet) else frozenset)
    if kind in _MAPPINGS:
        return _read_mapping(arguments)
    if kind in _LISTS or kind in _ITERABLES or (isinstance(origin, type) and issubclass(origin, list)):
        return _read_several(arguments, None)
    if kind is bool:
        return Hint(bool, _make_read(bool), nargs="?")
    return _read_one(kind)


def show_choice(choice: Any) -> str:
    """Return what is typed for one of few values."""
    return choice.name if isinstance(choice, Enum) else str(choice)


def _strip(hint: Any) -> Any:
    """Return the type within annotations and new types."""
    while True:
        if typing.get_origin(hint) is typing.Annotated:
            hint = typing.get_args(hint)[0]
        elif isinstance(hint, typing.NewType):
            hint = hint.__supertype__
        elif isinstance(hint, typing.TypeVar):
            hint = hint.__bound__
        else:
            return str if hint in _TEXTS else hint


def _order(arguments: tuple[Any, ...]) -> list[Any]:
    # Text fits everything, so it is tried last of all but None.
    return sorted(arguments, key=lambda each: (each is type(None), _strip(each) is str))


def _read_union(members: list[Hint]) -> Hint:
    """Return how to read what the first member that can does; the first of all tells what is wrong."""
    first = members[0]
    if first.collect is not None or len(members) == 1:
        return first
    single = [member for member in members if member.collect is None]

    def read(text: str) -> Any:
        for member in single:
            with suppress(Exception):
                return member.read(text)
        return first.read(text)

    return Hint(first.type, read, first.nargs, choices=first.choices)


def _read_one(kind: Any) -> Hint:
    is_enum = isinstance(kind, type) and issubclass(kind, Enum)
    return Hint(kind, _make_read(kind), choices=tuple(kind) if is_enum else ())


def _make_read(kind: Any) -> Callable[[str], Any]:
    return _READERS.get(kind) or (lambda text: get_type_registry().parse_arg(kind, text))


def _read_several(arguments: tuple[Any, ...], collect: Callable[[list[Any]], Any] | None) -> Hint:
    item = read_hint(arguments[0] if arguments else str)
    return Hint(item.type, item.read, "+", collect or list, item.choices)


def _read_tuple(arguments: tuple[Any, ...]) -> Hint:
    if not arguments or arguments[-1] is Ellipsis:
        return _read_several(arguments[:1], tuple)
    items = [read_hint(argument) for argument in arguments]

    def collect(texts: list[str]) -> tuple[Any, ...]:
        if len(texts) != len(items):
            raise ValueError(f"expected {len(items)} values, one for each place of the tuple")
        return tuple(item.read(text) for item, text in zip(items, texts, strict=True))

    return Hint(str, str, "+", collect)


def _read_mapping(arguments: tuple[Any, ...]) -> Hint:
    key, value = (read_hint(argument) for argument in arguments or (str, str))

    def read(text: str) -> list[tuple[Any, Any]]:
        if text.startswith("{"):
            # As in JSON: a text is read by the hint, what is more than text is taken as it is.
            return [
                (key.read(name), value.read(each) if isinstance(each, str) else each)
                for name, each in json.loads(text).items()
            ]
        name, equals, each = text.partition("=")
        if not equals:
            raise ValueError("write KEY=VALUE, or a JSON object")
        return [(key.read(name), value.read(each))]

    return Hint(dict, read, "+", lambda pairs: dict(pair for each in pairs for pair in each))
