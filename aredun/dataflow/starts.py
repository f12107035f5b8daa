"""Where a dataflow begins, given the record that an id stands for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import sqlalchemy as sa

from aredun.dataflow.nodes import ValueRef
from aredun.errors import UsageError
from aredun.models import CallNode, Execution, Job, Task
from aredun.storage.reads import read_scalars

if TYPE_CHECKING:
    from aredun.backend import RedunBackendDb


class Start(NamedTuple):
    """Where a dataflow begins, and what its text calls that node."""

    node: ValueRef | CallNode
    name: str


async def get_start(backend: RedunBackendDb, record: Any, *, downstream: bool = False) -> Start:
    """Return where the dataflow of a record that `infer_id` found begins; of a tuple its first item counts.

    A call, a job or an execution begins at the result of its call, as `redun log` has it; downstream at the
    call itself.

    Raises
    ------
    UsageError
        A job or an execution has no call yet, or the record has no dataflow.
    """
    record = record[0] if isinstance(record, tuple) else record
    if isinstance(record, Task):
        return Start(ValueRef(record.hash), "value")
    if isinstance(record, Job | Execution | CallNode):
        call_node = await find_call(backend, record)
        if call_node is None:
            raise UsageError(
                f"This {type(record).__name__.lower()} has no result to follow: it has not finished."
            )
        return Start(call_node if downstream else ValueRef(call_node.value_hash), "result")
    value_hash = getattr(record, "value_hash", None)
    if value_hash is None:
        raise UsageError(
            f"A {type(record).__name__} has no dataflow: give a value, file, task, job, call or execution."
        )
    return Start(ValueRef(value_hash), "value")


async def find_call(backend: RedunBackendDb, record: Job | Execution | CallNode) -> CallNode | None:
    """Return the call of a record; None while its job has led to none."""
    if isinstance(record, CallNode):
        return record
    condition = Job.id == (record.id if isinstance(record, Job) else record.job_id)
    statement = sa.select(CallNode).join(Job, Job.call_hash == CallNode.call_hash).where(condition)
    found = await read_scalars(backend.database, statement)
    return found[0] if found else None
