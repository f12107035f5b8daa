"""Recording and cache checks, redun and aredun side by side.

One call is a cache check that misses, a job's start, a value, an evaluation, a call node with two arguments,
and the job's end.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Any

from aredun.backend import RedunBackendDb
from aredun.formats.hashing import hash_eval
from aredun.values import CacheCheckValid, CacheResult, CacheScope
from benchmarks.support import (
    FakeJob,
    Part,
    count_redun,
    get_peak_memory,
    load_redun,
    measure_lag,
    median,
    percentile,
    print_table,
    temporary_databases,
)

ARGV = ["redun", "run", "workflow.py", "main"]


@dataclass
class Workload:
    """Calls of one task within one execution."""

    task: Any
    registry: Any
    execution: Part
    root: FakeJob

    @classmethod
    def make(cls, registry: Any) -> Workload:
        """Make a workload with an execution of its own."""
        from redun import task

        @task(name="align", namespace="benchmark")  # type: ignore[untyped-decorator]  # redun's
        def align(sample: dict[str, int], depth: int) -> list[int]:
            return [*sample.values(), depth]

        execution = Part()
        root = FakeJob(task=align, execution=execution)
        return cls(align, registry, execution, root)

    def call(self, number: int) -> tuple[FakeJob, tuple[Any, ...], Any, str, str]:
        """Return the job, arguments, result, eval_hash and args_hash of one call."""
        job = FakeJob(task=self.task, execution=self.execution, parent_job=self.root)
        arguments = ({"sample": number, "lane": 3}, number)
        eval_hash, args_hash = hash_eval(self.registry, self.task.hash, arguments, {})
        return job, arguments, [number, 3, number], eval_hash, args_hash


def record_with_redun(backend: Any, load: Workload, numbers: range) -> float:
    """Record calls one after the other with redun; returns calls per second."""
    from redun import task as redun_task

    del redun_task
    from redun.task import CacheCheckValid as Valid
    from redun.task import CacheScope as Scope

    started = time.perf_counter()
    for number in numbers:
        job, arguments, result, eval_hash, args_hash = load.call(number)
        task_hash = load.task.hash
        backend.check_cache(
            task_hash, args_hash, eval_hash, load.execution.id, {task_hash}, Scope.BACKEND, Valid.FULL
        )
        backend.record_job_start(job)
        result_hash = backend.record_value(result)
        backend.set_eval_cache(eval_hash, task_hash, args_hash, result, result_hash)
        job.call_hash = backend.record_call_node(
            "benchmark.align",
            task_hash,
            args_hash,
            (arguments, {}),
            (arguments, {}),
            result_hash,
            [],
            {load.task},
        )
        backend.record_job_end(job)
    return len(numbers) / (time.perf_counter() - started)


async def record_call(backend: RedunBackendDb, load: Workload, number: int) -> None:
    """Record one call with aredun, awaiting each of its six steps."""
    job, arguments, result, eval_hash, args_hash = load.call(number)
    task_hash = load.task.hash
    await backend.check_cache(
        task_hash,
        args_hash,
        eval_hash,
        load.execution.id,
        {task_hash},
        CacheScope.BACKEND,
        CacheCheckValid.FULL,
    )
    await backend.record_job_start(job)
    result_hash = await backend.record_value(result)
    await backend.set_eval_cache(eval_hash, task_hash, args_hash, result, result_hash)
    job.call_hash = await backend.record_call_node(
        "benchmark.align",
        task_hash,
        args_hash,
        (arguments, {}),
        (arguments, {}),
        result_hash,
        [],
        {load.task},
    )
    await backend.record_job_end(job)


async def record_with_aredun(backend: RedunBackendDb, load: Workload, callers: int, numbers: range) -> float:
    """Record calls with so many concurrent callers; returns calls per second."""
    rest = iter(numbers)

    async def work() -> None:
        for number in rest:
            await record_call(backend, load, number)

    started = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(callers):
            group.create_task(work())
    return len(numbers) / (time.perf_counter() - started)


async def check_with_aredun(backend: RedunBackendDb, load: Workload, callers: int, numbers: range) -> float:
    """Ask for cached results with so many concurrent callers; returns checks per second."""
    rest = iter(numbers)

    async def work() -> None:
        for number in rest:
            _, _, _, eval_hash, args_hash = load.call(number)
            _, _, kind = await backend.check_cache(
                load.task.hash,
                args_hash,
                eval_hash,
                "another execution",
                {load.task.hash},
                CacheScope.BACKEND,
                CacheCheckValid.FULL,
            )
            assert kind is CacheResult.SINGLE

    started = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(callers):
            group.create_task(work())
    return len(numbers) / (time.perf_counter() - started)


def check_with_redun(backend: Any, load: Workload, numbers: range) -> float:
    """Ask for cached results one after the other with redun; returns checks per second."""
    from redun.task import CacheCheckValid as Valid
    from redun.task import CacheResult as Result
    from redun.task import CacheScope as Scope

    started = time.perf_counter()
    for number in numbers:
        _, _, _, eval_hash, args_hash = load.call(number)
        _, _, kind = backend.check_cache(
            load.task.hash, args_hash, eval_hash, "another", {load.task.hash}, Scope.BACKEND, Valid.FULL
        )
        assert kind is Result.SINGLE
    return len(numbers) / (time.perf_counter() - started)


def measure_redun_checks(uri: str, calls: int) -> float:
    """Measure redun's cache checks on a database that aredun has filled: both look in the same rows."""
    from redun.value import get_type_registry

    backend = load_redun(uri)
    checks = check_with_redun(backend, Workload.make(get_type_registry()), range(calls))
    backend.session.close()
    backend.engine.dispose()
    return checks


