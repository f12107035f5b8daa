"""Records that wait for what they refer to, on disk, so that memory does not grow with them."""

from __future__ import annotations

import copyreg
import pickle
import sqlite3
import threading
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from aredun.storage.rows import ROW_TABLES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aredun.storage.rows import Row
    from aredun.transfer.record_fields import ParsedRecord

# The order of kinds within a pass: a record comes after the records that it refers to.
_RANKS: Final = {"Tag": 0, "Value": 1, "CallNode": 2, "Job": 3, "Execution": 3}


def _load_row(table: str, cells: tuple[Any, ...]) -> Row:
    return ROW_TABLES[table].record_row(*cells)


def _reduce_row(table: str, row: Row) -> Any:
    return _load_row, (table, tuple(row))


# The types of rows are made of the metadata: a pickle would not find them by their names.
for _table in ROW_TABLES.values():
    copyreg.pickle(_table.record_row, partial(_reduce_row, _table.name))


class Spool:
    """Waiting records in a temporary database, handed back in an order in which most find what they need.

    Values come in the order of arrival, call nodes by time, jobs by execution with the execution among them.
    """

    def __init__(self) -> None:
        # An empty name: the file is in the system's temporary folder and goes away by itself.
        self._connection = sqlite3.connect("", check_same_thread=False)
        # A thread goes on when its caller is cancelled, and Python crashes if the connection is closed then.
        self._lock = threading.Lock()
        self._connection.execute("PRAGMA journal_mode=OFF")
        self._connection.execute("PRAGMA synchronous=OFF")
        self._connection.execute("CREATE TABLE item (pass INT, rank INT, place BLOB, size INT, data BLOB)")
        self._connection.execute("CREATE INDEX item_order ON item (pass, rank, place)")
        self._pass = 0
        self.count = 0

    def add(self, items: Sequence[ParsedRecord]) -> None:
        """Put records away; like all that follows, this may take a while."""
        rows = [
            (self._pass, _RANKS[item.kind], _place(item), item.size, pickle.dumps(item, 5)) for item in items
        ]
        with self._lock:
            self._connection.executemany("INSERT INTO item VALUES (?, ?, ?, ?, ?)", rows)
            self.count += len(rows)

    def start_pass(self) -> None:
        """Begin a pass over all that is here; what is added from now on belongs to the next pass."""
        self._pass += 1

    def take(self, limit: int, limit_bytes: int) -> list[ParsedRecord]:
        """Take the next records of this pass out; none are left when the list is empty."""
        with self._lock:
            taken = self._select(limit, limit_bytes)
            self._connection.executemany("DELETE FROM item WHERE rowid = ?", [(each[0],) for each in taken])
            self.count -= len(taken)
        return [item for _, item in taken]

    def _select(self, limit: int, limit_bytes: int) -> list[tuple[int, ParsedRecord]]:
        taken: list[tuple[int, ParsedRecord]] = []
        total = 0
        cursor = self._connection.execute(
            "SELECT rowid, size, data FROM item WHERE pass = ? ORDER BY rank, place, rowid", (self._pass - 1,)
        )
        for row_id, size, data in cursor:
            # Only this process wrote the file, and it has no name by which anyone else could.
            item: ParsedRecord = pickle.loads(data)
            taken.append((row_id, item))
            total += size
            # An execution and its root job, which comes next, need each other.
            if (len(taken) >= limit or total >= limit_bytes) and item.kind != "Execution":
                break
        cursor.close()
        return taken

    def close(self) -> None:
        """Throw everything away, once nothing is being put away or taken out any more."""
        with self._lock:
            self._connection.close()


def _place(item: ParsedRecord) -> bytes:
    # As bytes: sqlite takes no text that is not Unicode.
    return _get_place(item).encode("utf-8", "surrogatepass")


def _get_place(item: ParsedRecord) -> str:
    row = item.row
    if item.kind == "CallNode":
        return str(row.timestamp)
    if item.kind == "Execution":
        return str(row.id)
    if item.kind == "Job":
        # After the execution itself, root jobs before the others, by start.
        return f"{row.execution_id} {'1' if row.parent_id else '0'} {row.start_time}"
    return ""
