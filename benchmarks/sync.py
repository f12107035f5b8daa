"""Records in bulk, redun and aredun side by side: put, get, sync, memory, loop lag.

The repository has executions of a root job with 70 jobs below it, each with a call node of two arguments, one
of which came from the call before, and values of its own; all hashes are right. "raw" is the same rows by
`executemany` (sqlite) or COPY (PostgreSQL), in one transaction, with keys and indexes.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import subprocess
import sys
import tempfile
import time
import uuid
from base64 import b64encode
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from aredun.backend import RedunBackendDb
from aredun.formats.hashing import hash_argument, hash_call_node, hash_struct, hash_tag, hash_tag_bytes
from aredun.storage.rows import ROW_TABLES
from aredun.sync import sync_records
from aredun.transfer.record_parsing import parse_records
from aredun.values import MIME_TYPE_PICKLE, pickle_dumps
from benchmarks.support import (
    load_redun,
    measure_lag,
    median,
    percentile,
    print_table,
    temporary_databases,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

WIDTH = 70
Record = dict[str, Any]
CONFIG = {"automigrate": "true"}


class Repository:
    """Makes the records of a repository, execution by execution."""

    def __init__(self, label: str = "bench") -> None:
        self._label = label
        self._start = datetime(2024, 1, 1, tzinfo=UTC)
        self._clock = 0
        self._values: set[str] = set()
        self._tasks = [f"task{number}" for number in range(5)]

    def iter_records(self, count: int) -> Iterator[Record]:
        """Yield at least `count` records, each after what it refers to but for jobs and executions."""
        made = 0
        hashes = []
        for name in self._tasks:
            source = f"def {name}(x, y):\n    return [x, y]\n"
            task_hash = hash_struct(["Task", f"{self._label}.{name}", "source", source])
            hashes.append(task_hash)
            yield self._make_task(task_hash, name, source)
        number = 0
        while made < count:
            for record in self._make_execution(number, hashes):
                made += 1
                yield record
            number += 1

    def _make_task(self, task_hash: str, name: str, source: str) -> Record:
        return {
            "_version": 1,
            "_type": "Value",
            "value_hash": task_hash,
            "type": "benchmark.Task",
            "format": MIME_TYPE_PICKLE,
            "data": b64encode(pickle_dumps({"name": name})).decode(),
            "subvalues": [],
            "subtype": {"_type": "Task", "name": name, "namespace": self._label, "source": source},
        }

    def _make_value(self, value: Any, records: list[Record]) -> str:
        data = pickle_dumps(value)
        value_hash = hash_tag_bytes("Value", data)
        if value_hash not in self._values:
            self._values.add(value_hash)
            records.append(
                {
                    "_version": 1,
                    "_type": "Value",
                    "value_hash": value_hash,
                    "type": f"builtins.{type(value).__name__}",
                    "format": MIME_TYPE_PICKLE,
                    "data": b64encode(data).decode(),
                    "subvalues": [],
                    "subtype": None,
                }
            )
        return value_hash

    def _tick(self) -> datetime:
        self._clock += 1
        return self._start + timedelta(milliseconds=self._clock)

    def _make_call(
        self, name: str, task: str, values: list[str], result: str, children: list[str], upstream: str | None
    ) -> Record:
        args_hash = hash_struct(["TaskArguments", values, {}])
        call_hash = hash_call_node(task, args_hash, result, children)
        return {
            "_version": 1,
            "_type": "CallNode",
            "call_hash": call_hash,
            "task_name": f"{self._label}.{name}",
            "task_hash": task,
            "args_hash": args_hash,
            "value_hash": result,
            "timestamp": str(self._tick()),
            "args": {
                str(place): {
                    "arg_hash": hash_argument(call_hash, place, None, value),
                    "value_hash": value,
                    "upstream": [upstream] if upstream and place == 0 else [],
                }
                for place, value in enumerate(values)
            },
            "children": children,
        }

    def _make_job(self, call: Record, job_id: str, parent: str | None, execution: str) -> Record:
        start = self._tick()
        return {
            "_version": 1,
            "_type": "Job",
            "id": job_id,
            "start_time": str(start),
            "end_time": str(start + timedelta(seconds=1)),
            "task_hash": call["task_hash"],
            "cached": False,
            "status": "DONE",
            "call_hash": call["call_hash"],
            "parent_id": parent,
            "children": [],
            "execution_id": execution,
        }

    def _make_execution(self, number: int, tasks: list[str]) -> list[Record]:
        records: list[Record] = []
        calls: list[Record] = []
        upstream = None
        for index in range(WIDTH):
            values = [
                self._make_value(f"{self._label} argument {number} {index}", records),
                self._make_value(index, records),
            ]
            result = self._make_value([number, index, self._label], records)
            name = index % 4
            call = self._make_call(self._tasks[name], tasks[name], values, result, [], upstream)
            upstream = call["call_hash"]
            calls.append(call)
        result = self._make_value([number, self._label, "root"], records)
        children = [call["call_hash"] for call in calls]
        root = self._make_call(self._tasks[4], tasks[4], [result], result, children, None)
        execution, job_id = str(uuid.uuid4()), str(uuid.uuid4())
        root_job = self._make_job(root, job_id, None, execution)
        jobs = [self._make_job(call, str(uuid.uuid4()), job_id, execution) for call in calls]
        root_job["children"] = [job["id"] for job in jobs]
        tag = {
            "_version": 1,
            "_type": "Tag",
            "tag_hash": hash_tag(execution, "project", self._label, []),
            "entity_type": "Execution",
            "entity_id": execution,
            "key": "project",
            "value": self._label,
            "parents": [],
        }
        arguments = '["redun", "run", "workflow.py", "main"]'
        owner = {"_version": 1, "_type": "Execution", "id": execution, "args": arguments, "job_id": job_id}
        return [*records, *calls, root, tag, owner, root_job, *jobs]


def get_id(record: Record) -> str:
    """Return the id of a record."""
    names = {"Value": "value_hash", "CallNode": "call_hash", "Tag": "tag_hash"}
    return str(record[names.get(record["_type"], "id")])


def make_rows(records: list[Record]) -> dict[str, list[tuple[Any, ...]]]:
    """Return the rows of the records, by table in the order of their foreign keys."""
    rows: dict[str, list[tuple[Any, ...]]] = defaultdict(list)
    for parsed in parse_records(records)[0]:
        for table, row in parsed.iter_rows():
            rows[table].append((*row, True) if table == "tag" else row)
    return {table: rows[table] for table in ROW_TABLES if rows[table]}


def get_columns(table: str) -> list[str]:
    """Return the columns that the rows of a table fill."""
    return [*ROW_TABLES[table].record_columns, *ROW_TABLES[table].defaults]


async def put_raw(uri: str, records: list[Record]) -> float:
    """Insert rows with nothing but the driver; returns records per second."""
    rows = make_rows(records)
    async with RedunBackendDb(uri, CONFIG) as backend:
        path = backend.config.url.file_path if backend.config.url is not None else None
    if path is not None:
        return await asyncio.to_thread(_put_raw_sqlite, path, rows, len(records))
    return await _put_raw_postgresql(uri, rows, len(records))


def _put_raw_sqlite(path: Path, rows: dict[str, list[tuple[Any, ...]]], count: int) -> float:
    import sqlite3

    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA foreign_keys=ON")
        connection.execute("PRAGMA synchronous=NORMAL")
        started = time.perf_counter()
        for table, cells in rows.items():
            names = get_columns(table)
            marks = ", ".join("?" * len(names))
            connection.executemany(f"INSERT INTO {table} ({', '.join(names)}) VALUES ({marks})", cells)
        connection.commit()
        return count / (time.perf_counter() - started)


async def _put_raw_postgresql(uri: str, rows: dict[str, list[tuple[Any, ...]]], count: int) -> float:
    import asyncpg

    times = {"job": (1, 2), "call_node": (5,)}
    for table, places in times.items():
        for place in places:
            rows[table] = [
                (*row[:place], datetime.fromisoformat(row[place]).replace(tzinfo=UTC), *row[place + 1 :])
                for row in rows[table]
            ]
    connection = await asyncpg.connect(uri)
    try:
        started = time.perf_counter()
        async with connection.transaction():
            for table, cells in rows.items():
                await connection.copy_records_to_table(table, records=cells, columns=get_columns(table))
        return count / (time.perf_counter() - started)
    finally:
        await connection.close()


async def measure_aredun(uri: str, records: list[Record]) -> dict[str, float]:
    """Put records into an empty database and get them back; returns records per second and the lag."""
    async with RedunBackendDb(uri, CONFIG) as backend:
        async with measure_lag() as lags:
            started = time.perf_counter()
            assert await backend.put_records(records) == len(records)
            put = len(records) / (time.perf_counter() - started)
        ids = [get_id(record) for record in records]
        async with measure_lag() as get_lags:
            started = time.perf_counter()
            count = 0
            async for _ in backend.get_records(ids):
                count += 1
            get = count / (time.perf_counter() - started)
        assert count == len(records)
    return {
        "put": put,
        "get": get,
        "put lag": percentile(lags or [0.0], 0.99),
        "get lag": percentile(get_lags or [0.0], 0.99),
    }


def measure_redun(uri: str, records: list[Record]) -> dict[str, float]:
    """Do the same with redun."""
    backend = load_redun(uri)
    started = time.perf_counter()
    assert backend.put_records(records) == len(records)
    put = len(records) / (time.perf_counter() - started)
    ids = [get_id(record) for record in records]
    started = time.perf_counter()
    count = sum(1 for _ in backend.get_records(ids))
    get = count / (time.perf_counter() - started)
    backend.session.close()
    backend.engine.dispose()
    return {"put": put, "get": get}


# A server between client and database that hands everything on half a millisecond later.
PROXY = """
import asyncio, sys
source, target, delay = sys.argv[1], sys.argv[2], float(sys.argv[3])
async def pump(reader, writer):
    loop = asyncio.get_running_loop()
    queue = asyncio.Queue()
    async def send():
        while (item := await queue.get()) is not None:
            due, data = item
            await asyncio.sleep(max(0, due - loop.time()))
            writer.write(data)
            await writer.drain()
        writer.close()
    task = asyncio.create_task(send())
    while data := await reader.read(1 << 18):
        queue.put_nowait((loop.time() + delay, data))
    queue.put_nowait(None)
    await task
