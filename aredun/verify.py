"""Verification: every hash that can be computed without running a pickle, and every reference, is checked.

Nothing is held in memory but one batch of rows at a time: tables are read in the order of their keys.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa
from sqlalchemy.orm import aliased

from aredun.column_types import in_array, in_parameter
from aredun.database.record_rows import TABLES, insert_rows, plain, select_column, select_rows
from aredun.models import CallNode, Evaluation, Tag, Value
from aredun.record_checks import Verdict, check_argument, check_call, check_tag, check_value, normalize_json
from aredun.records.derive import (
    CallFacts,
    derive_evaluations,
    derive_subtree_tasks,
    hash_evaluation,
)
from aredun.records.read import LARGE_VALUE, SELECT_VALUES, fetch, read_data
from aredun.value_store import CorruptValueError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Sequence

    from sqlalchemy.ext.asyncio import AsyncSession

    from aredun.database import Database
    from aredun.record_fields import Row
    from aredun.value_store import ValueStore

BATCH_SIZE: Final = 1000

# References between tables that are foreign keys, or ought to be: (table, column, table, column).
_REFERENCES: Final = tuple(
    (table.name, constraint.column_keys[0], element.column.table.name, element.column.name)
    for table in TABLES.values()
    for constraint in sorted(table.foreign_key_constraints, key=lambda each: tuple(each.column_keys))
    for element in constraint.elements
)
_LOOSE_REFERENCES: Final = (("task", "hash", "value", "value_hash"),)
_TAGGED: Final = {
    "Execution": ("execution", "id"),
    "Job": ("job", "id"),
    "CallNode": ("call_node", "call_hash"),
    "Task": ("task", "hash"),
    "Value": ("value", "value_hash"),
}
# Whose fault a bad row of a table is: what that record is called, and the column with its id.
_OWNERS: Final = {
    "argument": ("CallNode", "call_hash"),
    "argument_result": ("Argument", "arg_hash"),
    "call_edge": ("CallNode", "parent_id"),
    "call_node": ("CallNode", "call_hash"),
    "call_subtree_task": ("CallNode", "call_hash"),
    "evaluation": ("Evaluation", "eval_hash"),
    "execution": ("Execution", "id"),
    "file": ("File", "value_hash"),
    "handle": ("Handle", "hash"),
    "handle_edge": ("Handle", "child_id"),
    "job": ("Job", "id"),
    "subvalue": ("Value", "parent_value_hash"),
    "tag_edit": ("Tag", "child_id"),
    "task": ("Task", "hash"),
}
_TIMES: Final = sa.select(plain(CallNode.timestamp), CallNode.call_hash).where(
    in_parameter(CallNode.call_hash, "ids")
)
_FLAGS: Final = sa.select(Tag.tag_hash, Tag.is_current).where(in_parameter(Tag.tag_hash, "ids"))


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong.

    Attributes
    ----------
    kind : str
        `wrong hash`, `missing bytes`, `dangling reference`, `wrong is_current`, `empty subtree`.
    record : str
        The record at fault: its kind and id.
    detail : str
        What is wrong with it.
    repaired : bool
        Whether it has been mended.
    """

    kind: str
    record: str
    detail: str
    repaired: bool = False

    def __str__(self) -> str:
        mended = " (repaired)" if self.repaired else ""
        return f"{self.record}: {self.kind}: {self.detail}{mended}"


@dataclass
class VerifyReport:
    """What a verification found.

    Attributes
    ----------
    checked : dict[str, int]
        Rows looked at, by table.
    unverifiable : int
        Hashes that cannot be computed without running something, or without rows that were never recorded.
    problems : list[Problem]
        What is wrong.
    """

    checked: dict[str, int] = field(default_factory=dict)
    unverifiable: int = 0
    problems: list[Problem] = field(default_factory=list)

    @property
    def is_sound(self) -> bool:
        """Whether nothing is wrong that has not been mended."""
        return all(problem.repaired for problem in self.problems)


