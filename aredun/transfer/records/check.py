"""Checking records by their hashes, in small pieces or in a thread."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

from aredun.errors import InvalidRecordError
from aredun.formats.describe import shorten
from aredun.loop.pacing import RECORDS_PER_PIECE, iter_parts, take_turn
from aredun.storage.record_rows import find_existing
from aredun.transfer.record_checks import Verdict, check_record
from aredun.transfer.record_parsing import parse_records
from aredun.transfer.records.read import read_stored

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Sequence

    from aredun.storage import Database
    from aredun.storage.value_store import ValueStore
    from aredun.transfer.record_fields import ParsedRecord

T = TypeVar("T")
Result = TypeVar("Result")

# Bytes of records, or characters of their text, that take longer to check than a turn of the loop may.
LARGE_DATA: Final = 1 << 18


class Checked(NamedTuple):
    """What checking records came to.

    Attributes
    ----------
    right : list of ParsedRecord
        Those whose hashes are right, or cannot be computed.
    mismatched : list of ParsedRecord
        Call nodes whose hash does not follow from their fields.
    wrong : list of (ParsedRecord, InvalidRecordError)
        Those that were forged or damaged.
    unverifiable : int
        How many of the right ones cannot be computed.
    """

    right: list[ParsedRecord]
    mismatched: list[ParsedRecord]
    wrong: list[tuple[ParsedRecord, InvalidRecordError]]
    unverifiable: int


def check_items(items: Iterable[ParsedRecord]) -> Checked:
    """Check the hashes of records."""
    right, mismatched, wrong = [], [], []
    unverifiable = 0
    for item in items:
        try:
            verdict = check_record(item)
        except InvalidRecordError as error:
            wrong.append((item, error))
            continue
        except UnicodeEncodeError:
            name = f"{item.kind} {shorten(item.id, 80)}"
            problem = InvalidRecordError(f"{name} holds text that is no Unicode: a lone surrogate")
            wrong.append((item, problem))
            continue
        unverifiable += verdict is Verdict.UNVERIFIABLE
        if verdict is Verdict.WRONG:
            item.is_whole = False
            mismatched.append(item)
        else:
            right.append(item)
    return Checked(right, mismatched, wrong, unverifiable)


def parse_items(
    records: Sequence[Any], verify: bool
) -> tuple[list[ParsedRecord], list[ParsedRecord], list[InvalidRecordError]]:
    """Take records apart and check their hashes; return the good ones, the mismatched, and all errors."""
    parsed, errors = parse_records(records)
    if not verify:
        return parsed, [], errors
    right, mismatched, wrong, _ = check_items(parsed)
    return right, mismatched, [*errors, *(error for _, error in wrong)]


async def check_in_turns(
    check: Callable[[Sequence[T]], Result], items: Sequence[T], get_size: Callable[[T], int]
) -> AsyncIterator[Result]:
    """Yield what checking a few items at a time came to: in a thread if they hold many bytes.

    Hashing many bytes leaves the interpreter's lock alone.
    """
    for part in iter_parts(items, RECORDS_PER_PIECE):
        if sum(map(get_size, part)) > LARGE_DATA:
            yield await asyncio.to_thread(check, part)
        else:
            await take_turn()
            yield check(part)


async def find_incomplete(
    items: Iterable[ParsedRecord], database: Database, value_store: ValueStore | None
) -> dict[str, str]:
    """Return which of some values that come without bytes are nowhere here, and why, by hash."""
    values = {item.id: item.row for item in items}
    incomplete = {}
    for value_hash in values.keys() - await find_existing(database, "value", "value_hash", values.keys()):
        row = values[value_hash]
        _, problem = await read_stored(value_store, value_hash, row.type, row.format)
        if problem:
            incomplete[value_hash] = problem
    return incomplete
