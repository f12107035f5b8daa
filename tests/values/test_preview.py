"""Previews show what redun shows, and neither import nor run anything."""

from __future__ import annotations

import collections
import datetime
import decimal
import fractions
import os
import pathlib
import pickle
import pickletools
import subprocess
import sys
import time
import traceback
import uuid
import zoneinfo
from typing import Any

import pytest
import redun.expression
import redun.file
import redun.handle
import redun.scheduler
import redun.utils
from hypothesis import example, given
from hypothesis import strategies as st

from aredun.values import MIME_TYPE_PICKLE, preview_value
from aredun.values.error import ErrorValue, Traceback
from aredun.values.previews import read_failure
from tests.support.values import Color, Pair, Point, Sample, builtin_values, nested_pairs, redun_task_module


def preview(data: bytes) -> Any:
    """Preview a pickle."""
    return preview_value("tests.Type", MIME_TYPE_PICKLE, data)


def show(value: Any, protocol: int = 3) -> str:
    """Pickle a value and show its preview."""
    return repr(preview(pickle.dumps(value, protocol=protocol)))


def knows_classes(value: Any) -> bool:
    """Tell whether a text has parts that only an imported class can write."""
    text = repr(value)
    return not any(part in text for part in ("Sample(", "Point(", "Color", "<function", " object at "))


plain = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.text(),
        st.binary(),
        st.binary().map(bytearray),
        st.complex_numbers(allow_nan=False),
        st.datetimes(),
        st.datetimes(timezones=st.just(datetime.UTC)),
        st.dates(),
        st.times(),
        st.timedeltas(),
        st.decimals(),
        st.fractions(),
        st.uuids(),
        st.builds(ValueError, st.text()),
        st.builds(range, st.integers(-99, 99), st.integers(-99, 99)),
    ),
    lambda inner: st.one_of(
        st.lists(inner),
        st.lists(inner).map(tuple),
        st.dictionaries(st.text() | st.integers() | st.dates(), inner),
        st.dictionaries(st.text(), inner).map(collections.OrderedDict),
        st.frozensets(st.integers(), max_size=1),
        st.sets(st.text(), max_size=1),
    ),
    max_leaves=10,
)


@given(plain, st.integers(2, pickle.HIGHEST_PROTOCOL))
def test_python_data_is_shown_as_it_is(value: Any, protocol: int) -> None:
    # Up to protocol 3 a pickle does not keep the fold of a time.
    assert show(value, protocol) == repr(pickle.loads(pickle.dumps(value, protocol)))


@given(builtin_values.filter(knows_classes))
def test_stored_builtins_are_shown_as_they_are(value: Any) -> None:
    if not isinstance(value, set | frozenset):
        assert show(value) == repr(pickle.loads(pickle.dumps(value, protocol=3)))


@given(nested_pairs.filter(lambda pair: knows_classes(pair.theirs)))
def test_values_of_redun_are_shown_as_redun_shows_them(pair: Pair) -> None:
    assert repr(preview(redun.utils.pickle_dumps(pair.theirs))) == repr(pair.theirs)


EXAMPLES = [
    datetime.datetime(2024, 1, 2, tzinfo=zoneinfo.ZoneInfo("UTC")),
    datetime.datetime(2024, 1, 2, tzinfo=datetime.timezone(datetime.timedelta(hours=2), "X")),
    pathlib.PosixPath("/a/b"),
    pathlib.PurePosixPath("a"),
    pathlib.PosixPath(),
    collections.deque([1, 2]),
    collections.deque([1], maxlen=3),
    collections.defaultdict(int, a=1),
    collections.Counter("abbb"),
    uuid.UUID(int=7),
    fractions.Fraction(1, 3),
    decimal.Decimal("sNaN"),
    FileNotFoundError(2, "No such file", "name"),
    KeyError("k", 1),
    UnicodeDecodeError("utf8", b"x", 0, 1, "why"),
    slice(1, 2),
    int,
    len,
    2**100,
    "\ud800",
    [float("nan"), float("inf")],
    redun.scheduler.JobInfo("e", options={"a": 1}),
    redun_task_module.CacheCheckValid.SHALLOW,
    redun.handle.Handle("h", 1, namespace="n"),
]


