"""Text and JSON of dataflow documents. Pure: previews of values and the jobs of calls are handed in."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from aredun.dataflow.naming import get_argument_name
from aredun.dataflow.nodes import get_dataflow_call_node, get_node_hash, get_node_kind
from aredun.values import preview_value

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from aredun.dataflow.nodes import DataflowNode
    from aredun.dataflow.sections import DataflowSectionDOM

_NONE: Mapping[str, Any] = MappingProxyType({})

MAX_DISPLAY_LENGTH = 200
_HASH_DISPLAY_LENGTH = 8


class CallJob(NamedTuple):
    """The latest job of a call: what the JSON of a dataflow links to."""

    job_id: str
    execution_id: str | None


def trim_string(text: str) -> str:
    """Return text cut to the length that is shown, with an ellipsis at the end when something is missing."""
    return text if len(text) <= MAX_DISPLAY_LENGTH else f"{text[: MAX_DISPLAY_LENGTH - 3]}..."


def display_hash(node: Any) -> str:
    """Return a node's hash as it stands before the node: `<12345678> `, nothing for an origin.

    Mirrors redun's `display_hash`.

    Parameters
    ----------
    node : DataflowNode or None
        The node.

    Returns
    -------
    str
        The first eight characters in angle brackets, and a space.
    """
    node_hash = get_node_hash(node)
    return f"<{node_hash[:_HASH_DISPLAY_LENGTH]}> " if node_hash else ""


def display_value(value: Any, previews: Mapping[str, str] = _NONE) -> str:
    """Return a value as it is shown.

    Mirrors redun's `display_value`.

    Parameters
    ----------
    value : ValueRef or Value
        The value.
    previews : mapping of str to str, optional
        Text of every value that is shown, by its hash; one that is missing is read from the bytes that a
        model has loaded, if any.

    Returns
    -------
    str
        At most 200 characters.
    """
    text = previews.get(value.value_hash)
    if text is None:
        loaded = getattr(value, "__dict__", {})
        if {"type", "format"} <= loaded.keys() and loaded.get("value"):
            text = repr(preview_value(loaded["type"], loaded["format"], loaded["value"]))
        else:
            text = f"Value(hash={value.value_hash[:8]})"
    return trim_string(text)


def display_section(dom: DataflowSectionDOM, previews: Mapping[str, str] = _NONE) -> Iterator[str]:
    """Yield the lines of one paragraph.

    Mirrors redun's `display_section`.

    Parameters
    ----------
    dom : DataflowSectionDOM
        The document of the section.
    previews : mapping of str to str
        Text of the values of its arguments, by their hashes.

    Yields
    ------
    str
        Lines without line ends: the assignment, the routing, the arguments.
    """
    assign = dom.assign
    yield f"{assign.var_name} <-- {_display_clause(assign.prefix, assign.node, assign.node_display)}"
    indent = " " * (len(assign.var_name) + 1)
    for routing in dom.routing:
        yield f"{indent}<-- {_display_clause(routing.prefix, routing.node, routing.node_display)}"
    width = max((len(arg.var_name) for arg in dom.args), default=0)
    for arg in dom.args:
        value_hash = arg.value.value_hash[:_HASH_DISPLAY_LENGTH]
        yield f"  {arg.var_name:<{width}} = <{value_hash}> {display_value(arg.value, previews)}"


def _display_clause(prefix: str, node: DataflowNode | None, text: str) -> str:
    return f"{prefix} {display_hash(node)}{text}" if prefix else f"{display_hash(node)}{text}"


def serialize_section(
    dom: DataflowSectionDOM, previews: Mapping[str, str] = _NONE, jobs: Mapping[str, CallJob] = _NONE
) -> dict[str, Any]:
    """Return one paragraph as JSON.

    Mirrors redun's `serialize_section`.

    Parameters
    ----------
    dom : DataflowSectionDOM
        The document of the section.
    previews : mapping of str to str
        Text of the values of its arguments, by their hashes.
    jobs : mapping of str to CallJob
        Latest jobs of its calls, by their hashes.

    Returns
    -------
    dict
        `assign`, `routing` and `args`, field for field as redun has them.
    """
    assign = dom.assign
    return {
        "assign": {
            "var_name": assign.var_name,
            "prefix": assign.prefix,
            "display": assign.node_display,
            "hash": get_node_hash(assign.node),
            **_describe_job(assign.node, jobs),
        },
        "routing": [
            {
                "prefix": routing.prefix,
                "hash": get_node_hash(routing.node),
                "display": routing.node_display,
                **_describe_job(routing.node, jobs),
            }
            for routing in dom.routing
        ],
        "args": [
            {
                "var_name": arg.var_name,
                "hash": arg.value.value_hash,
                "value_display": display_value(arg.value, previews),
            }
            for arg in dom.args
        ],
    }


def _describe_job(node: DataflowNode | None, jobs: Mapping[str, CallJob]) -> dict[str, str | None]:
    """Return the latest job of the call of a node, as far as there is one."""
    call_node = get_dataflow_call_node(node)
    job = None if call_node is None else jobs.get(call_node.call_hash)
    return {"job_id": job and job.job_id, "execution_id": job and job.execution_id}


def describe_node(node: Any) -> dict[str, str]:
    """Return a node as the JSON messages of the server have it.

    Parameters
    ----------
    node : DataflowNode
        A light node.

    Returns
    -------
    dict
        `kind` and, as far as the kind has them, `value_hash`, `call_hash`, `arg_hash`, `task` (its full name)
        and `name`
        (of the argument).
    """
    kind = get_node_kind(node)
    if kind == "Value":
        return {"kind": kind, "value_hash": node.value_hash}
    call_node = get_dataflow_call_node(node)
    described = {"kind": kind, "call_hash": call_node.call_hash, "task": call_node.task.fullname}
    if kind == "CallNode":
        return described
    described["value_hash"] = node.value.value_hash
    if kind == "ArgumentValue":
        described["arg_hash"] = node.argument.arg_hash
        described["name"] = get_argument_name(node.argument)
    return described


def describe_edge(seq: int, edge: Any) -> dict[str, Any]:
    """Return an edge as the JSON messages of the server have it.

    Parameters
    ----------
    seq : int
        Its number in the walk, from 1.
    edge : DataflowEdge
        The edge.

    Returns
    -------
    dict
        `type`, `seq`, `src` and `dest` (see `describe_node`; no `dest` is None).
    """
    src, dest = edge
    described = None if dest is None else describe_node(dest)
    return {"type": "edge", "seq": seq, "src": describe_node(src), "dest": described}
