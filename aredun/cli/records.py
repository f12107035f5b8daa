"""Records of a call graph for people: one line each, or in detail, with nothing read that is not shown."""

from __future__ import annotations

from collections import Counter
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from aredun.cli.chunks import MAX_LINES, in_chunks, iterate
from aredun.cli.record_lines import LinePrinter, make_job_row
from aredun.cli.tables import (
    STATUS_STYLES,
    clean,
    clean_line,
    format_traceback,
    show_duration,
    show_id,
    show_preview,
    show_tags,
    show_time,
)
from aredun.dataflow import display_dataflow, make_dataflow_dom, walk_dataflow
from aredun.formats import statuses
from aredun.models import CallNode, Execution, File, Job, Task, Value
from aredun.search.call_texts import get_ancestors, get_arguments_texts, get_last_sign
from aredun.search.identify import find_use
from aredun.search.job_tree import FoldedJobs, JobRow, TreeLine, count_jobs, get_job_tree
from aredun.search.loading import load_first_job, load_one

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from aredun.cli.tables import Part

# Edges of an upstream dataflow that the log follows; `aredun dataflow` follows all.
MAX_EDGES = 2_000
RULE = "-" * 80
MAX_TREE_INDENT = 60


class RecordPrinter(LinePrinter):
    """Shows records in detail, or on a line each; takes what `LinePrinter` takes."""

    async def show_record(self, record: Any) -> None:
        """Show a record in detail: of the models, or what `find_file` returns."""
        if isinstance(record, tuple):
            await self._show_file(record[0])
        elif isinstance(record, Execution):
            await self._show_execution(record)
        elif isinstance(record, Job):
            await self._show_job(record, await load_one(self._backend, CallNode, record.call_hash))
        elif isinstance(record, CallNode):
            await self._show_call_node(record)
        elif isinstance(record, Task):
            await self._show_task(record)
        elif isinstance(record, Value):
            await self._show_value(record)
        self._printer.flush()

    async def _show_execution(self, execution: Execution) -> None:
        tags = (await self._get_tags([execution.id]))[execution.id]
        self._execution_line(execution, tags, detail=True)
        job = execution.job
        if job is not None and job.end_time is not None:
            self._printer.line(f"Duration: {show_duration(job.duration)}")
        elif execution.status == statuses.RUNNING and job is not None:
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

    async def _show_job(self, job: Job, node: CallNode | None) -> None:
        tags = (await self._get_tags([job.id]))[job.id]
        arguments = await get_arguments_texts(self._backend, [job.call_hash], show_preview)
        self._job_line(make_job_row(job), arguments, tags, detail=True)
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
            await self._show_traceback(node.value_hash, indent=2)

    async def _show_job_path(self, job: Job) -> None:
        above = await get_ancestors(self._backend, job.id)
        parts = [f"Exec {show_id(job.execution_id)}"]
        if len(above) > 1:
            parts.append(f"({len(above) - 1} {'Jobs' if len(above) > 2 else 'Job'})")
        parts += [f"Job {show_id(parent.id)} {clean_line(parent.task_name)}" for parent in above[:1]]
        parts.append(f"Job {show_id(job.id)} {clean_line(job.task.fullname)}")
        self._printer.line(f"Traceback: {' > '.join(parts)}")

    async def _show_traceback(self, value_hash: str, indent: int) -> None:
        error = (await self._backend.get_previews([value_hash])).get(value_hash)
        self._printer.line("Traceback:", indent=indent)
        for line in format_traceback(error):
            self._printer.line(clean(line), indent=indent)

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
        preview = (await backend.get_previews([node.value_hash])).get(node.value_hash)
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
            tags = (await self._get_tags([value.value_hash]))[value.value_hash]
            kind = (clean_line(value.type), "dim")
            self._line("Value", value.value_hash, False, " ", kind, show_tags(tags))
            self._printer.line(clean(repr(await value.value_parsed())))
        self._printer.line()
        preview = (await self._backend.get_previews([value.value_hash])).get(value.value_hash)
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
        self._job_line(make_job_row(job), arguments, (await self._get_tags([job.id]))[job.id], indent=2)

    async def _show_dataflow(self, value: Value, name: str, preview: Any, indent: int) -> None:
        printer = self._printer
        printer.line("Upstream dataflow:", indent=indent)
        printer.line()
        printer.line(f"{name} = {show_preview(preview)}", indent=indent + 2)
        printer.line()
        edges: list[Any] = []
        async with aclosing(walk_dataflow(self._backend, value)) as walk:
            async for edge in walk:
                if not self._full and len(edges) == MAX_EDGES:
                    break
                edges.append(edge)
            is_cut = not self._full and len(edges) == MAX_EDGES
        dom = make_dataflow_dom(edges, new_varname=name)
        async for line in display_dataflow(self._backend, dom):
            printer.line(clean_line(line), indent=indent + 2 if line else 0)
        if is_cut:
            command = f"aredun dataflow {show_id(value.value_hash)}"
            printer.line(f"... cut after {MAX_EDGES} edges: '{command}' shows all", indent=indent + 2)
        printer.flush()
