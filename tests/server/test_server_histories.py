"""Files and tasks over time, over HTTP: versions, who wrote and who read them, jobs, bounds, statements."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from aredun.search import file_versions, task_history
from aredun.server import histories as server_histories
from tests.support.histories import OFTEN
from tests.support.server import serve

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from aredun.backend import RedunBackendDb
    from tests.support.server import Served


@pytest.fixture
def database_url(dialect: str, histories: Callable[[str], tuple[str, Path]]) -> str:
    """The URI of the repository."""
    return histories(dialect)[0]


@pytest.fixture
def folder(dialect: str, histories: Callable[[str], tuple[str, Path]]) -> Path:
    """Where its files are."""
    return histories(dialect)[1]


@pytest.fixture
async def served(backend: RedunBackendDb) -> AsyncIterator[Served]:
    """A server of the repository."""
    async with serve(backend) as served:
        yield served


async def read_pages(served: Served, path: str, **parameters: Any) -> list[dict[str, Any]]:
    """Return the items of all pages of a list."""
    items: list[dict[str, Any]] = []
    cursor: dict[str, str] = {}
    while True:
        page = await served.get(path, params={**parameters, **cursor})
        assert len(page["items"]) <= parameters["limit"]
        items += page["items"]
        if page["cursor"] is None:
            return items
        cursor = {"cursor": page["cursor"]}


async def test_files_tell_who_wrote_them(served: Served, folder: Path) -> None:
    """Each path is there once, with the latest version, the job that returned it first, and when."""
    found = (await served.get("/api/files"))["items"]
    assert [item["path"] for item in found] == sorted(item["path"] for item in found)
    files = {item["path"].removeprefix(f"{folder}/"): item for item in found}
    assert set(files) >= {"given.txt", "inside.txt", "often.txt", "out/report.txt"}
    assert files["often.txt"]["versions"]["count"] == OFTEN
    report, inside, given = files["out/report.txt"], files["inside.txt"], files["given.txt"]
    assert report["versions"] == inside["versions"] == {"count": 2, "is_more": False}
    assert (report["task"], inside["task"]) == ("lab.files.write", "lab.files.bundle")
    for item in (report, inside):
        assert "second, longer" in item["job"]["arguments"]
        assert item["written"] == item["job"]["end_time"]
        assert item["job"]["task"] == item["task"]
    # It was never the result of anything.
    unknown = {"value_hash": None, "written": None, "task": None, "call_hash": None, "job": None}
    assert given == {"path": f"{folder}/given.txt", "versions": {"count": 1, "is_more": False}, **unknown}


async def test_versions_of_a_file(served: Served, folder: Path) -> None:
    """The latest first, each with the job that wrote it and how many jobs read it, within lists too."""

    async def get(name: str) -> Any:
        return await served.get("/api/file-versions", params={"path": f"{folder}/{name}"})

    report = await get("out/report.txt")
    assert report["total"] == {"count": 2, "is_more": False}
    assert [each["readers"]["count"] for each in report["versions"]] == [3, 2]
    assert [each["job"]["task"] for each in report["versions"]] == ["lab.files.write"] * 2
    assert "second" in report["versions"][0]["job"]["arguments"]
    assert "first" in report["versions"][1]["job"]["arguments"]
    for each in report["versions"]:
        value = await served.get(f"/api/values/{each['value_hash']}")
        assert value["path"] == report["path"]
        assert 0 < each["stored_size"] < 1_000
    inside = await get("inside.txt")
    assert [each["readers"]["count"] for each in inside["versions"]] == [1, 1]
    [given] = (await get("given.txt"))["versions"]
    # Of the two executions, the second had it from the cache; then it could not be read.
    assert given["readers"]["count"] == 3
    assert given["job"] is given["written"] is None
    missing = await served.http.get("/api/file-versions", params={"path": "/nowhere"})
    assert missing.status_code == 404
    assert "/nowhere" in missing.json()["message"]


async def test_tasks_by_name(served: Served, folder: Path) -> None:
    """Versions of one name are one line, with jobs, failures and the last run."""
    found = (await served.get("/api/task-names"))["items"]
    names = [item["fullname"] for item in found]
    assert names[0] == "measure"
    assert names[1:] == sorted(names[1:])
    tasks = {item["fullname"].rpartition(".")[2]: item for item in found}
    told = {
        name: (item["versions"], item["jobs"]["count"], item["failed"]["count"])
        for name, item in tasks.items()
    }
    assert told["measure"] == (2, 7, 0)
    assert told["read"] == (1, 8, 1)
    assert told["main_fail"] == (1, 1, 1)
    jobs = (await served.get("/api/jobs", params={"task": "lab.files.read"}))["items"]
    assert tasks["read"]["last_run"] == max(job["start_time"] for job in jobs)


async def test_history_of_a_task(served: Served, folder: Path) -> None:
    """Versions with first and last use, that which ran last first, and the latest jobs with durations."""
    history = await served.get("/api/task-names/measure")
    assert [each["jobs"] for each in history["versions"]] == [4, 3]
    for version in history["versions"]:
        starts = [job["start_time"] for job in history["jobs"] if job["task_hash"] == version["hash"]]
        assert (version["first_run"], version["last_run"]) == (min(starts), max(starts))
        assert "return value" in (await served.get(f"/api/tasks/{version['hash']}"))["source"]
    starts = [job["start_time"] for job in history["jobs"]]
    assert starts == sorted(starts, reverse=True)
    assert history["jobs"][0]["status"] == "CACHED"
    assert all(job["duration"] >= 0 for job in history["jobs"])
    few = await served.get("/api/task-names/measure", params={"jobs": 2})
    assert few["jobs"] == history["jobs"][:2]
    assert (await served.http.get("/api/task-names/lab.measure")).status_code == 404


async def test_pages_and_parts(served: Served, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages have everything once; a part is found whatever its case, and beyond what one page looks at."""
    for path, key in (("/api/files", "path"), ("/api/task-names", "fullname")):
        whole = await served.get(path)
        assert whole["cursor"] is None
        assert await read_pages(served, path, limit=3) == whole["items"]
        page = await served.get(path, params={"limit": 1})
        other = "/api/files" if key == "fullname" else "/api/task-names"
        refused = await served.http.get(other, params={"cursor": page["cursor"]})
        assert (refused.status_code, refused.json()["error"]) == (400, "bad_request")
    mains = await read_pages(served, "/api/task-names", text="ES.MAIN", limit=1)
    assert [item["fullname"] for item in mains] == ["lab.files.main", "lab.files.main_fail"]
    assert await read_pages(served, "/api/task-names", text="%", limit=1) == []
    # One file at a time: a page may be empty, and yet another comes.
    monkeypatch.setattr(file_versions, "MAX_LOOKED", 1)
    [found] = await read_pages(served, "/api/files", text="T/REPORT", limit=5)
    assert found["path"] == f"{folder}/out/report.txt"


