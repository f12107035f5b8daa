"""What a database does not take: which cell of what was written it is, and why, in one line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aredun.errors import RedunDatabaseError
from aredun.formats.describe import shorten
from aredun.storage.retry import is_refusal, walk_causes
from aredun.storage.row_set import RowSet
from aredun.storage.writes import add_writes

if TYPE_CHECKING:
    from aredun.storage.writes import Write

# PostgreSQL's class of limits that are exceeded; an entry of an index is one.
_TOO_LARGE = "54000"
_INDEXED = {"tag": ("entity_id", "key", "value"), "value": ("type",)}


def describe_limit(error: Exception) -> str | None:
    """Return what a limit of PostgreSQL means for people; None if the error is another."""
    if any(getattr(each, "sqlstate", None) == _TOO_LARGE for each in walk_causes(error)):
        return "it is too large for an index of PostgreSQL, which takes about 2,700 bytes after compression"
    return None


async def name_cause(error: Exception, write: Write) -> Exception:
    """Return the error of a refused write, saying which of its cells the database does not take."""
    if not is_refusal(error):
        return error
    rows = RowSet()
    try:
        await add_writes(rows, [write])
        for call in write.calls:
            call.add_rows({}, rows)
        cause = _find_cause(rows, error)
    except (TypeError, ValueError):
        return error
    if cause is None:
        return error
    named = RedunDatabaseError(f"the database refused {cause}")
    named.__cause__ = error.__cause__ or error
    return named


def _find_cause(rows: RowSet, error: Exception) -> str | None:
    limit = describe_limit(error)
    largest: tuple[int, str] | None = None
    for table, cells in rows.tables():
        columns = table.table.c
        for row in cells:
            for name, cell in zip(table.columns, row, strict=True):
                label = f"the {name} of a {table.table.name.replace('_', ' ')}"
                if isinstance(cell, str):
                    problem = _find_problem(cell, getattr(columns[name].type, "length", None))
                    if problem is not None:
                        return f"{label}, {shorten(repr(cell), 60)}: {problem}"
                if limit is not None and name in _INDEXED.get(table.table.name, ()):
                    size = len(cell if isinstance(cell, str) else repr(cell))
                    if largest is None or size > largest[0]:
                        largest = size, f"{label}, {_describe(table.columns, row, name, cell)}: {limit}"
    return None if largest is None else largest[1]


def _describe(columns: tuple[str, ...], row: tuple[Any, ...], name: str, cell: Any) -> str:
    if name == "value" and "key" in columns:
        return f"{shorten(repr(row[columns.index('key')]), 60)}"
    return shorten(repr(cell), 60)


def _find_problem(text: str, length: int | None) -> str | None:
    if "\0" in text:
        return "it holds a NUL, which PostgreSQL does not take"
    try:
        text.encode()
    except UnicodeEncodeError:
        return "it holds half a character (a lone surrogate)"
    if length is not None and len(text) > length:
        return f"it has {len(text):,} characters, and PostgreSQL takes {length:,}"
    return None