async def handle(reader, writer):
    back, forth = await asyncio.open_unix_connection(target)
    await asyncio.gather(pump(reader, forth), pump(back, writer), return_exceptions=True)
async def main():
    server = await asyncio.start_unix_server(handle, source)
    print("ready", flush=True)
    await server.serve_forever()
asyncio.run(main())
"""


@contextlib.contextmanager
def delayed(uri: str, seconds: float) -> Iterator[Callable[[str], str]]:
    """Run the proxy in front of the server of `uri`; gives a function that turns URIs into delayed ones."""
    socket = uri.partition("host=")[2]
    with tempfile.TemporaryDirectory(prefix="aredun-proxy-") as folder:
        names = [f"{place}/.s.PGSQL.5432" for place in (folder, socket)]
        command = [sys.executable, "-c", PROXY, *names, str(seconds / 2)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield lambda each: each.replace(socket, folder)
        finally:
            process.kill()
            process.wait()


async def measure_sync(source: str, destination: str) -> dict[str, float]:
    """Sync one database into another, empty one; returns records per second, and the loop's lag."""
    async with RedunBackendDb(source) as src, RedunBackendDb(destination) as dst, measure_lag() as lags:
        report = await sync_records(src, dst)
    assert not report.refused
    return {"sync": report.written / report.seconds, "sync lag": percentile(lags or [0.0], 0.99)}


