"""The hash recipes are redun's, bit for bit."""

from __future__ import annotations

import io
from typing import Any

import pytest
import redun.bcoding
import redun.hashing
import redun.utils
from hypothesis import given
from hypothesis import strategies as st

from aredun.formats import hashing
from aredun.formats.bencode import bencode
from tests.support.values import redun_registry, registry

texts = st.text(st.characters(codec="utf-8"))
structs = st.recursive(
    st.integers() | texts | st.binary(),
    lambda inner: st.lists(inner) | st.lists(inner).map(tuple) | st.dictionaries(texts, inner),
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts,
    lambda inner: st.lists(inner) | st.dictionaries(texts, inner),
)
arguments = st.lists(st.integers() | texts | st.lists(st.integers()), max_size=4)
keywords = st.dictionaries(texts, st.integers() | texts, max_size=4)


@given(structs)
def test_bencode_and_hash_struct(struct: Any) -> None:
    assert bencode(struct) == redun.bcoding.bencode(struct)
    assert hashing.hash_struct(struct) == redun.hashing.hash_struct(struct)
    assert len(hashing.hash_struct(struct)) == hashing.HASH_LEN


@pytest.mark.parametrize("struct", [None, True, [1, False], 1.5, {"a": None}, {1: "a"}, object], ids=str)
def test_bencode_refuses_what_has_no_canonical_form(struct: Any) -> None:
    with pytest.raises(TypeError, match="cannot bencode"):
        bencode(struct)


def test_bencode_takes_iterables_and_int_subclasses() -> None:
    import http

    for make in (lambda: iter("ab"), lambda: range(3), lambda: [http.HTTPStatus.OK]):
        assert bencode(make()) == redun.bcoding.bencode(make())


@given(texts, st.binary(max_size=5000))
def test_hash_bytes_text_stream(text: str, data: bytes) -> None:
    assert hashing.hash_bytes(data) == redun.hashing.hash_bytes(data)
    assert hashing.hash_text(text) == redun.hashing.hash_text(text)
    assert hashing.hash_tag_bytes(text, data) == redun.hashing.hash_tag_bytes(text, data)
    assert hashing.hash_stream(io.BytesIO(data)) == redun.hashing.hash_stream(io.BytesIO(data))


@given(arguments, keywords, texts)
def test_hash_arguments_and_eval(args: list[Any], kwargs: dict[str, Any], task_hash: str) -> None:
    for name in ("hash_arguments", "hash_eval"):
        lead = [task_hash] if name == "hash_eval" else []
        ours = getattr(hashing, name)(registry, *lead, args, kwargs)
        assert ours == getattr(redun.hashing, name)(redun_registry, *lead, args, kwargs)
    assert hashing.hash_positional_args(registry, args) == redun.hashing.hash_positional_args(
        redun_registry, args
    )
    assert hashing.hash_kwargs(registry, kwargs) == redun.hashing.hash_kwargs(redun_registry, kwargs)


@given(texts, texts, json_values, st.lists(texts))
def test_hash_tag(entity_id: str, key: str, value: Any, parents: list[str]) -> None:
    assert hashing.json_dumps(value) == redun.utils.json_dumps(value)
    assert hashing.hash_tag(entity_id, key, value, parents) == redun.hashing.hash_tag(
        entity_id, key, value, parents
    )


@given(texts, texts, texts, st.lists(texts))
def test_hash_call_node(task_hash: str, args_hash: str, result_hash: str, children: list[str]) -> None:
    ours = hashing.hash_call_node(task_hash, args_hash, result_hash, children)
    assert ours == redun.hashing.hash_call_node(task_hash, args_hash, result_hash, children)


def test_hash_argument_is_the_recipe_of_redun() -> None:
    # redun has the recipe inline in RedunBackendDb._record_args.
    for position, key in ((0, None), (None, "x")):
        expected = redun.hashing.hash_struct(["Argument", "c", str(position), str(key), "v"])
        assert hashing.hash_argument("c", position, key, "v") == expected
