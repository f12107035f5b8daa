"""Call the variants of a cohort: 1,810 jobs on four levels; of some samples there are no reads."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any

from aredun import File, task

if TYPE_CHECKING:
    from collections.abc import Awaitable

redun_namespace = "cohort"

DAYS = 8
WITHOUT_READS = ("s0007", "s0023", "s0031")
# How long work takes: 1 is as long as is pleasant to look at.
PACE = 1.0
# What fails comes at once for all, and last: so long after everything else, in seconds.
PATIENCE = 1.0
everything_else: set[tuple[str, str]] = set()
last_call = asyncio.Event()


def work(*what: object, share: float = 1.0) -> Awaitable[None]:
    """Take as long as such work takes."""
    return asyncio.sleep(random.Random(repr(what)).uniform(0.01, 0.2) * share * PACE)


async def finish(step: str, sample: str, share: float = 1.0) -> None:
    """Work on the last step of a sample."""
    await work(step, sample, share=share)
    everything_else.discard((step, sample))
    if not everything_else:
        asyncio.get_running_loop().call_later(PATIENCE, last_call.set)


@task()
async def trim(sample: str, min_quality: int) -> str:
    """Cut off what was read badly."""
    await work("trim", sample)
    return f"{sample}.trimmed"


@task()
async def align(reads: str, genome: File) -> float:
    """Find the places of the reads; returns the share that has one."""
    await work("align", reads, share=2)
    sample = reads.removesuffix(".trimmed")
    if sample in WITHOUT_READS:
        await last_call.wait()
        raise ValueError(f"{sample} has no reads to align to {genome.path}")
    return round(random.Random(sample).uniform(0.8, 0.99), 3)


@task()
async def call_variants(sample: str, aligned: float) -> int:
    """Count the variants."""
    await finish("call", sample)
    return int(aligned * 5_000)


@task()
async def qc(sample: str) -> str:
    """Look at the reads as they come."""
    await finish("qc", sample, share=0.5)
    return f"{sample}: good"


@task()
def process(sample: str, genome: File, min_quality: int) -> list[Any]:
    """Go from the reads of one sample to its variants."""
    aligned = align(trim(sample, min_quality), genome)
    return [call_variants(sample, aligned), qc(sample)]


@task()
async def batch(day: int, size: int, genome: File, min_quality: int) -> list[Any]:
    """Process the samples of one day."""
    await work(day, share=6)
    samples = [f"s{number:04}" for number in range(day * size, (day + 1) * size)]
    return [process(sample, genome, min_quality) for sample in samples]


@task()
async def report(counts: list[Any]) -> int:
    """Say how many variants there are."""
    return sum(variants for day in counts for variants, _ in day)


@task()
def main(genome: File, samples: int = 360, min_quality: int = 20) -> int:
    """Process all samples."""
    names = [f"s{number:04}" for number in range(samples)]
    everything_else.update(("qc", name) for name in names)
    everything_else.update(("call", name) for name in names if name not in WITHOUT_READS)
    return report([batch(day, samples // DAYS, genome, min_quality) for day in range(DAYS)])
