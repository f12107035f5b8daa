"""Selects of a model that a `CallGraphQuery` chooses its records from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from aredun.models import Job, Subvalue, Task, Value
from aredun.search.task_history import select_fullname
from aredun.tables.column_types import starts_with

if TYPE_CHECKING:
    from sqlalchemy import Select


def select_started(job_id: str) -> Select[Any]:
    """Return the select of the jobs that a job started."""
    return sa.select(Job).where(Job.parent_id == job_id)


def select_by_part(execution_id: str, text: str) -> Select[Any]:
    """Return the select of an execution's jobs by a part of a task's name, or the beginning of an id."""
    text = text.strip()
    fits = select_fullname(Task).icontains(text, autoescape=True) | starts_with(Job.id, text.lower())
    return sa.select(Job).join(Task, Task.hash == Job.task_hash).where(Job.execution_id == execution_id, fits)


def select_inside(value_hash: str) -> Select[Any]:
    """Return the select of the values inside a value."""
    inside = sa.select(Subvalue.value_hash).where(Subvalue.parent_value_hash == value_hash)
    return sa.select(Value).where(Value.value_hash.in_(inside))
