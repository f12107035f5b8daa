"""`CallGraphQuery`: one query over all records of a call graph (mirrors `redun.backends.db.query`).

Records come in this order, which never depends on a plan: executions, jobs, call nodes, tasks, values;
within a type by primary key as the database sorts text, or newest first for executions and jobs under
`order_by("time")`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, overload

import sqlalchemy as sa
from sqlalchemy.orm import Load, aliased, defer, joinedload, load_only

from aredun.errors import UsageError
from aredun.formats import statuses
from aredun.models import CallNode, Execution, Job, Tag, Task, Value
from aredun.search import filters
from aredun.search.filters import to_list
from aredun.search.pages import Page, check_order, check_size, parse_cursor, read_page
from aredun.search.records import MODEL_CLASSES, PRIMARY_KEYS, Record, get_key
from aredun.search.scan import Scan
from aredun.search.statements import ScanPlan, get_order
from aredun.search.statuses import filter_execution_statuses, filter_job_statuses
from aredun.tables.column_types import utcnow

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Sequence
    from datetime import datetime, timedelta

    from sqlalchemy import Select
    from typing_extensions import TypeVar

    from aredun.search.conditions import Condition, Filter
    from aredun.search.repository import Repository

    # A bare `CallGraphQuery` is one of all records; Python itself knows of defaults from 3.13 on.
    RecordT_co = TypeVar("RecordT_co", bound=Record, covariant=True, default=Record)
else:
    from typing import TypeVar

    RecordT_co = TypeVar("RecordT_co", bound=Record, covariant=True)

# The keyword argument of `CallGraphQuery` for the select of each record type.
_BASES = dict(zip(MODEL_CLASSES, ("executions", "jobs", "call_nodes", "tasks", "values"), strict=True))


class CallGraphQuery(Generic[RecordT_co]):
    """
    An immutable query over executions, jobs, call nodes, tasks and values (mirrors redun's `CallGraphQuery`).

    Each `filter_*` returns a new query whose records meet the new filter and all earlier ones. Nothing is
    read until records are asked for; they come in chunks, each from a short session, so that a slow reader
    holds no connection and memory stays flat. Records are detached instances of `aredun.models` with their
    columns loaded, except the data of values (see `with_values`); executions and jobs know their `status`.

    Parameters
    ----------
    backend : RedunBackendDb
        The repository to ask.
    filters : Iterable[Callable[[str], Condition | None]]
        Conditions per record type (`aredun.search.filters`); added by the `filter_*` methods.
    execution_clauses : Iterable[Callable]
        What the execution that records belong to must meet; added by `filter_execution_ids` and `_tags`.
    order_by : str | None
        "time" or None.
    filter_types : Iterable[str] | None
        Record types to look for; all by default.
    executions, jobs, call_nodes, tasks, values : Select | None
        Selects to choose the records of that type from, instead of the whole table.
    abandoned_after : timedelta | None
        How long a run may be silent before it counts as ABANDONED; by default the backend's setting.
    load_values : bool
        Load the data of values too.
    """

    MODEL_CLASSES: ClassVar[dict[str, Any]] = MODEL_CLASSES
    MODEL_NAMES: ClassVar[list[str]] = list(MODEL_CLASSES)
    MODEL_PKS: ClassVar[dict[Any, str]] = {MODEL_CLASSES[name]: key.key for name, key in PRIMARY_KEYS.items()}
    ExecTag: ClassVar[Any] = aliased(Tag)

    def __init__(
        self: CallGraphQuery[Record],
        backend: Repository,
        *,
        filters: Iterable[Callable[[str], Condition | None]] = (),
        execution_clauses: Iterable[Callable[[Any], Any]] = (),
        order_by: str | None = None,
        filter_types: Iterable[str] | None = None,
        executions: Select[Any] | None = None,
        jobs: Select[Any] | None = None,
        call_nodes: Select[Any] | None = None,
        tasks: Select[Any] | None = None,
        values: Select[Any] | None = None,
        abandoned_after: timedelta | None = None,
        load_values: bool = False,
    ) -> None:
        self._backend = backend
        self._filters = tuple(filters)
        self._execution_clauses = tuple(execution_clauses)
        self._order_by = check_order(order_by)
        self._filter_types = frozenset(self.MODEL_NAMES if filter_types is None else filter_types)
        bases = {"Execution": executions, "Job": jobs, "CallNode": call_nodes, "Task": tasks, "Value": values}
        self._bases = {name: base for name, base in bases.items() if base is not None}
        self._abandoned_after = abandoned_after
        self._load_values = load_values

    @property
    def subqueries(self) -> Iterable[tuple[str, Select[Any]]]:
        """
        The select of each record type, in the order of `MODEL_NAMES`; with all filters only after `build`.

        Returns
        -------
        Iterable[tuple[str, Select]]
            Pairs of type name and select.
        """
        return [(name, self._bases.get(name, sa.select(model))) for name, model in self.MODEL_CLASSES.items()]

    def clone(self, **kwargs: Any) -> CallGraphQuery[Any]:
        """Return a copy of the query with the given constructor arguments changed.

        Mirrors redun's `CallGraphQuery.clone`.

        Parameters
        ----------
        **kwargs : Any
            Parameters of the class with the values that they get in the copy.

        Returns
        -------
        CallGraphQuery
            The copy.
        """
        arguments: dict[str, Any] = {
            "filters": self._filters,
            "execution_clauses": self._execution_clauses,
            "order_by": self._order_by,
            "filter_types": self._filter_types,
            "abandoned_after": self._abandoned_after,
            "load_values": self._load_values,
            **{_BASES[name]: base for name, base in self._bases.items()},
        }
        return type(self)(self._backend, **(arguments | kwargs))

    def with_values(self) -> CallGraphQuery[RecordT_co]:
        """Ask for the data of values (`Value.value`) too, which is otherwise left out.

        Returns
        -------
        CallGraphQuery
            A query of the same records.
        """
        return self.clone(load_values=True)

    @overload
    def filter_types(self, types: Iterable[Literal["Execution"]]) -> CallGraphQuery[Execution]: ...
    @overload
    def filter_types(self, types: Iterable[Literal["Job"]]) -> CallGraphQuery[Job]: ...
    @overload
    def filter_types(self, types: Iterable[Literal["CallNode"]]) -> CallGraphQuery[CallNode]: ...
    @overload
    def filter_types(self, types: Iterable[Literal["Task"]]) -> CallGraphQuery[Task]: ...
    @overload
    def filter_types(self, types: Iterable[Literal["Value"]]) -> CallGraphQuery[Value]: ...
    @overload
    def filter_types(self, types: Iterable[str]) -> CallGraphQuery[Record]: ...
    def filter_types(self, types: Iterable[Any]) -> CallGraphQuery[Any]:
        """Choose the record types, whichever were chosen before.

        Mirrors redun's `CallGraphQuery.filter_types`.

        Parameters
        ----------
        types : Iterable[str]
            Of `MODEL_NAMES`.

        Returns
        -------
        CallGraphQuery
            A query of records of these types.

        Raises
        ------
        UsageError
            When a type is unknown.
        """
        names = to_list(types, "types")
        for name in names:
            if name not in self.MODEL_CLASSES:
                raise UsageError(f"unknown record type {name!r}: use one of {', '.join(self.MODEL_NAMES)}")
        return self.clone(filter_types=names)

    def filter_ids(self, _ids: Iterable[str]) -> CallGraphQuery[RecordT_co]:
        """Filter by ids: records whose whole id is among them.

        Mirrors redun's `CallGraphQuery.filter_ids`.

        Parameters
        ----------
        _ids : Iterable[str]
            Whole ids.

        Returns
        -------
        CallGraphQuery
            The narrowed query.
        """
        return self._add(filters.filter_ids(to_list(_ids, "ids")))

    def like_id(self, id: str) -> CallGraphQuery[RecordT_co]:  # the reference's name
        """Filter by the beginning of an id, case and all; a task is also found by its exact name.

        Mirrors redun's `CallGraphQuery.like_id`.

        Parameters
        ----------
        id : str
            The beginning of an id or a hash, or the full name of a task.

        Returns
        -------
        CallGraphQuery
            The narrowed query.
        """
        return self._add(filters.filter_id_prefix(id))

    def filter_execution_ids(self, execution_ids: Iterable[str]) -> CallGraphQuery[RecordT_co]:
        """Filter by execution: the execution itself, its jobs, and what they called, ran and passed.

        Mirrors redun's `CallGraphQuery.filter_execution_ids`.

        Parameters
        ----------
        execution_ids : Iterable[str]
            Whole ids.

        Returns
        -------
        CallGraphQuery
            The narrowed query.
        """
        ids = to_list(execution_ids, "execution ids")
        return self._add_execution_clauses([filters.execution_ids_clause(ids)])

    def filter_execution_statuses(self, execution_statuses: Iterable[str]) -> CallGraphQuery[Execution]:
        """Filter executions by status, newest first; other record types are left out.

        Mirrors redun's `CallGraphQuery.filter_execution_statuses`.

        Parameters
        ----------
        execution_statuses : Iterable[str]
            Of RUNNING, FAILED, DONE and ABANDONED. An execution whose result came from the cache is DONE;
            one that is ABANDONED is no longer RUNNING (`aredun.formats.statuses`).

        Returns
        -------
        CallGraphQuery
            The narrowed query, of executions alone, ordered by time.

        Raises
        ------
        UsageError
            When there is no status or an unknown one.
        """
        names = statuses.parse_statuses(
            to_list(execution_statuses, "statuses"), (*statuses.EXECUTION_STATUSES, statuses.CACHED)
        )
        query = self._add(filter_execution_statuses(names, self._get_cutoff), "Execution")
        return query.clone(order_by="time")

    def filter_job_statuses(self, job_statuses: Iterable[str]) -> CallGraphQuery[Job]:
        """Filter jobs by status; other record types are left out.

        Mirrors redun's `CallGraphQuery.filter_job_statuses`.

        Parameters
        ----------
        job_statuses : Iterable[str]
            Of RUNNING, FAILED, CACHED, DONE and ABANDONED.

        Returns
        -------
        CallGraphQuery
            The narrowed query, of jobs alone.

        Raises
        ------
        UsageError
            When there is no status or an unknown one.
        """
        names = statuses.parse_statuses(to_list(job_statuses, "statuses"), statuses.JOB_STATUSES)
        return self._add(filter_job_statuses(names, self._get_cutoff), "Job")

    def filter_task_names(self, task_names: Iterable[str]) -> CallGraphQuery[RecordT_co]:
        """Filter tasks and their jobs by name: `namespace.name`, or `name` in whatever namespace.

        Mirrors redun's `CallGraphQuery.filter_task_names`.

        Parameters
        ----------
        task_names : Iterable[str]
            Names, with a namespace or without.

        Returns
        -------
        CallGraphQuery
            The narrowed query, of jobs and tasks.
        """
        return self._add(filters.filter_task_names(to_list(task_names, "task names")), "Job", "Task")

    def filter_task_hashes(self, task_hashes: Iterable[str]) -> CallGraphQuery[RecordT_co]:
        """Filter tasks, and jobs by their task, by the task's whole hash.

        Mirrors redun's `CallGraphQuery.filter_task_hashes`.

        Parameters
        ----------
        task_hashes : Iterable[str]
            Whole hashes of tasks.

        Returns
        -------
        CallGraphQuery
            The narrowed query, of jobs and tasks.
        """
        return self._add(filters.filter_task_hashes(to_list(task_hashes, "task hashes")), "Job", "Task")

    def filter_arguments(self, value_hashes: Iterable[str]) -> CallGraphQuery[Job]:
        """Filter jobs by values that were an argument, or inside one.

        Mirrors redun's `CallGraphQuery.filter_arguments`.

        Parameters
        ----------
        value_hashes : Iterable[str]
            Whole hashes of values.

        Returns
        -------
        CallGraphQuery
            The narrowed query, of jobs alone.
        """
        return self._add(filters.filter_arguments(to_list(value_hashes, "value hashes")), "Job")

    def filter_results(self, value_hashes: Iterable[str]) -> CallGraphQuery[Job]:
        """Filter jobs by values that were their result, or inside it.

        Mirrors redun's `CallGraphQuery.filter_results`.

        Parameters
        ----------
        value_hashes : Iterable[str]
            Whole hashes of values.

        Returns
        -------
        CallGraphQuery
            The narrowed query, of jobs alone.
        """
        return self._add(filters.filter_results(to_list(value_hashes, "value hashes")), "Job")

    def filter_value_types(self, value_types: Iterable[str]) -> CallGraphQuery[Value]:
        """Filter values by the name of their type.

        Mirrors redun's `CallGraphQuery.filter_value_types`.

        Parameters
        ----------
        value_types : Iterable[str]
            Names as the column `value.type` has them: `builtins.int`, `redun.File` ...

        Returns
        -------
        CallGraphQuery
            The narrowed query, of values alone.
        """
        return self._add(filters.filter_value_types(to_list(value_types, "value types")), "Value")

    def filter_file_paths(self, paths: Iterable[str]) -> CallGraphQuery[Value]:
        """Filter values that are files by path.

        Mirrors redun's `CallGraphQuery.filter_file_paths`.

        Parameters
        ----------
        paths : Iterable[str]
            Paths or URLs; `*` stands for any text, all else for itself.

        Returns
        -------
        CallGraphQuery
            The narrowed query, of values alone.
        """
        return self._add(filters.filter_file_paths(to_list(paths, "paths")), "Value")

    def filter_tags(self, tags: Iterable[tuple[str, Any]]) -> CallGraphQuery[RecordT_co]:
        """Filter by current tags; a record must carry all of them.

        Mirrors redun's `CallGraphQuery.filter_tags`.

        Parameters
        ----------
        tags : Iterable[tuple[str, Any]]
            Pairs of key and value; `tag_syntax.ANY_VALUE` for whatever value. As in redun, the value
            None equals no tag's.

        Returns
        -------
        CallGraphQuery
            The narrowed query.
        """
        return self.clone(filters=(*self._filters, *filters.filter_tags(to_list(tags, "tags"))))

    def filter_execution_tags(self, tags: Iterable[tuple[str, Any]]) -> CallGraphQuery[RecordT_co]:
        """Filter by current tags of the execution that a record belongs to; it must carry all of them.

        Mirrors redun's `CallGraphQuery.filter_execution_tags`.

        Parameters
        ----------
        tags : Iterable[tuple[str, Any]]
            Pairs of key and value, as for `filter_tags`.

        Returns
        -------
        CallGraphQuery
            The narrowed query.
        """
        return self._add_execution_clauses(filters.execution_tag_clauses(to_list(tags, "tags")))

    def order_by(self, order_by: str) -> CallGraphQuery[RecordT_co]:
        """Order the query (mirrors redun's `CallGraphQuery.order_by`).

        Parameters
        ----------
        order_by : str
            "time": executions and jobs by their start, newest first. Other records keep to their primary
            keys.

        Returns
        -------
        CallGraphQuery
            A query of the same records in that order.

        Raises
        ------
        UsageError
            When it is anything else.
        """
        return self.clone(order_by=order_by)

    def build(self) -> CallGraphQuery[RecordT_co]:
        """Return the query with all filters worked into its `subqueries`.

        Mirrors redun's `CallGraphQuery.build`.

        Returns
        -------
        CallGraphQuery
            A query of the same records in the same order.
        """
        bases = {_BASES[name]: self._make_select(name) for name in self.MODEL_NAMES}
        return self.clone(filters=(), execution_clauses=(), **bases)

    def empty(self) -> CallGraphQuery[RecordT_co]:
        """Return the query with no record left in it (mirrors redun's `CallGraphQuery.empty`).

        Returns
        -------
        CallGraphQuery
            A query that reads nothing.
        """
        return self._add(filters.filter_nothing)

    async def all(self) -> AsyncIterator[RecordT_co]:
        """Yield all records of the query, in its order (mirrors redun's `CallGraphQuery.all`).

        Yields
        ------
        Execution, Job, CallNode, Task or Value
            Records type by type in the order of `MODEL_NAMES`, within a type by primary key or as
            `order_by` says.
        """
        async for record in self._iter_records(None):
            yield record

    async def one(self) -> RecordT_co:
        """Return the only record (mirrors redun's `CallGraphQuery.one`).

        Returns
        -------
        Execution, Job, CallNode, Task or Value
            The record.

        Raises
        ------
        UsageError
            When no record matches, or more than one.
        """
        records = [record async for record in self.limit(2)]
        if not records:
            raise UsageError("no record matches: check the id and the filters")
        if len(records) > 1:
            shown = ", ".join(f"{type(record).__name__} {get_key(record)}" for record in records)
            raise UsageError(
                f"more than one record matches ({shown} ...): give more of the id or another filter"
            )
        return records[0]

    async def one_or_none(self) -> RecordT_co | None:
        """Return the only record, if there is just one.

        Mirrors redun's `CallGraphQuery.one_or_none`.

        Returns
        -------
        Execution, Job, CallNode, Task, Value or None
            None when no record matches, or more than one.
        """
        records = [record async for record in self.limit(2)]
        return records[0] if len(records) == 1 else None

    async def first(self) -> RecordT_co | None:
        """Return the first record, in the order of `all` (mirrors redun's `CallGraphQuery.first`).

        Returns
        -------
        Execution, Job, CallNode, Task, Value or None
            None when no record matches.
        """
        async for record in self.limit(1):
            return record
        return None

    async def limit(self, size: int) -> AsyncIterator[RecordT_co]:
        """Yield the first `size` records of the query (mirrors redun's `CallGraphQuery.limit`).

        Parameters
        ----------
        size : int
            How many records at most, 0 or more.

        Yields
        ------
        Execution, Job, CallNode, Task or Value
            Records in the order of `all`.

        Raises
        ------
        UsageError
            When the size is negative.
        """
        async for record in self._iter_records(check_size(size)):
            yield record

    async def page(self, page: int, page_size: int) -> AsyncIterator[RecordT_co]:
        """Yield the records of one page; all pages together are `all`, without repeats or gaps.

        Mirrors redun's `CallGraphQuery.page`.

        Every page counts what comes before it: to go through many pages use `page_after`.

        Parameters
        ----------
        page : int
            Number of the page, from zero.
        page_size : int
            Records on a page; pages run on over the borders between record types.

        Yields
        ------
        Execution, Job, CallNode, Task or Value
            Records in the order of `all`.

        Raises
        ------
        UsageError
            When a number is negative.
        """
        async for record in self._iter_records(page_size, check_size(page) * check_size(page_size)):
            yield record

    async def _iter_records(self, left: int | None, skip: int = 0) -> AsyncIterator[RecordT_co]:
        for scan in self._make_scans():
            if left == 0:
                return
            total = await scan.count() if skip else 0
            if skip and skip >= total:
                skip -= total
                continue
            async for record in scan.iter_rows(left, skip):
                left = None if left is None else left - 1
                yield record
            skip = 0

    async def page_after(self, cursor: str | None, size: int) -> Page[RecordT_co]:
        """Return the page that follows a cursor; page 10,000 costs what page 1 costs.

        Parameters
        ----------
        cursor : str | None
            `Page.cursor` of the page before, from a query with the same filters and order; None for the
            first page.
        size : int
            Records on a page, at least 1.

        Returns
        -------
        Page
            The records in the order of `all`, and the cursor of the next page.

        Raises
        ------
        UsageError
            When the cursor is not one of this query's, or the size is not positive.
        """
        if check_size(size) == 0:
            raise UsageError("invalid page size 0: use at least 1")
        start, after = None, None
        if cursor is not None:
            start, after = parse_cursor(cursor, self._order_by, self._filter_types)
        return await read_page(self._make_scans(start), self._order_by, after, size)

    async def count(self) -> AsyncIterator[tuple[str, int]]:
        """Count the records of each chosen type.

        Mirrors redun's `CallGraphQuery.count`.

        Yields
        ------
        tuple[str, int]
            The name of a type and the number of its records, in the order of `MODEL_NAMES`; a type without
            records has 0.
        """
        for scan in self._make_scans():
            yield scan.plan.record_type, await scan.count()

    def select(self, *columns: str, flat: bool = False) -> AsyncIterator[Any]:
        """Yield columns of the records instead of the records, in the same order; only keys are read.

        Mirrors redun's `CallGraphQuery.select`.

        Parameters
        ----------
        columns : str
            "id" (the primary key) and "type" (the model's name).
        flat : bool
            Yield bare values of the one column instead of tuples.

        Returns
        -------
        AsyncIterator
            Of tuples in the order of `columns`, or of bare values; in the order of `all`.

        Raises
        ------
        UsageError
            When a column is unknown, or `flat` is given with other than one column.
        """
        for column in columns:
            if column not in {"id", "type"}:
                raise UsageError(f"unknown column {column!r}: use 'id' or 'type'")
        if flat and len(columns) != 1:
            raise UsageError(f"flat takes exactly one column, not {len(columns)}")
        return self._iter_columns(columns, flat)

    async def _iter_columns(self, columns: Sequence[str], flat: bool) -> AsyncIterator[Any]:
        for scan in self._make_scans(ids_only=True):
            async for key in scan.iter_rows():
                row = tuple(key if column == "id" else scan.plan.record_type for column in columns)
                yield row[0] if flat else row

    def _add(self, new_filter: Filter, *types: str) -> CallGraphQuery[Any]:
        chosen = self._filter_types & frozenset(types) if types else self._filter_types
        return self.clone(filters=(*self._filters, new_filter), filter_types=chosen)

    def _add_execution_clauses(self, clauses: Iterable[Callable[[Any], Any]]) -> CallGraphQuery[Any]:
        return self.clone(execution_clauses=(*self._execution_clauses, *clauses))

    def _get_cutoff(self) -> datetime:
        age = self._abandoned_after
        return statuses.get_cutoff(self._backend.config) if age is None else utcnow() - age

    def _get_conditions(self, record_type: str) -> list[Condition]:
        chosen: list[Filter] = list(self._filters)
        if self._execution_clauses:
            chosen.append(filters.filter_executions(self._execution_clauses))
        chosen += [filters.filter_base(base, name) for name, base in self._bases.items()]
        conditions = (condition(record_type) for condition in chosen)
        return [condition for condition in conditions if condition is not None]

    def _make_select(self, record_type: str) -> Select[Any]:
        order = get_order(record_type, self._order_by == "time")
        conditions = [condition.seek() for condition in self._get_conditions(record_type)]
        return (
            sa.select(self.MODEL_CLASSES[record_type])
            .where(*conditions)
            .order_by(*order.sort(order.columns))
            .options(*_get_load_options(record_type, self._load_values))
        )

    def _make_scans(self, start: str | None = None, *, ids_only: bool = False) -> Iterable[Scan]:
        names = self.MODEL_NAMES[self.MODEL_NAMES.index(start) if start else 0 :]
        for name in names:
            if name in self._filter_types:
                plan = ScanPlan(name, self._order_by == "time", ids_only, self._load_values)
                yield Scan(self._backend, plan, self._get_conditions(name), self._get_cutoff())


def _get_load_options(record_type: str, load_values: bool) -> tuple[Any, ...]:
    """Return what whoever runs a query's select is to load with its records: what status and task take."""
    if record_type == "Value":
        return () if load_values else (defer(Value.value, raiseload=True),)
    if record_type == "CallNode":
        return (joinedload(CallNode.task).options(defer(Task.source, raiseload=True)),)
    if record_type == "Task":
        return ()
    job: Any = joinedload(Execution.job) if record_type == "Execution" else Load(Job)
    return (
        job.joinedload(Job.call_node)
        .joinedload(CallNode.value)
        .options(load_only(Value.type, Value.format, raiseload=True)),
        job.joinedload(Job.task).options(defer(Task.source, raiseload=True)),
    )
