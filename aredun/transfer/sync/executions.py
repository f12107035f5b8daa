"""Copying executions: each in one transaction with all of its jobs, and the tags of both."""

from __future__ import annotations

from collections import defaultdict
from operator import attrgetter
from typing import TYPE_CHECKING, Final, NamedTuple

import sqlalchemy as sa

from aredun.formats.describe import shorten
from aredun.models import Job
from aredun.storage.record_rows import insert_rows, list_storable, select_column, write_new
from aredun.storage.retry import halve
from aredun.tables.column_types import in_list
from aredun.transfer.records.derive import update_current
from aredun.transfer.records.groups import write_or_split
from aredun.transfer.records.packed_ids import pack, pack_all, unpack_all
from aredun.transfer.records.refusals import BAD_TEXT, NOT_THERE
from aredun.transfer.records.window import collect_rows, split_window

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.ext.asyncio import AsyncSession

    from aredun.storage import Database
    from aredun.transfer.record_fields import ParsedRecord
    from aredun.transfer.records.packed_ids import Packed
    from aredun.transfer.sync.source import CheckedReader
    from aredun.transfer.sync.tags import TagCopier

_EXECUTIONS: Final = select_column("job", "execution_id", "id")
_JOBS: Final = sa.select(Job.execution_id, Job.id).where(in_list(Job.execution_id, "ids"))


class _Work(NamedTuple):
    """What goes in with one transaction: executions and their jobs, with the tags of both or without."""

    executions: Sequence[Packed]
    jobs: Sequence[Packed]
    with_tags: bool = True


def _join(groups: Sequence[tuple[str, list[Packed]]], executions: Sequence[Packed]) -> _Work:
    """Return the work of some groups: the jobs of each, and of the executions those that are theirs."""
    ids = set(pack_all([execution_id for execution_id, _ in groups]))
    return _Work([key for key in executions if key in ids], [job for _, jobs in groups for job in jobs])