async def verify_repository(
    database: Database,
    value_store: ValueStore | None = None,
    *,
    repair: bool = False,
    on_progress: Callable[[VerifyReport], None] | None = None,
) -> VerifyReport:
    """Check a repository, and mend what follows from the rest.

    Parameters
    ----------
    database : Database
        The database; without `repair` it is only read.
    value_store : ValueStore, optional
        Where values whose rows are empty have their bytes.
    repair : bool
        Set `is_current` of tags to what their edits say, and rebuild missing subtree tasks and evaluations.
        What is wrong in itself (hashes, bytes, references) is left as it is.
    on_progress : callable, optional
        Is given the report after each batch.

    Returns
    -------
    VerifyReport
        Counts and problems.
    """
    verifier = _Verifier(database, value_store, repair, on_progress)
    await verifier.check_values()
    await verifier.check_calls()
    await verifier.check_evaluations()
    await verifier.check_tags()
    await verifier.check_references()
    return verifier.report


class _Verifier:
    """One verification."""

    def __init__(
        self,
        database: Database,
        value_store: ValueStore | None,
        repair: bool,
        on_progress: Callable[[VerifyReport], None] | None,
    ) -> None:
        self.report = VerifyReport()
        self._database = database
        self._value_store = value_store
        self._repair = repair
        self._tell = on_progress

    def _found(self, kind: str, record: str, detail: str, *, repaired: bool = False) -> None:
        self.report.problems.append(Problem(kind, record, detail, repaired))

    async def _read(self, *statements: sa.Executable) -> list[Sequence[Any]]:
        async def operation(session: AsyncSession) -> list[Sequence[Any]]:
            return [await fetch(session, statement) for statement in statements]

        return await self._database.read(operation)

    async def _fetch(self, ids: Sequence[str], *statements: sa.SelectBase) -> list[list[Row]]:
        return [await self._database.fetch(statement, {"ids": ids}) for statement in statements]

    async def _iter_keys(self, table: str, key: Any) -> AsyncIterator[list[str]]:
        """Yield the keys of a table in batches, in their order."""
        last = None
        while True:
            statement = sa.select(key).order_by(key).limit(BATCH_SIZE)
            if last is not None:
                statement = statement.where(key > last)
            (rows,) = await self._read(statement)
            if not rows:
                return
            last = rows[-1][0]
            yield [row[0] for row in rows]
            self.report.checked[table] = self.report.checked.get(table, 0) + len(rows)
            if self._tell is not None:
                self._tell(self.report)

    # Values

    async def check_values(self) -> None:
        """Check that values have their bytes, and that those have their hash."""
        async for keys in self._iter_keys("value", Value.value_hash):
            (rows,) = await self._fetch(keys, SELECT_VALUES)
            small = [row for row in rows if row[3]]
            verdicts = await asyncio.to_thread(
                lambda rows: [check_value(row[0], row[1], row[2], row[3]) for row in rows], small
            )
            for row, verdict in zip(small, verdicts, strict=True):
                self._judge_value(row[0], row[1], verdict)
            for row in rows:
                if not row[3]:
                    await self._check_apart(row[0], row[1], row[2], row[4])

    def _judge_value(self, value_hash: str, type_name: str, verdict: Verdict) -> None:
        if verdict is Verdict.WRONG:
            self._found("wrong hash", f"Value {value_hash}", f"its bytes ({type_name}) have another hash")
        elif verdict is Verdict.UNVERIFIABLE:
            self.report.unverifiable += 1

    async def _check_apart(self, value_hash: str, type_name: str, value_format: str, size: int) -> None:
        """Check a value that is large, or in the value store."""
        name = f"Value {value_hash}"
        if size > LARGE_VALUE:
            data = await read_data(self._database, None, value_hash, type_name)
        elif self._value_store is None:
            self._found("missing bytes", name, "they are in a value store, and value_store_path is not set")
            return
        else:
            try:
                data, found = await self._value_store.get(value_hash, type_name)
            except CorruptValueError:
                self._found("wrong hash", name, "its file in the value store holds something else")
                return
            if not found:
                self._found("missing bytes", name, "it is not in the value store")
                return
        verdict = await asyncio.to_thread(check_value, value_hash, type_name, value_format, data)
        self._judge_value(value_hash, type_name, verdict)

    # Calls

    async def check_calls(self) -> None:
        """Check the hashes of call nodes and arguments, and rebuild what follows from call nodes."""
        incomplete: list[str] = []
        async for keys in self._iter_keys("call_node", CallNode.call_hash):
            calls, arguments, edges, subtrees = await self._fetch(
                keys,
                select_rows("call_node", "call_hash"),
                select_rows("argument", "call_hash"),
                select_rows("call_edge", "parent_id", ("parent_id", "call_order")),
                select_column("call_subtree_task", "call_hash", "call_hash"),
            )
            checks = await asyncio.to_thread(_check_calls, calls, arguments, edges)
            recorded = {row[0] for row in subtrees}
            incomplete.extend(row[0] for row in calls if row[0] not in recorded)
            await self._judge_calls(checks, recorded)
            for row in checks.bad_arguments:
                self._found("wrong hash", f"CallNode {row[1]}", f"its argument {row[0]} has another hash")
            self.report.checked["argument"] = self.report.checked.get("argument", 0) + len(arguments)
        if incomplete:
            await self._rebuild(incomplete)

    async def _judge_calls(self, checks: _CallChecks, recorded: set[str]) -> None:
        """Report wrong call hashes, but for calls that made calls which were not recorded."""
        suspects = [call for call in checks.wrong if call.row[0] in recorded]
        partial = {call.row[0] for call in checks.wrong if call.row[0] not in recorded}
        partial |= checks.with_gaps
        partial |= await self._find_unrecorded_tasks(
            [call for call in suspects if call.row[0] not in partial]
        )
        for call in checks.wrong:
            if call.row[0] in partial:
                self.report.unverifiable += 1
            else:
                self._found(
                    "wrong hash",
                    f"CallNode {call.row[0]}",
                    "it does not follow from its task, arguments, result and children",
                )

    async def _find_unrecorded_tasks(self, calls: Sequence[CallFacts]) -> set[str]:
        """Return the calls whose subtree has tasks that none of their recorded children accounts for."""
        if not calls:
            return set()
        hashes = [call.row[0] for call in calls] + [child for call in calls for child in call.children]
        (rows,) = await self._fetch(hashes, select_rows("call_subtree_task", "call_hash"))
        subtrees: dict[str, set[str]] = defaultdict(set)
        for call_hash, task_hash in rows:
            subtrees[call_hash].add(task_hash)
        return {
            call.row[0]
            for call in calls
            if subtrees[call.row[0]] - {call.row[2]}.union(*(subtrees[child] for child in call.children))
        }

    async def _rebuild(self, incomplete: list[str]) -> None:
        """Find call nodes without subtree tasks that could have them, and give them theirs."""
        waiting = set(incomplete)
        order = await self._sort_by_time(incomplete)
        for start in range(0, len(order), BATCH_SIZE):
            part = order[start : start + BATCH_SIZE]
            calls, edges = await self._fetch(
                part,
                select_rows("call_node", "call_hash"),
                select_rows("call_edge", "parent_id", ("parent_id", "call_order")),
            )
            checks = await asyncio.to_thread(_check_calls, calls, (), edges)
            by_hash = {call.row[0]: call for call in checks.calls}
            facts = [by_hash[each] for each in part if each in by_hash]
            rebuilt = await self._derive(facts)
            for call_hash in rebuilt:
                waiting.discard(call_hash)
                self._found(
                    "empty subtree",
                    f"CallNode {call_hash}",
                    "its subtree tasks are not recorded, so its result is never taken from the cache",
                    repaired=self._repair,
                )

    async def _derive(self, facts: list[CallFacts]) -> list[str]:
        async def operation(session: AsyncSession) -> list[str]:
            subtrees = await derive_subtree_tasks(session, facts)
            if self._repair:
                evaluations = await derive_evaluations(session, facts, {})
                await insert_rows(session, {"call_subtree_task": subtrees, "evaluation": evaluations})
            return sorted({row[0] for row in subtrees})

        if self._repair:
            return await self._database.write(operation, apart=True)
        return await self._database.read(operation)

    async def _sort_by_time(self, calls: list[str]) -> list[str]:
        times: list[tuple[Any, str]] = []
        for start in range(0, len(calls), BATCH_SIZE):
            part = calls[start : start + BATCH_SIZE]
            (rows,) = await self._fetch(part, _TIMES)
            times.extend((row[0], row[1]) for row in rows)
        return [call_hash for _, call_hash in sorted(times)]

    async def check_evaluations(self) -> None:
        """Check the hashes of evaluations."""
        async for keys in self._iter_keys("evaluation", Evaluation.eval_hash):
            (rows,) = await self._fetch(keys, select_rows("evaluation", "eval_hash"))
            for eval_hash, task_hash, args_hash, _ in rows:
                if hash_evaluation(task_hash, args_hash) != eval_hash:
                    detail = "it does not follow from its task and arguments"
                    self._found("wrong hash", f"Evaluation {eval_hash}", detail)

    # Tags

    async def check_tags(self) -> None:
        """Check the hashes of tags, and that those which others replace are not current."""
        async for keys in self._iter_keys("tag", Tag.tag_hash):
            tags, edits, flags, replaced = await self._fetch(
                keys,
                select_rows("tag", "tag_hash"),
                select_rows("tag_edit", "child_id"),
                _FLAGS,
                select_column("tag_edit", "parent_id", "parent_id"),
            )
            for tag_hash in await asyncio.to_thread(_check_tags, tags, edits):
                self._found(
                    "wrong hash",
                    f"Tag {tag_hash}",
                    "it does not follow from its entity, key, value and parents",
                )
            old = {row[0] for row in replaced}
            wrong = {row[0]: not row[1] for row in flags if bool(row[1]) == (row[0] in old)}
            await self._correct_tags(wrong)

    async def _correct_tags(self, flags: dict[str, bool]) -> None:
        if not flags:
            return

        async def operation(session: AsyncSession) -> None:
            for flag in (True, False):
                hashes = sorted(tag_hash for tag_hash, right in flags.items() if right is flag)
                statement = sa.update(Tag).where(in_array(Tag.tag_hash, hashes)).values(is_current=flag)
                await session.execute(statement.execution_options(synchronize_session=False))

        if self._repair:
            await self._database.write(operation)
        for tag_hash, right in flags.items():
            detail = "no tag replaces it" if right else "another tag replaces it"
            self._found(
                "wrong is_current",
                f"Tag {tag_hash}",
                f"it is {not right}, but {detail}",
                repaired=self._repair,
            )

    # References

    async def check_references(self) -> None:
        """Check that whatever is referred to is there."""
        for table, column, target, key in (*_REFERENCES, *_LOOSE_REFERENCES):
            source = TABLES[table].alias("source")
            goal = TABLES[target].alias("goal")
            name, owner_column = _OWNERS[table]
            statement = (
                sa.select(source.c[owner_column], source.c[column])
                .outerjoin(goal, goal.c[key] == source.c[column])
                .where(source.c[column].is_not(None), goal.c[key].is_(None))
            )
            for owner, missing in (await self._read(statement))[0]:
                detail = f"its {column} {missing} is not among the {target.replace('_', ' ')}s"
                self._found("dangling reference", f"{name} {owner}", detail)
        await self._check_tagged()

    async def _check_tagged(self) -> None:
        for kind, (target, key) in _TAGGED.items():
            goal = TABLES[target].alias("goal")
            tag = aliased(Tag)
            statement = (
                sa.select(tag.tag_hash, tag.entity_id)
                .outerjoin(goal, goal.c[key] == tag.entity_id)
                .where(tag.entity_type == kind, goal.c[key].is_(None))
            )
            for tag_hash, entity_id in (await self._read(statement))[0]:
                self._found(
                    "dangling reference",
                    f"Tag {tag_hash}",
                    f"the {kind} {entity_id} that it hangs on is missing",
                )


