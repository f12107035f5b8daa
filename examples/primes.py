"""The tasks of `on_dask.py`, in a module that workers can import."""

from __future__ import annotations

from aredun import task

redun_namespace = "primes"

STEP = 5_000


@task(executor="cluster", retries=2)
def count_primes(first: int, last: int) -> int:
    """Count the primes of a range, on a worker; if that dies, another one tries again."""
    return sum(all(n % d for d in range(2, int(n**0.5) + 1)) for n in range(max(first, 2), last))


@task()
def add_up(counts: list[int]) -> int:
    """Add the counts, here: it is no work for a cluster."""
    return sum(counts)


@task()
def count_below(limit: int) -> int:
    """Count all primes below a number, range by range."""
    return add_up([count_primes(first, first + STEP) for first in range(0, limit, STEP)])
