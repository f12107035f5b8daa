"""Steps: what a walk keeps of an edge's destination until it gets there, and their order. Pure.

A node of the light kind needs its task; a step holds texts and numbers only, as the rows of a statement have
them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias

from aredun.dataflow.keys import Key, make_key
from aredun.dataflow.nodes import (
    ArgumentRef,
    ArgumentValue,
    CallNodeRef,
    CallNodeValue,
    ValueRef,
)
from aredun.formats.arguments import argument_order

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from aredun.dataflow.nodes import DataflowNode, TaskRef

    Tasks = Mapping[str, TaskRef]

# Steps and nodes are made for every edge of a walk: this way they cost half.
_new: Any = tuple.__new__

# What orders steps among their siblings, before their calls and arguments do: the number of the transition,
# the order, and the time (none counts as the oldest).
Place: TypeAlias = tuple[int, int, bool, Any]


def make_place(number: int, order: int = 0, time: Any = None) -> Place:
    """Return the place of a step."""
    return number, order, time is not None, time or 0


class CallStep(NamedTuple):
    """To a call."""

    key: Key
    place: Place
    call_hash: str
    task_hash: str
    result_hash: str
    argument_count: int

    def make_node(self, source: CallNodeRef | None, tasks: Tasks) -> DataflowNode:
        """Return the node, given the call that the step leaves."""
        # A result that no child returned leads to its own call.
        return source if source is not None and source[1] == self[2] else _make_call(self, tasks)


class ResultStep(NamedTuple):
    """To a value within the result of a call."""

    key: Key
    place: Place
    call_hash: str
    task_hash: str
    result_hash: str
    argument_count: int
    value_hash: str

    def make_node(self, source: CallNodeRef | None, tasks: Tasks) -> DataflowNode:
        """Return the node."""
        node: DataflowNode = _new(
            CallNodeValue, (_make_call(self, tasks), _new(ValueRef, ("Value", self[6])))
        )
        return node


class ArgumentStep(NamedTuple):
    """To a value within an argument; an argument of the call that the step leaves names no call."""

    key: Key
    place: Place
    call_hash: str | None
    task_hash: str | None
    result_hash: str | None
    argument_count: int
    value_hash: str
    arg_hash: str
    own_value_hash: str
    position: int | None
    name: str | None

    def make_node(self, source: CallNodeRef | None, tasks: Tasks) -> DataflowNode:
        """Return the node, given the call that the step leaves."""
        _, _, call_hash, _, _, _, value_hash, arg_hash, own_value_hash, position, name = self
        call = source if call_hash is None else _make_call(self, tasks)
        own_value = _new(ValueRef, ("Value", own_value_hash))
        followed = own_value if value_hash == own_value_hash else _new(ValueRef, ("Value", value_hash))
        argument = _new(ArgumentRef, ("Argument", arg_hash, call, own_value, position, name))
        node: DataflowNode = _new(ArgumentValue, (argument, followed))
        return node


Step: TypeAlias = CallStep | ResultStep | ArgumentStep
# The steps out of a node; there are none where a walk ends.
Entry: TypeAlias = tuple[Step, ...]


def _make_call(step: Any, tasks: Tasks) -> Any:
    """Return the light node of the call that a step belongs to."""
    _, _, call_hash, task_hash, result_hash, argument_count, *_ = step
    value = _new(ValueRef, ("Value", result_hash))
    return _new(CallNodeRef, ("CallNode", call_hash, tasks[task_hash], value, argument_count))


def make_step(
    place: Place,
    call: str | None,
    task: str | None,
    result: str | None,
    value: str | None,
    arg: str | None,
    own_value: str | None,
    position: int | None,
    name: str | None,
) -> Step:
    """Return the step to an argument, a result or a call, whichever the columns of a row tell."""
    step: Step
    if arg is not None:
        key = make_key("A", arg, value or "")
        step = _new(ArgumentStep, (key, place, call, task, result, 0, value, arg, own_value, position, name))
    elif value is not None:
        step = _new(ResultStep, (make_key("R", call or "", value), place, call, task, result, 0, value))
    else:
        step = _new(CallStep, (make_key("C", call or ""), place, call, task, result, 0))
    return step


def get_order(step: Step) -> tuple[Place, str, tuple[Any, ...]]:
    """Return the sort key of a step: by its place, by the call, by the argument."""
    argument: tuple[Any, ...] = ()
    if type(step) is ArgumentStep:
        argument = argument_order(step.position, step.name, step.arg_hash)
    return step.place, step.call_hash or "", argument


def count_arguments(entry: Entry, counts: Mapping[str, int]) -> Entry:
    """Return an entry whose steps know the numbers of arguments of their calls, as far as those were
    counted."""
    return tuple(
        step._replace(argument_count=counts.get(step.call_hash, 0)) if step.call_hash else step
        for step in entry
    )


class Reach(NamedTuple):
    """What a load that looks ahead brought.

    Attributes
    ----------
    entries : dict of Key to Entry
        Steps out of every new node.
    rows : int
        Nodes that the statement met, known ones included.
    known_calls : list of str
        Hashes of calls among them that were known already.
    truncated : bool
        Whether the limit ended it.
    """

    entries: dict[Key, Entry]
    rows: int
    known_calls: list[str]
    truncated: bool


class Source(Protocol):
    """What a walk loads from (see `aredun.dataflow.load.Loader`)."""

    tasks: dict[str, TaskRef]

    async def load_start(self, node: Any) -> DataflowNode:
        """Return the light node of a start node."""

    async def load_layer(self, keys: Sequence[Key]) -> dict[Key, Entry]:
        """Return the entries of some nodes."""

    async def load_reach(
        self,
        seeds: Sequence[Key],
        limit: int,
        is_known: Callable[[Key], bool],
        stop: Collection[str],
        note: Callable[[Sequence[Key]], None],
    ) -> Reach:
        """Return the entries of some nodes and of what follows from them."""