def measure_redun_sync(source: str, destination: str, executions: int) -> float:
    """Sync some executions with redun, as `redun push` does; returns records per second."""
    src, dst = load_redun(source), load_redun(destination)
    from redun.backends.db import Execution

    roots = [row.id for row in src.session.query(Execution.id).limit(executions)]
    started = time.perf_counter()
    written = dst.put_records(src.get_records(src.iter_record_ids(roots)))
    seconds = time.perf_counter() - started
    for backend in (src, dst):
        backend.session.close()
        backend.engine.dispose()
    return float(written / seconds)


async def prepare(uri: str, count: int) -> None:
    """Fill a database with records."""
    async with RedunBackendDb(uri, CONFIG) as backend:
        await backend.put_records(Repository().iter_records(count), verify=False)


async def create(uri: str) -> None:
    """Create the schema in an empty database."""
    async with RedunBackendDb(uri, CONFIG):
        pass


MEMORY = """
import asyncio, sys
from aredun.backend import RedunBackendDb
from aredun.sync import sync_records
from benchmarks.support import get_peak_memory
async def main():
    async with RedunBackendDb(sys.argv[1]) as src, RedunBackendDb(sys.argv[2]) as dst:
        report = await sync_records(src, dst)
    print(report.written, report.seconds, get_peak_memory())
asyncio.run(main())
"""


