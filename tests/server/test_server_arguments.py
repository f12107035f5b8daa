"""What jobs were called with, on every row that the server shows of them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from aredun import Scheduler, task
from tests.support.server import receive, receive_until, serve

if TYPE_CHECKING:
    from aredun.backend import RedunBackendDb
    from tests.support.server import Served

redun_namespace = "rows"


@task()
def qc(path: str, min: int = 10, reads: Any = None) -> str:
    """Take one by position, the others by keyword."""
    return path


@task()
def main(samples: int) -> Any:
    """Call many, each with arguments of its own."""
    return [qc(f"sample{number}.fastq", min=20, reads=[number]) for number in range(samples)]


@task()
def long_main() -> Any:
    """Call with a text that is cut, and with a list that is too large to be read for a row."""
    return [qc("x" * 300), qc("y", reads=list(range(5_000)))]


EXPECTED = "'sample3.fastq', min=20, reads=[3]"


async def get_items(served: Served, path: str) -> list[dict[str, Any]]:
    """Return the jobs of a page, a tree, or several records."""
    found = await served.get(path)
    if "lines" in found:
        return [line["job"] for line in found["lines"] if line["job"] is not None]
    items: list[dict[str, Any]] = found["items"]
    return [item for item in items if item["type"] == "Job"]


async def get_snapshot(served: Served) -> list[dict[str, Any]]:
    """Return the jobs of the first message about the newest execution."""
    async with served.connect("/ws/executions/-") as websocket:
        jobs: list[dict[str, Any]] = (await receive(websocket))["jobs"]
        return jobs


async def test_rows_of_jobs_tell_their_arguments(backend: RedunBackendDb, scheduler: Scheduler) -> None:
    """Lists, trees, records, the snapshot of the websocket and the page of a job have the same text."""
    await scheduler.run(main(5))
    async with serve(backend) as served:
        lists = [
            await get_items(served, path)
            for path in ("/api/executions/-/jobs", "/api/executions/-/tree", "/api/jobs", "/api/query")
        ]
        for jobs in (*lists, await get_snapshot(served)):
            texts = {job["arguments"] for job in jobs}
            assert len(jobs) == len(texts) == 6
            assert {EXPECTED, "5"} <= texts
        [job] = [job for job in lists[0] if job["arguments"] == EXPECTED]
        assert (await served.get(f"/api/jobs/{job['id']}"))["arguments"] == EXPECTED


async def test_statements_do_not_grow_with_the_rows(backend: RedunBackendDb, scheduler: Scheduler) -> None:
    """Sixty rows take as many statements as three."""
    spent: list[dict[str, int]] = []
    async with serve(backend) as served:
        for samples in (2, 60):
            await scheduler.run(main(samples))
            counts: dict[str, int] = {}
            for path in ("/api/executions/-/jobs?limit=500", "/api/executions/-/tree?fold=0"):
                before = backend.database.counts.statements
                assert len(await get_items(served, path)) == samples + 1
                counts[path] = backend.database.counts.statements - before
            spent.append(counts)
    assert spent[0] == spent[1]


async def test_the_page_of_a_job_reads_its_arguments_once(
    backend: RedunBackendDb, scheduler: Scheduler
) -> None:
    """Both texts of them, that on its row and those of its call, are written from the same rows."""
    await scheduler.run(main(1))
    read: list[str] = []

    def see(*event: Any) -> None:
        read.extend(event[2] for _ in re.findall("FROM argument WHERE", event[2].replace("\n", "")))

    async with serve(backend) as served:
        [job] = [job for job in await get_items(served, "/api/executions/-/jobs") if job["parent_id"]]
        sa.event.listen(sa.Engine, "before_cursor_execute", see)
        try:
            shown = await served.get(f"/api/jobs/{job['id']}")
        finally:
            sa.event.remove(sa.Engine, "before_cursor_execute", see)
    assert shown["arguments"] == job["arguments"] == "'sample0.fastq', min=20, reads=[0]"
    assert len(shown["call"]["arguments"]) == 3
    assert len(read) == 1


async def test_large_arguments_are_named_instead_of_read(
    backend: RedunBackendDb, scheduler: Scheduler
) -> None:
    """Long texts are cut; a value beyond the bound is told by its type and hash, on its own page in full."""
    await scheduler.run(long_main())
    async with serve(backend) as served:
        jobs = await get_items(served, "/api/executions/-/jobs?task=rows.qc")
        large, cut = sorted((job["arguments"] for job in jobs), key=len)
        assert cut == f"'{'x' * 198}…, min=10, reads=None"
        [job] = [job for job in jobs if job["arguments"] == large]
        call = (await served.get(f"/api/jobs/{job['id']}"))["call"]
        [reads] = [item["value"] for item in call["arguments"] if item["name"] == "reads"]
        assert reads["preview"].startswith("[0, 1, 2, 3")
        assert large == f"'y', min=10, reads=<list {reads['value_hash'][:8]}>"


async def test_a_job_that_goes_on_has_no_arguments_yet(backend: RedunBackendDb, scheduler: Scheduler) -> None:
    """A change tells them when the job has ended, not before."""
    async with serve(backend) as served, served.connect("/ws/executions") as websocket:
        await receive(websocket)
        await scheduler.run(main(4))
        messages = await receive_until(websocket, "execution:ended", timeout=60)
    told: dict[str, set[str | None]] = {"started": set(), "ended": set()}
    for message in messages:
        if message["type"] == "job":
            told[message["change"]].add(message["job"]["arguments"])
    assert told["started"] == {None}
    assert len(told["ended"]) == 5
    assert EXPECTED in told["ended"]
