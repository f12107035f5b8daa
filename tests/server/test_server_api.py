"""The HTTP API over repositories that real redun made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa

from aredun.backend import RedunBackendDb
from aredun.models import File
from aredun.query import CallGraphQuery
from tests.support.server import serve

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tests.support.call_graphs import Recorded, RecordedRepository
    from tests.support.server import Served


@pytest.fixture
def database_url(dialect: str, repositories: Callable[[str], RecordedRepository]) -> str:
    """The URI of that repository."""
    return repositories(dialect)[0]


@pytest.fixture
def recorded(dialect: str, repositories: Callable[[str], RecordedRepository]) -> Recorded:
    """The ids in it."""
    return repositories(dialect)[1]


@pytest.fixture
async def served(recorded: Recorded, backend: RedunBackendDb) -> AsyncIterator[Served]:
    """A server of that repository."""
    async with serve(backend) as served:
        yield served


async def read_pages(served: Served, path: str, limit: int) -> list[dict[str, Any]]:
    """Return the items of all pages of a list."""
    items: list[dict[str, Any]] = []
    cursor: dict[str, str] = {}
    while True:
        page = await served.get(path, params={"limit": limit, **cursor})
        assert len(page["items"]) <= limit
        items += page["items"]
        if page["cursor"] is None:
            return items
        cursor = {"cursor": page["cursor"]}


async def test_lists_are_complete_and_paged(served: Served, recorded: Recorded) -> None:
    """Every list has all records once, whatever the size of its pages."""
    keys = {
        "/api/executions": ("id", recorded.executions),
        "/api/jobs": ("id", recorded.jobs),
        "/api/call-nodes": ("call_hash", recorded.call_nodes),
        "/api/tasks": ("hash", recorded.tasks),
        "/api/values": ("value_hash", recorded.values),
    }
    for path, (key, expected) in keys.items():
        items = await read_pages(served, path, 7)
        assert sorted(item[key] for item in items) == expected
    records = await read_pages(served, "/api/query", 20)
    assert len(records) == len(recorded.ids)
    counts = await served.get("/api/count")
    assert sum(count["count"] for count in counts) == len(recorded.ids)
    tags = await read_pages(served, "/api/tags", 10)
    hashes = [tag["tag_hash"] for tag in tags]
    assert hashes == sorted(set(hashes))
    assert all(tag["is_current"] for tag in tags)


async def test_executions_tell_status_task_and_tags(served: Served) -> None:
    """An execution is shown with what a list of them needs; newest first."""
    page = await served.get("/api/executions")
    starts = [item["start_time"] for item in page["items"]]
    assert starts == sorted(starts, reverse=True)
    assert {item["status"] for item in page["items"]} == {"DONE", "FAILED", "RUNNING"}
    failed = await served.get("/api/executions", params={"status": "FAILED"})
    assert {item["task"] for item in failed["items"]} == {"main_fail"}
    tagged = await served.get("/api/executions", params={"tag": "project=other"})
    [only] = tagged["items"]
    assert {"project", "colour"} <= {tag["key"] for tag in only["tags"]}


async def test_details_lead_from_record_to_record(served: Served) -> None:
    """From an execution to its tree, a job, its call, an argument's value and the task."""
    page = await served.get("/api/executions", params={"tag": "project=atlas"})
    execution = await served.get(f"/api/executions/{page['items'][-1]['id'][:13]}")
    assert {count["task"] for count in execution["counts"]} >= {"main", "files.write", "first.double"}
    tree = await served.get(f"/api/executions/{execution['id']}/tree")
    assert tree["lines"][0]["job"]["task"] == "main"
    depths = [line["depth"] for line in tree["lines"]]
    assert depths[0] == 0
    assert max(depths) == 1
    written = next(line["job"] for line in tree["lines"] if line["job"]["task"] == "files.write")
    job = await served.get(f"/api/jobs/{written['id']}")
    assert "def write" in job["source"]
    assert [ancestor["task"] for ancestor in job["ancestors"]] == ["main"]
    assert [argument["name"] for argument in job["call"]["arguments"]] == ["path", "text"]
    assert job["call"]["result"]["preview"].startswith("File(path=")
    value = await served.get(f"/api/values/{job['call']['result']['value_hash']}")
    assert value["used_as"] == "result"
    assert value["path"].endswith(".txt")
    found = await served.get(f"/api/find/{value['path']}")
    assert found["record"]["value_hash"] == value["value_hash"]
    task = await served.get(f"/api/tasks/{job['task_hash']}")
    assert task["fullname"] == "files.write"
    jobs = await served.get(f"/api/executions/{execution['id']}/jobs", params={"limit": 3})
    assert len(jobs["items"]) == 3
    children = await served.get(f"/api/jobs/{execution['job_id']}/children")
    assert written["id"] in {child["id"] for child in children["items"]}


