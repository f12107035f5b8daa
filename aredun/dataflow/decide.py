"""Which edges follow from a node, given its neighbourhood. Pure: no I/O, no order that hangs on a set or on
rows.

A neighbourhood is what `aredun.dataflow.load` fetches for many nodes at once. Steps are what a walk keeps
of an edge's destination until it gets there.
"""

from __future__ import annotations

from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from aredun.dataflow.nodes import (
    ArgumentRef,
    ArgumentValue,
    CallNodeRef,
    CallNodeValue,
    ValueRef,
    argument_order,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from aredun.dataflow.nodes import DataflowNode, TaskRef


# What tells a node from all others: its kind, its hash and the value followed. A walk remembers one per node,
# so they are packed into bytes where the hashes are hexadecimal, as redun's are.
Key: TypeAlias = "bytes | tuple[str, str, str]"

# Steps are plain tuples of texts and numbers, which the garbage collector leaves alone; their length tells
# where they lead:
# - to a call: (key, call_hash, task_hash, result_hash, argument_count)
# - to a value within a result: (key, call_hash, task_hash, result_hash, argument_count, value_hash)
# - to a value within an argument: (key, call_hash, task_hash, result_hash, argument_count, value_hash,
# arg_hash,
#   own_value_hash, position, name); an argument of the call that is just left has None for its call.
Step: TypeAlias = tuple[Any, ...]
KEY, CALL, TASK, RESULT, COUNT, VALUE, ARGUMENT, OWN_VALUE, POSITION, NAME = range(10)
CALL_SIZE, RESULT_SIZE, ARGUMENT_SIZE = COUNT + 1, VALUE + 1, NAME + 1

_new: Any = tuple.__new__


class Candidate(NamedTuple):
    """A call that may have produced a value.

    Attributes
    ----------
    call_hash : str
        The call.
    task_hash : str
        Its task.
    value_hash : str
        Its result: the value, or one that holds it.
    started : Any
        Latest start of its jobs, None without a job.
    """

    call_hash: str
    task_hash: str
    value_hash: str
    started: Any


_HASH_LENGTH = 40
_PREFIXES = {"A": "0a", "C": "0c", "R": "0e", "V": "0f"}
_KINDS = {int(prefix, 16): kind for kind, prefix in _PREFIXES.items()}
_fromhex = bytes.fromhex
_CALL = _fromhex(_PREFIXES["C"])
_RESULT = int(_PREFIXES["R"], 16)


def make_key(kind: str, node_hash: str, value_hash: str = "") -> Key:
    """Return the key of a node, given what identifies it (see `get_identity`)."""
    text = f"{_PREFIXES[kind]}{node_hash}{value_hash}"
    try:
        key = _fromhex(text)
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
        return _KINDS[key[0]], text[2 : 2 + _HASH_LENGTH], text[2 + _HASH_LENGTH :]
    return key


def is_value(key: Key) -> bool:
    """Tell whether a key is that of a value as such, with which a walk may begin."""
    return parse_key(key)[0] == "V"


def get_call_key(key: Key) -> Key | None:
    """Return the key of the call whose result a node is a value within, None for a node of another kind."""
    if isinstance(key, bytes):
        return _CALL + key[1 : 1 + _HASH_LENGTH // 2] if key[0] == _RESULT else None
    return make_key("C", key[1]) if key[0] == "R" else None


def make_call(step: Step, tasks: Mapping[str, TaskRef]) -> CallNodeRef:
    """Return the light node of the call that a step belongs to."""
    # Written out: this runs for every edge of a walk.
    value = _new(ValueRef, ("Value", step[3]))
    call_node: CallNodeRef = _new(CallNodeRef, ("CallNode", step[1], tasks[step[2]], value, step[4]))
    return call_node


def make_node(step: Step, source: CallNodeRef | None, tasks: Mapping[str, TaskRef]) -> DataflowNode:
    """Return the node that a step leads to, given the call that it leaves."""
    size = len(step)
    if size == CALL_SIZE:
        # A result that no child returned leads to its own call.
        return source if source is not None and source[1] == step[1] else make_call(step, tasks)
    if size == RESULT_SIZE:
        node: DataflowNode = _new(
            CallNodeValue, (make_call(step, tasks), _new(ValueRef, ("Value", step[VALUE])))
        )
        return node
    _, call_hash, _, _, _, value_hash, arg_hash, own_value_hash, position, name = step
    owner = source if call_hash is None else make_call(step, tasks)
    own_value = _new(ValueRef, ("Value", own_value_hash))
    followed = own_value if value_hash == own_value_hash else _new(ValueRef, ("Value", value_hash))
    argument = _new(ArgumentRef, ("Argument", arg_hash, owner, own_value, position, name))
    node = _new(ArgumentValue, (argument, followed))
    return node


def find_origin(candidates: Sequence[Candidate], parents: Mapping[str, Sequence[str]]) -> Candidate | None:
    """Return the call that a value came from.

    A candidate that is an ancestor of another one only passed the value on. Of the others the one that ran
    last wins.

    Parameters
    ----------
    candidates : sequence of Candidate
        All calls whose result is or holds the value.
    parents : mapping of str to sequence of str
        Parents of every candidate and of their ancestors, in the order of their calls.

    Returns
    -------
    Candidate or None
        None where no candidate ran, or all of them only passed the value on.
    """
    hashes = {candidate.call_hash for candidate in candidates}
    seen: set[str] = set()
    routing = set()
    for call_hash in sorted(hashes):
        ancestor = _find_ancestor(call_hash, hashes, parents, seen)
        if ancestor is not None:
            routing.add(ancestor)
    best: Candidate | None = None
    for candidate in candidates:
        if candidate.call_hash in routing or candidate.started is None:
            continue
        if best is None or candidate.started > best.started:
            best = candidate
        elif candidate.started == best.started and candidate.call_hash < best.call_hash:
            best = candidate
    return best


def _find_ancestor(
    call_hash: str, wanted: set[str], parents: Mapping[str, Sequence[str]], seen: set[str]
) -> str | None:
    """Return the first wanted ancestor in pre-order, skipping what was seen for earlier calls and marking
    what is seen now.
    """
    path = [iter(parents.get(call_hash, ()))]
    while path:
        for parent in path[-1]:
            if parent in seen:
                continue
            if parent in wanted:
                # Not marked: the search ends here, and another call's search may end here too.
                return parent
            seen.add(parent)
            path.append(iter(parents.get(parent, ())))
            break
        else:
            path.pop()
    return None


def sort_parents(edges: Iterable[tuple[str, str, int]]) -> dict[str, list[str]]:
    """Return the parents of every child by call order, then by hash, given (child, parent, least call
    order)."""
    ordered: dict[str, list[tuple[int, str]]] = {}
    for child, parent, call_order in edges:
        ordered.setdefault(child, []).append((call_order, parent))
    return {child: [parent for _, parent in sorted(pairs)] for child, pairs in ordered.items()}


def sort_steps(steps: Sequence[Step], orders: Mapping[str, int] | None) -> tuple[Step, ...]:
    """Return the steps out of one node in the order of a walk.

    Parameters
    ----------
    steps : sequence of Step
        To the upstream calls of an argument and to arguments; or to the arguments of a call.
    orders : mapping of str to int or None
        Greatest call order of each upstream call under the latest common parent; None where they have none in
        common.

    Returns
    -------
    tuple of Step
        Upstream calls, the one called last first, then by hash; then arguments by position, then by name.
    """
    arguments = [step for step in steps if len(step) == ARGUMENT_SIZE]
    arguments.sort(key=_get_argument_order)
    if len(arguments) == len(steps):
        return tuple(arguments)
    results = sorted((step for step in steps if len(step) == RESULT_SIZE), key=itemgetter(CALL))
    if orders:
        results.sort(key=lambda step: orders[step[CALL]], reverse=True)
    return (*results, *arguments)


def _get_argument_order(step: Step) -> Any:
    return argument_order(step[POSITION], step[NAME], step[ARGUMENT])


def count_arguments(entry: tuple[Step, ...], counts: Mapping[str, int]) -> tuple[Step, ...]:
    """Return an entry whose steps know the numbers of arguments of their calls, as far as those were
    counted."""
    if not counts:
        return entry
    return tuple(
        (*step[:COUNT], counts[step[CALL]], *step[COUNT + 1 :]) if step[CALL] in counts else step
        for step in entry
    )
