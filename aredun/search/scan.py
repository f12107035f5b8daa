"""Reading the matches of a call graph query in key order, in chunks, each in a short session of its own.

However many records match, memory stays flat: `aredun.search.strategies` chooses how they are found.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.orm import defer, joinedload, load_only

from aredun.formats import statuses
from aredun.models import CallNode, Execution, Job, Task, Value
from aredun.search.filters import MODEL_CLASSES, PRIMARY_KEYS
from aredun.search.records import get_reader
from aredun.search.statements import ScanPlan, load_records
from aredun.search.statuses import is_alive
from aredun.search.strategies import KeptSeek, Listing, Seek, choose_listing, choose_strategy
from aredun.storage.reads import read_scalars
from aredun.tables.column_types import in_parameter

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Sequence
    from datetime import datetime

    from sqlalchemy import Select
    from sqlalchemy.ext.asyncio import AsyncSession

    from aredun.search.conditions import Condition
    from aredun.search.repository import Repository
    from aredun.search.statements import Key
    from aredun.search.strategies import Strategy

FIRST_CHUNK, FIRST_IDS, GROWTH = 50, 1_000, 4
MAX_RECORDS, MAX_IDS = 4_000, 20_000


class Portion(NamedTuple):
    """What one step of a scan found.

    Attributes
    ----------
    rows : list
        Records, or ids.
    keys : list[Key]
        Where in the order each row stands.
    resume : Key | None
        Where the next step begins; None at the end.
    """

    rows: list[Any]
    keys: list[Key]
    resume: Key | None


@dataclass
class Scan:
    """The matches of one record type, read in key order.

    Parameters
    ----------
    backend : Repository
        Where to read; each step is a session of its own, and retried as a whole.
    record_type : str
        A key of `MODEL_CLASSES`.
    conditions : Sequence[Condition]
        All must hold.
    by_time : bool
        As for `get_order`.
    ids_only : bool
        Yield primary keys instead of records.
    cutoff : datetime | None
        An open execution without a sign of life since then is marked ABANDONED, as are its open jobs; None
        marks none.
    load_values : bool
        Load the data of values, which are left out otherwise.
    """

    backend: Repository
    record_type: str
    conditions: Sequence[Condition]
    by_time: bool = False
    ids_only: bool = False
    cutoff: datetime | None = None
    load_values: bool = False
    _strategy: Strategy | None = None
    _gathered: list[Key] = field(default_factory=list)
    # Whether nothing comes behind what was gathered.
    _is_whole: bool = False

    def __post_init__(self) -> None:
        has_cutoff = self.cutoff is not None
        self._plan = ScanPlan(self.record_type, self.by_time, self.ids_only, self.load_values, has_cutoff)

    async def iter_rows(self, limit: int | None = None, after: Key | None = None) -> AsyncIterator[Any]:
        """Yield records (or ids) after a key, in order, at most `limit`; in between no session is open."""
        chunk, most = (FIRST_IDS, MAX_IDS) if self.ids_only else (FIRST_CHUNK, MAX_RECORDS)
        resume, left = after, limit
        while left is None or left > 0:
            portion = await self.read(resume, chunk if left is None else min(chunk, left), wanted=left)
            for row in portion.rows:
                yield row
            if portion.resume is None:
                return
            resume = portion.resume
            left = None if left is None else left - len(portion.rows)
            chunk = min(chunk * GROWTH, most)

    async def read(self, after: Key | None, limit: int, skip: int = 0, *, wanted: int | None = 0) -> Portion:
        """
        Read up to `limit` rows that come after a key; there may be more although fewer are returned.

        `wanted` tells how many are to be read from there on, one portion after the other; None for all.
        """
        keys = self._gathered
        if not keys:
            size = MAX_IDS if wanted is None else min(max(limit, wanted), MAX_IDS)
            rows, size = await self._find(after, limit, size, skip, None if wanted is None else size)
            keys = self._get_keys(rows)
            self._is_whole = len(keys) < size
            if isinstance(self._strategy, Listing) and not self.ids_only:
                return Portion(self._make(rows), keys, None if self._is_whole else keys[-1])
        # Keys beyond the limit are kept: to gather them again for every portion would be slow.
        chosen, self._gathered = keys[:limit], keys[limit:]
        goes_on = chosen and (self._gathered or not self._is_whole)
        portion = Portion([key[-1] for key in chosen], chosen, chosen[-1] if goes_on else None)
        return portion if self.ids_only or not chosen else await self._load(portion)

    async def read_key(self, position: int) -> Key | None:
        """Return the key of the match at a position, counted from zero; None when there are not that many."""
        rows, _ = await self._find(None, 1, 1, position, 1)
        return self._get_keys(rows)[0] if rows else None

    async def _find(
        self, after: Key | None, limit: int, size: int, skip: int, wanted: int | None
    ) -> tuple[Sequence[Any], int]:
        """Return rows with their keys behind, and how many there may be: `size` where they are gathered."""
        database = self.backend.database
        listing = choose_listing(self._plan, self.conditions)
        if listing is not None:
            self._strategy = listing
            parameters = {
                **listing.parameters,
                "cutoff": self.cutoff,
                **self._plan.order.place(after, limit, skip),
            }
            return await self._fetch(listing.select(self._plan, after is not None), parameters, limit), limit

        async def operation(session: AsyncSession) -> tuple[Sequence[Any], int]:
            if self._strategy is None:
                self._strategy = await choose_strategy(
                    self._plan, self.conditions, session, database.fetch, wanted=wanted
                )
            strategy = self._strategy
            most = size if isinstance(strategy, Seek | KeptSeek) else limit
            statement = strategy.select(self._plan, after is not None)
            parameters = self._plan.order.place(after, most, skip)
            if isinstance(strategy, KeptSeek):
                return await database.fetch(statement, {**parameters, **strategy.parameters}), most
            return (await session.execute(statement, parameters)).all(), most

        return await database.read(operation)

    def _get_keys(self, rows: Iterable[Any]) -> list[Key]:
        width = len(self._plan.order.columns)
        return [tuple(row[-width:]) for row in rows]

    async def _load(self, portion: Portion) -> Portion:
        """Return the portion with records for its ids; what has been deleted meanwhile is left out."""
        parameters = {"keys": portion.rows, "cutoff": self.cutoff}
        rows = await self._fetch(load_records(self._plan), parameters, len(portion.rows))
        name = PRIMARY_KEYS[self.record_type].key
        records = {getattr(record, name): record for record in self._make(rows)}
        keys = [key for key in portion.keys if key[-1] in records]
        return Portion([records[key[-1]] for key in keys], keys, portion.resume)

    def _make(self, rows: Sequence[Any]) -> list[Any]:
        reader = get_reader(self.record_type, self.load_values)
        return reader.make(rows, self.backend.database.backend, tells_alive=self.cutoff is not None)

    async def _fetch(self, statement: Select[Any], parameters: dict[str, Any], size: int) -> Sequence[Any]:
        """Read rows, a few by the short way: many, or large ones, would hold up whoever else takes it."""
        database = self.backend.database

        async def operation(session: AsyncSession) -> Any:
            return (await (await session.connection()).execute(statement, parameters)).all()

        is_short = size <= FIRST_IDS and not self.load_values
        rows: Sequence[Any] = await (
            database.fetch(statement, parameters) if is_short else database.read(operation)
        )
        return rows

    async def count(self) -> int:
        """Return how many records match."""
        where = [
            (condition.seek if condition.sources else condition.probe)() for condition in self.conditions
        ]
        statement = sa.select(sa.func.count()).select_from(MODEL_CLASSES[self.record_type]).where(*where)

        [total] = await read_scalars(self.backend.database, statement)
        return int(total)


@cache
def get_load_options(record_type: str, load_values: bool = False) -> tuple[Any, ...]:
    """Return what to load along with records of a type: what their status and task name take."""
    if record_type == "Value":
        return () if load_values else (defer(Value.value, raiseload=True),)
    if record_type == "CallNode":
        return (joinedload(CallNode.task).options(defer(Task.source, raiseload=True)),)
    if record_type in {"Execution", "Job"}:
        job = joinedload(Execution.job) if record_type == "Execution" else None
        nodes = job.joinedload(Job.call_node) if job else joinedload(Job.call_node)
        tasks = job.joinedload(Job.task) if job else joinedload(Job.task)
        return (
            nodes.joinedload(CallNode.value).options(load_only(Value.type, Value.format, raiseload=True)),
            tasks.options(defer(Task.source, raiseload=True)),
        )
    return ()


@cache
def _select_alive() -> Select[Any]:
    cutoff: Any = sa.bindparam("cutoff")
    return sa.select(Execution.id).where(in_parameter(Execution.id, "ids"), is_alive(Execution.id, cutoff))


async def mark_abandoned(session: AsyncSession, records: Sequence[Any], cutoff: datetime) -> None:
    """
    Give open executions and jobs whose run gave no sign of life since `cutoff` the status ABANDONED.

    Parameters
    ----------
    session : AsyncSession
        An open session.
    records : Sequence[Execution | Job]
        Loaded with what their status takes (`get_load_options`).
    cutoff : datetime
        See `aredun.formats.statuses`.
    """
    open_records: dict[str, list[Any]] = {}
    for record in records:
        if record.status == statuses.RUNNING:
            key = record.id if isinstance(record, Execution) else record.execution_id
            open_records.setdefault(key, []).append(record)
    if not open_records:
        return
    known = {"ids": list(open_records), "cutoff": cutoff}
    alive = set(await session.scalars(_select_alive(), known))
    for execution_id, silent in open_records.items():
        if execution_id not in alive:
            for record in silent:
                record._keep_status(statuses.ABANDONED)
