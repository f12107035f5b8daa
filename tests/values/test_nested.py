"""Nested values are walked in redun's order."""

from __future__ import annotations

from collections import Counter, OrderedDict, defaultdict
from dataclasses import InitVar, dataclass, field
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

import attrs
import pydantic
import pydantic.dataclasses
import pytest
import redun.utils
from hypothesis import given, settings

from aredun import Scheduler, task
from aredun.values.nested import iter_nested_value, map_in_steps, map_nested_value
from tests.support.values import Point, builtin_values, leaves, nest, redun_registry, registry

if TYPE_CHECKING:
    from collections.abc import Iterator


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


@settings(max_examples=25)
@given(nest(leaves))
def test_mapping_in_steps_makes_the_same(value: Any) -> None:
    many = [[value] * 33, dict.fromkeys(range(33), value), (value, {"key": list(range(40))})]
    met: list[str] = []
    made: list[Any] = []

    def meet(leaf: Any) -> str:
        met.append(repr(leaf))
        return met[-1]

    def take_steps() -> Iterator[None]:
        made.append((yield from map_in_steps(meet, many)))

    assert len(list(take_steps())) >= 66
    in_steps = list(met)
    met.clear()
    assert repr(made[0]) == repr(map_nested_value(meet, many))
    assert met == in_steps


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


@dataclass
class Span:
    """A dataclass whose constructor changes what it is given, and takes more than it keeps."""

    start: int
    one_based: InitVar[bool] = True

    def __post_init__(self, one_based: bool) -> None:
        self.start -= one_based
        self.note = "made"


class Spot(NamedTuple("_Spot", [("x", int), ("y", int)])):
    """A named tuple whose constructor changes what it is given."""

    def __new__(cls, x: int, y: int) -> Spot:
        return super().__new__(cls, x + 99, y)


@dataclass(frozen=True, slots=True)
class Slots:
    """A frozen dataclass with slots, one of them no argument."""

    a: int
    b: int = field(init=False, default=10)


@pydantic.dataclasses.dataclass(frozen=True)
class Whole:
    """A dataclass that is checked by pydantic."""

    n: int


@dataclass
class Half:
    """A dataclass with a field that nobody has set."""

    now: int = 1
    later: int = field(init=False)


@dataclass(eq=False)
class Tagged(dict[str, Any]):
    """A dict that is a dataclass too."""

    content: InitVar[dict[str, Any]]
    label: str

    def __post_init__(self, content: dict[str, Any]) -> None:
        self.update(content)


T = TypeVar("T")


@dataclass(kw_only=True)
class Boxed(Generic[T]):
    """A generic dataclass, which has more in its `__dict__` than its fields."""

    content: T
    more: list[Any] = field(default_factory=list)


@dataclass
class Computed:
    """A dataclass that computes one of its fields, and something beside them."""

    a: int
    b: int = field(init=False)
    c: int = 3

    def __post_init__(self) -> None:
        self.b = self.a if isinstance(self.a, int) else 1
        self.beside = "x"


@attrs.define
class Defined:
    """A class of attrs, with slots."""

    a: int
    b: list[int]


class Model(pydantic.BaseModel):
    """A model of pydantic."""

    a: int
    b: list[int]


class Text(str):
    """A str with something beside its text."""


class Loud(Exception):
    """An error, which redun takes for a leaf."""


@dataclass(frozen=True)
class Fixed:
    """A frozen dataclass such as redun can pass."""

    a: Any
    b: int = 2


RECORDS: list[Any] = [
    Fixed(1),
    Fixed(Fixed([1])),
    Point(1, [2]),
    Boxed[int](content=1, more=[Fixed(2)]),
    Computed(1),
    defaultdict(list, a=[1]),
    OrderedDict(b=1, a=2),
    Counter("aab"),
    Defined(1, [2]),
    Model(a=1, b=[2]),
    Text("x"),
    Loud("y"),
]


def test_mapping_a_frozen_dataclass() -> None:
    mapped = map_nested_value(lambda leaf: leaf + 1, Frozen(1))
    assert (mapped.a, mapped.b) == (2, 4)


@dataclass
class Region:
    """One that its constructor makes of what it is given."""

    start: int
    root: InitVar[str]

    def __post_init__(self, root: str) -> None:
        self.start -= len(root)


@dataclass(frozen=True, slots=True)
class Slotted:
    """One without a dict, which refuses to be set."""

    lines: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        object.__setattr__(self, "lines", [*self.lines, "created"])


class Pair(NamedTuple):
    """The items of the one below."""

    a: int
    b: int


class Twice(Pair):
    """A named tuple that is made of one argument and holds more than its items."""

    def __new__(cls, a: int) -> Twice:
        made = super().__new__(cls, a, a)
        made.note = "kept"
        return made

    note: str


@task(namespace="nested")
def same(value: Any) -> Any:
    """Return what it is given."""
    return value


async def test_values_stay_as_they_are_when_they_are_passed(scheduler: Scheduler) -> None:
    values = [Region(100, "/"), Slotted(["a"]), Twice(7)]
    for _ in ("computed", "cached"):
        for value in values:
            assert await scheduler.run(same(value)) == value
    assert map_nested_value(lambda leaf: leaf, values[2]).__dict__ == {"note": "kept"}


def test_a_record_of_which_nothing_changes_is_the_same_object() -> None:
    values = [Frozen(1), Spot(1, 2), Span(5), Slots(1), Whole(7), Tagged({"a": 1}, "tag")]
    assert all(map_nested_value(lambda leaf: leaf, value) is value for value in values)
    [first, again] = map_nested_value(lambda leaf: leaf, [values[0], values[0]])
    assert first is values[0]
    assert again == first
    assert again is not first, "pickle would write a reference, which redun's hashes know nothing of"


def test_no_constructor_is_called_for_a_record_with_other_parts() -> None:
    def add_one(leaf: Any) -> Any:
        return leaf + 1 if isinstance(leaf, int) else leaf

    span = map_nested_value(add_one, Span(5))
    assert (span.start, span.note) == (5, "made"), "4, and 1 more"
    spot = map_nested_value(add_one, Spot(1, 2))
    assert (type(spot), tuple(spot)) == (Spot, (101, 3))
    slots = map_nested_value(add_one, Slots(1))
    assert (slots.a, slots.b) == (2, 11)
    assert map_nested_value(add_one, Whole(7)).n == 8
    whole = map_nested_value(add_one, Half())
    assert not hasattr(whole, "later")
    tagged = map_nested_value(str.upper, Tagged({"a": "x"}, "tag"))
    assert (dict(tagged), tagged.label) == ({"a": "x"}, "TAG")


@pytest.mark.parametrize("value", RECORDS, ids=lambda value: type(value).__name__)
def test_what_is_passed_hashes_as_in_redun(value: Any) -> None:
    def swap(leaf: Any) -> Any:
        return (leaf, 1) if isinstance(leaf, int) else leaf

    for shape in (value, [value, value], {"a": (value, 1), "b": [value]}):
        for change in (lambda leaf: leaf, swap):
            ours = map_nested_value(change, shape)
            theirs = redun.utils.map_nested_value(change, shape)
            assert registry.get_hash(ours) == redun_registry.get_hash(theirs)
            assert registry.serialize(ours) == redun_registry.serialize(theirs)
