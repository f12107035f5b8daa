"""The database: engines, sessions, retried transactions, and the queue that writes."""

from aredun.database.batch import Batch
from aredun.database.bulk import Counts
from aredun.database.coalesce import Coalescer
from aredun.database.core import Database, get_file_path, translate_error
from aredun.database.rows import RowSet, RowTable, ValueRows
from aredun.database.unit import Unit

__all__ = [
    "Batch",
    "Coalescer",
    "Counts",
    "Database",
    "RowSet",
    "RowTable",
    "Unit",
    "ValueRows",
    "get_file_path",
    "translate_error",
]
