"""A window of records: which of them can go in, and in what order."""

from __future__ import annotations

from collections import defaultdict, deque
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final

from aredun.loop.pacing import iter_parts
from aredun.transfer.record_fields import KINDS, REFERENCES, ParsedRecord

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Sequence

    from aredun.storage.rows import Row
    from aredun.transfer.record_fields import Need


_ById = dict[str, ParsedRecord]

_Parts = tuple[list[ParsedRecord], list[ParsedRecord]]


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

    def split(self, missing: dict[str, set[str]]) -> Generator[None, None, _Parts]:
        """Take all records out, in steps: those that can go in, in order, and those that lack something.

        Parameters
        ----------
        missing : dict
            What is neither among the records nor in the database: ids by kind.

        Returns
        -------
        tuple of two lists
            The first in an order in which each comes after what it needs; an execution and its jobs follow
            each other. What needs itself in the end, as no call graph does, is among the second.
        """
        items = [item for own in self._items.values() for item in own.values()]
        ready, waiting = yield from _part(items, missing)
        ready, cycles = yield from arrange(ready)
        if cycles:
            ready, more = yield from _part(ready, cycles)
            waiting += more
        self._items = {kind: {} for kind in KINDS}
        self._tasks = set()
        self.empty = set()
        self._count = self.size = 0
        return ready, waiting


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


def _part(items: list[ParsedRecord], missing: dict[str, set[str]]) -> Generator[None, None, _Parts]:
    """Return those of the items that need nothing of what is missing, in their order, and the others."""
    if not any(missing.values()):
        return items, []
    blocked = yield from _find_blocked(items, missing)
    ready: list[ParsedRecord] = []
    waiting: list[ParsedRecord] = []
    for part in iter_parts(items):
        for item in part:
            (waiting if (item.kind, item.id) in blocked else ready).append(item)
        yield
    return ready, waiting


def _find_blocked(
    items: Sequence[ParsedRecord], missing: dict[str, set[str]]
) -> Generator[None, None, set[Need]]:
    users: dict[Need, list[ParsedRecord]] = defaultdict(list)
    for part in iter_parts(items):
        for item in part:
            for need in item.needs:
                users[need].append(item)
        yield
    lacking = deque((kind, record_id) for kind, ids in missing.items() for record_id in ids)
    blocked: set[Need] = set()
    while lacking:
        yield
        for item in users.pop(lacking.popleft(), ()):
            if (item.kind, item.id) not in blocked:
                blocked.add((item.kind, item.id))
                lacking.extend(item.provides())
    return blocked


_ORDER: Final[dict[str, Callable[[ParsedRecord], Any]]] = {
    "Tag": lambda item: bool(item.parts),
    "Value": lambda item: bool(item.parts),
    "CallNode": lambda item: item.row.timestamp,
    "Job": lambda item: (item.row.execution_id, item.row.parent_id is not None, item.row.start_time),
}


def arrange(
    items: Sequence[ParsedRecord],
) -> Generator[None, None, tuple[list[ParsedRecord], dict[str, set[str]]]]:
    """Return, in steps, records in an order in which each comes after its needs, and where that cannot be.

    A tag comes right after what it hangs on, an execution right before its jobs.

    Returns
    -------
    tuple of (list, dict)
        All of the records; by kind the ids of one or more of each circle of records that need each other.
    """
    by_kind: dict[str, list[ParsedRecord]] = defaultdict(list)
    for items_part in iter_parts(items):
        for item in items_part:
            by_kind[item.kind].append(item)
        yield
    ordered: list[ParsedRecord] = []
    tags: list[ParsedRecord] = []
    cycles: dict[str, set[str]] = {}
    for kind, key in _ORDER.items():
        part = yield from _order_kind(kind, sorted(by_kind[kind], key=key), cycles)
        if kind == "Tag":
            tags = part
        else:
            ordered.extend(_put_executions(part, by_kind["Execution"]) if kind == "Job" else part)
    return (yield from _put_tags(ordered, tags)), cycles


