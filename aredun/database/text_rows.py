"""Rows of sqlite that come as one text.

A row by itself costs the driver's thread a turn with the interpreter's lock, and the event loop one as well:
while the loop is busy that takes up to five milliseconds, whatever the row.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# Between rows; control characters are escaped within JSON.
_SEPARATOR = "\x1e"
# Characters that are decoded in one turn of the event loop.
_CHUNK = 50_000


def select_text(statement: str, width: int, write_cell: Callable[[int, str], str] | None = None) -> str:
    """Return the statement for all rows of another one as one text, in their order.

    Parameters
    ----------
    statement : str
        Has columns of texts and integers, which JSON holds as they are.
    width : int
        Number of its columns.
    write_cell : callable, optional
        `write_cell(place, name)` gives the expression for the cells of a column.
    """
    names = [f"c{place}" for place in range(width)]
    cells = names if write_cell is None else [write_cell(place, name) for place, name in enumerate(names)]
    return (
        f"WITH f({', '.join(names)}) AS ({statement})"
        f" SELECT group_concat(json_array({', '.join(cells)}), char({ord(_SEPARATOR)})) FROM f"
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