@pytest.mark.parametrize("value", EXAMPLES, ids=repr)
def test_other_known_classes_are_shown_as_they_are(value: Any) -> None:
    assert show(value) == repr(value)


class Reduced:
    """Pickled as the call of a function."""

    def __init__(self, *call: Any) -> None:
        self.call = call

    def __reduce__(self) -> tuple[Any, ...]:
        function, *arguments = self.call
        return function, tuple(arguments)


def test_members_of_enums_that_were_pickled_by_name() -> None:
    """Python 3.11.0 to 3.11.3 writes `getattr(CacheScope, "CSE")`, all others `CacheScope("CSE")`."""
    member = redun_task_module.CacheScope.CSE
    for pickled in (Reduced(getattr, type(member), "CSE"), Reduced(type(member), "CSE")):
        assert show(pickled) == repr(member)
    assert show(Reduced(getattr, type(member), "mro")) == "<function redun.task.CacheScope.mro>"


def test_a_function_is_shown_by_name() -> None:
    data = redun.value.get_type_registry().serialize(test_a_function_is_shown_by_name)
    assert repr(preview(data)) == f"<function {__name__}.test_a_function_is_shown_by_name>"
    assert show([os.path.join]) == "[<function posixpath.join>]"


def test_unknown_classes_show_their_arguments_and_attributes() -> None:
    assert show(Point(1, [2])) == "Point(1, [2])"
    assert show(Sample("a", 3)) == "Sample(name='a', reads=3)"
    assert show(Reduced(Color, 1)) == "Color(1)"
    assert show([Sample, Color]) == (
        "[<class 'tests.support.values.Sample'>, <class 'tests.support.values.Color'>]"
    )

    class Listing(list):  # type: ignore[type-arg]  # any list
        """A list with attributes."""

    class Mapping(dict):  # type: ignore[type-arg]  # any dict
        """A dict of a user."""

    for name, kind in (("Listing", Listing), ("Mapping", Mapping)):
        kind.__qualname__ = name
        globals()[name] = kind
    listing = Listing([1, 2])
    listing.owner = "me"  # type: ignore[attr-defined]  # as users do
    assert show(listing) == "Listing([1, 2], owner='me')"
    assert show(Mapping(a=1)) == "Mapping({'a': 1})"


def test_attributes_and_items_of_a_preview_can_be_read() -> None:
    sample = preview(pickle.dumps(Sample("a", 3), protocol=3))
    assert (sample.name, sample.reads) == ("a", 3)
    assert preview(pickle.dumps(Point(1, 2), protocol=3))[1] == 2
    with pytest.raises(AttributeError, match="no attribute"):
        sample.other  # noqa: B018
    assert not hasattr(sample, "__setstate__")


def test_other_formats_are_not_read() -> None:
    assert repr(preview_value("tests.Table", "text/csv", b"a,b")) == "tests.Table(size=3)"


# Trust ------------------------------------------------------------------------------------------------

MARKER = "AREDUN_PREVIEW_WAS_TRICKED"


class Calls:
    """Pickles as a call."""

    def __init__(self, func: Any, *args: Any) -> None:
        self.call = (func, args)

    def __reduce__(self) -> Any:
        return self.call


def op_global(module: str, name: str) -> bytes:
    """Write the operation that names a global."""
    return f"c{module}\n{name}\n".encode()


