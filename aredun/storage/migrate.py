"""The schema's version in a database, and the way to another one: alembic, run within the event loop."""

from __future__ import annotations

import asyncio
import logging
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.exc import DatabaseError, DBAPIError, InterfaceError, OperationalError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from aredun.errors import RedunDatabaseError, RedunVersionError
from aredun.formats.versions import (
    REDUN_DB_UNKNOWN_VERSION,
    REDUN_DB_VERSIONS,
    DBVersionInfo,
    get_db_version_required,
    null_db_version,
    unknown_db_version,
)
from aredun.loop.ending import finish
from aredun.models import RedunMigration, RedunVersion
from aredun.storage.retry import name_damage

if TYPE_CHECKING:
    from alembic.config import Config
    from alembic.runtime.migration import MigrationContext
    from alembic.script import ScriptDirectory

logger = logging.getLogger(__name__)

OWN_PREFIX = "aredun_"

# alembic keeps what a migration runs on in module globals, so a process runs one migration at a time.
_alembic_lock = threading.Lock()
_LOCK_POLL_SECONDS = 0.01


def find_migrations() -> Path:
    """Return the folder of the migrations: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).parents[1]
    for folder in (package / "migrations", package.parent / "migrations"):
        if (folder / "env.py").is_file():
            return folder
    raise RedunDatabaseError(f"no migrations in {package} or beside it: install aredun again")


def _load_migrations() -> tuple[Config, ScriptDirectory]:
    """Read and compile the migrations, which takes files and time: call it in a thread."""
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(find_migrations()).replace("%", "%%"))
    scripts = ScriptDirectory.from_config(config)
    for _ in scripts.walk_revisions():
        pass
    return config, scripts


def _refuse_foreign(connection: sa.Connection, tables: set[str]) -> None:
    """Raise RedunVersionError when the tables of a database without `redun_version` are somebody else's."""
    foreign = sorted(name for name in tables if not name.startswith(OWN_PREFIX))
    if foreign == [RedunMigration.__tablename__] and not connection.scalar(
        sa.select(sa.func.count()).select_from(RedunMigration)
    ):
        # What is left of a migration that redun began and did not finish.
        return
    if foreign:
        names = ", ".join(foreign[:3]) + (", ..." if len(foreign) > 3 else "")
        raise RedunVersionError(
            f"not a redun database: it has other tables ({names}) and no redun_version; name an empty one"
        )


def _read_version(connection: sa.Connection) -> DBVersionInfo:
    inspector = sa.inspect(connection)
    tables = set(inspector.get_table_names())
    if RedunVersion.__tablename__ not in tables:
        _refuse_foreign(connection, tables)
        return null_db_version
    columns = {column["name"] for column in inspector.get_columns(RedunVersion.__tablename__)}
    if not columns >= {"id", "version", "timestamp"} or RedunMigration.__tablename__ not in tables:
        raise RedunVersionError("not a redun database: its redun_version table is not redun's")

    newest = sa.select(RedunVersion.version).order_by(RedunVersion.timestamp.desc()).limit(1)
    major = connection.scalar(newest)
    if major is None:
        return null_db_version
    applied = set(connection.scalars(sa.select(RedunMigration.version_num)))
    for version in reversed(REDUN_DB_VERSIONS):
        if version.major == major and version.migration_id in applied:
            return version
    return unknown_db_version(major)


async def get_db_version(session: AsyncSession | AsyncConnection) -> DBVersionInfo:
    """Return the version of the schema (mirrors redun's `RedunBackendDb.get_db_version`).

    Parameters
    ----------
    session
        An open session or connection; it is only read from.

    Returns
    -------
    DBVersionInfo
        `null_db_version` for an empty database, minor version 99 ("3.?") when its migration is unknown here.

    Raises
    ------
    RedunVersionError
        When the database is not redun's: it has other tables only, or is no database at all.
    """
    try:
        connection = session if isinstance(session, AsyncConnection) else await session.connection()
        return await connection.run_sync(_read_version)
    except DatabaseError as error:
        if type(error) is not DatabaseError:
            raise
        raise (name_damage(error) or RedunVersionError(f"not a redun database: {error.orig}")) from error


def _choose_target(version: DBVersionInfo, desired: DBVersionInfo | None) -> DBVersionInfo:
    """Return the known version that is asked for, having checked that there is a way to it."""
    _, newest_allowed = get_db_version_required()
    if version > newest_allowed:
        raise RedunVersionError(f"redun database is too new for this program: {version} > {newest_allowed}")
    if desired is None:
        return REDUN_DB_VERSIONS[-1]
    for known in REDUN_DB_VERSIONS:
        if known == desired:
            return known
    raise RedunVersionError(
        f"no migration leads to version {desired}; known are {', '.join(map(str, REDUN_DB_VERSIONS))}"
    )


