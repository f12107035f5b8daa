"""Why a job ran, as one finding: what differs from the earlier call, or what else made it run again."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Literal, NamedTuple

from aredun.formats.arguments import read_command, read_parameters
from aredun.formats.statuses import ERROR_TYPE_NAME
from aredun.models import Task
from aredun.search.differences import compare_calls, find_earlier_call, list_calls_below
from aredun.search.identify import find_one
from aredun.search.loading import load_all

if TYPE_CHECKING:
    from collections.abc import Iterable

    from aredun.search.differences import ArgumentDifference, CallDifference, RecordedCall
    from aredun.search.repository import Repository

# How many calls are listed that a call made and that ran again.
MAX_BELOW = 20

Cause = Literal["first", "changed", "cached", "no_cache", "earlier_failed", "result_gone", "below", "unknown"]


class Reason(NamedTuple):
    """
    Why a job ran.

    Attributes
    ----------
    difference : CallDifference | None
        From the earlier call; of a first call from the one of the same execution that it is most like, if
        there is one.
    cause : Cause
        What made it run.
    below : list[RecordedCall]
        Calls below that ran again.
    """

    difference: CallDifference | None
    cause: Cause
    below: list[RecordedCall]


async def explain_call(backend: Repository, call: RecordedCall) -> Reason:
    """
    Find what made a call run, against the earlier call of its task that it is most like.

    Parameters
    ----------
    backend : RedunBackendDb
        The repository to look in.
    call : RecordedCall
        The call.

    Returns
    -------
    Reason
        The cause is `cached` for a call that did not run, `first` where no other execution has called the
        task before, `changed` where arguments, source or version differ; `below` names calls that it made and
        that ran again.
    """
    earlier = await find_earlier_call(backend, call)
    if earlier is None:
        return Reason(None, "first", [])
    [difference] = await compare_calls(backend, [(earlier, call)])
    if difference.arguments or difference.task is not None:
        # What differs from a call beside it made nothing run again: both ran for the first time.
        if earlier.execution_id == call.execution_id:
            return Reason(difference, "cached" if call.cached else "first", [])
        return Reason(difference, "changed", [])
    if call.cached:
        return Reason(difference, "cached", [])
    execution = await find_one(backend, "Execution", call.execution_id)
    if "--no-cache" in (read_command(execution.args) or ()):
        return Reason(difference, "no_cache", [])
    if earlier.result_type == ERROR_TYPE_NAME:
        return Reason(difference, "earlier_failed", [])
    if difference.result_files:
        return Reason(difference, "result_gone", [])
    is_other = earlier.call_hash != call.call_hash
    below = await list_calls_below(backend, call.job_id, MAX_BELOW) if is_other else []
    return Reason(difference, "below" if below else "unknown", below)


def list_values(differences: Iterable[CallDifference]) -> set[str]:
    """Return the hashes of the arguments that differ."""
    both = ((row.before, row.after) for each in differences for row in each.arguments)
    return {value_hash for pair in both for value_hash in pair if value_hash is not None}


async def load_names(backend: Repository, differences: Iterable[CallDifference]) -> dict[str, list[str]]:
    """Return the names of the parameters of tasks whose arguments differ, by hash of the later task."""
    tasks = await load_all(backend, Task, {each.after.task_hash for each in differences if each.arguments})
    return {task_hash: list(read_parameters(task.source)[0] or ()) for task_hash, task in tasks.items()}


def join_places(rows: Iterable[ArgumentDifference], names: list[str]) -> list[tuple[str, ArgumentDifference]]:
    """Return the arguments by name; one that was given by position, then by keyword, is one argument."""
    found: dict[str, ArgumentDifference] = {}
    for row in rows:
        name = _get_name(row, names)
        earlier = found.get(name)
        if earlier is None:
            found[name] = row
        else:
            old, new = (earlier, row) if earlier.after is None else (row, earlier)
            found[name] = replace(new, before=old.before)
    return list(found.items())


def _get_name(row: ArgumentDifference, names: list[str]) -> str:
    if row.position is None:
        return row.key or "?"
    return names[row.position] if row.position < len(names) else str(row.position + 1)