class ExecutionCopier:
    """Copies executions and jobs.

    Parameters
    ----------
    reader : CheckedReader
        Reads them.
    destination : Database
        Where to write them.
    tags : TagCopier
        Gives their tags.
    """

    def __init__(self, reader: CheckedReader, destination: Database, tags: TagCopier) -> None:
        self._reader = reader
        self._destination = destination
        self._source = reader.source.database
        self._refusals = reader.refusals
        self._progress = reader.progress
        self._tags = tags

    async def copy(self, executions: Sequence[Packed], jobs: Sequence[Packed]) -> None:
        """Copy executions and all of their jobs in one transaction."""
        if not jobs and not executions:
            return
        refused = await self._find_refused_executions(jobs) if self._refusals.ids else set()

        async def write(work: _Work) -> Sequence[_Work]:
            await self._write(work, refused)
            return ()

        await write_or_split(_Work(executions, jobs), write, self._split)
        self._progress.step(len(jobs) + len(executions))

    def _find_owners(self, work: _Work) -> list[Packed]:
        """Return those of the executions and jobs that tags are to go in with."""
        return self._tags.find_owners([*work.executions, *work.jobs]) if work.with_tags else []

    async def _write(self, work: _Work, refused: set[str]) -> None:
        """Write executions in one transaction, but for those that are refused."""
        owners = self._find_owners(work)
        tags: list[str] = []

        async def operation(session: AsyncSession, all_new: bool) -> dict[str, int]:
            tags.clear()
            new = {"Tag": 0}
            # First, as all writers of tags do, who would form a deadlock otherwise.
            for part in self._reader.cut(owners):
                ids = [each for each in unpack_all(part) if each not in refused]
                provided = {(kind, each) for each in ids for kind in ("Job", "Execution")}
                items = await self._tags.read(pack_all(ids), provided)
                rows = {table: sorted(cells) for table, cells in collect_rows(items).items()}
                new["Tag"] += (await insert_rows(session, rows, all_new=all_new)).get("tag", 0)
                tags.extend(item.id for item in items)
            for kind, keys in (("Job", work.jobs), ("Execution", work.executions)):
                new[kind] = await self._insert(session, kind, keys, refused, all_new=all_new)
            if tags:
                await update_current(session, tags)
            return new

        async with self._reader.slots:
            new = await write_new(self._destination, operation)
        self._progress.add_written((), new)
        self._tags.discard(pack_all(tags))

    async def _split(self, work: _Work, error: Exception) -> Sequence[_Work]:
        """Return what is to be written in the place of what the destination refused."""
        groups = await self._group_jobs(work.executions, work.jobs)
        if len(groups) > 1:
            return [_join(half, work.executions) for half in halve(groups)]
        if self._find_owners(work):
            # An execution does not need its tags: they are copied afterwards, one by one.
            return [work._replace(with_tags=False)]
        await self._refuse_execution(*groups[0], error)
        return ()

    async def _group_jobs(
        self, executions: Sequence[Packed], jobs: Sequence[Packed]
    ) -> list[tuple[str, list[Packed]]]:
        """Return the ids of executions with the jobs of each, oldest first: jobs may hang on older ones."""
        groups: dict[str, list[Packed]] = {each: [] for each in reversed(unpack_all(executions))}
        for part in self._reader.cut(jobs):
            for (execution_id,) in await self._source.fetch(_EXECUTIONS, {"ids": unpack_all(part)}):
                groups.setdefault(execution_id, [])
        wanted = set(jobs)
        for execution_id, job_id in await self._source.fetch(_JOBS, {"ids": sorted(groups)}):
            if pack(job_id) in wanted:
                groups[execution_id].append(pack(job_id))
        return list(groups.items())

    async def _refuse_execution(self, execution_id: str, jobs: Sequence[Packed], error: Exception) -> None:
        """Refuse an execution that the destination does not take, and name its jobs that no text can be."""
        self._refusals.refuse("Execution", execution_id, self._refusals.describe(error))
        # The tags of these jobs need not wait for them.
        self._refusals.exclude("Job", unpack_all(jobs))
        batches = self._reader.read_unchecked("Job", jobs)
        async for items in self._reader.refuse_unread("Job", jobs, batches, NOT_THERE):
            for item in items:
                texts = [cell for cell in item.row if isinstance(cell, str)]
                if list_storable(texts) != texts:
                    self._refusals.refuse("Job", item.id, BAD_TEXT)

    async def _insert(
        self, session: AsyncSession, kind: str, keys: Sequence[Packed], refused: set[str], *, all_new: bool
    ) -> int:
        pending = set(keys)
        waiting: list[ParsedRecord] = []
        table, of_execution = ("job", "execution_id") if kind == "Job" else ("execution", "id")
        get_execution = attrgetter(of_execution)
        new = 0

        def find_lacking(needed: str, ids: set[str]) -> set[str]:
            return {each for each in ids if pack(each) in pending} if needed == kind == "Job" else set()

        async for items in self._reader.read_unchecked(kind, keys):
            kept = [item for item in [*waiting, *items] if get_execution(item.row) not in refused]
            ready, waiting = await split_window(kept, find_lacking)
            counts = await insert_rows(session, {table: [item.row for item in ready]}, all_new=all_new)
            new += counts.get(table, 0)
            pending.difference_update(pack_all([item.id for item in items]))
        absent = [*unpack_all(sorted(pending, key=str)), *(item.id for item in waiting)]
        if absent:
            # An execution goes in whole or not at all.
            name = f"{kind} {shorten(absent[0], 80)}"
            raise ValueError(f"{name} is not at the source, or what it needs is not, or needs it in turn")
        return new

    async def _find_refused_executions(self, jobs: Sequence[Packed]) -> set[str]:
        """Refuse the executions with a job whose task or call was refused; return them and their jobs."""
        refused: dict[str, ParsedRecord] = {}
        jobs_of: dict[str, list[str]] = defaultdict(list)
        async for items in self._reader.read_unchecked("Job", jobs):
            for item in items:
                execution_id = item.row.execution_id
                jobs_of[execution_id].append(item.id)
                # Jobs below it are left out with the execution.
                needs = (need for need in item.needs if need[0] not in ("Job", "Execution"))
                if any(need in self._refusals for need in needs):
                    self._refusals.refuse_dependent([item])
                    refused.setdefault(execution_id, item)
        for execution_id, item in refused.items():
            self._refusals.refuse("Execution", execution_id, f"refers to Job {item.id}, which was refused")
            # Tags of those jobs must not go in.
            self._refusals.exclude("Job", jobs_of[execution_id])
        return set(refused).union(*(jobs_of[execution_id] for execution_id in refused))
