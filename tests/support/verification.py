"""What the tests of verification ask of a backend."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aredun.transfer.verify import VerifyReport, verify_repository

if TYPE_CHECKING:
    from aredun.backend import RedunBackendDb


async def verify(backend: RedunBackendDb, *, repair: bool = False) -> VerifyReport:
    """Verify a repository with its own value store."""
    return await verify_repository(backend.database, backend.value_store, repair=repair)


async def pick(backend: RedunBackendDb, statement: Any) -> Any:
    """Return the first cell that a statement finds."""
    async with backend.session() as session:
        return (await session.scalars(statement)).first()
