"""What values look like in titles, tracebacks and messages: short, and whatever their `repr` does."""

from __future__ import annotations

import sys
from typing import Any

MAX_TEXT = 10_000
_MAX_DEPTH = 60
_DEFAULT_INT_DIGITS = 4300
_BRACKETS: dict[type, tuple[str, str]] = {
    list: ("[", "]"),
    tuple: ("(", ")"),
    set: ("{", "}"),
    frozenset: ("frozenset({", "})"),
    dict: ("{", "}"),
}


def describe(value: Any, max_length: int = MAX_TEXT) -> str:
    """
    Return the `repr` of a value, cut to a length.

    Of Python's own text, numbers and containers no more is written than is shown. Other objects are asked for
    their `repr`, which may take its time; see `aredun.workflow.texts` for what must not wait for it.

    Parameters
    ----------
    value : Any
        Any value.
    max_length : int
        Characters; of a longer text the last three are dots.

    Returns
    -------
    str
        For an object whose `repr` raises an error, `<Class>`.
    """
    writer = _Writer(max_length)
    writer.write(value, 0)
    text = "".join(writer.chunks)
    return text if len(text) <= max_length else text[: max_length - 3] + "..."


def describe_class(value: Any) -> str:
    """Return what is shown of a value that has no text: its class."""
    return f"<{type(value).__name__}>"


def describe_error(error: BaseException) -> str:
    """Return the class of an error and its message, if it has one."""
    try:
        message = str(error)
    except Exception:
        message = ""
    return f"{type(error).__name__}: {message}"


def shorten(text: str, length: int = 300) -> str:
    """Return the beginning of a text that may be anything, such as can be printed anywhere."""
    text = " ".join((text if len(text) <= length else f"{text[:length]}...").split())
    return text if text.isprintable() else "".join(map(_escape, text))


def _escape(sign: str) -> str:
    return sign if sign.isprintable() else repr(sign)[1:-1]


class Shown:
    """Something whose `repr` has been asked for.

    Parameters
    ----------
    text : str
        The text.
    """

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text


class _Writer:
    def __init__(self, max_length: int) -> None:
        self.chunks: list[str] = []
        self._left = max_length
        self._open: set[int] = set()

    def write(self, value: Any, depth: int) -> None:
        kind = type(value)
        if kind in (str, bytes, bytearray):
            self._put(repr(value[: max(self._left, 0) + 1]))
        elif kind is int and value.bit_length() > _get_max_bits():
            self._put(f"<int of {value.bit_length()} bits>")
        elif kind not in _BRACKETS or not value:
            self._put(_get_repr(value))
        elif depth >= _MAX_DEPTH or id(value) in self._open:
            self._put("...".join(_BRACKETS[kind]))
        else:
            self._open.add(id(value))
            self._write_items(value, depth + 1)
            self._open.discard(id(value))

    def _write_items(self, value: Any, depth: int) -> None:
        opening, closing = _BRACKETS[type(value)]
        self._put(opening)
        for index, item in enumerate(value):
            if self._left < 0:
                return
            if index:
                self._put(", ")
            self.write(item, depth)
            if type(value) is dict:
                self._put(": ")
                self.write(value[item], depth)
        self._put(",)" if type(value) is tuple and len(value) == 1 else closing)

    def _put(self, text: str) -> None:
        self.chunks.append(text)
        self._left -= len(text)


def _get_max_bits() -> int:
    return int((sys.get_int_max_str_digits() or _DEFAULT_INT_DIGITS) * 3.3)


def _get_repr(value: Any) -> str:
    try:
        return repr(value)
    except Exception:
        return describe_class(value)
