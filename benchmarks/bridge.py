"""`redun run` of many small tasks, on redun's own backend and on aredun's bridge, cold and all cached."""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.support import median, print_table, temporary_databases
from tests.support.databases import redun_uri

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

WORKFLOW = """
from redun import task

redun_namespace = "benchmark"


@task()
def work(i: int) -> int:
    return i + 1


@task()
def total(values: list) -> int:
    return sum(values)


@task()
def main(n: int) -> int:
    return total([work(i) for i in range(n)])
"""
SETUP = "[scheduler]\nsetup_scheduler = aredun.redun_bridge::setup_scheduler\n"
REDUN = str(Path(sys.executable).parent / "redun")


@dataclass
class Times:
    """What one `redun run` took, in seconds.

    Attributes
    ----------
    wall : float
        From the start of the command to its end.
    cpu : float
        Of the processor, in user and system mode.
    execution : float
        The part of `wall` that redun reports as the duration of the execution.
    """

    wall: float
    cpu: float
    execution: float


def run(folder: Path, jobs: int) -> Times:
    """Run the workflow of `jobs` jobs once."""
    command = [REDUN, "run", "workflow.py", "main", "--n", str(jobs - 2)]
    before, start = os.times(), time.perf_counter()
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    wall, after = time.perf_counter() - start, os.times()
    if done.returncode:
        raise SystemExit(f"redun run failed: {done.stderr}")
    reported = re.search(r"Execution duration: ([\d.]+) seconds", done.stderr)
    assert reported is not None, done.stderr
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return Times(wall, cpu, float(reported[1]))


def prepare(folder: Path, uri: str, *, bridge: bool) -> Path:
    """Make a project whose `redun.ini` names the database, and perhaps the bridge."""
    (folder / ".redun").mkdir(parents=True)
    (folder / "workflow.py").write_text(WORKFLOW)
    section = f"[backend]\ndb_uri = {uri}\nautomigrate = True\n\n"
    (folder / ".redun" / "redun.ini").write_text(section + (SETUP if bridge else ""))
    return folder


def measure(make_uri: Callable[[], str], jobs: int, repeat: int) -> dict[tuple[str, str], list[Times]]:
    """Measure both backends by turns, each time in a new project on a new database."""
    times: dict[tuple[str, str], list[Times]] = {}
    for _ in range(repeat):
        for name in ("redun", "bridge"):
            with tempfile.TemporaryDirectory(prefix="aredun-bench-") as folder:
                project = prepare(Path(folder, "project"), redun_uri(make_uri()), bridge=name == "bridge")
                # The schema is set up beforehand: that costs the same on both sides.
                subprocess.run([REDUN, "init"], cwd=project, capture_output=True, check=True)
                for phase in ("cold", "cached"):
                    times.setdefault((name, phase), []).append(run(project, jobs))
    return times


def main(argv: Sequence[str] | None = None) -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=1001)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--dialect", action="append", choices=["sqlite", "postgresql"])
    args = parser.parse_args(argv)
    dialects = args.dialect or ["sqlite", "postgresql"]
    rows = []
    with temporary_databases(dialects) as makers:
        for dialect in dialects:
            times = measure(makers[dialect], args.jobs, args.repeat)
            for phase in ("cold", "cached"):
                own, bridge = (times[name, phase] for name in ("redun", "bridge"))
                cells = []
                for part in ("wall", "execution", "cpu"):
                    mine, theirs = (median([getattr(one, part) for one in many]) for many in (bridge, own))
                    cells += [f"{theirs:.2f}", f"{mine:.2f}", f"{theirs / mine:.1f}x"]
                rows.append([dialect, phase, *cells])
    header = ["database", "run"]
    for part in ("wall s", "execution s", "cpu s"):
        header += [f"redun {part}", f"bridge {part}", ""]
    print_table(f"redun run of {args.jobs:,} jobs, medians of {args.repeat}", header, rows)


if __name__ == "__main__":
    main()
