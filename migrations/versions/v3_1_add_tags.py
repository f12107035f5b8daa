"""3.1: tags and their history."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from aredun.tables.column_types import Column

revision = "cc4f663817b6"
down_revision = "cd2d53191748"

ENTITY_TYPES = ("Execution", "Job", "CallNode", "Task", "Value", "Null")
entity_type = postgresql.ENUM(*ENTITY_TYPES, name="tagentitytype", create_type=False)


def upgrade() -> None:
    """Create the tables; a type that a downgrade by redun has left behind is used again."""
    json_type: sa.types.TypeEngine[Any] = sa.String()
    enum_type: sa.types.TypeEngine[Any] = sa.Enum(*ENTITY_TYPES, name="tagentitytype")
    if op.get_bind().dialect.name == "postgresql":
        entity_type.create(op.get_bind(), checkfirst=True)
        json_type, enum_type = postgresql.JSONB(), entity_type

    op.create_table(
        "tag",
        Column("tag_hash", sa.String(40), primary_key=True),
        Column("entity_type", enum_type),
        Column("entity_id", sa.String()),
        Column("key", sa.String()),
        Column("value", json_type),
        Column("is_current", sa.Boolean()),
    )
    for column in ("entity_id", "key", "value"):
        op.create_index(f"ix_tag_{column}", "tag", [column])
    current = sa.text("is_current")
    op.create_index(
        "ix_tag_tag_hash_current",
        "tag",
        ["tag_hash"],
        unique=True,
        postgresql_where=current,
        sqlite_where=current,
    )
    op.create_table(
        "tag_edit",
        Column("parent_id", sa.String(), primary_key=True),
        Column("child_id", sa.String(), primary_key=True),
        sa.ForeignKeyConstraint(["child_id"], ["tag.tag_hash"]),
        sa.ForeignKeyConstraint(["parent_id"], ["tag.tag_hash"]),
    )


def downgrade() -> None:
    """Drop the tables, and on PostgreSQL the type of the entities with them."""
    op.drop_table("tag_edit")
    op.drop_table("tag")
    if op.get_bind().dialect.name == "postgresql":
        entity_type.drop(op.get_bind(), checkfirst=True)
