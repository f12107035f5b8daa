"""Walking upstream dataflow side by side with redun, on the same databases, in one run.

python -m benchmarks.dataflow --repeat 5
python -m benchmarks.dataflow --shapes hostile --engines sqlite
python -m benchmarks.dataflow --shapes million --engines sqlite
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import math
import multiprocessing
import re
import subprocess
import sys
import time
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

from benchmarks.support import count_redun, load_redun, median, percentile, print_table, temporary_databases
from tests.support.dataflow import (
    Graph,
    make_chains,
    make_equal_fan,
    make_popular_value,
    make_shared_upstream,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

# Half of what the proxy adds to a round trip, in seconds.
DELAY = 0.0005
# Most edges that redun walks, and behind the proxy: its speed does not depend on more.
REDUN_EDGES = 5_200
SLOW_REDUN_EDGES = 1_000

SHAPES: dict[str, dict[str, Callable[[], tuple[Graph, str]]]] = {
    "floors": {
        "1,000 calls, 100 wide": lambda: make_chains(100, 10),
        "2 chains of 500": lambda: make_chains(2, 500),
    },
    "large": {
        "10,000 calls, 1,000 wide": lambda: make_chains(1_000, 10),
        "2 chains of 5,000": lambda: make_chains(2, 5_000),
    },
    "hostile": {
        "2,000 chains, shared upstream": lambda: make_shared_upstream(2_000, 5, 2_000),
        "fan of 2,000 equal children": lambda: make_equal_fan(2_000),
        "value inside 100,000 others": lambda: make_popular_value(100_000),
    },
    "million": {"1,000,000 edges": lambda: make_chains(1_000, 200)},
}
# Too slow with redun to wait for.
WITHOUT_REDUN = {"hostile", "million"}


@dataclass
class Side:
    """What one of the two did.

    Attributes
    ----------
    rates, firsts, seconds : list of float
        Edges per second; seconds until the first and the second edge; one of each per run.
    edges, statements : int
        In one run.
    """

    rates: list[float] = field(default_factory=list)
    firsts: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    edges: int = 0
    statements: int = 0

    def add(self, times: Sequence[float], edges: int, statements: int) -> None:
        """Add a run: when it began, its first edges, and when it ended."""
        self.edges, self.statements = edges, statements
        self.rates.append(edges / (times[-1] - times[0]))
        self.firsts.append(times[1] - times[0])
        self.seconds.append(times[min(2, len(times) - 1)] - times[0])


def walk_redun(uri: str, start: str, side: Side, most: int) -> None:
    """Let redun walk, in a session that has nothing cached."""
    from redun.backends.db import Value
    from redun.backends.db.dataflow import walk_dataflow

    original = load_redun(uri)
    with count_redun(original) as counts:
        value = original.session.get(Value, start)
        before = counts["statements"]
        times = [time.perf_counter()]
        edges = 0
        for _ in islice(walk_dataflow(original, value), most):
            edges += 1
            if edges <= 2:
                times.append(time.perf_counter())
        times.append(time.perf_counter())
        side.add(times, edges, counts["statements"] - before)
    original.session.close()
    original.engine.dispose()


async def walk_aredun(uri: str, start: str, side: Side, repeat: int) -> None:
    """Let aredun walk, with connections that are open already, as redun's is."""
    from aredun.backend import RedunBackendDb
    from aredun.dataflow import ValueRef, walk_dataflow

    async with RedunBackendDb(uri) as backend:
        for run in range(repeat + 1):
            before = backend.database.counts.statements
            times = [time.perf_counter()]
            edges = 0
            async for _ in walk_dataflow(backend, ValueRef(start)):
                edges += 1
                if edges <= 2:
                    times.append(time.perf_counter())
            times.append(time.perf_counter())
            if run:
                side.add(times, edges, backend.database.counts.statements - before)


async def measure_memory(uri: str, start: str) -> None:
    """Walk once and print, as JSON, the greatest memory in use and how late the event loop was."""
    from aredun.backend import RedunBackendDb
    from aredun.dataflow import ValueRef, walk_dataflow
    from benchmarks.support import get_peak_memory, measure_lag

    async with RedunBackendDb(uri) as backend, measure_lag() as lags:
        edges = 0
        async for _ in walk_dataflow(backend, ValueRef(start)):
            edges += 1
    memory = get_peak_memory()
    sys.stdout.write(
        json.dumps({"edges": edges, "MB": memory, "p99": percentile(lags, 0.99), "max": max(lags)})
    )


class _Delayed(asyncio.Protocol):
    """One direction of a connection through the proxy."""

    def __init__(self, other: _Delayed | None = None) -> None:
        self.other = other
        self.transport: Any = None
        self._early: list[bytes] = []

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        for data in self._early:
            transport.write(data)

    def send(self, data: bytes) -> None:
        if self.transport is None:
            self._early.append(data)
        elif not self.transport.is_closing():
            self.transport.write(data)

    def data_received(self, data: bytes) -> None:
        if self.other is not None:
            asyncio.get_running_loop().call_later(DELAY, self.other.send, data)

    def connection_lost(self, error: Exception | None) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.close()