SET_MARKER = f"__import__('os').environ[{MARKER!r}]='1'"
ID_CALL = b"X\x02\x00\x00\x00id\x85R."
HOSTILE = [
    pickle.dumps(Calls(eval, SET_MARKER), protocol=3),
    pickle.dumps(Calls(exec, SET_MARKER), protocol=0),
    pickle.dumps(Calls(os.putenv, MARKER, "1"), protocol=3),
    pickle.dumps(Calls(os.system, f"touch /tmp/{MARKER}"), protocol=4),
    op_global("os", "system") + b".",
    op_global("antigravity", "x") + b".",
    op_global("this", "d") + b")R.",
    op_global("builtins", "__import__") + b"X\x0b\x00\x00\x00antigravity\x85R.",
    op_global("builtins", "getattr")
    + op_global("os", "x")
    + b"X\x06\x00\x00\x00system\x86RX\x02\x00\x00\x00id\x85R.",
    op_global("functools", "partial") + op_global("os", "system") + b"\x85RX\x02\x00\x00\x00id\x85R.",
    op_global("operator", "attrgetter") + b"X\x06\x00\x00\x00system\x85R" + op_global("os", "x") + b"\x85R.",
    b"(S'id'\nios\nsystem\n.",
    b"(" + op_global("os", "system") + b"S'id'\no.",
    op_global("os", "system") + b"X\x02\x00\x00\x00id\x85\x81.",
    # A state for a class, or for a function, of this process.
    op_global("uuid", "UUID") + b"N}X\x08\x00\x00\x00__init__K\x01s\x86b.",
    op_global("aredun.values.previews.stubs", "Stub") + b"N}X\x08\x00\x00\x00__repr__K\x01s\x86b.",
    op_global("collections", "OrderedDict") + b")RN}X\x05\x00\x00\x00itemsK\x01s\x86b.",
    b"\x82\x01.",
    b"Pid\n.",
    b"K\x01Q.",
]


@pytest.mark.parametrize("data", HOSTILE, ids=[str(index) for index in range(len(HOSTILE))])
def test_hostile_pickles_do_nothing(data: bytes) -> None:
    modules = set(sys.modules)
    text = repr(preview(data))
    assert isinstance(text, str)
    assert set(sys.modules) == modules
    assert MARKER not in os.environ
    assert not pathlib.Path(f"/tmp/{MARKER}").exists()
    assert repr(uuid.UUID(int=0)).startswith("UUID(")
    assert show(Sample(1, 2)) == "Sample(name=1, reads=2)"


def op_text(text: str) -> bytes:
    """Write the operation that has a text."""
    data = text.encode()
    return b"X" + len(data).to_bytes(4, "little") + data


def op_bytes(data: bytes) -> bytes:
    """Write the operation that has bytes."""
    return b"B" + len(data).to_bytes(4, "little") + data


def share(make: bytes, times: int) -> bytes:
    """Write what repeats the last object, kept as number 0, in a list."""
    return b"](" + make + b"q\x00" + b"h\x00" * times + b"e."


HUGE = b"J\xff\xff\xff\x7f"
DOUBLE_LIST = b"0](h\x00h\x00eq\x00"
DOUBLE_TUPLE = b"0h\x00h\x00\x86q\x00"
ITSELF = b")\x81q\x00}" + op_text("a") + b"h\x00sb"
CALL = op_global("redun.expression", "TaskExpression") + b")\x81}" + op_text("args") + b"h\x00sb"
COLLIDING = b"".join(b"\x8a\x0a" + (k * (2**61 - 1)).to_bytes(10, "little") + b"N" for k in range(1, 30_000))
BYTE_ARRAYS = b"](" + op_global("builtins", "bytearray") + b"q\x00" + op_bytes(b"y" * 10_000) + b"q\x01"
BOMBS = {
    "memo index": b"Nr\xff\xff\xff\xff.",
    "memo index as text": b"Np4000000000\n.",
    "length of bytes": b"\x8e" + b"\xff" * 8,
    "length of a bytearray": b"\x96" + b"\xff" * 5 + b"\x00" * 3,
    "frame": b"\x95" + b"\xff" * 8,
    "bytearray of a size": op_global("builtins", "bytearray") + HUGE + b"\x85R.",
    "bytes of a size": op_global("builtins", "bytes") + HUGE + b"\x85R.",
    "repeated text": op_global("operator", "mul") + op_text("a") + HUGE + b"\x86R.",
    "power": op_global("builtins", "pow") + HUGE + HUGE + b"\x86R.",
    "list of a range": op_global("builtins", "list") + op_global("builtins", "range") + HUGE + b"\x85R\x85R.",
    "fraction": op_global("fractions", "Fraction") + op_text("1e999999999") + b"\x85R.",
    "number of a uuid": (
        op_global("uuid", "UUID")
        + b")\x81}"
        + op_text("int")
        + op_global("decimal", "Decimal")
        + op_text("1e999999999")
        + b"\x85Rsb."
    ),
    "shared lists": b"]q\x00" + DOUBLE_LIST * 60 + b".",
    "shared tuples as a key": b"})q\x00" + DOUBLE_TUPLE * 60 + b"K\x01s.",
    "shared text": share(op_text("x" * 10_000), 100_000),
    "shared name": share(op_global("m", "N" * 100_000), 100_000),
    "copied bytes": BYTE_ARRAYS + b"h\x00h\x01\x85R" * 50_000 + b"e.",
    "colliding integers": b"}(" + COLLIDING + b"u.",
    "deep lists": b"]" * 100_000 + b"a" * 99_999 + b".",
    "deep tuples": b")" + b"\x85" * 200_000 + b".",
    "deep objects": op_global("x", "Y") + b"q\x000)" + b"\x85q\x010h\x00h\x01R" * 50_000 + b".",
    "an endless list": b"]q\x00h\x00a.",
    "an endless dict": b"}q\x00K\x01h\x00s.",
    "an endless object": op_global("x", "Y") + ITSELF + b".",
    "an endless time zone": (
        op_global("datetime", "datetime")
        + op_bytes(bytes((7, 232, 1, 1, 0, 0, 0, 0, 0, 0)))
        + op_global("x", "Zone")
        + ITSELF
        + b"\x86R."
    ),
    "a long integer": b"\x8b" + (100_000).to_bytes(4, "little") + b"\x7f" * 100_000 + b".",
    "a long integer as text": b"L" + b"9" * 100_000 + b"L\n.",
    "pickles in a pickle": b"](" + op_bytes(b"N" * 9_999 + b".") + b"q\x00" + CALL * 2_000 + b"e.",
}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_do_not_go_off(name: str) -> None:
    started = time.process_time()
    text = repr(preview(BOMBS[name]))
    assert len(text) < 20_000_000
    assert time.process_time() - started < 20


