"""A workflow that writes one file again and again, reads it, and changes one of its tasks."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from aredun import File, Scheduler, task
from aredun.backend import RedunBackendDb

if TYPE_CHECKING:
    from pathlib import Path

# Versions of one file.
OFTEN = 10


@task(name="write", namespace="lab.files")
def write(path: str, text: str) -> File:
    """Write a file."""
    file = File(path)
    file.write(text)
    return file


@task(name="bundle", namespace="lab.files")
def bundle(folder: str, text: str) -> list[File]:
    """Write a file that is known by what it stands in."""
    file = File(f"{folder}/inside.txt")
    file.write(text)
    return [file]


@task(name="read", namespace="lab.files")
def read(file: File, times: int) -> str:
    """Read a file; fail where that is asked for."""
    if times < 0:
        raise ValueError("it cannot be read")
    return str(file.read()) * times


@task(name="read_all", namespace="lab.files")
def read_all(files: list[File]) -> int:
    """Read the files in a list."""
    return len(files)


def make_measure(version: str) -> Any:
    """Return a version of a task whose name has no namespace."""

    @task(name="measure", namespace="", version=version)
    def measure(value: int) -> int:
        return value

    return measure


@task(name="main", namespace="lab.files")
def main(folder: str, text: str, times: int) -> Any:
    """Write, and read what was written and what was there before."""
    written = write(f"{folder}/out/report.txt", text)
    there = File(f"{folder}/given.txt")
    reads = [read(written, number) for number in range(times)]
    return [reads, read(there, 1), read_all(bundle(folder, text)), written]


@task(name="write_often", namespace="lab.files")
def write_often(folder: str) -> list[File]:
    """Write versions of one file, and one whose folder has a long name."""
    often = []
    for number in range(OFTEN):
        # The file is what its size and its time make it: each is taken as it is now.
        file = File(f"{folder}/often.txt")
        file.write("x" * (number + 1))
        often.append(file)
    long = File(
        f"{folder}/a_folder_with_a_long_name/of_a_project_that_somebody_named_in_full/sample.sorted.bam"
    )
    long.write("bam")
    return [*often, long]


@task(name="main_fail", namespace="lab.files")
def main_fail(folder: str) -> Any:
    """Fail."""
    return read(File(f"{folder}/given.txt"), -1)


async def run_histories(scheduler: Scheduler, folder: Path) -> None:
    """Run it: files of one, two and many versions, one only read, a task of two, a failure, cached jobs."""
    (folder / "given.txt").write_text("given")
    await scheduler.run(main(str(folder), "first", 2))
    await scheduler.run(main(str(folder), "second, longer", 3))
    await scheduler.run(write_often(str(folder)))
    for version in ("1", "2"):
        await scheduler.run([make_measure(version)(number) for number in range(3)])
    await scheduler.run([make_measure("2")(0)])
    try:
        await scheduler.run(main_fail(str(folder)))
    except ValueError:
        return
    raise AssertionError("the workflow did not fail")


def make_histories(url: str, folder: Path) -> None:
    """Run it into a migrated database."""

    async def make() -> None:
        async with RedunBackendDb(url) as backend, Scheduler(backend) as scheduler:
            await run_histories(scheduler, folder)

    asyncio.run(make())