def run_proxy(socket_path: str, ports: Any) -> None:
    """Forward connections to a PostgreSQL server's socket, each byte a little late; tells its port."""

    async def serve() -> None:
        loop = asyncio.get_running_loop()
        tasks = set()

        def accept() -> _Delayed:
            client = _Delayed()
            server = _Delayed(client)
            client.other = server
            task = loop.create_task(loop.create_unix_connection(lambda: server, socket_path))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            return client

        listener = await loop.create_server(accept, "127.0.0.1", 0)
        ports.put(listener.sockets[0].getsockname()[1])
        await listener.serve_forever()

    asyncio.run(serve())


@contextlib.contextmanager
def slow_down(uri: str) -> Iterator[str]:
    """Give the URI of the same database behind a proxy that adds a millisecond to every round trip."""
    found = re.fullmatch(r"postgresql://postgres@/(\w+)\?host=(.+)", uri)
    assert found is not None, uri
    context = multiprocessing.get_context("spawn")
    ports: Any = context.Queue()
    process = context.Process(target=run_proxy, args=(f"{found[2]}/.s.PGSQL.5432", ports), daemon=True)
    process.start()
    try:
        yield f"postgresql://postgres@127.0.0.1:{ports.get()}/{found[1]}"
    finally:
        process.terminate()
        process.join()


def compare(uri: str, start: str, repeat: int, redun_edges: int) -> tuple[Side, Side]:
    """Let both walk `repeat` times; redun not at all when it may not walk an edge."""
    theirs, ours = Side(), Side()
    if redun_edges:
        for _ in range(repeat):
            walk_redun(uri, start, theirs, redun_edges)
    asyncio.run(walk_aredun(uri, start, ours, repeat))
    return theirs, ours


def make_row(shape: str, engine: str, theirs: Side, ours: Side) -> list[str]:
    """Return one line of the table."""
    allowed = 24 + 4 * math.ceil(ours.edges / 5_000)
    rate = median(ours.rates)
    row = [shape, engine, f"{ours.edges:,}"]
    if theirs.rates:
        row += [f"{median(theirs.rates):,.0f}", f"{rate:,.0f}", f"{rate / median(theirs.rates):.0f}x"]
    else:
        row += ["", f"{rate:,.0f}", ""]
    row.append(f"{ours.statements} (<= {allowed})")
    for name in ("firsts", "seconds"):
        times = [
            f"{median(side) * 1000:.1f}" for side in (getattr(theirs, name), getattr(ours, name)) if side
        ]
        row.append(" / ".join(times))
    return row


def main(argv: Sequence[str] | None = None) -> None:
    """Run the comparison."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=["floors", "large", "hostile"])
    parser.add_argument(
        "--engines", nargs="+", default=["sqlite", "postgresql", "postgresql+1ms"], help="where to walk"
    )
    parser.add_argument("--memory", nargs=2, metavar=("URI", "HASH"), help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.memory:
        asyncio.run(measure_memory(*args.memory))
        return
    header = [
        "graph",
        "engine",
        "edges",
        "redun/s",
        "aredun/s",
        "ratio",
        "statements",
        "first ms",
        "second ms",
    ]
    rows = []
    dialects = sorted({engine.partition("+")[0] for engine in args.engines})
    with temporary_databases(dialects) as makers:
        for group in args.shapes:
            for shape, make in SHAPES[group].items():
                graph, start = make()
                for dialect in dialects:
                    rows += _measure(shape, group, makers[dialect](), (graph, start), args)
    print_table("Upstream dataflow (medians; times as redun / aredun)", header, rows)


def _measure(
    shape: str, group: str, uri: str, graph: tuple[Graph, str], args: argparse.Namespace
) -> list[list[str]]:
    original = load_redun(uri)
    graph[0].insert(original)
    with original.engine.begin() as connection:
        connection.exec_driver_sql("ANALYZE")
    original.engine.dispose()
    rows = []
    dialect = uri.partition(":")[0]
    for engine in (engine for engine in args.engines if engine.partition("+")[0] == dialect):
        with slow_down(uri) if "+" in engine else contextlib.nullcontext(uri) as place:
            if group == "million":
                command = [sys.executable, "-m", "benchmarks.dataflow", "--memory", place, graph[1]]
                print(
                    f"{engine}: {subprocess.run(command, capture_output=True, check=True, text=True).stdout}"
                )
            redun_edges = SLOW_REDUN_EDGES if "+" in engine else REDUN_EDGES
            sides = compare(place, graph[1], args.repeat, 0 if group in WITHOUT_REDUN else redun_edges)
            rows.append(make_row(shape, engine, *sides))
    return rows


if __name__ == "__main__":
    main()
