"""2.3: a job knows its execution."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "d4af139b6f53"
down_revision = "71ec303c90e4"


def upgrade() -> None:
    """Add the column; an execution and its root job refer to each other: the checks wait for the commit."""
    with op.batch_alter_table("job") as job:
        job.add_column(sa.Column("execution_id", sa.String(), nullable=True))
        job.create_index("ix_job_execution_id", ["execution_id"])
        job.create_foreign_key(
            "ct_job_execution_id",
            "execution",
            ["execution_id"],
            ["id"],
            deferrable=True,
            initially="DEFERRED",
        )
    if op.get_bind().dialect.name == "postgresql":
        op.execute(
            "ALTER TABLE execution ALTER CONSTRAINT execution_job_id_fkey DEFERRABLE INITIALLY DEFERRED"
        )


def downgrade() -> None:
    """Drop the column; the constraint of `execution` stays deferrable, as redun leaves it."""
    with op.batch_alter_table("job") as job:
        job.drop_constraint("ct_job_execution_id", type_="foreignkey")
        job.drop_index("ix_job_execution_id")
        job.drop_column("execution_id")