def test_memory_stays_bounded() -> None:
    program = """
import resource
resource.setrlimit(resource.RLIMIT_AS, (1_500_000_000, 1_500_000_000))
from tests.values.test_preview import BOMBS, preview
for name, data in BOMBS.items():
    text = repr(preview(data))
    assert "MemoryError" not in text, name
"""
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)


def test_what_contains_itself_is_shown_as_python_shows_it() -> None:
    loop: list[Any] = [1]
    loop.append(loop)
    mapping: dict[str, Any] = {}
    mapping["again"] = mapping
    assert show(loop) == repr(loop)
    assert show(mapping) == repr(mapping)


def test_long_integers_do_not_keep_the_rest_from_being_shown() -> None:
    assert show([1, 10**5000]) == "[1, <int of 16610 bits>]"


def test_long_values_are_shown_in_full() -> None:
    value = [0] * 300_000
    assert preview(pickle.dumps(value, protocol=3)) == value


def test_bounded_texts() -> None:
    deep: Any = {
        "key": (datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC), frozenset({1}), Sample(1, Point(2, 3)))
    }
    for _ in range(70):
        deep = collections.OrderedDict(a=[deep])
    assert show(deep).startswith("OrderedDict({'a': [OrderedDict({'a': [")
    value = [2**20000, deep["a"], Sample("x", {"k": Point(1, 2)}), (5,), {1}, "text" * 9000]
    assert show(value).endswith("...")


def test_damaged_pickles_say_so() -> None:
    for data in (b"", b"garbage", b"\x80\x03]q\x00(K\x01", pickle.dumps([1])[:-3]):
        assert repr(preview(data)).startswith("Unpicklable('")


@given(st.binary(max_size=200))
@example(b"S'\\x'\n.")
@example(b"V\\u12\n.")
@example(b"0.")
@example(b"e.")
def test_random_bytes_never_raise(data: bytes) -> None:
    modules = set(sys.modules)
    assert isinstance(repr(preview(data)), str)
    assert set(sys.modules) == modules


pieces = st.one_of(
    st.sampled_from([bytes((ord(opcode.code),)) for opcode in pickletools.opcodes]),
    st.sampled_from(
        [
            op_global("os", "system"),
            op_global("redun.file", "File"),
            op_global("redun.expression", "TaskExpression"),
            op_global("datetime", "datetime"),
            op_global("builtins", "set"),
            op_global("collections", "OrderedDict"),
            op_global("uuid", "UUID"),
            op_global("collections", "Counter"),
            b"X\x01\x00\x00\x00a",
            b"K\x01",
            b"]",
            b"}",
            b")",
            b"(",
            b"q\x00",
            b"h\x00",
            b"R",
            b"b",
        ]
    ),
    st.binary(max_size=3),
)


