"""The light, immutable nodes and edges of a dataflow graph, and what tells a node from all others. Pure.

A walk may pass over millions of nodes, so they are tuples of strings and not ORM entities. No two kinds have
fields of the same number and types: nodes of different kinds are never equal. Whatever has the same
attributes may stand in for a node that is handed in (an instance of `aredun.models` or of redun's own
models): `get_identity` tells what it stands for.
"""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

from aredun.values.namespace import join_fullname


class TaskRef(NamedTuple):
    """A task as a dataflow shows it.

    Attributes
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

    task_hash: str
    name: str
    namespace: str = ""
    source: str = ""

    @property
    def hash(self) -> str:
        """Hash of the task, as models call it."""
        return self.task_hash

    @property
    def fullname(self) -> str:
        """Name with its namespace, as redun writes it."""
        return join_fullname(self.namespace, self.name)

    def __repr__(self) -> str:
        return f"TaskRef({self.fullname}, {self.task_hash[:8]})"


class ValueRef(NamedTuple):
    """A recorded value, by its hash; its bytes are never loaded by a walk.

    Attributes
    ----------
    value_hash : str
        Hash of the value.
    """

    value_hash: str

    def __repr__(self) -> str:
        return f"ValueRef({self.value_hash[:8]})"


class CallNodeRef(NamedTuple):
    """A recorded call of a task.

    Attributes
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

    call_hash: str
    task: TaskRef
    value: ValueRef
    argument_count: int = 0

    def __repr__(self) -> str:
        return f"CallNodeRef({self.task.fullname}, {self.call_hash[:8]})"


class ArgumentRef(NamedTuple):
    """An argument of a recorded call.

    Attributes
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

    arg_hash: str
    call_node: CallNodeRef
    value: ValueRef
    arg_position: int | None = None
    arg_key: str | None = None

    def __repr__(self) -> str:
        return f"ArgumentRef({self.arg_key or self.arg_position} of {self.call_node!r})"


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


# Kinds by type; models (of aredun or of redun) are told apart by their tables, without importing them.
_KINDS: dict[Any, str] = {
    ValueRef: "Value",
    CallNodeRef: "CallNode",
    ArgumentValue: "ArgumentValue",
    CallNodeValue: "CallNodeValue",
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
    kind = _KINDS.get(type(node)) or _KINDS.get(getattr(type(node), "__tablename__", None))
    if kind is not None:
        return kind
    if hasattr(node, "argument") and hasattr(node, "value"):
        return "ArgumentValue"
    if not hasattr(node, "arg_hash"):
        if isinstance(node, tuple) and hasattr(node, "call_node") and hasattr(node, "value"):
            return "CallNodeValue"
        if hasattr(node, "call_hash"):
            return "CallNode"
    if hasattr(node, "value_hash"):
        return "Value"
    raise TypeError(
        f"{type(node).__name__} is no dataflow node: expected a Value, CallNode, ArgumentValue or "
        "CallNodeValue"
    )


def get_kinds(edge: DataflowEdge) -> tuple[str, str | None]:
    """Return the kinds of the nodes of an edge; None for that of an origin."""
    return get_node_kind(edge.src), None if edge.dest is None else get_node_kind(edge.dest)


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
        return "V", node.value_hash if hasattr(node, "value_hash") else node.hash, ""
    if kind == "CallNode":
        return "C", node.call_hash, ""
    if kind == "ArgumentValue":
        return "A", node.argument.arg_hash, node.value.value_hash
    return "R", node.call_node.call_hash, node.value.value_hash


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
    return node.call_node if kind == "CallNodeValue" else None


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


# A walk remembers one key per node, so keys are small: bytes where the hashes are hexadecimal, as redun's
# are; else the kind, the hash and the value followed.
Key: TypeAlias = "bytes | tuple[str, str, str]"

_HASH_LENGTH = 40
_PREFIXES = {"A": "0a", "C": "0c", "R": "0e", "V": "0f"}
_LETTERS = {int(prefix, 16): kind for kind, prefix in _PREFIXES.items()}


def make_key(kind: str, node_hash: str, value_hash: str = "") -> Key:
    """Return the key of a node, given what identifies it (see `get_identity`)."""
    text = f"{_PREFIXES[kind]}{node_hash}{value_hash}"
    try:
        key = bytes.fromhex(text)
    except ValueError:
        return kind, node_hash, value_hash
    # White space and capitals would be lost.
    if len(node_hash) == _HASH_LENGTH and key.hex() == text:
        return key
    return kind, node_hash, value_hash


def parse_key(key: Key) -> tuple[str, str, str]:
    """Return what a key was made of."""
    if isinstance(key, bytes):
        text = key.hex()
        return _LETTERS[key[0]], text[2 : 2 + _HASH_LENGTH], text[2 + _HASH_LENGTH :]
    return key


def get_key(node: Any) -> Key:
    """Return the key of a node."""
    return make_key(*get_identity(node))