async def test_bounds_are_told(served: Served, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where not everything is counted, numbers say so, and what is not known is null."""
    monkeypatch.setattr(file_versions, "MAX_VERSIONS", 1)
    monkeypatch.setattr(file_versions, "MAX_USES", 1)
    monkeypatch.setattr(server_histories, "MAX_VERSIONS", 1)
    for name, bound in {
        "MAX_JOBS": 6,
        "MAX_FAILED": 1,
        "MAX_NEWEST": 1,
        "MAX_OWN": 6,
        "MAX_GATHERED": 2,
    }.items():
        monkeypatch.setattr(task_history, name, bound)
    found = await served.get("/api/files", params={"text": "report"})
    assert found["items"][0]["versions"] == {"count": 1, "is_more": True}
    history = await served.get("/api/file-versions", params={"path": found["items"][0]["path"]})
    assert history["total"] == {"count": 1, "is_more": True}
    [version] = history["versions"]
    assert version["readers"] == {"count": 1, "is_more": True}
    tasks = {item["fullname"]: item for item in (await served.get("/api/task-names"))["items"]}
    assert tasks["measure"]["jobs"] == {"count": 6, "is_more": True}
    assert tasks["measure"]["last_run"] is None
    # The newest job of all, and one that has few.
    assert tasks["lab.files.read"]["last_run"] is not None
    assert tasks["lab.files.main"]["last_run"] is not None
    assert all(item["failed"]["is_more"] for item in tasks.values())
    assert (await served.get("/api/task-names/measure"))["is_cut"]


async def test_statements_do_not_grow_with_the_page(
    served: Served, backend: RedunBackendDb, folder: Path
) -> None:
    """Many files, tasks and versions take as many statements as few."""

    async def spend(route: str, size: int, **parameters: Any) -> int:
        before = backend.database.counts.statements
        found = await served.get(route, params=parameters)
        assert len(found["items"] if "items" in found else found["versions"]) == size
        return backend.database.counts.statements - before

    spent = [
        (await spend("/api/files", 1, limit=1, text="often"), await spend("/api/files", 5, text="/")),
        (
            await spend("/api/file-versions", 2, path=f"{folder}/inside.txt"),
            await spend("/api/file-versions", OFTEN, path=f"{folder}/often.txt"),
        ),
        (await spend("/api/task-names", 1, limit=1), await spend("/api/task-names", 9)),
        (await spend("/api/task-names/lab.files.main_fail", 1), await spend("/api/task-names/measure", 2)),
    ]
    assert [few for few, _ in spent] == [many for _, many in spent]
    assert max(many for _, many in spent) <= 8
