"""From edges to paragraphs: how a dataflow is cut into sections. Pure functions of the edges."""

from __future__ import annotations

from collections import defaultdict
from enum import Enum
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, TypeVar

from aredun.dataflow.nodes import (
    CallNodeValue,
    DataflowEdge,
    DataflowNode,
    get_identity,
    get_kinds,
    get_node_kind,
)

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


def iter_unique(items: Iterable[T], key: Callable[[T], Any] = lambda item: item) -> Iterator[T]:
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
    kinds = get_kinds(edge)
    edge_type = _EDGE_TYPES.get(kinds)
    if edge_type is None:
        raise ValueError(f"No upstream dataflow has an edge from {kinds[0]} to {kinds[1]}: {edge}")
    if edge_type == "call_arg_result_routing":
        (_, _, followed), (_, _, part) = map(get_identity, edge)
        return edge_type if followed == part else "data"
    return edge_type


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
    outgoing: dict[DataflowNode, list[DataflowEdge]] = defaultdict(list)
    for edge in edges:
        src, dest = edge
        outgoing[src].append(edge)
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

    roots = [node for node in outgoing if node not in indegrees]
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


def _group_edges(edges: Iterable[DataflowEdge]) -> list[tuple[DataflowSectionKind, DataflowSection]]:
    """Return sorted edges as sections in the order of their last edges, each edge once in each."""
    # The section that every node belongs to, which grows: its edges with their places.
    calls: dict[DataflowNode, list[tuple[int, DataflowEdge]]] = {}
    data: dict[DataflowNode, list[tuple[int, DataflowEdge]]] = {}
    variables: set[DataflowNode] = set()
    for item in enumerate(edges):
        _, edge = item
        src, dest = edge
        edge_type = get_section_edge_type(edge)
        if edge_type == "data":
            data.setdefault(src, []).append(item)
            continue
        if edge_type == "call_arg" and dest is not None:
            variables.add(dest)
        if src in variables:
            # A variable begins a section of its own.
            section = [item]
        else:
            section = calls.setdefault(src, [])
            section.append(item)
        if dest is None:
            continue
        if dest not in calls:
            calls[dest] = section
        elif calls[dest] is not section:
            calls[dest].extend(section)
            calls[src] = calls[dest]
    found = [(DataflowSectionKind.CALL, section) for section in iter_unique(calls.values(), key=id)]
    found.extend((DataflowSectionKind.DATA, section) for section in data.values())
    found.sort(key=lambda found_section: max(place for place, _ in found_section[1]))
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
    for kind, section in _group_edges(rewrite_call_node_merges(list(toposort_edges(dataflow_edges)))):
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
