"""`aredun query`: the same records as the library's query, for people and programs."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from aredun.backend import RedunBackendDb
from aredun.cli import main
from aredun.query import CallGraphQuery

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.call_graphs import Recorded, RecordedRepository

    Query = Callable[..., list[str]]


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def repository(
    request: pytest.FixtureRequest, repositories: Callable[[str], RecordedRepository]
) -> tuple[str, Recorded]:
    """The URL of a repository that redun made, and what is in it."""
    return repositories(request.param)[:2]


@pytest.fixture
def query(repository: tuple[str, Recorded], capsys: pytest.CaptureFixture[str]) -> Query:
    """Run `aredun query` on the repository and return the lines that it wrote."""

    def run(*arguments: str, code: int = 0) -> list[str]:
        assert main(["query", "--db", repository[0], *arguments]) == code
        captured = capsys.readouterr()
        assert (captured.err == "") == (code == 0)
        return (captured.err if code else captured.out).splitlines()

    return run


def test_columns_are_those_of_the_query(query: Query, repository: tuple[str, Recorded]) -> None:
    async def collect() -> list[tuple[str, str]]:
        async with RedunBackendDb(repository[0]) as backend:
            asked = CallGraphQuery(backend).order_by("time")
            return [row async for row in asked.select("type", "id")]

    expected = asyncio.run(collect())
    assert [tuple(line.split("\t")) for line in query("--select", "type,id")] == expected
    assert query("--select", "id", "-n", "3") == [row[1] for row in expected[:3]]
    assert query("--select", "id", "-n", "0") == []
    objects = [json.loads(line) for line in query("--select", "id,type", "--json")]
    assert [(row["type"], row["id"]) for row in objects] == expected
    by_id = query("--select", "id", "--exec", "--order-by", "id")
    assert by_id == repository[1].executions


def test_records_are_described_for_programs(query: Query, repository: tuple[str, Recorded]) -> None:
    records = [json.loads(line) for line in query("--json")]
    assert {record["id"] for record in records} == set(repository[1].ids)
    jobs = [record for record in records if record["type"] == "Job"]
    assert {job["status"] for job in jobs} == {"RUNNING", "FAILED", "CACHED", "DONE"}
    assert all((job["end_time"] is None) == (job["duration"] is None) for job in jobs)
    assert {job["task"] for job in jobs} >= {"main", "first.double", "files.write"}
    executions = [record for record in records if record["type"] == "Execution"]
    assert {record["status"] for record in executions} == {"RUNNING", "FAILED", "DONE"}
    keys = {"Execution": "args", "CallNode": "value_hash", "Task": "source", "Value": "value_type"}
    for record in records:
        assert record["type"] == "Job" or record[keys[record["type"]]]


def test_pages_follow_each_other(query: Query, repository: tuple[str, Recorded]) -> None:
    found: list[str] = []
    arguments = ["--page"]
    while True:
        [line] = query("--limit", "50", *arguments)
        page: dict[str, Any] = json.loads(line)
        found += [record["id"] for record in page["records"]]
        if page["cursor"] is None:
            break
        assert len(page["records"]) == 50
        arguments = ["--page", page["cursor"]]
    assert sorted(found) == sorted(repository[1].ids)
    assert found == [json.loads(line)["id"] for line in query("--json")]


def test_people_see_a_line_for_each_record(query: Query, repository: tuple[str, Recorded]) -> None:
    job_id = repository[1].jobs[0]
    [line] = query(job_id[:12])
    assert line.startswith(f"Job {job_id[:8]} [")
    assert len(query("--task", "--task-name", "double")) == 2
    assert query("--count", "--job", "--job-status", "RUNNING")[0].split() == ["2", "Job"]
    assert len(query("--value", "--file-path", "*.txt")) == 4


def test_bad_input_is_one_line(query: Query) -> None:
    for arguments, message in (
        (["--select", "name"], "unknown column 'name'"),
        (["--page", "nonsense"], "invalid cursor"),
        (["--page", "--limit", "0"], "invalid page size"),
        ([""], "the id is empty"),
        (["--order-by", "size"], "invalid choice"),
        (["--job-status", "LOST"], "unknown status"),
    ):
        [line] = query(*arguments, code=2)
        assert message in line
