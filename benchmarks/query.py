"""Queries side by side with redun's, on one repository.

python -m benchmarks.query --jobs 100000
"""

from __future__ import annotations

import argparse
import asyncio
import io
import time
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from rich.console import Console

from aredun.backend import RedunBackendDb
from aredun.cli.records import RecordPrinter
from aredun.query import CallGraphQuery, find_file, infer_id
from benchmarks.repository import REFERENCE, Generator, make_big_repository, make_hash, make_uuid
from benchmarks.support import load_redun, median, print_table, temporary_databases

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable

Filter = tuple[str, Any]

TREE_JOBS = 10_000
EXECUTION_JOBS = 100


def make_filters(generator: Generator) -> dict[str, list[Filter]]:
    """Return one query per filter, as method names and arguments that both sides take."""
    execution = make_uuid("execution", 3)
    result, argument = make_hash("value", "result", 3, 21), make_hash("value", "argument", 3, 21)
    return {
        "execution ids: jobs": [("filter_types", {"Job"}), ("filter_execution_ids", [execution])],
        "execution ids: call nodes": [("filter_types", {"CallNode"}), ("filter_execution_ids", [execution])],
        "execution ids: values": [("filter_types", {"Value"}), ("filter_execution_ids", [execution])],
        "execution statuses": [("filter_execution_statuses", ["FAILED", "DONE"])],
        "execution tags": [("filter_types", {"Job"}), ("filter_execution_tags", [("project", "project_3")])],
        "job statuses: FAILED": [("filter_job_statuses", ["FAILED"])],
        "job statuses: CACHED": [("filter_job_statuses", ["CACHED"])],
        "task names": [("filter_types", {"Job"}), ("filter_task_names", ["align"])],
        "task hashes": [("filter_task_hashes", [generator.get_task_hash("report", 0)])],
        "arguments": [("filter_arguments", [argument])],
        "arguments: the reference": [("filter_arguments", [generator.reference])],
        "results": [("filter_results", [result])],
        "value types": [("filter_value_types", ["redun.File"])],
        "file paths": [("filter_file_paths", ["/data/000003/*"])],
        "tags": [("filter_types", {"Job"}), ("filter_tags", [("batch", 3)])],
        "id prefix": [("like_id", result[:8])],
        "ids": [("filter_ids", [execution, result, argument])],
    }


def apply_filters(query: Any, filters: Iterable[Filter]) -> Any:
    """Return the query with the filters."""
    for name, argument in filters:
        query = getattr(query, name)(argument)
    return query


class Comparison:
    """Times both sides on one repository, in turns."""

    def __init__(self, backend: RedunBackendDb, original: Any, repeat: int) -> None:
        self.backend, self.original, self.repeat = backend, original, repeat
        self.rows: list[list[str]] = []

    def original_query(self) -> Any:
        """Return a query of redun's in a session that has nothing cached."""
        from redun.backends.db.query import CallGraphQuery as OriginalQuery

        self.original.session.rollback()
        self.original.session.expunge_all()
        return OriginalQuery(self.original.session)

    async def add(self, name: str, theirs: Callable[[], Any], ours: Callable[[], Any]) -> None:
        """Time one question on both sides; the answers must agree."""
        times: tuple[list[float], list[float]] = ([], [])
        for _ in range(self.repeat):
            began = time.perf_counter()
            expected = theirs()
            times[0].append(time.perf_counter() - began)
            began = time.perf_counter()
            answer = await ours()
            times[1].append(time.perf_counter() - began)
            if answer != expected:
                raise SystemExit(f"the answers differ: {name}")
        slow, fast = median(times[0]) * 1000, median(times[1]) * 1000
        self.rows.append([name, f"{slow:.1f}", f"{fast:.1f}", f"{slow / fast:.1f}"])


async def collect(rows: AsyncIterator[Any]) -> list[Any]:
    """Return what an async iterator yields."""
    return [row async for row in rows]


async def compare_filters(comparison: Comparison, generator: Generator) -> None:
    """Time the first record and all ids of each filter."""
    query = CallGraphQuery(comparison.backend)
    for name, filters in make_filters(generator).items():
        mine = apply_filters(query, filters)

        def first(filters: list[Filter] = filters) -> bool:
            return apply_filters(comparison.original_query(), filters).first() is not None

        async def my_first(mine: CallGraphQuery = mine) -> bool:
            return await mine.first() is not None

        def ids(filters: list[Filter] = filters) -> list[str]:
            return sorted(apply_filters(comparison.original_query(), filters).select("id", flat=True))

        async def my_ids(mine: CallGraphQuery = mine) -> list[str]:
            return sorted(await collect(mine.select("id", flat=True)))

        await comparison.add(f"first record, {name}", first, my_first)
        await comparison.add(f"all ids, {name}", ids, my_ids)


