"""Tags as text, and the multimap that holds them, beside redun's."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redun import tags as redun_tags
from redun.utils import MultiMap as RedunMultiMap

from aredun.errors import UsageError
from aredun.formats.tag_syntax import (
    ANY_VALUE,
    CONTEXT_KEY,
    DOC_KEY,
    PROJECT_KEY,
    USER_KEY,
    VERSION_KEY,
    check_tag_value,
    format_tag_key_value,
    format_tag_value,
    parse_tag_key_value,
    parse_tag_value,
)
from aredun.recording.multimap import MultiMap

TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
TEXTS = [
    "",
    "a",
    "1",
    "-2.5",
    "1e3",
    "true",
    "null",
    '"1"',
    '["a", 1]',
    '{"b": [2]}',
    "a b",
    "True",
    "x=y",
    "1_0",
]


@pytest.mark.parametrize("text", TEXTS)
def test_parse_as_redun(text: str) -> None:
    assert parse_tag_value(text) == redun_tags.parse_tag_value(text)
    assert parse_tag_key_value(f"key={text}") == redun_tags.parse_tag_key_value(f"key={text}")


@given(JSON_VALUES)
def test_format_as_redun_and_read_back(value: Any) -> None:
    text = format_tag_value(value)
    if text != "":
        assert parse_tag_value(text) == value
    if not (isinstance(value, str) and value[:1] in '[{"') and str(value).lower() not in {
        *("nan", "inf", "infinity", "+nan", "-nan", "+inf", "-inf", "+infinity", "-infinity"),
    }:
        # redun fails on a string that begins like JSON, and takes some words for numbers that JSON has not.
        assert text == redun_tags.format_tag_value(value)
        assert format_tag_key_value("key", value, 20) == redun_tags.format_tag_key_value("key", value, 20)


def test_numbers_that_json_has_not_are_words() -> None:
    for word in ("nan", "inf", "-Infinity", "1e999"):
        assert parse_tag_value(word) == word
        assert format_tag_value(word) == word


def test_strings_that_begin_like_json() -> None:
    for text in ('"', "[1", "{x}"):
        assert format_tag_value(text) != text
        assert parse_tag_value(format_tag_value(text)) == text


def test_key_alone() -> None:
    assert parse_tag_key_value("key", value_required=False) == ("key", ANY_VALUE)


@pytest.mark.parametrize(
    ("text", "message"),
    [("=1", "has no key"), ("", "has no key"), ("key", "has no value"), ("k=[1", "not valid")],
)
def test_malformed_pairs(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        parse_tag_key_value(text)
    assert "\n" not in str(caught.value)


def test_keys_are_reduns() -> None:
    ours = (VERSION_KEY, PROJECT_KEY, DOC_KEY, USER_KEY, CONTEXT_KEY)
    assert ours == (
        redun_tags.VERSION_KEY,
        redun_tags.PROJECT_KEY,
        redun_tags.DOC_KEY,
        redun_tags.USER_KEY,
        redun_tags.CONTEXT_KEY,
    )


def test_values_become_what_a_database_returns() -> None:
    assert check_tag_value({4: (1, 2), 3: None}) == {"4": [1, 2], "3": None}
    with pytest.raises(UsageError, match="is not JSON"):
        check_tag_value({1, 2})
    with pytest.raises(UsageError, match="NUL"):
        check_tag_value([{"a\0": 1}])
    with pytest.raises(UsageError, match="half a character"):
        check_tag_value(["\ud800"])
    assert check_tag_value("\\u0000 \U0001f600") == "\\u0000 \U0001f600"


PAIRS = st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 3)), max_size=8)


@given(PAIRS, PAIRS)
def test_multimap_as_redun(first: list[tuple[str, int]], second: list[tuple[str, int]]) -> None:
    ours, theirs = MultiMap(first), RedunMultiMap(first)
    assert list(ours) == list(ours.items()) == list(theirs)
    assert len(ours) == len(theirs)
    assert repr(ours) == repr(theirs)
    assert list(ours.keys()) == list(theirs.keys())
    assert list(ours.values()) == list(theirs.values())
    assert ours.as_dict() == theirs.as_dict()
    for key, value in second:
        assert (key in ours) == (key in theirs)
        assert ours.get(key) == theirs.get(key)
        assert ours.has_item(key, value) == theirs.has_item(key, value)
    other = RedunMultiMap(second)
    same = theirs == other
    assert (ours == other) == (other == ours) == same
    assert (ours == MultiMap(second)) == (ours == second) == (ours == other.as_dict()) == same
    ours.add("z", 9)
    assert ours["z"] == [9]


def test_multimap_of_any_json() -> None:
    pairs: list[tuple[str, Any]] = [("a", None), ("a", {"x": 1}), ("a", 1), ("a", "text")]
    assert MultiMap(pairs) == MultiMap(reversed(pairs))
    assert MultiMap(pairs) != MultiMap(pairs[:3])
    assert MultiMap(pairs) != 7
    assert MultiMap(pairs).get("b", "nothing") == "nothing"
