"""The door: `RedunBackendDb`, where one public call is one transaction and delegates what it does.

All that redun's `redun.backends.db` has beside it can be imported from here too.
"""

from __future__ import annotations

import copy
import logging
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING, Any

from aredun.config import BackendConfig, get_abs_path
from aredun.errors import RedunDatabaseError, RedunVersionError
from aredun.formats import versions
from aredun.formats.versions import DBVersionInfo, parse_db_version
from aredun.lifecycle import Lifecycle
from aredun.models import (
    Argument,
    ArgumentResult,
    Base,
    CallEdge,
    CallNode,
    CallSubtreeTask,
    Evaluation,
    Execution,
    File,
    Handle,
    HandleEdge,
    Job,
    PreviewValue,
    RedunMigration,
    RedunSession,
    RedunVersion,
    Subvalue,
    Tag,
    TagEdit,
    Task,
    Value,
)
from aredun.recording import caches, entities, handles, tagging, tags
from aredun.recording.recorder import Recorder, ValueRecorder
from aredun.storage.value_store import ValueStore
from aredun.tables.column_types import JSON, Column, DateTimeUTC, TagEntity
from aredun.transfer.records import read as record_reads
from aredun.transfer.records import walk as record_walks
from aredun.transfer.records import write as record_writes
from aredun.transfer.records.walk import (
    get_call_node_child_edges,
    get_execution_child_edges,
    get_job_child_edges,
    get_tag_child_edges,
    get_tag_entity_child_edges,
    get_value_child_edges,
)
from aredun.values import get_type_registry

if TYPE_CHECKING:
    from collections.abc import (
        AsyncGenerator,
        AsyncIterable,
        AsyncIterator,
        Callable,
        Collection,
        Iterable,
        Mapping,
        Sequence,
    )
    from datetime import datetime

    from sqlalchemy.ext.asyncio import AsyncEngine

    from aredun.errors import InvalidRecordError
    from aredun.recording.entities import Entities
    from aredun.recording.multimap import MultiMap
    from aredun.recording.recorder import Arguments, SerializedValue
    from aredun.recording.tags import TagResult
    from aredun.storage import Database
    from aredun.transfer.record_fields import Record
    from aredun.values import CacheResult

__all__ = [
    "JSON",
    "Argument",
    "ArgumentResult",
    "Base",
    "CallEdge",
    "CallNode",
    "CallSubtreeTask",
    "Column",
    "DBVersionInfo",
    "DateTimeUTC",
    "Evaluation",
    "Execution",
    "File",
    "Handle",
    "HandleEdge",
    "Job",
    "PreviewValue",
    "RedunBackendDb",
    "RedunDatabaseError",
    "RedunMigration",
    "RedunSession",
    "RedunVersion",
    "RedunVersionError",
    "Subvalue",
    "Tag",
    "TagEdit",
    "TagEntity",
    "Task",
    "Value",
    "get_abs_path",
    "get_call_node_child_edges",
    "get_execution_child_edges",
    "get_job_child_edges",
    "get_tag_child_edges",
    "get_tag_entity_child_edges",
    "get_value_child_edges",
    "parse_db_version",
]


