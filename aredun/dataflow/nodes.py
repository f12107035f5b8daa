"""The light, immutable nodes and edges of a dataflow graph.

A walk may pass over millions of nodes, so they are tuples of strings and not ORM entities. The tag in
front keeps nodes of different kinds apart even where their fields are equal. Whatever has the same
attributes may stand in for a node that is handed in (an instance of `aredun.models` or of redun's own
models): `get_identity` tells what it stands for.
"""

from __future__ import annotations

from operator import itemgetter
from typing import Any, NamedTuple, TypeAlias


class TaskRef(tuple[str, str, str, str, str]):
    """A task as a dataflow shows it.

    Parameters
    ----------
    task_hash : str
        Hash of the task.
    name : str
        Name without the namespace.
    namespace : str
        Namespace, empty when there is none.
    source : str
        Recorded source code, from which argument names are read.
    """

    __slots__ = ()

    def __new__(cls, task_hash: str, name: str, namespace: str = "", source: str = "") -> TaskRef:
        """Make a task reference."""
        return tuple.__new__(cls, ("Task", task_hash, name, namespace, source))

    hash = property(itemgetter(1), doc="Hash of the task.")
    name = property(itemgetter(2), doc="Name without the namespace.")
    namespace = property(itemgetter(3), doc="Namespace, empty when there is none.")
    source = property(itemgetter(4), doc="Recorded source code.")

    @property
    def fullname(self) -> str:
        """Name with its namespace, as redun writes it."""
        return f"{self[3]}.{self[2]}" if self[3] else self[2]

    def __repr__(self) -> str:
        return f"TaskRef({self.fullname}, {self[1][:8]})"


class ValueRef(tuple[str, str]):
    """A recorded value, by its hash; its bytes are never loaded by a walk.

    Parameters
    ----------
    value_hash : str
        Hash of the value.
    """

    __slots__ = ()

    def __new__(cls, value_hash: str) -> ValueRef:
        """Make a value reference."""
        return tuple.__new__(cls, ("Value", value_hash))

    value_hash = property(itemgetter(1), doc="Hash of the value.")

    def __repr__(self) -> str:
        return f"ValueRef({self[1][:8]})"


class CallNodeRef(tuple[str, str, TaskRef, ValueRef, int]):
    """A recorded call of a task.

    Parameters
    ----------
    call_hash : str
        Hash of the call node.
    task : TaskRef
        The task that was called.
    value : ValueRef
        The result of the call.
    argument_count : int
        Number of recorded arguments; only counted for tasks whose source does not tell the names of their
        arguments.
    """

    __slots__ = ()

    def __new__(cls, call_hash: str, task: TaskRef, value: ValueRef, argument_count: int = 0) -> CallNodeRef:
        """Make a call reference."""
        return tuple.__new__(cls, ("CallNode", call_hash, task, value, argument_count))

    call_hash = property(itemgetter(1), doc="Hash of the call node.")
    task = property(itemgetter(2), doc="The task that was called.")
    value = property(itemgetter(3), doc="The result of the call.")
    argument_count = property(itemgetter(4), doc="Number of recorded arguments, where it was counted.")

    def __repr__(self) -> str:
        return f"CallNodeRef({self[2].fullname}, {self[1][:8]})"


class ArgumentRef(tuple[str, str, CallNodeRef, ValueRef, "int | None", "str | None"]):
    """An argument of a recorded call.

    Parameters
    ----------
    arg_hash : str
        Hash of the argument.
    call_node : CallNodeRef
        The call that the argument was given to.
    value : ValueRef
        The value that was given.
    arg_position : int or None
        Position of a positional argument, from 0.
    arg_key : str or None
        Name of a keyword argument.
    """

    __slots__ = ()

    def __new__(
        cls,
        arg_hash: str,
        call_node: CallNodeRef,
        value: ValueRef,
        arg_position: int | None = None,
        arg_key: str | None = None,
    ) -> ArgumentRef:
        """Make an argument reference."""
        return tuple.__new__(cls, ("Argument", arg_hash, call_node, value, arg_position, arg_key))

    arg_hash = property(itemgetter(1), doc="Hash of the argument.")
    call_node = property(itemgetter(2), doc="The call that the argument was given to.")
    value = property(itemgetter(3), doc="The value that was given.")
    arg_position = property(itemgetter(4), doc="Position of a positional argument, from 0.")
    arg_key = property(itemgetter(5), doc="Name of a keyword argument.")

    def __repr__(self) -> str:
        label = self[5] if self[5] else self[4]
        return f"ArgumentRef({label} of {self[2]!r})"


