"""Names, sections and pictures: pure functions of edges, beside redun's."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import redun.backends.db.dataflow as original
from hypothesis import given
from hypothesis import strategies as st

from aredun import dataflow, models
from aredun.dataflow import (
    ArgumentRef,
    ArgumentValue,
    CallNodeRef,
    CallNodeValue,
    DataflowEdge,
    DataflowVars,
    TaskRef,
    ValueRef,
    describe_node,
    display_call_node,
    display_hash,
    display_section,
    display_value,
    get_callnode_arguments,
    get_dataflow_call_node,
    get_node_hash,
    get_node_kind,
    get_section_edge_type,
    get_task_args,
    is_internal_task,
    iter_unique,
    make_var_name,
    rewrite_call_node_merges,
    toposort_edges,
)
from aredun.dataflow.dom import iter_dataflow_dom
from aredun.dataflow.pictures import DOT, MERMAID, Picture
from aredun.values import MIME_TYPE_PICKLE

TASK = TaskRef("t" * 40, "align", "space", "def align(read, genome=None): ...")
VALUE = ValueRef("v" * 40)
CALL = CallNodeRef("c" * 40, TASK, VALUE)
ARGUMENT = ArgumentRef("a" * 40, CALL, VALUE, 1)
NODES: list[Any] = [VALUE, CALL, ArgumentValue(ARGUMENT, VALUE), CallNodeValue(CALL, VALUE)]


def test_every_name_of_the_original_is_there() -> None:
    missing = {
        name
        for name, thing in vars(original).items()
        if getattr(thing, "__module__", "") == original.__name__ and not hasattr(dataflow, name)
    }
    assert missing <= {"T"}
    assert {"DataflowDOM", "DataflowNode", "DataflowSection", "REDUN_INTERNAL_TASKS"} <= set(dataflow.__all__)
    assert hasattr(dataflow, "walk_downstream")


def test_nodes_of_different_kinds_are_never_equal() -> None:
    nodes = [
        ValueRef("x"),
        CallNodeRef("x", TASK, ValueRef("x")),
        ArgumentRef("x", CALL, ValueRef("x")),
        ArgumentValue(ARGUMENT, VALUE),
        CallNodeValue(CALL, VALUE),
    ]
    for left, right in itertools.combinations(nodes, 2):
        assert left != right
    assert ValueRef("x") == ValueRef("x")
    assert len({ValueRef("x"), ValueRef("x"), CALL, CallNodeRef("c" * 40, TASK, VALUE)}) == 2


def test_nodes_cannot_be_changed() -> None:
    for node in (*NODES, TASK, ARGUMENT):
        with pytest.raises(AttributeError):
            node.value_hash = "other"


@pytest.mark.parametrize("keyword", ["def", "async def"])
def test_argument_names_are_read_from_the_source(keyword: str) -> None:
    source = f"    {keyword} align(read, genome=None, *rest, flag=False):\n        pass\n"
    assert get_task_args(TaskRef("t", "align", "", source)) == ["read", "genome"]


@pytest.mark.parametrize("source", ["", "x = 1", "def broken(", "\0", "(" * 10_000])
def test_a_source_that_is_no_function(source: str) -> None:
    task = TaskRef("t", "align", "", source)
    with pytest.raises(SyntaxError):
        get_task_args(task)
    assert DataflowVars().get_task_args(task) == []
    assert display_call_node(CallNodeRef("c", task, VALUE, 2), {}) == "align(arg0, arg1)"


@given(
    st.lists(st.from_regex(r"[a-c](_[0-9]{1,2})?", fullmatch=True), max_size=12),
    st.from_regex(r"[a-c](_[0-9]{1,2})?", fullmatch=True),
)
def test_variable_names_are_redun_s(taken: list[str], wished: str) -> None:
    names: Any = dict.fromkeys(taken)
    assert make_var_name(wished, names) == original.make_var_name(wished, names)


@given(st.lists(st.integers(0, 5)))
def test_unique_items_keep_their_order(items: list[int]) -> None:
    assert list(iter_unique(items)) == list(original.iter_unique(items))
    assert list(iter_unique(items, key=lambda item: item % 2)) == list(
        original.iter_unique(items, key=lambda item: item % 2)
    )


def test_a_variadic_argument_has_a_name() -> None:
    names = DataflowVars()
    third = ArgumentValue(ArgumentRef("a3", CALL, VALUE, 3), VALUE)
    assert names.new_var_name(third) == ("arg3", "arg3")
    assert names.new_var_name(NODES[2]) == ("genome", "genome")
    assert names.new_var_name(NODES[2]) == ("genome", None)
    assert names[third] == "arg3"
    assert third in names


def test_what_nodes_show() -> None:
    assert [display_hash(node) for node in (*NODES, None)] == ["<vvvvvvvv> ", *["<cccccccc> "] * 3, ""]
    assert [get_node_hash(node) for node in (*NODES, None)] == ["v" * 40, *["c" * 40] * 3, None]
    assert [get_dataflow_call_node(node) for node in (*NODES, None)] == [None, CALL, CALL, CALL, None]
    assert describe_node(NODES[2]) == {
        "kind": "ArgumentValue",
        "call_hash": "c" * 40,
        "arg_hash": "a" * 40,
        "value_hash": "v" * 40,
        "task": "space.align",
        "name": "genome",
    }
    assert describe_node(VALUE) == {"kind": "Value", "value_hash": "v" * 40}
    assert is_internal_task(TaskRef("t", "script", "redun"))
    assert not is_internal_task(TASK)


def test_arguments_in_order() -> None:
    class Call:
        arguments = (
            ArgumentRef("3", CALL, VALUE, None, "z"),
            ArgumentRef("2", CALL, VALUE, None, "b"),
            ArgumentRef("1", CALL, VALUE, 1),
            ArgumentRef("0", CALL, VALUE, 0),
        )

    assert [argument.arg_hash for argument in get_callnode_arguments(Call)] == ["0", "1", "2", "3"]


def test_an_argument_without_a_value_followed_is_no_node() -> None:
    with pytest.raises(TypeError, match="ArgumentRef is no dataflow node"):
        get_node_kind(ARGUMENT)


def test_no_walk_has_such_an_edge() -> None:
    with pytest.raises(ValueError, match="from Value to CallNodeValue"):
        get_section_edge_type(DataflowEdge(VALUE, NODES[3]))


def test_several_values_of_one_call_become_one() -> None:
    users = [
        ArgumentValue(ArgumentRef(f"u{number}", CallNodeRef("user", TASK, VALUE), VALUE, number), VALUE)
        for number in range(2)
    ]
    parts = [ValueRef("part0"), ValueRef("part1")]
    edges = [DataflowEdge(user, CallNodeValue(CALL, part)) for user, part in zip(users, parts, strict=True)]
    edges += [DataflowEdge(CallNodeValue(CALL, part), CALL) for part in parts]
    edges.append(DataflowEdge(CALL, None))
    unified = CallNodeValue(CALL, VALUE)
    assert rewrite_call_node_merges(edges) == [
        *(DataflowEdge(user, unified) for user in users),
        DataflowEdge(unified, CALL),
        DataflowEdge(CALL, None),
    ]


def test_edges_of_a_cycle_are_left_out() -> None:
    first, second = NODES[3], NODES[2]
    edges = [DataflowEdge(VALUE, CALL), DataflowEdge(first, second), DataflowEdge(second, first)]
    assert list(toposort_edges(edges)) == edges[:1]


@pytest.mark.parametrize("start", range(4))
def test_a_document_can_begin_anywhere(start: int) -> None:
    edges = {
        0: [DataflowEdge(VALUE, CALL), DataflowEdge(CALL, NODES[2])],
        1: [DataflowEdge(CALL, NODES[2]), DataflowEdge(NODES[2], None)],
        2: [DataflowEdge(NODES[2], None)],
        3: [DataflowEdge(NODES[3], CALL), DataflowEdge(CALL, NODES[2])],
    }[start]
    [dom] = iter_dataflow_dom(edges, "result")
    lines = list(display_section(dom, {VALUE.value_hash: "'text'"}))
    assert lines[0].startswith("result <-- ")
    assert lines[1:] == ([] if start == 2 else ["  genome = <vvvvvvvv> 'text'"])


def test_pictures_follow_the_data() -> None:
    hostile = TaskRef("t", 'a"]\n<script>\\', "", "")
    call = CallNodeRef("h" * 40, hostile, VALUE)
    edges = [DataflowEdge(VALUE, call), DataflowEdge(call, None)]
    mermaid, dot, down = Picture(MERMAID), Picture(DOT), Picture(DOT, downstream=True)
    assert [line for edge in edges for line in mermaid.add(edge)] == [
        '  n0(["value vvvvvvvv"])',
        '  n1["a#34;#93; #60;script#62;#92; hhhhhhhh"]',
        "  n1 --> n0",
        '  n2(["origin"])',
        "  n2 --> n1",
    ]
    assert [line for edge in edges for line in dot.add(edge)][1:3] == [
        '  n1 [label="a\\"] <script>\\\\ hhhhhhhh", shape=box];',
        "  n1 -> n0;",
    ]
    assert [line for edge in edges for line in down.add(edge)][-1] == "  n0 -> n1;"


def test_values_are_shown_without_previews_too() -> None:
    data = b"\x80\x03]q\x00(K\x01K\x02e."
    loaded = models.Value(value_hash="a" * 40, type="builtins.list", format=MIME_TYPE_PICKLE, value=data)
    assert display_value(loaded) == "[1, 2]"
    assert display_value(models.Value(value_hash="b" * 40)) == "Value(hash=bbbbbbbb)"
    assert display_value(loaded, {"a" * 40: "shown"}) == "shown"
