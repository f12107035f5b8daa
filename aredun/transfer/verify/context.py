"""What the parts of a verification share: the database, whether to mend it, and the report."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from aredun.loop.pacing import iter_parts
from aredun.storage.fetch import name_rows
from aredun.storage.reads import read_rows
from aredun.storage.record_rows import insert_rows
from aredun.tables.column_types import in_array
from aredun.transfer.verify.report import Problem, VerifyReport

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence

    from aredun.storage import Database
    from aredun.storage.rows import Row
    from aredun.storage.value_store import ValueStore

BATCH_SIZE: Final = 1000


class Context:
    """One verification.

    Parameters
    ----------
    database : Database
        The database.
    value_store : ValueStore, optional
        Where values whose rows are empty have their bytes.
    repair : bool
        Mend what follows from the rest.
    on_progress : callable, optional
        Is given the report after each batch.
    """

    def __init__(
        self,
        database: Database,
        value_store: ValueStore | None,
        *,
        repair: bool,
        on_progress: Callable[[VerifyReport], None] | None,
    ) -> None:
        self.report = VerifyReport()
        self.database = database
        self.value_store = value_store
        self.repair = repair
        self._on_progress = on_progress

    def found(self, kind: str, record: str, detail: str, *, repaired: bool = False) -> None:
        """Report a problem."""
        self.report.problems.append(Problem(kind, record, detail, repaired))

    def count(self, table: str, rows: int) -> None:
        """Add rows that have been looked at."""
        self.report.checked[table] = self.report.checked.get(table, 0) + rows

    async def fetch(self, ids: Sequence[str], *statements: sa.SelectBase) -> list[list[Row]]:
        """Return the rows of statements about some ids."""
        return [
            name_rows(statement, await self.database.fetch(statement, {"ids": ids}))
            for statement in statements
        ]

    async def iter_keys(self, table: str, key: Any) -> AsyncIterator[list[str]]:
        """Yield the keys of a table in batches, in their order."""
        last = None
        while True:
            statement = sa.select(key).order_by(key).limit(BATCH_SIZE)
            if last is not None:
                statement = statement.where(key > last)
            rows = await read_rows(self.database, statement)
            if not rows:
                return
            last = rows[-1][0]
            yield [row[0] for row in rows]
            self.count(table, len(rows))
            if self._on_progress is not None:
                self._on_progress(self.report)

    async def insert(self, table: str, rows: Sequence[Row]) -> None:
        """Insert rows that are not there yet, sorted by key."""
        await self.database.write(lambda session: insert_rows(session, {table: rows}), own_transaction=True)

    async def update(
        self, model: type[Any], key: Any, keys: Iterable[str], values: Mapping[str, Any]
    ) -> None:
        """Set columns of some rows."""
        await self._execute(sa.update(model).where(in_array(key, sorted(keys))).values(**values))

    async def delete(self, column: sa.Column[Any], cells: Iterable[str]) -> None:
        """Delete the rows of a table that have one of the cells in a column."""
        for part in iter_parts(sorted(set(cells)), BATCH_SIZE):
            await self._execute(sa.delete(column.table).where(in_array(column, part)))

    async def _execute(self, statement: Any) -> None:
        lasting = statement.execution_options(synchronize_session=False)
        await self.database.write(lambda session: session.execute(lasting))
