"""What values look like in titles, tracebacks and messages: short, and whatever their `repr` does."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_TEXT = 10_000
MAX_DEPTH = 60
_DEFAULT_INT_DIGITS = 4300
BRACKETS: dict[type, tuple[str, str]] = {
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
    return TextWriter(max_length).describe(value)


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


def cut_text(text: str, length: int = 4_000) -> str:
    """Return a text that JSON can carry, cut to a length: lone surrogates, which UTF-8 lacks, become `?`."""
    text = text if len(text) <= length else f"{text[: length - 1]}…"
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def _escape(sign: str) -> str:
    return sign if sign.isprintable() else repr(sign)[1:-1]


class Shown:
    """Stands for something by its text, which has been written already.

    Parameters
    ----------
    text : str
        The text.
    """

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text


class TextWriter:
    """Writes a value within a limit of characters, levels and repetitions.

    Parameters
    ----------
    max_length : int
        Characters; of a longer text the last three are dots.
    """

    def __init__(self, max_length: int = MAX_TEXT) -> None:
        self._max_length = self._left = max_length
        self._chunks: list[str] = []
        self._open: set[int] = set()

    def describe(self, value: Any) -> str:
        """Return the text of a value; call it once."""
        self._write(value, 0)
        text = "".join(self._chunks)
        return text if len(text) <= self._max_length else text[: self._max_length - 3] + "..."

    def get_brackets(self, value: Any) -> tuple[str, str] | None:
        """Return what stands around the items of a value; None for one without items."""
        brackets = BRACKETS.get(type(value))
        return brackets if brackets and value else None

    def iter_items(self, value: Any) -> Iterator[tuple[str | tuple[Any] | None, Any]]:
        """Yield items with what is written before each: a text, or a key in a tuple."""
        if isinstance(value, dict):
            return (((key,), item) for key, item in value.items())
        return ((None, item) for item in value)

    def show(self, value: Any) -> str:
        """Return the text of a value without items."""
        try:
            return repr(value)
        except Exception:
            return describe_class(value)

    def _write(self, value: Any, depth: int) -> None:
        kind = type(value)
        if kind in (str, bytes, bytearray):
            self._put(repr(value[: max(self._left, 0) + 1]))
        elif kind is int and value.bit_length() > get_max_bits():
            self._put(f"<int of {value.bit_length()} bits>")
        elif (brackets := self.get_brackets(value)) is None:
            self._put(self.show(value))
        elif depth >= MAX_DEPTH or id(value) in self._open:
            self._put("...".join(brackets))
        else:
            self._open.add(id(value))
            self._put(brackets[0])
            self._write_items(value, depth + 1)
            self._put(",)" if kind is tuple and len(value) == 1 else brackets[1])
            self._open.discard(id(value))

    def _write_items(self, value: Any, depth: int) -> None:
        for index, (label, item) in enumerate(self.iter_items(value)):
            if self._left < 0:
                return
            self._put(", " if index else "")
            if isinstance(label, tuple):
                self._write(label[0], depth)
                self._put(": ")
            elif label is not None:
                self._put(label)
            self._write(item, depth)

    def _put(self, text: str) -> None:
        self._chunks.append(text)
        self._left -= len(text)


def get_max_bits() -> int:
    """Return how large an integer Python writes out as text."""
    return int((sys.get_int_max_str_digits() or _DEFAULT_INT_DIGITS) * 3.3)
