"""`aredun query`: the records that meet filters, in pages, for people and programs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from aredun.cli.chunks import take
from aredun.cli.log import get_abandoned_after, limit_records, make_query, show_counts
from aredun.cli.records import RecordPrinter
from aredun.cli.tables import paged
from aredun.models import CallNode, Execution, Job, Task
from aredun.search.identify import get_key, refuse_empty

if TYPE_CHECKING:
    import argparse
    from datetime import datetime

    from rich.console import Console

    from aredun.query import CallGraphQuery

DEFAULT_PAGE_SIZE = 100


async def run(args: argparse.Namespace, console: Console) -> int:
    """Show the records that the arguments ask for."""
    from aredun.cli.common import open_backend

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
                printer = RecordPrinter(backend, output, get_abandoned_after(args, backend))
                await printer.show_lines(limit_records(query, args.limit))
    return 0


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
        job = record.job
        times = _show_times(job.start_time, job.end_time) if job else {}
        beat = record.updated_time.isoformat() if record.updated_time else None
        return head | {
            "status": record.status,
            **times,
            "updated_time": beat,
            "job_id": record.job_id,
            "task": job.task.fullname if job else None,
            "args": record.args,
        }
    if isinstance(record, Job):
        return head | {
            "status": record.status,
            **_show_times(record.start_time, record.end_time),
            "task": record.task.fullname,
            "task_hash": record.task_hash,
            "call_hash": record.call_hash,
            "parent_id": record.parent_id,
            "execution_id": record.execution_id,
            "cached": record.cached,
        }
    if isinstance(record, CallNode):
        keys = ("task_hash", "args_hash", "value_hash")
        values = {key: getattr(record, key) for key in keys}
        return head | {"task": record.task_name, **values, "timestamp": record.timestamp.isoformat()}
    if isinstance(record, Task):
        return head | {"name": record.name, "namespace": record.namespace, "source": record.source}
    return head | {"value_type": record.type, "format": record.format}


def _show_times(start: datetime, end: datetime | None) -> dict[str, Any]:
    return {
        "start_time": start.isoformat(),
        "end_time": end.isoformat() if end else None,
        "duration": (end - start).total_seconds() if end else None,
    }
