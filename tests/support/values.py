"""Values for differential tests: the same ones built of aredun's classes and of redun's."""

from __future__ import annotations

import datetime
import decimal
import enum
import sys
from collections import OrderedDict, namedtuple
from dataclasses import dataclass
from typing import Any

import redun
import redun.expression
import redun.file
import redun.handle
import redun.scheduler
import redun.value
from hypothesis import strategies as st

import aredun.values
import aredun.values.expressions
import aredun.values.file_kinds

redun_task_module: Any = sys.modules["redun.task"]
redun_registry: Any = redun.value.get_type_registry()
registry = aredun.values.get_type_registry()


class Color(enum.Enum):
    """An enumeration as users have them."""

    RED = 1
    BLUE = "b"


Point = namedtuple("Point", "x y")


@dataclass
class Sample:
    """A dataclass as users have them."""

    name: Any
    reads: Any


def plain_function(x: int) -> int:
    """Stand for a function that is passed to a task."""
    return x + 1


keys = st.one_of(st.text(max_size=8), st.integers(), st.booleans(), st.none(), st.binary(max_size=4))
leaves = st.one_of(
    keys,
    st.floats(allow_nan=False),
    st.complex_numbers(allow_nan=False),
    st.text(),
    st.binary(),
    st.datetimes(),
    st.datetimes(timezones=st.just(datetime.UTC)),
    st.dates(),
    st.timedeltas(),
    st.decimals(allow_nan=False),
    st.fractions(),
    st.uuids(),
    st.sampled_from(Color),
    st.sampled_from([int, len, Color, plain_function, decimal.Decimal]),
    st.builds(ValueError, st.text()),
    st.binary().map(bytearray),
)


