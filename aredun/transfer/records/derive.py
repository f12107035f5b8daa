"""What follows from records without being in them: subtree tasks, evaluations, and which tags are current."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha512
from operator import attrgetter
from typing import TYPE_CHECKING

import sqlalchemy as sa

from aredun.formats.hashing import HASH_LEN
from aredun.formats.statuses import ERROR_TYPE_NAME
from aredun.loop.pacing import iter_parts, take_turn
from aredun.models import CallSubtreeTask, Tag, TagEdit, Value
from aredun.storage.record_rows import get_existing
from aredun.storage.rows import CALL_SUBTREE_TASK, EVALUATION
from aredun.tables.column_types import in_list
from aredun.transfer.records.read import fetch

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Mapping, Sequence

    from sqlalchemy.ext.asyncio import AsyncSession

    from aredun.storage.rows import Row
    from aredun.transfer.record_fields import ParsedRecord

    # Tasks of the subtrees of calls, by call hash.
    Subtrees = Mapping[str, frozenset[str]]


@dataclass(slots=True)
class Derived:
    """What follows from some calls, as far as the calls alone tell.

    Attributes
    ----------
    subtrees : dict
        The tasks of the subtrees of calls that are known without looking further; none where it is known that
        some are not recorded.
    subtree_rows : list of Row
        Their rows of `call_subtree_task`, sorted.
    unknown : list of ParsedRecord
        Calls that made some that are not among the given ones, and those above them; children before parents.
    evaluations : list of Row
        Rows of `evaluation`, sorted by key, of those with one key the latest first: the first whose result is
        no error counts (`drop_errors`).
    """

    subtrees: dict[str, frozenset[str]]
    subtree_rows: list[Row]
    unknown: list[ParsedRecord]
    evaluations: list[Row]


def derive(calls: Sequence[ParsedRecord]) -> Generator[None, None, Derived]:
    """Return, in steps, what recording some calls would have left beside their own rows.

    A call whose own calls were not all recorded gets no subtree: an empty one is a cache miss, where a set
    with tasks missing would pass off a result whose inner task has changed. And an evaluation holds what the
    task itself returned, which may be an expression: that is the recorded result only where the task called
    nothing, so only such calls give one.

    Parameters
    ----------
    calls : sequence of ParsedRecord
        Call nodes, children before their parents; of several with the same task and arguments the latest
        gives the evaluation.
    """
    derived = Derived({}, [], [], [])
    unknown: set[str] = set()
    leaves: list[Row] = []
    alone: dict[str, frozenset[str]] = {}
    own = {call.row.call_hash for call in calls}
    yield
    for part in iter_parts(calls):
        for call in part:
            call_hash, task = call.row.call_hash, call.row.task_hash
            if call.is_whole and not call.children:
                # Most calls; those of one task share a set.
                derived.subtrees[call_hash] = alone.get(task) or alone.setdefault(task, frozenset([task]))
                derived.subtree_rows.append(CALL_SUBTREE_TASK.row(call_hash, task))
                leaves.append(call.row)
            elif any(child in unknown or child not in own for child in call.children):
                unknown.add(call_hash)
                derived.unknown.append(call)
            else:
                subtree = _join_subtrees(call, derived.subtrees)
                derived.subtrees[call_hash] = subtree
                derived.subtree_rows.extend(CALL_SUBTREE_TASK.row(call_hash, each) for each in subtree)
        yield
    derived.subtree_rows.sort()
    leaves.sort(key=attrgetter("timestamp"), reverse=True)
    for rows in iter_parts(leaves):
        derived.evaluations += [
            EVALUATION.row(
                eval_hash=hash_evaluation(row.task_hash, row.args_hash),
                task_hash=row.task_hash,
                args_hash=row.args_hash,
                value_hash=row.value_hash,
            )
            for row in rows
        ]
        yield
    derived.evaluations.sort(key=attrgetter("eval_hash"))
    return derived


async def derive_unknown_subtrees(session: AsyncSession, derived: Derived) -> list[Row]:
    """Return the rows of `call_subtree_task` of the unknown calls, sorted.

    Parameters
    ----------
    session : AsyncSession
        Where the children that were not among the calls are looked up.
    derived : Derived
        What is known of the calls.
    """
    calls = derived.unknown
    subtrees = dict(derived.subtrees)
    own = {call.row.call_hash for call in calls}
    outside = {child for call in calls for child in call.children} - own - subtrees.keys()
    subtrees |= await get_subtrees(session, outside)
    rows: list[Row] = []
    for part in iter_parts(calls):
        await take_turn()
        for call in part:
            subtree = _join_subtrees(call, subtrees)
            subtrees[call.row.call_hash] = subtree
            rows.extend(CALL_SUBTREE_TASK.row(call.row.call_hash, task) for task in subtree)
    return sorted(rows)


def _join_subtrees(call: ParsedRecord, subtrees: Subtrees) -> frozenset[str]:
    """Return the tasks of a call and those below it, none if they are not all known."""
    tasks = {call.row.task_hash}
    for child in call.children:
        tasks |= subtrees.get(child, frozenset())
    whole = call.is_whole and all(subtrees.get(child) for child in call.children)
    return frozenset(tasks) if whole else frozenset()


async def get_subtrees(session: AsyncSession, calls: Iterable[str]) -> Subtrees:
    """Return the recorded tasks of the subtrees of calls."""
    found: dict[str, set[str]] = {}
    for part in iter_parts(sorted(calls), 1000):
        statement = sa.select(CallSubtreeTask.call_hash, CallSubtreeTask.task_hash)
        among = in_list(CallSubtreeTask.call_hash, part, sparse=True)
        for call_hash, task_hash in await fetch(session, statement.where(among)):
            found.setdefault(call_hash, set()).add(task_hash)
    return {call_hash: frozenset(tasks) for call_hash, tasks in found.items()}


async def drop_errors(
    session: AsyncSession, evaluations: Sequence[Row], types: Mapping[str, str]
) -> dict[str, Row]:
    """Return rows of `evaluation` by key: for each the first of the given ones whose result is no error.

    Parameters
    ----------
    session : AsyncSession
        Where the types of other results are looked up.
    evaluations : sequence of Row
        The rows.
    types : mapping
        Types of values by hash, as far as known.
    """
    errors = {value_hash for value_hash, type_name in types.items() if type_name == ERROR_TYPE_NAME}
    unknown = sorted({row.value_hash for row in evaluations if row.value_hash not in types})
    if unknown:
        statement = sa.select(Value.value_hash).where(
            in_list(Value.value_hash, unknown, sparse=True), Value.type == ERROR_TYPE_NAME
        )
        errors.update((await session.execute(statement)).scalars())
    kept: dict[str, Row] = {}
    for row in evaluations:
        if row.value_hash not in errors:
            kept.setdefault(row.eval_hash, row)
    return kept


def hash_evaluation(task_hash: str, args_hash: str) -> str:
    """Return the key of the evaluation cache for a task and the hash of its arguments."""
    text = f"l4:Eval{len(task_hash)}:{task_hash}{len(args_hash)}:{args_hash}e"
    digest: str = sha512(text.encode()).hexdigest()[:HASH_LEN]
    return digest


async def update_current(session: AsyncSession, tags: Iterable[str]) -> int:
    """Mark those of the given tags that another tag replaces as no longer current; return how many changed.

    The rows are locked in the order of their hashes, so that two imports of the same edits cannot form a
    deadlock, and in a mode that lets others go on adding edits to them.
    """
    changed = 0
    for part in iter_parts(sorted(set(tags)), 1000):
        replaced = await get_existing(session, TagEdit.parent_id, part)
        statement = (
            sa.select(Tag.tag_hash)
            .where(in_list(Tag.tag_hash, sorted(replaced), sparse=True), Tag.is_current)
            .order_by(Tag.tag_hash)
            .with_for_update(key_share=True)
        )
        current = list((await session.execute(statement)).scalars())
        if current:
            changed += len(current)
            await session.execute(
                sa.update(Tag)
                .where(in_list(Tag.tag_hash, current, sparse=True))
                .values(is_current=False)
                .execution_options(synchronize_session=False)
            )
    return changed