class RedunBackendDb:
    """The backend of a redun repository for asyncio (mirrors redun's `RedunBackendDb`).

    Use it as `async with RedunBackendDb(uri) as backend`, or `await backend.load()` and `await
    backend.close()`. It belongs to one event loop. A write that has been awaited is durable, and is there as
    a whole; every write may be repeated, and may race with the same write elsewhere.

    Parameters
    ----------
    db_uri : str, optional
        `sqlite:///path`, `sqlite:///:memory:` or `postgresql://[user@]host[:port]/database`; default from
        `config`, or `sqlite:///.redun/redun.db`.
    config : mapping or BackendConfig, optional
        The `[backend]` section of a `redun.ini`.
    logger : logging.Logger, optional
        Where warnings go; default `logging.getLogger("aredun")`.
    type_registry : TypeRegistry, optional
        How values are hashed and stored; redun's own registry works too.

    Raises
    ------
    RedunDatabaseError
        If the URI holds a password.
    UsageError
        If the URI or a setting is malformed.
    """

    def __init__(
        self,
        db_uri: str | None = None,
        config: Any = None,
        logger: logging.Logger | None = None,
        *,
        type_registry: Any = None,
    ) -> None:
        parsed = BackendConfig.parse(config, db_uri)
        self.logger = logger or logging.getLogger("aredun")
        self.type_registry = type_registry or get_type_registry()
        self.value_store = ValueStore(parsed.value_store_path) if parsed.value_store_path else None
        self._lifecycle = Lifecycle(parsed, self.type_registry, self.value_store, self.logger)
        self._recorder = Recorder(ValueRecorder(self.type_registry, parsed, self.value_store))

    # Opening and closing

    @property
    def config(self) -> BackendConfig:
        """The settings; `load` adds what an AWS secret says."""
        return self._lifecycle.config

    @property
    def db_uri(self) -> str:
        """The URI, without a password."""
        return self.config.display_uri

    @property
    def database(self) -> Database:
        """The database; opened by `load` or `create_engine`."""
        return self._lifecycle.opened.database

    @property
    def entities(self) -> Entities:
        """What models ask about themselves."""
        return self._lifecycle.opened.entities

    @property
    def _caches(self) -> caches.Caches:
        """What was computed before."""
        return self._lifecycle.opened.caches

    def create_engine(self) -> AsyncEngine:
        """Set the database up without connecting.

        Mirrors redun's `RedunBackendDb.create_engine`.

        Returns
        -------
        AsyncEngine
            The engine of the sessions.
        """
        return self._lifecycle.open(self).database.engine

    async def load(self, migrate: bool | None = None) -> None:
        """Connect, migrate if that is wanted, and check the version (mirrors redun's `RedunBackendDb.load`).

        Parameters
        ----------
        migrate : bool, optional
            True upgrades the schema, False never does; by default as `automigrate` says, which is on for
            sqlite, but where nothing can be written. A database is never downgraded here.

        Raises
        ------
        RedunVersionError
            If the database is too new, too old, or not redun's.
        RedunDatabaseError
            If it cannot be reached, or cannot be read for want of permission.
        """
        await self._lifecycle.load(self, migrate)

    async def close(self) -> None:
        """Write what is queued and close all connections; on a clone, nothing.

        Whoever is cancelled meanwhile waits for the end all the same: nothing is left open. Another call
        waits for the same end.
        """
        await self._lifecycle.close()

    async def __aenter__(self) -> RedunBackendDb:
        await self.load()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def clone(self, session: Any = None) -> RedunBackendDb:
        """Return a copy that shares the database and all that is loaded.

        Mirrors redun's `RedunBackendDb.clone`.

        Parameters
        ----------
        session : Any, optional
            Accepted for redun's sake: sessions are opened as they are needed.

        Returns
        -------
        RedunBackendDb
            The copy; to close it closes nothing.

        Raises
        ------
        RedunDatabaseError
            If the backend is not loaded.
        """
        clone = copy.copy(self)
        clone._lifecycle = self._lifecycle.share()
        return clone

    def session(self) -> RedunSession:
        """Return a session to read with: `async with backend.session() as session`; keep it short.

        Returns
        -------
        RedunSession
            An `AsyncSession` that knows this backend; it connects with its first statement.
        """
        return self.database.session()

    @asynccontextmanager
    async def batch(self) -> AsyncIterator[None]:
        """Write all that is recorded inside the block in one transaction: all of it, or nothing.

        Rows are sent at the end of the block, so reads inside it do not see them. What has to look at the
        database to know what to write (`update_tags`, `delete_tags`, `record_tags` with `update` or `new`,
        handles) opens the transaction at once; on sqlite others then wait for the end of the block.
        """
        async with self.database.batch():
            yield

    # Versions

    @staticmethod
    def get_all_db_versions() -> list[DBVersionInfo]:
        """Return all versions of the schema with their migrations.

        Mirrors redun's `RedunBackendDb.get_all_db_versions`.

        Returns
        -------
        list of DBVersionInfo
            The versions, oldest first.
        """
        return versions.get_all_db_versions()

    @staticmethod
    def get_db_version_required() -> tuple[DBVersionInfo, DBVersionInfo]:
        """Return the versions of the schema that this library works with.

        Mirrors redun's `RedunBackendDb.get_db_version_required`.

        Returns
        -------
        tuple of (DBVersionInfo, DBVersionInfo)
            The oldest and the newest, both included.
        """
        return versions.get_db_version_required()

    async def get_db_version(self) -> DBVersionInfo:
        """Return the version of the database's schema.

        Mirrors redun's `RedunBackendDb.get_db_version`.

        Returns
        -------
        DBVersionInfo
            The version; `null_db_version` if the database is empty or missing.
        """
        return await self._lifecycle.get_version()

    async def is_db_compatible(self) -> bool:
        """Tell whether this library can use the database as it is.

        Mirrors redun's `RedunBackendDb.is_db_compatible`.

        Returns
        -------
        bool
            True if its version lies between the two of `get_db_version_required`.
        """
        return await self._lifecycle.is_compatible()

    async def migrate(self, desired_version: DBVersionInfo | None = None, upgrade_only: bool = False) -> None:
        """Bring the schema and the data to another version, in one transaction.

        Mirrors redun's `RedunBackendDb.migrate`.

        Parameters
        ----------
        desired_version : DBVersionInfo, optional
            Default: the latest.
        upgrade_only : bool
            Leave a newer database as it is.

        Raises
        ------
        RedunVersionError
            If the database is not redun's, is too new, or no migration leads to that version.
        """
        await self._lifecycle.migrate(desired_version, upgrade_only=upgrade_only)

    # Recording: each call makes a write of rows and waits until the write queue has committed it

    async def record_execution(self, exec_id: str, args: list[str]) -> None:
        """Note an execution; it is written together with the job at its root.

        Mirrors redun's `RedunBackendDb.record_execution`.

        Parameters
        ----------
        exec_id : str
            Id of the execution; the last call for an id counts.
        args : list of str
            The command line that started it.
        """
        self._recorder.record_execution(exec_id, args)

    async def record_updated_time(self, execution_id: str | None = None) -> None:
        """Set an execution's heartbeat, `updated_time`, to now.

        Mirrors redun's `RedunBackendDb.record_updated_time`.

        Parameters
        ----------
        execution_id : str, optional
            Default: the execution that was recorded here last.

        Raises
        ------
        UsageError
            If it is left out and no execution was recorded here.
        """
        write = self._recorder.make_heartbeat(execution_id)
        if write is not None:
            await self.database.write_rows(write)

    async def record_job_start(self, job: Any, now: datetime | None = None) -> Job:
        """Record that a job has started (mirrors redun's `RedunBackendDb.record_job_start`).

        The job, its task and, for the job at the root, its execution are one transaction. A job that is
        recorded already stays as it is.

        Parameters
        ----------
        job : Any
            With `id`, `task`, `execution` and `parent_job`; redun's jobs will do.
        now : datetime, optional
            When it started, with a time zone; default: now.

        Returns
        -------
        Job
            The job's row, in no session.

        Raises
        ------
        RedunDatabaseError
            If the execution or the parent is not recorded.
        """
        row, write = await self._recorder.make_job_start(job, now)
        await self.database.write_rows(write)
        return row

    async def record_job_end(self, job: Any, now: datetime | None = None, status: str | None = None) -> None:
        """Record that a job has ended (mirrors redun's `RedunBackendDb.record_job_end`).

        A job whose start is not recorded is recorded with the same time as its start. The last call counts.

        Parameters
        ----------
        job : Any
            As for `record_job_start`, with `was_cached` and `call_hash`.
        now : datetime, optional
            When it ended, with a time zone; default: now.
        status : str, optional
            Accepted for redun's sake: the status follows from the call's result.

        Raises
        ------
        RedunDatabaseError
            If the call, the execution or the parent is not recorded.
        """
        await self.database.write_rows(await self._recorder.make_job_end(job, now))

    async def record_value(self, value: Any, data: bytes | None = None) -> str:
        """Record a value with all that belongs to it, in one transaction.

        Mirrors redun's `RedunBackendDb.record_value`.

        That is its row of `file` or `task`, its subvalues and the links to them. What is missing of a value
        that is there is added. Large values are serialized in a thread.

        Parameters
        ----------
        value : Any
            The value; it must not change until this returns.
        data : bytes, optional
            Its serialization, if it is at hand.

        Returns
        -------
        str
            The value's hash.

        Raises
        ------
        RedunDatabaseError
            If it is larger than `max_value_size` bytes.
        """
        value_hash, write = await self._recorder.make_value(value, data)
        await self.database.write_rows(write)
        return value_hash

    def serialize_value(self, value: Any) -> SerializedValue:
        """Serialize a value as it is now, to be recorded later; blocks.

        Whatever is recorded takes it in the value's place: as a value, an argument or a result. Its
        `value_hash` is the hash of the bytes that are recorded.

        Parameters
        ----------
        value : Any
            A value that may change before it is recorded.

        Returns
        -------
        SerializedValue
            The value's type, bytes and hash, with those of its subvalues.

        Raises
        ------
        RedunDatabaseError
            If it is larger than `max_value_size` bytes.
        """
        return self._recorder.values.serialize(value)

    async def record_call_node(
        self,
        task_name: str,
        task_hash: str,
        args_hash: str,
        expr_args: Arguments,
        eval_args: Arguments,
        result_hash: str,
        child_call_hashes: Iterable[str],
        subtree_tasks: Iterable[Any] | None = None,
    ) -> str:
        """Record a completed call, in one transaction (mirrors redun's `RedunBackendDb.record_call_node`).

        That is the call, its arguments and their values, the calls that these came from, the edges to its
        children, and the tasks of its subtree. A call that is recorded already stays as it is.

        Parameters
        ----------
        task_name, task_hash, args_hash : str
            The task's full name, its hash, and the hash of all arguments.
        expr_args : tuple of (positional, keywords)
            The arguments as they were written: lineage is found on anything with a `call_hash` or
            `_upstreams`, nested at will.
        eval_args : tuple of (positional, keywords)
            Their values, defaults included; `serialize_value` keeps what may have changed since the call.
        result_hash : str
            Hash of the recorded result.
        child_call_hashes : iterable of str
            The calls that it made, in order, repeats included; those that are not recorded get no edge.
        subtree_tasks : iterable of tasks or task hashes, optional
            All tasks of its subtree; by default inferred from the recorded children.

        Returns
        -------
        str
            The call's hash.

        Raises
        ------
        RedunDatabaseError
            If the task or the result is not recorded.
        """
        call_hash, write = await self._recorder.make_call_node(
            task_name,
            task_hash,
            args_hash,
            expr_args,
            eval_args,
            result_hash,
            child_call_hashes,
            subtree_tasks,
        )
        await self.database.write_rows(write)
        return call_hash

    async def record_call_node_context(
        self, call_hash: str, context_hash: str | None, context: Mapping[str, Any]
    ) -> str:
        """Record the context that a call was made in, as a tag of it.

        Mirrors redun's `RedunBackendDb.record_call_node_context`.

        Parameters
        ----------
        call_hash : str
            The call; it need not be recorded yet.
        context_hash : str, optional
            Hash of the context if it is recorded; None records it too.
        context : mapping
            The context.

        Returns
        -------
        str
            The context's hash.
        """
        context_hash, write = await self._recorder.make_context(call_hash, context_hash, context)
        await self.database.write_rows(write)
        return context_hash

    async def set_eval_cache(
        self, eval_hash: str, task_hash: str, args_hash: str, value: Any, value_hash: str | None = None
    ) -> None:
        """Record the result of a single step of evaluation; the last call counts.

        Mirrors redun's `RedunBackendDb.set_eval_cache`.

        Parameters
        ----------
        eval_hash, task_hash, args_hash : str
            What was evaluated.
        value : Any
            The result.
        value_hash : str, optional
            The result's hash if it is recorded; None records it too.

        Raises
        ------
        RedunDatabaseError
            If the task, or the value of that hash, is not recorded.
        """
        write = await self._recorder.make_evaluation(eval_hash, task_hash, args_hash, value, value_hash)
        await self.database.write_rows(write)

    # Caches and values

    async def check_cache(
        self,
        task_hash: str,
        args_hash: str,
        eval_hash: str,
        execution_id: str,
        scheduler_task_hashes: Collection[str],
        cache_scope: Any,
        check_valid: Any,
        context_hash: str | None = None,
        allowed_cache_results: Iterable[Any] | None = None,
    ) -> tuple[Any, str | None, CacheResult]:
        """Ask the caches for the result of a call (mirrors redun's `RedunBackendDb.check_cache`).

        They are asked in redun's order: the same call in this execution (CSE), the whole call as it is now
        (ULTIMATE), a single step (SINGLE). Concurrent checks are one statement.

        Parameters
        ----------
        task_hash, args_hash, eval_hash, execution_id : str
            The call, and the execution that asks.
        scheduler_task_hashes : collection of str
            The tasks as they are now; a whole call counts only if it used no other.
        cache_scope : CacheScope
            `NONE`, `CSE` or `BACKEND`; aredun's, redun's, or the value.
        check_valid : CacheCheckValid
            `SHALLOW` asks for whole calls too.
        context_hash : str, optional
            Only calls that were made in this context count.
        allowed_cache_results : iterable of CacheResult, optional
            Only these ways of finding a result; default: all.

        Returns
        -------
        tuple[Any, str | None, CacheResult]
            The result, the call that it is of, and how it was found; `(None, None, MISS)` for none.

        Raises
        ------
        UsageError
            If a scope, validity or result is none of the known ones.
        """
        check = caches.make_check(
            task_hash,
            args_hash,
            eval_hash,
            execution_id,
            cache_scope,
            check_valid,
            context_hash,
            allowed_cache_results,
        )
        return await self._caches.check(check, scheduler_task_hashes)

    async def get_eval_cache(self, eval_hash: str) -> tuple[Any, bool]:
        """Get the result of a single step of evaluation (mirrors redun's `RedunBackendDb.get_eval_cache`).

        Parameters
        ----------
        eval_hash : str
            Hash of the task and its arguments.

        Returns
        -------
        tuple[Any, bool]
            The result and True, or None and False.
        """
        return await self._caches.get_eval_cache(eval_hash)

    async def get_call_cache(self, call_hash: str) -> tuple[Any, bool]:
        """Get the final result of a recorded call (mirrors redun's `RedunBackendDb.get_call_cache`).

        Parameters
        ----------
        call_hash : str
            The whole hash of the call.

        Returns
        -------
        tuple[Any, bool]
            The result and True, or None and False.
        """
        return await self._caches.get_call_cache(call_hash)

    async def get_value(self, value_hash: str) -> tuple[Any, bool]:
        """Get a recorded value back for real, importing what it names.

        Mirrors redun's `RedunBackendDb.get_value`.

        Parameters
        ----------
        value_hash : str
            The whole hash of the value.

        Returns
        -------
        tuple[Any, bool]
            The value and True; None and False if it is not recorded, its data is missing from the value
            store, or it cannot be read any more.

        Raises
        ------
        RedunDatabaseError
            If it is in a value store and none is configured.
        """
        return await self._caches.get_value(value_hash)

    async def get_previews(self, value_hashes: Iterable[str]) -> dict[str, Any]:
        """Get what values look like; nothing of what they hold is imported or run.

        Parameters
        ----------
        value_hashes : iterable of str
            Whole hashes.

        Returns
        -------
        dict of str to Any
            The previews by hash, of those values that are recorded.
        """
        return await self.entities.get_previews(value_hashes)

    async def get_subtree_tasks(self, call_hash: str) -> set[str]:
        """Get the hashes of all tasks in a call's subtree.

        Mirrors redun's `RedunBackendDb.get_subtree_tasks`.

        Parameters
        ----------
        call_hash : str
            The whole hash of the call.

        Returns
        -------
        set of str
            Hashes of tasks, that of the call's own included; empty if the call is not recorded.
        """
        return await self._caches.get_subtree_tasks(call_hash)

    async def explain_cache_miss(self, task: Any, args_hash: str) -> dict[str, Any] | None:
        """Tell why a call is not cached (mirrors redun's `RedunBackendDb.explain_cache_miss`).

        Parameters
        ----------
        task : Any
            The task that was called, with `hash` and `fullname`.
        args_hash : str
            Hash of all arguments.

        Returns
        -------
        dict
            `reason`: "new_task" (the task of that name was another one), "new_args" or "new_call"; for the
            first two also `call_hash`, `call_task_hash` and `call_args_hash` of the newest call that came
            close.
        """
        return await self.database.read(lambda session: caches.explain_cache_miss(session, task, args_hash))

    async def get_job(self, job_id: str) -> dict[str, Any] | None:
        """Get what a job belongs to.

        Mirrors redun's `RedunBackendDb.get_job`.

        Parameters
        ----------
        job_id : str
            The whole id of the job.

        Returns
        -------
        dict or None
            `job_id`, `parent_id` (None at the root) and `execution_id`; None if the job is not recorded.
        """
        return await self.database.read(lambda session: entities.get_job(session, job_id))

    # Handles

    async def advance_handle(self, parent_handles: Sequence[Any], child_handle: Any) -> None:
        """Record that a handle's state follows from others, in one transaction.

        Mirrors redun's `RedunBackendDb.advance_handle`.

        Parameters
        ----------
        parent_handles : sequence of Handle
            The states before; recorded and valid afterwards.
        child_handle : Handle
            The state after; recorded and valid afterwards.
        """
        write = await self._recorder.make_handle_advance(parent_handles, child_handle)
        await self.database.write_rows(write)

    async def rollback_handle(self, handle: Any) -> None:
        """Make all states that follow from a handle's invalid.

        Mirrors redun's `RedunBackendDb.rollback_handle`.

        Parameters
        ----------
        handle : Handle
            The state to go back to; it stays valid.
        """
        await self.database.write(lambda session: handles.rollback_handle(session, handle))

    async def is_valid_handle(self, handle: Any) -> bool:
        """Tell whether a handle's state is current or leads to the current one.

        Mirrors redun's `RedunBackendDb.is_valid_handle`.

        Parameters
        ----------
        handle : Handle
            Any state of a handle.

        Returns
        -------
        bool
            True if it is recorded, and current or leads to the current state.
        """
        return await self.database.read(lambda session: handles.is_valid_handle(session, handle))

    # Tags

    async def record_tags(
        self,
        entity_type: Any,
        entity_id: str,
        tags: Iterable[tuple[str, Any]],
        parents: Iterable[str] = (),
        update: bool = False,
        new: bool = False,
    ) -> list[TagResult]:
        """Record tags of an entity (mirrors redun's `RedunBackendDb.record_tags`).

        Parameters
        ----------
        entity_type : TagEntity
            What is tagged: aredun's, redun's, or the name.
        entity_id : str
            Its id; it need not be recorded.
        tags : iterable of (key, value)
            Values are JSON.
        parents : iterable of str
            Hashes of tags that the new ones supersede.
        update : bool
            Supersede current tags of the same keys too; implies `new`.
        new : bool
            Make the tags current even if they were superseded before.

        Returns
        -------
        list of (tag_hash, entity_id, key, value)
            The tags, those included that were there.

        Raises
        ------
        UsageError
            If a tag, the entity type or a parent is malformed or missing, or the database does not take the
            tags: PostgreSQL bounds the size of keys and values. Inside a batch its end raises that.
        """
        return await tagging.record_tags(self.database, entity_type, entity_id, tags, parents, update, new)

    async def update_tags(
        self,
        entity_type: Any,
        entity_id: str,
        old_keys: Iterable[str],
        new_tags: Iterable[tuple[str, Any]],
    ) -> list[TagResult]:
        """Supersede an entity's current tags of some keys with new ones.

        Mirrors redun's `RedunBackendDb.update_tags`.

        Without new ones nothing is superseded, as in redun: `delete_tags` deletes.

        Parameters
        ----------
        entity_type : TagEntity
            What is tagged: aredun's, redun's, or the name.
        entity_id : str
            Its id; it need not be recorded.
        old_keys : iterable of str
            Keys whose current tags, of any value, the new ones supersede.
        new_tags : iterable of (key, value)
            The tags to record; values are JSON.

        Returns
        -------
        list of (tag_hash, entity_id, key, value)
            The new tags.

        Raises
        ------
        UsageError
            As for `record_tags`.
        """
        return await tagging.update_tags(self.database, entity_type, entity_id, old_keys, new_tags)

    async def delete_tags(
        self, entity_id: str, tags: Iterable[tuple[str, Any]], keys: Iterable[str] = ()
    ) -> list[TagResult]:
        """Delete an entity's current tags, keeping their history.

        Mirrors redun's `RedunBackendDb.delete_tags`.

        Parameters
        ----------
        entity_id : str
            The tagged entity's id.
        tags : iterable of (key, value)
            The tags to delete; values are compared as JSON.
        keys : iterable of str
            Keys to delete with any value.

        Returns
        -------
        list of (tag_hash, entity_id, key, value)
            The tag that marks the deletion.

        Raises
        ------
        UsageError
            If a tag is malformed, or neither `tags` nor `keys` names anything.
        """
        return await tagging.delete_tags(self.database, entity_id, tags, keys)

    async def get_tags(self, entity_ids: Iterable[str]) -> dict[str, MultiMap[str, Any]]:
        """Get the current tags of entities.

        Mirrors redun's `RedunBackendDb.get_tags`.

        Parameters
        ----------
        entity_ids : iterable of str
            Ids of whatever kind.

        Returns
        -------
        dict of str to MultiMap
            By the id of each entity that has tags: its tags, ordered by key, then by hash.
        """
        ids = list(entity_ids)
        return await self.database.read(lambda session: tags.get_tags(session, ids))

    # Records in bulk, streaming

    async def get_records(
        self,
        ids: Iterable[str] | AsyncIterable[str],
        sorted: bool = True,
        *,
        on_incomplete: Callable[[InvalidRecordError], None] | None = None,
    ) -> AsyncGenerator[Record, None]:
        """Yield the records of the given ids; unknown ids are passed over.

        Mirrors redun's `RedunBackendDb.get_records`.

        Parameters
        ----------
        ids : iterable or async iterable of str
            Record ids, of any kinds; they are read as they are needed.
        sorted : bool
            Keep the order of the ids. Otherwise the records of each batch come kind by kind.
        on_incomplete : callable, optional
            Is given the error of every value that is left out because its bytes are missing.

        Yields
        ------
        dict
            One record at a time; no connection is held meanwhile. The bytes of values come from the value
            store where they are in one.

        Raises
        ------
        InvalidRecordError
            Without `on_incomplete`, at the end, when values were left out: the value store that holds their
            bytes is not configured, or holds them no more, or holds something else.
        """
        found = record_reads.get_records(
            self.database, ids, self.value_store, in_order=sorted, on_incomplete=on_incomplete
        )
        async with aclosing(found):
            async for record in found:
                yield record

    async def put_records(
        self,
        records: Iterable[Any] | AsyncIterable[Any],
        *,
        verify: bool = True,
        on_refused: Callable[[InvalidRecordError], None] | None = None,
        on_written: Callable[[int, int], None] | None = None,
    ) -> int:
        """Write records that are not in the database yet.

        Mirrors redun's `RedunBackendDb.put_records`.

        Records may come in any order, and from several writers at once: see
        `aredun.transfer.records.write.put_records`.

        Parameters
        ----------
        records : iterable or async iterable of dict
            The records; they are taken as they are written.
        verify : bool
            Refuse records whose hashes do not follow from their fields.
        on_refused : callable, optional
            Is given the error of every record that does not go in.
        on_written : callable, optional
            Is told after each transaction how many records it held, and how many were new.

        Returns
        -------
        int
            How many of the records were new.

        Raises
        ------
        InvalidRecordError
            Without `on_refused`, when records were refused; all others are written by then.
        """
        return await record_writes.put_records(
            self.database,
            records,
            self.value_store,
            verify=verify,
            value_store_min_size=self.config.value_store_min_size,
            on_refused=on_refused,
            on_written=on_written,
        )

    async def has_records(self, record_ids: Iterable[str] | AsyncIterable[str]) -> list[str]:
        """Tell which records are in the database.

        Mirrors redun's `RedunBackendDb.has_records`.

        Parameters
        ----------
        record_ids : iterable or async iterable of str
            Whole ids, of any kinds.

        Returns
        -------
        list of str
            Those of the ids that are in the database, in their order.
        """
        return await record_reads.has_records(self.database, record_ids)

    async def iter_record_ids(self, root_ids: Iterable[str] | AsyncIterable[str]) -> AsyncIterator[str]:
        """Yield the ids of all records that the roots own.

        Mirrors redun's `RedunBackendDb.iter_record_ids`.

        Parameters
        ----------
        root_ids : iterable or async iterable of str
            Whole ids, of any kinds.

        Yields
        ------
        str
            Ids layer by layer, the roots first, each once.
        """
        async for record_id in record_walks.iter_record_ids(self.database, root_ids):
            yield record_id

    async def get_child_record_ids(
        self, model_ids: Iterable[tuple[type[Base], str]] | AsyncIterable[tuple[type[Base], str]]
    ) -> AsyncIterator[tuple[str, type[Base], str]]:
        """Yield the ownership edges of records.

        Mirrors redun's `RedunBackendDb.get_child_record_ids`.

        Parameters
        ----------
        model_ids : iterable or async iterable of (model, id)
            The records, by model class.

        Yields
        ------
        tuple of (label, model, id)
            What the edge is called, and the model's class and the id of the record owned.
        """
        async for edge in record_walks.get_child_record_ids(self.database, model_ids):
            yield edge
