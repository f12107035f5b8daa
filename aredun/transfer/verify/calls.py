"""Verification of calls: their hashes, and what follows from them: subtree tasks and evaluations."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from aredun.loop.pacing import iter_parts, run_in_turns
from aredun.models import CallNode, Evaluation
from aredun.storage.record_rows import (
    TABLES,
    find_existing,
    plain,
    select_column,
    select_rows,
)
from aredun.storage.rows import CALL_NODE
from aredun.tables.column_types import in_list
from aredun.transfer.record_checks import check_argument, check_call
from aredun.transfer.record_fields import ParsedRecord
from aredun.transfer.records.derive import (
    derive,
    derive_unknown_subtrees,
    drop_errors,
    get_subtrees,
    hash_evaluation,
)
from aredun.transfer.verify.context import BATCH_SIZE

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from aredun.storage.rows import Row
    from aredun.transfer.records.derive import Subtrees
    from aredun.transfer.verify.context import Context

_TIMES: Final = sa.select(plain(CallNode.timestamp), CallNode.call_hash).where(
    in_list(CallNode.call_hash, "ids")
)
_CALLS: Final = select_rows("call_node", "call_hash")
_EDGES: Final = select_rows("call_edge", "parent_id", ("parent_id", "call_order"))


async def check_calls(context: Context, deleted: Collection[str]) -> None:
    """Check the hashes of calls and arguments, and rebuild what follows from calls.

    Parameters
    ----------
    context : Context
        The verification.
    deleted : collection of str
        Evaluations that have been reported, and deleted to be rebuilt.
    """
    wrong: set[str] = set()
    async for keys in context.iter_keys("call_node", CallNode.call_hash):
        calls, arguments, edges = await context.fetch(
            keys, _CALLS, select_rows("argument", "call_hash"), _EDGES
        )
        checks = await asyncio.to_thread(_Checks, calls, arguments, edges)
        subtrees = await _get_subtrees(context, checks.calls)
        _report_hashes(context, checks, subtrees)
        for row in checks.bad_arguments:
            context.found(
                "wrong hash", f"CallNode {row.call_hash}", f"its argument {row.arg_hash} has another hash"
            )
        context.count("argument", len(arguments))
        wrong.update(call.id for call in checks.calls if _is_wrong(call, subtrees))
        # A call whose subtree is lost is reported for that alone.
        empty = (call.row for call in checks.calls if not subtrees.get(call.id))
        silent = {hash_evaluation(row.task_hash, row.args_hash) for row in empty}.union(deleted)
        await _check_evaluations(context, checks.calls, silent)
    while wrong:
        wrong = await _rebuild(context, wrong)


async def _get_subtrees(context: Context, calls: Sequence[ParsedRecord]) -> Subtrees:
    """Return the recorded tasks of the subtrees of calls and of their children."""
    hashes = {call.id for call in calls}.union(*(call.children for call in calls))
    return await context.database.read(lambda session: get_subtrees(session, hashes))


def _get_known(call: ParsedRecord, subtrees: Subtrees) -> set[str]:
    """Return the tasks that the subtree of a call has for certain."""
    return {call.row.task_hash}.union(*(subtrees.get(child, ()) for child in call.children))


def _is_wrong(call: ParsedRecord, subtrees: Subtrees) -> bool:
    """Tell whether the subtree of a call is empty, or lacks tasks."""
    # It may have more tasks than its children: those of calls that are not recorded, or failed early.
    return not subtrees.get(call.id, frozenset()) >= _get_known(call, subtrees)


def _report_hashes(context: Context, checks: _Checks, subtrees: Subtrees) -> None:
    """Report wrong call hashes, but for calls that made calls which were not recorded."""
    for call in checks.calls:
        if call.is_whole:
            continue
        tasks = subtrees.get(call.id)
        if not tasks or call.id in checks.with_gaps or tasks - _get_known(call, subtrees):
            context.report.unverifiable += 1
        else:
            detail = "it does not follow from its task, arguments, result and children"
            context.found("wrong hash", f"CallNode {call.id}", detail)


async def _check_evaluations(
    context: Context, calls: Sequence[ParsedRecord], silent: Collection[str]
) -> None:
    """Find the evaluations that certain calls must have left, and give them back."""
    derived = await run_in_turns(derive(calls))
    rows = await context.database.read(lambda session: drop_errors(session, derived.evaluations, {}))
    (present,) = await context.fetch(sorted(rows), select_column("evaluation", "eval_hash", "eval_hash"))
    missing = [rows[each] for each in sorted(rows.keys() - {row.eval_hash for row in present})]
    if not missing:
        return
    tasks = await find_existing(context.database, "task", "hash", {row.task_hash for row in missing})
    values = await find_existing(context.database, "value", "value_hash", {row.value_hash for row in missing})
    missing = [row for row in missing if row.task_hash in tasks and row.value_hash in values]
    if context.repair:
        await context.insert("evaluation", missing)
    for row in missing:
        if row.eval_hash not in silent:
            detail = "a call that made no others returned its result, but it is not in the cache"
            context.found(
                "missing evaluation", f"Evaluation {row.eval_hash}", detail, repaired=context.repair
            )


async def _rebuild(context: Context, wrong: Collection[str]) -> set[str]:
    """Report subtrees that can be told to be wrong, and mend them; return the calls to look at next."""
    changed: list[str] = []
    order = await _sort_by_time(context, sorted(wrong))
    for part in iter_parts(order, BATCH_SIZE):
        calls, edges = await context.fetch(part, _CALLS, _EDGES)
        checks = await asyncio.to_thread(_Checks, calls, (), edges)
        by_hash = {call.id: call for call in checks.calls}
        facts = [by_hash[each] for each in part if each in by_hash]
        subtrees = await _get_subtrees(context, facts)
        rows = await _derive(context, facts)
        right = {row.call_hash for row in rows}
        lacking = {call.id for call in facts if _is_wrong(call, subtrees)}
        # A set that cannot be repaired is emptied: a cache miss is better than a wrong hit.
        emptied = {each for each in lacking - right if subtrees.get(each)}
        if context.repair:
            await context.insert("call_subtree_task", [row for row in rows if row.call_hash in lacking])
            await context.delete(TABLES["call_subtree_task"].c.call_hash, emptied)
        for call_hash in sorted(lacking & right | emptied):
            _report_subtree(context, call_hash, is_empty=not subtrees.get(call_hash))
            changed.append(call_hash)
    if not context.repair:
        return set()
    parents: set[str] = set()
    for part in iter_parts(changed, BATCH_SIZE):
        (rows,) = await context.fetch(part, select_column("call_edge", "parent_id", "child_id"))
        parents.update(row.parent_id for row in rows)
    return parents


def _report_subtree(context: Context, call_hash: str, *, is_empty: bool) -> None:
    if is_empty:
        kind = "empty subtree"
        detail = "its subtree tasks are not recorded, so its result is never taken from the cache"
    else:
        kind = "wrong subtree"
        detail = "its subtree lacks tasks, so its result is taken from the cache after they have changed"
    context.found(kind, f"CallNode {call_hash}", detail, repaired=context.repair)


async def _derive(context: Context, facts: Sequence[ParsedRecord]) -> list[Row]:
    derived = await run_in_turns(derive(facts))
    unknown = await context.database.read(lambda session: derive_unknown_subtrees(session, derived))
    rows = derived.subtree_rows + unknown
    known = await find_existing(context.database, "task", "hash", {row.task_hash for row in rows})
    # A foreign key keeps tasks that are missing out, and a subtree without them would be wrong.
    partial = {row.call_hash for row in rows if row.task_hash not in known}
    return [row for row in rows if row.call_hash not in partial]


async def _sort_by_time(context: Context, calls: Sequence[str]) -> list[str]:
    times: list[tuple[Any, str]] = []
    for part in iter_parts(calls, BATCH_SIZE):
        (rows,) = await context.fetch(part, _TIMES)
        times.extend((row.timestamp, row.call_hash) for row in rows)
    return [call_hash for _, call_hash in sorted(times)]


class _Checks:
    """What the hashes of a batch of call nodes come to."""

    def __init__(self, calls: Iterable[Any], arguments: Iterable[Any], edges: Iterable[Any]) -> None:
        self.calls: list[ParsedRecord] = []
        self.with_gaps: set[str] = set()
        self.bad_arguments = [row for row in arguments if not check_argument(row)]
        parts: dict[str, list[Any]] = defaultdict(list)
        for edge in edges:
            parts[edge.parent_id] += ("call_edge", edge)
        for row in calls:
            neutral = CALL_NODE.row(*row)._replace(timestamp=str(row.timestamp))
            call = ParsedRecord("CallNode", neutral, parts.get(row.call_hash, ()))
            call.is_whole = check_call(neutral, call.children)
            self.calls.append(call)
            orders = [edge.call_order for edge in call.get_rows("call_edge")]
            if orders != list(range(len(orders))):
                self.with_gaps.add(call.id)


async def check_evaluations(context: Context) -> set[str]:
    """Check the hashes of evaluations; return those that were deleted because they are wrong."""
    deleted: set[str] = set()
    async for keys in context.iter_keys("evaluation", Evaluation.eval_hash):
        (rows,) = await context.fetch(keys, select_rows("evaluation", "eval_hash"))
        wrong = [
            row.eval_hash for row in rows if hash_evaluation(row.task_hash, row.args_hash) != row.eval_hash
        ]
        if context.repair and wrong:
            await context.delete(TABLES["evaluation"].c.eval_hash, wrong)
            deleted.update(wrong)
        for eval_hash in wrong:
            detail = "it does not follow from its task and arguments"
            context.found("wrong hash", f"Evaluation {eval_hash}", detail, repaired=context.repair)
    return deleted
