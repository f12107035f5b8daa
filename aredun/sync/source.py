"""Reading a source row by row, into what a destination writes: no JSON in between."""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from aredun.column_types import in_array
from aredun.database.record_rows import select_rows
from aredun.hashing import json_dumps
from aredun.models import Argument, ArgumentResult, CallEdge, CallNode
from aredun.record_fields import ParsedRecord
from aredun.records.derive import hash_evaluation
from aredun.records.read import fetch, read_data, select_values

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Sequence

    from sqlalchemy.ext.asyncio import AsyncSession

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

    async def _read(self, *statements: sa.Executable) -> list[Sequence[Any]]:
        async def operation(session: AsyncSession) -> list[Sequence[Any]]:
            return [await fetch(session, statement) for statement in statements]

        return await self._database.read(operation)

    async def iter_items(self, kind: str, ids: list[str]) -> AsyncIterator[list[ParsedRecord]]:
        """Yield the records of one kind with the given ids, ready to be written.

        Values come in several lists, so that their bytes are never all in memory.
        """
        if kind == "Value":
            async for items in self._iter_values(ids):
                yield items
            return
        make: Any
        statements: list[sa.Executable]
        if kind == "Tag":
            make = _make_tags
            statements = [select_rows("tag", "tag_hash", ids), select_rows("tag_edit", "child_id", ids)]
        elif kind == "CallNode":
            make, statements = _make_calls, _select_calls(ids)
        elif kind == "Job":
            make, statements = _make_jobs, [select_rows("job", "id", ids)]
        else:
            make, statements = _make_executions, [select_rows("execution", "id", ids)]
        made: list[ParsedRecord] = await asyncio.to_thread(make, *await self._read(*statements))
        yield made

    async def get_evaluations(self, ids: list[str]) -> list[Row]:
        """Return the cached single steps of calls, as rows of `evaluation` sorted by key."""
        calls = sa.select(CallNode.task_hash, CallNode.args_hash).where(in_array(CallNode.call_hash, ids))
        (pairs,) = await self._read(calls)
        keys = sorted({hash_evaluation(task_hash, args_hash) for task_hash, args_hash in pairs})
        (rows,) = await self._read(select_rows("evaluation", "eval_hash", keys))
        return sorted(tuple(row) for row in rows)

    async def _iter_values(self, ids: list[str]) -> AsyncIterator[list[ParsedRecord]]:
        rows, edges = await self._read(select_values(ids), select_rows("subvalue", "parent_value_hash", ids))
        children = defaultdict(list)
        for child, parent in edges:
            children[parent].append((child, parent))
        small = [row for row in rows if row[3]]
        yield await asyncio.to_thread(_make_values, small, [row[3] for row in small], children)
        batch: list[Any] = []
        data: list[bytes] = []
        for row in rows:
            if not row[3]:
                batch.append(row)
                data.append(await read_data(self._database, self._value_store, row[0], row[1]))
                if sum(map(len, data)) >= LARGE_BATCH:
                    yield await asyncio.to_thread(_make_values, batch, data, children)
                    batch, data = [], []
        if batch:
            yield await asyncio.to_thread(_make_values, batch, data, children)


def _select_calls(ids: list[str]) -> list[sa.Executable]:
    results = (
        sa.select(Argument.call_hash, ArgumentResult.arg_hash, ArgumentResult.result_call_hash)
        .join(Argument, Argument.arg_hash == ArgumentResult.arg_hash)
        .where(in_array(Argument.call_hash, ids))
    )
    return [
        select_rows("call_node", "call_hash", ids),
        select_rows("argument", "call_hash", ids),
        results,
        select_rows("call_edge", "parent_id", ids).order_by(CallEdge.parent_id, CallEdge.call_order),
    ]


def _to_text(cell: Any) -> Any:
    """Return a timestamp in the form of neutral rows; sqlite gives it so."""
    if isinstance(cell, datetime):
        return cell.astimezone(UTC).isoformat(" ", "microseconds")[:26]
    return cell


def _make_executions(rows: Iterable[Any]) -> list[ParsedRecord]:
    return [ParsedRecord("Execution", tuple(row)) for row in rows]


def _make_jobs(rows: Iterable[Any]) -> list[ParsedRecord]:
    return [
        ParsedRecord("Job", (job_id, _to_text(start), _to_text(end), task_hash, bool(cached), *links))
        for job_id, start, end, task_hash, cached, *links in rows
    ]


def _make_values(
    rows: Iterable[Any], data: Iterable[bytes], children: dict[str, list[Row]]
) -> list[ParsedRecord]:
    items = []
    for row, content in zip(rows, data, strict=True):
        value_hash, type_name, value_format, _, _, path, name, namespace, source = row
        parts: list[Any] = []
        if path is not None:
            parts += ("file", (value_hash, path))
        if name is not None:
            parts += ("task", (value_hash, name, namespace, source))
        for edge in children.get(value_hash, ()):
            parts += ("subvalue", edge)
        items.append(ParsedRecord("Value", (value_hash, type_name, value_format, content), parts))
    return items


def _make_calls(
    rows: Iterable[Any], arguments: Iterable[Any], results: Iterable[Any], edges: Iterable[Any]
) -> list[ParsedRecord]:
    items = {}
    for *cells, timestamp in rows:
        items[cells[0]] = ParsedRecord("CallNode", (*cells, _to_text(timestamp)), [])
    parts: dict[str, Any] = {call_hash: item.parts for call_hash, item in items.items()}
    for row in arguments:
        parts[row[1]] += ("argument", tuple(row))
    for call_hash, arg_hash, upstream in results:
        parts[call_hash] += ("argument_result", (arg_hash, upstream))
    for row in edges:
        parts[row[0]] += ("call_edge", tuple(row))
    return list(items.values())


def _make_tags(rows: Iterable[Any], edits: Iterable[Any]) -> list[ParsedRecord]:
    parents: dict[str, list[Any]] = defaultdict(list)
    for parent, child in edits:
        parents[child] += ("tag_edit", (parent, child))
    # The text that PostgreSQL has for JSON is not the normal form that hashes are taken over.
    return [
        ParsedRecord("Tag", (*cells, json_dumps(json.loads(value))), parents.get(cells[0], ()))
        for *cells, value in rows
    ]
