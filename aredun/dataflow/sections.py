"""From edges to paragraphs: how a dataflow is cut into sections. Pure functions of the edges."""

from __future__ import annotations

from collections import defaultdict
from enum import Enum
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, TypeVar

from aredun.dataflow.nodes import CallNodeValue, DataflowEdge, DataflowNode, get_node_kind

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Callable, Iterable, Iterator

T = TypeVar("T")

DataflowSection: TypeAlias = list[DataflowEdge]


class DataflowSectionKind(Enum):
    """What a section describes: the call of a task, or a value put together from others.

    Mirrors redun's `DataflowSectionKind`.
    """

    CALL = "call"
    DATA = "data"


def _identity(item: Any) -> Any:
    return item


def iter_unique(items: Iterable[T], key: Callable[[T], Any] = _identity) -> Iterator[T]:
    """Yield every item whose key was not met before, in order.

    Mirrors redun's `iter_unique`.

    Parameters
    ----------
    items : iterable
        The items.
    key : callable
        What makes an item the same as another; hashable. The item itself by default.

    Yields
    ------
    object
        The first item of every key.
    """
    seen = set()
    for item in items:
        item_key = key(item)
        if item_key not in seen:
            seen.add(item_key)
            yield item


_EDGE_TYPES = {
    ("CallNode", "ArgumentValue"): "call_arg",
    ("Value", "CallNode"): "call_result",
    ("CallNodeValue", "CallNode"): "call_result",
    ("CallNodeValue", "CallNodeValue"): "call_result_routing",
    ("ArgumentValue", "CallNodeValue"): "call_arg_result_routing",
    ("ArgumentValue", "ArgumentValue"): "call_arg_routing",
    ("CallNode", None): "call_origin",
    ("ArgumentValue", None): "call_arg_origin",
    ("Value", None): "call_value_origin",
}


def get_section_edge_type(edge: DataflowEdge) -> str:
    """Classify an edge by the kinds of its nodes.

    Mirrors redun's `get_section_edge_type`.

    Parameters
    ----------
    edge : DataflowEdge
        An edge of an upstream walk.

    Returns
    -------
    str
        `data` when an argument came from a result that is another value than the one followed, else
        `call_arg`,
        `call_result`, `call_result_routing`, `call_arg_result_routing`, `call_arg_routing`, `call_origin`,
        `call_arg_origin` or `call_value_origin`.

    Raises
    ------
    ValueError
        No upstream walk has an edge between such nodes.
    """
    src, dest = edge
    kinds = get_node_kind(src), None if dest is None else get_node_kind(dest)
    edge_type = _EDGE_TYPES.get(kinds)
    if edge_type is None:
        raise ValueError(f"No upstream dataflow has an edge from {kinds[0]} to {kinds[1]}: {edge}")
    if edge_type == "call_arg_result_routing" and _value_hash(src) != _value_hash(dest):
        return "data"
    return edge_type


def _value_hash(node: Any) -> str:
    value_hash: str = node.value.value_hash
    return value_hash


def toposort_edges(edges: Iterable[DataflowEdge]) -> Iterator[DataflowEdge]:
    """Yield edges so that all edges into a node come before the edges out of it, depth first.

    Mirrors redun's `toposort_edges`.

    Parameters
    ----------
    edges : iterable of DataflowEdge
        The edges of a walk, in its order.

    Yields
    ------
    DataflowEdge
        The same edges; those of a cycle, and what is only reached through one, are left out.
    """
    indegrees: dict[DataflowNode, int] = {}
    outgoing: dict[DataflowNode, list[DataflowEdge]] = {}
    for edge in edges:
        src, dest = edge
        if src in outgoing:
            outgoing[src].append(edge)
        else:
            outgoing[src] = [edge]
        indegrees.setdefault(src, 0)
        if dest is not None:
            indegrees[dest] = indegrees.get(dest, 0) + 1

    stack = [node for node, degree in indegrees.items() if degree == 0]
    while stack:
        node_edges = outgoing.get(stack.pop(), ())
        yield from node_edges
        for edge in reversed(node_edges):
            dest = edge.dest
            if dest is not None:
                indegrees[dest] -= 1
                if indegrees[dest] == 0:
                    stack.append(dest)


def rewrite_call_node_merges(edges: list[DataflowEdge]) -> list[DataflowEdge]:
    """Let several values that came from one call flow through one node, the call's whole result.

    Mirrors redun's `rewrite_call_node_merges`, in linear time.

    Parameters
    ----------
    edges : list of DataflowEdge
        Sorted edges.

    Returns
    -------
    list of DataflowEdge
        Edges in which a call is reached from one `CallNodeValue` at most; the new ones stand right before
        the first edge out of the call.
    """
    incoming: dict[DataflowNode, list[DataflowEdge]] = defaultdict(list)
    for edge in edges:
        if edge.dest is not None:
            incoming[edge.dest].append(edge)

    removed: set[DataflowEdge] = set()
    inserted: dict[DataflowNode, list[DataflowEdge]] = {}
    for node, node_edges in list(incoming.items()):
        if len(node_edges) < 2 or get_node_kind(node) != "CallNode":
            continue
        upstream = [edge for merged in node_edges for edge in incoming.get(merged.src, ())]
        removed.update(node_edges, upstream)
        unified = CallNodeValue(node, node.value)  # type: ignore[arg-type, union-attr]  # told by get_node_kind
        inserted[node] = [DataflowEdge(src, unified) for src in iter_unique(edge.src for edge in upstream)]
        inserted[node].append(DataflowEdge(unified, node))
    if not inserted:
        return edges

    result = []
    for edge in edges:
        if edge not in removed:
            if edge.src in inserted:
                result.extend(inserted.pop(edge.src))
            result.append(edge)
    # A bounded walk may end before it comes to these calls.
    for new_edges in inserted.values():
        result.extend(new_edges)
    return result


