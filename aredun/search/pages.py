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
    found: list[tuple[Any, str, Key]] = []
    for scan in scans:
        goes_on = True
        while goes_on and len(found) <= size:
            # One record more than is asked for tells whether there is another page.
            portion = await scan.read(after, size + 1 - len(found))
            for record, key in zip(portion.rows, portion.keys, strict=True):
                found.append((record, scan.plan.record_type, key))
            after, goes_on = portion.resume, portion.resume is not None
    records = [record for record, _, _ in found[:size]]
    if len(found) <= size:
        return Page(records, None)
    _, record_type, key = found[size - 1]
    values = [value.isoformat() if isinstance(value, datetime) else value for value in key]
    return Page(records, pack_cursor([record_type, order_by, values]))


def pack_cursor(place: list[Any]) -> str:
    """Return a place in a list, of what JSON holds, as an opaque text."""
    return base64.urlsafe_b64encode(json.dumps(place, separators=(",", ":")).encode()).decode()


def _unpack_cursor(cursor: str) -> Any:
    """Return what `pack_cursor` was given; raises UsageError for any other text."""
    try:
        return json.loads(base64.urlsafe_b64decode(cursor))
    except (ValueError, RecursionError) as error:
        raise UsageError(f"invalid cursor {cursor!r}: start again without one") from error


def read_place(cursor: str | None, kind: str, width: int) -> tuple[str, ...] | None:
    """Return the texts that `pack_cursor` was given after a kind of list; None without a cursor.

    Raises
    ------
    UsageError
        It is no cursor, or one of another kind of list.
    """
    if cursor is None:
        return None
    match _unpack_cursor(cursor):
        case [made_for, *place] if made_for == kind and len(place) == width and all(map(_is_key, place)):
            return tuple(place)
    raise UsageError("the cursor is another list's: start again without one")


def parse_cursor(cursor: str, order_by: str | None, record_types: Collection[str]) -> tuple[str, Key]:
    """
    Return the record type and the key that a cursor stands for.

    Raises
    ------
    UsageError
        When it is no cursor, or one of a query with another order or other record types.
    """
    match _unpack_cursor(cursor):
        case [str(record_type), made_for, [*times, key]] if (
            record_type in record_types
            and made_for == order_by
            and len(times) + 1 == len(get_order(record_type, order_by == "time").columns)
            and _is_key(key)
        ):
            try:
                return record_type, (*map(_parse_time, times), key)
            except (ValueError, TypeError, OverflowError) as error:
                raise UsageError(f"invalid cursor {cursor!r}: start again without one") from error
    raise UsageError("the cursor is another query's: start again without one")


def _parse_time(text: str) -> datetime:
    time = datetime.fromisoformat(text)
    if time.tzinfo is None:
        raise ValueError(f"{text} has no time zone")
    # Databases are asked in UTC, where the time may lie beyond the calendar.
    return time.astimezone(UTC)


def _is_key(text: Any) -> bool:
    """Tell whether a database can look for a row by a key."""
    return isinstance(text, str) and is_storable_text(text)


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
