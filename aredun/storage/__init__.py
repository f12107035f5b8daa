"""The database: engines, sessions, retried transactions, and the queue that writes."""

from aredun.storage.batch import Batch
from aredun.storage.coalesce import Coalescer
from aredun.storage.connections import Counts
from aredun.storage.core import Database, translate_error
from aredun.storage.fetch import ask, make_rows
from aredun.storage.row_set import RowSet, ValueRows
from aredun.storage.rows import RowTable
from aredun.storage.writes import Write

__all__ = [
    "Batch",
    "Coalescer",
    "Counts",
    "Database",
    "RowSet",
    "RowTable",
    "ValueRows",
    "Write",
    "ask",
    "make_rows",
    "translate_error",
]
