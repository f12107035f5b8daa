"""Nested values are walked in redun's order."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
import redun.utils
from hypothesis import given

from aredun.nested import iter_nested_value, map_nested_value
from tests.support.values import builtin_values, leaves, nest


@given(builtin_values)
def test_leaves_are_those_of_redun_in_its_order(value: Any) -> None:
    ours = list(iter_nested_value(value))
    theirs = list(redun.utils.iter_nested_value(value))
    assert len(ours) == len(theirs)
    assert all(one is other for one, other in zip(ours, theirs, strict=True))


@given(nest(leaves))
def test_mapping_keeps_the_shape(value: Any) -> None:
    ours = map_nested_value(repr, value)
    assert repr(ours) == repr(redun.utils.map_nested_value(repr, value))
    assert map_nested_value(lambda leaf: leaf, value) == value


def test_a_value_that_contains_itself_is_refused() -> None:
    loop: list[Any] = [1]
    loop.append({"again": loop})
    with pytest.raises(ValueError, match="contains itself"):
        list(iter_nested_value(loop))


def test_a_value_that_is_shared_is_walked_each_time() -> None:
    shared = [1, 2]
    assert list(iter_nested_value([shared, shared])) == [2, 1, 2, 1]


def test_depth_is_no_limit() -> None:
    value: Any = 7
    for _ in range(3000):
        value = [value]
    assert list(iter_nested_value(value)) == [7]


@dataclass(frozen=True)
class Frozen:
    """A frozen dataclass with a field that is not an argument."""

    a: int
    b: int = field(init=False, default=3)


def test_mapping_a_frozen_dataclass() -> None:
    mapped = map_nested_value(lambda leaf: leaf + 1, Frozen(1))
    assert (mapped.a, mapped.b) == (2, 4)
