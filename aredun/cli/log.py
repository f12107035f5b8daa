"""`aredun log [ID]`: the history of a repository (mirrors `redun log`)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from aredun.cli.chunks import iterate, take
from aredun.cli.common import open_backend
from aredun.cli.records import RecordPrinter
from aredun.cli.tables import Printer, paged
from aredun.errors import UsageError
from aredun.formats import statuses
from aredun.formats.spelling import ask_whether
from aredun.query import CallGraphQuery, parse_callgraph_query
from aredun.search.file_versions import iter_files
from aredun.search.identify import (
    explain_unknown,
    find_file,
    find_one,
    get_key,
    infer_specialty_id,
    leave_out_task_values,
    refuse_empty,
)
from aredun.search.suggestions import suggest_task_names

if TYPE_CHECKING:
    import argparse
    from collections.abc import AsyncIterator, Iterable
    from datetime import timedelta

    from rich.console import Console

    from aredun.backend import RedunBackendDb

# How many records of one prefix are looked at before they are listed, not shown in detail.
MAX_DETAILED = 3
# Options of which any shows other records than executions.
_TYPES = ("id", "all", "exec", "job", "call_node", "task", "value", "file")
_FILTERS = ("exec_status", "job_status", "task_name", "task_hash", "value_type", "file_path", "result", "arg")


def get_abandoned_after(args: argparse.Namespace, backend: RedunBackendDb) -> timedelta:
    """Return how long a run may be silent: as the arguments say, else as the configuration does."""
    if args.abandoned_after is not None:
        return statuses.parse_age(args.abandoned_after)
    return statuses.get_abandoned_after(backend.config)


async def run(args: argparse.Namespace, console: Console) -> None:
    """Show what the arguments ask for."""
    if args.id is not None:
        refuse_empty(args.id)
    async with open_backend(args) as backend:
        query = await make_query(backend, args)
        if not any(getattr(args, name) for name in (*_TYPES, *_FILTERS)):
            query = query.filter_types({"Execution"})
        if args.count:
            query = query if args.id is None else await _match_id(backend, query, args.id)
            await show_counts(query, args, console)
            return
        with paged(console, not args.no_pager and args.format == "text") as output:
            printer = RecordPrinter(backend, output, get_abandoned_after(args, backend), args.full)
            if args.id is not None:
                await _show_id(backend, query, printer, args)
            elif args.file and args.format == "text":
                await printer.show_files(take(iter_files(backend, query), args.limit))
            else:
                await _show_query(query, printer, args)


async def make_query(backend: RedunBackendDb, args: argparse.Namespace) -> CallGraphQuery:
    """
    Return the query that the arguments ask for, newest first where records have a time.

    Raises
    ------
    UsageError
        When a filter is malformed, or an id, a hash or the name of a task fits nothing or several records.
    """
    if args.limit is not None and args.limit < 0:
        raise UsageError(f"invalid limit {args.limit}: it cannot be negative")
    if args.exec_id:
        args.exec_id = ",".join(await _find_ids(backend, "Execution", args.exec_id.split(",")))
    for option, record_type in (("task_hash", "Task"), ("result", "Value"), ("arg", "Value")):
        setattr(args, option, await _find_ids(backend, record_type, getattr(args, option) or ()))
    await _check_task_names(backend, args.task_name or ())
    query = CallGraphQuery(backend, order_by="time", abandoned_after=get_abandoned_after(args, backend))
    return parse_callgraph_query(query, args)


async def _find_ids(backend: RedunBackendDb, record_type: str, texts: Iterable[str]) -> list[str]:
    return [get_key(await find_one(backend, record_type, text)) for text in texts]


async def _check_task_names(backend: RedunBackendDb, names: Iterable[str]) -> None:
    """Raise `UsageError` for a name that no recorded task has: a typo is no empty answer."""
    for name in names:
        if not await CallGraphQuery(backend).filter_types({"Task"}).filter_task_names([name.strip()]).first():
            near = await suggest_task_names(backend, name)
            hint = ask_whether(near) if near else "see 'aredun log --task' for tasks"
            raise UsageError(f"no task is called {name!r}: {hint}")


async def show_counts(query: CallGraphQuery, args: argparse.Namespace, console: Console) -> None:
    """Show how many records of each type a query has."""
    printer = Printer(console)
    counts = {name: number async for name, number in query.count()}
    if args.format == "json":
        printer.line(json.dumps(counts))
    else:
        for name, number in counts.items():
            printer.line(f"{number:>8} {name}")
    printer.flush()


async def _match_id(backend: RedunBackendDb, query: CallGraphQuery, text: str) -> CallGraphQuery:
    special = await infer_specialty_id(backend, text)
    if special is None and await query.like_id(text).first() is None:
        special = await find_file(backend, text)
    return query.like_id(text) if special is None else query.filter_ids([_get_key(special)])


async def _show_id(
    backend: RedunBackendDb, query: CallGraphQuery, printer: RecordPrinter, args: argparse.Namespace
) -> None:
    special = await infer_specialty_id(backend, args.id)
    records: list[Any] = [] if special is None else [special]
    if special is None:
        matching = query.like_id(args.id)
        records = leave_out_task_values([record async for record in matching.limit(MAX_DETAILED + 1)])
        if not records:
            special = await find_file(backend, args.id)
            if special is None:
                raise await explain_unknown(backend, args.id)
            records = [special]
        elif args.detail:
            records = [record async for record in limit_records(matching, args.limit)]
        elif len(records) > MAX_DETAILED:
            await _show_query(matching, printer, args)
            return
    if args.format == "json":
        await printer.write_json(iterate(map(_get_key, records)))
        return
    for record in records:
        await printer.show_record(record)


def _get_key(record: Any) -> str:
    return str(record[0].value_hash) if isinstance(record, tuple) else get_key(record)


async def _show_query(query: CallGraphQuery, printer: RecordPrinter, args: argparse.Namespace) -> None:
    if args.format == "json":
        await printer.write_json(take(query.select("id", flat=True), args.limit))
    elif args.detail:
        async for record in limit_records(query, args.limit):
            await printer.show_record(record)
    else:
        await printer.show_lines(limit_records(query, args.limit))


def limit_records(query: CallGraphQuery, limit: int | None) -> AsyncIterator[Any]:
    """Return the first records of a query, all of them without a limit."""
    return query.all() if limit is None else query.limit(limit)
