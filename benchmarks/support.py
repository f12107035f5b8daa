"""What the benchmarks share: databases, a workflow's calls, timing, and tables."""

from __future__ import annotations

import asyncio
import contextlib
import re
import shutil
import statistics
import tempfile
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence

console = Console(width=130)


@dataclass
class Part:
    """Anything with an id, as jobs and executions are."""

    id: str = field(default_factory=lambda: str(uuid.uuid4()))


@dataclass
class FakeJob(Part):
    """What the backends read of a job."""

    task: Any = None
    execution: Part = field(default_factory=Part)
    parent_job: Any = None
    was_cached: bool = False
    call_hash: str | None = None


def get_peak_memory() -> float:
    """Return the most memory that this program has had, in megabytes.

    `getrusage` would count what the process had before it became this program: a copy of its parent.
    """
    [peak] = re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(peak) / 1024


@contextlib.contextmanager
def temporary_databases(dialects: Sequence[str]) -> Iterator[dict[str, Callable[[], str]]]:
    """Give, for each dialect, a function that makes an empty database and returns its URI."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="aredun-bench-")))
        makers: dict[str, Callable[[], str]] = {}
        if "sqlite" in dialects:
            makers["sqlite"] = lambda: f"sqlite:///{folder / uuid.uuid4().hex}.db"
        if "postgresql" in dialects:
            from tests.support.databases import PostgresCluster

            cluster = PostgresCluster()
            stack.callback(cluster.close)
            # The tests' cluster does without; here commits must cost what they cost.
            for name in ("fsync", "full_page_writes"):
                cluster.execute("postgres", f"ALTER SYSTEM SET {name} = 'on'")
            cluster.restart()
            makers["postgresql"] = lambda: cluster.url(cluster.create_database())
        yield makers


def copy_database(uri: str, target: str) -> None:
    """Copy a closed sqlite database."""
    shutil.copyfile(uri.removeprefix("sqlite:///"), target.removeprefix("sqlite:///"))


def load_redun(uri: str) -> Any:
    """Return redun's own backend, loaded."""
    from redun.backends.db import RedunBackendDb

    from tests.support.databases import redun_uri

    backend = RedunBackendDb(db_uri=redun_uri(uri))
    backend.load(migrate=True)
    return backend


@contextlib.contextmanager
def count_redun(backend: Any) -> Iterator[dict[str, int]]:
    """Count what redun's backend sends."""
    from sqlalchemy import event

    counts = {"statements": 0, "commits": 0}

    def statement(*_: Any) -> None:
        counts["statements"] += 1

    def commit(*_: Any) -> None:
        counts["commits"] += 1

    event.listen(backend.engine, "before_cursor_execute", statement)
    event.listen(backend.engine, "commit", commit)
    yield counts
    event.remove(backend.engine, "before_cursor_execute", statement)
    event.remove(backend.engine, "commit", commit)


@contextlib.asynccontextmanager
async def measure_lag(interval: float = 0.002) -> AsyncIterator[list[float]]:
    """Measure how late the event loop wakes a sleeper up, in milliseconds."""
    lags: list[float] = []

    async def sleep() -> None:
        while True:
            wanted = time.perf_counter() + interval
            await asyncio.sleep(interval)
            lags.append(max(0.0, time.perf_counter() - wanted) * 1000)

    task = asyncio.create_task(sleep())
    try:
        yield lags
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def percentile(values: Sequence[float], fraction: float) -> float:
    """Return the value that `fraction` of the values do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * fraction))]


def median(values: Sequence[float]) -> float:
    """Return the middle value."""
    return statistics.median(values)


def print_table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print results for people."""
    table = Table(*header, title=title, title_justify="left")
    for row in rows:
        table.add_row(*row)
    console.print(table)