async def compare_listings(comparison: Comparison) -> None:
    """Time lists by time, and executions with their statuses."""
    query = CallGraphQuery(comparison.backend)
    jobs = query.filter_types({"Job"}).order_by("time")
    executions = query.filter_types({"Execution"}).order_by("time")

    def original_jobs() -> int:
        found = comparison.original_query().filter_types({"Job"}).order_by("time").build()._jobs
        return len(found.limit(50).all())

    async def my_jobs() -> int:
        return len(await collect(jobs.limit(50)))

    await comparison.add("50 jobs by time", original_jobs, my_jobs)

    def original_executions() -> list[Any]:
        found = comparison.original_query().filter_types({"Execution"}).order_by("time").all()
        return [(row.id, row.status.replace("ABANDONED", "RUNNING"), row.job.start_time) for row in found]

    async def my_executions() -> list[Any]:
        found = await collect(executions.all())
        return [(row.id, row.status.replace("ABANDONED", "RUNNING"), row.job.start_time) for row in found]

    await comparison.add("all executions with statuses", original_executions, my_executions)


async def compare_look_ups(comparison: Comparison) -> None:
    """Time finding files and ids."""
    backend = comparison.backend

    from redun.backends.db.query import find_file as original_find_file
    from redun.backends.db.query import infer_id as original_infer_id

    async def my_file(path: str) -> str:
        found = await find_file(backend, path)
        assert found is not None
        return found[1].id

    for path in ("/data/000000/part_00000021.bam", REFERENCE):

        def original_file(path: str = path) -> str:
            comparison.original_query()
            found = original_find_file(comparison.original.session, path)
            assert found is not None
            return str(found[1].id)

        await comparison.add(f"find_file {path}", original_file, partial(my_file, path))
    prefix = make_hash("value", "result", 0, 21)[:10]

    def original_id() -> str:
        comparison.original_query()
        found: Any = original_infer_id(comparison.original.session, prefix)
        return str(found.value_hash)

    async def my_id() -> str:
        found: Any = await infer_id(backend, prefix)
        return str(found.value_hash)

    await comparison.add("infer_id of a value", original_id, my_id)


async def compare_trees(comparison: Comparison) -> None:
    """Time the job tree of an execution as `log` shows it, every job on a line."""
    execution_id = make_uuid("execution", 0)

    def original_tree() -> int:
        from redun.backends.db import Execution
        from redun.cli import RedunClient

        comparison.original_query()
        output = io.StringIO()
        client = RedunClient(stdout=output)
        client.log_execution(comparison.original.session.get(Execution, execution_id))
        return output.getvalue().count("Job ")

    async def my_tree() -> int:
        output = Console(file=io.StringIO(), width=200, markup=False, highlight=False)
        printer = RecordPrinter(comparison.backend, output, timedelta(minutes=10), full=True)
        await printer.show_record(await infer_id(comparison.backend, execution_id))
        assert isinstance(output.file, io.StringIO)
        return output.file.getvalue().count("Job ")

    await comparison.add(f"job tree of {TREE_JOBS:,} jobs", original_tree, my_tree)


async def compare(url: str, generator: Generator, repeat: int) -> list[list[str]]:
    """Compare everything on one repository and return the table's rows."""
    original = load_redun(url)
    async with RedunBackendDb(url) as backend:
        comparison = Comparison(backend, original, repeat)
        await compare_listings(comparison)
        await compare_look_ups(comparison)
        await compare_trees(comparison)
        await compare_filters(comparison, generator)
    original.session.close()
    original.engine.dispose()
    return comparison.rows


def main(argv: list[str] | None = None) -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--jobs", type=int, default=100_000)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--dialect", action="append", choices=["sqlite", "postgresql"])
    args = parser.parse_args(argv)
    dialects = args.dialect or ["sqlite", "postgresql"]
    executions = 1 + max((args.jobs - TREE_JOBS) // EXECUTION_JOBS, 3)
    with temporary_databases(dialects) as makers:
        for dialect in dialects:
            url = makers[dialect]()
            generator = make_big_repository(url, args.jobs, executions, TREE_JOBS)
            rows = asyncio.run(compare(url, generator, args.repeat))
            title = (
                f"Queries on {dialect}: {args.jobs:,} jobs, {executions} executions, medians of {args.repeat}"
            )
            print_table(title, ["question", "redun ms", "aredun ms", "times faster"], rows)


if __name__ == "__main__":
    main()
