"""Failures over HTTP: the error and its traceback, the way to the job at fault, the next one, filters."""

from __future__ import annotations

import asyncio
import inspect
from typing import TYPE_CHECKING, Any

import pytest

from aredun import task
from aredun.errors import UsageError
from aredun.values.previews import preview_value, read_failure
from tests.support import failing
from tests.support.failing import run_failing
from tests.support.server import serve

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aredun.backend import RedunBackendDb
    from aredun.scheduler import Scheduler
    from tests.support.server import Served


@pytest.fixture
async def served(backend: RedunBackendDb, scheduler: Scheduler) -> AsyncIterator[Served]:
    """A server of a repository with one failed execution."""
    await run_failing(scheduler)
    async with serve(backend) as served:
        yield served


async def list_failed(served: Served, **parameters: Any) -> list[dict[str, Any]]:
    """Return the failed jobs of the execution, in the order in which they started."""
    page = await served.get("/api/executions/-/jobs", params={"status": "FAILED", **parameters})
    return list(reversed(page["items"]))


async def test_a_failed_execution_leads_to_the_job_at_fault(served: Served) -> None:
    """Its root error, and the jobs from the root to the one that raised it."""
    execution = await served.get("/api/executions/-")
    failure = execution["failure"]
    assert failure["error_type"] == "ValueError"
    path = failure["path"]
    assert [job["task"] for job in path] == ["lab.main", "lab.align", "lab.trim", "lab.parse"]
    assert path[0]["id"] == execution["job_id"]
    at_fault = await served.get(f"/api/jobs/{path[-1]['id']}")
    assert at_fault["status"] == "FAILED"
    assert at_fault["failure"]["message"] == failure["message"]
    assert [ancestor["id"] for ancestor in reversed(at_fault["ancestors"])] == [
        job["id"] for job in path[:-1]
    ]


async def test_a_failed_job_shows_the_lines_of_the_user(served: Served) -> None:
    """File, line, function and source of what raised; jobs that did not fail have none of it."""
    for job in await list_failed(served, task="lab.parse"):
        shown = await served.get(f"/api/jobs/{job['id']}")
        sample = shown["call"]["arguments"][0]["value"]["preview"]
        assert shown["failure"]["message"] == f"sample {sample} has no <lane> 4"
        assert [step["id"] for step in shown["failure"]["path"]] == [job["id"]]
        [frame] = shown["failure"]["frames"]
        assert frame["filename"] == failing.__file__
        assert frame["name"] == "parse"
        assert frame["line"].startswith("raise ValueError(")
        lines = inspect.getsource(failing).splitlines()
        assert lines[frame["lineno"] - 1].strip() == frame["line"]
    done = await served.get("/api/executions/-/jobs", params={"status": "DONE", "limit": 1})
    assert (await served.get(f"/api/jobs/{done['items'][0]['id']}"))["failure"] is None


async def test_next_failed_goes_from_cause_to_cause(served: Served) -> None:
    """Only jobs that raised an error count, each once, by start; those above them lead to the first."""
    causes = [job["id"] for job in await list_failed(served, task="parse")]
    assert len(causes) == 3
    for number, job_id in enumerate(causes):
        found = await served.get(f"/api/jobs/{job_id}/next-failed")
        assert (found["number"], found["total"]) == (number + 1, 3)
        assert found["next_id"] == (causes[number + 1] if number < 2 else None)
        assert found["previous_id"] == (causes[number - 1] if number else None)
    [root] = await list_failed(served, task="main")
    found = await served.get(f"/api/jobs/{root['id']}/next-failed")
    assert found == {"total": 3, "number": None, "next_id": causes[0], "previous_id": None}


async def test_jobs_that_were_cancelled_with_another_one_are_no_causes(
    backend: RedunBackendDb, scheduler: Scheduler
) -> None:
    """They are recorded as failed, but whoever looks for what went wrong is not led to them."""
    waiting = 7
    begun = asyncio.Semaphore(0)

    @task(namespace="lab")
    async def wait_for_good(number: int) -> None:
        begun.release()
        await asyncio.sleep(3600)

    @task(namespace="lab")
    async def fail_beside_others() -> None:
        for _ in range(waiting):
            await begun.acquire()
        raise ValueError("one of eight")

    calls = [wait_for_good(number) for number in range(waiting)]
    with pytest.raises(ValueError, match="one of eight"):
        await scheduler.run([fail_beside_others(), calls])
    async with serve(backend) as served:
        failed = await list_failed(served)
        assert len(failed) == waiting + 2
        by_name = {job["task"]: job["id"] for job in failed}
        cause = by_name["lab.fail_beside_others"]
        found = await served.get(f"/api/jobs/{cause}/next-failed")
        assert found == {"total": 1, "number": 1, "next_id": None, "previous_id": None}
        found = await served.get(f"/api/jobs/{by_name['lab.wait_for_good']}/next-failed")
        assert (found["total"], found["number"]) == (1, None)
        assert cause in (found["next_id"], found["previous_id"])


async def test_jobs_are_found_by_status_task_and_text(served: Served) -> None:
    """The filters of an execution's jobs hold together; nothing in a text is a wildcard."""
    assert len(await list_failed(served)) == 10
    assert {job["task"] for job in await list_failed(served, text="B.Al")} == {"lab.align"}
    [one, *_] = await list_failed(served, task="trim")
    assert [job["id"] for job in await list_failed(served, text=one["id"][:12].upper())] == [one["id"]]
    assert await list_failed(served, text="%") == []
    assert await list_failed(served, text="lab_trim") == []
    assert await list_failed(served, task="qc") == []
    answer = await served.http.get("/api/executions/-/jobs", params={"text": "\0"})
    assert (answer.status_code, answer.json()["error"]) == (400, "bad_request")


async def test_pages_of_failures_take_few_statements(served: Served, backend: RedunBackendDb) -> None:
    """However many jobs failed, there is no statement for each."""
    [root] = await list_failed(served, task="main")
    for path, most in (
        ("/api/executions/-", 12),
        (f"/api/jobs/{root['id']}", 20),
        (f"/api/jobs/{root['id']}/next-failed", 4),
    ):
        before = backend.database.counts.statements
        await served.get(path)
        assert backend.database.counts.statements - before <= most


def test_errors_that_nobody_should_trust() -> None:
    """Whatever stands where an error should be, there is something to show, and nothing is run."""
    assert read_failure(preview_value("redun.ErrorValue", "application/python-pickle", b"no")).frames == []
    assert read_failure(None).message == "None"
    shown = read_failure(UsageError("of this process"))
    assert shown.text == "UsageError('of this process')"