def measure_memory(source: str, destination: str) -> list[str]:
    """Sync in a process of its own; returns records, seconds and the peak of its memory in MB."""
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, source, destination], check=True, capture_output=True, text=True
    )
    return done.stdout.split()


def run_records(args: argparse.Namespace, dialect: str, make: Callable[[], str]) -> None:
    """Measure put and get."""
    records = list(Repository().iter_records(args.records))
    few = list(Repository().iter_records(args.redun_records))
    # The collector would look through them again and again, in the middle of what is measured.
    gc.freeze()
    own = [asyncio.run(measure_aredun(make(), records)) for _ in range(args.rounds)]
    raw = [asyncio.run(put_raw(make(), records)) for _ in range(args.rounds)]
    original = [measure_redun(make(), few) for _ in range(args.rounds)]
    found = {name: median([each[name] for each in own]) for name in own[0]}
    theirs = {name: median([each[name] for each in original]) for name in original[0]}
    fastest = median(raw)
    rows = [
        ["put_records", f"{theirs['put']:,.0f}", f"{fastest:,.0f}", f"{found['put']:,.0f}"],
        ["get_records", f"{theirs['get']:,.0f}", "", f"{found['get']:,.0f}"],
    ]
    rows[0] += [
        f"{found['put'] / theirs['put']:.1f}",
        f"{found['put'] / fastest:.2f}",
        f"{found['put lag']:.1f}",
    ]
    rows[1] += [f"{found['get'] / theirs['get']:.1f}", "", f"{found['get lag']:.1f}"]
    print_table(
        f"Records on {dialect}, {len(records):,} records",
        ["", "redun/s", "raw/s", "aredun/s", "x redun", "x raw", "lag p99 ms"],
        rows,
    )


def run_sync(args: argparse.Namespace, dialect: str, make: Callable[[], str]) -> None:
    """Measure sync, on PostgreSQL with a delay."""
    source = make()
    asyncio.run(prepare(source, args.records))
    with contextlib.ExitStack() as stack:
        turn: Callable[[str], str] = str
        title = f"Sync on {dialect}"
        if "host=" in source:
            turn = stack.enter_context(delayed(source, args.delay / 1000))
            title += f" with {args.delay} ms of added round trip"
        own = []
        original = []
        for _ in range(args.rounds):
            destination = make()
            asyncio.run(create(destination))
            own.append(asyncio.run(measure_sync(turn(source), turn(destination))))
            destination = make()
            asyncio.run(create(destination))
            roots = max(args.redun_records // 280, 1)
            original.append(measure_redun_sync(turn(source), turn(destination), roots))
    found = {name: median([each[name] for each in own]) for name in own[0]}
    theirs = median(original)
    print_table(
        title,
        ["redun/s", "aredun/s", "x redun", "lag p99 ms"],
        [
            [
                f"{theirs:,.0f}",
                f"{found['sync']:,.0f}",
                f"{found['sync'] / theirs:.1f}",
                f"{found['sync lag']:.1f}",
            ]
        ],
    )


def run_memory(args: argparse.Namespace, dialect: str, make: Callable[[], str]) -> None:
    """Measure the memory of a large sync."""
    source, destination = make(), make()
    asyncio.run(prepare(source, args.memory))
    asyncio.run(create(destination))
    written, seconds, peak = measure_memory(source, destination)
    print_table(
        f"Memory on {dialect}",
        ["records", "seconds", "peak MB"],
        [[f"{int(written):,}", f"{float(seconds):.1f}", f"{float(peak):.0f}"]],
    )


def main(argv: list[str] | None = None) -> None:
    """Run this benchmark alone."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--databases", nargs="+", default=["sqlite", "postgresql"])
    parser.add_argument("--parts", nargs="+", default=["records", "sync", "memory"])
    parser.add_argument("--records", type=int, default=50_000)
    parser.add_argument("--redun-records", type=int, default=3_000)
    parser.add_argument("--memory", type=int, default=1_000_000)
    parser.add_argument("--delay", type=float, default=1.0, help="added round trip in milliseconds")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args(argv)
    parts = {"records": run_records, "sync": run_sync, "memory": run_memory}
    with temporary_databases(args.databases) as makers:
        for dialect, make in makers.items():
            for part in args.parts:
                parts[part](args, dialect, make)


if __name__ == "__main__":
    main()
