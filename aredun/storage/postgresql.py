"""PostgreSQL behind asyncio: the engine, and what differs from sqlite."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine

from aredun.storage.connections import KeptConnection, WriteConnection
from aredun.storage.fetch import KEEPS_PLANS, plan_as_usual
from aredun.storage.inserts import APPLICATION_NAME, SAY_VERSION, PostgresInserts
from aredun.storage.liveness import Liveness

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

    from aredun.config import BackendConfig
    from aredun.storage.connections import Counts

# Which database this is: when the server started, to the microsecond, and the database's number on it.
_IDENTITY = (
    sa.select(sa.func.pg_postmaster_start_time(), sa.column("oid"))
    .select_from(sa.table("pg_database"))
    .where(sa.column("datname") == sa.func.current_database())
)


def create_engine(config: BackendConfig) -> AsyncEngine:
    """Create the engine with its pool; no connection is opened yet."""
    return create_watched_engine(config)[0]


def create_watched_engine(config: BackendConfig) -> tuple[AsyncEngine, Liveness]:
    """Create the engine with its pool, and what looks after its connections."""
    url = config.get_url()
    arguments: dict[str, Any] = dict(url.connect_args)
    settings = {"application_name": APPLICATION_NAME, **arguments.pop("server_settings", {})}
    if config.statement_timeout:
        settings["statement_timeout"] = str(round(config.statement_timeout * 1000))
    arguments.setdefault("timeout", config.connect_timeout)
    if config.prepared_statements:
        # Without it the trigger on `job` takes us for an old redun and shifts our times from its zone.
        # A pooler in between would refuse it.
        settings["redun.version"] = APPLICATION_NAME
    else:
        # A pooler in between hands every transaction another connection: nothing may be kept on one.
        arguments["statement_cache_size"] = 0
        arguments["prepared_statement_cache_size"] = 0
        arguments["prepared_statement_name_func"] = _unique_name()
    engine = create_async_engine(
        sa.URL.create(**url.parts()),
        connect_args={**arguments, "server_settings": settings},
        pool_size=config.pool_size,
        max_overflow=config.pool_size,
        pool_timeout=config.pool_timeout,
        pool_recycle=config.pool_recycle or -1,
        echo=config.echo,
        execution_options={KEEPS_PLANS: config.prepared_statements},
    )
    return engine, Liveness(engine, config, url.keepalives)


def _unique_name() -> Any:
    import uuid

    return lambda: f"aredun_{uuid.uuid4().hex}"


class PostgresStorage:
    """`Storage` on PostgreSQL.

    Parameters
    ----------
    config : BackendConfig
        Its URL names the server and the database.
    """

    dialect_name = "postgresql"
    file = None
    # A statement over all rows of a drain is a transaction by itself; what takes more begins one.
    takes_many_writers = True
    # Connections hang on the loop that opened them.
    belongs_to_loop = True
    # asyncpg makes all rows of an answer at one go: of twice as many ids the loop would be 13 ms late, and
    # `get_records` no faster.
    ids_at_once = 1000

    def __init__(self, config: BackendConfig) -> None:
        # A setting of a connection is lost behind a pooler, so each transaction makes it.
        self._says_version = not config.prepared_statements
        self._config = config
        self.engine, self._liveness = create_watched_engine(config)
        if config.read_only:
            self.engine = self.engine.execution_options(postgresql_readonly=True)
        # A single statement needs no transaction around it: one round trip instead of three.
        self.reading = self.engine.execution_options(isolation_level="AUTOCOMMIT")

    def make_writer(self, counts: Counts, backend: Any, *, is_kept: bool = True) -> WriteConnection:
        """See `Storage.make_writer`."""
        # A connection that is used once sets this within its transaction.
        prepare = plan_as_usual if is_kept else None
        plain, transactional = self._keep(self.reading, prepare), self._keep(self.engine, prepare)
        inserts = PostgresInserts(says_version=self._says_version)
        begin = f"SELECT {SAY_VERSION}" if self._says_version else ""
        return WriteConnection(plain, transactional, inserts, begin, counts, backend)

    def make_reader(self) -> KeptConnection:
        """See `Storage.make_reader`."""
        return self._keep(self.reading)

    def _keep(
        self, engine: AsyncEngine, prepare: Callable[[AsyncConnection], Awaitable[None]] | None = None
    ) -> KeptConnection:
        config = self._config
        return KeptConnection(engine, prepare, max_idle=config.ping_after, max_age=config.pool_recycle)

    async def identify(self) -> object:
        """See `Storage.identify`."""
        async with self.reading.connect() as connection:
            return tuple((await connection.execute(_IDENTITY)).one())

    def open_for_migration(self) -> AsyncConnection:
        """See `Storage.open_for_migration`."""
        return self.engine.connect()

    async def set_foreign_keys(self, writer: WriteConnection, enabled: bool) -> None:
        """See `Storage.set_foreign_keys`."""

    async def close(self, *, at_once: bool = False) -> None:
        """See `Storage.close`."""
        if at_once:
            self._liveness.terminate()
        await self.engine.dispose()
