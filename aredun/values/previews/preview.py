"""Reads a stored value as a preview, and writes within limits what has an endless text."""

from __future__ import annotations

import datetime
import decimal
import sys
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from aredun.values.pickling import MIME_TYPE_PICKLE
from aredun.values.previews.machine import Budget, PreviewMachine
from aredun.values.previews.stubs import Global, OpaqueKey, OtherFormat, PreviewZone, Stub, Unreadable

if TYPE_CHECKING:
    from collections.abc import Iterator

_MAX_DEPTH = 60
_MAX_NODES = 1_100_000
_MAX_CHARACTERS = 8_000_000
_MAX_TEXT = 10_000
_DEFAULT_INT_DIGITS = 4300
_BRACKETS: dict[Any, tuple[str, str]] = {
    list: ("[", "]"),
    tuple: ("(", ")"),
    set: ("{", "}"),
    frozenset: ("frozenset({", "})"),
    dict: ("{", "}"),
    OrderedDict: ("OrderedDict({", "})"),
}


def preview_value(type_name: str, value_format: str, data: bytes) -> Any:
    """
    Read a stored value to show it, importing nothing and running nothing of what it names.

    Parameters
    ----------
    type_name : str
        The value's type, as the column `value.type` has it.
    value_format : str
        The MIME type of the data.
    data : bytes
        The stored bytes, whoever wrote them.

    Returns
    -------
    Any
        Plain Python data as it is, and a stand-in for everything else. Its `repr` is what is shown: redun's
        text for Python's data and redun's own classes, `Name(argument, attribute=value)` for other classes,
        `Unpicklable('reason')` for what cannot be read. Never raises, nor does its `repr`.
    """
    if value_format != MIME_TYPE_PICKLE:
        return OtherFormat(type_name, len(data))
    try:
        value = PreviewMachine(bytes(data), Budget(len(data))).load()
    except Exception as error:
        # Damaged or hostile bytes can fail in any way; none may keep the rest from being shown.
        return Unreadable(error)
    return value if _is_tame(value) else _BoundedPreview(value)


class _BoundedPreview:
    """A value whose own text would be endless, too deep or too long, shown as far as is sensible."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __repr__(self) -> str:
        return _BoundedWriter().write(self.value)


def _get_max_bits() -> int:
    return int((sys.get_int_max_str_digits() or _DEFAULT_INT_DIGITS) * 3.3)


def _get_parts(value: Any) -> list[Any] | None:
    """List what the text of a value is made of, or None if it is a leaf."""
    kind = type(value)
    if kind is dict or kind is OrderedDict:
        return [*value.keys(), *value.values()]
    if kind in _BRACKETS:
        return list(value)
    if kind is Stub:
        parts: list[Any] = value.get_parts()
        return parts
    if kind is OpaqueKey:
        return [value.value]
    if kind is PreviewZone:
        return [value.stub]
    if kind is datetime.datetime or kind is datetime.time:
        return None if value.tzinfo is None else [value.tzinfo]
    return None


def _is_tame(value: Any) -> bool:
    """Tell whether a `repr` ends soon: what is shared counts again, what contains itself is too deep."""
    nodes = characters = 0
    max_bits = _get_max_bits()
    stack: list[tuple[Any, int]] = [(value, 0)]
    while stack:
        item, depth = stack.pop()
        nodes += 1
        kind = type(item)
        if kind is str or kind is bytes or kind is bytearray:
            characters += len(item)
        elif kind is int:
            if item.bit_length() > max_bits:
                return False
            characters += item.bit_length() >> 2
        elif kind is decimal.Decimal:
            characters += sys.getsizeof(item)
        elif kind is Global:
            characters += len(item.module) + len(item.name)
        else:
            parts = _get_parts(item)
            if parts is not None:
                if depth >= _MAX_DEPTH or nodes + len(stack) + len(parts) > _MAX_NODES:
                    return False
                stack.extend((part, depth + 1) for part in parts)
                if kind is Stub:
                    characters += len(item._preview_global.name) + sum(map(len, item._preview_state))
        if characters > _MAX_CHARACTERS:
            return False
    return True


class _BoundedWriter:
    """Writes a value within a limit of characters, levels and repetitions."""

    def __init__(self) -> None:
        self._chunks: list[str] = []
        self._left = _MAX_TEXT
        self._open: set[int] = set()

    def write(self, value: Any) -> str:
        """Return the text."""
        self._write(value, 0)
        return "".join(self._chunks)

    def _put(self, text: str) -> bool:
        """Write a piece; tells whether there is room for more."""
        if self._left > 0:
            self._chunks.append(text if len(text) <= self._left else text[: self._left] + "...")
            self._left -= len(text)
        return self._left > 0

    def _write(self, value: Any, depth: int) -> None:
        if self._left <= 0:
            return
        kind = type(value)
        if kind is OpaqueKey:
            value, kind = value.value, type(value.value)
        if kind is str or kind is bytes or kind is bytearray:
            self._put(repr(value[: self._left]))
        elif kind is int and value.bit_length() > _get_max_bits():
            self._put(f"<int of {value.bit_length()} bits>")
        elif kind is datetime.datetime or kind is datetime.time:
            self._put(str(value.replace(tzinfo=None)))
        elif kind is PreviewZone or _get_parts(value) is None:
            self._put(f"{type(value).__name__}()" if kind is PreviewZone else repr(value))
        else:
            opening, closing = self._get_brackets(value)
            if depth >= _MAX_DEPTH or id(value) in self._open:
                self._put(f"{opening}...{closing}")
                return
            self._open.add(id(value))
            self._put(opening)
            self._write_items(value, depth + 1)
            self._put(",)" if kind is tuple and len(value) == 1 else closing)
            self._open.discard(id(value))

    @staticmethod
    def _get_brackets(value: Any) -> tuple[str, str]:
        kind = type(value)
        if kind is Stub:
            return f"{value._preview_global.name}(", ")"
        return _BRACKETS[kind]

    def _write_items(self, value: Any, depth: int) -> None:
        for index, (label, item) in enumerate(self._iter_items(value)):
            if not self._put(", " if index else ""):
                return
            if type(label) is str:
                self._put(label)
            elif label is not None:
                self._write(label[0], depth)
                self._put(": ")
            self._write(item, depth)

    @staticmethod
    def _iter_items(value: Any) -> Iterator[tuple[str | tuple[Any] | None, Any]]:
        """Yield items with what is written before each: the name of an attribute, or a key in a tuple."""
        if type(value) is Stub:
            yield from ((None, item) for item in (*value._preview_args, *value._preview_items))
            yield from (((key,), item) for key, item in value._preview_pairs.items())
            yield from ((f"{name}=", item) for name, item in value._preview_state.items())
        elif isinstance(value, dict):
            yield from (((key,), item) for key, item in value.items())
        else:
            yield from ((None, item) for item in value)
