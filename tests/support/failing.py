"""A workflow with failures four levels down."""

from __future__ import annotations

from threading import Barrier
from typing import Any

from aredun import Scheduler, task

redun_namespace = "lab"

SAMPLES = 3

# Once one of them fails, what has not begun never does: they fail when all have.
_all_begun = Barrier(SAMPLES, timeout=60)


@task()
def parse(sample: str, lane: int) -> int:
    """Fail for one of the lanes."""
    if lane == 4:
        _all_begun.wait()
        raise ValueError(f"sample {sample!r} has no <lane> {lane}")
    return lane


@task()
def trim(sample: str, lane: int) -> Any:
    """Go one level down."""
    return parse(sample, lane)


@task()
def align(sample: str) -> Any:
    """Call two lanes, one of which fails."""
    return [trim(sample, lane) for lane in (3, 4)]


@task()
def qc(sample: str) -> str:
    """Succeed."""
    return sample.upper()


@task()
def main(samples: int) -> Any:
    """Call many that succeed, and some below which one fails."""
    return [[align(f"s{number}") for number in range(samples)], [qc(f"s{number}") for number in range(30)]]


async def run_failing(scheduler: Scheduler) -> None:
    """Run it to its end: 46 jobs, of which three raise an error and seven fail with them."""
    try:
        await scheduler.run(main(SAMPLES))
    except ValueError:
        return
    raise AssertionError("the workflow did not fail")
