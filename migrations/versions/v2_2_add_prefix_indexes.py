"""2.2: indexes for ids and names by their first characters, and for file paths."""

from __future__ import annotations

from alembic import op

revision = "71ec303c90e4"
down_revision = "30ffbaee18cd"

# (table, column, unique)
PREFIX_INDEXES = [
    ("call_node", "call_hash", True),
    ("execution", "id", True),
    ("job", "id", True),
    ("task", "hash", True),
    ("task", "name", False),
    ("task", "namespace", False),
    ("value", "value_hash", True),
]


def upgrade() -> None:
    """Create the indexes."""
    for table, column, unique in PREFIX_INDEXES:
        ops = {column: "varchar_pattern_ops"}
        op.create_index(f"ix_{table}_{column}_vpo", table, [column], unique=unique, postgresql_ops=ops)
    op.create_index("ix_file_path", "file", ["path"])


def downgrade() -> None:
    """Drop the indexes."""
    op.drop_index("ix_file_path", table_name="file")
    for table, column, _ in PREFIX_INDEXES:
        op.drop_index(f"ix_{table}_{column}_vpo", table_name=table)
