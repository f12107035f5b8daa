"""What a backend goes through: its database is opened, brought to the right version, shared, and closed."""

from __future__ import annotations

import asyncio
import copy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from aredun.config import resolve_secret
from aredun.errors import RedunDatabaseError, RedunVersionError, describe_os_error
from aredun.formats.versions import get_db_version_required, null_db_version
from aredun.loop.ending import finish
from aredun.recording.caches import Caches
from aredun.recording.entities import Entities
from aredun.storage import Database
from aredun.storage import migrate as migrations

if TYPE_CHECKING:
    import logging

    from aredun.config import BackendConfig
    from aredun.formats.versions import DBVersionInfo
    from aredun.storage.sqlite import SqliteFile
    from aredun.storage.value_store import ValueStore


@dataclass(frozen=True, slots=True)
class Opened:
    """An open database, and what reads it for many callers at once.

    Attributes
    ----------
    database : Database
        The database.
    caches : Caches
        Answers what was computed before.
    entities : Entities
        Answers what models ask about themselves.
    """

    database: Database
    caches: Caches
    entities: Entities

    async def close(self) -> None:
        """Wait for the reads under way, write what is queued, and close all connections."""
        await self.caches.close()
        await self.database.close()


@dataclass(eq=False)
class Lifecycle:
    """Opens, loads, migrates and closes the database of one backend.

    Attributes
    ----------
    config : BackendConfig
        Where the database is; completed from its AWS secret by `load`.
    type_registry : Any
        Reads stored values back.
    value_store : ValueStore, optional
        Where the data of large values is.
    logger : logging.Logger
        Hears of retries and of values that cannot be read.
    """

    config: BackendConfig
    type_registry: Any
    value_store: ValueStore | None
    logger: logging.Logger
    _opened: Opened | None = field(init=False, default=None)
    _was_closed: bool = field(init=False, default=False)
    _closing: asyncio.Task[None] | None = field(init=False, default=None)
    _is_shared: bool = field(init=False, default=False)

    @property
    def opened(self) -> Opened:
        """What `open` has opened; raises `RedunDatabaseError` before that and after `close`."""
        if self._opened is None:
            state = "closed" if self._was_closed else "not loaded"
            raise RedunDatabaseError(f"the backend is {state}: await backend.load() first")
        return self._opened

    def open(self, backend: Any) -> Opened:
        """Set the database up, unless that is done, without connecting; models find `backend` as theirs."""
        if self._opened is None:
            database = Database(self.config, backend, self.logger)
            caches = Caches(database, self.type_registry, self.value_store, self.logger)
            self._opened = Opened(database, caches, Entities(database, self.value_store))
        return self._opened

    async def load(self, backend: Any, migrate: bool | None) -> None:
        """Open the database, migrate it if that is wanted, and check its version; closed if that fails."""
        if self.config.db_aws_secret_name:
            self.config = await asyncio.to_thread(resolve_secret, self.config)
        database = self.open(backend).database
        try:
            if migrate is None:
                migrate = self.config.automigrate and not await database.is_read_only()
            if migrate:
                if database.file is not None:
                    await _create_folder(database.file)
                await self.migrate(upgrade_only=True)
            await self._require_compatible()
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Close the database, once; whoever is cancelled meanwhile waits for the end all the same."""
        if self._is_shared:
            return
        if self._opened is not None:
            opened, self._opened = self._opened, None
            self._was_closed = True
            self._closing = asyncio.create_task(opened.close(), name="aredun-close")
        if self._closing is not None and not self._closing.done():
            cancelled = await finish(self._closing)
            if cancelled is not None:
                raise cancelled

    def share(self) -> Lifecycle:
        """Return the lifecycle of a clone, which has all that is open here; closing it closes nothing."""
        _ = self.opened  # raises if the backend is not loaded
        shared = copy.copy(self)
        shared._is_shared = True
        return shared

    async def get_version(self) -> DBVersionInfo:
        """Return the version of the database's schema; `null_db_version` if it is empty or missing."""
        database = self.opened.database
        return await database.read(migrations.get_db_version) if database.exists else null_db_version

    async def is_compatible(self) -> bool:
        """Tell whether this library can use the database as it is."""
        oldest, newest = get_db_version_required()
        return oldest <= await self.get_version() <= newest

    async def migrate(self, desired_version: DBVersionInfo | None = None, *, upgrade_only: bool) -> None:
        """Bring the database to another version, in one transaction."""
        await self.opened.database.migrate(
            lambda connection: migrations.migrate(connection, desired_version, upgrade_only=upgrade_only)
        )

    async def _require_compatible(self) -> None:
        version = await self.get_version()
        oldest, newest = get_db_version_required()
        if version == null_db_version:
            file = self.opened.database.file
            what = f"there is no database at {file.path}" if file else "the database has no tables of redun's"
            raise RedunVersionError(f"{what}: load(migrate=True), 'aredun init' or the first run makes one")
        if not oldest <= version <= newest:
            # What can be done about it differs: nothing is older than an empty database.
            advice = (
                "'aredun db upgrade' or load(migrate=True) upgrades it"
                if version < oldest
                else "a newer aredun reads it"
            )
            raise RedunVersionError(
                f"redun database is an incompatible version {version}: "
                f"it must be >={oldest},<{newest.major + 1}; {advice}"
            )


async def _create_folder(file: SqliteFile) -> None:
    try:
        await asyncio.to_thread(file.create_folder)
    except OSError as error:
        raise RedunDatabaseError(
            f"the folder of the database cannot be made: {describe_os_error(error)}"
        ) from error