def measure_redun(uri: str, calls: int) -> dict[str, float]:
    """Measure redun on a fresh database."""
    from redun.value import get_type_registry

    backend = load_redun(uri)
    load = Workload.make(get_type_registry())
    backend.record_execution(load.execution.id, ARGV)
    backend.record_job_start(load.root)
    with count_redun(backend) as counts:
        speed = record_with_redun(backend, load, range(calls))
    backend.session.close()
    backend.engine.dispose()
    return {
        "calls": speed,
        "statements": counts["statements"] / calls,
        "commits": counts["commits"] / calls,
    }


async def measure_aredun(uri: str, callers: int, calls: int) -> dict[str, float]:
    """Measure aredun on a fresh database."""
    async with RedunBackendDb(uri, {"automigrate": "true"}) as backend:
        load = Workload.make(backend.type_registry)
        await backend.record_execution(load.execution.id, ARGV)
        await backend.record_job_start(load.root)
        before = (backend.database.counts.statements, backend.database.counts.commits)
        async with measure_lag() as lags:
            speed = await record_with_aredun(backend, load, callers, range(calls))
        after = (backend.database.counts.statements, backend.database.counts.commits)
        before_checks = backend.database.counts.statements
        checks = await check_with_aredun(backend, load, callers, range(calls))
        check_statements = backend.database.counts.statements - before_checks
    return {
        "calls": speed,
        "checks": checks,
        "statements": (after[0] - before[0]) / calls,
        "commits": (after[1] - before[1]) / calls,
        "check_statements": check_statements / calls,
        "lag": percentile(lags or [0.0], 0.99),
    }


def record_much(uri: str, calls: int) -> list[float]:
    """Record calls by 100 callers; returns the peak of the process's memory in MB after each tenth."""

    async def record() -> list[float]:
        async with RedunBackendDb(uri, {"automigrate": "true"}) as backend:
            load = Workload.make(backend.type_registry)
            await backend.record_execution(load.execution.id, ARGV)
            await backend.record_job_start(load.root)
            peaks = []
            for start in range(0, calls, calls // 10):
                await record_with_aredun(backend, load, 100, range(start, start + calls // 10))
                peaks.append(get_peak_memory())
            return peaks

    return asyncio.run(record())


def measure_memory(uri: str, calls: int) -> list[float]:
    """Run `record_much` in a process of its own."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(record_much, uri, calls).result()


def run(args: argparse.Namespace) -> None:
    """Measure and print."""
    with temporary_databases(args.databases) as makers:
        for dialect, make in makers.items():
            redun = _medians([measure_redun(make(), args.redun_calls) for _ in range(args.rounds)])
            measured = {}
            for callers in args.callers:
                calls = args.calls if callers > 1 else args.calls // 10
                uris = [make() for _ in range(args.rounds)]
                measured[callers] = _medians(
                    [asyncio.run(measure_aredun(uri, callers, calls)) for uri in uris]
                )
                if callers == max(args.callers):
                    redun["checks"] = median([measure_redun_checks(uri, args.redun_calls) for uri in uris])
            rows = [_row("redun", redun, redun)]
            rows += [_row(f"aredun, {callers} callers", found, redun) for callers, found in measured.items()]
            print_table(
                f"Recording on {dialect}",
                ["", "calls/s", "x", "statements", "commits", "lag p99 ms", "checks/s", "x", "statements"],
                rows,
            )
            if args.memory:
                peaks = measure_memory(make(), args.memory)
                print_table(
                    f"Memory on {dialect}, 100 callers",
                    ["calls", "peak MB after a tenth", "after half", "at the end"],
                    [[f"{args.memory:,}", *(f"{peaks[at]:.0f}" for at in (0, 4, 9))]],
                )


def _medians(rounds: list[dict[str, float]]) -> dict[str, float]:
    return {name: median([measured[name] for measured in rounds]) for name in rounds[0]}


def _row(name: str, figures: dict[str, float], redun: dict[str, float]) -> list[str]:
    def show(key: str, digits: int = 2) -> str:
        return f"{figures[key]:,.{digits}f}" if key in figures else ""

    return [
        name,
        show("calls", 0),
        f"{figures['calls'] / redun['calls']:.1f}",
        show("statements"),
        show("commits"),
        show("lag", 1),
        show("checks", 0),
        f"{figures['checks'] / redun['checks']:.1f}",
        show("check_statements", 3),
    ]


def main(argv: list[str] | None = None) -> None:
    """Run this benchmark alone."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--databases", nargs="+", default=["sqlite", "postgresql"])
    parser.add_argument("--callers", nargs="+", type=int, default=[1, 10, 100, 1000])
    parser.add_argument("--calls", type=int, default=5000)
    parser.add_argument("--redun-calls", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--memory", type=int, default=100_000, help="calls to watch the memory of; 0: none")
    run(parser.parse_args(argv))


if __name__ == "__main__":
    main()