@dataclass
class _Migration:
    """One run of alembic, on the way from `version` to `target`."""

    config: Config
    scripts: ScriptDirectory
    version: DBVersionInfo
    target: DBVersionInfo
    stopped: bool = False

    def run(self, connection: sa.Connection) -> None:
        """Take all steps on `connection`, in one transaction of its own."""
        from alembic.runtime.environment import EnvironmentContext

        steps: list[Any] = []

        def choose_steps(heads: Any, context: MigrationContext) -> list[Any]:
            # Called once the lock on the database is held: somebody else may have migrated it meanwhile.
            steps.extend(self._get_steps(heads))
            return steps

        def check_stopped(**step: Any) -> None:
            if self.stopped:
                raise asyncio.CancelledError

        def record_version(connection: sa.Connection) -> None:
            if steps:
                connection.execute(sa.insert(RedunVersion).values(version=self.target.major))

        self.config.attributes.update(connection=connection, step_done=check_stopped, finish=record_version)
        with EnvironmentContext(
            self.config, self.scripts, fn=choose_steps, destination_rev=self.target.migration_id
        ):
            self.scripts.run_env()

    def _get_steps(self, heads: Any) -> list[Any]:
        """Return alembic's steps from the revisions that are applied to the target."""
        from alembic.runtime.migration import MigrationStep

        target, revisions = self.target.migration_id, self.scripts.revision_map
        if self.target > self.version:
            upward = reversed(list(self.scripts.iterate_revisions(target, heads, implicit_base=True)))
            return [MigrationStep.upgrade_from_script(revisions, script) for script in upward]
        downward = self.scripts.iterate_revisions(heads, target, select_for_downgrade=True)
        return [MigrationStep.downgrade_from_script(revisions, script) for script in downward]

    async def run_on(self, connection: AsyncConnection) -> None:
        """Run on `connection` and stay until it is over: a cancelled one stops after the step that it is in.

        Cut off in the middle of a statement, sqlite's driver would close its connection without a rollback,
        and the lock on the file would live on until the garbage is collected.
        """
        try:
            cancelled = await finish(connection.run_sync(self.run), self._stop)
        except Exception as error:
            if not self.stopped:
                raise
            logger.debug("The cancelled migration had failed.", exc_info=error)
            raise asyncio.CancelledError from error
        if cancelled is not None:
            raise cancelled

    def _stop(self) -> None:
        self.stopped = True


async def migrate(
    connection: AsyncConnection, desired: DBVersionInfo | None = None, *, upgrade_only: bool = False
) -> DBVersionInfo:
    """Bring the schema, and the data in it, to another version (mirrors redun's `RedunBackendDb.migrate`).

    All steps and the row of `redun_version` are one transaction, on sqlite too: whatever goes wrong, the
    database stays as it was. Who else migrates the same database meanwhile waits, then finds it done.

    Parameters
    ----------
    connection
        A connection without an open transaction; it has none afterwards either.
    desired
        The version to go to; the latest when None.
    upgrade_only
        Leave a database alone that is newer than `desired`.

    Returns
    -------
    DBVersionInfo
        The version that the database is at now.

    Raises
    ------
    RedunVersionError
        When the database is not redun's, is too new, or no migration leads to `desired`.
    RedunDatabaseError
        When the data does not fit the other schema; nothing is changed then.
    """
    if connection.in_transaction():
        raise RedunDatabaseError(
            "a migration needs a connection without an open transaction: commit it first"
        )
    version = await get_db_version(connection)
    await connection.rollback()
    target = _choose_target(version, desired)
    if target == version or (upgrade_only and target < version):
        logger.debug("Already at db version %s.", version)
        return version
    if version.minor == REDUN_DB_UNKNOWN_VERSION:
        raise RedunVersionError(f"no way from version {version}: this program does not know its migration")

    verb = "Upgrading" if target > version else "Downgrading"
    logger.info("%s db from version %s to %s...", verb, version, target)
    config, scripts = await asyncio.to_thread(_load_migrations)
    while not _alembic_lock.acquire(blocking=False):  # noqa: ASYNC110 - the holder may run on another loop
        await asyncio.sleep(_LOCK_POLL_SECONDS)
    try:
        await _Migration(config, scripts, version, target).run_on(connection)
    except DBAPIError as error:
        if isinstance(error, (OperationalError, InterfaceError)) or error.connection_invalidated:
            raise
        reason = str(error.orig).strip().partition("\n")[0]
        raise RedunDatabaseError(
            f"cannot migrate the database from {version} to {target}, so it stays as it was: {reason}"
        ) from error
    finally:
        _alembic_lock.release()
    return target