def nest(items: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Build containers, named tuples and dataclasses of the given items."""
    return st.recursive(
        items,
        lambda inner: st.one_of(
            st.lists(inner, max_size=5),
            st.lists(inner, max_size=3).map(tuple),
            st.dictionaries(keys, inner, max_size=4),
            st.dictionaries(keys, inner, max_size=4).map(OrderedDict),
            st.builds(Point, inner, inner),
            st.builds(Sample, inner, inner),
            st.tuples(inner).map(lambda pair: [pair[0], pair[0], (pair[0],)]),
        ),
        max_leaves=12,
    )


builtin_values = st.one_of(
    nest(leaves),
    st.sets(st.integers()),
    st.sets(st.text()),
    st.frozensets(st.integers(), max_size=1),
    st.sets(st.tuples(st.integers(), st.text())),
)

PAIRED_FILES = [
    "File",
    "IFile",
    "FileSet",
    "IFileSet",
    "Dir",
    "IDir",
    "ContentFileSet",
    "ContentDir",
]
PAIRED_STAGINGS = ["StagingFile", "IStagingFile"]


@dataclass
class Pair:
    """One value twice: of aredun's classes and of redun's."""

    ours: Any
    theirs: Any


def _file(kind: str, path: str) -> Pair:
    return Pair(getattr(aredun.values.file_kinds, kind)(path), getattr(redun.file, kind)(path))


def _staging(kind: str, local: str, remote: str) -> Pair:
    ours = getattr(aredun.values.file_kinds, kind)
    return Pair(ours(local, remote), getattr(redun.file, kind)(local, remote))


def _handle(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Pair:
    return Pair(aredun.values.Handle(name, *args, **kwargs), redun.handle.Handle(name, *args, **kwargs))


def _call(name: str, args: list[Pair], kwargs: dict[str, Pair], options: dict[str, Any]) -> Pair:
    return Pair(
        aredun.values.TaskExpression(name, *_split(args, kwargs, "ours"), task_options=options),
        redun.expression.TaskExpression(name, *_split(args, kwargs, "theirs"), task_options=options),
    )


def _scheduler_call(name: str, args: list[Pair], kwargs: dict[str, Pair]) -> Pair:
    return Pair(
        aredun.values.SchedulerExpression(name, *_split(args, kwargs, "ours")),
        redun.expression.SchedulerExpression(name, *_split(args, kwargs, "theirs")),
    )


def _split(args: list[Pair], kwargs: dict[str, Pair], side: str) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return tuple(getattr(arg, side) for arg in args), {key: getattr(arg, side) for key, arg in kwargs.items()}


def _item(call: Pair, key: Any) -> Pair:
    return Pair(call.ours[key], call.theirs[key])


def _sum(call: Pair, other: Pair) -> Pair:
    return Pair(call.ours + other.ours, call.theirs + other.theirs)


def _error(message: str) -> Pair:
    error = ValueError(message)
    return Pair(
        aredun.values.ErrorValue(error, aredun.values.Traceback(error, [])),
        redun.scheduler.ErrorValue(error, redun.scheduler.Traceback(error, [])),
    )


paths = st.text(st.characters(codec="ascii", exclude_categories=["Cc"]), min_size=1, max_size=6).map(
    lambda name: "/nowhere/" + "".join(c for c in name if c.isalnum())
)
names = st.from_regex(r"\A[a-z]{1,5}\Z")
plain_pairs = st.integers() | st.text(max_size=5)
value_pairs: st.SearchStrategy[Pair] = st.one_of(
    plain_pairs.map(lambda value: Pair(value, value)),
    st.builds(_file, st.sampled_from(PAIRED_FILES), paths),
    st.builds(_staging, st.sampled_from(PAIRED_STAGINGS), paths, paths),
    st.builds(_handle, names, st.tuples(plain_pairs), st.dictionaries(names, plain_pairs, max_size=2)),
    st.builds(_error, st.text(max_size=5)),
    st.sampled_from(["CSE", "BACKEND"]).map(
        lambda name: Pair(aredun.values.CacheScope(name), redun_task_module.CacheScope(name))
    ),
)
_options = st.fixed_dictionaries({}, optional={"memory": st.integers(), "executor": st.text(max_size=4)})
call_pairs = st.builds(
    _call, names, st.lists(value_pairs, max_size=2), st.dictionaries(names, value_pairs, max_size=2), _options
)
expression_pairs: st.SearchStrategy[Pair] = st.one_of(
    call_pairs,
    st.builds(
        _scheduler_call,
        names,
        st.lists(value_pairs, max_size=2),
        st.dictionaries(names, value_pairs, max_size=2),
    ),
    st.builds(_item, call_pairs, plain_pairs),
    st.builds(_sum, call_pairs, value_pairs),
    st.builds(_call, names, st.lists(call_pairs, max_size=2), st.just({}), _options),
    plain_pairs.map(
        lambda value: Pair(aredun.values.ValueExpression(value), redun.expression.ValueExpression(value))
    ),
    call_pairs.map(lambda call: Pair(aredun.values.quote(call.ours), redun.expression.quote(call.theirs))),
)
leaf_pairs = value_pairs | expression_pairs


def _zip(build: Any, pairs: list[Pair]) -> Pair:
    return Pair(build([pair.ours for pair in pairs]), build([pair.theirs for pair in pairs]))


def _zip_dict(pairs: dict[str, Pair]) -> Pair:
    return Pair(
        {key: pair.ours for key, pair in pairs.items()}, {key: pair.theirs for key, pair in pairs.items()}
    )


nested_pairs: st.SearchStrategy[Pair] = st.recursive(
    leaf_pairs,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda pairs: _zip(list, pairs)),
        st.lists(inner, max_size=3).map(lambda pairs: _zip(tuple, pairs)),
        st.dictionaries(names, inner, max_size=3).map(_zip_dict),
        st.lists(inner, min_size=2, max_size=2).map(lambda pairs: _zip(lambda xy: Point(*xy), pairs)),
        st.lists(inner, min_size=2, max_size=2).map(lambda pairs: _zip(lambda xy: Sample(*xy), pairs)),
        inner.map(lambda pair: _zip(lambda x: [x[0], {"again": x[0]}, (x[0],)], [pair])),
    ),
    max_leaves=8,
)


def make_pair(func: Any, **options: Any) -> tuple[aredun.values.TaskValue, Any]:
    """Make a task of both engines from one function."""
    names = ("name", "namespace", "version", "compat", "script", "hash_includes", "source")
    own = {name: options.pop(name) for name in names if name in options}
    return (
        aredun.values.TaskValue(func, task_options_base=dict(options), **own),
        redun_task_module.Task(func, task_options_base=dict(options), **own),
    )
