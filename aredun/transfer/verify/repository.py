"""The parts of a verification, in an order in which what one mends is right for the next."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aredun.transfer.verify.calls import check_calls, check_evaluations
from aredun.transfer.verify.context import Context
from aredun.transfer.verify.references import check_references
from aredun.transfer.verify.tags import check_owners, check_tags
from aredun.transfer.verify.values import check_values

if TYPE_CHECKING:
    from collections.abc import Callable

    from aredun.storage import Database
    from aredun.storage.value_store import ValueStore
    from aredun.transfer.verify.report import VerifyReport


async def verify_repository(
    database: Database,
    value_store: ValueStore | None = None,
    *,
    repair: bool = False,
    on_progress: Callable[[VerifyReport], None] | None = None,
) -> VerifyReport:
    """Check a repository, and mend what follows from the rest.

    Nothing is held in memory but one batch of rows at a time: tables are read in the order of their keys.

    Parameters
    ----------
    database : Database
        The database; without `repair` it is only read.
    value_store : ValueStore, optional
        Where values whose rows are empty have their bytes.
    repair : bool
        Delete rows and tags whose owner is missing, take the bytes of a value from the value store where the
        row's are wrong, set `is_current` of tags to what their edits say, and rebuild subtree tasks,
        evaluations and the paths of files. What is wrong in itself (hashes, lost bytes, lost records) is left
        as it is.
    on_progress : callable, optional
        Is given the report after each batch.

    Returns
    -------
    VerifyReport
        Counts and problems.
    """
    context = Context(database, value_store, repair=repair, on_progress=on_progress)
    await check_references(context)
    await check_values(context)
    # Before the calls, from which evaluations that are deleted here are rebuilt.
    deleted = await check_evaluations(context)
    await check_calls(context, deleted)
    await check_owners(context)
    await check_tags(context)
    return context.report
