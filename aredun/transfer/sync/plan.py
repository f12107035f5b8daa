"""What some roots own, walked with few statements, and what of it a destination lacks."""

from __future__ import annotations

from collections import defaultdict, deque
from contextlib import aclosing
from dataclasses import dataclass, field
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa
from sqlalchemy.orm import aliased

from aredun.loop.pacing import iter_parts, take_turn
from aredun.models import CallNode, Execution, Job, Subvalue, Tag, TagEdit, Value
from aredun.storage.record_rows import find_existing, list_storable, plain, select_column
from aredun.tables.column_types import in_list
from aredun.transfer.record_fields import KINDS
from aredun.transfer.records.packed_ids import IdSet, pack, pack_all, unpack, unpack_all
from aredun.transfer.records.read import FINISHED_JOBS, iter_ahead, iter_batches
from aredun.transfer.records.walk import find_models
from aredun.transfer.records.window import collect_rows

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection, Iterable, Sequence

    from aredun.models import Base
    from aredun.storage import Database
    from aredun.storage.fetch import Rows
    from aredun.transfer.records.packed_ids import Packed
    from aredun.transfer.sync.source import Source

# Ids that one statement asks for.
STEP: Final = 2000
# Jobs of executions that are walked and copied together; a larger execution goes alone. The first groups are
# smaller, so that there is soon something to write.
GROUP_JOBS: Final = 1000
FIRST_JOBS: Final = 500
# In this order records are compared and counted.
_KINDS: Final = ("Tag", "Value", "CallNode", "Job", "Execution")


@dataclass
class SyncPlan:
    """The ids of the records that one group of roots owns, packed, without those of earlier groups.

    Attributes
    ----------
    records : dict
        The ids by kind, those of jobs by start and of calls by time.
    cached : list of Packed
        Further values, which only the cache of single steps holds.
    parents : set of Packed
        The values among the records that have subvalues.
    tags_of : dict
        Those of the tags that go in with another record, by that.
    roots : int
        Number of executions that were asked for.
    missing : dict
        Those of the records that the destination lacks, once that is known; `cached` holds no others then.
    """

    records: dict[str, list[Packed]] = field(default_factory=lambda: {kind: [] for kind in _KINDS})
    cached: list[Packed] = field(default_factory=list)
    parents: set[Packed] = field(default_factory=set)
    tags_of: dict[Packed, list[Packed]] = field(default_factory=dict)
    roots: int = 0
    missing: dict[str, list[Packed]] = field(default_factory=dict)

    def __len__(self) -> int:
        return sum(map(len, self.records.values()))

    def note_owners(self, owners: dict[str, str], pairs: Iterable[tuple[str, str]]) -> None:
        """Note which records tags go in with: one that has an owner, by tag in `owners`, keeps it."""
        for tag, owner in pairs:
            if owners.setdefault(tag, owner) is owner:
                self.tags_of.setdefault(pack(owner), []).append(pack(tag))


@dataclass
class RootGroup:
    """Roots that are walked and copied together.

    Attributes
    ----------
    total : int
        The number of all roots.
    executions : list of str
        Ids of executions.
    jobs : int
        The number of jobs of the executions.
    others : list of (model, id)
        Other records.
    """

    total: int
    executions: list[str] = field(default_factory=list)
    jobs: int = 0
    others: Sequence[tuple[type[Base], str]] = ()


