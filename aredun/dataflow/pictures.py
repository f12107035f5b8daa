"""Pictures of a dataflow, written edge by edge: Mermaid and Graphviz. Pure."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, Any, NamedTuple

from aredun.dataflow.naming import get_argument_name
from aredun.dataflow.nodes import get_node_kind

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from aredun.dataflow.nodes import DataflowEdge


class Language(NamedTuple):
    """How a picture is written.

    Attributes
    ----------
    header, footer : str
        The lines around it; the footer may be empty.
    nodes : mapping of str to str
        The line of a node of each kind, with `{name}` and `{label}`.
    edge : str
        The line of an edge, with `{source}` and `{target}`.
    escapes : mapping of int to str
        What stands for a character of a label (see `str.translate`).
    """

    header: str
    footer: str
    nodes: Mapping[str, str]
    edge: str
    escapes: Mapping[int, str]


# Anybody may have written a label: no character of it may be one of either language.
MERMAID = Language(
    header="flowchart TD",
    footer="",
    nodes={
        "Value": '  {name}(["{label}"])',
        "CallNode": '  {name}["{label}"]',
        "ArgumentValue": '  {name}("{label}")',
        "CallNodeValue": '  {name}[["{label}"]]',
    },
    edge="  {source} --> {target}",
    escapes={ord(character): f"#{ord(character)};" for character in '"#<>&`\\|{}[]()'},
)
DOT = Language(
    header="digraph dataflow { node [fontname=sans, fontsize=10];",
    footer="}",
    nodes={
        "Value": '  {name} [label="{label}", shape=ellipse];',
        "CallNode": '  {name} [label="{label}", shape=box];',
        "ArgumentValue": '  {name} [label="{label}", shape=plaintext];',
        "CallNodeValue": '  {name} [label="{label}", shape=cds];',
    },
    edge="  {source} -> {target};",
    escapes={ord("\\"): "\\\\", ord('"'): '\\"'},
)


def get_label(node: Any) -> str:
    """Return what a picture writes on a node: what it is, and the first characters of its hash."""
    kind = get_node_kind(node)
    if kind == "Value":
        text = f"value {node.value_hash[:8]}"
    elif kind == "CallNode":
        text = f"{node.task.fullname} {node.call_hash[:8]}"
    elif kind == "ArgumentValue":
        name, task = get_argument_name(node.argument), node.argument.call_node.task
        text = f"{name} of {task.fullname} {node.value.value_hash[:8]}"
    else:
        text = f"result of {node.call_node.task.fullname} {node.value.value_hash[:8]}"
    return " ".join("".join(character if character.isprintable() else " " for character in text).split())


class Picture:
    """Writes a graph in a language while its edges come in; arrows follow the data.

    Parameters
    ----------
    language : Language
        `MERMAID` or `DOT`.
    downstream : bool
        Whether the edges are those of a walk downstream.
    """

    def __init__(self, language: Language, *, downstream: bool = False) -> None:
        self.language = language
        self._downstream = downstream
        self._names: dict[Any, str] = {}
        self._numbers = count()

    def add(self, edge: DataflowEdge) -> Iterator[str]:
        """Yield the lines of an edge, and of its nodes where they are new."""
        names = []
        for node in edge:
            if node is None and self._downstream:
                # Nothing was derived from it: there is nothing to draw.
                return
            name = self._names.get(node)
            if name is None:
                name = f"n{next(self._numbers)}"
                label, kind = ("origin", "Value") if node is None else (get_label(node), get_node_kind(node))
                label = label.translate(self.language.escapes)
                yield self.language.nodes[kind].format(name=name, label=label)
                if node is not None:
                    # Every origin is a node of its own.
                    self._names[node] = name
            names.append(name)
        source, target = names if self._downstream else reversed(names)
        yield self.language.edge.format(source=source, target=target)
