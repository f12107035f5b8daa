"""The door: `RedunBackendDb`, where one public call is one transaction and delegates what it does.

All that redun's `redun.backends.db` has beside it can be imported from here too.
"""

from __future__ import annotations

import copy
import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from aredun import versions
from aredun.backend_caches import CachesMixin
from aredun.backend_recording import RecordingMixin
from aredun.backend_records import RecordsMixin
from aredun.backend_tags import TagsMixin
from aredun.column_types import JSON, Column, DateTimeUTC, TagEntity
from aredun.config import BackendConfig, get_abs_path
from aredun.errors import RedunDatabaseError, RedunVersionError
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
from aredun.recording import Recorder, ValueRecorder
from aredun.records import (
    get_call_node_child_edges,
    get_execution_child_edges,
    get_job_child_edges,
    get_tag_child_edges,
    get_tag_entity_child_edges,
    get_value_child_edges,
)
from aredun.value_store import ValueStore
from aredun.values import get_type_registry
from aredun.versions import DBVersionInfo, parse_db_version

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence
    from types import TracebackType

    from sqlalchemy.ext.asyncio import AsyncEngine

    from aredun.database import Database
    from aredun.entities import Entities

    TagResult = tuple[str, str, str, Any]
    Arguments = tuple[Sequence[Any], Mapping[str, Any]]

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


class RedunBackendDb(RecordingMixin, CachesMixin, TagsMixin, RecordsMixin):
    """The backend of a redun repository for asyncio (mirrors `redun.backends.db.RedunBackendDb`).

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
    type_registry : optional
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

    def create_engine(self) -> AsyncEngine:
        """Set the database up without connecting (mirrors redun's method); returns the sessions' engine."""
        return self._lifecycle.open(self).database.engine

    async def load(self, migrate: bool | None = None) -> None:
        """Connect, migrate if that is wanted, and check the version (mirrors redun's method).

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

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    def clone(self, session: Any = None) -> RedunBackendDb:
        """Return a copy that shares the database and all that is loaded (mirrors redun's method).

        Parameters
        ----------
        session : optional
            Accepted for redun's sake: sessions are opened as they are needed.

        Raises
        ------
        RedunDatabaseError
            If the backend is not loaded.
        """
        clone = copy.copy(self)
        clone._lifecycle = self._lifecycle.share()
        return clone

    def session(self) -> RedunSession:
        """Return a session to read with: `async with backend.session() as session`; keep it short."""
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
        """Return all versions of the schema with their migrations, oldest first."""
        return versions.get_all_db_versions()

    @staticmethod
    def get_db_version_required() -> tuple[DBVersionInfo, DBVersionInfo]:
        """Return the oldest and the newest version that this library works with."""
        return versions.get_db_version_required()

    async def get_db_version(self) -> DBVersionInfo:
        """Return the version of the database's schema; `null_db_version` if it is empty or missing."""
        return await self._lifecycle.get_version()

    async def is_db_compatible(self) -> bool:
        """Tell whether this library can use the database as it is."""
        oldest, newest = self.get_db_version_required()
        return oldest <= await self.get_db_version() <= newest

    async def migrate(self, desired_version: DBVersionInfo | None = None, upgrade_only: bool = False) -> None:
        """Bring the schema and the data to another version, in one transaction (mirrors redun's method).

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
