"""`aredun why JOB` and `aredun diff EXEC1 EXEC2`: in words, what made calls run again."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any

from aredun.cli.common import open_backend
from aredun.cli.tables import Printer, clean, clean_line, paged, show_id, show_preview, show_time
from aredun.errors import UsageError
from aredun.search.differences import compare_executions, get_call
from aredun.search.identify import find_one
from aredun.search.reasons import explain_call, join_places, list_values, load_names
from aredun.tables.column_types import utcnow

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Sequence

    from rich.console import Console

    from aredun.backend import RedunBackendDb
    from aredun.search.differences import (
        ArgumentDifference,
        CallDifference,
        FileDifference,
        RecordedCall,
        TaskDifference,
        TaskSource,
    )
    from aredun.search.reasons import Reason

# Calls of one task in one execution only that are listed.
MAX_LISTED = 20
# What made a call run that is like an earlier one.
_CAUSES = {
    "no_cache": "- it was run with --no-cache",
    "earlier_failed": "- the earlier call failed, and failures are not taken from the cache",
    "result_gone": "- the file that was its result was no longer what the earlier call had left",
    "below": "- calls that it made ran again:",
    "unknown": "- nothing recorded tells them apart: the task may not be cached (cache=False), a file\n"
    "  in its result may have been gone, or the earlier call had not ended yet",
}


async def run_why(args: argparse.Namespace, console: Console) -> None:
    """Tell what made a job run."""
    async with open_backend(args) as backend:
        job = await find_one(backend, "Job", args.id)
        call = await get_call(backend, job.id)
        if call is None:
            raise UsageError(f"job {job.id} has led to no call yet: ask again when it has ended")
        reason = await explain_call(backend, call)
        with paged(console, not args.no_pager) as output:
            words = Words(backend, Printer(output))
            await words.prepare([reason.difference] if reason.difference else [])
            words.explain(call, reason)


async def run_diff(args: argparse.Namespace, console: Console) -> None:
    """Tell in what two executions differ."""
    async with open_backend(args) as backend:
        before = await find_one(backend, "Execution", args.before)
        after = await find_one(backend, "Execution", args.after)
        tasks = await compare_executions(backend, before.id, after.id)
        with paged(console, not args.no_pager) as output:
            words = Words(backend, Printer(output))
            await words.prepare([each for task in tasks for each in task.changed])
            words.list_tasks(before.id, after.id, tasks)


class Words:
    """Puts differences into words.

    Parameters
    ----------
    backend : RedunBackendDb
        Where previews of values come from.
    printer : Printer
        Where to write.
    """

    def __init__(self, backend: RedunBackendDb, printer: Printer) -> None:
        self._backend = backend
        self._printer = printer
        self._previews: dict[str, Any] = {}
        self._names: dict[str, list[str]] = {}

    async def prepare(self, differences: Sequence[CallDifference]) -> None:
        """Fetch the previews and the names of all arguments that differ, before anything is written."""
        hashes = list_values(differences)
        self._previews = await self._backend.get_previews(hashes) if hashes else {}
        self._names = await load_names(self._backend, differences)

    def explain(self, call: RecordedCall, reason: Reason) -> None:
        """Tell why a job ran, against the earlier call that it is most like."""
        line, difference = self._printer.line, reason.difference
        is_first = reason.cause == "first"
        line(("Job ", "bold"), show_id(call.job_id), " ", (clean_line(call.task_name), "bold"))
        if is_first:
            line("It ran for the first time: no execution before has called its task.", indent=2)
        if difference is not None:
            before = difference.before
            if call.cached:
                line("It did not run: its result was taken from the cache.", indent=2)
            where = "this execution" if is_first else f"Exec {show_id(before.execution_id)}"
            when = show_time(before.start_time, utcnow())
            line(f"Compared with Job {show_id(before.job_id)} of {where}, {when}:", indent=2)
            self._list_differences(difference, indent=4, verb="differs" if is_first else "changed")
        if reason.cause not in ("changed", "first"):
            line("- the same arguments, source and version", indent=4)
            if reason.cause in _CAUSES:
                line(_CAUSES[reason.cause], indent=4)
            for below in reason.below:
                name, job_id = clean_line(below.task_name), show_id(below.job_id)
                line(f"{name}: 'aredun why {job_id}' tells why", indent=6)
        self._printer.flush()

    def list_tasks(self, before_id: str, after_id: str, tasks: Iterable[TaskDifference]) -> None:
        """Tell task by task in what two executions differ; tasks whose calls are all the same take a line."""
        line = self._printer.line
        line(("Exec ", "bold"), f"{show_id(before_id)} -> {show_id(after_id)}")
        for task in tasks:
            only = (("only before", task.only_before), ("only after", task.only_after))
            counts = [(task.same, "the same"), (len(task.changed) + task.more, "changed")]
            counts += [(len(calls), title) for title, calls in only]
            text = ", ".join(f"{count} {what}" for count, what in counts if count)
            line((clean_line(task.task_name), "bold"), f": {text}", indent=2)
            shown: set[tuple[str, str]] = set()
            for each in task.changed:
                line(f"Job {show_id(each.before.job_id)} -> Job {show_id(each.after.job_id)}", indent=4)
                versions = (each.before.task_hash, each.after.task_hash)
                self._list_differences(each, indent=6, with_source=versions not in shown)
                shown.add(versions)
                if not each.arguments and each.task is None:
                    line("- the same arguments and source, another result or other calls below", indent=6)
            if task.more:
                line(f"... {task.more} more changed", indent=4)
            for title, calls in only:
                for call in calls[:MAX_LISTED]:
                    line(f"{title}: Job {show_id(call.job_id)}", indent=4)
                if len(calls) > MAX_LISTED:
                    line(f"... {len(calls) - MAX_LISTED} more {title}", indent=4)
        self._printer.flush()

    def _list_differences(
        self, difference: CallDifference, *, indent: int, with_source: bool = True, verb: str = "changed"
    ) -> None:
        names = self._names.get(difference.after.task_hash, [])
        for name, row in join_places(difference.arguments, names):
            self._list_argument(clean_line(name), row, indent, verb)
        self._list_files(difference.result_files, "of the result ", indent)
        if difference.task is not None:
            self._list_task(*difference.task, indent=indent, with_source=with_source)

    def _list_argument(self, name: str, row: ArgumentDifference, indent: int, verb: str) -> None:
        line = self._printer.line
        old, new = (show_preview(self._previews.get(key)) if key else None for key in (row.before, row.after))
        if old is None:
            text = f"is new: {new}"
        elif new is None:
            text = f"is gone: it was {old}"
        elif row.before == row.after:
            text = "is given by position in one call, by keyword in the other"
        else:
            text = f"{verb}: {old} -> {new}"
        line(f"- argument {name} {text}", indent=indent)
        self._list_files(row.files, "", indent + 2)
        if row.origin is not None:
            task_name, job_id = clean_line(row.origin.task_name), show_id(row.origin.job_id)
            line(f"it is the result of {task_name}: 'aredun why {job_id}' tells why", indent=indent + 2)

    def _list_files(self, files: Iterable[FileDifference], whose: str, indent: int) -> None:
        for file in files:
            hashes = f"{show_id(file.before)} -> {show_id(file.after)}"
            self._printer.line(f"- file {whose}{clean_line(file.path)} has changed: {hashes}", indent=indent)

    def _list_task(self, before: TaskSource, after: TaskSource, *, indent: int, with_source: bool) -> None:
        line = self._printer.line
        if before.version != after.version:
            old, new = (clean_line(version or "none") for version in (before.version, after.version))
            line(f"- the version of the task changed: {old} -> {new}", indent=indent)
        elif before.source == after.source:
            line("- the task has another hash with the same source: its name or its options", indent=indent)
        if before.source != after.source:
            line("- the source of the task changed" + (":" if with_source else ", as above"), indent=indent)
            if with_source:
                lines = (before.source.splitlines(), after.source.splitlines())
                for text in list(difflib.unified_diff(*lines, n=1, lineterm=""))[2:]:
                    if not text.startswith("@@"):
                        line(clean(text), indent=indent + 4)
