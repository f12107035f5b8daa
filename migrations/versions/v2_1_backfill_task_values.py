"""2.1: every task is a value as well; those that have no value get one."""

from __future__ import annotations

import argparse
import pickle
from typing import Any

import sqlalchemy as sa
from alembic import op

from aredun.formats.hashing import hash_struct

revision = "30ffbaee18cd"
down_revision = "647c510a77b1"

BATCH = 1000
SCRIPT_TASKS = {"redun.script_task", "test_help", "test_help_debug", "test_gfetch"}

# redun makes the tasks for it of a dummy function, so their state carries the hash of this line of source.
DUMMY_SOURCE = "            func=lambda: None,\n"

task = sa.table("task", sa.column("hash"), sa.column("name"), sa.column("namespace"))
value = sa.table(
    "value",
    sa.column("value_hash"),
    sa.column("type"),
    sa.column("format"),
    sa.column("value", sa.LargeBinary()),
)


def pickle_task(name: str, namespace: str) -> bytes:
    """Return the pickle of a redun task without its function."""
    fullname = f"{namespace}.{name}" if namespace else name
    state: dict[str, Any] = {
        "name": name,
        "namespace": namespace,
        "version": None,
        "hash": hash_struct(["Task", fullname, "source", DUMMY_SOURCE]),
        "compat": [],
        "script": fullname in SCRIPT_TASKS,
        "task_options": {},
        "export_options": set(),
    }
    # A plain object of an importable class pickles to the opcodes of redun's, all but the name of the class.
    stand_in = argparse.Namespace()
    vars(stand_in).update(state)
    data = pickle.dumps(stand_in, protocol=3)
    return data.replace(b"cargparse\nNamespace\n", b"credun.task\nTask\n", 1)


def upgrade() -> None:
    """Insert the missing values, one batch in memory at a time."""
    connection = op.get_bind()
    companion = sa.select(value.c.value_hash).where(value.c.value_hash == task.c.hash)
    lonely = sa.select(task).where(~companion.exists()).order_by(task.c.hash).limit(BATCH)
    last = ""
    while rows := connection.execute(lonely.where(task.c.hash > last)).all():
        connection.execute(
            sa.insert(value),
            [
                {
                    "value_hash": row.hash,
                    "type": "redun.Task",
                    "format": "application/python-pickle",
                    "value": pickle_task(row.name, row.namespace),
                }
                for row in rows
            ],
        )
        last = rows[-1].hash


def downgrade() -> None:
    """Leave the values: they do no harm, and nothing tells them from those that were recorded."""
