"""The server's figures: first edge, edges per second, 200 clients at once, and how soon a change is seen.

    python -m benchmarks.server [--dialect sqlite] [--clients 200] [--edges 5000]

The server runs in this process, as `aredun serve` would run it: its loop lag and memory are measured here.
Its clients run in another one.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import multiprocessing
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from typing import TYPE_CHECKING, Any

import websockets

from aredun import task
from aredun.backend import RedunBackendDb
from aredun.cli.collector import collect_rarely
from aredun.dataflow import ValueRef, walk_dataflow
from benchmarks.support import (
    FakeJob,
    get_peak_memory,
    measure_lag,
    median,
    percentile,
    print_table,
    temporary_databases,
)
from tests.support.server import receive, serve

if TYPE_CHECKING:
    from collections.abc import Iterator

REPEATS = 15
BATCH = 500


@task(name="work", namespace="live")
def work() -> None:
    """Stand for any work."""


TASK: Any = work


async def stream(url: str, most: int, failures: list[str]) -> tuple[int, float, float]:
    """Take one stream; returns its edges, and the seconds to its first and to its last message."""
    began = time.perf_counter()
    count, first = 0, 0.0
    async with websockets.connect(url, max_size=None, proxy=None, compression=None) as websocket:
        opened = time.perf_counter()
        async for text in websocket:
            first = first or time.perf_counter() - opened
            messages = json.loads(text)
            for message in messages if isinstance(messages, list) else [messages]:
                if message["type"] == "edge":
                    count += 1
                    if message["seq"] != count:
                        failures.append(f"{message['seq']} came as number {count}")
    if count != most:
        failures.append(f"{count} edges came instead of {most}")
    return count, first, time.perf_counter() - began


async def run_clients(url: str, clients: int, most: int) -> None:
    """Open streams all at once and print what came, as JSON."""
    failures: list[str] = []
    began = time.perf_counter()
    results = await asyncio.gather(*(stream(url, most, failures) for _ in range(clients)))
    answer = {
        "edges": sum(count for count, _, _ in results),
        "first": sorted(first for _, first, _ in results),
        "seconds": time.perf_counter() - began,
        "failures": failures[:5],
    }
    sys.stdout.write(json.dumps(answer))


async def call_clients(url: str, clients: int, most: int) -> dict[str, Any]:
    """Run clients in a process of their own."""
    arguments = ["-m", "benchmarks.server", "--url", url, "--clients", str(clients), "--edges", str(most)]
    process = await asyncio.create_subprocess_exec(sys.executable, *arguments, stdout=asyncio.subprocess.PIPE)
    output, _ = await process.communicate()
    answer: dict[str, Any] = json.loads(output)
    if answer["failures"]:
        raise RuntimeError(f"edges were lost or out of order: {answer['failures']}")
    return answer


async def measure_first_edge(backend: RedunBackendDb, value_hash: str) -> float:
    """Return the median time to the first edge in process, in seconds."""
    times = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        from aredun.query import infer_id

        value: Any = await infer_id(backend, value_hash)
        async with contextlib.aclosing(walk_dataflow(backend, ValueRef(value.value_hash))) as edges:
            await anext(edges)
        times.append(time.perf_counter() - began)
    return median(times)


async def measure_first_message(url: str) -> float:
    """Return the median time from an open websocket to its first edge, in seconds."""
    times = []
    for _ in range(REPEATS):
        connection = websockets.connect(url, max_size=None, proxy=None, compression=None)
        async with connection as websocket:
            began = time.perf_counter()
            await websocket.recv()
            times.append(time.perf_counter() - began)
            websocket.transport.abort()
    return median(times)


async def measure_changes(served: Any, writer: RedunBackendDb) -> tuple[float, float]:
    """Return the median and the longest time from a committed end of a job to the subscriber, in seconds."""
    times = []
    root = FakeJob(task=TASK)
    async with served.connect("/ws/executions") as websocket:
        await receive(websocket)
        await writer.record_execution(root.execution.id, ["run"])
        await writer.record_job_start(root)
        for number in range(20):
            job = FakeJob(task=TASK, execution=root.execution, parent_job=root)
            await writer.record_job_start(job)
            # Apart from the rhythm of polls.
            await asyncio.sleep(0.31 + 0.017 * number)
            await writer.record_job_end(job)
            began = time.perf_counter()
            while True:
                message = await receive(websocket)
                if message.get("change") == "ended" and message["job"]["id"] == job.id:
                    break
            times.append(time.perf_counter() - began)
    return median(times), max(times)


def fill(uri: str, edges: int) -> tuple[str, float]:
    """Fill a database with a workflow; returns the hash of its result, and redun's edges per second."""
    from benchmarks.dataflow import REDUN_EDGES, Side, walk_redun
    from benchmarks.support import load_redun
    from tests.support.dataflow import make_chains

    graph, value_hash = make_chains(100, edges // 500)
    graph.insert(load_redun(uri))
    redun = Side()
    walk_redun(uri, value_hash, redun, REDUN_EDGES)
    return value_hash, redun.rates[0]


def fill_elsewhere(uri: str, edges: int) -> tuple[str, float]:
    """Fill a database in a process of its own: redun must not count as memory of the server."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as executor:
        return executor.submit(fill, uri, edges).result()


async def measure(
    uri: str, value_hash: str, edges: int, clients: int, redun_rate: float
) -> Iterator[tuple[str, str]]:
    """Measure everything on one database."""
    rows = [("redun's walk in process", f"{redun_rate:,.0f} edges/s")]
    async with RedunBackendDb(uri) as backend, RedunBackendDb(uri) as writer, serve(backend) as served:
        base = f"ws://127.0.0.1:{served.port}/ws/dataflow/{value_hash}"
        in_process = await measure_first_edge(backend, value_hash)
        over_socket = await measure_first_message(f"{base}?batch={BATCH}")
        rows.append(("first edge in process", f"{in_process * 1000:.1f} ms"))
        rows.append(("first edge over a websocket", f"{over_socket * 1000:.1f} ms"))
        one = await call_clients(f"{base}?batch={BATCH}&sections=0", 1, edges)
        rate = edges / one["seconds"]
        rows.append(("one websocket", f"{rate:,.0f} edges/s, {rate / redun_rate:.0f}x"))
        async with measure_lag() as lags:
            many = await call_clients(f"{base}?batch={BATCH}&sections=0&max_edges=5000", clients, 5_000)
        rows.append((f"{clients} clients", f"{many['edges'] / many['seconds']:,.0f} edges/s together"))
        rows.append(("their first edges, p99", f"{percentile(many['first'], 0.99) * 1000:,.0f} ms"))
        rows.append(("loop lag meanwhile, p99", f"{percentile(lags, 0.99):.1f} ms (max {max(lags):.0f} ms)"))
        typical, longest = await measure_changes(served, writer)
        rows.append(
            ("a job's end is seen after", f"{typical * 1000:.0f} ms (longest {longest * 1000:.0f} ms)")
        )
        rows.append(("memory of the process", f"{get_peak_memory():,.0f} MB"))
        rows.append(("connections in use at the end", str(backend.database.checked_out)))
    return iter(rows)


def main(argv: list[str] | None = None) -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--dialect", action="append", choices=["sqlite", "postgresql"])
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--edges", type=int, default=50_000, help="edges of the largest walk")
    parser.add_argument("--url", help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.url:
        asyncio.run(run_clients(args.url, args.clients, args.edges))
        return
    with temporary_databases(args.dialect or ["sqlite", "postgresql"]) as makers:
        for dialect, make in makers.items():
            uri = make()
            value_hash, redun_rate = fill_elsewhere(uri, args.edges)
            edges = 2 + 5 * 100 * (args.edges // 500) + 100
            with collect_rarely():
                rows = asyncio.run(measure(uri, value_hash, edges, args.clients, redun_rate))
            print_table(dialect, ["figure", "measured"], list(rows))


if __name__ == "__main__":
    main()
