"""Steps: what a walk keeps of an edge's destination until it gets there, and their order. Pure.

A node of the light kind needs its task; a step holds texts and numbers only, as the rows of a statement have
them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from aredun.dataflow.nodes import (
    ArgumentRef,
    ArgumentValue,
    CallNodeRef,
    CallNodeValue,
    DataflowNode,
    Key,
    ValueRef,
    make_key,
)
from aredun.formats.arguments import argument_order

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from aredun.dataflow.nodes import TaskRef

# Steps and nodes are made for every edge of a walk: without calls of `__new__` they cost half.
_new: Any = tuple.__new__

# What orders steps among their siblings, before their calls and arguments do: the number of the transition,
# the order, and the time (none counts as the oldest).
Rank: TypeAlias = tuple[int, int, bool, Any]


def make_rank(number: int, order: int = 0, time: Any = None) -> Rank:
    """Return the rank of a step."""
    return number, order, time is not None, time or 0


class Step(NamedTuple):
    """To an argument, to a result if it has no argument, to a call if it has no value either.

    Attributes
    ----------
    key : Key
        Key of the node that it leads to.
    rank : Rank
        Its place among its siblings.
    call_hash, task_hash, result_hash : str or None
        The call of that node; an argument of the call that the step leaves names none.
    value_hash : str or None
        The value followed.
    arg_hash, own_value_hash, position, name
        The argument.
    argument_count : int
        Number of arguments of the call, where that is needed.
    """

    key: Key
    rank: Rank
    call_hash: str | None
    task_hash: str | None
    result_hash: str | None
    value_hash: str | None = None
    arg_hash: str | None = None
    own_value_hash: str | None = None
    position: int | None = None
    name: str | None = None
    argument_count: int = 0

    def make_node(self, source: CallNodeRef | None, tasks: Mapping[str, TaskRef]) -> DataflowNode:
        """Return the node that it leads to, given the call of the node that it leaves."""
        _, _, call_hash, task, result, value, arg, own_value, position, name, argument_count = self
        if source is not None and (call_hash is None or call_hash == source.call_hash):
            call: Any = source
        else:
            call = _new(CallNodeRef, (call_hash, tasks[task], _new(ValueRef, (result,)), argument_count))  # type: ignore[index]  # it names a task
        node: DataflowNode
        if value is None:
            node = call
        elif arg is None:
            node = _new(CallNodeValue, (call, _new(ValueRef, (value,))))
        else:
            own = _new(ValueRef, (own_value,))
            argument = _new(ArgumentRef, (arg, call, own, position, name))
            followed = own if value == own_value else _new(ValueRef, (value,))
            node = _new(ArgumentValue, (argument, followed))
        return node


# The steps out of a node; there are none where a walk ends.
Entry: TypeAlias = tuple[Step, ...]


def make_step(
    rank: Rank,
    call: str | None,
    task: str | None,
    result: str | None,
    value: str | None,
    arg: str | None,
    own_value: str | None,
    position: int | None,
    name: str | None,
) -> Step:
    """Return the step that the columns of a row tell (see `select_columns` in `statements.py`)."""
    if arg is not None:
        key = make_key("A", arg, value or "")
    elif value is not None:
        key = make_key("R", call or "", value)
    else:
        key = make_key("C", call or "")
    step: Step = _new(Step, (key, rank, call, task, result, value, arg, own_value, position, name, 0))
    return step


def get_sort_key(step: Step) -> tuple[Rank, str, tuple[bool, int, str, str]]:
    """Return the sort key of a step: by its rank, by the call, by the argument."""
    return step.rank, step.call_hash or "", argument_order(step.position, step.name, step.arg_hash or "")


def count_arguments(steps: Sequence[Step], counts: Mapping[str, int]) -> Entry:
    """Return steps that know the numbers of arguments of their calls, as far as those were counted."""
    return tuple(
        step._replace(argument_count=counts.get(step.call_hash, 0)) if step.call_hash else step
        for step in steps
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