class Walker:
    """Walks a source, group of roots by group of roots, and remembers what it has seen."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._database = source.database
        self._seen = {kind: IdSet() for kind in ("Execution", "CallNode", "Value", "Tag", "Evaluation")}

    async def iter_groups(self, root_ids: Sequence[str] | None) -> AsyncIterator[RootGroup]:
        """Yield groups of roots, newest executions first.

        Parameters
        ----------
        root_ids : sequence of str or None
            Ids of records of any kind; all executions by default. A job stands for its execution.

        Yields
        ------
        RootGroup
        """
        others: list[tuple[type[Base], str]] = []
        executions: list[str] | None = None
        if root_ids is not None:
            executions, others = await self._sort_roots(list(dict.fromkeys(root_ids)))
        sizes = await self._get_executions(executions)
        total = len(sizes) + len(others)
        for part in iter_parts(others, STEP):
            yield RootGroup(total, others=part)
        group = RootGroup(total)
        limit = FIRST_JOBS
        for execution_id, size in sizes:
            if group.executions and group.jobs + size > limit:
                yield group
                group = RootGroup(total)
                limit = min(2 * limit, GROUP_JOBS)
            group.executions.append(execution_id)
            group.jobs += size
        if group.executions:
            yield group

    async def _sort_roots(self, ids: list[str]) -> tuple[list[str], list[tuple[type[Base], str]]]:
        """Return the executions among some records, or that jobs among them are of, and the others."""
        found: list[tuple[type[Base], str]] = []
        for part in iter_parts(ids, STEP):
            models = await find_models(self._database, part)
            found += [(model, each) for each in part for model in models.get(each, ())]
        executions = [each for model, each in found if model is Execution]
        of_jobs = await self._read(_EXECUTIONS_OF_JOBS, [each for model, each in found if model is Job])
        executions += [execution_id for (execution_id,) in of_jobs]
        others = [pair for pair in found if pair[0] not in (Execution, Job)]
        return list(dict.fromkeys(executions)), others

    async def _get_executions(self, ids: list[str] | None) -> list[tuple[str, int]]:
        """Return executions with the numbers of their jobs, newest first."""
        if ids is None:
            starts, sizes = await self._read(_ALL_STARTS), await self._read(_ALL_SIZES)
        else:
            starts, sizes = await self._read(_STARTS, ids), await self._read(_SIZES, ids)
        of_execution = dict(sizes)
        starts.sort(key=_rank_start, reverse=True)
        return [(execution_id, of_execution.get(execution_id, 0)) for execution_id, _ in starts]

    async def walk(self, group: RootGroup) -> SyncPlan:
        """Return what a group owns and no earlier one did."""
        plan = SyncPlan(roots=len(group.executions) + len(group.others))
        roots: dict[type[Base], list[str]] = defaultdict(list)
        for model, record_id in group.others:
            roots[model].append(record_id)
        calls, values = await self._walk_jobs(plan, group)
        of_calls, cached = await self._walk_calls(plan, [*calls, *roots[CallNode]])
        await self._walk_values(plan, values | of_calls | set(roots[Value]))
        await self._walk_cached(plan, cached)
        await self._walk_tags(plan, roots[Tag])
        return plan

    async def _iter_new(self, kind: str, waiting: deque[str]) -> AsyncIterator[list[str]]:
        """Yield those of the ids that were not seen before, and remember them; more may come meanwhile."""
        while waiting:
            await take_turn()
            ids = [waiting.popleft() for _ in range(min(len(waiting), STEP))]
            if new := self._seen[kind].add_all(ids):
                yield new

    async def _walk_jobs(self, plan: SyncPlan, group: RootGroup) -> tuple[list[str], set[str]]:
        """Walk executions and all of their jobs; return their calls and tasks."""
        calls: dict[str, None] = {}
        tasks: set[str] = set()
        found: list[tuple[Any, Packed]] = []
        waiting = deque(group.executions)
        async for new in self._iter_new("Execution", waiting):
            plan.records["Execution"] += pack_all(new)
            for part in iter_parts(await self._source.read_job_links(new, group.jobs)):
                await take_turn()
                # A job has one execution, so no other group meets it again.
                keys = pack_all([job_id for job_id, *_ in part])
                for (_, start_time, task_hash, call_hash), key in zip(part, keys, strict=True):
                    found.append((start_time, key))
                    tasks.add(task_hash)
                    if call_hash is not None:
                        calls[call_hash] = None
            waiting.extend(row[0] for row in await self._read(_RELATED, new))
        found.sort(key=itemgetter(0))
        plan.records["Job"] += [key for _, key in found]
        return list(calls), tasks

    async def _walk_calls(self, plan: SyncPlan, calls: Iterable[str]) -> tuple[set[str], set[str]]:
        """Walk calls and those that they need; return their values and tasks, and cached single steps."""
        values: set[str] = set()
        cached: set[str] = set()
        found: list[tuple[Any, Packed]] = []
        waiting = deque(calls)
        async for new in self._iter_new("CallNode", waiting):
            items, steps = await self._source.read_calls(new)
            cached.update(row.value_hash for row in steps)
            for part in iter_parts(items):
                await take_turn()
                keys = pack_all([item.id for item in part])
                found += zip((item.row.timestamp for item in part), keys, strict=True)
                rows = collect_rows(part)
                for row in rows["call_node"]:
                    values.add(row.task_hash)
                    values.add(row.value_hash)
                values.update(row.value_hash for row in rows["argument"])
                calls_of = [row.result_call_hash for row in rows["argument_result"]]
                calls_of += [row.child_id for row in rows["call_edge"]]
                waiting += self._seen["CallNode"].find_new(dict.fromkeys(calls_of))
        found.sort(key=itemgetter(0))
        plan.records["CallNode"] += [key for _, key in found]
        return values, cached

    async def _walk_cached(self, plan: SyncPlan, cached: Iterable[str]) -> None:
        """Walk values that only the cache of single steps holds; they are no records of the roots."""
        seen = self._seen["Value"]
        own = SyncPlan()
        await self._walk_values(own, seen.find_new(cached), "Evaluation")
        plan.cached.extend(key for key in own.records["Value"] if unpack(key) not in seen)
        plan.parents |= own.parents

    async def _walk_values(self, plan: SyncPlan, values: Iterable[str], kind: str = "Value") -> None:
        """Walk values and their subvalues."""
        waiting = deque(values)
        async for new in self._iter_new(kind, waiting):
            plan.records["Value"] += pack_all(new)
            for parent, child in await self._read(_SUBVALUES, new):
                plan.parents.add(pack(parent))
                if child not in self._seen[kind]:
                    waiting.append(child)

    async def _walk_tags(self, plan: SyncPlan, tags: Iterable[str]) -> None:
        """Walk the tags of all entities of the plan, and those that they replaced or that replaced them."""
        waiting = deque(tags)
        owners: dict[str, str] = {}
        for kind in ("Execution", "Job", "CallNode", "Value"):
            for part in iter_parts(plan.records[kind], STEP):
                rows = await self._read(_TAGS, unpack_all(part))
                plan.note_owners(owners, rows)
                waiting.extend(row[0] for row in rows)
        async for new in self._iter_new("Tag", waiting):
            plan.records["Tag"] += pack_all(new)
            for statement in (_TAGS, _REPLACED_TAGS, _NEWER_TAGS):
                rows = await self._read(statement, new)
                # A tag without an owner of its own goes in with the owner of the tag that it replaced.
                plan.note_owners(owners, [(tag, owners[other]) for tag, other in rows if other in owners])
                waiting.extend(row[0] for row in rows)

    async def _read(self, statement: sa.SelectBase, ids: Sequence[str] | None = None) -> Rows:
        """Return the rows of a statement, for `ids` step by step if there are any."""
        if ids is None:
            return await self._database.fetch(statement, {})
        rows: Rows = []
        for part in iter_parts(ids, STEP):
            await take_turn()
            rows += await self._database.fetch(statement, {"ids": part})
        return rows


def _select_related() -> sa.CompoundSelect[Any]:
    """Select executions that share a job with those given: as parent, child or root of one of theirs."""
    parent, child, root = aliased(Job), aliased(Job), aliased(Job)
    return sa.union(
        sa.select(parent.execution_id)
        .join(child, child.parent_id == parent.id)
        .where(in_list(child.execution_id, "ids"), parent.execution_id != child.execution_id),
        sa.select(child.execution_id)
        .join(parent, child.parent_id == parent.id)
        .where(in_list(parent.execution_id, "ids"), parent.execution_id != child.execution_id),
        sa.select(root.execution_id)
        .join(Execution, Execution.job_id == root.id)
        .where(in_list(Execution.id, "ids"), root.execution_id != Execution.id),
    )


def _rank_start(row: Sequence[Any]) -> tuple[bool, Any]:
    """Return by what executions are sorted: those that have lost their root job have no start."""
    _, start_time = row
    return start_time is not None, start_time


_EXECUTIONS_OF_JOBS: Final = select_column("job", "execution_id", "id")
# An execution that has lost its root job is among them, to be refused by name.
_ALL_STARTS: Final = sa.select(Execution.id, plain(Job.start_time)).outerjoin(Job, Job.id == Execution.job_id)
_STARTS: Final = _ALL_STARTS.where(in_list(Execution.id, "ids"))
_ALL_SIZES: Final = sa.select(Job.execution_id, sa.func.count()).group_by(Job.execution_id)
_SIZES: Final = _ALL_SIZES.where(in_list(Job.execution_id, "ids"))
_RELATED: Final = _select_related()
_SUBVALUES: Final = sa.select(Subvalue.parent_value_hash, Subvalue.value_hash).where(
    in_list(Subvalue.parent_value_hash, "ids", sparse=True)
)
# Tags, each with that of the ids by which it was found.
_TAGS: Final = sa.select(plain(Tag.tag_hash), Tag.entity_id).where(in_list(Tag.entity_id, "ids", sparse=True))
_REPLACED_TAGS: Final = sa.select(TagEdit.parent_id, TagEdit.child_id).where(
    in_list(TagEdit.child_id, "ids", sparse=True)
)
_NEWER_TAGS: Final = sa.select(TagEdit.child_id, TagEdit.parent_id).where(
    in_list(TagEdit.parent_id, "ids", sparse=True)
)


# Stands for the values that only the cache of single steps holds.
CACHED: Final = "cached"


async def find_missing(
    source: Database, destination: Database, plan: SyncPlan, *, workers: int, batch_size: int
) -> None:
    """Take note in a plan of what the destination lacks of it.

    Parameters
    ----------
    source, destination : Database
        Where to look.
    plan : SyncPlan
        The plan.
    workers : int
        Statements that are under way at a time.
    batch_size : int
        Ids in one statement.
    """

    lacking: dict[str, list[Packed]] = {kind: [] for kind in (*plan.records, CACHED)}
    parts = [
        (kind, part)
        for kind, keys in {**plan.records, CACHED: plan.cached}.items()
        for part in iter_parts(keys, batch_size)
    ]

    async def find(batch: list[tuple[str, Sequence[Packed]]]) -> tuple[str, list[Packed]]:
        ((kind, keys),) = batch
        await take_turn()
        ids = unpack_all(keys)
        present = await _find_present(destination, kind, ids)
        await take_turn()
        pairs = list(zip(ids, keys, strict=True))
        parents = [each for each, key in pairs if each in present and key in plan.parents]
        if parents:
            present -= await _find_partial(source, destination, parents)
        return kind, [key for each, key in pairs if each not in present]

    async with aclosing(iter_ahead(find, iter_batches(parts, 1), workers - 1)) as found:
        async for kind, keys in found:
            lacking[kind] += keys
    plan.cached = lacking.pop(CACHED)
    plan.missing = lacking


async def _find_present(destination: Database, kind: str, ids: Collection[str]) -> set[str]:
    """Return those of the ids that are there; jobs that are unfinished there are to be copied again."""
    if kind == "Job":
        finished = await destination.fetch(FINISHED_JOBS, {"ids": list_storable(ids)})
        return {job_id for (job_id,) in finished}
    stored = KINDS["Value" if kind == CACHED else kind]
    return await find_existing(destination, stored.table, stored.pk, ids)


async def _find_partial(source: Database, destination: Database, parents: Sequence[str]) -> set[str]:
    """Return the values that lack subvalues: one that was recorded as part of another has none there."""
    here = dict(await source.fetch(_COUNT_SUBVALUES, {"ids": parents}))
    there = dict(await destination.fetch(_COUNT_SUBVALUES, {"ids": parents}))
    return {each for each in parents if here.get(each, 0) > there.get(each, 0)}


_COUNT_SUBVALUES: Final = (
    sa.select(Subvalue.parent_value_hash, sa.func.count())
    .where(in_list(Subvalue.parent_value_hash, "ids", sparse=True))
    .group_by(Subvalue.parent_value_hash)
)
