"""Finding records by a part of a task's name, a file's path, a tag or an argument, among the newest."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

import sqlalchemy as sa

from aredun.models import File, Job, Tag, Task, Value
from aredun.search.call_texts import get_brief_arguments
from aredun.search.identify import describe, get_key, infer_specialty_id, leave_out_task_values
from aredun.search.query import CallGraphQuery
from aredun.search.records import read_records
from aredun.storage.reads import read_rows
from aredun.storage.recorded import find_recorded
from aredun.tables.column_types import TagEntity, starts_with

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aredun.search.repository import Repository

# A search looks at no more rows: no index of redun's tables serves a part of a text.
MAX_TASKS = 10_000
MAX_FILES = 100_000
MAX_TAGS = 20_000
MAX_CALLS = 500
# Less of a path fits too many files to be worth looking.
_MIN_PATH = 3
# The database compares less of a tag than is shown, so some tags that it finds do not fit.
_MAX_LIKELY_TAGS = 500
# LIKE patterns of what JSON writes for a letter, and for one beyond the first 65,536.
_ESCAPED = (r"\\u____", r"\\u____\\u____")

# The type and the id of a record, and the tag or the arguments that fit; None for its name or path.
Hit = tuple[tuple[str, str], str | None]


class Found(NamedTuple):
    """The records that a text fits, what of each it fits, and what was looked at if that is not all."""

    records: list[Any]
    reasons: list[str | None]
    bound: str | None


async def find_matches(backend: Repository, prefix: str, limit: int) -> list[Any]:
    """Return the first records whose id begins with a text, then tasks whose name and files whose path do."""
    prefix = prefix.strip()
    if prefix[0] in "-~":
        special = await infer_specialty_id(backend, prefix, include_files=False)
        return [] if special is None else [special]
    query = CallGraphQuery(backend, order_by="time").like_id(prefix)
    found = [record async for record in query.limit(limit)]
    namespace, _, name = prefix.rpartition(".")
    if name or namespace:
        names = sa.select(Task.hash.label("pk")).where(starts_with(Task.name, name))
        names = names.where(Task.namespace == namespace) if namespace else names
        names = names.order_by(Task.name, Task.hash).limit(limit)
        found += await read_records(backend, Task, names, Task.name, Task.hash)
    if len(prefix) >= _MIN_PATH:
        paths = sa.select(File.value_hash.label("pk")).where(starts_with(File.path, prefix))
        paths = paths.order_by(File.path, File.value_hash).limit(limit)
        found += await read_records(backend, Value, paths, Value.value_hash)
    first: dict[str, Any] = {}
    for record in found:
        first.setdefault(describe(record), record)
    return leave_out_task_values(list(first.values()))[:limit]


async def search(backend: Repository, text: str, limit: int) -> Found:
    """Return the records whose id, name or path begins with a text, then those of which it is a part.

    Names are searched first, then tags, paths and arguments, until there are as many as are wanted.

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
        return Found(records, reasons, None)
    known = {(type(record).__name__, get_key(record)) for record in records}
    fits: dict[tuple[str, str], str | None] = {}
    bounds: list[str] = []
    # Of one that fits in several ways, the first is told.
    for find, words in _WAYS:
        hits, looked_at = await find(backend, text, limit)
        for key, reason in hits:
            if key not in known:
                fits.setdefault(key, reason)
        if looked_at is not None:
            bounds.append(words.format(looked_at))
        if len(records) + len(fits) >= limit:
            break
    for record in (await _load(backend, list(fits)[:limit]))[: limit - len(records)]:
        records.append(record)
        reasons.append(fits[type(record).__name__, get_key(record)])
    return Found(records, reasons, f"Parts of texts: searched {', '.join(bounds)}" if bounds else None)


