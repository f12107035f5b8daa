"""The type registry and expressions agree with redun's on every value."""

from __future__ import annotations

import datetime
import inspect
import sys
from typing import Any

import pytest
import redun
import redun.file
import redun.scheduler
import redun.utils
import redun.value
from hypothesis import given

import aredun.values
from aredun.errors import InvalidValueError, UnknownTypeError
from aredun.recording.call_rows import find_upstream_calls
from aredun.values import (
    File,
    FileCache,
    Function,
    ProxyValue,
    Set,
    TaskExpression,
    Value,
    is_expression,
    is_file,
    is_handle,
    is_task,
    pickle_dumps,
)
from tests.support.values import (
    Color,
    Pair,
    builtin_values,
    make_pair,
    nested_pairs,
    plain_function,
    redun_registry,
    registry,
)


@given(builtin_values)
def test_builtins_are_stored_as_redun_stores_them(value: Any) -> None:
    assert registry.get_hash(value) == redun_registry.get_hash(value)
    assert registry.serialize(value) == redun_registry.serialize(value)
    assert registry.get_type_name(type(value)) == redun_registry.get_type_name(type(value))
    assert registry.get_serialization_format(value) == redun_registry.get_serialization_format(value)
    data = registry.serialize(value)
    assert registry.get_hash(value, data) == registry.get_hash(value)
    loaded = registry.deserialize(registry.get_type_name(type(value)), data)
    assert registry.get_hash(loaded) == registry.get_hash(value) or "[" in repr(value)


@given(nested_pairs)
def test_values_of_redun_are_stored_as_it_stores_them(pair: Pair) -> None:
    assert registry.get_hash(pair.ours) == redun_registry.get_hash(pair.theirs)
    assert registry.serialize(pair.ours) == redun_registry.serialize(pair.theirs)
    ours, theirs = (type(side) for side in (pair.ours, pair.theirs))
    assert registry.get_type_name(ours) == redun_registry.get_type_name(theirs)


@given(nested_pairs)
def test_subvalues_come_in_the_order_of_redun(pair: Pair) -> None:
    ours = [(v.type_name, v.get_hash()) for v in registry.iter_subvalues(pair.ours)]
    assert ours == [(v.type_name, v.get_hash()) for v in redun_registry.iter_subvalues(pair.theirs)]


@given(nested_pairs)
def test_real_objects_of_redun_pass_through_our_registry(pair: Pair) -> None:
    assert registry.get_hash(pair.theirs) == redun_registry.get_hash(pair.theirs)
    assert registry.serialize(pair.theirs) == redun_registry.serialize(pair.theirs)
    theirs = type(pair.theirs)
    assert registry.get_type_name(theirs) == redun_registry.get_type_name(theirs)
    ours = [v.get_hash() for v in registry.iter_subvalues(pair.theirs)]
    assert ours == [v.get_hash() for v in redun_registry.iter_subvalues(pair.theirs)]


def test_type_names_are_those_of_redun() -> None:
    # Other tests define types of their own, under the names of their modules.
    for name in [name for name in redun_registry._type_name2value_type if name.startswith("redun.")]:
        found: Any = registry.parse_type_name(name)
        assert found.__module__.startswith("aredun"), name
        assert registry.get_type_name(found) == name
    for kind in (int, type(None), set, bool, Color, datetime.datetime, redun.file.File):
        assert registry.get_type_name(kind) == redun_registry.get_type_name(kind)
    assert registry.parse_type_name("builtins.NoneType") is type(None)
    assert registry.parse_type_name("decimal.Decimal").__name__ == "Decimal"
    with pytest.raises(UnknownTypeError, match="unknown type"):
        registry.parse_type_name("no.such.Type")


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (int, "3"),
        (float, "1.5"),
        (str, "x"),
        (bool, "True"),
        (bool, "false"),
        (Color, "RED"),
        (Color, "Color.BLUE"),
        (datetime.datetime, "2024-05-06 07:08"),
    ],
)
def test_arguments_are_parsed_as_redun_does(kind: type, text: str) -> None:
    assert registry.parse_arg(kind, text) == redun_registry.parse_arg(kind, text)


