"""Finding in a repository of a million jobs: the search box, and the pages of the viewer.

    python -m benchmarks.finding [--jobs 1000000] [--executions 2000] [--dialect sqlite] [--repeat 7]

The server runs in this process, as `aredun serve` would run it, and its loop lag is measured here; requests
come from a thread. redun has no such search: what stands beside it is the least that looking everywhere
costs, the driver alone counting what a `LIKE '%text%'` finds in the tables (of arguments, the stored bytes).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sqlite3
import time
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import httpx
import psycopg2

from aredun.backend import RedunBackendDb
from aredun.cli.collector import collect_rarely
from benchmarks.repository import REFERENCE, Generator, make_big_repository, make_hash, make_uuid
from benchmarks.support import measure_lag, median, print_table, temporary_databases
from tests.support.server import serve

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

LARGEST = 10_000
# The tables and columns that have what is searched for, as each database spells them as text.
COLUMNS = {
    "sqlite": ("task: namespace || '.' || name", "file: path", "tag: key || '=' || (value ->> '$')"),
    "postgresql": ("task: namespace || '.' || name", "file: path", "tag: key || '=' || (value #>> '{}')"),
}
BYTES = {"sqlite": "instr(value, ?) > 0", "postgresql": "position(%s in value) > 0"}


@dataclass
class Timing:
    """What one request took.

    Attributes
    ----------
    answer : Any
        Its JSON.
    milliseconds, least, lag : float
        The median, the shortest, and the longest that the event loop was late.
    statements : int
        How many it sends.
    """

    answer: Any
    milliseconds: float
    least: float
    statements: int
    lag: float

    def show(self) -> str:
        """Return the median, and in brackets the shortest."""
        return f"{self.milliseconds:.0f} ({self.least:.0f})"


class Client:
    """Times requests to a served repository."""

    def __init__(self, served: Any, backend: RedunBackendDb, repeat: int) -> None:
        self.served, self.backend, self.repeat = served, backend, repeat

    async def time(self, path: str, parameters: dict[str, Any]) -> Timing:
        """Ask once to warm up, then `repeat` times."""
        url = f"{path}?{urlencode(parameters)}" if parameters else path
        counts = self.backend.database.counts
        with httpx.Client(base_url=self.served.url, timeout=600) as client:
            await asyncio.to_thread(client.get, url)
            times = []
            before = counts.statements
            async with measure_lag() as lags:
                for _ in range(self.repeat):
                    began = time.perf_counter()
                    answer = await asyncio.to_thread(client.get, url)
                    times.append(time.perf_counter() - began)
            if answer.status_code != 200:
                raise SystemExit(f"{url}: {answer.status_code} {answer.text}")
        statements = (counts.statements - before) // self.repeat
        return Timing(
            answer.json(), median(times) * 1000, min(times) * 1000, statements, max(lags, default=0)
        )


def make_needles(executions: int) -> dict[str, str]:
    """Return what is searched for: frequent, rare and absent, of every kind."""
    newest = executions - 1
    return {
        "task name, frequent": "lign",
        "task name, one of nine": "duplicate",
        "path, frequent": ".bam",
        "path, of the newest": f"{newest:06}/part_0000002",
        "path, of the oldest": "000000/part_0000002",
        "tag, frequent": "project_",
        "tag, of the newest": f"un={newest}",
        "tag, of the oldest": "run=0",
        "user, frequent": "user=Ada",
        "user, of one in 200": f"ary {newest // 40}",
        "argument, frequent": "genome.fa",
        "argument, of the newest": f"{newest * 1_000_000 + 41}",
        "argument, of the oldest": "3000021",
        "absent": "no such text",
        "absent, two letters": "qj",
    }


async def measure_search(client: Client, needles: dict[str, str], look: Callable[[str], float]) -> list[Any]:
    """Time each needle: the eight hits that the search box asks for, the most that can be asked for, LIKE."""
    rows = []
    for name, text in needles.items():
        first = await client.time("/api/search", {"text": text, "limit": 8})
        whole = await client.time("/api/search", {"text": text, "limit": 50})
        limit = await asyncio.to_thread(look, text)
        rows.append(
            [
                f"{name}: {text}",
                str(len(whole.answer["hits"])),
                first.show(),
                whole.show(),
                str(first.statements),
                f"{max(first.lag, whole.lag):.0f}",
                f"{limit * 1000:,.0f}",
            ]
        )
    return rows


def look_everywhere(url: str, dialect: str, text: str) -> float:
    """Return the seconds that the driver takes to count what a text is a part of, wherever it is."""
    is_sqlite = dialect == "sqlite"
    connection: Any = sqlite3.connect(url.split(":///", 1)[1]) if is_sqlite else psycopg2.connect(url)
    mark, like = ("?", "LIKE") if is_sqlite else ("%s", "ILIKE")
    with closing(connection):
        cursor = connection.cursor()
        began = time.perf_counter()
        for column in COLUMNS[dialect]:
            table, expression = column.split(": ", 1)
            statement = f"SELECT count(*) FROM {table} WHERE {expression} {like} {mark}"
            cursor.execute(statement, (f"%{text}%",))
            cursor.fetchall()
        statement = f"SELECT count(*) FROM argument JOIN value USING (value_hash) WHERE {BYTES[dialect]}"
        cursor.execute(statement, (text.encode(),))
        cursor.fetchall()
        return time.perf_counter() - began


def make_run_pages(executions: int) -> Iterable[tuple[str, str, dict[str, Any]]]:
    """Yield what the pages of executions, jobs and calls ask for: a name, a path and parameters."""
    big, small = make_uuid("execution", 0), make_uuid("execution", executions - 3)
    job = make_uuid("job", executions - 3, 21)
    yield "executions", "/api/executions", {}
    for status in ("RUNNING", "ABANDONED", "DONE", "FAILED"):
        yield f"executions, {status}", "/api/executions", {"status": status}
    for tag in ("user=Ada 3", "project=project_3", "project", "run=0", "absent=1"):
        yield f"executions, tag {tag}", "/api/executions", {"tag": tag}
    yield "the newest execution", "/api/executions/-", {}
    for name, execution in ((f"{LARGEST:,} jobs", big), ("few jobs", small)):
        place = f"/api/executions/{execution}"
        yield f"execution of {name}", place, {}
        yield f"its tree, {name}", f"{place}/tree", {}
        yield f"its jobs, {name}", f"{place}/jobs", {}
        for status in ("FAILED", "CACHED", "DONE", "RUNNING"):
            yield f"its jobs, {status}, {name}", f"{place}/jobs", {"status": status}
        yield f"its jobs, task, {name}", f"{place}/jobs", {"task": "align"}
        yield f"its jobs, text, {name}", f"{place}/jobs", {"text": "lign"}
    yield "two executions compared", f"/api/executions/{small}/compare/{make_uuid('execution', 1)}", {}
    yield "jobs", "/api/jobs", {}
    for status in ("FAILED", "CACHED", "DONE", "RUNNING", "ABANDONED"):
        yield f"jobs, {status}", "/api/jobs", {"status": status}
    for task in ("align", "pipeline.main", "absent"):
        yield f"jobs, task {task}", "/api/jobs", {"task": task}
        yield f"jobs, task {task}, FAILED", "/api/jobs", {"task": task, "status": "FAILED"}
    yield "a job", f"/api/jobs/{job}", {}
    for name in ("why", "next-failed", "children"):
        yield f"a job: {name}", f"/api/jobs/{job}/{name}", {}
    yield "calls", "/api/call-nodes", {}
    yield "a call", f"/api/call-nodes/{make_hash('call', executions - 3, 21)}", {}


def make_record_pages(executions: int, generator: Generator) -> Iterable[tuple[str, str, dict[str, Any]]]:
    """Yield what the pages of values, files, tasks and tags ask for."""
    yield "values", "/api/values", {}
    for value_type in ("redun.File", "redun.ErrorValue", "absent.Type"):
        yield f"values, {value_type}", "/api/values", {"value_type": value_type}
    for path in ("/data/000003/*", "*00000021.bam", "*absent*"):
        yield f"values, {path}", "/api/values", {"path": path}
    yield "a value", f"/api/values/{make_hash('value', 'result', executions - 3, 21)}", {}
    yield "the reference file", f"/api/values/{generator.reference}", {}
    yield "a task's version", f"/api/tasks/{generator.get_task_hash('align', 0)}", {}
    yield "tags", "/api/tags", {}
    for key in ("user", "batch", "absent"):
        yield f"tags, {key}", "/api/tags", {"key": key}
    for kind in ("Execution", "Job", "Task"):
        yield f"tags of {kind}", "/api/tags", {"entity_type": kind}
    yield "tags of an execution", "/api/tags", {"entity_id": make_uuid("execution", 0)}
    yield "files", "/api/files", {}
    yield "files, a part of a path", "/api/files", {"text": "part_00000021"}
    yield "versions of the reference", "/api/file-versions", {"path": REFERENCE}
    yield "tasks", "/api/task-names", {}
    yield "a task over time", "/api/task-names/pipeline.align", {}
    yield "find the newest", "/api/find/-", {}
    yield "matches", "/api/matches/align", {}


async def measure_pages(client: Client, pages: Iterable[tuple[str, str, dict[str, Any]]]) -> list[list[str]]:
    """Time what the pages ask for, and the page after each."""
    rows = []
    for name, path, parameters in pages:
        timing = await client.time(path, parameters)
        cursor = timing.answer.get("cursor") if isinstance(timing.answer, dict) else None
        after = await client.time(path, {**parameters, "cursor": cursor}) if cursor else None
        rows.append(
            [
                name,
                timing.show(),
                after.show() if after else "",
                str(timing.statements),
                f"{timing.lag:.0f}",
                f"{len(json.dumps(timing.answer)) // 1024:,}",
            ]
        )
    return rows


async def measure(url: str, dialect: str, generator: Generator, executions: int, repeat: int) -> Any:
    """Measure everything on one repository; return the rows of the two tables."""
    async with RedunBackendDb(url) as backend, serve(backend) as served:
        client = Client(served, backend, repeat)
        needles = make_needles(executions)
        found = await measure_search(client, needles, lambda text: look_everywhere(url, dialect, text))
        pages = [*make_run_pages(executions), *make_record_pages(executions, generator)]
        return found, await measure_pages(client, pages)


def main(argv: list[str] | None = None) -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--dialect", action="append", choices=["sqlite", "postgresql"])
    parser.add_argument("--jobs", type=int, default=1_000_000)
    parser.add_argument("--executions", type=int, default=2_000)
    parser.add_argument("--repeat", type=int, default=7)
    args = parser.parse_args(argv)
    with temporary_databases(args.dialect or ["sqlite", "postgresql"]) as makers:
        for dialect, make in makers.items():
            url = make()
            began = time.perf_counter()
            generator = make_big_repository(url, args.jobs, args.executions, min(LARGEST, args.jobs // 4))
            size = f"{args.jobs:,} jobs in {args.executions:,} executions"
            made = f"made in {time.perf_counter() - began:.0f} s"
            with collect_rarely():
                found, pages = asyncio.run(measure(url, dialect, generator, args.executions, args.repeat))
            title = f"Search on {dialect}: {size} ({made}), medians of {args.repeat} (the shortest)"
            header = [
                "text",
                "hits",
                "first 8, ms",
                "all, ms",
                "statements",
                "lag, ms",
                "LIKE everywhere, ms",
            ]
            print_table(title, header, found)
            title = f"Pages on {dialect}: {size}, medians of {args.repeat} (the shortest)"
            print_table(title, ["page", "ms", "next, ms", "statements", "lag, ms", "kB"], pages)


if __name__ == "__main__":
    main()
