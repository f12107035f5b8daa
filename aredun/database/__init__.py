"""The database: engines, sessions, retried transactions, and the queue that writes."""

from aredun.database.batch import Batch
from aredun.database.coalesce import Coalescer
from aredun.database.connections import Counts
from aredun.database.core import Database, get_file_path, translate_error
from aredun.database.fetch import fetch_rows
from aredun.database.row_set import RowSet, ValueRows
from aredun.database.rows import RowTable
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
    "fetch_rows",
    "get_file_path",
    "translate_error",
]
