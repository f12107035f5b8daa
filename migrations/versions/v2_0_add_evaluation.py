"""2.0: the cache of evaluations."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from aredun.tables.column_types import Column

revision = "647c510a77b1"
down_revision = "806f5dcb11bf"


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "evaluation",
        Column("eval_hash", sa.String(40), primary_key=True),
        Column("task_hash", sa.String(40)),
        Column("args_hash", sa.String(40)),
        Column("value_hash", sa.String(40)),
        sa.ForeignKeyConstraint(["task_hash"], ["task.hash"]),
        sa.ForeignKeyConstraint(["value_hash"], ["value.value_hash"]),
    )
    op.create_index("ix_evaluation_task_hash", "evaluation", ["task_hash"])
    op.create_index("ix_evaluation_value_hash", "evaluation", ["value_hash"])


def downgrade() -> None:
    """Drop the table, and the cache with it."""
    op.drop_table("evaluation")
