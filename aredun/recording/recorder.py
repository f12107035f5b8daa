"""Recording: what a running workflow did, as rows for the write queue."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from aredun.errors import RedunDatabaseError, UsageError
from aredun.formats.describe import describe
from aredun.formats.hashing import hash_argument, hash_call_node
from aredun.formats.tag_syntax import CONTEXT_KEY
from aredun.models import Job
from aredun.recording import handles
from aredun.recording.call_rows import UnrecordedCall, find_upstream_calls
from aredun.recording.tags import make_tag_write
from aredun.storage import ValueRows, Write
from aredun.storage.rows import (
    ARGUMENT,
    CALL_NODE,
    EVALUATION,
    EXECUTION,
    FILE,
    JOB,
    SUBVALUE,
    TASK,
    VALUE,
)
from aredun.tables.column_types import TagEntity, utcnow
from aredun.values import get_type_registry, is_file, is_task
from aredun.values.nested import is_long
from aredun.values.sizes import Weight, weigh
from aredun.values.task_value import make_recorded_task

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from aredun.config import BackendConfig
    from aredun.recording.call_rows import TypedRow
    from aredun.storage.rows import Row

    Arguments = tuple[Sequence[Any], Mapping[str, Any]]

# Tasks whose rows are kept at hand; every job of a task refers to them.
KEPT_TASKS = 2_000
# Characters of a value in the message that it is too large.
_MAX_NAME = 50


class ValueWriter(Protocol):
    """The store of large values, as far as writing goes."""

    async def put(self, value_hash: str, data: bytes) -> bool:
        """Store the data of a value; False if it was there."""


class SerializedValue:
    """A value as it was when it was serialized, ready to be written; it is recorded in the value's place.

    Attributes
    ----------
    rows : ValueRows
        What is written.
    to_store : list[tuple[str, bytes]]
        Hashes and data that go to the value store first.
    """

    __slots__ = ("rows", "to_store")

    def __init__(self, rows: ValueRows, to_store: list[tuple[str, bytes]]) -> None:
        self.rows = rows
        self.to_store = to_store

    @property
    def value_hash(self) -> str:
        """The value's hash."""
        return self.rows.value_hash


class ValueRecorder:
    """Serializes and hashes values, and makes rows of them; large ones in a thread.

    Parameters
    ----------
    type_registry : Any
        aredun's or redun's registry.
    config : BackendConfig
        `max_value_size` and what goes to the value store.
    value_store : ValueWriter, optional
        Where the data of large values goes.
    """

    def __init__(self, type_registry: Any, config: BackendConfig, value_store: ValueWriter | None) -> None:
        self._registry = type_registry
        self._config = config
        self._value_store = value_store
        self._tasks: dict[str, ValueRows] = {}

    async def prepare(self, value: Any, data: bytes | None = None) -> ValueRows:
        """Make the rows of a value and of all that belongs to it; its data is in the value store by then.

        Parameters
        ----------
        value : Any
            Any value that can be serialized, or one that is. It must not change until this returns.
        data : bytes, optional
            Its serialization, if it is at hand.

        Returns
        -------
        ValueRows

        Raises
        ------
        RedunDatabaseError
            If it is larger than `max_value_size`.
        """
        weight = weigh(value)
        if isinstance(value, SerializedValue):
            serialized = value
        elif weight is Weight.LARGE or (data is not None and weigh(data) is Weight.LARGE):
            serialized = await asyncio.to_thread(self.serialize, value, data)
        else:
            serialized = self.serialize(value, data, plain=weight is Weight.PLAIN)
        if self._value_store is not None:
            for value_hash, stored in serialized.to_store:
                await self._value_store.put(value_hash, stored)
        return serialized.rows

    async def prepare_task(self, task: Any) -> ValueRows:
        """Make the rows of a task, once."""
        rows = self._tasks.get(task.hash)
        if rows is None:
            rows = await (self.prepare(task) if is_task(task) else self._prepare_likeness(task))
            if len(self._tasks) >= KEPT_TASKS:
                self._tasks.clear()
            self._tasks[task.hash] = rows
        return rows

    async def _prepare_likeness(self, task: Any) -> ValueRows:
        """Make the rows of anything that has what a task is known by."""
        # Another registry than our own would not know our stand-in for a task.
        recorder = ValueRecorder(get_type_registry(), self._config, self._value_store)
        return await recorder.prepare(make_recorded_task(task))

    def serialize(self, value: Any, data: bytes | None = None, *, plain: bool = False) -> SerializedValue:
        """Serialize and hash a value and all that belongs to it; blocks.

        Parameters
        ----------
        value : Any
            Any value that can be serialized.
        data : bytes, optional
            Its serialization, if it is at hand.
        plain : bool
            Nothing else belongs to it.

        Returns
        -------
        SerializedValue

        Raises
        ------
        RedunDatabaseError
            If it is larger than `max_value_size`.
        """
        registry = self._registry
        if data is None:
            data = registry.serialize(value)
        to_store: list[tuple[str, bytes]] = []
        if plain:
            value_hash, row = self._make_row(value, data, to_store)
            return SerializedValue(ValueRows(value_hash, ((VALUE, row),), len(row.value)), to_store)
        value_hash, rows = self._make_rows(value, data, to_store)
        seen = {value_hash}
        links: set[str] = set()
        for subvalue in registry.get_value(value).iter_subvalues():
            sub_hash, sub_rows = self._make_rows(subvalue, registry.serialize(subvalue), to_store)
            if sub_hash not in seen:
                seen.add(sub_hash)
                rows += sub_rows
            if sub_hash not in links:
                links.add(sub_hash)
                rows.append((SUBVALUE, SUBVALUE.row(value_hash=sub_hash, parent_value_hash=value_hash)))
        size = sum(len(row.value) for table, row in rows if table is VALUE)
        return SerializedValue(ValueRows(value_hash, rows, size), to_store)

    def _make_rows(
        self, value: Any, data: bytes, to_store: list[tuple[str, bytes]]
    ) -> tuple[str, list[TypedRow]]:
        value_hash, row = self._make_row(value, data, to_store)
        rows = [(VALUE, row)]
        if is_file(value):
            rows.append((FILE, FILE.row(value_hash=value_hash, path=value.path)))
        elif is_task(value):
            task = TASK.row(hash=value_hash, name=value.name, namespace=value.namespace, source=value.source)
            rows.append((TASK, task))
        return value_hash, rows

    def _make_row(self, value: Any, data: bytes, to_store: list[tuple[str, bytes]]) -> tuple[str, Row]:
        registry = self._registry
        if len(data) > self._config.max_value_size:
            raise RedunDatabaseError(
                f"value {describe(value, _MAX_NAME)} is too large: {len(data)} bytes, and max_value_size is "
                f"{self._config.max_value_size}; raise max_value_size and consider a value store "
                f"(value_store_path)"
            )
        value_hash = registry.get_hash(value, data=data)
        if self._value_store is not None and self._config.stores_value(len(data)):
            to_store.append((value_hash, data))
            # No data at all says that it is in the value store.
            data = b""
        row = VALUE.row(
            value_hash=value_hash,
            type=registry.get_type_name(type(value)),
            format=registry.get_serialization_format(value),
            value=data,
        )
        return value_hash, row