class _CallChecks:
    """What the hashes of a batch of call nodes came to."""

    def __init__(self) -> None:
        self.calls: list[CallFacts] = []
        self.wrong: list[CallFacts] = []
        self.with_gaps: set[str] = set()
        self.bad_arguments: list[Any] = []


def _check_calls(calls: Iterable[Any], arguments: Iterable[Any], edges: Iterable[Any]) -> _CallChecks:
    children: dict[str, list[str]] = defaultdict(list)
    orders: dict[str, list[int]] = defaultdict(list)
    for parent, child, order in edges:
        children[parent].append(child)
        orders[parent].append(order)
    checks = _CallChecks()
    for row in calls:
        own = children.get(row[0], [])
        is_whole = check_call(row, own)
        facts = CallFacts((*row[:5], str(row[5])), own, is_whole)
        checks.calls.append(facts)
        if not is_whole:
            checks.wrong.append(facts)
            if orders[row[0]] != list(range(len(own))):
                checks.with_gaps.add(row[0])
    checks.bad_arguments = [row for row in arguments if not check_argument(row)]
    return checks


def _check_tags(tags: Iterable[Any], edits: Iterable[Any]) -> list[str]:
    parents: dict[str, list[str]] = defaultdict(list)
    for parent, child in edits:
        parents[child].append(parent)
    wrong = []
    for *cells, value in tags:
        row = (*cells, normalize_json(value))
        if not check_tag(row, parents.get(row[0], ())):
            wrong.append(row[0])
    return wrong
