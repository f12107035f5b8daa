"""How tags are written on a command line and shown to people, as redun does it."""

from __future__ import annotations

import json
import math
import re
from typing import Any

from aredun.errors import UsageError
from aredun.formats.hashing import json_dumps

# Keys that redun gives a meaning to.
VERSION_KEY = "redun.version"
PROJECT_KEY = "project"
DOC_KEY = "doc"
USER_KEY = "user"
CONTEXT_KEY = "redun.context"

# Stands for "whatever value" in a parsed tag.
ANY_VALUE = object()

_LITERALS = {"true": True, "false": False, "null": None}


def parse_tag_value(text: str) -> Any:
    """
    Parse the value of a tag as it is written on a command line (mirrors redun's `parse_tag_value`).

    Parameters
    ----------
    text : str
        JSON, or a bare word; "" means null.

    Returns
    -------
    Any
        A JSON value; a word that is not a number, `true`, `false` or `null` is a string.

    Raises
    ------
    UsageError
        If the text begins like a JSON array, object or string and is not one.
    """
    if not text:
        return None
    if text[0] in '[{"':
        try:
            return check_tag_value(json.loads(text))
        except (json.JSONDecodeError, RecursionError) as error:
            raise UsageError(f"tag value {text!r} is not valid JSON ({error}): quote it as JSON") from None
    for convert in (int, float):
        try:
            number = convert(text)
        except ValueError:
            continue
        # JSON, and with it PostgreSQL, has no infinities and no NaN: such a word stays a word.
        return number if isinstance(number, int) or math.isfinite(number) else text
    return _LITERALS.get(text, text)


def parse_tag_key_value(text: str, value_required: bool = True) -> tuple[str, Any]:
    """
    Parse `key=value` (mirrors redun's `parse_tag_key_value`).

    Parameters
    ----------
    text : str
        The pair, or a key alone if that is allowed.
    value_required : bool
        False to allow a key alone.

    Returns
    -------
    tuple[str, Any]
        The key and its value; `ANY_VALUE` for a key alone.

    Raises
    ------
    UsageError
        If the key or a required value is missing, or the value is malformed.
    """
    key, equals, value = text.partition("=")
    if not key:
        raise UsageError(f"tag {text!r} has no key: write key=value")
    if equals:
        return key, parse_tag_value(value)
    if value_required:
        raise UsageError(f"tag {text!r} has no value: write {text}=value")
    return key, ANY_VALUE


def format_tag_value(value: Any) -> str:
    """
    Write the value of a tag so that `parse_tag_value` reads it back (mirrors redun's `format_tag_value`).

    Parameters
    ----------
    value : Any
        A JSON value.

    Returns
    -------
    str
        A bare word for a string that needs no quotes, JSON for all else.
    """
    if isinstance(value, str) and not re.match(r".*[ ,]", value) and _reads_back(value):
        return value
    return json.dumps(value, sort_keys=True)


def format_tag_key_value(key: str, value: Any, max_length: int = 50) -> str:
    """
    Write a tag as `key=value` (mirrors redun's `format_tag_key_value`).

    Parameters
    ----------
    key : str
    value : Any
        A JSON value.
    max_length : int
        Key and value are each cut to this many characters.

    Returns
    -------
    str
    """
    return f"{_trim(key, max_length)}={_trim(format_tag_value(value), max_length)}"


def check_tag_value(value: Any) -> Any:
    """
    Check that a value can be a tag's on both databases, and return it as a database gives it back.

    Parameters
    ----------
    value : Any
        A value of a tag.

    Returns
    -------
    Any
        The value after a round trip through JSON: tuples are lists, keys of objects are strings.

    Raises
    ------
    UsageError
        If the value is not JSON: another type, a number that is not finite, a text that no database stores.
    """
    try:
        text = json.dumps(value, allow_nan=False)
        normalised = json.loads(json_dumps(value))
    except (TypeError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        # NumPy's scalars have `item`, its arrays `tolist`.
        hint = "its .tolist()" if hasattr(value, "tolist") else "a JSON value"
        raise UsageError(f"tag value {_describe(value)} is not JSON ({reason}): give {hint}") from None
    # Both escapes are rare, so the whole value is seldom looked through.
    if ("\\u0000" in text or "\\ud" in text) and not _is_storable(normalised):
        raise UsageError(f"tag value {_describe(value)} holds a NUL or half a character: leave it out")
    return normalised


def is_storable_text(text: str) -> bool:
    """Tell whether both databases can store a text: it has no NUL and no surrogate that stands alone."""
    if "\0" in text:
        return False
    return text.isascii() or not any("\ud800" <= character <= "\udfff" for character in text)


def _is_storable(value: Any) -> bool:
    if isinstance(value, dict):
        return all(_is_storable(item) for pair in value.items() for item in pair)
    if isinstance(value, list):
        return all(map(_is_storable, value))
    return not isinstance(value, str) or is_storable_text(value)


def _reads_back(word: str) -> bool:
    try:
        return isinstance(parse_tag_value(word), str)
    except UsageError:
        return False


def _describe(value: Any) -> str:
    """Return the beginning of a value's `repr`, or its type if it has none."""
    try:
        text = repr(value)
    except Exception:
        return f"of type {type(value).__name__}"
    return _trim(" ".join(text.split()), 80)


def _trim(text: str, max_length: int) -> str:
    return text if len(text) <= max_length else f"{text[: max_length - 3]}..."
