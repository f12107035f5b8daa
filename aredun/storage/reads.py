"""Reads of one statement, each on a session of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    import sqlalchemy as sa
    from sqlalchemy.ext.asyncio import AsyncSession

    from aredun.storage.core import Database


async def read_rows(database: Database, statement: sa.Executable) -> Sequence[Any]:
    """Return all rows of a statement; retried like `Database.read`.

    Parameters
    ----------
    database : Database
        Where to read.
    statement : Executable
        Of columns.
    """

    async def operation(session: AsyncSession) -> Sequence[Any]:
        return (await session.execute(statement)).all()

    return await database.read(operation)


async def read_scalars(database: Database, statement: sa.Executable) -> list[Any]:
    """Return the first cell of each row of a statement; retried like `Database.read`.

    Parameters
    ----------
    database : Database
        Where to read.
    statement : Executable
        Of a model, or of one column.
    """

    async def operation(session: AsyncSession) -> list[Any]:
        return list(await session.scalars(statement))

    return await database.read(operation)
