"""In what calls of one task differ: arguments, files, sources and versions; nothing stored is unpickled."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import sqlalchemy as sa

from aredun.formats.arguments import argument_order
from aredun.models import Argument, ArgumentResult, CallNode, File, Job, Subvalue, Task, Value
from aredun.search.loading import load_all
from aredun.storage.reads import read_rows
from aredun.tables.column_types import in_array

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence
    from datetime import datetime

    from aredun.search.repository import Repository


# Of the earlier calls of a task, the latest so many are looked at.
MAX_CANDIDATES = 100
# A task with more jobs than these has its latest calls among so many of all jobs, as a rule.
FEW_JOBS, WINDOW = 5_000, 10_000
# Pairs of calls of one task whose arguments are compared.
MAX_PAIRS = 20

# Where an argument stands in a call: at a position, or by a keyword.
_Place = tuple[int | None, str | None]
# A place, and the arguments that stand there in the earlier and in the later call; None in one without.
_Changed = tuple[_Place, Any, Any]


class RecordedCall(NamedTuple):
    """A job that led to a call: what it ran, with what, when, and the type of the result."""

    job_id: str
    execution_id: str
    start_time: datetime
    cached: bool
    task_hash: str
    task_name: str
    call_hash: str
    args_hash: str
    value_hash: str
    result_type: str | None


# The earlier and the later of two calls that stand for each other.
_Pair = tuple[RecordedCall, RecordedCall]


class FileDifference(NamedTuple):
    """A path whose file has other contents: the hashes of the file before and after."""

    path: str
    before: str
    after: str


class Origin(NamedTuple):
    """The call whose result an argument is, and the job of it in the same execution."""

    task_name: str
    job_id: str


class TaskSource(NamedTuple):
    """What a task was: its hash, its source and the version that it was given, None without one."""

    hash: str
    source: str
    version: str | None


@dataclass(frozen=True)
class ArgumentDifference:
    """
    An argument that two calls do not share.

    Attributes
    ----------
    position : int | None
        Its place, of a positional argument.
    key : str | None
        Its name, of an argument by keyword.
    before, after : str | None
        The hashes of its values; None in the call that does not have it.
    files : tuple[FileDifference, ...]
        Files in it whose contents changed.
    origin : Origin | None
        Where the later value came from, if it was the result of a call.
    """

    position: int | None
    key: str | None
    before: str | None
    after: str | None
    files: tuple[FileDifference, ...] = ()
    origin: Origin | None = None


@dataclass(frozen=True)
class CallDifference:
    """
    In what two calls of a task differ.

    Attributes
    ----------
    before, after : RecordedCall
        The calls.
    arguments : tuple[ArgumentDifference, ...]
        In the order of the places, those by keyword last.
    task : tuple[TaskSource, TaskSource] | None
        The task before and after, if its source or version changed.
    result_files : tuple[FileDifference, ...]
        Files in the results whose contents changed.
    """

    before: RecordedCall
    after: RecordedCall
    arguments: tuple[ArgumentDifference, ...] = ()
    task: tuple[TaskSource, TaskSource] | None = None
    result_files: tuple[FileDifference, ...] = ()


@dataclass(frozen=True)
class TaskDifference:
    """
    In what the calls of one task differ between two executions.

    Attributes
    ----------
    task_name : str
        The task's name with its namespace.
    same : int
        How many calls are in both.
    changed : tuple[CallDifference, ...]
        Calls that stand for each other, no more than `MAX_PAIRS`.
    more : int
        How many pairs beyond these there are.
    only_before, only_after : tuple[RecordedCall, ...]
        Calls that stand for none of the other execution.
    """

    task_name: str
    same: int
    changed: tuple[CallDifference, ...]
    more: int
    only_before: tuple[RecordedCall, ...]
    only_after: tuple[RecordedCall, ...]


async def get_call(backend: Repository, job_id: str) -> RecordedCall | None:
    """
    Return the call that a job led to.

    Parameters
    ----------
    backend : RedunBackendDb
        The repository to look in.
    job_id : str
        Whole id of the job.

    Returns
    -------
    RecordedCall | None
        None while the job has led to none.
    """
    return next(iter(await _read_calls(backend, Job.id == job_id)), None)


async def find_earlier_call(backend: Repository, call: RecordedCall) -> RecordedCall | None:
    """
    Find the earlier call of the same task that a call is most like, in five statements at most.

    Parameters
    ----------
    backend : RedunBackendDb
        The repository to look in.
    call : RecordedCall
        The call.

    Returns
    -------
    RecordedCall | None
        Of the latest `MAX_CANDIDATES` that started before, those of other executions first: the one with the
        fewest differences; of several the one that was given most of the same files, with whatever contents,
        then the latest. None for a first call.
    """
    candidates = await _read_candidates(backend, call)
    arguments = await _get_arguments(backend, {each.call_hash for each in (call, *candidates)})
    changed = {
        each.call_hash: _list_changed(arguments[each.call_hash], arguments[call.call_hash])
        for each in candidates
    }

    def rank(other: RecordedCall) -> tuple[bool, int]:
        is_near = other.execution_id == call.execution_id
        return is_near, len(changed[other.call_hash]) + (other.task_hash != call.task_hash)

    first = min(map(rank, candidates), default=None)
    likely = [each for each in candidates if rank(each) == first]
    if len(likely) < 2:
        return next(iter(likely), None)
    pairs = {each: [row[1:] for row in changed[each.call_hash] if all(row[1:])] for each in likely}
    hashes = {argument.value_hash for rows in pairs.values() for pair in rows for argument in pair}
    files = await _get_files(backend, hashes)

    def count_same_paths(other: RecordedCall) -> int:
        return sum(
            not files[old.value_hash].keys().isdisjoint(files[new.value_hash]) for old, new in pairs[other]
        )

    return max(likely, key=lambda other: (count_same_paths(other), other.start_time))


async def _read_candidates(backend: Repository, call: RecordedCall) -> list[RecordedCall]:
    """Return the latest earlier calls of the same task, those of other executions first."""
    own = sa.select(Task.name, Task.namespace).where(Task.hash == call.task_hash).subquery("own")
    is_own = sa.and_(Task.name == own.c.name, Task.namespace == own.c.namespace)
    same_task = sa.select(Task.hash).join(own, is_own)
    jobs = sa.select(Job.id, Job.start_time, Job.execution_id, Job.call_hash, Job.task_hash)
    of_task = jobs.where(Job.task_hash.in_(same_task))

    def select_latest(found: Any) -> Any:
        is_earlier = sa.and_(found.c.start_time < call.start_time, found.c.id != call.job_id)
        chosen = sa.select(found.c.id).where(is_earlier, found.c.call_hash.is_not(None)).limit(MAX_CANDIDATES)
        is_other = sa.case((found.c.execution_id == call.execution_id, 1), else_=0)
        return chosen.order_by(is_other, found.c.start_time.desc(), found.c.id)

    some = of_task.limit(FEW_JOBS + 1).subquery()
    [(number,)] = await read_rows(backend.database, sa.select(sa.func.count()).select_from(some))
    if number > FEW_JOBS:
        # Those of a task with very many jobs are not gathered: the latest of all jobs have enough of them.
        before = jobs.where(Job.start_time < call.start_time, Job.execution_id != call.execution_id)
        window = before.order_by(Job.start_time.desc()).limit(WINDOW).cte("found")
        found = window.prefix_with("MATERIALIZED")
        latest = select_latest(found).where(found.c.task_hash.in_(same_task))
        calls = await _read_calls(backend, Job.id.in_(latest))
        if len(calls) == MAX_CANDIDATES:
            return calls
    # Materialised: no planner shall walk all jobs by start time in search of these.
    found = of_task.cte("found").prefix_with("MATERIALIZED")
    return await _read_calls(backend, Job.id.in_(select_latest(found)))


async def list_calls_below(backend: Repository, job_id: str, limit: int) -> list[RecordedCall]:
    """
    List the calls that a job made and that were not taken from the cache.

    Parameters
    ----------
    backend : RedunBackendDb
        The repository to look in.
    job_id : str
        Whole id of the job.
    limit : int
        How many to list at most; the first that started.

    Returns
    -------
    list[RecordedCall]
        In the order of their start.
    """
    return await _read_calls(backend, Job.parent_id == job_id, Job.cached.is_(False), limit=limit)


async def compare_calls(backend: Repository, pairs: Sequence[_Pair]) -> list[CallDifference]:
    """
    Tell in what calls differ, in a handful of statements however many pairs there are.

    Parameters
    ----------
    backend : RedunBackendDb
        The repository to look in.
    pairs : Sequence[tuple[RecordedCall, RecordedCall]]
        The earlier and the later call of each pair.

    Returns
    -------
    list[CallDifference]
        One for each pair.
    """

    def list_unequal(field: str) -> list[RecordedCall]:
        unequal = [pair for pair in pairs if getattr(pair[0], field) != getattr(pair[1], field)]
        return [call for pair in unequal for call in pair]

    arguments = await _get_arguments(backend, {call.call_hash for call in list_unequal("args_hash")})
    changed = {
        (old, new): _list_changed(arguments[old.call_hash], arguments[new.call_hash])
        for old, new in pairs
        if old.args_hash != new.args_hash
    }
    given = [pair for rows in changed.values() for _, *pair in rows]
    hashes = {argument.value_hash for pair in given for argument in pair if argument is not None}
    files = await _get_files(backend, hashes | {call.value_hash for call in list_unequal("value_hash")})
    later = {new.arg_hash for _, new in given if new is not None}
    origins = await _get_origins(backend, later, {after.execution_id for _, after in pairs})
    tasks = await _get_tasks(backend, {call.task_hash for call in list_unequal("task_hash")})

    def compare(before: RecordedCall, after: RecordedCall) -> CallDifference:
        found = tuple(
            ArgumentDifference(
                *place,
                old and old.value_hash,
                new and new.value_hash,
                _compare_files(files[old.value_hash], files[new.value_hash]) if old and new else (),
                new and origins.get((new.arg_hash, after.execution_id)),
            )
            for place, old, new in changed.get((before, after), ())
        )
        is_other = before.task_hash != after.task_hash
        versions = (tasks[before.task_hash], tasks[after.task_hash]) if is_other else None
        result = _compare_files(files[before.value_hash], files[after.value_hash])
        return CallDifference(before, after, found, versions, result)

    return [compare(*pair) for pair in pairs]


async def compare_executions(backend: Repository, before_id: str, after_id: str) -> list[TaskDifference]:
    """
    Tell in what the calls of two executions differ, in a handful of statements however many there are.

    Parameters
    ----------
    backend : RedunBackendDb
        The repository to look in.
    before_id, after_id : str
        Whole ids of the executions.

    Returns
    -------
    list[TaskDifference]
        One for each task of either, in the order of the first calls. Calls that are in both are set aside;
        of the others, those with the same arguments stand for each other, then those in the same order.
    """
    before, after = [await _read_calls(backend, Job.execution_id == key) for key in (before_id, after_id)]
    matched = await asyncio.to_thread(_match_tasks, before, after)
    pairs = [pair for task_pairs, _ in matched for pair in task_pairs]
    compared = dict(zip(pairs, await compare_calls(backend, pairs), strict=True))
    return [
        replace(task, changed=tuple(compared[pair] for pair in task_pairs)) for task_pairs, task in matched
    ]


def _match_tasks(
    before: Iterable[RecordedCall], after: Iterable[RecordedCall]
) -> list[tuple[list[_Pair], TaskDifference]]:
    """Return for each task the pairs that are to be compared, and the difference without them."""
    tasks: dict[str, tuple[list[RecordedCall], list[RecordedCall]]] = defaultdict(lambda: ([], []))
    for side, calls in enumerate((before, after)):
        for call in calls:
            tasks[call.task_name][side].append(call)
    matched = []
    for name, (old, new) in tasks.items():
        equal, old, new = _pair(old, new, "call_hash")
        paired, old, new = _pair(old, new, "args_hash")
        rest = min(len(old), len(new))
        paired += zip(old, new, strict=False)
        more = max(len(paired) - MAX_PAIRS, 0)
        task = TaskDifference(name, len(equal), (), more, tuple(old[rest:]), tuple(new[rest:]))
        matched.append((paired[:MAX_PAIRS], task))
    return matched


def _pair(
    old: list[RecordedCall], new: list[RecordedCall], key: str
) -> tuple[list[_Pair], list[RecordedCall], list[RecordedCall]]:
    """Pair calls that have the same in a field, each once; return the pairs and the calls without one."""
    waiting: dict[str, list[RecordedCall]] = defaultdict(list)
    for call in reversed(old):
        waiting[getattr(call, key)].append(call)
    pairs, left = [], []
    for call in new:
        same = waiting.get(getattr(call, key))
        if same:
            pairs.append((same.pop(), call))
        else:
            left.append(call)
    taken = {before.job_id for before, _ in pairs}
    return pairs, [call for call in old if call.job_id not in taken], left


async def _read_calls(backend: Repository, *where: Any, limit: int | None = None) -> list[RecordedCall]:
    """Return the calls of the jobs that conditions choose, in the order of their start."""
    statement = (
        sa.select(
            Job.id,
            Job.execution_id,
            Job.start_time,
            Job.cached,
            Job.task_hash,
            Task.fullname,
            Job.call_hash,
            CallNode.args_hash,
            CallNode.value_hash,
            Value.type,
        )
        .join(Task, Task.hash == Job.task_hash)
        .join(CallNode, CallNode.call_hash == Job.call_hash)
        .outerjoin(Value, Value.value_hash == CallNode.value_hash)
        .where(*where)
        .order_by(Job.start_time, Job.id)
        .limit(limit)
    )
    return [RecordedCall(*row) for row in await read_rows(backend.database, statement)]


async def _get_arguments(backend: Repository, calls: Collection[str]) -> dict[str, dict[_Place, Any]]:
    """Return by call and place each argument: its hash, and that of its value."""
    found: dict[str, dict[_Place, Any]] = defaultdict(dict)
    place = (Argument.arg_position, Argument.arg_key)
    if calls:
        arguments = sa.select(Argument.call_hash, *place, Argument.arg_hash, Argument.value_hash)
        arguments = arguments.where(in_array(Argument.call_hash, sorted(calls)))
        for row in await read_rows(backend.database, arguments):
            found[row.call_hash][row.arg_position, row.arg_key] = row
    return found


def _list_changed(old: dict[_Place, Any], new: dict[_Place, Any]) -> list[_Changed]:
    places = sorted(old.keys() | new.keys(), key=lambda place: argument_order(*place))
    rows = [(place, old.get(place), new.get(place)) for place in places]
    return [row for row in rows if not row[1] or not row[2] or row[1].value_hash != row[2].value_hash]


async def _get_files(backend: Repository, hashes: Collection[str]) -> dict[str, dict[str, str]]:
    """Return by value the files that it is or holds: hashes by path."""
    found: dict[str, dict[str, str]] = defaultdict(dict)
    if not hashes:
        return found
    alone = sa.select(File.value_hash.label("holder"), File.path, File.value_hash)
    inside = sa.select(Subvalue.parent_value_hash, File.path, File.value_hash)
    inside = inside.join(File, File.value_hash == Subvalue.value_hash)
    statement = sa.union_all(
        alone.where(in_array(File.value_hash, sorted(hashes))),
        inside.where(in_array(Subvalue.parent_value_hash, sorted(hashes))),
    )
    for holder, path, value in await read_rows(backend.database, statement):
        found[holder][path] = value
    return found


def _compare_files(old: dict[str, str], new: dict[str, str]) -> tuple[FileDifference, ...]:
    shared = sorted(old.keys() & new.keys())
    return tuple(FileDifference(path, old[path], new[path]) for path in shared if old[path] != new[path])


async def _get_origins(
    backend: Repository, arguments: Collection[str], executions: Collection[str]
) -> dict[tuple[str, str], Origin]:
    """Return by argument and execution the job whose result it is."""
    if not arguments:
        return {}
    statement = (
        sa.select(ArgumentResult.arg_hash, Job.execution_id, CallNode.task_name, sa.func.min(Job.id))
        .join(CallNode, CallNode.call_hash == ArgumentResult.result_call_hash)
        .join(Job, Job.call_hash == CallNode.call_hash)
        .where(
            in_array(ArgumentResult.arg_hash, sorted(arguments)),
            in_array(Job.execution_id, sorted(executions)),
        )
        .group_by(ArgumentResult.arg_hash, Job.execution_id, CallNode.task_name)
    )
    return {
        (arg, key): Origin(name, job) for arg, key, name, job in await read_rows(backend.database, statement)
    }


async def _get_tasks(backend: Repository, hashes: Collection[str]) -> dict[str, TaskSource]:
    if not hashes:
        return {}
    tasks = await load_all(backend, Task, hashes)
    previews = await backend.get_previews(hashes)

    def read_version(task_hash: str) -> str | None:
        version = getattr(previews.get(task_hash), "version", None)
        return version if isinstance(version, str) else None

    return {key: TaskSource(key, task.source, read_version(key)) for key, task in tasks.items()}
