"""Finding the record that somebody means: by the beginning of an id, `-` and `~2`, a name, or a path."""

from __future__ import annotations

import asyncio
import os
import re
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, overload

import sqlalchemy as sa

from aredun.errors import AmbiguousIdError, UnknownIdError, UsageError
from aredun.formats import statuses
from aredun.formats.spelling import ask_whether, spell_id, spell_path
from aredun.formats.tag_syntax import is_storable_text
from aredun.models import Argument, CallNode, Execution, File, Job, Subvalue, Task, Value
from aredun.search.conditions import among
from aredun.search.filters import filter_id_prefix, took_one_of
from aredun.search.records import PRIMARY_KEYS, ModelMaker, Record, get_reader, read_records
from aredun.search.records import get_key as get_key
from aredun.search.scan import Scan
from aredun.search.statements import ScanPlan, bound_sources, count_sources
from aredun.search.suggestions import suggest
from aredun.storage.reads import read_scalars
from aredun.tables.column_types import in_array

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sqlalchemy import Select

    from aredun.search.conditions import Condition
    from aredun.search.repository import Repository

FileUse = tuple[File, Job, str]

_FILES = ModelMaker(File)
_MAX_INDEX_LENGTH = 16


@overload
async def infer_id(
    backend: Repository, id: str, include_files: Literal[False], required: Literal[True]
) -> Record: ...
@overload
async def infer_id(
    backend: Repository, id: str, include_files: Literal[False], required: Literal[False] = False
) -> Record | None: ...
@overload
async def infer_id(
    backend: Repository, id: str, include_files: bool = True, *, required: Literal[True]
) -> Record | FileUse: ...
@overload
async def infer_id(
    backend: Repository, id: str, include_files: bool = True, required: bool = False
) -> Record | FileUse | None: ...
async def infer_id(
    backend: Repository,
    id: str,  # the reference's name
    include_files: bool = True,
    required: bool = False,
) -> Record | FileUse | None:
    """
    Find the record that an id stands for (mirrors redun's `infer_id`).

    Parameters
    ----------
    backend : RedunBackendDb
        The repository to look in.
    id : str
        The beginning of an id, the name of a task with its namespace or without, the path of a file, or
        what else `infer_specialty_id` takes. Blanks around it and upper case in hashes do not count.
    include_files : bool
        Whether it may be the path of a file.
    required : bool
        Whether there must be exactly one record.

    Returns
    -------
    Execution | Job | CallNode | Task | Value | tuple[File, Job, str] | None
        The record; for a path what `find_file` returns. Without `required` the first one of several
        (executions, jobs, call nodes, tasks, values, each by id) and None when there is none.

    Raises
    ------
    UsageError
        When the id is empty, names no execution (`~0`, `~1000`), or, if `required`, fits no record
        (`UnknownIdError`, which says what it is most like) or several (`AmbiguousIdError`).
    """
    record = await infer_specialty_id(backend, id, include_files=include_files)
    if record is not None:
        return record
    matches: list[Record | FileUse] = await find_by_prefix(backend, id, 3 if required else 1)
    if not matches and include_files:
        # A file that is gone from the disk, or was never on this one, is found by what was recorded of it.
        record = await find_file(backend, id)
        matches = [] if record is None else [record]
    if not required:
        return matches[0] if matches else None
    matches = leave_out_task_values(matches)
    if not matches:
        raise await explain_unknown(backend, id)
    if len(matches) > 1:
        raise explain_ambiguous(id, matches)
    return matches[0]


async def find_one(
    backend: Repository,
    record_type: str,
    id: str,  # as `infer_id` calls it
) -> Any:
    """
    Find the only record of a type that an id stands for.

    Parameters
    ----------
    backend : RedunBackendDb
        The repository to look in.
    record_type : str
        Execution, Job, CallNode, Task or Value.
    id : str
        The beginning of an id; of an execution also `-` and `~2`, of a task also its name.

    Raises
    ------
    UnknownIdError
        It fits no record of the type; with those that it is most like.
    AmbiguousIdError
        It fits several.
    UsageError
        The id is empty, or `~2` names no execution.
    """
    if record_type == "Execution" and id.strip()[:1] in ("-", "~"):
        execution = await infer_specialty_id(backend, id, include_files=False)
        if execution is not None:
            return execution
    matches = await find_by_prefix(backend, id, 2, (record_type,))
    if not matches:
        raise await explain_unknown(backend, id, record_type)
    # An id of somebody's own may be the beginning of another.
    if len(matches) > 1 and get_key(matches[0]) != id.strip():
        raise explain_ambiguous(id, matches)
    return matches[0]


async def explain_unknown(backend: Repository, text: str, record_type: str | None = None) -> UnknownIdError:
    """Return the error that says that a text fits no record, with what it is most like."""
    if text.strip() == "-":
        return UnknownIdError("there is no execution yet: 'aredun run' makes one")
    near = await suggest(backend, text, [record_type] if record_type else list(PRIMARY_KEYS))
    hint = ask_whether(near) if near else "see 'aredun log' for ids"
    return UnknownIdError(f"no {record_type or 'record'} has an id that begins with {text[:80]!r}: {hint}")


