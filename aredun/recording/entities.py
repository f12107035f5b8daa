"""What models hand over to: neighbours in the call graph, and values as people may see them, in bulk."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import TYPE_CHECKING, Any, NamedTuple

import sqlalchemy as sa

from aredun.errors import AredunError, RedunDatabaseError
from aredun.formats.tag_syntax import CONTEXT_KEY
from aredun.models import Argument, CallEdge, CallNode, Execution, Job, Subvalue, Tag, Task, Value
from aredun.storage.reads import read_rows
from aredun.tables.behaviour import PreviewValue
from aredun.tables.column_types import TagEntity, in_array
from aredun.values import preview_value

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from sqlalchemy.ext.asyncio import AsyncSession

    from aredun.storage import Database
    from aredun.storage.value_store import ValueStore

Entity = Execution | Job | CallNode | Task | Value

# redun shows larger values by their size only.
MAX_PREVIEW_SIZE = 1_000_000
# Values up to this size come along with the question how large they are.
_INLINE_SIZE = 16 * 1024
# How many bytes of values are read and shown at once, and how many (some milliseconds) on the event loop.
_GROUP_SIZE = 32 * 1024 * 1024
_LOOP_SIZE = 8 * 1024
_STORE_READERS = 8
_ARGS_DISPLAY_LENGTH = 100

_ENTITY_KEYS: dict[TagEntity, tuple[type[Any], Any]] = {
    TagEntity.Execution: (Execution, Execution.id),
    TagEntity.Job: (Job, Job.id),
    TagEntity.CallNode: (CallNode, CallNode.call_hash),
    TagEntity.Task: (Task, Task.hash),
    TagEntity.Value: (Value, Value.value_hash),
}


class Entities:
    """
    The operations behind the models' coroutine methods; each has a form for many at once.

    Nothing here runs what a value holds: values are read by `preview_value`, and the repr of the result is
    what is shown.

    Parameters
    ----------
    database : Database
        Gives each operation a session of its own.
    value_store : ValueStore, optional
        Where the data of large values is.
    """

    def __init__(self, database: Database, value_store: ValueStore | None = None) -> None:
        self._database = database
        self._value_store = value_store

    async def get_preview(self, value_hash: str) -> Any:
        """
        Return what a value looks like (mirrors redun's `Value.preview`).

        Parameters
        ----------
        value_hash : str

        Returns
        -------
        Any
            Its repr is what is shown; a `PreviewValue` if the value is larger than a megabyte, or its data is
            missing or damaged in the value store; None if there is no such value.
        """
        return (await self.get_previews([value_hash])).get(value_hash)

    async def get_previews(
        self, value_hashes: Iterable[str], max_size: int | None = MAX_PREVIEW_SIZE, *, use_store: bool = True
    ) -> dict[str, Any]:
        """
        Return what many values look like.

        Parameters
        ----------
        value_hashes : iterable of str
        max_size : int, optional
            Larger values are not read and become a `PreviewValue`; None reads all.
        use_store : bool
            Read what is in the value store too, one by one; else it becomes a `PreviewValue` of size -1.

        Returns
        -------
        dict[str, Any]
            By value hash, in the order given; hashes without a value are not in it.
        """
        hashes = list(dict.fromkeys(value_hashes))
        inline = _INLINE_SIZE if max_size is None else min(max_size, _INLINE_SIZE)
        rows = await self._get_value_rows(hashes, inline)
        shown: dict[str, Any] = {
            row.value_hash: row.as_preview(row.stored_size)
            for row in rows
            if max_size is not None and row.stored_size > max_size
        }
        in_database = [row for row in rows if row.stored_size > 0 and row.value_hash not in shown]
        for group in _group_by_size(in_database):
            shown |= await self._show_group(group)
        in_store = [row for row in rows if row.stored_size == 0]
        if use_store:
            shown |= await self._show_stored(in_store, max_size)
        else:
            shown |= {row.value_hash: row.as_preview(-1) for row in in_store}
        return {value_hash: shown[value_hash] for value_hash in hashes if value_hash in shown}

    async def get_value_parsed(self, value_hash: str) -> Any:
        """
        Return a value of whatever size as far as it can be read safely.

        Mirrors redun's `Value.value_parsed`.

        Parameters
        ----------
        value_hash : str

        Returns
        -------
        Any
            Numbers, texts and containers as they are, objects of classes as previews; None if there is no
            such value.
        """
        return (await self.get_previews([value_hash], max_size=None)).get(value_hash)

    async def get_holding_values(self, value_hash: str) -> list[Value]:
        """Return a file's or handle's own value, then the values that hold it, ordered by hash."""

        async def read(session: AsyncSession) -> list[Value]:
            own = await session.scalars(sa.select(Value).where(Value.value_hash == value_hash))
            holding = await session.scalars(
                sa.select(Value)
                .join(Subvalue, Subvalue.parent_value_hash == Value.value_hash)
                .where(Subvalue.value_hash == value_hash)
                .order_by(Value.value_hash)
            )
            return [*own, *holding]

        return await self._database.read(read)

    async def get_children(self, call_hash: str) -> list[CallNode]:
        """Return the calls that a call made, by `call_order`; a call that was made twice is there twice."""
        return (await self.get_children_of([call_hash]))[call_hash]

    async def get_children_of(self, call_hashes: Collection[str]) -> dict[str, list[CallNode]]:
        """Return the children of many calls, by call hash."""
        return await self._get_neighbours(call_hashes, CallEdge.parent_id, CallEdge.child_id)

    async def get_parents(self, call_hash: str) -> list[CallNode]:
        """Return the calls that made a call, by `call_order`, then by hash."""
        return (await self.get_parents_of([call_hash]))[call_hash]

    async def get_parents_of(self, call_hashes: Collection[str]) -> dict[str, list[CallNode]]:
        """Return the parents of many calls, by call hash."""
        return await self._get_neighbours(call_hashes, CallEdge.child_id, CallEdge.parent_id)

    async def get_args_display(self, call_hash: str) -> str:
        """Return a call's arguments as a text of at most 100 characters.

        Mirrors redun's `CallNode.args_display`.
        """
        return (await self.get_args_displays([call_hash]))[call_hash]

    async def get_args_displays(self, call_hashes: Collection[str]) -> dict[str, str]:
        """Return the arguments of many calls as texts, by call hash."""
        # Without a position come the keyword arguments; NULLs sort differently on the databases.
        by_position = sa.func.coalesce(Argument.arg_position, sa.literal(2**31 - 1))
        query = sa.select(Argument.call_hash, Argument.value_hash)
        query = query.where(in_array(Argument.call_hash, call_hashes))
        query = query.order_by(Argument.call_hash, by_position, Argument.arg_key)
        rows = await read_rows(self._database, query)
        previews = await self.get_previews(value_hash for _, value_hash in rows)
        arguments: dict[str, list[Any]] = {call_hash: [] for call_hash in call_hashes}
        for call_hash, value_hash in rows:
            arguments[call_hash].append(previews.get(value_hash))
        return {call_hash: _trim_list(repr(values)) for call_hash, values in arguments.items()}

    async def get_job_call_node(self, job_id: str) -> CallNode | None:
        """Return the call that a job led to, None while it has led to none."""
        query = sa.select(CallNode).join(Job, Job.call_hash == CallNode.call_hash).where(Job.id == job_id)
        return await self._database.read(lambda session: session.scalar(query))

    async def get_job_task(self, job_id: str) -> Task | None:
        """Return the task of the call that a job led to, None while it has led to none."""
        query = sa.select(Task).join(CallNode, CallNode.task_hash == Task.hash)
        query = query.join(Job, Job.call_hash == CallNode.call_hash).where(Job.id == job_id)
        return await self._database.read(lambda session: session.scalar(query))

    async def get_context(self, call_hash: str) -> dict[str, Any]:
        """Return the context that a call was recorded with (mirrors redun's `Job.context`), {} if none."""
        return (await self.get_contexts([call_hash])).get(call_hash, {})

    async def get_contexts(self, call_hashes: Collection[str]) -> dict[str, dict[str, Any]]:
        """Return the contexts of many calls, by call hash; calls without one are not in it."""
        query = sa.select(Tag.entity_id, Tag.value).where(
            in_array(Tag.entity_id, call_hashes), Tag.key == CONTEXT_KEY, Tag.is_current.is_(True)
        )
        found = await read_rows(self._database, query.order_by(Tag.entity_id, Tag.tag_hash.desc()))
        hashes = {entity_id: value for entity_id, value in found if isinstance(value, str)}
        contexts = await self.get_previews(hashes.values(), max_size=None)
        return {
            call_hash: contexts[value_hash]
            for call_hash, value_hash in hashes.items()
            if isinstance(contexts.get(value_hash), dict)
        }

    async def get_entity(self, entity_type: TagEntity, entity_id: str) -> Entity:
        """
        Return what a tag hangs on (mirrors redun's `Tag.entity`).

        Raises
        ------
        RedunDatabaseError
            If it is not in the database, or the tag marks a deletion.
        """
        found = await self.get_entities([(entity_type, entity_id)])
        try:
            return found[entity_type, entity_id]
        except KeyError:
            raise RedunDatabaseError(f"no {entity_type.name} has the id {entity_id!r}") from None

    async def get_entities(
        self, entities: Iterable[tuple[TagEntity, str]]
    ) -> dict[tuple[TagEntity, str], Entity]:
        """Return what many tags hang on, by type and id; those that are not there are left out."""
        ids: dict[TagEntity, set[str]] = defaultdict(set)
        for entity_type, entity_id in entities:
            ids[entity_type].add(entity_id)

        async def read(session: AsyncSession) -> dict[tuple[TagEntity, str], Entity]:
            found: dict[tuple[TagEntity, str], Entity] = {}
            for entity_type, (model, key) in _ENTITY_KEYS.items():
                if entity_type in ids:
                    rows = await session.scalars(sa.select(model).where(in_array(key, ids[entity_type])))
                    found.update({(entity_type, getattr(row, key.key)): row for row in rows})
            return found

        return await self._database.read(read)

    async def _get_neighbours(
        self, call_hashes: Collection[str], here: Any, there: Any
    ) -> dict[str, list[CallNode]]:
        query = sa.select(here, CallNode).join(CallNode, CallNode.call_hash == there)
        query = query.where(in_array(here, call_hashes)).order_by(here, CallEdge.call_order, there)
        neighbours: dict[str, list[CallNode]] = {call_hash: [] for call_hash in call_hashes}
        for call_hash, node in await read_rows(self._database, query):
            neighbours[call_hash].append(node)
        return neighbours

    async def _get_value_rows(self, value_hashes: list[str], inline_size: int) -> list[_ValueRow]:
        size = sa.func.length(Value.value)
        data = sa.case((size <= inline_size, Value.value), else_=None)
        query = sa.select(Value.value_hash, Value.type, Value.format, size, data)
        query = query.where(in_array(Value.value_hash, value_hashes))
        return [_ValueRow(*row) for row in await read_rows(self._database, query)]

    async def _show_group(self, rows: list[_ValueRow]) -> dict[str, Any]:
        """Show values whose data is in the database."""
        missing = [row.value_hash for row in rows if row.data is None]
        data: dict[str, bytes] = {}
        if missing:
            query = sa.select(Value.value_hash, Value.value).where(in_array(Value.value_hash, missing))
            data = {row.value_hash: row.value for row in await read_rows(self._database, query)}
        readable = [(row, data.get(row.value_hash, row.data or b"")) for row in rows]
        if sum(row.stored_size for row in rows) <= _LOOP_SIZE:
            return _show_values(readable)
        return await asyncio.to_thread(_show_values, readable)

    async def _show_stored(self, rows: list[_ValueRow], max_size: int | None) -> dict[str, Any]:
        """Show values whose data is in the value store, a few at a time."""
        slots = asyncio.Semaphore(_STORE_READERS)
        shown: dict[str, Any] = {}

        async def show(row: _ValueRow) -> None:
            async with slots:
                shown[row.value_hash] = await self._show_one_stored(row, max_size)

        async with asyncio.TaskGroup() as group:
            for row in rows:
                group.create_task(show(row))
        return shown

    async def _show_one_stored(self, row: _ValueRow, max_size: int | None) -> Any:
        if self._value_store is None:
            return row.as_preview(-1)
        size = -1
        try:
            size = await self._value_store.size(row.value_hash)
            if size < 0 or (max_size is not None and size > max_size):
                return row.as_preview(size)
            data, _ = await self._value_store.get(row.value_hash, row.type)
        except AredunError:
            # A store that is out of reach or damaged must not keep people from seeing the rest.
            return row.as_preview(size)
        return await asyncio.to_thread(preview_value, row.type, row.format, data)


class _ValueRow(NamedTuple):
    """What is known of a value before its data is read."""

    value_hash: str
    type: str
    format: str
    stored_size: int
    data: bytes | None

    def as_preview(self, size: int) -> PreviewValue:
        value = Value(value_hash=self.value_hash, type=self.type, format=self.format, value=b"")
        return PreviewValue(value, size)


def _group_by_size(rows: list[_ValueRow]) -> Iterator[list[_ValueRow]]:
    """Divide values such that no group holds much more than `_GROUP_SIZE` bytes."""
    group: list[_ValueRow] = []
    size = 0
    for row in rows:
        group.append(row)
        size += row.stored_size
        if size > _GROUP_SIZE:
            yield group
            group, size = [], 0
    yield group


def _show_values(values: Iterable[tuple[_ValueRow, bytes]]) -> dict[str, Any]:
    return {row.value_hash: preview_value(row.type, row.format, data) for row, data in values}


def _trim_list(text: str) -> str:
    if len(text) <= _ARGS_DISPLAY_LENGTH:
        return text
    return text[: _ARGS_DISPLAY_LENGTH - 4] + "...]"


async def get_job(session: AsyncSession, job_id: str) -> dict[str, Any] | None:
    """Get what a job belongs to, None if it is not recorded (mirrors redun's `RedunBackendDb.get_job`)."""
    query = sa.select(Job.id.label("job_id"), Job.parent_id, Job.execution_id).where(Job.id == job_id)
    row = (await session.execute(query)).one_or_none()
    return None if row is None else row._asdict()
