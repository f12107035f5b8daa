"""Reading the matches of a call graph query in key order, in chunks, each in a short session of its own.

However many records match, and wherever they lie, the first must come at once and memory must stay flat. So
a scan first counts, up to a bound, how many rows each condition leads to, and then takes one of three ways:

- *direct*: nothing but the order confines the rows; the order's index gives them.
- *seek*: some condition leads to few rows; they are gathered, sorted, and cut.
- *window*: every condition matches many rows; stretches of the order's index are read and each row is probed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import sqlalchemy as sa
from sqlalchemy.orm import defer, joinedload, load_only

from aredun.formats import statuses
from aredun.models import CallNode, Execution, Job, Task, Value
from aredun.search.conditions import combine
from aredun.search.filters import MODEL_CLASSES, PRIMARY_KEYS
from aredun.search.records import get_reader
from aredun.search.statements import (
    Plan,
    count_rows,
    get_order,
    label,
    prepare_count,
    prepare_load,
    prepare_sought,
    prepare_walk,
    select_sought,
)
from aredun.search.statuses import is_alive
from aredun.tables.column_types import in_parameter

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from datetime import datetime

    from sqlalchemy import ColumnElement, Select
    from sqlalchemy.ext.asyncio import AsyncSession

    from aredun.search.conditions import Condition
    from aredun.search.statements import Key, Order

# For the first rows a condition that leads to more matches than this is probed, not sought: what is sought
# must be gathered whole before the first of it is known. For all rows seeking pays much longer.
SEEK_ROWS, LATER_SEEK_ROWS = 1_000, 50_000
FIRST_CHUNK, FIRST_IDS, GROWTH = 50, 1_000, 4
MAX_RECORDS, MAX_IDS = 4_000, 20_000
FIRST_WINDOW, MAX_WINDOW = 500, 50_000

DIRECT, SEEK, WINDOW = "direct", "seek", "window"


class Repository(Protocol):
    """What a query needs of a backend."""

    @property
    def config(self) -> Any: ...

    @property
    def database(self) -> Any: ...


class Batch(NamedTuple):
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
    _way: str | None = None
    _where: ColumnElement[bool] = field(default_factory=sa.true)
    _confine: ColumnElement[bool] = field(default_factory=sa.true)
    _window: int = field(default_factory=lambda: FIRST_WINDOW)
    _most: int | None = None
    _seek_rows: int = field(default_factory=lambda: SEEK_ROWS)
    _goes_on: bool = False
    _sought: list[Key] = field(default_factory=list)

    async def iter_rows(self, limit: int | None = None, after: Key | None = None) -> AsyncIterator[Any]:
        """Yield records (or ids) after a key, in order, at most `limit`; in between no session is open."""
        chunk, most = (FIRST_IDS, MAX_IDS) if self.ids_only else (FIRST_CHUNK, MAX_RECORDS)
        resume, left = after, limit
        while left is None or left > 0:
            batch = await self.read(resume, chunk if left is None else min(chunk, left))
            for row in batch.rows:
                yield row
            if batch.resume is None:
                return
            resume = batch.resume
            left = None if left is None else left - len(batch.rows)
            chunk = min(chunk * GROWTH, most)
            if self._way == WINDOW:
                self._reconsider(wants_all=left is None or self._window == MAX_WINDOW)
            self._goes_on = True

    def _reconsider(self, *, wants_all: bool) -> None:
        """Choose the way again now that more than the first rows are wanted, if that can change it."""
        seek_rows = LATER_SEEK_ROWS if wants_all else SEEK_ROWS
        if not self._goes_on or seek_rows != self._seek_rows:
            self._way, self._seek_rows = None, seek_rows

    async def read(self, after: Key | None, limit: int, offset: int = 0) -> Batch:
        """Read up to `limit` rows that come after a key; there may be more although fewer are returned."""
        if self._is_prepared:
            return await self._read_prepared(after, limit, offset)
        if after is None and not offset:
            few = await self._read_few(limit)
            if few is not None:
                return few if self.ids_only or not few.keys else await self._load(few)

        async def operation(session: AsyncSession) -> Batch:
            if self._way is None:
                await self._choose_way(session)
            if self._way == WINDOW and not offset:
                return await self._read_window(session, after, limit)
            if self._way == SEEK and self._goes_on:
                return await self._read_sought(session, after, limit)
            return await self._read_keys(session, self._select_keys(after, limit, offset), limit)

        batch: Batch = await self.backend.database.read(operation)
        return batch if self.ids_only or not batch.keys else await self._load(batch)

    async def read_key(self, position: int) -> Key | None:
        """Return the key of the match at a position, counted from zero; None when there are not that many."""

        async def operation(session: AsyncSession) -> Key | None:
            if self._way is None:
                await self._choose_way(session)
            row = (await session.execute(self._select_keys(None, 1, position))).one_or_none()
            return None if row is None else tuple(row)

        key: Key | None = await self.backend.database.read(operation)
        return key

    @property
    def order(self) -> Order:
        """The order of the records."""
        return get_order(self.record_type, self.by_time)

    @property
    def _primary_key(self) -> Any:
        return PRIMARY_KEYS[self.record_type]

    def _is_direct(self, condition: Condition) -> bool:
        return condition.on_key and not self.by_time

    async def _choose_way(self, session: AsyncSession) -> None:
        conditions = [await _resolve(session, condition) for condition in self.conditions]
        direct = [condition for condition in conditions if self._is_direct(condition)]
        others = [condition for condition in conditions if not self._is_direct(condition)]
        bounds = [max(self._seek_rows, condition.get_seek_rows(self._goes_on)) for condition in others]
        sizes = await self._count_matches(session, others, bounds)
        small = [size is not None and size <= bound for size, bound in zip(sizes, bounds, strict=True)]
        limits = [
            bound
            for condition, bound, sought in zip(others, bounds, small, strict=True)
            if sought and condition.is_bounded
        ]
        # Tells the planner how few there are; rows that are added meanwhile still fit in.
        self._most = 2 * min(limits) + 1_000 if limits else None
        if any(small):
            self._way = SEEK
        elif others and not (self.by_time and self.record_type == "Execution"):
            self._way = WINDOW
        else:
            self._way = DIRECT
        self._confine = combine([condition.seek for condition in direct])
        self._where = combine(
            [self._confine]
            + [
                condition.seek if sought else condition.probe
                for condition, sought in zip(others, small, strict=True)
            ]
        )
        if self.by_time and self.record_type == "Execution":
            # An execution without a root job has no place in time (redun's join leaves it out as well).
            self._where = sa.and_(self._where, self.order.columns[0].is_not(None))

    async def _count_matches(
        self, session: AsyncSession, conditions: Sequence[Condition], bounds: Sequence[int]
    ) -> list[int | None]:
        counts = [
            count_rows(condition, bound + 1)
            for condition, bound in zip(conditions, bounds, strict=True)
            if condition.is_sought
        ]
        found = iter((await session.execute(sa.select(*counts))).one()) if counts else iter(())
        return [next(found) if condition.is_sought else None for condition in conditions]

    def _select_keys(self, after: Key | None, limit: int | None, offset: int = 0) -> Select[Any]:
        order = self.order
        if self._way == SEEK:
            keys = select_sought(self.record_type, order, self._where, self._most, after)
        else:
            columns = list(order.columns)
            walk: Select[Any] = sa.select(*label(columns[:-1]), self._primary_key.label("pk"))
            keys = walk.where(self._where, order.beyond(columns, after)).order_by(*order.sort(columns))
        return keys.limit(limit).offset(offset or None)

    async def _read_window(self, session: AsyncSession, after: Key | None, limit: int) -> Batch:
        order = self.order
        columns = list(order.columns)
        boundary = (
            sa.select(*columns)
            .where(self._confine, order.beyond(columns, after))
            .order_by(*order.sort(columns))
            .offset(self._window - 1)
            .limit(1)
        )
        row = (await session.execute(boundary)).one_or_none()
        end = None if row is None else tuple(row)
        keys = self._select_keys(after, limit).where(order.up_to(columns, end))
        batch = await self._read_keys(session, keys, limit)
        if batch.resume is not None:
            return batch
        self._window = min(self._window * GROWTH, MAX_WINDOW)
        return batch._replace(resume=end)

    async def _read_sought(self, session: AsyncSession, after: Key | None, limit: int) -> Batch:
        """Read from the keys gathered before; to gather them again for every chunk would be slow."""
        keys, is_last = self._sought, False
        if not keys:
            found = await session.execute(self._select_keys(after, MAX_IDS))
            keys = [tuple(row) for row in found]
            is_last = len(keys) < MAX_IDS
        chosen, self._sought = keys[:limit], keys[limit:]
        goes_on = chosen and (self._sought or not is_last)
        return Batch([key[-1] for key in chosen], chosen, chosen[-1] if goes_on else None)

    async def _read_keys(self, session: AsyncSession, keys: Select[Any], limit: int) -> Batch:
        found = [tuple(row) for row in await session.execute(keys)]
        return Batch([key[-1] for key in found], found, found[-1] if len(found) == limit else None)

    @property
    def _is_prepared(self) -> bool:
        """Whether the rows are found by the order and by primary key alone: in one statement, made before."""
        if not self.conditions:
            return True
        return self._prepared is not None and self._is_direct(self.conditions[0])

    @property
    def _prepared(self) -> tuple[Condition, dict[str, Any]] | None:
        return self.conditions[0].prepared if len(self.conditions) == 1 else None

    async def _read_prepared(self, after: Key | None, limit: int, offset: int) -> Batch:
        condition, known = self._prepared or (None, {})
        statement = prepare_walk(self._get_plan(), self.by_time, self.ids_only, after is not None, condition)
        places = {f"k{index}": value for index, value in enumerate(after or ())}
        parameters = {**known, "cutoff": self.cutoff, "size": limit, "skip": offset, **places}
        rows = await self._fetch(statement, parameters, limit)
        width = len(self.order.columns)
        found = [tuple(row[-width:]) for row in rows]
        records = [key[-1] for key in found] if self.ids_only else self._make(rows)
        return Batch(records, found, found[-1] if len(found) == limit else None)

    async def _read_few(self, limit: int) -> Batch | None:
        """Read the first matches of a condition that is kept; None when there is none or it has many."""
        prepared = self._prepared
        if prepared is None or limit > FIRST_IDS or self._seek_rows > FIRST_IDS:
            return None
        condition, parameters = prepared
        fetch = self.backend.database.fetch
        ((count,),) = await fetch(prepare_count(condition), {**parameters, "bound": self._seek_rows + 1})
        if count > self._seek_rows:
            return None
        statement = prepare_sought(condition, self.record_type, self.by_time)
        rows = await fetch(statement, {**parameters, "size": limit, "most": 2 * self._seek_rows + 1_000})
        found = [tuple(row) for row in rows]
        return Batch([key[-1] for key in found], found, found[-1] if len(found) == limit else None)

    async def _load(self, batch: Batch) -> Batch:
        """Return the batch with records for its ids; what has been deleted meanwhile is left out."""
        parameters = {"keys": batch.rows, "cutoff": self.cutoff}
        rows = await self._fetch(prepare_load(self._get_plan()), parameters, len(batch.rows))
        name = self._primary_key.key
        records = {getattr(record, name): record for record in self._make(rows)}
        keys = [key for key in batch.keys if key[-1] in records]
        return Batch([records[key[-1]] for key in keys], keys, batch.resume)

    def _get_plan(self) -> Plan:
        return Plan(self.record_type, self.load_values, self.cutoff is not None)

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

        async def operation(session: AsyncSession) -> int:
            seeks = [
                condition.seek if condition.is_sought else condition.probe for condition in self.conditions
            ]
            statement = sa.select(sa.func.count()).select_from(MODEL_CLASSES[self.record_type])
            return (await session.execute(statement.where(combine(seeks)))).scalar_one()

        total: int = await self.backend.database.read(operation)
        return total


async def _resolve(session: AsyncSession, condition: Condition) -> Condition:
    if condition.resolution is None:
        return condition
    keys, make = condition.resolution
    return make(list(await session.scalars(keys)))


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
