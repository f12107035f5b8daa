"""The scheduler: whole runs beside `redun run`, executions of many tasks, and tasks on a dask cluster."""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.support import (
    get_peak_memory,
    measure_lag,
    median,
    percentile,
    print_table,
    temporary_databases,
)
from tests.support.databases import redun_uri

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

PARTS = ("run", "large", "dask")
PHASES = ("cold", "cached")
COMMANDS = {name: str(Path(sys.executable).parent / name) for name in ("redun", "aredun")}

# The import is all that differs. redun wants to be told how an async task is cached.
WORKFLOW = """
from {engine} import task

redun_namespace = "benchmark"


@task(cache=True, check_valid="shallow")
async def work(i: int) -> int:
    return i + 1


@task()
def main(n: int) -> list:
    return [work(i) for i in range(n)]
"""
SLEEPER = """
import time

from aredun import task

redun_namespace = "benchmark_dask"


def sleep(number: int, seconds: float) -> int:
    time.sleep(seconds)
    return number


@task(executor="cluster")
def nap(number: int, seconds: float) -> int:
    return sleep(number, seconds)
"""


def run_engine(engine: str, folder: Path, tasks: int, environment: dict[str, str]) -> tuple[float, float]:
    """Run the workflow as a process; return its wall time and its time of the processor, in seconds."""
    command = [COMMANDS[engine], "run", "workflow.py", "main", "--n", str(tasks - 1)]
    before, start = os.times(), time.perf_counter()
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    wall, after = time.perf_counter() - start, os.times()
    if done.returncode:
        raise SystemExit(f"{engine} run failed: {done.stderr}")
    return wall, after.children_user + after.children_system - before.children_user - before.children_system


def measure_project(
    engine: str, uri: str, tasks: int, environment: dict[str, str]
) -> list[tuple[float, float]]:
    """Measure a cold and a cached run of one engine, in a new project on a new database."""
    with tempfile.TemporaryDirectory(prefix="aredun-bench-") as name:
        folder = Path(name)
        (folder / ".redun").mkdir()
        (folder / "workflow.py").write_text(WORKFLOW.format(engine=engine))
        (folder / ".redun" / "redun.ini").write_text(
            f"[backend]\ndb_uri = {redun_uri(uri)}\nautomigrate = True\n"
        )
        # The schema is set up beforehand: that costs the same on both sides.
        subprocess.run(
            [COMMANDS["redun"], "init"], cwd=folder, env=environment, capture_output=True, check=True
        )
        return [run_engine(engine, folder, tasks, environment) for _ in PHASES]


