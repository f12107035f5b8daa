"""`aredun query`: the records that meet filters, in pages, for people and programs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from aredun.cli.chunks import take
from aredun.cli.common import open_backend
from aredun.cli.log import get_abandoned_after, limit_records, make_query, show_counts
from aredun.cli.records import LinePrinter
from aredun.cli.tables import paged
from aredun.models import CallNode, Execution, Job, Task
from aredun.search.identify import get_key, refuse_empty

if TYPE_CHECKING:
    import argparse
    from datetime import datetime

    from rich.console import Console

    from aredun.query import CallGraphQuery

DEFAULT_PAGE_SIZE = 100


async def run(args: argparse.Namespace, console: Console) -> None:
    """Show the records that the arguments ask for."""
    async with open_backend(args) as backend:
        query = await make_query(backend, args)
        query = query.clone(order_by="time" if args.order_by == "time" else None)
        if args.id is not None:
            refuse_empty(args.id)
            query = query.like_id(args.id)
        if args.count:
            await show_counts(query, args, console)
        elif args.page is not None:
            await _write_page(query, args, console)
        elif args.select:
            await _write_columns(query, args, console)
        elif args.format == "json":
            async for record in limit_records(query, args.limit):
                console.file.write(json.dumps(describe_record(record)) + "\n")
        else:
            with paged(console, not args.no_pager) as output:
                printer = LinePrinter(backend, output, get_abandoned_after(args, backend))
                await printer.show_lines(limit_records(query, args.limit))


async def _write_page(query: CallGraphQuery, args: argparse.Namespace, console: Console) -> None:
    size = DEFAULT_PAGE_SIZE if args.limit is None else args.limit
    page = await query.page_after(args.page or None, size)
    records = [describe_record(record) for record in page.records]
    console.file.write(json.dumps({"records": records, "cursor": page.cursor}) + "\n")


async def _write_columns(query: CallGraphQuery, args: argparse.Namespace, console: Console) -> None:
    columns = args.select.split(",")
    async for row in take(query.select(*columns), args.limit):
        if args.format == "json":
            console.file.write(json.dumps(dict(zip(columns, row, strict=True))) + "\n")
        else:
            console.file.write("\t".join(row) + "\n")


def describe_record(record: Any) -> dict[str, Any]:
    """
    Return a record as plain data for programs; times are in ISO format, values come without their data.

    Parameters
    ----------
    record : Execution | Job | CallNode | Task | Value
        A record that a query yielded.
    """
    head: dict[str, Any] = {"type": type(record).__name__, "id": get_key(record)}
    if isinstance(record, Execution):
        return head | {
            "status": record.status,
            **(_show_times(record.job) if record.job else {}),
            "updated_time": _show_time(record.updated_time),
            "job_id": record.job_id,
            "task": record.job.task.fullname if record.job else None,
            "args": record.args,
        }
    if isinstance(record, Job):
        times = {"status": record.status, **_show_times(record), "task": record.task.fullname}
        return head | times | _copy(record, "task_hash", "call_hash", "parent_id", "execution_id", "cached")
    if isinstance(record, CallNode):
        hashes = _copy(record, "task_hash", "args_hash", "value_hash")
        return head | {"task": record.task_name, **hashes, "timestamp": _show_time(record.timestamp)}
    if isinstance(record, Task):
        return head | _copy(record, "name", "namespace", "source")
    return head | {"value_type": record.type, "format": record.format}


def _copy(record: Any, *names: str) -> dict[str, Any]:
    return {name: getattr(record, name) for name in names}


def _show_times(job: Job) -> dict[str, Any]:
    return {
        "start_time": _show_time(job.start_time),
        "end_time": _show_time(job.end_time),
        "duration": job.duration.total_seconds() if job.duration is not None else None,
    }


def _show_time(time: datetime | None) -> str | None:
    return time.isoformat() if time else None
