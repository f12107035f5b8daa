"""Records that wait for what they refer to, on disk, so that memory does not grow with them."""

from __future__ import annotations

import asyncio
import pickle
import sqlite3
from typing import TYPE_CHECKING, Final

from aredun.record_fields import ParsedRecord

if TYPE_CHECKING:
    from collections.abc import Sequence

# In the order in which what waits can go in.
_RANKS: Final = {"Tag": 0, "Value": 1, "CallNode": 2, "Job": 3, "Execution": 3}


class Spool:
    """Waiting records in a temporary database, handed back in an order in which most find what they need.

    Values come in the order of arrival, call nodes by time, jobs by execution with the execution among them.
    """

    def __init__(self) -> None:
        # An empty name: the file is in the system's temporary folder and goes away by itself.
        self._connection = sqlite3.connect("", check_same_thread=False)
        self._connection.execute("PRAGMA journal_mode=OFF")
        self._connection.execute("PRAGMA synchronous=OFF")
        self._connection.execute("CREATE TABLE item (pass INT, rank INT, place TEXT, size INT, data BLOB)")
        self._indexed = False
        self._pass = 0
        self.count = 0

    async def add(self, items: Sequence[ParsedRecord]) -> None:
        """Put records away."""
        await asyncio.to_thread(self._add, items)

    def _add(self, items: Sequence[ParsedRecord]) -> None:
        rows = [
            (self._pass, _RANKS[item.kind], _place(item), item.size, pickle.dumps(item.dump(), 5))
            for item in items
        ]
        self._connection.executemany("INSERT INTO item VALUES (?, ?, ?, ?, ?)", rows)
        self.count += len(rows)

    async def start_pass(self) -> None:
        """Begin a pass over all that is here; what is added from now on belongs to the next pass."""
        if not self._indexed:
            await asyncio.to_thread(
                self._connection.execute, "CREATE INDEX item_order ON item (pass, rank, place)"
            )
            self._indexed = True
        self._pass += 1

    async def take(self, limit: int, limit_bytes: int) -> list[ParsedRecord]:
        """Take the next records of this pass out; none are left when the list is empty."""
        return await asyncio.to_thread(self._take, limit, limit_bytes)

    def _take(self, limit: int, limit_bytes: int) -> list[ParsedRecord]:
        rows = []
        total = 0
        cursor = self._connection.execute(
            "SELECT rowid, size, data FROM item WHERE pass = ? ORDER BY rank, place, rowid LIMIT ?",
            (self._pass - 1, limit),
        )
        for row in cursor:
            rows.append(row)
            total += row[1]
            if total >= limit_bytes:
                break
        cursor.close()
        self._connection.executemany("DELETE FROM item WHERE rowid = ?", [(row[0],) for row in rows])
        self.count -= len(rows)
        # Only this process wrote the file, and it has no name by which anyone else could.
        return [ParsedRecord(*pickle.loads(row[2])) for row in rows]

    def close(self) -> None:
        """Throw everything away."""
        self._connection.close()


def _place(item: ParsedRecord) -> str:
    row = item.row
    if item.kind == "CallNode":
        return str(row[5])
    if item.kind == "Execution":
        return str(row[0])
    if item.kind == "Job":
        # After the execution itself, root jobs before the others, by start.
        return f"{row[7]} {'1' if row[6] else '0'} {row[1]}"
    return ""