def measure_runs(make_uri: Callable[[], str], tasks: int, repeat: int) -> dict[tuple[str, str], list[Any]]:
    """Measure both engines by turns."""
    times: dict[tuple[str, str], list[Any]] = {}
    with tempfile.TemporaryDirectory(prefix="aredun-bench-") as compiled:
        # Both engines run from bytecode, as they are installed: without it, what is compiled anew in each
        # process is the engine under development alone.
        environment = {name: text for name, text in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        environment["PYTHONPYCACHEPREFIX"] = compiled
        for engine in COMMANDS:
            measure_project(engine, make_uri(), 2, environment)
        for _ in range(repeat):
            for engine in COMMANDS:
                runs = measure_project(engine, make_uri(), tasks, environment)
                for phase, run in zip(PHASES, runs, strict=True):
                    times.setdefault((engine, phase), []).append(run)
    return times


def show_runs(dialects: Sequence[str], tasks: int, repeat: int) -> None:
    """Print both engines beside each other."""
    rows = []
    with temporary_databases(dialects) as makers:
        for dialect in dialects:
            times = measure_runs(makers[dialect], tasks, repeat)
            for phase in PHASES:
                cells = []
                for part in (0, 1):
                    theirs, ours = (
                        median([one[part] for one in times[engine, phase]]) for engine in ("redun", "aredun")
                    )
                    cells += [f"{theirs:.2f}", f"{ours:.2f}", f"{theirs / ours:.1f}x"]
                rows.append([dialect, phase, *cells])
    header = ["database", "run", "redun wall s", "aredun wall s", "", "redun cpu s", "aredun cpu s", ""]
    print_table(f"a run of {tasks:,} async tasks as a process, medians of {repeat}", header, rows)


async def measure_execution(uri: str, tasks: int) -> tuple[float, float, list[float]]:
    """Run one execution of many async tasks; return its wall and processor time, and the loop's lags."""
    from aredun import RedunBackendDb, Scheduler, task

    @task(name="work", namespace="benchmark_large", version="1")
    async def work(i: int) -> int:
        return i + 1

    @task(name="main", namespace="benchmark_large", version="1")
    def start(n: int) -> Any:
        return [work(i) for i in range(n)]

    backend = RedunBackendDb(uri)
    await backend.load(migrate=True)
    async with backend, Scheduler(backend) as scheduler:
        # What is made once, statements and tasks, is no part of a task.
        await scheduler.run(start(10))
        async with measure_lag() as lags:
            began, cpu = time.perf_counter(), time.process_time()
            await scheduler.run(start(tasks), cache=False)
            return time.perf_counter() - began, time.process_time() - cpu, lags


def show_large(dialects: Sequence[str], counts: Sequence[int], repeat: int) -> None:
    """Print executions of several sizes, each in a process of its own for the sake of its memory."""
    rows = []
    with temporary_databases(dialects) as makers:
        for dialect in dialects:
            first: list[float] = []
            for count in counts:
                repeats = repeat if count <= 1000 else 1
                runs = [_measure_apart(makers[dialect](), count) for _ in range(repeats)]
                wall, cpu, p99, peak = (median(part) for part in zip(*runs, strict=True))
                first = first or [wall / count, cpu / count]
                rows.append(
                    [
                        dialect,
                        f"{count:,}",
                        f"{wall:.1f}",
                        f"{wall / count * 1e6:.0f}",
                        f"{wall / count / first[0]:.2f}x",
                        f"{cpu / count * 1e6:.0f}",
                        f"{cpu / count / first[1]:.2f}x",
                        f"{p99:.1f}",
                        f"{peak:.0f}",
                    ]
                )
    header = ["database", "tasks", "s", "us/task", "", "cpu us/task", "", "lag p99 ms", "peak MB"]
    print_table("async tasks in one execution", header, rows)


def _measure_apart(uri: str, count: int) -> list[float]:
    command = [sys.executable, "-m", "benchmarks.scheduler", "--measure", uri, str(count)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return [float(text) for text in done.stdout.split()]


async def measure_dask(folder: str, tasks: int, seconds: float) -> dict[str, float]:
    """Run sleeping tasks on one cluster of two workers, by dask alone and by the scheduler."""
    import benchmark_dask_tasks as flow  # type: ignore[import-not-found]
    from distributed import Client, LocalCluster

    from aredun import RedunBackendDb, Scheduler
    from aredun.workflow.executors.dask import DaskExecutor

    times: dict[str, float] = {}
    cluster = LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0", asynchronous=True)
    async with cluster, RedunBackendDb(f"sqlite:///{folder}/redun.db") as backend:
        async with Client(cluster, asynchronous=True) as client:
            await client.gather(client.map(flow.sleep, range(4), seconds=0, pure=False))
            start = time.perf_counter()
            await client.gather(client.map(flow.sleep, range(tasks), seconds=seconds, pure=False))
            times["dask alone"] = time.perf_counter() - start
        async with Scheduler(backend, executors={"cluster": DaskExecutor(cluster)}) as scheduler:
            await scheduler.run([flow.nap(number, 0) for number in range(4)])
            start = time.perf_counter()
            await scheduler.run([flow.nap(number, seconds) for number in range(tasks)])
            times["aredun on dask"] = time.perf_counter() - start
    return times


def show_dask(tasks: int, seconds: float) -> None:
    """Print what the scheduler costs beside dask alone."""
    with tempfile.TemporaryDirectory(prefix="aredun-bench-") as folder:
        Path(folder, "benchmark_dask_tasks.py").write_text(SLEEPER)
        sys.path.insert(0, folder)
        times = asyncio.run(measure_dask(folder, tasks, seconds))
    alone = times["dask alone"]
    rows = [[name, f"{wall:.2f}", f"{wall / alone:.3f}"] for name, wall in times.items()]
    print_table(f"{tasks:,} tasks of {seconds * 1000:.0f} ms on 2 workers", ["", "s", "of dask alone"], rows)


def main(argv: Sequence[str] | None = None) -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--tasks", type=int, default=1001, help="of a run as a process")
    parser.add_argument("--large", type=int, nargs="+", default=[1000, 100_000])
    parser.add_argument("--dask-tasks", type=int, default=2000)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--dialect", action="append", choices=["sqlite", "postgresql"])
    parser.add_argument("--measure", nargs=2, metavar=("URI", "TASKS"), help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.measure:
        wall, cpu, lags = asyncio.run(measure_execution(args.measure[0], int(args.measure[1])))
        print(wall, cpu, percentile(lags, 0.99), get_peak_memory())
        return
    dialects = args.dialect or ["sqlite", "postgresql"]
    if "run" in args.parts:
        show_runs(dialects, args.tasks, args.repeat)
    if "large" in args.parts:
        show_large(dialects, args.large, args.repeat)
    if "dask" in args.parts:
        show_dask(args.dask_tasks, 0.05)


if __name__ == "__main__":
    main()
