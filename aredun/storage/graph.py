"""What a walk over the call graph asks of each dialect: tables of parameters, recursion, and a plan that
holds.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from aredun.loop.pacing import PIECE_SIZE, take_turn
from aredun.storage.text_rows import iter_rows, pack_text

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from sqlalchemy.ext.asyncio import AsyncSession


class GraphDialect:
    """SQL text that differs between the databases, for statements over many nodes. This one is for sqlite."""

    # Whether `prepare` has anything to do, and so whether a transaction is worth its round trips.
    needs_preparation = False
    # Wraps a condition that an index answers. Without it sqlite scans the table where the statistics of
    # `ANALYZE` say that most rows have one key: a workflow with one parent, a result that everything uses.
    unlikely = "unlikely"

    def table(self, name: str, width: int) -> str:
        """Return a derived table `(idx, c1 .. cN)` of the rows bound to the parameters of `name`, idx
        counting from 0.
        """
        columns = ", ".join(f"json_extract(value, '$[{n}]') AS c{n + 1}" for n in range(width))
        return f"(SELECT key AS idx, {columns} FROM json_each(:{name}))"

    def bind(self, name: str, rows: Sequence[Sequence[str | None]], width: int) -> dict[str, Any]:
        """Return the parameters that fill `table(name, width)`."""
        return {name: _dump(rows)}

    def strings(self, name: str) -> str:
        """Return a query of one column over the strings bound to `name`."""
        return f"SELECT value FROM json_each(:{name})"

    def bind_strings(self, name: str, strings: Sequence[str]) -> dict[str, Any]:
        """Return the parameter that fills `strings(name)`."""
        return {name: _dump(strings)}

    def recursive(self, seeds: str, branches: Sequence[str]) -> str:
        """Return the recursive table `w(kind, hash, value, next)` that grows from `seeds` through every
        branch.
        """
        steps = " UNION ".join(
            branch.format(n="w CROSS JOIN", w="w", unlikely=self.unlikely) for branch in branches
        )
        body = f"{seeds} UNION {steps} LIMIT :limit"
        return f"WITH RECURSIVE w(kind, hash, value, next) AS ({body}) SELECT * FROM w"

    async def prepare(self, session: AsyncSession) -> None:
        """Set up a transaction for recursive statements."""

    async def fetch(
        self, session: AsyncSession, statement: str, width: int, parameters: dict[str, Any]
    ) -> AsyncGenerator[Sequence[Sequence[Any]], None]:
        """Yield the rows of a statement with `width` columns, so many at a time as one turn of the event loop
        may take.
        """
        found: str | None = await session.scalar(sa.text(pack_text(statement, width)), parameters)
        for rows in iter_rows(found):
            yield rows
            await take_turn()


class PostgresGraphDialect(GraphDialect):
    """The same for PostgreSQL."""

    needs_preparation = True
    unlikely = ""

    def table(self, name: str, width: int) -> str:
        """See `GraphDialect.table`."""
        arrays = ", ".join(f"json_array_elements_text(CAST(:{name}_{n} AS json))" for n in range(width))
        columns = ", ".join(f"c{n + 1}" for n in range(width))
        return (
            f"(SELECT ord - 1 AS idx, {columns} "
            f"FROM ROWS FROM ({arrays}) WITH ORDINALITY AS u({columns}, ord))"
        )

    def bind(self, name: str, rows: Sequence[Sequence[str | None]], width: int) -> dict[str, Any]:
        """See `GraphDialect.bind`.

        Of an array the driver asks every item whether it is an array itself; JSON it sends as it is.
        """
        return {f"{name}_{n}": _dump([row[n] for row in rows]) for n in range(width)}

    def strings(self, name: str) -> str:
        """See `GraphDialect.strings`."""
        return f"SELECT json_array_elements_text(CAST(:{name} AS json))"

    def bind_strings(self, name: str, strings: Sequence[str]) -> dict[str, Any]:
        """See `GraphDialect.bind_strings`."""
        return {name: _dump(strings)}

    def recursive(self, seeds: str, branches: Sequence[str]) -> str:
        """See `GraphDialect.recursive`.

        The recursive table may be named once only: the branches become one lateral query, and OFFSET 0
        keeps the planner from taking it apart into joins over whole tables.
        """
        steps = " UNION ALL ".join(branch.format(n="", w="w", unlikely=self.unlikely) for branch in branches)
        return (
            f"WITH RECURSIVE w(kind, hash, value, next) AS ({seeds} UNION "
            "SELECT CAST(t.kind AS text), CAST(t.hash AS text), CAST(t.value AS text), CAST(t.next AS text) "
            f"FROM w CROSS JOIN LATERAL ({steps} OFFSET 0) AS t(kind, hash, value, next)) SELECT * FROM w "
            "LIMIT :limit"
        )

    async def fetch(
        self, session: AsyncSession, statement: str, width: int, parameters: dict[str, Any]
    ) -> AsyncGenerator[Sequence[Sequence[Any]], None]:
        """See `GraphDialect.fetch`; here rows come as they are."""
        found = await session.execute(sa.text(statement), parameters)
        while rows := found.fetchmany(PIECE_SIZE):
            yield rows
            await take_turn()

    async def prepare(self, session: AsyncSession) -> None:
        """Keep the planner to index probes for the rest of the transaction.

        It cannot know how many rows a recursion meets, and skewed statistics lead it to scan whole tables per
        step.
        """
        await session.execute(_HINTS)


def _dump(items: Sequence[Any]) -> str:
    return json.dumps(items, separators=(",", ":"))


_HINTS = sa.text(
    "SELECT set_config('jit', 'off', true), set_config('enable_seqscan', 'off', true), "
    "set_config('enable_hashjoin', 'off', true), set_config('enable_mergejoin', 'off', true), "
    "set_config('max_parallel_workers_per_gather', '0', true)"
)


def get_graph_dialect(dialect_name: str) -> GraphDialect:
    """Return the texts for a database."""
    return PostgresGraphDialect() if dialect_name == "postgresql" else GraphDialect()
