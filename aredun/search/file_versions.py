"""Files by their paths: how many versions each has, which call made the latest, and who took them.

A path may have any number of versions, and a version any number of calls around it, so whatever is looked at
of one path is bounded, and a page of paths is chosen before anything is looked up for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.orm import aliased

from aredun.models import Argument, CallNode, File, Job, Subvalue, Value
from aredun.storage.reads import read_rows, read_scalars
from aredun.tables.column_types import in_array

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection, Sequence

    from sqlalchemy import ColumnElement, Select

    from aredun.search.query import CallGraphQuery
    from aredun.search.repository import Repository

# A search for a part of a path looks at so many paths for a page.
MAX_LOOKED = 100_000
# How many versions of a path are counted, and how many calls that made one and jobs that took one.
MAX_VERSIONS, MAX_USES = 1_000, 1_000
_HASH = 40
FILE_CHUNK = 500


class FileOrigin(NamedTuple):
    """The version of a file that was made last, and the call that returned it first."""

    value_hash: str
    call_hash: str


class FilePath(NamedTuple):
    """A path: how many versions it has, at most `MAX_VERSIONS + 1`, and where the latest came from."""

    path: str
    versions: int
    origin: FileOrigin | None


class Maker(NamedTuple):
    """A call that made a file: its task, when it was recorded, and the job that ran it."""

    task_name: str
    timestamp: Any
    job_id: str | None


async def iter_files(backend: Repository, query: CallGraphQuery) -> AsyncIterator[File]:
    """Yield the files among the values of a query, by path and hash; each chunk in a session of its own."""
    values = dict(query.build().subqueries)["Value"].with_only_columns(Value.value_hash).order_by(None)
    matching = values.where(Value.value_hash == File.value_hash).correlate(File).exists()
    statement = sa.select(File).where(matching).order_by(File.path, File.value_hash).limit(FILE_CHUNK)
    chunk = statement
    while True:
        files: list[File] = await read_scalars(backend.database, chunk)
        for file in files:
            yield file
        if len(files) < FILE_CHUNK:
            return
        last = files[-1]
        beyond = sa.or_(File.path > last.path, File.value_hash > last.value_hash)
        chunk = statement.where(File.path >= last.path, beyond)


async def list_paths(
    backend: Repository, text: str | None, after: str | None, limit: int
) -> tuple[list[FilePath], str | None]:
    """
    Return a page of paths in their order, and the path that the next page begins after.

    Parameters
    ----------
    backend : RedunBackendDb
        The repository to look in.
    text : str, optional
        A part of the path, upper and lower case alike. No index serves it, so that `MAX_LOOKED` files are
        looked at, and the page may have fewer paths than there are.
    after : str, optional
        The path that the page begins after.
    limit : int
        Paths on the page.

    Returns
    -------
    tuple[list[FilePath], str | None]
        The second is None where nothing comes after the page.
    """
    chosen = _walk_paths(after, limit + 1) if text is None else _search_paths(text, after, limit + 1)
    page = chosen.cte("page").prefix_with("MATERIALIZED")
    version = aliased(File)
    some = sa.select(version.value_hash).where(version.path == page.c.path).limit(MAX_VERSIONS + 1)
    versions = _count(some.correlate(page))
    origin = _select_origin(page, lambda file: file.path == page.c.path)
    statement = sa.select(page.c.path, versions, origin).order_by(page.c.path)
    rows = await read_rows(backend.database, statement)
    paths = [FilePath(path, count, _parse_origin(made)) for path, count, made in rows[:limit]]
    if len(rows) > limit:
        return paths, paths[-1].path
    return paths, None if text is None else await _find_end(backend, after)


def _walk_paths(after: str | None, limit: int) -> Select[Any]:
    """Return the select of paths that steps over the versions of each: there may be any number."""
    first: Any = sa.select(sa.func.min(File.path).label("path"), sa.literal(1).label("number"))
    if after is not None:
        first = first.where(File.path > after)
    walked = first.cte("walked", recursive=True)
    other = aliased(File)
    following = sa.select(sa.func.min(other.path)).where(other.path > walked.c.path).scalar_subquery()
    more = sa.select(following, walked.c.number + 1)
    walked = walked.union_all(more.where(walked.c.path.is_not(None), walked.c.number < limit))
    return sa.select(walked.c.path).where(walked.c.path.is_not(None))


def _search_paths(text: str, after: str | None, limit: int) -> Select[Any]:
    looked = sa.select(File.path).order_by(File.path).limit(MAX_LOOKED)
    if after is not None:
        looked = looked.where(File.path > after)
    some = looked.cte("looked").prefix_with("MATERIALIZED")
    fits = some.c.path.icontains(text, autoescape=True)
    return sa.select(some.c.path).where(fits).distinct().order_by(some.c.path).limit(limit)


async def _find_end(backend: Repository, after: str | None) -> str | None:
    """Return the last path that a search has looked at, if there are more."""
    query = sa.select(File.path).order_by(File.path).offset(MAX_LOOKED - 1).limit(1)
    if after is not None:
        query = query.where(File.path > after)
    found = await read_scalars(backend.database, query)
    return found[0] if found else None


def _count(rows: Select[Any]) -> Any:
    return sa.select(sa.func.count()).select_from(rows.subquery()).scalar_subquery()


def _select_origin(page: Any, is_of: Any) -> Any:
    """Return the scalar subquery of a `FileOrigin` as one text, for the files that a condition chooses."""

    # The call that returned a version first made it, alone or inside another value. Calls above that one hand
    # on what it returned.
    def select_uses(place: int) -> Select[Any]:
        file, call, part = aliased(File), aliased(CallNode), aliased(Subvalue)
        columns = (file.value_hash, call.call_hash, call.timestamp, sa.literal(place).label("place"))
        uses = sa.select(*columns).select_from(file)
        if place:
            uses = uses.join(part, part.value_hash == file.value_hash)
            uses = uses.join(call, call.value_hash == part.parent_value_hash)
        else:
            uses = uses.join(call, call.value_hash == file.value_hash)
        some = uses.where(is_of(file)).limit(MAX_USES).correlate(page).subquery()
        return sa.select(some)

    uses = sa.union_all(select_uses(0), select_uses(1)).subquery()
    order = (uses.c.timestamp, uses.c.place, uses.c.call_hash)
    number = sa.func.row_number().over(partition_by=uses.c.value_hash, order_by=order).label("number")
    ranked = sa.select(uses, number).subquery()
    latest = sa.select(ranked.c.value_hash + ranked.c.call_hash).where(ranked.c.number == 1)
    latest = latest.order_by(ranked.c.timestamp.desc(), ranked.c.value_hash).limit(1)
    return latest.scalar_subquery()


def _parse_origin(text: str | None) -> FileOrigin | None:
    return None if text is None else FileOrigin(text[:_HASH], text[_HASH:])


async def list_file_versions(backend: Repository, path: str) -> list[tuple[str, FileOrigin | None]]:
    """Return the hashes of a path's versions, at most `MAX_VERSIONS + 1`, with where each came from."""
    some = sa.select(File.value_hash).where(File.path == path).limit(MAX_VERSIONS + 1)
    page = some.cte("page").prefix_with("MATERIALIZED")
    origin = _select_origin(page, lambda file: file.value_hash == page.c.value_hash)
    rows = await read_rows(backend.database, sa.select(page.c.value_hash, origin))
    return [(value_hash, _parse_origin(made)) for value_hash, made in rows]