async def test_matches_and_filters(served: Served, recorded: Recorded) -> None:
    """The search box and the query take prefixes, names, types and tags."""
    matches = await served.get(f"/api/matches/{recorded.jobs[0][:10]}")
    assert recorded.jobs[0] in {match["id"] for match in matches}
    tasks = await served.get("/api/matches/files.wr")
    assert [task["fullname"] for task in tasks] == ["files.write"]
    [some, *_] = (await served.get("/api/values", params={"path": "*part_1*"}))["items"]
    files = await served.get(f"/api/matches/{some['path'][:-5]}")
    assert some["value_hash"] in {file["value_hash"] for file in files}
    packs = await served.get("/api/query", params={"type": "Task", "task": "pack"})
    assert [task["fullname"] for task in packs["items"]] == ["pack"]
    files = await served.get("/api/values", params={"value_type": "redun.File", "path": "*part_1*"})
    assert {item["path"].rpartition("/")[2] for item in files["items"]} == {"part_1.txt"}
    listed = await served.get("/api/values", params={"value_type": "builtins.list", "limit": 50})
    hashes = [item["value_hash"] for item in listed["items"] if "File(" in item["preview"]]
    parts = await served.get(f"/api/values/{hashes[0]}/children")
    assert {part["value_type"] for part in parts["items"]} == {"redun.File"}


BAD_REQUESTS = [
    ("/api/executions/zzz", 404),
    ("/api/jobs/%00", 400),
    ("/api/jobs?limit=0", 422),
    ("/api/jobs?limit=501", 422),
    ("/api/jobs?cursor=abc", 400),
    ("/api/jobs?status=LOST", 422),
    ("/api/tags?cursor=abc", 400),
    ("/api/executions?tag==", 400),
    ("/api/find/nothing/there", 404),
    ("/api/search?text=%00", 400),
    ("/api/search", 422),
    ("/api/nothing", 404),
    ("/static/../app.py", 404),
    ("/static/%2e%2e/app.py", 404),
]


async def test_bad_requests_get_one_line(served: Served) -> None:
    """Errors are JSON with a code and a message, and say nothing of the machine."""
    for path, status in BAD_REQUESTS:
        answer = await served.http.get(path)
        assert answer.status_code == status, (path, answer.text)
        problem = answer.json()
        assert set(problem) == {"error", "message"}
        assert "\n" not in problem["message"]


async def test_nothing_can_be_written(served: Served) -> None:
    """There are no routes that change anything."""
    schema = await served.get("/openapi.json")
    others = {
        (method, path)
        for path, route in schema["paths"].items()
        for method in route
        if method not in ("get", "parameters")
    }
    # It is given a graph, too long for an address, and says where its nodes stand.
    assert others == {("post", "/api/layout")}
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        assert (await served.http.request(method, "/api/executions")).status_code == 405


async def test_what_may_be_got_may_be_asked_about(served: Served) -> None:
    """HEAD answers as GET does, without a body, and counts as itself."""
    for path in (
        "/",
        "/static/main.js",
        "/healthz",
        "/readyz",
        "/metrics",
        "/api/executions",
        "/api/nothing",
    ):
        got, asked = await served.http.get(path), await served.http.head(path)
        assert (asked.status_code, asked.content) == (got.status_code, b"")
        assert asked.headers["content-type"] == got.headers["content-type"]
        assert asked.headers["content-security-policy"]
    assert 'method="HEAD"' in (await served.http.get("/metrics")).text


async def test_a_path_that_this_machine_does_not_have(
    served: Served, monkeypatch: pytest.MonkeyPatch, dialect: str, repositories: Any
) -> None:
    """A file is found by its recorded path, wherever the repository was written."""
    async with RedunBackendDb(repositories(dialect)[0]) as backend:
        query = CallGraphQuery(backend).filter_types(["Value"]).filter_file_paths(["*/part_1.txt"])
        [value] = [value async for value in query.all()]
        async with backend.session() as session:
            path = await session.scalar(sa.select(File.path).where(File.value_hash == value.value_hash))
    monkeypatch.setattr("aredun.search.identify.os.path.exists", lambda path: False)
    first, *_, last = await served.receive_all(f"/ws/dataflow/{path}")
    assert first["src"]["value_hash"] == value.value_hash
    assert last["type"] == "end"


async def test_operations(served: Served) -> None:
    """Health, readiness and counters."""
    assert await served.get("/healthz") == {"status": "ok"}
    assert await served.get("/readyz") == {"status": "ready"}
    await served.get("/api/executions")
    text = (await served.http.get("/metrics")).text
    assert 'aredun_http_requests_total{method="GET",route="/api/executions",status="200"} 1.0' in text
    assert "aredun_database_connections 0.0" in text
