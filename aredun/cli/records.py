"""Records of a call graph for people: one line each, or in detail, with nothing read that is not shown."""

from __future__ import annotations

import json
from collections import Counter
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from aredun.cli.chunks import MAX_LINES, in_chunks, iterate
from aredun.cli.tables import (
    STATUS_STYLES,
    Printer,
    clean,
    clean_line,
    format_traceback,
    show_duration,
    show_id,
    show_preview,
    show_status,
    show_tags,
    show_time,
)
from aredun.dataflow import display_dataflow, make_dataflow_dom, walk_dataflow
from aredun.formats import statuses
from aredun.formats.arguments import read_command
from aredun.formats.tag_syntax import DOC_KEY
from aredun.models import CallNode, Execution, File, Job, Task, Value
from aredun.search.call_texts import get_ancestors, get_arguments_texts, get_last_sign
from aredun.search.identify import find_use, get_key
from aredun.search.job_tree import FoldedJobs, JobRow, TreeLine, count_jobs, get_job_tree
from aredun.search.loading import load_first_job, load_one
from aredun.tables.column_types import utcnow

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
    from datetime import datetime, timedelta

    from rich.console import Console

    from aredun.backend import RedunBackendDb
    from aredun.cli.tables import Part

    Tags = Iterable[tuple[str, Any]]

# Edges of an upstream dataflow that the log follows; `aredun dataflow` follows all.
MAX_EDGES = 2_000
RULE = "-" * 80
MAX_TREE_INDENT = 60


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
        self._console = console
        self._printer = Printer(console)
        self._now: datetime = utcnow()
        self._cutoff = self._now - abandoned_after
        self._full = full

    async def write_json(self, ids: AsyncIterator[str]) -> None:
        """Write records as redun's JSON, one on a line, in the order of the ids; memory stays flat."""
        async for chunk in in_chunks(ids, MAX_LINES, MAX_LINES):
            async for record in self._backend.get_records(chunk):
                self._console.file.write(json.dumps(record, sort_keys=True) + "\n")
            self._console.file.flush()

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
                self._job_line(record, arguments, own_tags)
            elif isinstance(record, CallNode):
                self._call_node_line(record, own_tags)
            elif isinstance(record, Task):
                self._task_line(record, own_tags)
            else:
                self._value_line(record, own_tags, f" {show_preview(previews.get(record.value_hash))}")
        self._printer.flush()

    async def _get_tags(self, ids: Sequence[str]) -> dict[str, Tags]:
        found = await self._backend.get_tags(ids) if ids else {}
        return {key: list(found.get(key, ())) for key in ids}

    def _execution_line(self, execution: Execution, tags: Tags, detail: bool = False) -> None:
        job = execution.job
        started = show_time(job.start_time if job else None, self._now)
        duration = f" {show_duration(job.duration)}" if job and job.end_time and not detail else ""
        words = read_command(execution.args)
        arguments = clean_line(execution.args if words is None else " ".join(words[1:]))
        parts = (*show_status(execution.status), f" {started}{duration}:  {arguments}")
        self._line("Exec", execution.id, tags, 0, detail, *parts)

    def _job_line(
        self, job: Job | JobRow, arguments: dict[str, str], tags: Tags, indent: int = 0, detail: bool = False
    ) -> None:
        name = job.task.fullname if isinstance(job, Job) else job.task_name
        call = arguments.get(job.call_hash, "") if job.call_hash else ""
        duration = f" {show_duration(job.end_time - job.start_time)}" if job.end_time and not detail else ""
        started = f" {show_time(job.start_time, self._now)}{duration}:  "
        parts = (*show_status(job.status), started, (clean_line(name), "bold"), f"({call})")
        self._line("Job", job.id, tags, indent, detail, *parts)

    def _task_line(self, task: Task, tags: Tags, indent: int = 0, detail: bool = False) -> None:
        self._line("Task", task.hash, tags, indent, detail, (clean_line(task.fullname), "bold"))

    def _call_node_line(self, node: CallNode, tags: Tags, indent: int = 0, detail: bool = False) -> None:
        name = node.task.fullname if "task" in node.__dict__ else node.task_name
        self._line("CallNode", node.call_hash, tags, indent, detail, (clean_line(name), "bold"))

    def _value_line(self, value: Value, tags: Tags, preview: str = "") -> None:
        self._line("Value", value.value_hash, tags, 0, False, (clean_line(value.type), "dim"), preview)

    def _file_line(self, file: File, tags: Tags) -> None:
        self._line("File", file.value_hash, tags, 0, False, clean_line(file.path))

    def _line(self, kind: str, key: str, tags: Tags, indent: int, detail: bool, *parts: Part) -> None:
        head = ((f"{kind} ", "bold"), show_id(key, detail), " ")
        self._printer.line(*head, *parts, show_tags(tags), indent=indent)

    def _docs(self, tags: Tags, indent: int = 0) -> None:
        for key, value in tags:
            if key == DOC_KEY:
                self._printer.line()
                self._printer.line(clean(str(value)), indent=indent + 2)


