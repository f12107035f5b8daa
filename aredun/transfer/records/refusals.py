"""Which records do not go in, and what is said of each: the rules of import and sync, in one place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from aredun.errors import InvalidRecordError
from aredun.formats.describe import shorten

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from aredun.transfer.record_fields import Need, ParsedRecord

Ids = dict[str, set[str]]


class Wording(NamedTuple):
    """What errors say of a record.

    Attributes
    ----------
    database : str
        That the database does not take it, up to the reason.
    needs : str
        That what it refers to does not go in; `{need}` is one of those.
    """

    database: str
    needs: str


IMPORT: Final = Wording(
    "was refused by the database",
    "refers to records that are neither among those given nor in the database, or that need it in turn,"
    " such as {need}",
)
SYNC: Final = Wording("was refused by the destination", "refers to records that were refused")

NOT_FOUND: Final = "is referred to, but cannot be found at the source"
NO_OWNER: Final = "hangs on, or replaces, what is not at the destination"
BAD_TEXT: Final = "holds text that not every database can hold"
NOT_THERE: Final = "is not at the source, or has an id that cannot be asked for"


class Refusals:
    """Tells why records do not go in, and remembers those that others must not go in without.

    Parameters
    ----------
    tell : callable
        Is given the error of each record.
    wording : Wording
        What errors say.
    """

    def __init__(self, tell: Callable[[InvalidRecordError], None], wording: Wording) -> None:
        self.tell = tell
        self._wording = wording
        self.ids: Ids = {}

    def without_telling(self) -> Refusals:
        """Return refusals that remember what these do, and the other way round, but tell nobody."""
        silent = Refusals(lambda error: None, self._wording)
        silent.ids = self.ids
        return silent

    def __contains__(self, need: Need) -> bool:
        kind, record_id = need
        return record_id in self.ids.get(kind, ())

    def exclude(self, kind: str, ids: Iterable[str]) -> None:
        """Remember records that do not go in."""
        # A value may be asked for as a task.
        for each in (kind, "Task") if kind == "Value" else (kind,):
            self.ids.setdefault(each, set()).update(ids)

    def refuse(self, kind: str, record_id: str, reason: str) -> None:
        """Refuse a record that others may need."""
        self.exclude(kind, [record_id])
        self.tell(InvalidRecordError(f"{kind} {shorten(record_id, 80)} {reason}"))

    def refuse_wrong(self, item: ParsedRecord, error: InvalidRecordError) -> None:
        """Refuse a record that is not what its hash says."""
        self.exclude(item.kind, [item.id])
        self.tell(error)

    def refuse_by_database(self, items: Iterable[ParsedRecord], error: Exception) -> None:
        """Refuse records that the database does not take."""
        for item in items:
            self.refuse(item.kind, item.id, self.describe(error))

    def describe(self, error: Exception) -> str:
        """Return that the database does not take a record, and why."""
        return f"{self._wording.database}: {shorten(str(error))}"

    def refuse_dependent(self, items: Iterable[ParsedRecord]) -> None:
        """Refuse records because what they refer to does not go in."""
        for item in items:
            kind, record_id = next(iter(item.needs), ("Value", "?"))
            reason = self._wording.needs.format(need=f"{kind} {shorten(record_id, 80)}")
            self.refuse(item.kind, item.id, reason)

    def find_orphans(self, items: Iterable[ParsedRecord]) -> list[ParsedRecord]:
        """Return the tags whose owner was refused, or a tag that they replace: no foreign key tells."""
        if not self.ids:
            return []
        return [item for item in items if item.kind == "Tag" and any(need in self for need in item.needs)]


def describe_incomplete(value_hash: str, reason: str) -> InvalidRecordError:
    """Return the error of a value that comes without bytes which are nowhere here."""
    return InvalidRecordError(
        f"Value {value_hash} comes without its bytes, and here {reason}: they are in the value store of the"
        " repository that it was exported from (export it with aredun)"
    )


def describe_missing_bytes(reason: str) -> str:
    """Return what is said of a value whose bytes are lost at the source of a sync."""
    return f"has lost its bytes at the source: {reason}"


def describe_alteration(call_hash: str, field: str) -> InvalidRecordError:
    """Return the error of a call node of which a field was altered."""
    return InvalidRecordError(f"CallNode {call_hash} is not what its hash says: its {field!r} was altered")


def join_errors(errors: Sequence[InvalidRecordError], noun: str, verb: str) -> InvalidRecordError:
    """Return one error, of one line, for several; `refused` holds the single ones."""
    shown = "; ".join(str(error) for error in errors[:5])
    more = f"; and {len(errors) - 5} more" if len(errors) > 5 else ""
    subject = f"{noun} was" if len(errors) == 1 else f"{noun}s were"
    joined = InvalidRecordError(f"{len(errors)} {subject} {verb}: {shown}{more}")
    joined.refused = list(errors)  # type: ignore[attr-defined]  # for those who want them one by one
    return joined
