"""Reads a stored value as a preview, and writes within limits what has an endless text."""

from __future__ import annotations

import datetime
import decimal
import sys
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from aredun.formats.describe import BRACKETS, MAX_DEPTH, Shown, TextWriter, get_max_bits
from aredun.values.pickling import MIME_TYPE_PICKLE
from aredun.values.previews.machine import Budget, PreviewMachine
from aredun.values.previews.stubs import Global, OpaqueKey, PreviewZone, Stub, show_unreadable

if TYPE_CHECKING:
    from collections.abc import Iterator

_MAX_NODES = 1_100_000
_MAX_CHARACTERS = 8_000_000


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
        return Shown(f"{type_name}(size={len(data)})")
    try:
        value = PreviewMachine(bytes(data), Budget(len(data))).load()
    except Exception as error:
        # Damaged or hostile bytes can fail in any way; none may keep the rest from being shown.
        return show_unreadable(error)
    return value if _is_tame(value) else _BoundedPreview(value)


class _BoundedPreview:
    """A value whose own text would be endless, too deep or too long, shown as far as is sensible."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __repr__(self) -> str:
        return _PreviewWriter().describe(self.value)


def _get_parts(value: Any) -> list[Any] | None:
    """List what the text of a value is made of, or None if it is a leaf."""
    kind = type(value)
    if kind is dict or kind is OrderedDict:
        return [*value.keys(), *value.values()]
    if kind in BRACKETS:
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
    max_bits = get_max_bits()
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
                if depth >= MAX_DEPTH or nodes + len(stack) + len(parts) > _MAX_NODES:
                    return False
                stack.extend((part, depth + 1) for part in parts)
                if kind is Stub:
                    characters += len(item._preview_global.name) + sum(map(len, item._preview_state))
        if characters > _MAX_CHARACTERS:
            return False
    return True


class _PreviewWriter(TextWriter):
    """Writes a preview with the stand-ins that are in it."""

    def get_brackets(self, value: Any) -> tuple[str, str] | None:
        """Return what stands around the items of a value, or of a stand-in."""
        kind = type(value)
        if kind is Stub:
            return f"{value._preview_global.name}(", ")"
        if kind is OpaqueKey:
            return "", ""
        if kind is OrderedDict and value:
            return "OrderedDict({", "})"
        return super().get_brackets(value)

    def iter_items(self, value: Any) -> Iterator[tuple[str | tuple[Any] | None, Any]]:
        """Yield items with what is written before each: the name of an attribute, or a key in a tuple."""
        if type(value) is Stub:
            yield from super().iter_items([*value._preview_args, *value._preview_items])
            yield from super().iter_items(value._preview_pairs)
            yield from ((f"{name}=", item) for name, item in value._preview_state.items())
        else:
            yield from super().iter_items([value.value] if type(value) is OpaqueKey else value)

    def show(self, value: Any) -> str:
        """Return the text of a value without items; a time zone may be endless."""
        if type(value) in (datetime.datetime, datetime.time):
            return str(value.replace(tzinfo=None))
        return "PreviewZone()" if type(value) is PreviewZone else super().show(value)