@given(st.lists(pieces, max_size=40).map(lambda parts: b"".join(parts) + b"."))
def test_random_operations_never_raise(data: bytes) -> None:
    modules = set(sys.modules)
    assert isinstance(repr(preview(data)), str)
    assert set(sys.modules) == modules


@given(nested_pairs, st.data())
def test_truncated_and_altered_values_never_raise(pair: Pair, data: st.DataObject) -> None:
    stored = bytearray(redun.utils.pickle_dumps(pair.theirs))
    for _ in range(data.draw(st.integers(0, 3))):
        stored[data.draw(st.integers(0, len(stored) - 1))] = data.draw(st.integers(0, 255))
    end = data.draw(st.integers(0, len(stored)))
    assert isinstance(repr(preview(bytes(stored[:end]))), str)
    assert isinstance(repr(preview(bytes(stored))), str)


def test_forged_states_are_shown_as_any_other() -> None:
    for module, name in (
        ("redun.file", "File"),
        ("redun.task", "PartialTask"),
        ("redun.task", "CacheScope"),
        ("redun.expression", "SimpleExpression"),
        ("redun.expression", "TaskExpression"),
        ("redun.scheduler", "Traceback"),
        ("uuid", "UUID"),
        ("pathlib", "PosixPath"),
        ("fractions", "Fraction"),
        ("collections", "Counter"),
    ):
        for state in (
            b"}X\x04\x00\x00\x00pathK\x01sb",
            b"K\x05b",
            b"}X\x03\x00\x00\x00intJ\xff\xff\xff\xffsb",
        ):
            assert name in repr(preview(op_global(module, name) + b"K\x01\x85\x81" + state + b"."))


@pytest.mark.parametrize(
    ("name", "attribute"),
    [("redun.file", "File path"), ("redun.file", "FileSet hash"), ("redun.task", "PartialTask name")],
)
def test_nested_forged_states_take_no_longer_at_every_level(name: str, attribute: str) -> None:
    kind, field = attribute.split()
    levels = 50
    data = (op_global(name, kind) + b")\x81}" + op_text(field)) * levels + b"N" + b"sb" * levels + b"."
    assert repr(preview(data)).count(f"{kind}(") == levels


def test_nested_paths_do_not_double_their_backslashes() -> None:
    data = op_global("pathlib", "PosixPath") * 50 + op_text("\\") + b"\x85R" * 50 + b"."
    assert len(repr(preview(data))) < 1000


class Größe:
    """A class whose name is not ASCII."""


def test_names_that_are_not_ascii_are_shown() -> None:
    assert show([Größe, Größe()]) == f"[<class '{__name__}.Größe'>, Größe()]"


class _PickledFrame:
    """Pickles as a frame of `traceback` does in the Python whose state it is given."""

    def __init__(self, state: dict[str, Any]) -> None:
        self.state = state

    def __reduce__(self) -> Any:
        return traceback.FrameSummary, (), (None, self.state)


@pytest.mark.parametrize(
    "source",
    [
        {"_line": "return 1 // x", "_locals": None},
        # Python 3.13: the lines of a statement, as they stand in the file.
        {"_lines": "    return 1 // x\n", "_lines_dedented": None},
        {"_lines": "    return 1 // x\n        - 2\n"},
    ],
)
def test_the_source_of_a_frame_is_read_whatever_python_wrote_it(source: dict[str, Any]) -> None:
    where = {"filename": "wf.py", "lineno": 5, "name": "inner"}
    frames: Any = [_PickledFrame({**where, **source})]
    error = ErrorValue(ZeroDivisionError("no"), Traceback(None, frames))
    preview = preview_value("redun.ErrorValue", "application/python-pickle", pickle.dumps(error))
    (frame,) = read_failure(preview).frames
    assert (frame.filename, frame.lineno, frame.name, frame.line) == ("wf.py", 5, "inner", "return 1 // x")
