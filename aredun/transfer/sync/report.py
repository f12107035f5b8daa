"""What a sync has done so far."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from aredun.errors import InvalidRecordError
    from aredun.transfer.record_fields import ParsedRecord


@dataclass
class SyncReport:
    """What a sync has done; also what `on_progress` is told while it goes on.

    Attributes
    ----------
    seen : int
        Records that the roots own, as far as they have been walked.
    written : int
        Records that were new at the destination.
    bytes : int
        Bytes of the values among them.
    by_type : dict[str, int]
        Records written, by `Execution`, `Job`, `CallNode`, `Value` and `Tag`.
    seconds : float
        Seconds since the start.
    refused : list[InvalidRecordError]
        Records that did not go in because their hash is wrong, or what they refer to did not go in.
    unverified : int
        Records that went in although their hash cannot be computed: values whose recipe needs the living
        object, and calls that made calls without provenance.
    roots, roots_done : int
        Executions to copy, and those that are all there.
    done : int
        Records that are done with: written, or found there.
    started : float
        When the sync began, in seconds of `time.perf_counter`.
    """

    seen: int = 0
    written: int = 0
    bytes: int = 0
    by_type: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    refused: list[InvalidRecordError] = field(default_factory=list)
    unverified: int = 0
    roots: int = 0
    roots_done: int = 0
    done: int = 0
    started: float = field(default_factory=time.perf_counter, repr=False)

    @property
    def rate(self) -> float:
        """Records per second, those that were there already among them."""
        return self.done / self.seconds if self.seconds else 0.0

    @property
    def seconds_left(self) -> float | None:
        """Estimated time left, by the roots that are done; None while nothing can be said."""
        if not self.roots_done:
            return None
        return self.seconds * (self.roots - self.roots_done) / self.roots_done

    def count(self, kind: str, number: int) -> None:
        """Add written records of one kind.

        Parameters
        ----------
        kind : str
            `Execution`, `Job`, `CallNode`, `Value` or `Tag`.
        number : int
            How many of them were written.
        """
        if number:
            self.written += number
            self.by_type[kind] = self.by_type.get(kind, 0) + number

    def tick(self) -> None:
        """Bring `seconds` up to date."""
        self.seconds = time.perf_counter() - self.started


class Progress:
    """Keeps a report up to date, and tells of it.

    Parameters
    ----------
    report : SyncReport
        The report.
    on_progress : callable, optional
        Is given it after each batch.
    """

    def __init__(self, report: SyncReport, on_progress: Callable[[SyncReport], None] | None = None) -> None:
        self.report = report
        self._on_progress = on_progress

    def add_written(self, items: Iterable[ParsedRecord], new: Mapping[str, int]) -> None:
        """Count what was written in one transaction: the records, and how many were new by kind."""
        for kind, number in new.items():
            self.report.count(kind, number)
        self.report.bytes += sum(item.size for item in items)

    def step(self, records: int) -> None:
        """Tell that some more records are done with."""
        self.report.done += records
        self.report.tick()
        if self._on_progress is not None:
            self._on_progress(self.report)
