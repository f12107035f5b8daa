"""Pages of records by key: each begins where the one before ended, whatever has been added meanwhile."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from aredun.errors import UsageError
from aredun.formats.tag_syntax import is_storable_text
from aredun.search.statements import get_order

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from aredun.search.scan import Scan
    from aredun.search.statements import Key

RecordT_co = TypeVar("RecordT_co", covariant=True)


class Page(NamedTuple, Generic[RecordT_co]):
    """
    A page of records.

    Attributes
    ----------
    records : list
        The records, in the query's order.
    cursor : str | None
        Where the next page begins, for `CallGraphQuery.page_after`; None after the last record.
    """

    records: list[RecordT_co]
    cursor: str | None


async def read_page(scans: Iterable[Scan], order_by: str | None, after: Key | None, size: int) -> Page[Any]:
    """
    Read one page.

    Parameters
    ----------
    scans : Iterable[Scan]
        The record types in order, from the one that the page begins in.
    order_by : str | None
        The query's order.
    after : Key | None
        The key, in the first of the types, that the page begins after.
    size : int
        Records on the page.
    """
    records: list[Any] = []
    cursor = ""
    for scan in scans:
        while True:
            # One record more than is asked for tells whether there is another page.
            portion = await scan.read(after, size + 1 - len(records))
            if len(records) + len(portion.rows) > size:
                if len(records) < size:
                    cursor = make_cursor(scan.record_type, order_by, portion.keys[size - 1 - len(records)])
                return Page([*records, *portion.rows][:size], cursor)
            records += portion.rows
            if portion.keys:
                cursor = make_cursor(scan.record_type, order_by, portion.keys[-1])
            after = portion.resume
            if after is None:
                break
    return Page(records, None)


def make_cursor(record_type: str, order_by: str | None, key: Key) -> str:
    """Return an opaque text that stands for a place in a query's records."""
    values = [value.isoformat() if isinstance(value, datetime) else value for value in key]
    return pack_cursor([record_type, order_by, values])


def pack_cursor(place: list[Any]) -> str:
    """Return a place in a list, of what JSON holds, as an opaque text."""
    return base64.urlsafe_b64encode(json.dumps(place, separators=(",", ":")).encode()).decode()


def unpack_cursor(cursor: str) -> Any:
    """Return what `pack_cursor` was given; raises ValueError or RecursionError for any other text."""
    return json.loads(base64.urlsafe_b64decode(cursor))


def read_place(cursor: str | None, kind: str, width: int) -> tuple[str, ...] | None:
    """Return the texts that `pack_cursor` was given after a kind of list; None without a cursor.

    Raises
    ------
    UsageError
        It is no cursor, or one of another kind of list.
    """
    if cursor is None:
        return None
    try:
        made_for, *place = unpack_cursor(cursor)
    except (ValueError, TypeError, RecursionError) as error:
        raise UsageError("invalid cursor: start again without one") from error
    is_place = all(isinstance(text, str) and is_storable_text(text) for text in place)
    if made_for != kind or len(place) != width or not is_place:
        raise UsageError("the cursor is another list's: start again without one")
    return tuple(place)


def parse_cursor(cursor: str, order_by: str | None, record_types: Collection[str]) -> tuple[str, Key]:
    """
    Return the record type and the key that a cursor stands for.

    Raises
    ------
    UsageError
        When it is no cursor, or one of a query with another order or other record types.
    """
    try:
        record_type, cursor_order, values = unpack_cursor(cursor)
        *times, key = values
        fits = cursor_order == order_by and record_type in record_types
        place = (*map(_parse_time, times), _check_key(key)) if fits else ()
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise UsageError(f"invalid cursor {cursor!r}: start again without one") from error
    if not fits or len(place) != len(get_order(record_type, order_by == "time").columns):
        raise UsageError("the cursor is another query's: start again without one")
    return record_type, place


def _parse_time(text: str) -> datetime:
    time = datetime.fromisoformat(text)
    if time.tzinfo is None:
        raise ValueError(f"{text} has no time zone")
    # Databases are asked in UTC, where the time may lie beyond the calendar.
    return time.astimezone(UTC)


def _check_key(key: Any) -> str:
    """Return the key of a row, if a database can look for it."""
    if not isinstance(key, str) or not is_storable_text(key):
        raise ValueError("a key is a text without NUL and halves of characters")
    return key


def check_order(order_by: str | None) -> str | None:
    """Return the order of a query; raises UsageError for an unknown one."""
    if order_by not in {None, "time"}:
        raise UsageError(f"unknown order {order_by!r}: the only one is 'time'")
    return order_by


def check_size(size: int) -> int:
    """Return a number of records; raises UsageError if it is negative."""
    if size < 0:
        raise UsageError(f"invalid page or size {size}: it cannot be negative")
    return size
