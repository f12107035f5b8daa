"""Rows of sqlite that come as one text.

A row by itself costs the driver's thread a turn with the interpreter's lock, and the event loop one as well:
while the loop is busy that takes up to five milliseconds, whatever the row.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
import sqlalchemy as sa

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

# Between rows; control characters are escaped within JSON.
_SEPARATOR = "\x1e"
# Characters that are decoded in one turn of the event loop.
_CHUNK = 50_000


def pack_rows(cells: Sequence[sa.ColumnElement[Any]]) -> sa.Select[Any]:
    """Return the statement for all rows of a subquery as one text, in their order.

    Parameters
    ----------
    cells : sequence of ColumnElement
        Its columns, or expressions of them: texts and integers, which JSON holds as they are.
    """
    separator: sa.ColumnElement[str] = sa.literal_column(f"char({ord(_SEPARATOR)})")
    return sa.select(sa.func.group_concat(sa.func.json_array(*cells), separator))


def pack_text(statement: str, width: int) -> str:
    """Return the same for the text of a statement that has `width` columns, named or not."""
    names = ", ".join(f"c{place}" for place in range(width))
    return (
        f"WITH f({names}) AS ({statement})"
        f" SELECT group_concat(json_array({names}), char({ord(_SEPARATOR)})) FROM f"
    )


def iter_rows(text: str | None) -> Iterator[list[list[Any]]]:
    """Yield the rows of a text, so many at a time as one turn of the event loop may take."""
    if text is None:
        return
    begin = 0
    while begin < len(text):
        end = text.find(_SEPARATOR, begin + _CHUNK)
        end = len(text) if end < 0 else end
        yield orjson.loads(f"[{text[begin:end].replace(_SEPARATOR, ',')}]")
        begin = end + 1
