"""Pickles are redun's, byte for byte, and read back as aredun's classes."""

from __future__ import annotations

import pickle
import subprocess
import sys
from typing import Any

import pytest
import redun.file
import redun.utils
from hypothesis import given
from hypothesis import strategies as st

import aredun.values
from aredun.errors import InvalidValueError
from aredun.values import File, Handle, pickle_dumps, pickle_loads
from tests.support.values import Pair, builtin_values, nested_pairs


@given(builtin_values)
def test_builtins_pickle_as_redun_does(value: Any) -> None:
    assert pickle_dumps(value) == redun.utils.pickle_dumps(value)


@given(nested_pairs)
def test_classes_of_redun_pickle_to_its_bytes(pair: Pair) -> None:
    data = pickle_dumps(pair.ours)
    assert data == redun.utils.pickle_dumps(pair.theirs)
    assert b"aredun" not in data


@given(nested_pairs)
def test_pickles_read_back_to_the_same_bytes(pair: Pair) -> None:
    data = redun.utils.pickle_dumps(pair.theirs)
    assert pickle_dumps(pickle_loads(data)) == pickle_dumps(pickle_loads(pickle_dumps(pair.ours)))
    assert type(pickle_loads(data)) is type(pair.ours)


def test_shared_references_stay_shared() -> None:
    file, other = File("/nowhere/a"), redun.file.File("/nowhere/a")
    assert pickle_dumps([file, file, [file]]) == redun.utils.pickle_dumps([other, other, [other]])
    first, second = pickle_loads(pickle_dumps([file, file]))
    assert first is second


def test_text_that_looks_like_a_class_is_left_alone() -> None:
    text = "caredun.values.file\nFile\n"
    value = [text, File("/nowhere/a"), text.encode()]
    assert pickle_loads(pickle_dumps(value))[0::2] == [text, text.encode()]


def test_classes_themselves_pickle_under_redun_names() -> None:
    assert pickle_dumps([File, Handle]) == redun.utils.pickle_dumps([redun.file.File, redun.Handle])
    assert pickle_loads(pickle_dumps(File)) is File


def test_objects_of_redun_itself_read_back_as_ours() -> None:
    loaded = pickle_loads(pickle_dumps(redun.file.File("/nowhere/a")))
    assert type(loaded) is File


@given(st.integers(min_value=0, max_value=60))
def test_damaged_bytes_are_invalid_values(cut: int) -> None:
    data = pickle_dumps([File("/nowhere/a"), "text", 1000])
    with pytest.raises(InvalidValueError):
        pickle_loads(data[: len(data) - 1 - cut])


@pytest.mark.parametrize("data", [b"cno_such_module\nThing\n.", b"cos\nno_such_name\n."])
def test_a_missing_class_is_an_invalid_value(data: bytes) -> None:
    with pytest.raises(InvalidValueError, match="cannot be imported"):
        pickle_loads(data)


def test_unpicklable_values_raise_as_redun_does() -> None:
    for value in (lambda: 1, (item for item in "a")):
        with pytest.raises((AttributeError, TypeError, pickle.PicklingError)):
            pickle_dumps(value)


def test_values_work_without_redun() -> None:
    program = """
import sys
sys.modules["redun"] = None
import aredun.values as v
for name in v.__all__:
    getattr(v, name)
value = [v.File("/nowhere/a"), {"d": v.Dir("/nowhere/d")}, v.TaskExpression("t", (1,), {}), v.CacheScope.CSE]
data = v.pickle_dumps(value)
assert b"redun.file" in data and b"aredun" not in data
assert v.pickle_dumps(v.pickle_loads(data)) == data
print(v.get_type_registry().get_hash(value), repr(v.preview_value("x", v.MIME_TYPE_PICKLE, data)))
assert not any(name.startswith("redun.") for name in sys.modules)
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    value = [
        redun.file.File("/nowhere/a"),
        {"d": redun.file.Dir("/nowhere/d")},
        redun.expression.TaskExpression("t", (1,), {}),
        sys.modules["redun.task"].CacheScope.CSE,
    ]
    expected = f"{redun.value.get_type_registry().get_hash(value)} {value!r}"
    assert result.stdout.strip() == expected


def test_all_names_are_exported() -> None:
    assert all(hasattr(aredun.values, name) for name in aredun.values.__all__)


@pytest.mark.parametrize(
    "value",
    [
        b"x\n" * 3_000_000,
        "é\n" * 1_000_000,
        [[number, str(number)] for number in range(100_000)],
        {"files": [File(f"/{'p' * 200}/{number}") for number in range(5_000)], "n" * 2_000_000: 2**70},
        (bytearray(2_000_000), {"k": b"z" * 1_500_000}, None, 1.5),
    ],
    ids=["bytes", "text", "lists", "files", "mixed"],
)
def test_large_values_are_read_whole_in_pieces(value: Any) -> None:
    data = pickle_dumps(value)
    assert len(data) > 1 << 20
    found = pickle_loads(data)
    assert type(found) is type(value)
    assert pickle_dumps(found) == data
    with pytest.raises(InvalidValueError):
        pickle_loads(data[:-1_000])
