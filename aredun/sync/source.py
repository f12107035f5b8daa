"""Reading a source row by row, into what a destination writes: no JSON in between."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from aredun.column_types import in_parameter
from aredun.database.record_rows import select_rows
from aredun.models import Argument, ArgumentResult, CallNode
from aredun.record_checks import normalize_json
from aredun.record_fields import ParsedRecord
from aredun.records.derive import hash_evaluation
from aredun.records.read import SELECT_VALUES, list_in_turns, read_data

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence

    from aredun.database import Database
    from aredun.record_fields import Row
    from aredun.value_store import ValueStore

# Bytes of large values that are held at a time.
LARGE_BATCH: Final = 1 << 24


class Source:
    """A repository to read from.

    Parameters
    ----------
    database : Database
        Its database.
    value_store : ValueStore, optional
        Its value store.
    """

    def __init__(self, database: Database, value_store: ValueStore | None) -> None:
        self._database = database
        self._value_store = value_store

    async def _read(self, ids: Sequence[str], *statements: sa.SelectBase) -> list[list[Row]]:
        return [await self._database.fetch(statement, {"ids": ids}) for statement in statements]

    async def iter_items(self, kind: str, ids: list[str]) -> AsyncIterator[list[ParsedRecord]]:
        """Yield the records of one kind with the given ids, ready to be written.

        Values come in several lists, so that their bytes are never all in memory.
        """
        if kind == "Value":
            async for items in self._iter_values(ids):
                yield items
            return
        make, statements = _MAKERS[kind]
        yield await list_in_turns(make(*await self._read(ids, *statements)))

    async def get_evaluations(self, ids: list[str]) -> list[Row]:
        """Return the cached single steps of calls, as rows of `evaluation` sorted by key."""
        (pairs,) = await self._read(ids, _STEPS)
        keys = sorted({hash_evaluation(task_hash, args_hash) for task_hash, args_hash in pairs})
        (rows,) = await self._read(keys, select_rows("evaluation", "eval_hash"))
        return sorted(rows)

    async def _iter_values(self, ids: list[str]) -> AsyncIterator[list[ParsedRecord]]:
        rows, edges = await self._read(ids, SELECT_VALUES, select_rows("subvalue", "parent_value_hash"))
        children = defaultdict(list)
        for edge in edges:
            children[edge[1]].append(edge)
        small = [row for row in rows if row[3]]
        yield await list_in_turns(_make_values(small, children))
        batch: list[Row] = []
        size = 0
        for row in rows:
            if not row[3]:
                data = await read_data(self._database, self._value_store, row[0], row[1])
                batch.append((*row[:3], data, *row[4:]))
                size += len(data)
                if size >= LARGE_BATCH:
                    yield list(_make_values(batch, children))
                    batch, size = [], 0
        if batch:
            yield list(_make_values(batch, children))


_STEPS: Final = sa.select(CallNode.task_hash, CallNode.args_hash).where(
    in_parameter(CallNode.call_hash, "ids")
)
_RESULTS: Final = (
    sa.select(Argument.call_hash, ArgumentResult.arg_hash, ArgumentResult.result_call_hash)
    .join(Argument, Argument.arg_hash == ArgumentResult.arg_hash)
    .where(in_parameter(Argument.call_hash, "ids"))
)


def _to_text(cell: Any) -> Any:
    """Return a timestamp in the form of neutral rows; sqlite gives it so."""
    if isinstance(cell, datetime):
        return cell.astimezone(UTC).isoformat(" ", "microseconds")[:26]
    return cell


def _make_executions(rows: Iterable[Row]) -> Iterator[ParsedRecord]:
    return (ParsedRecord("Execution", row) for row in rows)


def _make_jobs(rows: Iterable[Row]) -> Iterator[ParsedRecord]:
    for job_id, start, end, task_hash, cached, *links in rows:
        row = (job_id, _to_text(start), _to_text(end), task_hash, bool(cached), *links)
        yield ParsedRecord("Job", row)


def _make_values(rows: Iterable[Row], children: dict[str, list[Row]]) -> Iterator[ParsedRecord]:
    for row in rows:
        value_hash, _, _, _, _, path, name, namespace, source = row
        parts: Any = ()
        if path is not None:
            parts = ("file", (value_hash, path))
        if name is not None:
            parts = (*parts, "task", (value_hash, name, namespace, source))
        if value_hash in children:
            parts = [*parts, *chain.from_iterable(("subvalue", edge) for edge in children[value_hash])]
        yield ParsedRecord("Value", row[:4], parts)


def _make_calls(
    rows: Iterable[Row], arguments: Iterable[Row], results: Iterable[Row], edges: Iterable[Row]
) -> Iterator[ParsedRecord]:
    parts: dict[str, list[Any]] = {row[0]: [] for row in rows}
    for row in arguments:
        parts[row[1]] += ("argument", row)
    for call_hash, *result in results:
        parts[call_hash] += ("argument_result", tuple(result))
    for row in edges:
        parts[row[0]] += ("call_edge", row)
    for *cells, timestamp in rows:
        yield ParsedRecord("CallNode", (*cells, _to_text(timestamp)), parts[cells[0]])


def _make_tags(rows: Iterable[Row], edits: Iterable[Row]) -> Iterator[ParsedRecord]:
    parents: dict[str, list[Any]] = defaultdict(list)
    for edit in edits:
        parents[edit[1]] += ("tag_edit", edit)
    for *cells, value in rows:
        yield ParsedRecord("Tag", (*cells, normalize_json(value)), parents.get(cells[0], ()))


# Per kind of record: what makes the records of the rows of the statements.
_MAKERS: Final[dict[str, tuple[Callable[..., Iterator[ParsedRecord]], tuple[sa.SelectBase, ...]]]] = {
    "Tag": (_make_tags, (select_rows("tag", "tag_hash"), select_rows("tag_edit", "child_id"))),
    "CallNode": (
        _make_calls,
        (
            select_rows("call_node", "call_hash"),
            select_rows("argument", "call_hash"),
            _RESULTS,
            select_rows("call_edge", "parent_id", ("parent_id", "call_order")),
        ),
    ),
    "Job": (_make_jobs, (select_rows("job", "id"),)),
    "Execution": (_make_executions, (select_rows("execution", "id"),)),
}
