"""What some roots own: the ids of their records by kind, walked with few statements."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa
from sqlalchemy.orm import aliased

from aredun.column_types import in_array
from aredun.models import (
    Argument,
    ArgumentResult,
    CallEdge,
    CallNode,
    Evaluation,
    Execution,
    Job,
    Subvalue,
    Tag,
    TagEdit,
    Value,
)
from aredun.records.derive import hash_evaluation
from aredun.records.keys import KeySet, pack, unpack, unpack_all
from aredun.records.read import fetch
from aredun.records.walk import find_models

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Sequence

    from sqlalchemy.ext.asyncio import AsyncSession

    from aredun.database import Database
    from aredun.records.keys import Key

# Ids that one statement asks for.
STEP: Final = 2000
# Jobs of executions that are walked and copied together; a larger execution goes alone.
GROUP_JOBS: Final = 4000


@dataclass
class Plan:
    """The ids of the records that one group of roots owns, packed, without those of earlier groups.

    Attributes
    ----------
    executions, jobs, calls, values, tags : list of Key
        The ids, jobs by start and calls by time.
    cached : list of Key
        Further values, which only the cache of single steps holds.
    parents : set of Key
        The values among `values` that have subvalues.
    roots : int
        Number of executions that were asked for.
    """

    executions: list[Key] = field(default_factory=list)
    jobs: list[Key] = field(default_factory=list)
    calls: list[Key] = field(default_factory=list)
    values: list[Key] = field(default_factory=list)
    tags: list[Key] = field(default_factory=list)
    cached: list[Key] = field(default_factory=list)
    parents: set[Key] = field(default_factory=set)
    roots: int = 0

    def __len__(self) -> int:
        kinds = (self.executions, self.jobs, self.calls, self.values, self.tags)
        return sum(map(len, kinds))


class Walker:
    """Walks a source, group of roots by group of roots, and remembers what it has seen."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._seen = {
            kind: KeySet() for kind in ("Execution", "Job", "CallNode", "Value", "Tag", "Evaluation")
        }

    async def iter_groups(
        self, root_ids: Sequence[str] | None
    ) -> AsyncIterator[tuple[int, list[str], list[str]]]:
        """Yield groups of roots, newest executions first.

        Parameters
        ----------
        root_ids : sequence of str or None
            Ids of records of any kind; all executions by default. A job stands for its execution.

        Yields
        ------
        tuple of (total, executions, others)
            The number of all roots, and the ids of one group: of executions, or of other records.
        """
        others: list[str] = []
        executions: list[str] | None = None
        if root_ids is not None:
            executions, others = await self._sort_roots(list(dict.fromkeys(root_ids)))
        sizes = await self._get_executions(executions)
        total = len(sizes) + len(others)
        for start in range(0, len(others), STEP):
            yield total, [], others[start : start + STEP]
        group: list[str] = []
        jobs = 0
        for execution_id, size in sizes:
            if group and jobs + size > GROUP_JOBS:
                yield total, group, []
                group, jobs = [], 0
            group.append(execution_id)
            jobs += size
        if group:
            yield total, group, []

    async def _sort_roots(self, ids: list[str]) -> tuple[list[str], list[str]]:
        executions: dict[str, None] = {}
        jobs: list[str] = []
        others: list[str] = []
        for start in range(0, len(ids), STEP):
            part = ids[start : start + STEP]
            models = await find_models(self._database, part)
            for record_id in part:
                for model in models.get(record_id, ()):
                    if model is Execution:
                        executions[record_id] = None
                    elif model is Job:
                        jobs.append(record_id)
                    else:
                        others.append(record_id)
        async for rows in self._ask(
            jobs, lambda part: sa.select(Job.execution_id).where(in_array(Job.id, part))
        ):
            executions.update((row[0], None) for row in rows)
        return list(executions), others

    async def _get_executions(self, ids: list[str] | None) -> list[tuple[str, int]]:
        """Return executions with the numbers of their jobs, newest first."""
        jobs = sa.select(Job.execution_id, sa.func.count()).group_by(Job.execution_id)
        starts = sa.select(Execution.id, Job.start_time).join(Job, Job.id == Execution.job_id)
        if ids is None:
            parts = [await self._read(starts)], [await self._read(jobs)]
        else:
            parts = (
                [
                    rows
                    async for rows in self._ask(ids, lambda part: starts.where(in_array(Execution.id, part)))
                ],
                [
                    rows
                    async for rows in self._ask(
                        ids, lambda part: jobs.where(in_array(Job.execution_id, part))
                    )
                ],
            )
        sizes = {row[0]: row[1] for rows in parts[1] for row in rows}
        newest = sorted((row for rows in parts[0] for row in rows), key=lambda row: row[1], reverse=True)
        return [(row[0], sizes.get(row[0], 0)) for row in newest]

    async def walk(self, executions: Sequence[str], others: Sequence[str]) -> Plan:
        """Return what some roots own and no earlier group did."""
        plan = Plan(roots=len(executions) + len(others))
        models = await find_models(self._database, others) if others else {}
        of_kind: dict[Any, list[str]] = {CallNode: [], Value: [], Tag: []}
        for record_id in others:
            for model in models.get(record_id, ()):
                if model in of_kind:
                    of_kind[model].append(record_id)
        calls, values = await self._walk_jobs(plan, executions)
        calls.extend(of_kind[CallNode])
        of_calls, cached = await self._walk_calls(plan, calls)
        await self._walk_values(plan, values | of_calls | set(of_kind[Value]))
        await self._walk_cached(plan, cached)
        await self._walk_tags(plan, of_kind[Tag])
        return plan

    async def _walk_jobs(self, plan: Plan, executions: Iterable[str]) -> tuple[list[str], set[str]]:
        """Walk executions and all of their jobs; return their calls and tasks."""
        calls: dict[str, None] = {}
        tasks: set[str] = set()
        found: list[tuple[Any, Key]] = []
        waiting = deque(executions)
        while waiting:
            new = [waiting.popleft() for _ in range(min(len(waiting), STEP))]
            new = [each for each in new if self._seen["Execution"].add(each)]
            plan.executions.extend(map(pack, new))
            rows = await self._read(_select_jobs(new))
            for job_id, task_hash, call_hash, start_time in rows:
                if self._seen["Job"].add(job_id):
                    found.append((start_time, pack(job_id)))
                tasks.add(task_hash)
                if call_hash is not None:
                    calls[call_hash] = None
            waiting.extend(row[0] for row in await self._read(_select_related(new)))
        found.sort(key=lambda pair: pair[0])
        plan.jobs.extend(key for _, key in found)
        return list(calls), tasks

    async def _walk_calls(self, plan: Plan, calls: Iterable[str]) -> tuple[set[str], set[str]]:
        """Walk calls, what they called and where their arguments came from.

        Returns
        -------
        tuple of (values, cached)
            Their values and tasks; what single steps of them are cached as, often an expression.
        """
        values: set[str] = set()
        cached: set[str] = set()
        found: list[tuple[Any, Key]] = []
        waiting = deque(calls)
        while waiting:
            new = [waiting.popleft() for _ in range(min(len(waiting), STEP))]
            new = [each for each in new if self._seen["CallNode"].add(each)]
            if not new:
                continue
            own = sa.select(
                CallNode.call_hash,
                CallNode.task_hash,
                CallNode.args_hash,
                CallNode.value_hash,
                CallNode.timestamp,
            )
            evaluations: list[str] = []
            for call_hash, task_hash, args_hash, value_hash, timestamp in await self._read(
                own.where(in_array(CallNode.call_hash, new))
            ):
                found.append((timestamp, pack(call_hash)))
                values.add(task_hash)
                values.add(value_hash)
                evaluations.append(hash_evaluation(task_hash, args_hash))
            steps = sa.select(Evaluation.value_hash).where(in_array(Evaluation.eval_hash, evaluations))
            cached.update(row[0] for row in await self._read(steps))
            arguments = (
                sa.select(Argument.value_hash, ArgumentResult.result_call_hash)
                .outerjoin(ArgumentResult, ArgumentResult.arg_hash == Argument.arg_hash)
                .where(in_array(Argument.call_hash, new))
            )
            for value_hash, upstream in await self._read(arguments):
                values.add(value_hash)
                if upstream is not None and upstream not in self._seen["CallNode"]:
                    waiting.append(upstream)
            children = sa.select(CallEdge.child_id).where(in_array(CallEdge.parent_id, new))
            for (child,) in await self._read(children):
                if child not in self._seen["CallNode"]:
                    waiting.append(child)
        found.sort(key=lambda pair: pair[0])
        plan.calls.extend(key for _, key in found)
        return values, cached

    async def _walk_cached(self, plan: Plan, cached: Iterable[str]) -> None:
        """Walk values that only the cache of single steps holds; they are no records of the roots."""
        seen = self._seen["Value"]
        own = Plan()
        await self._walk_values(own, [each for each in cached if each not in seen], "Evaluation")
        plan.cached.extend(key for key in own.values if unpack(key) not in seen)
        plan.parents |= own.parents

    async def _walk_values(self, plan: Plan, values: Iterable[str], kind: str = "Value") -> None:
        """Walk values and their subvalues."""
        waiting = deque(values)
        while waiting:
            new = [waiting.popleft() for _ in range(min(len(waiting), STEP))]
            new = [each for each in new if self._seen[kind].add(each)]
            plan.values.extend(map(pack, new))
            edges = sa.select(Subvalue.parent_value_hash, Subvalue.value_hash)
            for parent, child in await self._read(edges.where(in_array(Subvalue.parent_value_hash, new))):
                plan.parents.add(pack(parent))
                if child not in self._seen[kind]:
                    waiting.append(child)

    async def _walk_tags(self, plan: Plan, tags: Iterable[str]) -> None:
        """Walk the tags of all entities of the plan, and those that they replaced or that replaced them."""
        waiting = deque(tags)
        for keys in (plan.executions, plan.jobs, plan.calls, plan.values):
            for start in range(0, len(keys), STEP):
                part = unpack_all(keys[start : start + STEP])
                rows = await self._read(sa.select(Tag.tag_hash).where(in_array(Tag.entity_id, part)))
                waiting.extend(row[0] for row in rows)
        while waiting:
            new = [waiting.popleft() for _ in range(min(len(waiting), STEP))]
            new = [each for each in new if self._seen["Tag"].add(each)]
            if not new:
                continue
            plan.tags.extend(map(pack, new))
            rows = await self._read(sa.select(Tag.tag_hash).where(in_array(Tag.entity_id, new)))
            waiting.extend(row[0] for row in rows)
            edits = sa.select(TagEdit.parent_id, TagEdit.child_id).where(
                sa.or_(in_array(TagEdit.parent_id, new), in_array(TagEdit.child_id, new))
            )
            for pair in await self._read(edits):
                waiting.extend(pair)

    async def _ask(self, ids: Sequence[str], make: Any) -> AsyncIterator[Sequence[Any]]:
        for start in range(0, len(ids), STEP):
            yield await self._read(make(ids[start : start + STEP]))

    async def _read(self, statement: sa.Executable) -> Sequence[Any]:
        async def operation(session: AsyncSession) -> Sequence[Any]:
            return await fetch(session, statement)

        return await self._database.read(operation)


def _select_jobs(executions: list[str]) -> sa.Executable:
    return sa.select(Job.id, Job.task_hash, Job.call_hash, Job.start_time).where(
        in_array(Job.execution_id, executions)
    )


def _select_related(executions: list[str]) -> sa.Executable:
    """Select executions that share a job with those given: as parent, child or root of one of theirs."""
    parent, child, root = aliased(Job), aliased(Job), aliased(Job)
    return sa.union(
        sa.select(parent.execution_id)
        .join(child, child.parent_id == parent.id)
        .where(in_array(child.execution_id, executions), parent.execution_id != child.execution_id),
        sa.select(child.execution_id)
        .join(parent, child.parent_id == parent.id)
        .where(in_array(parent.execution_id, executions), parent.execution_id != child.execution_id),
        sa.select(root.execution_id)
        .join(Execution, Execution.job_id == root.id)
        .where(in_array(Execution.id, executions), root.execution_id != Execution.id),
    )
