"""What the details of a record take: arguments as text in bulk, the jobs above a job."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.orm import aliased

from aredun.formats.arguments import argument_order
from aredun.formats.describe import cut_text
from aredun.models import Argument, Execution, Job, Task
from aredun.storage.reads import read_rows, read_scalars
from aredun.tables.behaviour import PreviewValue
from aredun.tables.column_types import in_array

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from datetime import datetime

    from aredun.search.repository import Repository

# More arguments of one call are not shown.
MAX_ARGUMENTS = 50
# Characters of the arguments on the row of a job, and of each.
MAX_BRIEF, _MAX_BRIEF_ARGUMENT = 1_000, 200
# Of thousands of rows only values up to this size are read.
_MAX_BRIEF_SIZE = 4 * 1024


class Ancestor(NamedTuple):
    """A job above another: its id and the name of its task."""

    id: str
    task_name: str


async def get_arguments_texts(
    backend: Repository, call_hashes: Iterable[str | None], show: Callable[[Any], str], *, brief: bool = False
) -> dict[str, str]:
    """
    Return the arguments of many calls as texts such as `'prog', 10, extra=File(...)`.

    Parameters
    ----------
    backend : RedunBackendDb
        The repository to look in.
    call_hashes : Iterable[str | None]
        Whole hashes of call nodes; those of jobs without a call are left out.
    show : Callable[[Any], str]
        Turns the preview of a value into text; called in a thread.
    brief : bool
        Read neither values of more than 4 KiB nor the value store: it takes two statements for any number
        of calls.

    Returns
    -------
    dict[str, str]
        By call hash, positional arguments before those by keyword; calls without arguments have the empty
        text.
    """
    calls = sorted({call_hash for call_hash in call_hashes if call_hash is not None})
    if not calls:
        return {}
    columns = (Argument.call_hash, Argument.arg_position, Argument.arg_key, Argument.value_hash)
    by_call: dict[str, list[Any]] = {call_hash: [] for call_hash in calls}
    for row in await read_rows(backend.database, sa.select(*columns).where(in_array(columns[0], calls))):
        by_call[row.call_hash].append(row)
    for rows in by_call.values():
        rows.sort(key=lambda row: argument_order(row.arg_position, row.arg_key))
    return await _write_texts(backend, by_call, show, brief=brief)


async def _write_texts(
    backend: Repository, by_call: Mapping[str, Sequence[Any]], show: Callable[[Any], str], *, brief: bool
) -> dict[str, str]:
    """Return the texts of calls whose arguments are given in their order."""
    hashes = {row.value_hash for rows in by_call.values() for row in rows[:MAX_ARGUMENTS]}
    if brief:
        previews = await backend.entities.get_previews(hashes, _MAX_BRIEF_SIZE, use_store=False)
    else:
        previews = await backend.get_previews(hashes)

    def write_all() -> dict[str, str]:
        shown = {value_hash: show(preview) for value_hash, preview in previews.items()}
        return {call_hash: _write_arguments(rows, shown) for call_hash, rows in by_call.items()}

    # Writing out what thousands of values look like is work.
    return await asyncio.to_thread(write_all)


def _write_arguments(rows: Sequence[Any], shown: Mapping[str, str]) -> str:
    parts = [
        (f"{row.arg_key}=" if row.arg_position is None else "") + shown.get(row.value_hash, "?")
        for row in rows[:MAX_ARGUMENTS]
    ]
    more = len(rows) - len(parts)
    return ", ".join([*parts, f"... {more} more"] if more else parts)


async def get_brief_arguments(backend: Repository, call_hashes: Iterable[str | None]) -> dict[str, str]:
    """Return the arguments of calls as the short texts on the rows of their jobs; without a call, none."""
    found = await get_arguments_texts(backend, call_hashes, _show_argument, brief=True)
    return {call_hash: cut_text(text, MAX_BRIEF) for call_hash, text in found.items()}


async def write_brief_arguments(backend: Repository, arguments: Sequence[Argument]) -> str:
    """Return all arguments of a call, which are given in their order, as such a short text."""
    found = await _write_texts(backend, {"": arguments}, _show_argument, brief=True)
    return cut_text(found[""], MAX_BRIEF)


def _show_argument(preview: Any) -> str:
    if isinstance(preview, PreviewValue):
        # A value that was not read.
        return f"<{preview.value.type.rpartition('.')[2]} {preview.value.value_hash[:8]}>"
    return cut_text(repr(preview), _MAX_BRIEF_ARGUMENT)


async def get_ancestors(backend: Repository, job_id: str) -> list[Ancestor]:
    """
    Return the jobs above a job in one statement, its parent first and the root of the execution last.

    Parameters
    ----------
    backend : RedunBackendDb
        The repository to look in.
    job_id : str
        Whole id of the job.
    """
    start, parent = aliased(Job), aliased(Job)
    above = sa.select(start.parent_id.label("id"), sa.literal(1).label("height")).where(start.id == job_id)
    tree = above.cte("above", recursive=True)
    tree = tree.union_all(sa.select(parent.parent_id, tree.c.height + 1).join(tree, parent.id == tree.c.id))
    statement = (
        sa.select(Job.id, Task.fullname)
        .join(tree, tree.c.id == Job.id)
        .join(Task, Task.hash == Job.task_hash)
        .order_by(tree.c.height)
    )
    return [Ancestor(*row) for row in await read_rows(backend.database, statement)]


async def get_last_sign(backend: Repository, execution_id: str) -> datetime | None:
    """Return the latest heartbeat, job start or job end of an execution; None without any."""
    own = Job.execution_id == execution_id
    signs: Any = sa.union_all(
        sa.select(Execution.updated_time).where(Execution.id == execution_id),
        sa.select(sa.func.max(Job.start_time)).where(own),
        sa.select(sa.func.max(Job.end_time)).where(own),
    )
    found = await read_scalars(backend.database, signs)
    return max((sign for sign in found if sign is not None), default=None)
