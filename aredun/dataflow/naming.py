"""Names of arguments and of the variables that a dataflow is written with."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from aredun.formats.arguments import name_argument, read_parameters

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aredun.dataflow.nodes import DataflowNode

# redun wraps scripts in tasks of its own; a dataflow looks through them.
REDUN_INTERNAL_TASKS = frozenset({"redun.postprocess_script", "redun.script"})

_NUMERIC_SUFFIX = re.compile(r"_\d+$")


def is_internal_task(task: Any) -> bool:
    """Tell whether a task is one of redun's own wrappers, which a dataflow leaves out.

    Mirrors redun's `is_internal_task`.

    Parameters
    ----------
    task : TaskRef or Task
        Anything with a `fullname`.

    Returns
    -------
    bool
        True for `redun.script` and `redun.postprocess_script`.
    """
    return task.fullname in REDUN_INTERNAL_TASKS


def get_task_args(task: Any) -> list[str]:
    """Return the names of a task's positional parameters, read from its recorded source.

    Mirrors redun's `get_task_args`; tasks made with `async def` are read as well.

    Parameters
    ----------
    task : TaskRef or Task
        Anything with a `source`.

    Returns
    -------
    list of str
        The names in order.

    Raises
    ------
    SyntaxError
        The source is not that of a function.
    """
    names, problem = read_parameters(task.source or "")
    if names is None:
        raise SyntaxError(f"The source of the task does not tell its arguments: {problem}")
    return list(names)


def get_argument_name(argument: Any) -> str:
    """Return the name of an argument: its keyword, else the parameter at its position, else `arg0`, `arg1`
    ...

    Parameters
    ----------
    argument : ArgumentRef or Argument
        The argument; a model needs its call and the call's task loaded.

    Returns
    -------
    str
        The name.
    """
    source = argument.call_node.task.source or ""
    return name_argument(argument.arg_position, argument.arg_key, source)


def get_default_arg_name(pos: int) -> str:
    """Return the name of an argument whose real name is not known.

    Mirrors redun's `get_default_arg_name`.

    Parameters
    ----------
    pos : int
        Position of the argument, from 0.

    Returns
    -------
    str
        `arg0`, `arg1` ...
    """
    return f"arg{pos}"


def make_var_name(var_name_base: str, name2var: Mapping[str, object], suffix: int = 2) -> str:
    """Return a variable name that is not taken yet.

    Mirrors redun's `make_var_name`.

    Parameters
    ----------
    var_name_base : str
        The wished name; a numeric suffix (`_2`) is taken off first.
    name2var : mapping
        Names that are taken.
    suffix : int
        First suffix to try when the name itself is taken.

    Returns
    -------
    str
        The name, or the name with the first free suffix.
    """
    base = _NUMERIC_SUFFIX.sub("", var_name_base)
    if base not in name2var:
        return base
    while (name := f"{base}_{suffix}") in name2var:
        suffix += 1
    return name


class DataflowVars:
    """The variable names of one dataflow: `vars[node]` is the name of a node.

    Mirrors redun's `DataflowVars`.
    """

    def __init__(self) -> None:
        self.var2name: dict[DataflowNode, str] = {}
        self.name2var: dict[str, DataflowNode] = {}
        self.task2args: dict[Any, list[str]] = {}
        # Where the search for a free suffix ended last time: a thousand variables of one name must not search
        # a million times.
        self._next_suffix: dict[str, int] = {}

    def __getitem__(self, node: DataflowNode) -> str:
        return self.var2name[node]

    def __setitem__(self, node: DataflowNode, var_name: str) -> None:
        self.var2name[node] = var_name
        self.name2var[var_name] = node

    def __contains__(self, node: DataflowNode) -> bool:
        return node in self.var2name

    def get_task_args(self, task: Any) -> list[str]:
        """Return the parameter names of a task, none when its source does not tell them.

        Mirrors redun's `DataflowVars.get_task_args`.

        Parameters
        ----------
        task : TaskRef or Task
            The task.

        Returns
        -------
        list of str
            Names of the positional parameters.
        """
        names = self.task2args.get(task)
        if names is None:
            try:
                names = get_task_args(task)
            except SyntaxError:
                names = []
            self.task2args[task] = names
        return names

    def new_var_name(self, node: Any, base_var_name: str | None = None) -> tuple[str, str | None]:
        """Return the name of a node, giving it a new one when it has none.

        Mirrors redun's `DataflowVars.new_var_name`.

        Parameters
        ----------
        node : DataflowNode
            The node.
        base_var_name : str, optional
            Name to start from; without it the node must be an `ArgumentValue`, which is named after its
            argument.

        Returns
        -------
        tuple of str and (str or None)
            The name, and the name it was made from (None when the node had a name already).
        """
        name = self.var2name.get(node)
        if name:
            return name, None
        base_var_name = base_var_name or get_argument_name(node.argument)
        base = _NUMERIC_SUFFIX.sub("", base_var_name)
        name = make_var_name(base, self.name2var, self._next_suffix.get(base, 2))
        if name != base:
            self._next_suffix[base] = int(name.rpartition("_")[2]) + 1
        self[node] = name
        return name, base_var_name
