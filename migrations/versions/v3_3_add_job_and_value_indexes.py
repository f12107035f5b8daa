"""3.3: indexes on the times of jobs and the types of values."""

from __future__ import annotations

from alembic import op

revision = "f68b3aaee9cc"
down_revision = "eb7b95e4e8bf"

INDEXES = [("job", "end_time"), ("job", "start_time"), ("value", "type")]


def upgrade() -> None:
    """Create the indexes."""
    for table, column in INDEXES:
        op.create_index(f"ix_{table}_{column}", table, [column])


def downgrade() -> None:
    """Drop the indexes."""
    for table, column in INDEXES:
        op.drop_index(f"ix_{table}_{column}", table_name=table)
