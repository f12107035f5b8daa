"""Finding records by a part of a task's name, a file's path, a tag or an argument, among the newest."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any, NamedTuple

import sqlalchemy as sa

from aredun.models import Argument, CallNode, Execution, File, Job, Subvalue, Tag, Task
from aredun.query import CallGraphQuery
from aredun.search.identify import get_key, leave_out_task_values
from aredun.server.finding import find_matches, identify
from aredun.server.records import get_arguments
from aredun.storage.reads import read_rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aredun.backend import RedunBackendDb

# No index of redun's tables serves a part of a text, so these bound the rows that a search looks at.
MAX_JOBS = 2_000
MAX_EXECUTIONS = 500
MAX_TASKS = 10_000
MAX_PARTS = 20_000
MAX_TAGS = 10_000
MAX_CALLS = 300
BOUND = f"Parts of texts: among the newest {MAX_JOBS:,} jobs, of arguments the newest {MAX_CALLS}"


class Found(NamedTuple):
    """The records that a text fits, what of each it fits, and whether there is more than was looked at."""

    records: list[Any]
    reasons: list[str | None]
    is_bounded: bool


async def search(backend: RedunBackendDb, text: str, limit: int) -> Found:
    """Return the records whose id, name or path begins with a text, then those of which it is a part.

    Parameters
    ----------
    backend : RedunBackendDb
        The repository.
    text : str
        What somebody types. Of parts, upper and lower case do not differ.
    limit : int
        How many records to return at most.
    """
    records = await find_matches(backend, text, limit)
    reasons: list[str | None] = [None] * len(records)
    text = text.strip()
    if len(records) >= limit or len(text) < 2 or text[0] in "-~":
        return Found(records, reasons, is_bounded=False)
    jobs = await read_rows(backend.database, _select_jobs(MAX_JOBS + 1))
    tasks, many_tasks = await _find_tasks(backend, text, limit)
    tags, many_tags = await _find_tags(backend, text)
    files, many_files = await _find_files(backend, text, limit)
    calls = await _find_arguments(backend, text, jobs[:MAX_CALLS])
    fits: dict[str, str | None] = {**calls, **dict.fromkeys(files), **tags, **dict.fromkeys(tasks)}
    # The last that was merged tells why; the first place is that of names, then tags, paths and arguments.
    order = list(dict.fromkeys([*tasks, *tags, *files, *calls]))
    known = {identify(record) for record in records}
    for record in await _load(backend, order[: 2 * limit]):
        if identify(record) not in known and len(records) < limit:
            records.append(record)
            reasons.append(fits[get_key(record)])
    is_bounded = len(jobs) > MAX_CALLS or many_tasks or many_tags or many_files
    return Found(records, reasons, is_bounded)


async def _load(backend: RedunBackendDb, keys: Sequence[str]) -> list[Any]:
    """Return the records of any type with these keys, in their order."""
    if not keys:
        return []
    # A task is a value too, under the same hash.
    found = [record async for record in CallGraphQuery(backend).filter_ids(keys).limit(2 * len(keys))]
    place = {key: number for number, key in enumerate(keys)}
    return sorted(leave_out_task_values(found), key=lambda record: place[get_key(record)])


def _select_jobs(limit: int) -> sa.Select[Any]:
    """Return the select of the jobs that started last."""
    columns: tuple[Any, ...] = (Job.id, Job.call_hash, Job.task_hash, Job.start_time)
    return sa.select(*columns).order_by(Job.start_time.desc()).limit(limit)


async def _find_tasks(backend: RedunBackendDb, text: str, limit: int) -> tuple[list[str], bool]:
    """Return the hashes of tasks by a part of their name, and whether there are too many to look at all."""
    some = sa.select(Task.hash, Task.namespace, Task.name).limit(MAX_TASKS).cte("some")
    count = sa.select(sa.func.count().label("number")).select_from(some).cte("counted")
    name = sa.case((some.c.namespace == "", some.c.name), else_=some.c.namespace + "." + some.c.name)
    fits = name.icontains(text, autoescape=True)
    query = sa.select(count.c.number, some.c.hash).select_from(count.outerjoin(some, fits))
    rows = await read_rows(backend.database, query.order_by(name, some.c.hash).limit(limit))
    return [row.hash for row in rows if row.hash], rows[0].number >= MAX_TASKS


def _select_values() -> tuple[Any, Any]:
    """Return the newest jobs, and the values that they took and returned with when that was last."""
    jobs = _select_jobs(MAX_JOBS).cte("newest").prefix_with("MATERIALIZED")
    results = sa.select(CallNode.value_hash, jobs.c.start_time).join(
        jobs, jobs.c.call_hash == CallNode.call_hash
    )
    taken = sa.select(Argument.value_hash, jobs.c.start_time).join(
        jobs, jobs.c.call_hash == Argument.call_hash
    )
    both = sa.union_all(results, taken).cte("both")
    last = sa.func.max(both.c.start_time).label("last")
    values = sa.select(both.c.value_hash, last).group_by(both.c.value_hash).cte("used")
    return jobs, values.prefix_with("MATERIALIZED")


async def _find_files(backend: RedunBackendDb, text: str, limit: int) -> tuple[list[str], bool]:
    """Return the hashes of files by a part of their path, and whether there are too many parts to look at."""
    _, values = _select_values()
    parts = sa.select(Subvalue.value_hash, values.c.last)
    parts = parts.join(values, values.c.value_hash == Subvalue.parent_value_hash)
    parts = parts.order_by(values.c.last.desc()).limit(MAX_PARTS)
    part = parts.cte("part").prefix_with("MATERIALIZED")
    count = sa.select(sa.func.count().label("number")).select_from(part).cte("counted")
    held = sa.union_all(sa.select(values), sa.select(part)).cte("held")
    last = sa.func.max(held.c.last).label("last")
    files = sa.select(File.value_hash, last).join(held, held.c.value_hash == File.value_hash)
    files = files.where(File.path.icontains(text, autoescape=True)).group_by(File.value_hash)
    made = files.order_by(last.desc(), File.value_hash).limit(limit).cte("made")
    query = sa.select(count.c.number, made.c.value_hash).select_from(count.outerjoin(made, sa.true()))
    rows = await read_rows(backend.database, query.order_by(made.c.last.desc(), made.c.value_hash))
    return [row.value_hash for row in rows if row.value_hash], rows[0].number >= MAX_PARTS


async def _find_tags(backend: RedunBackendDb, text: str) -> tuple[dict[str, str], bool]:
    """Return tags as texts by what they hang on, and whether there are too many to look at all."""
    jobs, values = _select_values()
    root = sa.select(Execution.id, Job.start_time).join(Job, Job.id == Execution.job_id)
    root = root.order_by(Job.start_time.desc()).limit(MAX_EXECUTIONS)
    parts = [sa.select(jobs.c[name], jobs.c.start_time) for name in ("id", "call_hash", "task_hash")]
    tagged = sa.union_all(sa.select(root.cte("roots")), *parts, sa.select(values)).cte("tagged")
    key, last = tagged.c[0], sa.func.max(tagged.c[1]).label("last")
    some = sa.select(key.label("key"), last).group_by(key).cte("some").prefix_with("MATERIALIZED")
    query = sa.select(Tag.entity_id, Tag.key, Tag.value).join(some, some.c.key == Tag.entity_id)
    query = query.where(Tag.is_current).order_by(some.c.last.desc(), Tag.key).limit(MAX_TAGS)
    rows = await read_rows(backend.database, query)

    def choose() -> dict[str, str]:
        found: dict[str, str] = {}
        for row in rows:
            value = row.value if isinstance(row.value, str) else json.dumps(row.value, ensure_ascii=False)
            shown = f"{row.key}={value}"
            if text.casefold() in shown.casefold():
                found.setdefault(row.entity_id, shown)
        return found

    # sqlite keeps tags as JSON with escapes, in which no LIKE finds what a person types.
    return await asyncio.to_thread(choose), len(rows) >= MAX_TAGS


async def _find_arguments(backend: RedunBackendDb, text: str, jobs: Sequence[Any]) -> dict[str, str]:
    """Return the arguments, as short texts, of the jobs that a part of them fits."""
    texts = await get_arguments(backend, jobs)
    shown = {job.id: texts.get(job.call_hash or "", "") for job in jobs}
    return {job_id: words for job_id, words in shown.items() if text.casefold() in words.casefold()}
