"""A fresh database of aredun's has redun's schema, index for index, and the models say the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from redun.backends import db as redun_db
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.schema import CreateIndex, CreateTable

from aredun.models import Base
from tests.support.schemas import aredun_migrate, fetch_all, open_connection, read_schema, redun_migrate

if TYPE_CHECKING:
    from collections.abc import Callable

    import sqlalchemy as sa


async def test_fresh_schema_is_redun_s(make_empty_database: Callable[[], str]) -> None:
    """Tables, columns, indexes, constraints, types and triggers are the same, to the letter on sqlite."""
    theirs, ours = make_empty_database(), make_empty_database()
    redun_migrate(theirs)
    await aredun_migrate(ours)
    assert read_schema(ours) == read_schema(theirs)


async def test_special_indexes(make_empty_database: Callable[[], str], dialect: str) -> None:
    """What no comparison may lose by both sides lacking it."""
    url = make_empty_database()
    await aredun_migrate(url)
    if dialect == "sqlite":
        definitions = str(fetch_all(url, "SELECT sql FROM sqlite_master"))
        assert "ON tag (tag_hash) WHERE is_current" in definitions
        assert "DEFERRABLE INITIALLY DEFERRED" in definitions
        return
    indexes = dict(fetch_all(url, "SELECT indexname, indexdef FROM pg_indexes"))
    assert "varchar_pattern_ops" in indexes["ix_job_id_vpo"]
    assert indexes["ix_tag_tag_hash_current"].endswith("WHERE is_current")
    deferred = fetch_all(url, "SELECT conname FROM pg_constraint WHERE condeferred")
    assert {name for (name,) in deferred} == {"ct_job_execution_id", "execution_job_id_fkey"}


async def test_version_tables_are_written_as_redun_does(make_empty_database: Callable[[], str]) -> None:
    """One row says which migration was last, one says which major version it made."""
    theirs, ours = make_empty_database(), make_empty_database()
    redun_migrate(theirs)
    await aredun_migrate(ours)
    for url in (theirs, ours):
        assert fetch_all(url, "SELECT version_num FROM alembic_version") == [("0bee3d6dba76",)]
        [(identifier, version)] = fetch_all(url, "SELECT id, version FROM redun_version")
        assert len(identifier) == 36
        assert version == 3


async def test_redun_opens_what_aredun_made(make_empty_database: Callable[[], str]) -> None:
    """redun finds the database compatible and does not migrate it."""
    url = make_empty_database()
    await aredun_migrate(url)
    redun_migrate(url)
    assert fetch_all(url, "SELECT count(*) FROM redun_version") == [(1,)]


def _definitions(metadata: sa.MetaData, dialect: Any) -> dict[str, set[str]]:
    """Return the lines of all definitions, without the constraint that redun's models have no name for."""
    definitions = {}
    for name, table in metadata.tables.items():
        items: list[Any] = [CreateTable(table), *map(CreateIndex, table.indexes)]
        text = "\n".join(str(item.compile(dialect=dialect)) for item in items)
        lines = {line.strip("\t ,") for line in text.splitlines()}
        definitions[name] = {line for line in lines if "FOREIGN KEY(execution_id)" not in line}
    return definitions


def test_models_define_what_redun_s_models_define() -> None:
    """Except for the name of the enum, which redun's models get wrong and its migrations get right."""
    dialects: list[Any] = [postgresql.dialect, sqlite.dialect]
    for dialect in (make() for make in dialects):
        theirs = _definitions(redun_db.Base.metadata, dialect)
        theirs["tag"] = {line.replace("tagentity ", "tagentitytype ") for line in theirs["tag"]}
        assert _definitions(Base.metadata, dialect) == theirs


async def test_models_match_the_migrated_database(
    make_empty_database: Callable[[], str], dialect: str
) -> None:
    """alembic finds no difference, comments apart: redun's migrations leave them out."""
    url = make_empty_database()
    await aredun_migrate(url)

    configure: Any = MigrationContext.configure

    def compare(connection: sa.Connection) -> list[Any]:
        options = {"compare_type": True, "compare_server_default": True}
        return list(compare_metadata(configure(connection, opts=options), Base.metadata))

    async with open_connection(url) as connection:
        differences = await connection.run_sync(compare)
    flat = [item for entry in differences for item in (entry if isinstance(entry, list) else [entry])]
    assert [item for item in flat if item[0] not in ("modify_comment", "add_fk", "remove_fk")] == []
    # redun's models make the reference to the root job deferrable, but its migration does on PostgreSQL only.
    references = [item[1] for item in flat if item[0] in ("add_fk", "remove_fk")]
    assert {(key.table.name, *key.column_keys) for key in references} == (
        {("execution", "job_id")} if dialect == "sqlite" else set()
    )