@dataclass(slots=True)
class _Pending:
    """An execution that is not written before the job at its root starts."""

    args: str
    updated_time: datetime | None = None


@dataclass
class Recorder:
    """Turns the calls of a workflow into writes for the write queue.

    Attributes
    ----------
    values : ValueRecorder
        Makes rows of values.
    """

    values: ValueRecorder
    _executions: dict[str, _Pending] = field(default_factory=dict)
    _current_execution: str | None = None

    @property
    def is_running(self) -> bool:
        """Whether an execution has been recorded here."""
        return self._current_execution is not None

    async def make_value(self, value: Any, data: bytes | None) -> tuple[str, Write]:
        """Return a value's hash and the write that records it."""
        rows = await self.values.prepare(value, data)
        return rows.value_hash, Write(rows=rows.rows, extra_size=rows.size)

    def record_execution(self, execution_id: str, args: Sequence[str]) -> None:
        """Note an execution; it is written along with the job at its root, as redun does."""
        self._executions[execution_id] = _Pending(json.dumps(list(args)))
        self._current_execution = execution_id

    def make_heartbeat(self, execution_id: str | None) -> Write | None:
        """Return the write that sets an execution's `updated_time`; None for one that is not written yet."""
        execution_id = execution_id or self._current_execution
        if execution_id is None:
            raise UsageError("no execution has been recorded here: give its execution_id")
        now = utcnow()
        pending = self._executions.get(execution_id)
        if pending is not None:
            pending.updated_time = now
            return None
        return Write(heartbeats=((execution_id, now),))

    async def make_job_start(self, job: Any, now: datetime | None) -> tuple[Job, Write]:
        """Return a job's row and the write that records its start."""
        row = _make_job_row(job, start_time=now or utcnow(), end_time=None, cached=False, call_hash=None)
        return Job(**row._asdict()), await self._make_job_write(job.task, row)

    async def make_job_end(self, job: Any, now: datetime | None) -> Write:
        """Return the write that records a job's end, and its start if that was not recorded."""
        now = now or utcnow()
        cached = bool(job.was_cached)
        row = _make_job_row(job, start_time=now, end_time=now, cached=cached, call_hash=job.call_hash)
        return await self._make_job_write(job.task, row)

    async def _make_job_write(self, task: Any, row: Row) -> Write:
        values = (await self.values.prepare_task(task),)
        execution_id = row.execution_id
        pending = self._executions.get(execution_id)
        if row.parent_id is not None or pending is None:
            return Write(rows=((JOB, row),), values=values)
        execution = EXECUTION.row(
            id=execution_id, args=pending.args, updated_time=pending.updated_time, job_id=row.id
        )

        def forget() -> None:
            # Only once it is committed: until then a retry needs it.
            if self._executions.get(execution_id) is pending:
                del self._executions[execution_id]

        return Write(rows=((JOB, row), (EXECUTION, execution)), values=values, on_commit=(forget,))

    async def make_evaluation(
        self, eval_hash: str, task_hash: str, args_hash: str, value: Any, value_hash: str | None
    ) -> Write:
        """Return the write that records the result of a single step."""
        values: tuple[ValueRows, ...] = ()
        if not value_hash:
            values = (await self.values.prepare(value),)
            value_hash = values[0].value_hash
        row = EVALUATION.row(
            eval_hash=eval_hash, task_hash=task_hash, args_hash=args_hash, value_hash=value_hash
        )
        return Write(rows=((EVALUATION, row),), values=values)

    async def make_call_node(
        self,
        task_name: str,
        task_hash: str,
        args_hash: str,
        expr_args: Arguments,
        eval_args: Arguments,
        result_hash: str,
        child_call_hashes: Iterable[str],
        subtree_tasks: Iterable[Any] | None,
    ) -> tuple[str, Write]:
        """Return a call's hash and the write that records it."""
        children = list(child_call_hashes)
        call_hash = hash_call_node(task_hash, args_hash, result_hash, children)
        arguments = []
        for position, key, expression, value in iter_arguments(expr_args, eval_args):
            rows = await self.values.prepare(value)
            arg_hash = hash_argument(call_hash, position, key, rows.value_hash)
            argument = ARGUMENT.row(
                arg_hash=arg_hash,
                call_hash=call_hash,
                value_hash=rows.value_hash,
                arg_position=position,
                arg_key=key,
            )
            if is_long(expression):
                upstream = await asyncio.to_thread(find_upstream_calls, expression)
            else:
                upstream = find_upstream_calls(expression)
            arguments.append((argument, rows, upstream))
        subtree = None
        tasks: list[ValueRows] = []
        if subtree_tasks is not None:
            given = list(subtree_tasks)
            subtree = frozenset(task if isinstance(task, str) else task.hash for task in given)
            tasks = [await self.values.prepare_task(task) for task in given if not isinstance(task, str)]
        row = CALL_NODE.row(
            call_hash=call_hash,
            task_name=task_name,
            task_hash=task_hash,
            args_hash=args_hash,
            value_hash=result_hash,
            timestamp=utcnow(),
        )
        return call_hash, Write(calls=(UnrecordedCall(row, children, arguments, subtree, tasks),))

    async def make_context(
        self, call_hash: str, context_hash: str | None, context: Mapping[str, Any]
    ) -> tuple[str, Write]:
        """Return a context's hash and the write that records it for a call."""
        write = Write()
        if context_hash is None:
            context_hash, write = await self.make_value(context, None)
        _, tags = make_tag_write(TagEntity.CallNode, call_hash, [(CONTEXT_KEY, context_hash)])
        write.extend(tags)
        return context_hash, write

    async def make_handle_advance(self, parent_handles: Sequence[Any], child_handle: Any) -> Write:
        """Return the write that records that a handle's state follows from others."""
        recorded = handles.get_handles_to_record(parent_handles, child_handle)
        write = Write(
            operation=lambda session: handles.advance_handle(session, parent_handles, child_handle),
            on_commit=(lambda: handles.mark_handles_recorded(recorded),),
        )
        for handle in recorded:
            write.extend((await self.make_value(handle, None))[1])
        return write


def iter_arguments(
    expr_args: Arguments, eval_args: Arguments
) -> Iterable[tuple[int | None, str | None, Any, Any]]:
    """Yield (position, key, expression, value) of arguments: positional, by sorted key, then defaults."""
    expr_positional, expr_kwargs = expr_args
    positional, kwargs = eval_args
    for position, (expression, value) in enumerate(zip(expr_positional, positional, strict=False)):
        yield position, None, expression, value
    for key in sorted(set(kwargs) & set(expr_kwargs)):
        yield None, key, expr_kwargs[key], kwargs[key]
    for key in kwargs:
        if key not in expr_kwargs:
            yield None, key, kwargs[key], kwargs[key]


def _make_job_row(job: Any, **cells: Any) -> Row:
    """Return the row of a job, given the cells that change while it runs."""
    if job.task is None or job.execution is None:
        missing = "task" if job.task is None else "execution"
        raise UsageError(
            f"job {job.id} has no {missing}: only a job with a task and an execution is recorded"
        )
    return JOB.row(
        id=job.id,
        task_hash=job.task.hash,
        parent_id=job.parent_job.id if job.parent_job else None,
        execution_id=job.execution.id,
        **cells,
    )