def explain_ambiguous(text: str, records: Sequence[Any]) -> AmbiguousIdError:
    """Return the error that says that a text fits several records, with two of them."""
    shown = " and ".join(describe(record) for record in records[:2])
    is_name = not any(get_key(record).startswith(tuple(spell_id(text))) for record in records[:2])
    hint = "give the hash of one version" if is_name else "give more characters"
    return AmbiguousIdError(f"id {text[:80]!r} is ambiguous, it fits {shown}: {hint}")


def leave_out_task_values(records: Sequence[Any]) -> list[Any]:
    """Return the records without values that stand for a task among them: the two have one hash."""
    tasks = {record.hash for record in records if isinstance(record, Task)}
    return [record for record in records if not (isinstance(record, Value) and record.value_hash in tasks)]


def describe(record: Any) -> str:
    """Return the type and the whole id of a record, such as `Job 3f2c...`."""
    return f"{type(record).__name__} {get_key(record)}"


def refuse_empty(text: str) -> None:
    """Raise `UsageError` where an id is empty or blank: nothing is the beginning of every id."""
    if not text.strip():
        raise UsageError("the id is empty: give the first characters of one")


async def find_by_prefix(
    backend: Repository, prefix: str, limit: int, types: Sequence[str] = tuple(PRIMARY_KEYS)
) -> list[Any]:
    """
    Return the first records, at most `limit`, whose id begins with a prefix; tasks also by their name.

    They come in the order of the types, which are all or one.
    """
    refuse_empty(prefix)
    condition = filter_id_prefix(prefix)
    conditions = [condition(name) for name in types]
    kept = [each.kept for each in conditions if each.kept is not None]
    counts: Sequence[int] = [limit] * len(types)
    if len(kept) > 1:
        # One statement says which types there are to read from; mostly it is one.
        statement = count_sources(tuple(of_all for of_all, _ in kept))
        (counts,) = await backend.database.fetch(statement, {**kept[0][1], **bound_sources(counts)})
    found: list[Any] = []
    for name, each, count in zip(types, conditions, counts, strict=True):
        if count and len(found) < limit:
            scan = _make_scan(backend, ScanPlan(name), [each])
            found += [record async for record in scan.iter_rows(limit - len(found))]
    return found


async def infer_specialty_id(
    backend: Repository,
    id: str,  # the reference's name
    include_files: bool = True,
) -> Execution | FileUse | None:
    """
    Find the record that a shorthand stands for (mirrors redun's `infer_specialty_id`).

    Parameters
    ----------
    backend : RedunBackendDb
        The repository to look in.
    id : str
        `-` or `~1` for the newest execution, `~2` for the one before it and so on; or a path of a file,
        which has to exist or to have a colon in it (`s3://...`).
    include_files : bool
        Whether it may be the path of a file.

    Returns
    -------
    Execution | tuple[File, Job, str] | None
        None when it is no shorthand, or when there is no execution for `-`.

    Raises
    ------
    UsageError
        When there are not that many executions.
    """
    text = id.strip()
    if include_files and (
        ":" in id or await asyncio.to_thread(lambda: os.path.exists(id) or os.path.exists(text))
    ):
        use = await find_file(backend, id)
        if use is not None:
            return use
    if text == "-":
        return await _get_recent_execution(backend, 1)
    if not re.fullmatch(r"~\d+", text):
        return None
    # Beyond so many digits there are no executions, nor numbers of a database.
    index = int(text[1:]) if len(text) <= _MAX_INDEX_LENGTH else None
    if index == 0:
        raise UsageError("invalid execution index ~0: ~1 is the newest execution, ~2 the one before it")
    execution = None if index is None else await _get_recent_execution(backend, index)
    if execution is None:
        raise UsageError(f"invalid execution index {text}: there are not that many executions")
    return execution


async def _get_recent_execution(backend: Repository, index: int) -> Execution | None:
    scan = _make_scan(backend, ScanPlan("Execution", by_time=True), [])
    return await anext(scan.iter_rows(1, index - 1), None)


def _make_scan(backend: Repository, plan: ScanPlan, conditions: Sequence[Condition]) -> Scan:
    return Scan(backend, plan, conditions, statuses.get_cutoff(backend.config))


async def find_file(backend: Repository, path: str) -> FileUse | None:
    """
    Find where a file comes from: the job that made it, else one that was given it (mirrors redun's
    `find_file`).

    Parameters
    ----------
    backend : RedunBackendDb
        The repository to look in.
    path : str
        The path as it was recorded, or, where no job had a file of that path, in another way of writing it
        (`aredun.formats.spelling.spell_path`).

    Returns
    -------
    tuple[File, Job, str] | None
        The file, the job and "result" or "arg"; None when no job had the file. Of the jobs that returned
        the file, alone or inside another value, the one that ended last; of those that only took it, the
        one that started last (between a file of its own and one inside a value, that of the job that ended
        last).
    """

    if not is_storable_text(path):
        return None
    use = await _find_exact(backend, path)
    if use is not None:
        return use
    others = spell_path(path)[1:]
    if not others:
        return None
    recorded = sa.select(File.path).where(in_array(File.path, others)).distinct()
    known = set(await read_scalars(backend.database, recorded))
    for other in others:
        if other in known and (use := await _find_exact(backend, other)) is not None:
            return use
    return None