class ArgumentValue(NamedTuple):
    """A dataflow node: one value followed through an argument (the argument's own value or a part of it).

    Mirrors redun's `ArgumentValue`.

    Attributes
    ----------
    argument : ArgumentRef
        The argument.
    value : ValueRef
        The value followed.
    """

    argument: ArgumentRef
    value: ValueRef


class CallNodeValue(NamedTuple):
    """A dataflow node: one value followed through the result of a call (the result or a part of it).

    Mirrors redun's `CallNodeValue`.

    Attributes
    ----------
    call_node : CallNodeRef
        The call.
    value : ValueRef
        The value followed.
    """

    call_node: CallNodeRef
    value: ValueRef


DataflowNode: TypeAlias = ArgumentValue | CallNodeValue | CallNodeRef | ValueRef


class DataflowEdge(NamedTuple):
    """An edge of a dataflow graph: `src` came from `dest`, or from nowhere known (`None`).

    Mirrors redun's `DataflowEdge`.

    In a walk downstream, `dest` came from `src`.

    Attributes
    ----------
    src : DataflowNode
        What came from `dest`; downstream, what `dest` came from.
    dest : DataflowNode or None
        None for an origin.
    """

    src: DataflowNode
    dest: DataflowNode | None


# What models (of aredun or of redun) are called in their tables: they are told apart without importing them.
_TABLE_KINDS = {
    "value": "Value",
    "call_node": "CallNode",
    "file": "Value",
    "task": "Value",
    "handle": "Value",
}


def get_node_kind(node: object) -> str:
    """Return the kind of a node: `Value`, `CallNode`, `ArgumentValue` or `CallNodeValue`.

    Parameters
    ----------
    node : object
        A light node, or anything with the attributes of one (a model's instance, redun's own named tuples).

    Returns
    -------
    str
        The kind, as the websocket of the server names it.

    Raises
    ------
    TypeError
        The object is no dataflow node.
    """
    kind = _KIND_OF_TYPE.get(type(node))
    if kind is not None:
        return kind
    if hasattr(node, "argument") and hasattr(node, "value"):
        return "ArgumentValue"
    if hasattr(node, "call_node") and hasattr(node, "value") and isinstance(node, tuple):
        return "CallNodeValue"
    table = getattr(type(node), "__tablename__", None)
    if table in _TABLE_KINDS:
        return _TABLE_KINDS[table]
    if hasattr(node, "call_hash") and not hasattr(node, "arg_hash"):
        return "CallNode"
    if hasattr(node, "value_hash"):
        return "Value"
    raise TypeError(
        f"{type(node).__name__} is no dataflow node: expected a Value, CallNode, ArgumentValue or "
        "CallNodeValue"
    )


_KIND_OF_TYPE: dict[type, str] = {
    ValueRef: "Value",
    CallNodeRef: "CallNode",
    ArgumentValue: "ArgumentValue",
    CallNodeValue: "CallNodeValue",
}


def get_identity(node: Any) -> tuple[str, str, str]:
    """Return what identifies a node: its kind in one letter, its hash, and the hash of the value followed.

    Parameters
    ----------
    node : DataflowNode or model
        A light node or what may stand in for one. A `Task` counts as the value that it is recorded as, a
        `File` as its value.

    Returns
    -------
    tuple of str
        `("V", value_hash, "")`, `("C", call_hash, "")`, `("A", arg_hash, value_hash)` or `("R", call_hash,
        value_hash)`.

    Raises
    ------
    TypeError
        The object is no dataflow node.
    """
    kind = get_node_kind(node)
    if kind == "Value":
        value_hash = getattr(node, "value_hash", None)
        return "V", value_hash if value_hash is not None else node.hash, ""
    if kind == "CallNode":
        return "C", node.call_hash, ""
    if kind == "ArgumentValue":
        return "A", node.argument.arg_hash, node.value.value_hash
    return "R", node.call_node.call_hash, node.value.value_hash