def test_arguments_that_are_values() -> None:
    assert registry.parse_arg(File, "/nowhere/a").path == "/nowhere/a"
    assert registry.parse_arg(type(plain_function), "tests.support.values.plain_function") is plain_function


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (bool, "maybe"),
        (Color, "GREEN"),
        (Color, "Other.RED"),
        (int, "x"),
        (type(plain_function), "nodots"),
        (type(plain_function), "no.such.function"),
    ],
)
def test_arguments_that_do_not_fit(kind: type, text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        registry.parse_arg(kind, text)


def test_functions() -> None:
    assert registry.get_hash(plain_function) == redun_registry.get_hash(plain_function)
    data = registry.serialize(plain_function)
    assert data == redun_registry.serialize(plain_function)
    assert registry.deserialize("builtins.function", data) is plain_function
    assert repr(Function(plain_function)) == "<function tests.support.values.plain_function>"
    gone = registry.deserialize("builtins.function", data.replace(b"plain_function", b"other_function"))
    with pytest.raises(ValueError, match="cannot be found"):
        gone()
    with pytest.raises(InvalidValueError, match="top level"):
        registry.get_hash(lambda: 1)


def test_sets_hash_in_sorted_order() -> None:
    assert Set({3, 1, 2}).get_hash() == redun_registry.get_hash({2, 3, 1})
    with pytest.raises(TypeError):
        registry.get_hash({1, "a"})


def test_own_value_types() -> None:
    class Reads:
        """A raw type with a proxy."""

    class ReadsType(ProxyValue):
        """Its proxy."""

        type = Reads
        type_name = "tests.Reads"

        def get_hash(self, data: bytes | None = None) -> str:
            return "reads"

    class MoreReads(Reads):
        """A subclass is handled by the same proxy."""

    assert registry.get_hash(MoreReads()) == "reads"
    assert registry.get_type(Reads) is ReadsType
    assert registry.get_type(int) is ProxyValue
    assert registry.get_type(int, use_default=False) is None


def test_values_in_files(tmp_path: Any) -> None:
    class Table(dict[str, int]):
        """A raw type that is stored in files."""

    class TableType(FileCache):
        """Its type."""

        type = Table
        base_path = str(tmp_path)

        def _serialize(self) -> bytes:
            return repr(dict(self.instance)).encode()

        @classmethod
        def _deserialize(cls, data: bytes) -> Any:
            return Table(a=len(data))

    path = registry.serialize(Table(a=1))
    assert registry.deserialize(registry.get_type_name(Table), path) == Table(a=8)
    File(path.decode()).remove()
    with pytest.raises(InvalidValueError, match="gone"):
        registry.deserialize(registry.get_type_name(Table), path)


def test_duck_typed_kinds() -> None:
    _, their_task = make_pair(plain_function)
    task, _ = make_pair(plain_function)
    for file in (File("a"), redun.File("a"), aredun.values.IFile("a"), redun.file.IFile("a")):
        assert is_file(file)
        assert not is_task(file)
    for other in (aredun.values.Dir("a"), redun.Dir("a"), "a", None):
        assert not is_file(other)
    assert is_task(task)
    assert is_task(their_task)
    assert is_task(their_task.partial(1))
    assert is_handle(aredun.values.Handle("h"))
    assert is_handle(redun.Handle("h"))
    assert is_expression(task(1))
    assert is_expression(their_task(1))


# Expressions ------------------------------------------------------------------------------------------


@given(nested_pairs)
def test_texts_are_those_of_redun(pair: Pair) -> None:
    if "Traceback object" not in repr(pair.theirs):
        assert repr(pair.ours) == repr(pair.theirs)


def test_operators_are_those_of_redun() -> None:
    ours, theirs = TaskExpression("t", (), {}), redun.expression.TaskExpression("t", (), {})
    operations = [
        "x == 1", "x != 1", "x < 1", "x <= 1", "x > 1", "x >= 1", "x + 1", "1 + x", "x - 1", "1 - x",
        "x * 2", "2 * x", "x / 2", "2 / x", "x & True", "True & x", "x | True", "True | x",
        "x[1]", "x['a']", "x.name", "x(1, k=2)", "x.run(1)[2] + x",
    ]  # fmt: skip
    for text in operations:
        one, other = eval(text, {"x": ours}), eval(text, {"x": theirs})
        assert pickle_dumps(one) == redun.utils.pickle_dumps(other), text
        assert registry.get_hash(one) == redun_registry.get_hash(other), text
        assert repr(one) == repr(other), text
        assert aredun.values.expressions.get_lazy_operation(one.func_name) is not None, text
    assert [repr(item) for item in ours[1:5:2]] == [repr(item) for item in theirs[1:5:2]]


def test_operations_do_what_they_say() -> None:
    for name, args, expected in (
        ("rsub", (1, 5), 4),
        ("div", (6, 3), 2),
        ("and", (0, 5), 0),
        ("ror", (7, 0), 7),
        ("call", (max, (1, 2), {}), 2),
        ("getattr", (File("a"), "path"), "a"),
        ("getitem", ({"k": 1}, "k"), 1),
    ):
        operation = aredun.values.expressions.get_lazy_operation(name)
        assert operation is not None
        assert operation(*args) == redun.expression.get_lazy_operation(name)(*args) == expected
    assert aredun.values.expressions.get_lazy_operation("no such") is None


async def test_what_expressions_refuse() -> None:
    call = TaskExpression("t", (), {})
    with pytest.raises(TypeError, match="truth value"):
        bool(call)
    with pytest.raises(TypeError, match="iterated"):
        list(call)
    with pytest.raises(TypeError, match="end"):
        call[1:]
    with pytest.raises(AttributeError):
        call.__fspath__  # noqa: B018
    assert len(list(TaskExpression("t", (), {}, length=2))) == 2


async def test_awaiting_goes_to_the_scheduler() -> None:
    async def evaluate(expression: Any) -> str:
        return f"evaluated {expression!r}"

    previous = aredun.values.expressions._awaiter
    aredun.values.expressions.set_expression_awaiter(evaluate)
    try:
        assert await TaskExpression("t", (1,), {}) == "evaluated t(1)"
        aredun.values.expressions.set_expression_awaiter(None)
        with pytest.raises(RuntimeError, match="running task"):
            await TaskExpression("t", (1,), {})
    finally:
        aredun.values.expressions.set_expression_awaiter(previous)


def test_upstreams_are_found_on_both_engines_expressions() -> None:
    for module in (aredun.values.expressions, redun.expression):
        first = module.TaskExpression("a", (), {})
        first.call_hash = "h1"
        second = module.TaskExpression("b", (first,), {})
        second.call_hash = "h2"
        pending = module.TaskExpression("c", (first,), {})
        wrapped = module.SchedulerExpression("s", (second,), {})
        wrapped.call_hash = "not followed"
        argument = {"k": [first["x"] + 1, (wrapped,)], "p": pending, "v": 3}
        assert find_upstream_calls(argument) == {"h1", "h2"}


def test_a_registry_of_redun_can_take_our_place() -> None:
    ours = {name for name, _ in inspect.getmembers(aredun.values.TypeRegistry, inspect.isfunction)}
    theirs = {name for name, _ in inspect.getmembers(redun.value.TypeRegistry, inspect.isfunction)}
    assert {name for name in theirs if not name.startswith("_")} <= ours


def test_a_bare_value_keeps_redun_defaults() -> None:
    class Marker(Value):
        """A value of a user."""

        def __getstate__(self) -> dict[str, Any]:
            return {}

    assert Marker.type_name == "tests.values.test_values.Marker"
    assert Marker().is_valid()
    assert list(Marker().iter_subvalues()) == []
    assert sys.modules[__name__].__name__ == __name__