async def load_makers(backend: Repository, call_hashes: Collection[str]) -> dict[str, Maker]:
    """Return what is told of the calls that made files, by hash."""
    if not call_hashes:
        return {}
    some = sa.select(Job.id, Job.cached, Job.start_time).where(Job.call_hash == CallNode.call_hash)
    jobs = some.limit(MAX_USES).correlate(CallNode).subquery()
    ran = sa.select(jobs.c.id).order_by(jobs.c.cached, jobs.c.start_time, jobs.c.id).limit(1)
    columns: tuple[Any, ...] = (CallNode.call_hash, CallNode.task_name, CallNode.timestamp)
    query = sa.select(*columns, ran.scalar_subquery())
    query = query.where(in_array(CallNode.call_hash, sorted(call_hashes)))
    return {call_hash: Maker(*told) for call_hash, *told in await read_rows(backend.database, query)}


async def count_readers(backend: Repository, value_hashes: Sequence[str]) -> dict[str, tuple[int, int]]:
    """
    Return of files the size of the recorded value, and how many jobs took it, alone or inside another value.

    Parameters
    ----------
    backend : RedunBackendDb
        The repository to look in.
    value_hashes : Sequence[str]
        Whole hashes of the files.

    Returns
    -------
    dict[str, tuple[int, int]]
        By hash. The size is that of redun's record of the file, in bytes, 0 in a value store; more jobs
        than `MAX_USES` are told as one more.
    """
    if not value_hashes:
        return {}

    def select_takers(is_inside: bool) -> Select[Any]:
        job, argument, part = aliased(Job), aliased(Argument), aliased(Subvalue)
        takers = sa.select(job.id).join(argument, argument.call_hash == job.call_hash)
        taken: ColumnElement[bool] = argument.value_hash == Value.value_hash
        if is_inside:
            takers = takers.join(part, part.parent_value_hash == argument.value_hash)
            taken = part.value_hash == Value.value_hash
        return sa.select(takers.where(taken).limit(MAX_USES + 1).correlate(Value).subquery())

    takers = sa.union(select_takers(False), select_takers(True)).subquery()
    readers = sa.select(sa.func.count()).select_from(takers).scalar_subquery()
    query = sa.select(Value.value_hash, sa.func.length(Value.value), readers)
    query = query.where(in_array(Value.value_hash, value_hashes))
    rows = await read_rows(backend.database, query)
    return {key: (size, min(count, MAX_USES + 1)) for key, size, count in rows}