async def _load(backend: Repository, keys: Sequence[tuple[str, str]]) -> list[Any]:
    """Return the records with these types and keys, in their order."""
    if not keys:
        return []
    query = CallGraphQuery(backend).filter_types({kind for kind, _ in keys})
    # A task is a value too, under the same hash.
    found = [record async for record in query.filter_ids([key for _, key in keys]).limit(2 * len(keys))]
    place = {key: number for number, (_, key) in enumerate(keys)}
    return sorted(leave_out_task_values(found), key=lambda record: place[get_key(record)])


def _escape(text: str) -> str:
    """Return the LIKE pattern that stands for a text."""
    return "".join(f"\\{letter}" if letter in "\\%_" else letter for letter in text)


async def _find_tasks(backend: Repository, text: str, limit: int) -> tuple[list[Hit], int | None]:
    """Return tasks by a part of their name, and how many were looked at if not all."""
    fits = Task.fullname.icontains(text, autoescape=True)
    seen = await find_recorded(backend.database, [Task.hash], fits, MAX_TASKS, limit)
    return [(("Task", row.hash), None) for row in seen.rows], seen.looked_at


async def _find_files(backend: Repository, text: str, limit: int) -> tuple[list[Hit], int | None]:
    """Return files by a part of their path, and how many were looked at if not all."""
    fits = File.path.icontains(text, autoescape=True)
    seen = await find_recorded(backend.database, [File.value_hash], fits, MAX_FILES, limit)
    return [(("Value", row.value_hash), None) for row in seen.rows], seen.looked_at


async def _find_tags(backend: Repository, text: str, _: int) -> tuple[list[Hit], int | None]:
    """Return what tags hang on, with the tags as texts, and how many were looked at if not all."""
    unescaped = sa.type_coerce(Tag.value, sa.JSON)[()].as_string()
    pattern = "".join(_escape(letter) if letter.isascii() else "_" for letter in text)
    # Lists and mappings stay JSON, which sqlite has without blanks and with escapes for other letters.
    letters = text.replace(" ", "")
    stored = "".join(
        _escape(letter) if letter.isascii() else _ESCAPED[letter > "\uffff"] for letter in letters
    )
    fits = (Tag.key + "=" + unescaped).ilike(f"%{pattern}%", escape="\\")
    written = sa.func.replace(Tag.key + "=" + sa.cast(Tag.value, sa.Text), " ", "")
    fits |= written.ilike(f"%{stored}%", escape="\\")
    columns = [Tag.entity_type, Tag.entity_id, Tag.key, Tag.value]
    likely = Tag.is_current & fits
    seen = await find_recorded(backend.database, columns, likely, MAX_TAGS, _MAX_LIKELY_TAGS)
    found: list[Hit] = []
    for row in seen.rows:
        value = row.value if isinstance(row.value, str) else json.dumps(row.value, ensure_ascii=False)
        # A tag of nothing stands for tags that were deleted.
        if row.entity_type != TagEntity.Null and text.casefold() in f"{row.key}={value}".casefold():
            found.append(((row.entity_type.name, row.entity_id), f"{row.key}={value}"))
    return found, seen.looked_at


async def _find_arguments(backend: Repository, text: str, _: int) -> tuple[list[Hit], int | None]:
    """Return the newest jobs, with their arguments as short texts, that a part of these fits."""
    columns: tuple[Any, ...] = (Job.id, Job.call_hash)
    newest = sa.select(*columns).order_by(Job.start_time.desc()).limit(MAX_CALLS + 1)
    jobs = await read_rows(backend.database, newest)
    texts = await get_brief_arguments(backend, [job.call_hash for job in jobs[:MAX_CALLS]])
    shown = [(job.id, texts.get(job.call_hash or "", "")) for job in jobs[:MAX_CALLS]]
    hits: list[Hit] = [(("Job", key), words) for key, words in shown if text.casefold() in words.casefold()]
    return hits, MAX_CALLS if len(jobs) > MAX_CALLS else None


_WAYS = (
    (_find_tasks, "the newest {:,} tasks"),
    (_find_tags, "the newest {:,} tags"),
    (_find_files, "the newest {:,} files"),
    (_find_arguments, "the arguments of the newest {:,} jobs"),
)
