"""1.0: the tables of tasks, values, calls, jobs, executions and handles."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from aredun.tables.column_types import Column

revision = "806f5dcb11bf"
down_revision = None

HASH = sa.String(40)


def _reference(column: str, target: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint([column], [target])


# In the order of creation; references come last, in redun's order. alembic loads this file anew for every
# migration, so the columns and constraints are not used twice.
TABLES: dict[str, list[Column | sa.Constraint]] = {
    "redun_version": [
        Column("id", sa.String(), primary_key=True),
        Column("version", sa.Integer()),
        Column("timestamp", sa.DateTime()),
    ],
    "task": [
        Column("hash", HASH, primary_key=True),
        Column("name", sa.String()),
        Column("namespace", sa.String()),
        Column("source", sa.String()),
    ],
    "value": [
        Column("value_hash", HASH, primary_key=True),
        Column("type", sa.String(100)),
        Column("format", sa.String(100)),
        Column("value", sa.LargeBinary()),
    ],
    "call_node": [
        Column("call_hash", HASH, primary_key=True),
        Column("task_name", sa.String(1024)),
        Column("task_hash", HASH),
        Column("args_hash", HASH),
        Column("value_hash", HASH),
        Column("timestamp", sa.DateTime()),
        _reference("task_hash", "task.hash"),
        _reference("value_hash", "value.value_hash"),
    ],
    "file": [
        Column("value_hash", HASH, primary_key=True),
        Column("path", sa.String(1024)),
        _reference("value_hash", "value.value_hash"),
    ],
    "handle": [
        Column("hash", HASH, primary_key=True),
        Column("fullname", sa.String(1024)),
        Column("value_hash", HASH),
        Column("key", sa.String(1024)),
        Column("is_valid", sa.Boolean()),
        _reference("value_hash", "value.value_hash"),
    ],
    "subvalue": [
        Column("value_hash", HASH, primary_key=True),
        Column("parent_value_hash", HASH, primary_key=True),
        _reference("parent_value_hash", "value.value_hash"),
        _reference("value_hash", "value.value_hash"),
    ],
    "argument": [
        Column("arg_hash", HASH, primary_key=True),
        Column("call_hash", HASH),
        Column("value_hash", HASH),
        Column("arg_position", sa.Integer(), nullable=True),
        Column("arg_key", sa.String(100), nullable=True),
        _reference("call_hash", "call_node.call_hash"),
        _reference("value_hash", "value.value_hash"),
    ],
    "call_edge": [
        Column("parent_id", HASH, primary_key=True),
        Column("child_id", HASH, primary_key=True),
        Column("call_order", sa.Integer(), primary_key=True, autoincrement=False),
        _reference("child_id", "call_node.call_hash"),
        _reference("parent_id", "call_node.call_hash"),
    ],
    "call_subtree_task": [
        Column("call_hash", HASH, primary_key=True),
        Column("task_hash", HASH, primary_key=True),
        _reference("call_hash", "call_node.call_hash"),
        _reference("task_hash", "task.hash"),
    ],
    "handle_edge": [
        Column("parent_id", HASH, primary_key=True),
        Column("child_id", HASH, primary_key=True),
        _reference("child_id", "handle.hash"),
        _reference("parent_id", "handle.hash"),
    ],
    "job": [
        Column("id", sa.String(), primary_key=True),
        Column("start_time", sa.DateTime()),
        Column("end_time", sa.DateTime(), nullable=True),
        Column("task_hash", HASH),
        Column("cached", sa.Boolean()),
        Column("call_hash", HASH, nullable=True),
        Column("parent_id", sa.String(), nullable=True),
        _reference("call_hash", "call_node.call_hash"),
        _reference("parent_id", "job.id"),
        _reference("task_hash", "task.hash"),
    ],
    "argument_result": [
        Column("arg_hash", HASH, primary_key=True),
        Column("result_call_hash", HASH, primary_key=True),
        _reference("arg_hash", "argument.arg_hash"),
        _reference("result_call_hash", "call_node.call_hash"),
    ],
    "execution": [
        Column("id", sa.String(), primary_key=True),
        Column("args", sa.String()),
        Column("job_id", sa.String()),
        _reference("job_id", "job.id"),
    ],
}

INDEXED = {
    "call_node": ["task_hash", "value_hash"],
    "handle": ["fullname", "value_hash"],
    "subvalue": ["parent_value_hash", "value_hash"],
    "argument": ["call_hash", "value_hash"],
    "call_edge": ["child_id", "parent_id"],
    "call_subtree_task": ["call_hash", "task_hash"],
    "handle_edge": ["child_id", "parent_id"],
    "job": ["call_hash", "parent_id", "task_hash"],
    "argument_result": ["arg_hash", "result_call_hash"],
    "execution": ["job_id"],
}


def upgrade() -> None:
    """Create the tables and the indexes on their references."""
    for table, items in TABLES.items():
        op.create_table(table, *items)
        for column in INDEXED.get(table, []):
            op.create_index(f"ix_{table}_{column}", table, [column])


def downgrade() -> None:
    """Drop everything."""
    for table in reversed(TABLES):
        op.drop_table(table)
