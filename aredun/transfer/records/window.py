"""A window of records: which of them can go in, and in what order."""

from __future__ import annotations

from collections import defaultdict
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final

from aredun.loop.pacing import iter_parts, run_in_turns
from aredun.transfer.record_fields import KINDS, REFERENCES, ParsedRecord

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping, Sequence

    from aredun.storage.rows import Row
    from aredun.transfer.record_fields import Need


_ById = dict[str, ParsedRecord]

_Parts = tuple[list[ParsedRecord], list[ParsedRecord]]
_Placing = tuple[ParsedRecord, "Need | None", "Iterator[Need]"]


class Window:
    """Records that are looked at together, one per id."""

    def __init__(self, items: Iterable[ParsedRecord] = ()) -> None:
        self._items: dict[str, _ById] = {kind: {} for kind in KINDS}
        self._tasks: set[str] = set()
        self._count = 0
        self.size = 0
        # Values that come without their bytes.
        self.empty: set[str] = set()
        self.add(items)

    def __len__(self) -> int:
        return self._count

    def add(self, items: Iterable[ParsedRecord]) -> None:
        """Add records; of two with one id the first stays, unless it is a job that has ended since."""
        for item in items:
            own = self._items[item.kind]
            present = own.setdefault(item.id, item)
            if present is not item:
                if item.kind == "Job" and present.row.end_time is None and item.row.end_time is not None:
                    own[item.id] = item
                continue
            self._count += 1
            if item.kind == "Value":
                size = item.size
                self.size += size
                if not size:
                    self.empty.add(item.id)
                if item.is_task:
                    self._tasks.add(item.id)

    def find_missing(self) -> Generator[None, None, dict[str, set[str]]]:
        """Return, in steps, what the records need that is not among them: ids by kind."""
        missing: dict[str, set[str]] = defaultdict(set)
        for own in self._items.values():
            for items in iter_parts(list(own.values())):
                for table, rows in collect_rows(items).items():
                    for column, kind in REFERENCES.get(table, ()):
                        missing[kind].update(map(attrgetter(column), rows))
                yield
        for tags in iter_parts(list(self._items["Tag"].values())):
            for tag in tags:
                if tag.owner is not None:
                    missing[tag.owner[0]].add(tag.owner[1])
            yield
        for kind, ids in missing.items():
            ids.discard(None)
            ids.difference_update(self._tasks if kind == "Task" else self._items[kind])
        return {kind: ids for kind, ids in missing.items() if ids}

    def split(self, missing: Mapping[str, Collection[str]]) -> Generator[None, None, _Parts]:
        """Return, in steps, the records that can go in, in order, and those that lack something.

        Parameters
        ----------
        missing : dict
            What is neither among the records nor in the database: ids by kind.

        Returns
        -------
        tuple of two lists
            The first in an order in which each comes after what it needs: a tag right after that, an
            execution right after its root job, whose other jobs follow. What needs itself in the end, as no
            call graph does, is among the second.
        """
        here = {**self._items, "Task": self._tasks}
        ready: list[ParsedRecord] = []
        placed: dict[str, set[str]] = {kind: set() for kind in KINDS}
        placed["Task"] = placed["Value"]
        # By the id that they wait for: records, what they wait for, and what else they need.
        waiting: dict[str, list[_Placing]] = defaultdict(list)

        def is_lacking(need: Need) -> bool:
            kind, record_id = need
            if record_id in here[kind]:
                return record_id not in placed[kind]
            return record_id in missing.get(kind, ())

        is_whole = not any(missing.values())
        for kind, items in self._list_items():
            for part in iter_parts(items):
                for item in part:
                    # Unless something is left out, all that other kinds have is there by now.
                    needs = _get_own_needs(item) if is_whole else self._get_needs(item)
                    found: list[_Placing] = [(item, None, iter(needs))]
                    while found:
                        current, lacking, rest = found.pop()
                        if lacking is None or not is_lacking(lacking):
                            lacking = next(filter(is_lacking, rest), None)
                        if lacking is not None:
                            waiting[lacking[1]].append((current, lacking, rest))
                            continue
                        ready.append(current)
                        placed[current.kind].add(current.id)
                        if current.id in waiting:
                            found += reversed(waiting.pop(current.id))
                yield
            # Tags wait for what comes later.
            is_whole = is_whole and (kind == "Tag" or len(placed[kind]) == len(items))
        return ready, [item for placings in waiting.values() for item, *_ in placings]

    def _list_items(self) -> list[tuple[str, list[ParsedRecord]]]:
        """Return the records by kind; a record only needs records of its own kind, and of those before it."""
        # In the same order for all writers of the same jobs, who would form a deadlock otherwise.
        jobs = sorted([*self._items["Execution"].values(), *self._items["Job"].values()], key=_rank_job)
        kinds = [(kind, list(self._items[kind].values())) for kind in ("Tag", "Value", "CallNode")]
        return [*kinds, ("Job", jobs)]

    def _get_needs(self, item: ParsedRecord) -> list[Need]:
        """Return what an item needs; an execution waits for its root job, and no job for the execution."""
        if item.kind != "Job" or item.row.execution_id not in self._items["Execution"]:
            return item.needs
        return [need for need in item.needs if need[0] != "Execution"]


async def split_window(
    items: Iterable[ParsedRecord], find_lacking: Callable[[str, set[str]], set[str]]
) -> _Parts:
    """Split records like `Window.split`; of what is not among them, `find_lacking` tells what is missing."""
    window = Window(items)
    needed = await run_in_turns(window.find_missing())
    return await run_in_turns(window.split({kind: find_lacking(kind, ids) for kind, ids in needed.items()}))


def collect_rows(items: Iterable[ParsedRecord]) -> dict[str, list[Row]]:
    """Return all rows of some records by table, in their order."""
    rows: dict[str, list[Row]] = defaultdict(list)
    for item in items:
        rows[KINDS[item.kind].table].append(item.row)
        if item.parts:
            parts = iter(item.parts)
            for table in parts:
                rows[table].append(next(parts))
    return rows


def _rank_job(item: ParsedRecord) -> Any:
    """Return by what executions and jobs are sorted: an execution, its root job, then by start."""
    if item.kind == "Execution":
        return (item.id,)
    row = item.row
    return row.execution_id, row.parent_id is not None, row.start_time, item.id


def _get_own_needs(item: ParsedRecord) -> Sequence[Need]:
    """Return what an item needs of what comes with its kind; for a tag, and an execution, that is all."""
    kind, parts = item.kind, item.parts
    if kind in ("Tag", "Execution"):
        return item.needs
    if kind == "Job":
        return () if item.row.parent_id is None else (("Job", item.row.parent_id),)
    if not parts:
        return ()
    return [
        (kind, getattr(row, column))
        for table, row in zip(parts[::2], parts[1::2], strict=True)
        if (column := _REFERENCES_TO.get((kind, table)))
    ]


# By kind and table: the column of the table with ids of records of that kind.
_REFERENCES_TO: Final = {
    (kind, table): column for table, references in REFERENCES.items() for column, kind in references
}