async def _find_exact(backend: Repository, path: str) -> FileUse | None:
    made = await _find_last_result(backend, path)
    if made is not None:
        return made
    alone, inside = [
        await _find_last_argument(backend, path, inside=is_inside) for is_inside in (False, True)
    ]
    if alone is None or inside is None:
        return alone or inside
    first, second = alone[1].end_time, inside[1].end_time
    return alone if first is not None and (second is None or first > second) else inside


async def _find_last_result(backend: Repository, path: str) -> FileUse | None:
    parameters = {"path": path, "cutoff": statuses.get_cutoff(backend.config)}
    rows = await backend.database.fetch(_select_last_result(), parameters)
    if not rows:
        return None
    (job,) = get_reader(Job).make(rows, backend.database.backend, tells_alive=True)
    return _FILES.make(rows[0][-len(_FILES.columns) :], backend.database.backend), job, "result"


@cache
def _select_last_result() -> Select[Any]:
    """Return the statement for the parameter `path`; kept, because making it takes longer than running it."""

    def select_results(*, inside: bool) -> Select[Any]:
        place = sa.literal(inside, sa.Integer()).label("is_inside")
        results = sa.select(*_FILES.columns, Job.id.label("pk"), Job.end_time, place)
        results = results.join_from(Job, CallNode, CallNode.call_hash == Job.call_hash)
        return _join_files(results, CallNode, inside=inside).where(File.path == sa.bindparam("path"))

    # Materialised, so that no planner walks all jobs by end time in search of the file's.
    made = sa.union_all(select_results(inside=False), select_results(inside=True)).cte("made")
    made = made.prefix_with("MATERIALIZED")
    jobs = get_reader(Job).select(sa.bindparam("cutoff"), made)
    jobs = jobs.add_columns(*(made.c[column.key] for column in _FILES.columns))
    order = (made.c.end_time.desc().nulls_last(), made.c.is_inside.desc(), made.c.pk)
    return jobs.order_by(*order).limit(1)


def _join_files(statement: Select[Any], model: Any, *, inside: bool) -> Select[Any]:
    """Return a select of rows that name a value joined with the file that it is, or with those inside it."""
    if not inside:
        return statement.join(File, File.value_hash == model.value_hash)
    statement = statement.join(Subvalue, Subvalue.parent_value_hash == model.value_hash)
    return statement.join(File, File.value_hash == Subvalue.value_hash)


async def _find_last_argument(backend: Repository, path: str, *, inside: bool) -> FileUse | None:
    calls = _join_files(sa.select(Argument.call_hash), Argument, inside=inside)
    # A reference file may have been given to every job, so this is a scan, which copes with many matches.
    condition = among(Job.call_hash, lambda column: [calls.where(column(File.path) == path)])
    scan = _make_scan(backend, ScanPlan("Job", by_time=True), [condition])
    job: Job
    async for job in scan.iter_rows(1):
        given = calls.with_only_columns(File, maintain_column_froms=True)
        given = given.where(File.path == path, Argument.call_hash == job.call_hash)
        [file] = await read_scalars(backend.database, given.order_by(File.value_hash).limit(1))
        return file, job, "arg"
    return None


async def find_use(
    backend: Repository, value_hash: str, cutoff: datetime | None = None
) -> tuple[Job, str] | None:
    """
    Find the job that a value is best told by: the one that made it first, else the last that was given it.

    Parameters
    ----------
    backend : RedunBackendDb
        The repository to look in.
    value_hash : str
        Whole hash of the value, which may be inside another.
    cutoff : datetime | None
        Without a sign of life since then an open job is ABANDONED; by default as the configuration says.

    Returns
    -------
    tuple[Job, str] | None
        The job and "result" (it ended first of all that returned the value; later ones may have had it from
        the cache) or "arg" (it started last of all that took the value); None when no job had it.
    """
    cutoff = cutoff or statuses.get_cutoff(backend.config)
    holders = sa.select(Subvalue.parent_value_hash).where(Subvalue.value_hash == value_hash)
    # One select, not OR, for which PostgreSQL would read all calls.
    values = sa.union_all(sa.select(sa.literal(value_hash)), holders)
    results = sa.select(Job.id, Job.end_time).join(CallNode, CallNode.call_hash == Job.call_hash)
    results = results.where(CallNode.value_hash.in_(values))
    # Materialised, so that no planner walks all jobs by end time in search of these.
    made = results.cte("made").prefix_with("MATERIALIZED")
    first = sa.select(made.c.id.label("pk")).order_by(made.c.end_time.asc().nulls_last(), made.c.id).limit(1)
    for job in await read_records(backend, Job, first, cutoff=cutoff):
        return job, "result"
    scan = Scan(backend, ScanPlan("Job", by_time=True), [took_one_of([value_hash])], cutoff)
    async for job in scan.iter_rows(1):
        return job, "arg"
    return None
