"""3.0: every job belongs to an execution; root jobs without one get a stub."""

from __future__ import annotations

import uuid

import sqlalchemy as sa
from alembic import op

revision = "cd2d53191748"
down_revision = "d4af139b6f53"

BATCH = 1000
STUB_ARGS = '"Stub Execution"'

job = sa.table("job", sa.column("id"), sa.column("parent_id"), sa.column("execution_id"))
execution = sa.table("execution", sa.column("id"), sa.column("args"), sa.column("job_id"))


def _insert_stub_executions(connection: sa.Connection) -> None:
    started = sa.select(execution.c.id).where(execution.c.job_id == job.c.id).exists()
    orphans = sa.select(job.c.id).where(job.c.parent_id.is_(None), ~started).order_by(job.c.id).limit(BATCH)
    last = ""
    while job_ids := connection.scalars(orphans.where(job.c.id > last)).all():
        connection.execute(
            sa.insert(execution),
            [{"id": str(uuid.uuid4()), "args": STUB_ARGS, "job_id": job_id} for job_id in job_ids],
        )
        last = job_ids[-1]


def _fill_execution_ids(connection: sa.Connection) -> None:
    """Hand each execution's id down the tree of its jobs, within the database."""
    family = (
        sa.select(execution.c.job_id.label("job_id"), sa.func.min(execution.c.id).label("execution_id"))
        .group_by(execution.c.job_id)
        .cte("root")
    )
    tree = sa.select(family.c.job_id, family.c.execution_id).cte("tree", recursive=True)
    child = job.alias("child")
    tree = tree.union(sa.select(child.c.id, tree.c.execution_id).where(child.c.parent_id == tree.c.job_id))
    connection.execute(
        sa.update(job).values(execution_id=tree.c.execution_id).where(job.c.id == tree.c.job_id)
    )


def upgrade() -> None:
    """Fill the column, then forbid NULL in it."""
    connection = op.get_bind()
    _insert_stub_executions(connection)
    _fill_execution_ids(connection)
    if connection.dialect.name == "postgresql":
        # A table whose deferred checks are pending cannot be altered.
        op.execute("SET CONSTRAINTS ALL IMMEDIATE")
    with op.batch_alter_table("job") as batch:
        batch.alter_column("execution_id", existing_type=sa.String(), nullable=False)


def downgrade() -> None:
    """Allow NULL again; what was filled in stays."""
    with op.batch_alter_table("job") as batch:
        batch.alter_column("execution_id", existing_type=sa.String(), nullable=True)
