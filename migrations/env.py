"""Runs migrations on the connection that `aredun.storage.migrate` hands over: all of them in one transaction.

The attributes of alembic's config are `connection`, a `Connection` without an open transaction, `step_done`,
which is called after each step, and `finish`, which is called with the connection before the commit.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from alembic import context
from sqlalchemy import text

from aredun.storage.sql_log import sql_logger

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection
    from sqlalchemy.engine.interfaces import DBAPICursor

# Any number will do, as long as everybody who migrates a redun database takes the same.
ADVISORY_LOCK = 0x726564756E


def _pragma_foreign_keys(connection: Connection, setting: int | None = None) -> int:
    """Return whether sqlite enforces foreign keys, and set it, which only works beside a transaction."""
    cursor = connection.connection.cursor()
    try:
        row = _execute(cursor, "PRAGMA foreign_keys").fetchone()
        if setting is not None:
            _execute(cursor, f"PRAGMA foreign_keys = {setting}")
    finally:
        cursor.close()
    return int(row[0]) if row else 0


def _execute(cursor: DBAPICursor, statement: str) -> DBAPICursor:
    """Execute a statement that no event of SQLAlchemy tells of, since it would begin a transaction for it."""
    sql_logger.debug(statement)
    cursor.execute(statement)
    return cursor


@contextmanager
def _sqlite_transaction(connection: Connection) -> Iterator[None]:
    """Hold sqlite's write lock from the start, with foreign keys off while tables are rebuilt."""
    enforced = _pragma_foreign_keys(connection, 0)
    try:
        with connection.begin():
            # The driver begins late and only for rows; an engine may have begun a transaction for reading.
            driver_connection = connection.connection.driver_connection
            if driver_connection is not None and driver_connection.in_transaction:
                connection.exec_driver_sql("ROLLBACK")
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            yield
    finally:
        _pragma_foreign_keys(connection, enforced)


@contextmanager
def _postgresql_transaction(connection: Connection) -> Iterator[None]:
    """Keep everybody else from migrating meanwhile, and lift the time limit that the session may have."""
    with connection.begin():
        connection.execute(text("SET LOCAL statement_timeout = 0"))
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": ADVISORY_LOCK})
        yield


def run_migrations() -> None:
    """Run the steps that were asked for; all of them happen or none."""
    attributes = context.config.attributes
    if "connection" not in attributes:
        raise SystemExit(
            "migrations run through aredun: aredun db upgrade, or aredun.storage.migrate.migrate()"
        )
    connection: Connection = attributes["connection"]
    transaction = _sqlite_transaction if connection.dialect.name == "sqlite" else _postgresql_transaction
    with transaction(connection):
        context.configure(
            connection=connection, render_as_batch=True, on_version_apply=attributes["step_done"]
        )
        context.run_migrations()
        attributes["finish"](connection)


run_migrations()
