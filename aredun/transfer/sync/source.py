"""Reading a source row by row, into what a destination writes: no JSON in between."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime
from functools import partial
from itertools import chain
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from aredun.loop.pacing import iter_parts, list_in_turns, run_in_turns, take_turn
from aredun.models import Argument, ArgumentResult, Job, Value
from aredun.storage.record_rows import list_storable, plain, select_rows
from aredun.storage.rows import (
    ARGUMENT,
    ARGUMENT_RESULT,
    CALL_EDGE,
    CALL_NODE,
    EVALUATION,
    EXECUTION,
    FILE,
    JOB,
    SUBVALUE,
    TAG,
    TAG_EDIT,
    TASK,
    VALUE,
)
from aredun.tables.column_types import JSON, DateTimeUTC, in_list
from aredun.transfer.record_checks import normalize_json
from aredun.transfer.record_fields import ParsedRecord
from aredun.transfer.records.derive import hash_evaluation
from aredun.transfer.records.read import SELECT_VALUES, read_data

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Generator, Iterator, Sequence

    from aredun.storage import Database
    from aredun.storage.fetch import Rows
    from aredun.storage.rows import Row, RowTable
    from aredun.storage.value_store import ValueStore

# Calls and jobs that are held from the walk until they are copied, some 2 kB each.
KEPT_RECORDS: Final = 24_000
# Bytes of large values that are held at a time.
LARGE_BATCH: Final = 1 << 24


class Source:
    """A repository to read from.

    The walk reads calls and jobs to find what they own; what it read is kept until it has been copied, as far
    as there is room, and read again where there was none.

    Parameters
    ----------
    database : Database
        Its database.
    value_store : ValueStore, optional
        Its value store.
    """

    def __init__(self, database: Database, value_store: ValueStore | None) -> None:
        self.database = database
        self._value_store = value_store
        self._kept: dict[str, ParsedRecord] = {}
        # Rows of `evaluation` by the call hashes of the kept calls, None for those that have none.
        self._steps: dict[str, Row | None] = {}
        # What is the matter with the bytes of values, by hash.
        self.lost: dict[str, str] = {}

    async def _read(self, ids: Sequence[str], *statements: sa.SelectBase) -> list[Rows]:
        return [await self.database.fetch(statement, {"ids": ids}) for statement in statements]

    async def read_job_links(self, executions: Sequence[str], count: int) -> Rows:
        """Return the ids, start times, tasks and calls of the jobs of executions.

        If there is room for `count` of them they are kept; otherwise no more of them is read.
        """
        if count > KEPT_RECORDS:
            (rows,) = await self._read(executions, _JOB_LINKS)
            return rows
        items = await list_in_turns(_make_jobs(*await self._read(executions, _JOBS_OF_EXECUTIONS)))
        self._keep(items)
        return list(map(_get_job_link, (item.row for item in items)))

    async def read_calls(self, ids: Sequence[str]) -> tuple[list[ParsedRecord], list[Row]]:
        """Return calls and what single steps of them are cached as (rows of `evaluation`), and keep both."""
        items = await self._read_calls(ids)
        steps = await self._read_steps(items)
        for item in self._keep(items):
            self._steps[item.id] = steps[item.id]
        return items, [row for row in steps.values() if row is not None]

    async def _read_calls(self, ids: Sequence[str]) -> list[ParsedRecord]:
        rows, arguments, edges = await self._read(ids, *_CALLS)
        parts = await run_in_turns(_group_parts(rows, arguments, edges))
        return await list_in_turns(_make_calls(rows, parts))

    def _keep(self, items: list[ParsedRecord]) -> list[ParsedRecord]:
        """Keep items as far as there is room, and return those.

        One whose id cannot be asked for is to be missed when it is asked for, and refused.
        """
        kept = items[: max(0, KEPT_RECORDS - len(self._kept))]
        askable = set(list_storable(item.id for item in kept))
        kept = [item for item in kept if item.id in askable]
        self._kept.update((item.id, item) for item in kept)
        return kept

    async def forget(self, ids: Sequence[str]) -> None:
        """Make room: those records will not be asked for again."""
        for part in iter_parts(ids):
            await take_turn()
            for record_id in part:
                self._kept.pop(record_id, None)
                self._steps.pop(record_id, None)

    async def iter_items(self, kind: str, ids: list[str]) -> AsyncIterator[list[ParsedRecord]]:
        """Yield the records of one kind with the given ids, ready to be written.

        Values come in several lists, so that their bytes are never all in memory.
        """
        if kind == "Value":
            rows, edges = await self._read(ids, SELECT_VALUES, select_rows("subvalue", "parent_value_hash"))
            async for items in self._iter_values(rows, edges):
                yield items
            return
        items = [self._kept[each] for each in ids if each in self._kept]
        if len(items) < len(ids):
            others = [each for each in ids if each not in self._kept]
            if kind == "CallNode":
                items += await self._read_calls(others)
            else:
                make, statements = _MAKERS[kind]
                items += await list_in_turns(make(*await self._read(others, *statements)))
        yield items

    async def get_steps(self, calls: Sequence[ParsedRecord]) -> dict[str, Row]:
        """Return what single steps of calls are cached as (rows of `evaluation`), by call hash."""
        steps = {item.id: self._steps[item.id] for item in calls if item.id in self._steps}
        if others := [item for item in calls if item.id not in steps]:
            steps |= await self._read_steps(others)
        return {call_hash: row for call_hash, row in steps.items() if row is not None}

    async def _read_steps(self, calls: Sequence[ParsedRecord]) -> dict[str, Row | None]:
        """Return the cached single step of each call, None where there is none."""
        keys = await list_in_turns(hash_evaluation(item.row.task_hash, item.row.args_hash) for item in calls)
        (rows,) = await self._read(list(dict.fromkeys(keys)), select_rows("evaluation", "eval_hash"))
        by_key = {row.eval_hash: row for row in _make_rows(EVALUATION, rows)}
        return {item.id: by_key.get(key) for item, key in zip(calls, keys, strict=True)}

    async def find_lost(self, ids: Sequence[str]) -> list[str]:
        """Return those of some values whose bytes are lost, and take note of what is the matter."""
        (rows,) = await self._read(ids, _STORED_VALUES)
        for value_hash, type_name, value_format in rows:
            _, problem = await read_data(
                self.database, self._value_store, value_hash, type_name, value_format
            )
            if problem:
                self.lost[value_hash] = problem
        return [value_hash for value_hash, *_ in rows if value_hash in self.lost]

    async def iter_leaves(self, ids: list[str]) -> AsyncIterator[list[ParsedRecord]]:
        """Yield the values of the given ids like `iter_items`, as if none had subvalues."""
        (rows,) = await self._read(ids, SELECT_VALUES)
        async for items in self._iter_values(rows, []):
            yield items

    async def _iter_values(self, rows: Rows, edges: Rows) -> AsyncIterator[list[ParsedRecord]]:
        children = defaultdict(list)
        for edge in _make_rows(SUBVALUE, edges):
            children[edge.parent_value_hash].append(edge)
        small = [row for row in rows if row[_DATA]]
        yield await list_in_turns(_make_value(row, children) for row in small)
        batch: list[ParsedRecord] = []
        size = 0
        for row in rows:
            if not row[_DATA]:
                value_hash, type_name, value_format, *_ = row
                data, problem = await read_data(
                    self.database, self._value_store, value_hash, type_name, value_format
                )
                if problem:
                    self.lost[value_hash] = problem
                batch.append(_make_value(row, children, data))
                size += len(data)
                if size >= LARGE_BATCH:
                    yield batch
                    batch, size = [], 0
        if batch:
            yield batch


# An argument that came from several calls comes as often, and once if it came from none.
_ARGUMENTS: Final = (
    sa.select(*ARGUMENT.table.columns, ArgumentResult.result_call_hash)
    .outerjoin_from(Argument, ArgumentResult, ArgumentResult.arg_hash == Argument.arg_hash)
    .where(in_list(Argument.call_hash, "ids"))
)
_STORED_VALUES: Final = sa.select(*map(plain, (Value.value_hash, Value.type, Value.format))).where(
    in_list(Value.value_hash, "ids"), sa.func.length(Value.value) == 0
)
# Where `SELECT_VALUES` has the bytes.
_DATA: Final = SELECT_VALUES.selected_columns.keys().index("data")
_JOBS_OF_EXECUTIONS: Final = select_rows("job", "execution_id")
_get_job_link: Final = attrgetter("id", "start_time", "task_hash", "call_hash")
_JOB_LINKS: Final = sa.select(Job.id, plain(Job.start_time), Job.task_hash, Job.call_hash).where(
    in_list(Job.execution_id, "ids")
)


def _to_text(time: Any) -> str | None:
    """Return a timestamp in the form of neutral rows; sqlite gives it so."""
    if isinstance(time, datetime):
        return time.astimezone(UTC).isoformat(" ", "microseconds")[:26]
    text: str | None = time
    return text


# By types of columns, what makes a cell of a neutral row of one of the database's.
_NEUTRAL: Final[dict[type[Any], Callable[[Any], Any]]] = {
    DateTimeUTC: _to_text,
    sa.Boolean: bool,
    JSON: normalize_json,
}


def _make_rows(table: RowTable, rows: Sequence[Sequence[Any]]) -> Iterator[Row]:
    """Yield the neutral rows that some of the database are."""
    make = partial(tuple.__new__, table.record_row)
    types = enumerate(type(table.table.c[name].type) for name in table.record_columns)
    converters = [(place, _NEUTRAL[kind]) for place, kind in types if kind in _NEUTRAL]
    if not converters:
        return map(make, rows)

    def convert(row: Sequence[Any]) -> Row:
        cells = list(row)
        for place, to_neutral in converters:
            cells[place] = to_neutral(cells[place])
        return make(cells)

    return map(convert, rows)


def _make_executions(rows: Rows) -> Iterator[ParsedRecord]:
    return (ParsedRecord("Execution", row) for row in _make_rows(EXECUTION, rows))


def _make_jobs(rows: Rows) -> Iterator[ParsedRecord]:
    return (ParsedRecord("Job", row) for row in _make_rows(JOB, rows))


def _make_value(row: Sequence[Any], children: dict[str, list[Row]], read: bytes = b"") -> ParsedRecord:
    """Make the record of a row of `SELECT_VALUES`, whose bytes may have been read apart."""
    value_hash, type_name, value_format, data, _, path, name, namespace, source = row
    parts: Any = ()
    if path is not None:
        parts = ("file", FILE.row(value_hash=value_hash, path=path))
    if name is not None:
        task = TASK.row(hash=value_hash, name=name, namespace=namespace, source=source)
        parts = (*parts, "task", task)
    if value_hash in children:
        parts = [*parts, *chain.from_iterable(("subvalue", edge) for edge in children[value_hash])]
    value = VALUE.row(value_hash=value_hash, type=type_name, format=value_format, value=data or read)
    return ParsedRecord("Value", value, parts)


def _group_parts(rows: Rows, arguments: Rows, edges: Rows) -> Generator[None, None, dict[str, list[Any]]]:
    """Return, in steps, what belongs to each call of some rows."""
    parts: dict[str, list[Any]] = {call_hash: [] for call_hash, *_ in rows}
    seen: set[str] = set()
    for some in iter_parts(arguments):
        yield
        for row in some:
            *cells, result = row
            argument = tuple.__new__(ARGUMENT.row, cells)
            # What belongs to a call that is not there is nobody's.
            own = parts.get(argument.call_hash, [])
            if result is None or argument.arg_hash not in seen:
                own += ("argument", argument)
            if result is not None:
                seen.add(argument.arg_hash)
                own += ("argument_result", ARGUMENT_RESULT.row(argument.arg_hash, result))
    for some in iter_parts(edges):
        yield
        for edge in _make_rows(CALL_EDGE, some):
            parts.get(edge.parent_id, []).extend(("call_edge", edge))
    return parts


def _make_calls(rows: Rows, parts: dict[str, list[Any]]) -> Iterator[ParsedRecord]:
    return (ParsedRecord("CallNode", row, parts[row.call_hash]) for row in _make_rows(CALL_NODE, rows))


def _make_tags(rows: Rows, edits: Rows) -> Iterator[ParsedRecord]:
    parents: dict[str, list[Any]] = defaultdict(list)
    for edit in _make_rows(TAG_EDIT, edits):
        parents[edit.child_id] += ("tag_edit", edit)
    return (ParsedRecord("Tag", row, parents.get(row.tag_hash, ())) for row in _make_rows(TAG, rows))


_CALLS: Final = (
    select_rows("call_node", "call_hash"),
    _ARGUMENTS,
    select_rows("call_edge", "parent_id", ("parent_id", "call_order")),
)
# Per kind of other record: what makes the records of the rows of the statements.
_MAKERS: Final[dict[str, tuple[Callable[..., Iterator[ParsedRecord]], tuple[sa.SelectBase, ...]]]] = {
    "Tag": (_make_tags, (select_rows("tag", "tag_hash"), select_rows("tag_edit", "child_id"))),
    "Job": (_make_jobs, (select_rows("job", "id"),)),
    "Execution": (_make_executions, (select_rows("execution", "id"),)),
}
