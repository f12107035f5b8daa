"""Reading the matches of a call graph query in key order, in chunks, each in a short session of its own.

However many records match, memory stays flat: `aredun.search.strategies` chooses how they are found.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import sqlalchemy as sa

from aredun.search.records import MODEL_CLASSES, get_key, select_by_keys
from aredun.search.strategies import IndexWalk, Seek, choose_strategy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
    from datetime import datetime

    from sqlalchemy import Select
    from sqlalchemy.ext.asyncio import AsyncSession

    from aredun.search.conditions import Condition
    from aredun.search.repository import Repository
    from aredun.search.statements import Key, ScanPlan
    from aredun.search.strategies import Ask

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


class Scan:
    """The matches of one record type, read in key order.

    Parameters
    ----------
    backend : Repository
        Where to read; each step is a session of its own, and retried as a whole.
    plan : ScanPlan
        What is read, in which order.
    conditions : Sequence[Condition]
        All must hold.
    cutoff : datetime
        An open execution without a sign of life since then is marked ABANDONED, as are its open jobs.
    """

    def __init__(
        self, backend: Repository, plan: ScanPlan, conditions: Sequence[Condition], cutoff: datetime
    ) -> None:
        self.plan = plan
        self._backend = backend
        # Statements are kept where there is one condition of which that is said, or none: to make one takes
        # longer than to ask.
        kept = conditions[0].kept if len(conditions) == 1 else None
        self._is_kept = kept is not None or not conditions
        self._conditions, parameters = ([kept[0]], kept[1]) if kept else (conditions, {})
        self._parameters: Mapping[str, Any] = {**parameters, "cutoff": cutoff}
        self._strategy: IndexWalk | Seek | None = None
        self._gathered: list[Key] = []
        # Whether nothing comes behind what was gathered.
        self._is_whole = False

    async def iter_rows(self, limit: int | None = None, skip: int = 0) -> AsyncIterator[Any]:
        """Yield records (or ids) in order, at most `limit` after `skip`; in between no session is open."""
        chunk, most = (FIRST_IDS, MAX_IDS) if self.plan.ids_only else (FIRST_CHUNK, MAX_RECORDS)
        after, left = None, limit
        while left is None or left > 0:
            portion = await self.read(after, chunk if left is None else min(chunk, left), skip, wanted=left)
            for row in portion.rows:
                yield row
            if portion.resume is None:
                return
            after, skip = portion.resume, 0
            left = None if left is None else left - len(portion.rows)
            chunk = min(chunk * GROWTH, most)

    async def read(self, after: Key | None, limit: int, skip: int = 0, *, wanted: int | None = 0) -> Portion:
        """
        Read up to `limit` rows that come after a key; there may be more although fewer are returned.

        `wanted` tells how many are to be read from there on, one portion after the other; None for all.
        """
        if not self._gathered:
            rows = await self._find(after, limit, skip, None if wanted is None else max(limit, wanted))
            width = len(self.plan.order.columns)
            self._gathered = [tuple(row[-width:]) for row in rows]
            if isinstance(self._strategy, IndexWalk) and not self.plan.ids_only:
                keys, self._gathered = self._gathered, []
                return Portion(self._make(rows), keys, None if self._is_whole else keys[-1])
        # Keys beyond the limit are kept: to gather them again for every portion would be slow.
        chosen, self._gathered = self._gathered[:limit], self._gathered[limit:]
        goes_on = chosen and (self._gathered or not self._is_whole)
        portion = Portion([key[-1] for key in chosen], chosen, chosen[-1] if goes_on else None)
        return portion if self.plan.ids_only or not chosen else await self._load(portion)

    async def _find(self, after: Key | None, limit: int, skip: int, wanted: int | None) -> Sequence[Any]:
        """Return rows with their keys behind: `limit` of a walk, all that are wanted of a seek."""

        async def find(ask: Ask) -> Sequence[Any]:
            if self._strategy is None:
                self._strategy = await choose_strategy(
                    self.plan, self._conditions, ask, self._parameters, wanted=wanted
                )
            strategy, size = self._strategy, limit
            if isinstance(strategy, Seek):
                size = MAX_IDS if wanted is None else min(wanted, MAX_IDS)
            parameters = {**self._parameters, **self.plan.order.place(after, size, skip)}
            rows = await ask(strategy.select(self.plan, after is not None), parameters)
            self._is_whole = len(rows) < size
            return rows

        return await self._ask(find, limit if self._is_kept else None)

    async def _load(self, portion: Portion) -> Portion:
        """Return the portion with records for its ids; what has been deleted meanwhile is left out."""
        statement = select_by_keys(self.plan.reader, tells_alive=True)
        parameters = {**self._parameters, "keys": portion.rows}
        rows = await self._ask(lambda ask: ask(statement, parameters), len(portion.rows))
        records = {get_key(record): record for record in self._make(rows)}
        keys = [key for key in portion.keys if key[-1] in records]
        return Portion([records[key[-1]] for key in keys], keys, portion.resume)

    def _make(self, rows: Sequence[Any]) -> list[Any]:
        return self.plan.reader.make(rows, self._backend.database.backend, tells_alive=True)

    async def _ask(self, find: Callable[[Ask], Awaitable[Sequence[Any]]], size: int | None) -> Sequence[Any]:
        """Read rows in a session, but by statements that are kept a known number of them the short way."""
        database = self._backend.database
        # Many rows, or large ones, would hold up whoever else takes the short way.
        if size is not None and size <= FIRST_IDS and not self.plan.load_values:
            return await find(database.fetch)

        async def operation(session: AsyncSession) -> Sequence[Any]:
            connection = await session.connection()

            async def ask(statement: Select[Any], parameters: Mapping[str, Any]) -> Sequence[Any]:
                rows: Sequence[Any] = (await connection.execute(statement, parameters)).all()
                return rows

            return await find(ask)

        return await database.read(operation)

    async def count(self) -> int:
        """Return how many records match."""
        where = [(each.seek if each.sources else each.probe)() for each in self._conditions]
        statement = sa.select(sa.func.count()).select_from(MODEL_CLASSES[self.plan.record_type]).where(*where)
        ((total,),) = await self._ask(lambda ask: ask(statement, self._parameters), None)
        return int(total)