def _put_tags(
    ordered: list[ParsedRecord], tags: list[ParsedRecord]
) -> Generator[None, None, list[ParsedRecord]]:
    """Put each tag right after what it hangs on, and after the tags that it replaces, if those are here."""
    if not tags:
        return ordered
    owners = {tag.owner[1] for tag in tags if tag.owner is not None}
    places: dict[Need | None, int] = {}
    for part in iter_parts(list(enumerate(ordered))):
        for place, item in part:
            if item.id in owners:
                places.update((need, place) for need in item.provides())
        yield
    place_of: dict[str, int] = {}
    following: dict[int, list[ParsedRecord]] = defaultdict(list)
    for part_of_tags in iter_parts(tags):
        for tag in part_of_tags:
            place = max(
                places.get(tag.owner, -1) if tag.owner else -1,
                *(place_of.get(parent, -1) for parent in _get_own_needs("Tag", tag)),
                -1,
            )
            place_of[tag.id] = place
            following[place].append(tag)
        yield
    placed = following[-1]
    for part in iter_parts(list(enumerate(ordered))):
        for place, item in part:
            placed.append(item)
            placed += following.get(place, ())
        yield
    return placed


def _put_executions(jobs: list[ParsedRecord], executions: list[ParsedRecord]) -> list[ParsedRecord]:
    by_execution: dict[str, list[ParsedRecord]] = defaultdict(list)
    for job in jobs:
        by_execution[job.row.execution_id].append(job)
    roots = {execution.id: execution for execution in executions}
    ordered: list[ParsedRecord] = []
    # In the same order for all writers of the same jobs, who would form a deadlock otherwise.
    for execution_id in sorted(roots.keys() | by_execution.keys()):
        if execution_id in roots:
            ordered.append(roots[execution_id])
        ordered.extend(by_execution.get(execution_id, ()))
    return ordered


def _order_kind(
    kind: str, items: list[ParsedRecord], cycles: dict[str, set[str]]
) -> Generator[None, None, list[ParsedRecord]]:
    by_id = {item.id: item for item in items}
    ordered: dict[str, ParsedRecord] = {}
    for part in iter_parts(items):
        for item in part:
            if item.id in ordered:
                continue
            if all(need in ordered for need in _get_own_needs(kind, item) if need in by_id):
                ordered[item.id] = item
                continue
            for earlier in _walk_needs(kind, item, by_id, ordered, cycles):
                ordered[earlier.id] = earlier
        yield
    return list(ordered.values())


def _get_own_needs(kind: str, item: ParsedRecord) -> Sequence[str]:
    """Return the ids of the records of its own kind that an item needs."""
    if kind == "Job":
        return () if item.row.parent_id is None else (item.row.parent_id,)
    parts = item.parts
    if not parts:
        return ()
    columns = _OWN_REFERENCES[kind]
    return [
        getattr(row, columns[table])
        for table, row in zip(parts[::2], parts[1::2], strict=True)
        if table in columns
    ]


# The tables by which records need others of their kind, and the columns with the ids of those.
_OWN_REFERENCES: Final = {
    kind: {
        table: column
        for table, references in REFERENCES.items()
        for column, needed in references
        if needed == kind and table not in ("job", "execution")
    }
    for kind in KINDS
}


def _walk_needs(
    kind: str, item: ParsedRecord, by_id: _ById, done: _ById, cycles: dict[str, set[str]]
) -> Iterator[ParsedRecord]:
    """Yield what an item needs of its own kind, depth first, then the item itself; take note of circles."""
    path = [(item, iter(_get_own_needs(kind, item)))]
    entered = {item.id}
    above = {item.id}
    while path:
        current, needs = path[-1]
        for need_id in needs:
            if need_id in above:
                cycles.setdefault(kind, set()).add(need_id)
            elif need_id in by_id and need_id not in done and need_id not in entered:
                entered.add(need_id)
                above.add(need_id)
                needed = by_id[need_id]
                path.append((needed, iter(_get_own_needs(kind, needed))))
                break
        else:
            path.pop()
            above.discard(current.id)
            yield current