def iter_subsections(section: DataflowSection) -> Iterator[DataflowSection]:
    """Cut a section at the nodes where several paths meet, so that every part is one path.

    Mirrors redun's `iter_subsections`.

    Parameters
    ----------
    section : list of DataflowEdge
        The edges of one section.

    Yields
    ------
    list of DataflowEdge
        The paths from every root up to a merge, then the path from every merge. The section itself when
        nothing merges in it.
    """
    outgoing: dict[DataflowNode | None, list[DataflowEdge]] = defaultdict(list)
    indegrees: dict[DataflowNode, int] = defaultdict(int)
    for edge in section:
        outgoing[edge.src].append(edge)
        if edge.dest is not None:
            indegrees[edge.dest] += 1
    merges = {node: None for node, degree in indegrees.items() if degree > 1}
    if not merges:
        yield section
        return

    roots = [node for node in iter_unique(edge.src for edge in section) if not indegrees.get(node)]
    for start in [*roots, *merges]:
        subsection: DataflowSection = []
        node: DataflowNode | None = start
        while len(outgoing.get(node, ())) == 1:
            [edge] = outgoing[node]
            subsection.append(edge)
            node = edge.dest
            if node in merges:
                break
        else:
            # The end of the path: nothing more, or the arguments of a call.
            subsection.extend(outgoing.get(node, ()))
        yield subsection


class _Sections:
    """Sections while they grow: which one every node belongs to."""

    def __init__(self) -> None:
        self.calls: dict[DataflowNode, list[tuple[int, DataflowEdge]]] = {}
        self.data: dict[DataflowNode, list[tuple[int, DataflowEdge]]] = {}
        self._variables: set[DataflowNode] = set()

    def add(self, order: int, edge: DataflowEdge) -> None:
        """Put an edge into the section of its source, and join the section of its destination."""
        src, dest = edge
        edge_type = get_section_edge_type(edge)
        if edge_type == "data":
            self.data.setdefault(src, []).append((order, edge))
            return
        if edge_type == "call_arg" and dest is not None:
            self._variables.add(dest)
        if src in self._variables:
            # A variable begins a section of its own.
            section = [(order, edge)]
        else:
            section = self.calls.setdefault(src, [])
            section.append((order, edge))
        if dest is None:
            return
        if dest not in self.calls:
            self.calls[dest] = section
        elif self.calls[dest] is not section:
            self.calls[dest].extend(section)
            self.calls[src] = self.calls[dest]

    def sort(self) -> list[tuple[DataflowSectionKind, DataflowSection]]:
        """Return the sections in the order of their last edges, each edge once in each."""
        found = [(DataflowSectionKind.CALL, section) for section in iter_unique(self.calls.values(), key=id)]
        found.extend((DataflowSectionKind.DATA, section) for section in self.data.values())
        found.sort(key=lambda item: max(order for order, _ in item[1]))
        return [(kind, list(iter_unique(edge for _, edge in section))) for kind, section in found]


def iter_dataflow_sections(
    dataflow_edges: Iterable[DataflowEdge],
) -> Iterator[tuple[DataflowSectionKind, DataflowSection]]:
    """Yield the sections of a dataflow: the edges that are shown as one paragraph.

    Mirrors redun's `iter_dataflow_sections`.

    Parameters
    ----------
    dataflow_edges : iterable of DataflowEdge
        The edges of an upstream walk.

    Yields
    ------
    tuple of DataflowSectionKind and list of DataflowEdge
        Sections in the order in which they are shown.
    """
    sections = _Sections()
    for order, edge in enumerate(rewrite_call_node_merges(list(toposort_edges(dataflow_edges)))):
        sections.add(order, edge)
    for kind, section in sections.sort():
        if kind is DataflowSectionKind.CALL:
            for subsection in iter_subsections(section):
                yield kind, subsection
        else:
            yield kind, section


class DataflowAssign(NamedTuple):
    """The clause that names a variable and what it came from.

    Mirrors redun's `DataflowAssign`.

    Attributes
    ----------
    var_name : str
        The variable.
    prefix : str
        What stands before the node's hash: `argument of`, or nothing.
    node_display : str
        The node as text.
    node : DataflowNode or None
        The node; None for an origin.
    """

    var_name: str
    prefix: str
    node_display: str
    node: DataflowNode | None


class DataflowRouting(NamedTuple):
    """A clause that names a call which only passed the value on.

    Mirrors redun's `DataflowRouting`.

    Attributes
    ----------
    prefix : str
        What stands before the node's hash: `argument of`, or nothing.
    node_display : str
        The node as text.
    node : DataflowNode or None
        The node; None for an origin.
    """

    prefix: str
    node_display: str
    node: DataflowNode | None


class DataflowArg(NamedTuple):
    """A clause that defines an argument of the last call.

    Mirrors redun's `DataflowArg`.

    Attributes
    ----------
    var_name : str
        The argument's variable.
    value : Any
        The value: a light node or a model, shown by its preview.
    """

    var_name: str
    value: Any


class DataflowSectionDOM(NamedTuple):
    """One paragraph, ready to be rendered.

    Mirrors redun's `DataflowSectionDOM`.

    Attributes
    ----------
    assign : DataflowAssign
        The first line.
    routing : list of DataflowRouting
        The nodes that the value came through, in order.
    args : list of DataflowArg
        The arguments of the last call, in the order of the edges.
    """

    assign: DataflowAssign
    routing: list[DataflowRouting]
    args: list[DataflowArg]


DataflowDOM: TypeAlias = "AsyncIterable[DataflowSectionDOM] | Iterable[DataflowSectionDOM]"
