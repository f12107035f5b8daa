"""Records of a call graph on a line each, with tags and previews fetched for many at once."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from aredun.cli.tables import (
    Printer,
    clean_line,
    get_docs,
    show_duration,
    show_id,
    show_preview,
    show_status,
    show_tags,
    show_time,
)
from aredun.models import CallNode, Execution, File, Job, Task, Value
from aredun.search.call_texts import get_arguments_texts
from aredun.search.identify import get_key
from aredun.search.job_tree import JobRow
from aredun.tables.column_types import utcnow

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Sequence
    from datetime import datetime, timedelta

    from rich.console import Console

    from aredun.backend import RedunBackendDb
    from aredun.cli.tables import Part

FIRST_LINES, MAX_LINES = 20, 500


class LinePrinter:
    """
    Shows records on a console, each on a line.

    Parameters
    ----------
    backend : RedunBackendDb
        Where the records come from.
    console : Console
        Where to write; only as much is read as is written.
    abandoned_after : timedelta
        How long a run may be silent before it counts as ABANDONED.
    full : bool
        Leave nothing out: no folded jobs, no cut dataflow.
    """

    def __init__(
        self, backend: RedunBackendDb, console: Console, abandoned_after: timedelta, full: bool = False
    ) -> None:
        self._backend = backend
        self._printer = Printer(console)
        self._now: datetime = utcnow()
        self._cutoff = self._now - abandoned_after
        self._full = full

    async def show_lines(self, records: AsyncIterator[Any]) -> int:
        """Show records on a line each, in the order given, and return how many there were."""
        total, size = 0, FIRST_LINES
        chunk: list[Any] = []
        async for record in records:
            chunk.append(record)
            if len(chunk) == size:
                total += await self._show_chunk(chunk)
                chunk, size = [], min(size * 4, MAX_LINES)
        return total + await self._show_chunk(chunk)

    async def show_files(self, files: AsyncIterator[File]) -> int:
        """Show files on a line each, every path once, and return how many there were."""
        total, size, previous = 0, FIRST_LINES, None
        chunk: list[File] = []
        async for file in files:
            if file.path == previous:
                continue
            previous = file.path
            chunk.append(file)
            if len(chunk) == size:
                await self._show_file_chunk(chunk)
                total, chunk, size = total + len(chunk), [], min(size * 4, MAX_LINES)
        await self._show_file_chunk(chunk)
        return total + len(chunk)

    async def _show_file_chunk(self, files: Sequence[File]) -> None:
        tags = await self._get_tags([file.value_hash for file in files])
        for file in files:
            self._file_line(file, tags[file.value_hash])
        self._printer.flush()

    async def _show_chunk(self, records: Sequence[Any]) -> int:
        if not records:
            return 0
        tags = await self._get_tags([get_key(record) for record in records])
        calls = {record.call_hash for record in records if isinstance(record, Job) and record.call_hash}
        arguments = await get_arguments_texts(self._backend, calls, show_preview)
        values = [record.value_hash for record in records if isinstance(record, Value)]
        previews = await self._backend.get_previews(values) if values else {}
        for record in records:
            own_tags = tags[get_key(record)]
            if isinstance(record, Execution):
                self._execution_line(record, own_tags)
            elif isinstance(record, Job):
                self._job_line(make_job_row(record), arguments, own_tags)
            elif isinstance(record, CallNode):
                self._call_node_line(record, own_tags)
            elif isinstance(record, Task):
                self._task_line(record, own_tags)
            else:
                self._value_line(record, previews.get(record.value_hash), own_tags)
        self._printer.flush()
        return len(records)

    async def _get_tags(self, ids: Sequence[str]) -> dict[str, list[tuple[str, Any]]]:
        found = await self._backend.get_tags(ids) if ids else {}
        return {key: list(found.get(key, ())) for key in ids}

    def _execution_line(self, execution: Execution, tags: Iterable[Any], detail: bool = False) -> None:
        job = execution.job
        started = show_time(job.start_time if job else None, self._now)
        line: list[Part] = [
            ("Exec ", "bold"),
            show_id(execution.id, detail),
            " ",
            *show_status(execution.status),
        ]
        duration = f" {show_duration(job.duration)}" if job and job.end_time and not detail else ""
        arguments = clean_line(" ".join(_get_arguments(execution)))
        self._printer.line(*line, f" {started}{duration}:  {arguments}", show_tags(tags))

    def _job_line(
        self,
        job: JobRow,
        arguments: dict[str, str],
        tags: Iterable[Any],
        *,
        indent: int = 0,
        detail: bool = False,
    ) -> None:
        call = arguments.get(job.call_hash, "") if job.call_hash else ""
        duration = f" {show_duration(job.end_time - job.start_time)}" if job.end_time and not detail else ""
        self._printer.line(
            ("Job ", "bold"),
            show_id(job.id, detail),
            " ",
            *show_status(job.status),
            f" {show_time(job.start_time, self._now)}{duration}:  ",
            (clean_line(job.task_name), "bold"),
            f"({call})",
            show_tags(tags),
            indent=indent,
        )

    def _task_line(self, task: Task, tags: Iterable[Any], *, indent: int = 0, detail: bool = False) -> None:
        name = (clean_line(task.fullname), "bold")
        parts: list[Part] = [("Task ", "bold"), show_id(task.hash, detail), " ", name, show_tags(tags)]
        self._printer.line(*parts, indent=indent)

    def _call_node_line(
        self, node: CallNode, tags: Iterable[Any], *, indent: int = 0, detail: bool = False
    ) -> None:
        name = (clean_line(node.task.fullname if "task" in node.__dict__ else node.task_name), "bold")
        parts: list[Part] = [
            ("CallNode ", "bold"),
            show_id(node.call_hash, detail),
            " ",
            name,
            show_tags(tags),
        ]
        self._printer.line(*parts, indent=indent)

    def _value_line(self, value: Value, preview: Any, tags: Iterable[Any]) -> None:
        kind = (clean_line(value.type), "dim")
        parts: list[Part] = [
            ("Value ", "bold"),
            show_id(value.value_hash),
            " ",
            kind,
            f" {show_preview(preview)}",
        ]
        self._printer.line(*parts, show_tags(tags))

    def _file_line(self, file: File, tags: Iterable[Any]) -> None:
        parts: list[Part] = [
            ("File ", "bold"),
            show_id(file.value_hash),
            f" {clean_line(file.path)}",
            show_tags(tags),
        ]
        self._printer.line(*parts)

    def _docs(self, tags: Iterable[Any], indent: int = 0) -> None:
        for text in get_docs(tags):
            self._printer.line()
            self._printer.line(text, indent=indent + 2)


def make_job_row(job: Job) -> JobRow:
    name = job.task.fullname
    times = (job.start_time, job.end_time)
    return JobRow(job.id, job.parent_id, job.task_hash, job.call_hash, *times, name, job.status)


def _get_arguments(execution: Execution) -> list[str]:
    try:
        arguments = json.loads(execution.args)
        return [str(argument) for argument in arguments[1:]]
    except (ValueError, TypeError, KeyError):
        return [execution.args]
