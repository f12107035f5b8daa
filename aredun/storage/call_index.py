"""An index of aredun's own, for repositories whose tasks have very many calls.

redun's indexes find the calls of a task, not those with certain arguments: a cache check that may use whole
calls, as that of an async task does, reads all calls of the task. On 200,000 of them that takes some 150 ms,
with this index 2. It is optional, and redun never notices it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import sqlalchemy as sa

from aredun.models import CallNode

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

CALL_INDEX: Final = "aredun_calls_by_arguments"


async def has_call_index(connection: AsyncConnection) -> bool:
    """Tell whether the database has the index."""
    return await connection.run_sync(
        lambda sync: sa.inspect(sync).has_index(CallNode.__tablename__, CALL_INDEX)
    )


async def set_call_index(connection: AsyncConnection, wanted: bool) -> bool:
    """Make the index, or drop it, in one transaction: who writes calls waits meanwhile.

    Parameters
    ----------
    connection : AsyncConnection
        Without an open transaction; it has none afterwards either.
    wanted : bool
        Whether it shall be there.

    Returns
    -------
    bool
        False if there was nothing to do.
    """
    async with connection.begin():
        if await has_call_index(connection) == wanted:
            return False
        if connection.dialect.name == "postgresql":
            await connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
        statement = (
            f"CREATE INDEX {CALL_INDEX} ON call_node (task_hash, args_hash)"
            if wanted
            else f"DROP INDEX {CALL_INDEX}"
        )
        await connection.exec_driver_sql(statement)
    return True
