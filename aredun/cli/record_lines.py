"""Records of a call graph on a line each, with tags and previews fetched for many at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aredun.cli.chunks import in_chunks
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
from aredun.formats.arguments import read_command
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

    async def show_lines(self, records: AsyncIterator[Any]) -> None:
        """Show records on a line each, in the order given."""
        async for chunk in in_chunks(records):
            await self._show_chunk(chunk)

    async def show_files(self, files: AsyncIterator[File]) -> None:
        """Show files on a line each, every path once, as long as they come by path."""
        previous = None
        async for chunk in in_chunks(files):
            tags = await self._get_tags([file.value_hash for file in chunk])
            for file in chunk:
                if file.path != previous:
                    self._file_line(file, tags[file.value_hash])
                previous = file.path
            self._printer.flush()

    async def _show_chunk(self, records: Sequence[Any]) -> None:
        tags = await self._get_tags([get_key(record) for record in records])
        calls = [record.call_hash for record in records if isinstance(record, Job)]
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

    async def _get_tags(self, ids: Sequence[str]) -> dict[str, list[tuple[str, Any]]]:
        found = await self._backend.get_tags(ids) if ids else {}
        return {key: list(found.get(key, ())) for key in ids}

    def _execution_line(self, execution: Execution, tags: Iterable[Any], detail: bool = False) -> None:
        job = execution.job
        started = show_time(job.start_time if job else None, self._now)
        duration = f" {show_duration(job.duration)}" if job and job.end_time and not detail else ""
        words = read_command(execution.args)
        arguments = clean_line(execution.args if words is None else " ".join(words[1:]))
        status = show_status(execution.status)
        told = f" {started}{duration}:  {arguments}"
        self._line("Exec", execution.id, detail, " ", *status, told, show_tags(tags))

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
        self._line(
            "Job",
            job.id,
            detail,
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
        self._line("Task", task.hash, detail, " ", name, show_tags(tags), indent=indent)

    def _call_node_line(
        self, node: CallNode, tags: Iterable[Any], *, indent: int = 0, detail: bool = False
    ) -> None:
        name = (clean_line(node.task.fullname if "task" in node.__dict__ else node.task_name), "bold")
        self._line("CallNode", node.call_hash, detail, " ", name, show_tags(tags), indent=indent)

    def _value_line(self, value: Value, preview: Any, tags: Iterable[Any]) -> None:
        kind = (clean_line(value.type), "dim")
        self._line("Value", value.value_hash, False, " ", kind, f" {show_preview(preview)}", show_tags(tags))

    def _file_line(self, file: File, tags: Iterable[Any]) -> None:
        self._line("File", file.value_hash, False, f" {clean_line(file.path)}", show_tags(tags))

    def _line(self, kind: str, record_id: str, detail: bool, *parts: Part, indent: int = 0) -> None:
        self._printer.line((f"{kind} ", "bold"), show_id(record_id, detail), *parts, indent=indent)

    def _docs(self, tags: Iterable[Any], indent: int = 0) -> None:
        for text in get_docs(tags):
            self._printer.line()
            self._printer.line(text, indent=indent + 2)


def make_job_row(job: Job) -> JobRow:
    name = job.task.fullname
    times = (job.start_time, job.end_time)
    return JobRow(job.id, job.parent_id, job.task_hash, job.call_hash, *times, name, job.status)
