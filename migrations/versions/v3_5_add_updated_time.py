"""3.5: an execution has a heartbeat."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0bee3d6dba76"
down_revision = "3b0a6e67cc58"


def upgrade() -> None:
    """Add the column."""
    op.add_column("execution", sa.Column("updated_time", sa.DateTime(timezone=True), nullable=True))


def downgrade() -> None:
    """Drop the column."""
    with op.batch_alter_table("execution") as execution:
        execution.drop_column("updated_time")
