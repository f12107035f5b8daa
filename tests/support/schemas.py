"""Databases at every version: made by redun or by aredun, and read back without either."""

from __future__ import annotations

import re
import sqlite3
from contextlib import asynccontextmanager, closing, contextmanager
from typing import TYPE_CHECKING, Any

import psycopg2
from redun.backends import db as redun_db
from sqlalchemy.ext.asyncio import create_async_engine

from aredun.storage.migrate import migrate
from tests.support.databases import redun_uri

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from sqlalchemy.ext.asyncio import AsyncConnection

    from aredun.formats.versions import DBVersionInfo

PG_SCHEMA = {
    "columns": """
        SELECT c.relname, a.attnum, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull,
               pg_get_expr(d.adbin, d.adrelid), col_description(c.oid, a.attnum)
        FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
        LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
        WHERE c.relkind = 'r' AND c.relnamespace = 'public'::regnamespace
          AND a.attnum > 0 AND NOT a.attisdropped""",
    "indexes": "SELECT tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'",
    "constraints": """
        SELECT conrelid::regclass::text, conname, condeferrable, condeferred, convalidated,
               pg_get_constraintdef(oid)
        FROM pg_constraint WHERE connamespace = 'public'::regnamespace""",
    "enums": """
        SELECT t.typname, e.enumsortorder, e.enumlabel
        FROM pg_type t JOIN pg_enum e ON e.enumtypid = t.oid""",
    "triggers": "SELECT tgname, pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal",
    "functions": """
        SELECT proname, prorettype::regtype::text, prolang::text FROM pg_proc
        WHERE pronamespace = 'public'::regnamespace""",
    "comments": "SELECT obj_description(oid) FROM pg_class WHERE relnamespace = 'public'::regnamespace",
}


@contextmanager
def raw_connection(url: str) -> Iterator[Any]:
    """Open the database with its driver alone; commits at the end."""
    connection: Any
    if url.startswith("sqlite"):
        connection = sqlite3.connect(url.removeprefix("sqlite:///"))
    else:
        connection = psycopg2.connect(url)
    with closing(connection):
        yield connection
        connection.commit()


def fetch_all(url: str, statement: str) -> list[tuple[Any, ...]]:
    """Return the rows of one statement; changes are committed."""
    with raw_connection(url) as connection:
        cursor = connection.cursor()
        cursor.execute(statement)
        return [tuple(row) for row in cursor.fetchall()] if cursor.description else []


def insert_rows(url: str, rows: dict[str, list[dict[str, Any]]]) -> None:
    """Insert rows into tables, in the order given."""
    with raw_connection(url) as connection:
        cursor = connection.cursor()
        mark = "?" if url.startswith("sqlite") else "%s"
        for table, records in rows.items():
            for record in records:
                names = ", ".join(f'"{name}"' for name in record)
                marks = ", ".join([mark] * len(record))
                cursor.execute(f"INSERT INTO {table} ({names}) VALUES ({marks})", list(record.values()))


def _normalise(definition: str) -> str:
    """Sort a table's constraints: alembic rebuilds a table with them in the order of a set."""
    text = re.sub(r"\s+", " ", definition)
    head, parenthesis, body = text.partition(" ( ")
    items = [item.strip() for item in re.split(r", (?![^(]*\))", body.removesuffix(")").strip())]
    columns = [item for item in items if not re.match("CONSTRAINT|FOREIGN|PRIMARY", item)]
    return head + parenthesis + ", ".join(columns + sorted(set(items) - set(columns)))


def read_schema(url: str) -> Any:
    """Return all that defines the schema; attribute numbers, which tell of dropped columns, become ranks."""
    if url.startswith("sqlite"):
        master = fetch_all(url, "SELECT type, name, tbl_name, sql FROM sqlite_master")
        return sorted((*row[:3], _normalise(row[3] or "")) for row in master)
    schema = {kind: sorted(fetch_all(url, statement), key=repr) for kind, statement in PG_SCHEMA.items()}
    schema["columns"] = [(row[0], *row[2:]) for row in schema["columns"]]
    return schema


def read_rows(url: str) -> dict[str, list[dict[str, Any]]]:
    """Return the rows of all tables of redun; random ids of stub executions are replaced by their job's."""
    tables = [row[0] for row in fetch_all(url, LIST_TABLES[url.startswith("sqlite")])]
    rows: dict[str, list[dict[str, Any]]] = {}
    for table in tables:
        with raw_connection(url) as connection:
            cursor = connection.cursor()
            cursor.execute(f'SELECT * FROM "{table}"')
            names = [column[0] for column in cursor.description]
            rows[table] = [
                {
                    name: bytes(cell) if isinstance(cell, memoryview) else cell
                    for name, cell in zip(names, row, strict=True)
                }
                for row in cursor.fetchall()
            ]
    stubs = {
        row["id"]: f"stub of {row['job_id']}" for row in rows.get("execution", []) if "Stub" in row["args"]
    }
    for row in rows.get("execution", []):
        row["id"] = stubs.get(row["id"], row["id"])
    for row in rows.get("job", []):
        if "execution_id" in row:
            row["execution_id"] = stubs.get(row["execution_id"], row["execution_id"])
    rows["redun_version"] = [{"version": row["version"]} for row in rows.get("redun_version", [])]
    return {table: sorted(found, key=repr) for table, found in rows.items()}


LIST_TABLES = {
    True: "SELECT name FROM sqlite_master WHERE type = 'table'",
    False: "SELECT tablename FROM pg_tables WHERE schemaname = 'public'",
}


def redun_migrate(url: str, version: DBVersionInfo | None = None) -> None:
    """Migrate with redun's own backend."""
    backend = redun_db.RedunBackendDb(db_uri=redun_uri(url))
    backend.create_engine()
    try:
        backend.migrate(redun_db.DBVersionInfo(*version) if version else None)
    finally:
        assert backend.session is not None
        backend.session.close()
        backend.engine.dispose()


@asynccontextmanager
async def open_connection(url: str) -> AsyncIterator[AsyncConnection]:
    """Open the database with a plain engine of SQLAlchemy."""
    url = url.replace("sqlite:", "sqlite+aiosqlite:").replace("postgresql:", "postgresql+asyncpg:")
    engine = create_async_engine(url)
    try:
        async with engine.connect() as connection:
            yield connection
    finally:
        await engine.dispose()


async def aredun_migrate(url: str, version: DBVersionInfo | None = None) -> DBVersionInfo:
    """Migrate with aredun, on a connection of its own."""
    async with open_connection(url) as connection:
        return await migrate(connection, version)
