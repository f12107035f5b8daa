"""Handles hash, fork and store as in redun."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import redun
import redun.handle
import redun.utils

from aredun.values import Handle, get_type_registry, pickle_dumps, pickle_loads
from tests.support.values import redun_registry

registry = get_type_registry()


class OurDatabase(Handle):
    """A handle of a user."""

    type_name = "tests.Database"

    def __init__(self, name: str, uri: str, *, namespace: str | None = None, schema: str = "public") -> None:
        self.instance = {"uri": uri, "schema": schema}


class TheirDatabase(redun.Handle):  # type: ignore[misc]  # redun is untyped here
    """The same with redun."""

    type_name = "tests.Database"

    def __init__(self, name: str, uri: str, *, namespace: str | None = None, schema: str = "public") -> None:
        self.instance = {"uri": uri, "schema": schema}


make_theirs: Any = TheirDatabase


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [
        (("db", "uri"), {}),
        (("db", "uri"), {"schema": "s"}),
        (("db", "uri"), {"namespace": "n"}),
    ],
)
def test_every_state_hashes_as_in_redun(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    ours: Any = OurDatabase(*args, **kwargs)
    theirs = make_theirs(*args, **kwargs)
    steps: tuple[Any, ...] = (
        lambda handle: handle,
        lambda handle: handle.fork("1"),
        lambda handle: handle.fork("2").apply_call("call"),
        lambda handle: handle.preprocess({"call_order": 3}),
        lambda handle: handle.preprocess({"call_order": 3}).preprocess({"call_order": 4}),
        lambda handle: handle.postprocess({"pre_call_hash": "abc"}),
    )
    for step in steps:
        one, other = step(ours), step(theirs)
        assert one.get_hash() == other.get_hash()
        assert one.__handle__.get_state() == other.__handle__.get_state()
        assert repr(one) == repr(other)
        assert registry.get_type_name(type(one)) == redun_registry.get_type_name(type(other))
        assert vars(one).keys() == vars(other).keys()


def test_a_fork_knows_its_parent() -> None:
    handle = OurDatabase("db", "uri")
    fork = handle.fork("1")
    assert fork.__handle__.fork_parent is handle
    assert not fork.__handle__.is_recorded
    assert fork.instance is handle.instance


def test_plain_handles_store_as_in_redun() -> None:
    ours = Handle("h", 1, {"a": [2]}, k="v")
    theirs = redun.Handle("h", 1, {"a": [2]}, k="v")
    assert pickle_dumps([ours, ours]) == redun.utils.pickle_dumps([theirs, theirs])
    loaded = pickle_loads(redun.utils.pickle_dumps(theirs))
    assert type(loaded) is Handle
    assert loaded.__handle__.is_recorded
    assert loaded.get_hash() == theirs.get_hash()


def test_a_handle_of_a_user_reads_back() -> None:
    loaded = pickle_loads(pickle_dumps(OurDatabase("db", "uri", schema="s")))
    assert loaded.instance == {"uri": "uri", "schema": "s"}
    assert loaded.keys() == {"uri": 1, "schema": 1}.keys()
    with pytest.raises(AttributeError, match="no_such"):
        Handle("h").no_such  # noqa: B018


def test_a_handle_of_a_renamed_class_is_not_valid() -> None:
    handle = OurDatabase("db", "uri")
    assert handle.is_valid()
    handle.__handle__.class_name = "tests.OldName"
    assert not handle.is_valid()


def test_the_namespace_of_the_module_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[__name__], "redun_namespace", "spaced", raising=False)
    assert OurDatabase("db", "uri").__handle__.fullname == "spaced.db"
    assert OurDatabase("db", "uri").get_hash() == make_theirs("db", "uri").get_hash()
