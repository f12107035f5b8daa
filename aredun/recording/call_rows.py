"""The rows of a recorded call, and the calls that its arguments came from."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from aredun.loop.pacing import take_turn
from aredun.models import CallNode, CallSubtreeTask
from aredun.storage import ValueRows, ask, make_rows
from aredun.storage.rows import ARGUMENT, ARGUMENT_RESULT, CALL_EDGE, CALL_NODE, CALL_SUBTREE_TASK
from aredun.tables.column_types import in_list
from aredun.values.nested import SCALARS, get_parts
from aredun.values.sizes import Weight, weigh

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy.ext.asyncio import AsyncSession

    from aredun.storage import RowSet
    from aredun.storage.rows import Row, RowTable

    TypedRow = tuple[RowTable, Row]


@dataclass(slots=True, eq=False)
class UnrecordedCall:
    """A call that is recorded unless it is there, with edges to those of its children that are.

    Attributes
    ----------
    row : tuple
        Of `call_node`.
    child_call_hashes : Sequence[str]
        In the order of the calls, repeats included.
    arguments : Sequence[tuple]
        (row of `argument`, the value's rows, calls that it came from).
    subtree : frozenset[str] | None
        The tasks of the subtree, None to infer them from the children.
    tasks : Sequence[ValueRows]
        The rows of those tasks.
    """

    row: Row
    child_call_hashes: Sequence[str]
    arguments: Sequence[tuple[Row, ValueRows, frozenset[str]]]
    subtree: frozenset[str] | None
    tasks: Sequence[ValueRows] = ()

    @property
    def needs(self) -> list[str]:
        """The calls that the rows depend on; of one that depends on no other all rows are known."""
        upstream = [call_hash for _, _, calls in self.arguments for call_hash in calls]
        others = [*self.child_call_hashes, *upstream]
        return [self.row.call_hash, *others] if others or self._may_differ else []

    @property
    def _may_differ(self) -> bool:
        """Whether an equal call may have another subtree: which calls had not ended is not in the hash."""
        return self.subtree is not None and len(self.subtree) > 1

    @property
    def with_tasks(self) -> bool:
        """Whether the subtree has to be inferred."""
        return self.subtree is None and bool(self.child_call_hashes)

    @property
    def size(self) -> int:
        """Bytes of the arguments' data."""
        return sum(value.size for _, value, _ in self.arguments)

    @staticmethod
    async def complete(session: AsyncSession, calls: Sequence[UnrecordedCall], rows: RowSet) -> None:
        """Add the rows of calls, given which of those that they refer to are recorded: one question for all.

        Parameters
        ----------
        session : AsyncSession
            Of the transaction that the rows are for. Calls are never deleted: what is found stays there.
        calls : sequence of UnrecordedCall
            In the order in which they are recorded: a later one may refer to an earlier one.
        rows : RowSet
            What the rows are added to.
        """
        needed = list(dict.fromkeys(call_hash for call in calls for call_hash in call.needs))
        recorded: dict[str, set[str]] = {}
        if needed:
            connection = await session.connection()
            statement = _FIND_SUBTREES if any(call.with_tasks for call in calls) else _FIND_CALLS
            rows_of_calls = await make_rows(await ask(connection, statement, {"calls": needed}))
            for call_hash, task_hash in rows_of_calls:
                tasks = recorded.setdefault(call_hash, set())
                if task_hash is not None:
                    tasks.add(task_hash)
        for call in calls:
            call.add_rows(recorded, rows)
            await take_turn()

    def add_rows(self, recorded: dict[str, set[str]], rows: RowSet) -> None:
        """Add the rows, given the recorded calls with their subtrees' tasks; then the call to those."""
        call_hash = self.row.call_hash
        if call_hash in recorded:
            return
        added: list[TypedRow] = [(CALL_NODE, self.row)]
        for order, child in enumerate(self.child_call_hashes):
            if child in recorded:
                added.append(
                    (CALL_EDGE, CALL_EDGE.row(parent_id=call_hash, child_id=child, call_order=order))
                )
        for argument, value, upstream in self.arguments:
            rows.add_value(value)
            added.append((ARGUMENT, argument))
            added += [
                (ARGUMENT_RESULT, ARGUMENT_RESULT.row(arg_hash=argument.arg_hash, result_call_hash=call))
                for call in sorted(upstream)
                if call in recorded
            ]
        for task in self.tasks:
            # A child that keeps no provenance leaves its task unrecorded too.
            rows.add_value(task)
        subtree = self.subtree if self.subtree is not None else self._infer_subtree(recorded)
        added += [
            (CALL_SUBTREE_TASK, CALL_SUBTREE_TASK.row(call_hash=call_hash, task_hash=task_hash))
            for task_hash in sorted(subtree)
        ]
        rows.add(added)
        recorded[call_hash] = set(subtree)

    def _infer_subtree(self, calls: Mapping[str, set[str]]) -> set[str]:
        subtree = {self.row.task_hash}
        for child in self.child_call_hashes:
            if child in calls:
                if not calls[child]:
                    # Without the tasks of a child those of its parent are unknown; a call without any is a
                    # cache miss.
                    return set()
                subtree |= calls[child]
        return subtree


_FIND_CALLS = sa.select(CallNode.call_hash, sa.null().label("task")).where(
    in_list(CallNode.call_hash, "calls", sparse=True)
)
_FIND_SUBTREES = (
    sa.select(CallNode.call_hash, CallSubtreeTask.task_hash)
    .outerjoin(CallSubtreeTask, CallSubtreeTask.call_hash == CallNode.call_hash)
    .where(in_list(CallNode.call_hash, "calls", sparse=True))
)


@functools.lru_cache(maxsize=1024)
def _lineage_kind(kind: type) -> str:
    """Tell how redun follows an expression: by its own call, by what it was made of, or either."""
    names = {base.__name__ for base in kind.__mro__}
    if "SchedulerExpression" in names:
        return "upstreams"
    return "call" if "TaskExpression" in names else "either"


def find_upstream_calls(expression: Any) -> frozenset[str]:
    """Find the calls that an argument's value came from.

    Mirrors redun's `RedunBackendDb._find_arg_upstreams`.

    Parameters
    ----------
    expression : Any
        The argument as it was written: a value, a lazy expression, or those nested in containers.

    Returns
    -------
    frozenset[str]
        Their call hashes.
    """
    if weigh(expression) is Weight.PLAIN:
        return frozenset()
    found: set[str] = set()
    # Kept, so that no other object can come by the same id.
    seen: dict[int, Any] = {}
    stack = [expression]
    while stack:
        item = stack.pop()
        if id(item) in seen:
            continue
        seen[id(item)] = item
        item_type: Any = type(item)
        kind = _lineage_kind(item_type)
        call_hash = getattr(item, "call_hash", None) if kind != "upstreams" else None
        if isinstance(call_hash, str) and call_hash:
            found.add(call_hash)
        elif kind != "call":
            upstreams = getattr(item, "_upstreams", None)
            if isinstance(upstreams, list | tuple | set | frozenset):
                stack.extend(upstreams)
            else:
                stack.extend(get_parts(item, SCALARS) or ())
    return frozenset(found)
