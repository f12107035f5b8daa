"""Documents: what every section of a dataflow says, before it is written as text or JSON. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aredun.dataflow.naming import DataflowVars, get_default_arg_name, get_task_args
from aredun.dataflow.nodes import get_node_kind
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

_VARIABLES = ("ArgumentValue", "CallNodeValue")


def get_dataflow_call_node(node: Any) -> Any:
    """Return the call that a node belongs to, None for a value or an origin.

    Mirrors redun's `get_dataflow_call_node`.

    Parameters
    ----------
    node : DataflowNode or None
        The node.

    Returns
    -------
    CallNodeRef or None
        The call.
    """
    kind = None if node is None else get_node_kind(node)
    if kind == "CallNode":
        return node
    if kind == "ArgumentValue":
        return node.argument.call_node
    if kind == "CallNodeValue":
        return node.call_node
    return None


def get_node_hash(node: Any) -> str | None:
    """Return the hash that a node is shown with: a value's own, else that of its call.

    Mirrors redun's `get_node_hash`.

    Parameters
    ----------
    node : DataflowNode or None
        The node.

    Returns
    -------
    str or None
        The whole hash; None for an origin.
    """
    if node is None:
        return None
    call_node = get_dataflow_call_node(node)
    node_hash: str = node.value_hash if call_node is None else call_node.call_hash
    return node_hash


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


class _Clauses:
    """The clauses of one section of kind `call`, while its edges are read."""

    def __init__(self, section: DataflowSection, names: DataflowVars, new_varname: str) -> None:
        src: Any
        src, self.assign_node = section[0]
        edges = section[1:]
        kind = get_node_kind(src)
        if kind == "Value":
            names[src] = self.var_name = new_varname
        elif kind == "CallNode":
            # A walk that began at a call: there is no edge into it.
            self.assign_node, edges = src, section
            self.var_name, _ = names.new_var_name(src, new_varname)
        else:
            # Only the start of a walk has no name yet.
            self.var_name, _ = names.new_var_name(src, new_varname)
        self._names = names
        self.renames: dict[str, str] = {}
        self.routing: list[DataflowNode | None] = []
        self.args: list[DataflowArg] = []
        self.last_node: DataflowNode | None = None
        self.is_var2var = _is_variable(self.assign_node)
        for edge in edges:
            self._add(edge)

    def _add(self, edge: DataflowEdge) -> None:
        src: Any = edge.src
        dest: Any = edge.dest
        src_kind = get_node_kind(src)
        dest_kind = None if dest is None else get_node_kind(dest)
        if src_kind == "CallNode" and dest_kind == "ArgumentValue":
            var_name, base_var_name = self._names.new_var_name(dest)
            if base_var_name:
                self.renames[base_var_name] = var_name
            self.args.append(DataflowArg(var_name, dest.value))
            return
        self.last_node = dest
        if dest_kind == "CallNode":
            self.is_var2var = False
        if not (src_kind == "CallNodeValue" and dest_kind == "CallNode"):
            self.routing.append(dest)

    def make_dom(self) -> DataflowSectionDOM:
        if self.is_var2var and not self.routing:
            var_name, _ = self._names.new_var_name(self.assign_node, self.var_name)
            assign = DataflowAssign(self.var_name, "", var_name, self.assign_node)
        else:
            prefix, text = display_node(self.assign_node, {} if self.routing else self.renames)
            assign = DataflowAssign(self.var_name, prefix, text, self.assign_node)
        routing = []
        for index, node in enumerate(self.routing, 1):
            # Only the last line is followed by the arguments, so only there do their new names matter.
            prefix, text = display_node(node, self.renames if index == len(self.routing) else {})
            routing.append(DataflowRouting(prefix, text, node))
        if self.is_var2var and _is_variable(self.last_node):
            # Several paths meet in that node: it gets a variable, which a later section explains.
            var_name, _ = self._names.new_var_name(self.last_node, self.var_name)
            routing.append(DataflowRouting("", var_name, self.last_node))
        return DataflowSectionDOM(assign, routing, self.args)


def _is_variable(node: DataflowNode | None) -> bool:
    return node is not None and get_node_kind(node) in _VARIABLES


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
    return _Clauses(section, dataflow_vars, new_varname).make_dom()


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
        if not section:
            # Paths may meet in a value that is only explained by a data section.
            continue
        if kind is DataflowSectionKind.CALL:
            yield make_section_dom(section, names, new_varname)
        else:
            yield make_data_section_dom(section, names, new_varname)
