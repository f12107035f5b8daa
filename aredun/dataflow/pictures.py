"""Pictures of a dataflow, written edge by edge: Mermaid and Graphviz. Pure."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from aredun.dataflow.naming import get_argument_name
from aredun.dataflow.nodes import get_node_kind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aredun.dataflow.nodes import DataflowEdge

_MERMAID_SHAPES = {
    "Value": ('(["', '"])'),
    "CallNode": ('["', '"]'),
    "ArgumentValue": ('("', '")'),
    "CallNodeValue": ('[["', '"]]'),
}
_DOT_SHAPES = {
    "Value": "ellipse",
    "CallNode": "box",
    "ArgumentValue": "plaintext",
    "CallNodeValue": "cds",
}
# Anybody may have written a label: no character of it may be one of either language.
_MERMAID_ESCAPES = {ord(character): f"#{ord(character)};" for character in '"#<>&`\\|{}[]()'}


def get_label(node: Any) -> str:
    """Return what a picture writes on a node: what it is, and the first characters of its hash."""
    kind = get_node_kind(node)
    if kind == "Value":
        return f"value {node.value_hash[:8]}"
    if kind == "CallNode":
        return _one_line(f"{node.task.fullname} {node.call_hash[:8]}")
    if kind == "ArgumentValue":
        argument = node.argument
        return _one_line(
            f"{get_argument_name(argument)} of {argument.call_node.task.fullname} {node.value.value_hash[:8]}"
        )
    return _one_line(f"result of {node.call_node.task.fullname} {node.value.value_hash[:8]}")


def _one_line(text: str) -> str:
    return " ".join("".join(character if character.isprintable() else " " for character in text).split())


class Picture(ABC):
    """Writes a graph in a language while its edges come in; arrows follow the data.

    Parameters
    ----------
    downstream : bool
        Whether the edges are those of a walk downstream.
    """

    header = ""
    footer = ""

    def __init__(self, *, downstream: bool = False) -> None:
        self._downstream = downstream
        self._names: dict[Any, str] = {}
        self._origins = 0

    def add(self, edge: DataflowEdge) -> Iterator[str]:
        """Yield the lines of an edge, and of its nodes where they are new."""
        src, dest = edge
        names = []
        for node in (src, dest):
            name = self._names.get(node) if node is not None else None
            if name is None:
                name = f"n{len(self._names) + self._origins}"
                if node is None:
                    if self._downstream:
                        # Nothing was derived from it: there is nothing to draw.
                        continue
                    self._origins += 1
                    yield self.write_node(name, "origin", "Value")
                else:
                    self._names[node] = name
                    yield self.write_node(name, get_label(node), get_node_kind(node))
            names.append(name)
        if len(names) == 2:
            source, target = names if self._downstream else reversed(names)
            yield self.write_edge(source, target)

    @abstractmethod
    def write_node(self, name: str, label: str, kind: str) -> str:
        """Return the line of a node."""

    @abstractmethod
    def write_edge(self, source: str, target: str) -> str:
        """Return the line of an edge."""


class MermaidPicture(Picture):
    """A Mermaid flowchart."""

    header = "flowchart TD"

    def write_node(self, name: str, label: str, kind: str) -> str:
        """See `Picture.write_node`."""
        left, right = _MERMAID_SHAPES[kind]
        return f"  {name}{left}{label.translate(_MERMAID_ESCAPES)}{right}"

    def write_edge(self, source: str, target: str) -> str:
        """See `Picture.write_edge`."""
        return f"  {source} --> {target}"


class DotPicture(Picture):
    """A Graphviz digraph."""

    header = "digraph dataflow { node [fontname=sans, fontsize=10];"
    footer = "}"

    def write_node(self, name: str, label: str, kind: str) -> str:
        """See `Picture.write_node`."""
        escaped = label.replace("\\", "\\\\").replace('"', '\\"')
        return f'  {name} [label="{escaped}", shape={_DOT_SHAPES[kind]}];'

    def write_edge(self, source: str, target: str) -> str:
        """See `Picture.write_edge`."""
        return f"  {source} -> {target};"
