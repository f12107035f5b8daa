"""What the copiers of a sync share."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import asyncio

    from aredun.storage import Database
    from aredun.transfer.sync.reader import CheckedReader
    from aredun.transfer.sync.report import Progress


class CopyContext(NamedTuple):
    """Where records come from and go to, and who is told.

    Attributes
    ----------
    reader : CheckedReader
        Reads the records.
    destination : Database
        Where to write.
    slots : Semaphore
        Batches that may be under way at a time.
    progress : Progress
        Is told of the records that are done with.
    """

    reader: CheckedReader
    destination: Database
    slots: asyncio.Semaphore
    progress: Progress
