"""Checking what is read from a source, by its hashes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aredun.errors import InvalidRecordError
from aredun.record_checks import Verdict, check_record
from aredun.records.read import NOT_STORED

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from aredun.record_fields import ParsedRecord


def describe_loss(reason: str) -> str:
    """Return what is said of a value whose bytes are lost."""
    return f"has lost its bytes at the source: {reason}"


def verify_items(
    items: Sequence[ParsedRecord], lost: Mapping[str, str]
) -> tuple[list[ParsedRecord], list[tuple[ParsedRecord, InvalidRecordError]], int]:
    """Check hashes; return the good records, those to refuse and why, and how many cannot be checked."""
    good = []
    errors = []
    unverified = 0
    for item in items:
        if item.kind == "Value" and not item.size:
            reason = describe_loss(lost.get(item.id, NOT_STORED))
            errors.append((item, InvalidRecordError(f"Value {item.id} {reason}")))
            continue
        try:
            verdict = check_record(item)
        except InvalidRecordError as error:
            errors.append((item, error))
            continue
        if verdict is not Verdict.RIGHT:
            unverified += 1
        item.is_whole = verdict is Verdict.RIGHT
        good.append(item)
    return good, errors, unverified
