"""Documents: what every section of a dataflow says, before it is written as text or JSON. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aredun.dataflow.naming import DataflowVars, get_default_arg_name, get_task_args
from aredun.dataflow.nodes import get_dataflow_call_node, get_kinds, get_node_kind
from aredun.dataflow.sections import (
    DataflowArg,
    DataflowAssign,
    DataflowRouting,
    DataflowSectionDOM,
    DataflowSectionKind,
    iter_dataflow_sections,
    iter_unique,
)
from aredun.formats.arguments import argument_order

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from aredun.dataflow.nodes import DataflowEdge, DataflowNode
    from aredun.dataflow.sections import DataflowSection


def display_call_node(call_node: Any, renames: Mapping[str, str]) -> str:
    """Return a call as it is written: the name of its task and of its arguments.

    Mirrors redun's `display_call_node`.

    Parameters
    ----------
    call_node : CallNodeRef or CallNode
        The call; a model needs its task loaded (and its arguments, when the task's source tells no names).
    renames : mapping
        Variable names to write instead of argument names.

    Returns
    -------
    str
        `task_name(arg, arg)`.
    """
    try:
        names = get_task_args(call_node.task)
    except SyntaxError:
        names = [get_default_arg_name(position) for position in range(_count_arguments(call_node))]
    arguments = ", ".join(renames.get(name, name) for name in names)
    return f"{call_node.task.name}({arguments})"


def _count_arguments(call_node: Any) -> int:
    count: int | None = getattr(call_node, "argument_count", None)
    return len(call_node.arguments) if count is None else count


def get_callnode_arguments(call_node: Any) -> list[Any]:
    """Return the arguments of a call, positional ones first.

    Mirrors redun's `get_callnode_arguments`.

    Parameters
    ----------
    call_node : CallNode
        Anything with loaded `arguments`.

    Returns
    -------
    list of Argument
        By position, then keyword arguments by name.
    """
    return sorted(
        call_node.arguments,
        key=lambda argument: argument_order(argument.arg_position, argument.arg_key, argument.arg_hash),
    )


def display_node(node: Any, renames: Mapping[str, str]) -> tuple[str, str]:
    """Return how a node is written in a clause.

    Mirrors redun's `display_node`.

    Parameters
    ----------
    node : DataflowNode or None
        The node.
    renames : mapping
        Variable names to write instead of argument names.

    Returns
    -------
    tuple of str
        What stands before the hash (`argument of` or nothing), and what stands after it.
    """
    if node is None:
        return "", "origin"
    call_node = get_dataflow_call_node(node)
    if call_node is None:
        return "", repr(node)
    prefix = "argument of" if get_node_kind(node) == "ArgumentValue" else ""
    return prefix, display_call_node(call_node, renames)


def make_section_dom(
    section: DataflowSection, dataflow_vars: DataflowVars, new_varname: str = "value"
) -> DataflowSectionDOM:
    """Return the document of a section that describes a call.

    Mirrors redun's `make_section_dom`.

    Parameters
    ----------
    section : list of DataflowEdge
        The edges of the section, one at least.
    dataflow_vars : DataflowVars
        The names so far; new ones are added.
    new_varname : str
        Name of the node that the walk began at.

    Returns
    -------
    DataflowSectionDOM
        Assignment, routing and arguments.
    """
    src: Any
    dest: Any
    src, assign_node = section[0]
    edges = section[1:]
    if get_node_kind(src) == "CallNode":
        # A walk that began at a call: there is no edge into it.
        assign_node, edges = src, section
    if get_node_kind(src) == "Value":
        dataflow_vars[src] = var_name = new_varname
    else:
        # Only the start of a walk has no name yet.
        var_name, _ = dataflow_vars.new_var_name(src, new_varname)
    args, renames = [], {}
    routing_nodes: list[DataflowNode | None] = []
    last_node: DataflowNode | None = None
    is_var2var = _is_variable(assign_node)
    for edge in edges:
        _, dest = edge
        kinds = get_kinds(edge)
        if kinds == ("CallNode", "ArgumentValue"):
            arg_name, base_name = dataflow_vars.new_var_name(dest)
            if base_name:
                renames[base_name] = arg_name
            args.append(DataflowArg(arg_name, dest.value))
            continue
        last_node = dest
        is_var2var = is_var2var and kinds[1] != "CallNode"
        if kinds != ("CallNodeValue", "CallNode"):
            routing_nodes.append(dest)
    if is_var2var and not routing_nodes:
        prefix, (text, _) = "", dataflow_vars.new_var_name(assign_node, var_name)
    else:
        prefix, text = display_node(assign_node, {} if routing_nodes else renames)
    assign = DataflowAssign(var_name, prefix, text, assign_node)
    routing = []
    for number, node in enumerate(routing_nodes, 1):
        # Only the last line is followed by the arguments, so only there do their new names matter.
        prefix, text = display_node(node, renames if number == len(routing_nodes) else {})
        routing.append(DataflowRouting(prefix, text, node))
    if is_var2var and _is_variable(last_node):
        # Several paths meet in that node: it gets a variable, which a later section explains.
        text, _ = dataflow_vars.new_var_name(last_node, var_name)
        routing.append(DataflowRouting("", text, last_node))
    return DataflowSectionDOM(assign, routing, args)


def _is_variable(node: DataflowNode | None) -> bool:
    return node is not None and get_node_kind(node) in ("ArgumentValue", "CallNodeValue")


def make_data_section_dom(
    section: DataflowSection, dataflow_vars: DataflowVars, new_varname: str = "value"
) -> DataflowSectionDOM:
    """Return the document of a section that describes how a value was put together from results.

    Mirrors redun's `make_data_section_dom`.

    Parameters
    ----------
    section : list of DataflowEdge
        The edges of the section: one source, several results.
    dataflow_vars : DataflowVars
        The names so far; new ones are added.
    new_varname : str
        Name of the source when it has none yet.

    Returns
    -------
    DataflowSectionDOM
        `variable <-- derives from`, with the results as arguments.

    Raises
    ------
    ValueError
        The edges have several sources.
    """
    sources = {edge.src for edge in section}
    if len(sources) != 1:
        raise ValueError(f"A data section describes one value, not {len(sources)}.")
    [source] = sources
    var_name, _ = dataflow_vars.new_var_name(source, new_varname)
    args = []
    results: Iterable[Any] = iter_unique(edge.dest for edge in section)
    for result in results:
        result_name, _ = dataflow_vars.new_var_name(result, f"{result.call_node.task.name}_result")
        args.append(DataflowArg(result_name, result.value))
    return DataflowSectionDOM(DataflowAssign(var_name, "", "derives from", None), [], args)


def iter_dataflow_dom(
    dataflow_edges: Iterable[DataflowEdge], new_varname: str = "value"
) -> Iterator[DataflowSectionDOM]:
    """Yield the documents of all sections of a dataflow in their order, without any I/O."""
    names = DataflowVars()
    for kind, section in iter_dataflow_sections(dataflow_edges):
        make_dom = make_section_dom if kind is DataflowSectionKind.CALL else make_data_section_dom
        # Paths may meet in a value that is only explained by a data section.
        if section:
            yield make_dom(section, names, new_varname)