class RecordPrinter(LinePrinter):
    """Shows records in detail, or on a line each; takes what `LinePrinter` takes."""

    async def show_record(self, record: Any) -> None:
        """Show a record in detail: of the models, or what `find_file` returns."""
        shows: dict[type, Callable[[Any], Awaitable[None]]] = {
            tuple: lambda found: self._show_file(found[0]),
            Execution: self._show_execution,
            Job: self._show_job,
            CallNode: self._show_call_node,
            Task: self._show_task,
            Value: self._show_value,
        }
        await shows[type(record)](record)
        self._printer.flush()

    async def _show_execution(self, execution: Execution) -> None:
        tags = (await self._get_tags([execution.id]))[execution.id]
        self._execution_line(execution, tags, detail=True)
        job = execution.job
        if job is not None and job.end_time is not None:
            self._printer.line(f"Duration: {show_duration(job.duration)}")
        elif job is not None and execution.status == statuses.RUNNING:
            self._printer.line(f"Duration: {show_duration(self._now - job.start_time)} so far")
        else:
            sign = await get_last_sign(self._backend, execution.id)
            self._printer.line(f"Last sign of life: {show_time(sign, self._now)}")
        self._docs(tags)
        self._printer.line()
        await self._show_job_counts(execution.id)
        await self._show_tree(execution.id)

    async def _show_job_counts(self, execution_id: str) -> None:
        counts = await count_jobs(self._backend, execution_id, self._cutoff)
        total: Counter[str] = sum(counts.values(), Counter())
        shown = [name for name in statuses.JOB_STATUSES if name != statuses.ABANDONED or total[name]]
        rows = [("ALL", total), *counts.items()]
        width = max(len("TASK"), *(len(clean_line(name)) for name, _ in rows))
        header = "".join(f" {name:>9}" for name in [*shown, "TOTAL"])
        self._printer.line((f"| {'TASK'.ljust(width)}{header}", "bold"))
        for name, by_status in rows:
            numbers: list[Part] = [
                (f" {by_status[status]:>9}", STATUS_STYLES[status] if by_status[status] else "dim")
                for status in shown
            ]
            self._printer.line(f"| {clean_line(name).ljust(width)}", *numbers, f" {by_status.total():>9}")
        parts = [f"{name}: {total[name]}" for name in ("DONE", "CACHED", "FAILED")]
        parts += [f"{name}: {total[name]}" for name in ("RUNNING", "ABANDONED") if total[name]]
        self._printer.line()
        self._printer.line(f"Jobs: {total.total()} ({', '.join(parts)})")
        self._printer.line(RULE)

    async def _show_tree(self, execution_id: str) -> None:
        limits: dict[str, Any] = {"fold": None, "max_jobs": None} if self._full else {}
        tree = await get_job_tree(self._backend, execution_id, self._cutoff, **limits)
        async for lines in in_chunks(iterate(tree.walk_lines())):
            await self._show_tree_lines(lines)
        if tree.is_cut:
            self._printer.line("... more jobs below: --full shows all")
        self._printer.flush()

    async def _show_tree_lines(self, lines: Sequence[TreeLine]) -> None:
        jobs = [line.entry for line in lines if isinstance(line.entry, JobRow)]
        tags = await self._get_tags([job.id for job in jobs])
        calls = [job.call_hash for job in jobs]
        arguments = await get_arguments_texts(self._backend, calls, show_preview)
        for depth, entry in lines:
            indent = min(2 * depth, MAX_TREE_INDENT)
            if isinstance(entry, FoldedJobs):
                counts = ", ".join(f"{status}: {count}" for status, count in sorted(entry.counts.items()))
                total = sum(entry.counts.values())
                text = f"... {total} more jobs of {clean_line(entry.task_name)} ({counts})"
                self._printer.line((text, "dim"), indent=indent)
            else:
                self._job_line(entry, arguments, tags[entry.id], indent=indent)
        self._printer.flush()

    async def _show_job(self, job: Job) -> None:
        node = await load_one(self._backend, CallNode, job.call_hash)
        tags = (await self._get_tags([job.id]))[job.id]
        arguments = await get_arguments_texts(self._backend, [job.call_hash], show_preview)
        self._job_line(job, arguments, tags, detail=True)
        await self._show_job_path(job)
        if job.end_time is not None:
            self._printer.line(f"Duration: {show_duration(job.duration)}")
        self._docs(tags)
        self._printer.line()
        if node is None:
            self._printer.line("CallNode UNKNOWN: Job has not finished or has been killed.", indent=2)
            self._printer.line()
            await self._show_task(job.task, show_job=False, indent=2)
            return
        await self._show_call_node(node, arguments, neighbours=False, indent=2)
        if job.status == statuses.FAILED:
            self._printer.line("Traceback:", indent=2)
            for line in format_traceback(await self._backend.entities.get_preview(node.value_hash)):
                self._printer.line(clean(line), indent=2)

    async def _show_job_path(self, job: Job) -> None:
        above = await get_ancestors(self._backend, job.id)
        parts = [f"Exec {show_id(job.execution_id)}"]
        if len(above) > 1:
            parts.append(f"({len(above) - 1} {'Jobs' if len(above) > 2 else 'Job'})")
        parts += [f"Job {show_id(parent.id)} {clean_line(parent.task_name)}" for parent in above[:1]]
        parts.append(f"Job {show_id(job.id)} {clean_line(job.task.fullname)}")
        self._printer.line(f"Traceback: {' > '.join(parts)}")

    async def _show_call_node(
        self,
        node: CallNode,
        arguments: Mapping[str, str] | None = None,
        *,
        neighbours: bool = True,
        indent: int = 0,
    ) -> None:
        backend, printer, inner = self._backend, self._printer, indent + 2
        tags = (await self._get_tags([node.call_hash]))[node.call_hash]
        self._call_node_line(node, tags, indent=indent, detail=True)
        if arguments is None:
            arguments = await get_arguments_texts(backend, [node.call_hash], show_preview)
        printer.line(f"Args:   {arguments[node.call_hash]}", indent=inner)
        value = await load_one(backend, Value, node.value_hash)
        preview = await backend.entities.get_preview(node.value_hash)
        if value is not None and value.type == statuses.ERROR_TYPE_NAME:
            error = show_preview(getattr(preview, "error", "Unknown"))
            printer.line("Raised: ", (error, "red"), indent=inner)
        else:
            printer.line(f"Result: {show_preview(preview)}", indent=inner)
        if neighbours:
            parents, children = await node.parents(), await node.children()
            for title, nodes in (("Parent CallNodes:", parents), ("Child CallNodes:", children)):
                if nodes:
                    printer.line(title, indent=inner)
                for neighbour in nodes if self._full else nodes[:MAX_LINES]:
                    self._call_node_line(neighbour, (), indent=inner + 2)
                if not self._full and len(nodes) > MAX_LINES:
                    printer.line(f"... {len(nodes) - MAX_LINES} more", indent=inner + 2)
        printer.line()
        task = await load_one(self._backend, Task, node.task_hash)
        if task is not None:
            await self._show_task(task, show_job=False, indent=indent)
        if value is not None:
            printer.line()
            await self._show_dataflow(value, "result", preview, indent)

    async def _show_task(self, task: Task, *, show_job: bool = True, indent: int = 0) -> None:
        tags = (await self._get_tags([task.hash]))[task.hash]
        self._task_line(task, tags, indent=indent, detail=True)
        if show_job:
            first = await load_first_job(self._backend, task.hash)
            if first is not None:
                started = show_time(first.start_time, self._now)
                self._printer.line(f"First Job {show_id(first.id)} {started}", indent=indent + 2)
        self._docs(tags, indent)
        self._printer.line()
        loaded = task if "source" in task.__dict__ else await load_one(self._backend, Task, task.hash)
        if loaded is not None:
            self._printer.line(clean(loaded.source).rstrip("\n"), indent=indent + 2)

    async def _show_value(self, value: Value) -> None:
        file = await load_one(self._backend, File, value.value_hash)
        if file is not None:
            await self._show_file(file)
        else:
            self._value_line(value, (await self._get_tags([value.value_hash]))[value.value_hash])
            self._printer.line(clean(repr(await value.value_parsed())))
        self._printer.line()
        preview = await self._backend.entities.get_preview(value.value_hash)
        await self._show_dataflow(value, "value", preview, 0)

    async def _show_file(self, file: File) -> None:
        tags = (await self._get_tags([file.value_hash]))[file.value_hash]
        self._file_line(file, tags)
        # The job that made the file first says where it comes from; later ones may have had it from the
        # cache.
        use = await find_use(self._backend, file.value_hash, self._cutoff)
        if use is None:
            return
        job, kind = use
        self._printer.line(f"{'Produced' if kind == 'result' else 'Consumed'} by Job {show_id(job.id)}")
        self._printer.line()
        arguments = await get_arguments_texts(self._backend, [job.call_hash], show_preview)
        self._job_line(job, arguments, (await self._get_tags([job.id]))[job.id], indent=2)

    async def _show_dataflow(self, value: Value, name: str, preview: Any, indent: int) -> None:
        printer = self._printer
        printer.line("Upstream dataflow:", indent=indent)
        printer.line()
        printer.line(f"{name} = {show_preview(preview)}", indent=indent + 2)
        printer.line()
        # One more than is shown tells whether there are more.
        most = None if self._full else MAX_EDGES + 1
        async with aclosing(walk_dataflow(self._backend, value, max_edges=most)) as walk:
            edges = [edge async for edge in walk]
        is_cut = not self._full and len(edges) > MAX_EDGES
        dom = make_dataflow_dom(edges[:MAX_EDGES] if is_cut else edges, new_varname=name)
        async for line in display_dataflow(self._backend, dom):
            printer.line(clean_line(line), indent=indent + 2 if line else 0)
        if is_cut:
            command = f"aredun dataflow {show_id(value.value_hash)}"
            printer.line(f"... cut after {MAX_EDGES} edges: '{command}' shows all", indent=indent + 2)
        printer.flush()
