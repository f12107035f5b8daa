"""Ids, names and paths as people see, paste and mistype them, on the commands and on the server's API."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa

from aredun import File, Scheduler, task
from aredun.backend import RedunBackendDb
from aredun.cli import main
from aredun.models import Argument
from tests.support.server import serve

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.call_graphs import Recorded, RecordedRepository
    from tests.support.server import Served

    Command = Callable[..., str]


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def repository(
    request: pytest.FixtureRequest, repositories: Callable[[str], RecordedRepository]
) -> RecordedRepository:
    """A repository that redun made, with several tasks in namespaces and files."""
    return repositories(request.param)


@pytest.fixture
def recorded(repository: RecordedRepository) -> Recorded:
    """The ids in the repository."""
    return repository[1]


@pytest.fixture
def aredun(repository: RecordedRepository, capsys: pytest.CaptureFixture[str]) -> Command:
    """Run a command on the repository and return what it wrote: its output, or the line of its error."""
    return make_command(repository[0], capsys)


def make_command(url: str, capsys: pytest.CaptureFixture[str]) -> Command:
    def run(*arguments: str, code: int = 0) -> str:
        assert main([*arguments, "--db", url]) == code
        captured = capsys.readouterr()
        assert (captured.err == "") == (code == 0)
        assert captured.err.count("\n") <= 1
        return captured.err if code else captured.out

    return run


def read_jobs(text: str) -> list[dict[str, Any]]:
    return [record for line in text.splitlines() if (record := json.loads(line))["type"] == "Job"]


def test_full_names_of_tasks_are_ids(aredun: Command, repository: RecordedRepository) -> None:
    shown = aredun("log", "files.write")
    assert shown.startswith("Task ")
    assert "files.write" in shown.splitlines()[0]
    assert aredun("log", " files.write ").split()[1] == shown.split()[1]
    [line] = aredun("query", "files.write", "--select", "type").splitlines()
    assert line == "Task"
    assert aredun("dataflow", "files.write") == aredun("dataflow", shown.split()[1])
    assert aredun("log", "files.write", "--count", "--task").split() == ["1", "Task"]
    assert "has several" not in aredun("log", "double")
    ambiguous = aredun("dataflow", "double", code=2)
    assert "id 'double' is ambiguous, it fits Task " in ambiguous
    assert "give the hash of one version" in ambiguous
    assert "first.double" in aredun("log", "first.double").splitlines()[0]
    assert "no record" in aredun("log", "second.write", code=2)


@task(name="count", namespace="words", source="count")
def count_words(source: File, target: str) -> File:
    """Write the number of words of a file into another."""
    file = File(target)
    file.write(str(len(source.read().split())))
    return file


async def record_words(url: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a task on a file with a relative path; it makes one with an absolute path."""
    monkeypatch.chdir(folder)
    (folder / "in.txt").write_text("a b")
    async with RedunBackendDb(url) as backend, Scheduler(backend) as scheduler:
        await scheduler.run(count_words(File("in.txt"), str(folder / "out.txt")))


@pytest.fixture
def run(
    database_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Command:
    """Run a command, as `aredun` does, on the repository of `record_words`."""
    asyncio.run(record_words(database_url, tmp_path, monkeypatch))
    return make_command(database_url, capsys)


def test_tags_of_a_task_by_its_full_name(run: Command) -> None:
    assert run("tag", "add", "words.count", "stage=1").startswith("add tag Task:")
    assert "words.count" in run("tag", "list", "stage=1", "--no-pager")
    assert "did you mean words.count?" in run("tag", "add", "wrods.count", "stage=1", code=2)


def test_paths_however_they_are_written(run: Command, tmp_path: Path) -> None:
    for name in ("in.txt", "out.txt"):
        spellings = [name, f"./{name}", str(tmp_path / name), f"file://{tmp_path / name}", f" {name} "]
        [shown] = {run("log", spelling, "--no-pager").splitlines()[0] for spelling in spellings}
        assert name in shown
        [dataflow] = {run("dataflow", spelling) for spelling in spellings}
        assert "count(" in dataflow or name == "in.txt"
        for spelling in (*spellings[:4], f"./{name[:3]}*", f"{tmp_path}/{name[:3]}*"):
            assert name in run("log", "--file", "--file-path", spelling, "--no-pager")
        # What is gone from the disk is recorded all the same.
        (tmp_path / name).unlink()
        assert {run("log", spelling, "--no-pager").splitlines()[0] for spelling in spellings} == {shown}
        assert {run("dataflow", spelling) for spelling in spellings} == {dataflow}
        assert run("log", f"./{name}", "--count", "--value").split() == ["1", "Value"]


async def test_ids_names_and_paths_on_the_server(
    backend: RedunBackendDb, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await record_words(database_url, tmp_path, monkeypatch)
    async with serve(backend) as served:
        await check_server(served, tmp_path)


async def check_server(served: Served, tmp_path: Path) -> None:
    for spelling in ("in.txt", "./in.txt", str(tmp_path / "in.txt")):
        assert (await served.get(f"/api/find/{spelling}"))["record"]["path"] == "in.txt"
        [value] = (await served.get("/api/values", params={"path": spelling}))["items"]
        assert value["path"] == "in.txt"
    found = await served.get("/api/find/words.count")
    assert found["record"]["fullname"] == "words.count"
    assert (await served.get("/api/tasks/words.count"))["fullname"] == "words.count"
    [match] = await served.get("/api/matches/words.")
    assert match["fullname"] == "words.count"
    for path in ("find/wrods.count", "tasks/wrods.count"):
        problem = (await served.http.get(f"/api/{path}")).json()
        assert problem["error"] == "not_found"
        assert "did you mean words.count?" in problem["message"]
    [job] = (await served.get("/api/jobs"))["items"]
    call = await served.get(f"/api/call-nodes/{job['call_hash'][:8].upper()}")
    for name, key in (
        ("execution", job["execution_id"]),
        ("task_hash", job["task_hash"]),
        ("argument", call["arguments"][0]["value"]["value_hash"]),
        ("result", call["value_hash"]),
    ):
        for text in (key, key[:8], key[:8].upper(), key.upper(), f" {key[:8]} "):
            params = {"type": "Job", name: text}
            assert [item["id"] for item in (await served.get("/api/query", params=params))["items"]] == [
                job["id"]
            ]
        missing = await served.http.get("/api/count", params={name: mistype(key[:8], 3)})
        assert missing.status_code == 404
        assert f" {key}?" in missing.json()["message"]
        # A program that asks for a whole id gets an empty answer.
        params = {"type": "Job", name: mistype(key, 3)}
        assert (await served.get("/api/query", params=params))["items"] == []


@pytest.mark.parametrize("option", ["--arg", "--result", "--task-hash"])
def test_hashes_of_filters_may_be_cut_as_they_are_shown(
    aredun: Command, repository: RecordedRepository, option: str
) -> None:
    jobs = read_jobs(aredun("query", "--job", "--json", "--job-status", "DONE"))
    keys = {"--task-hash": "task_hash"}
    job = next(job for job in jobs if job["task"] == "files.write")
    if option in keys:
        whole = job["task_hash"]
    else:
        [call] = [json.loads(line) for line in aredun("query", job["call_hash"], "--json").splitlines()]
        whole = call["value_hash"] if option == "--result" else find_argument(repository[0], job["call_hash"])
    expected = aredun("query", "--job", option, whole, "--select", "id")
    assert job["id"] in expected.split()
    for text in (whole[:8], whole[:8].upper(), whole.upper(), f" {whole[:8]} "):
        assert aredun("query", "--job", option, text, "--select", "id") == expected
        assert aredun("log", "--job", option, text, "--count") == aredun(
            "log", "--job", option, whole, "--count"
        )
    wrong = mistype(whole[:8], 2)
    kind = "Task" if option == "--task-hash" else "Value"
    line = aredun("log", option, wrong, code=2)
    assert f"no {kind} has an id that begins with {wrong!r}: did you mean {kind} {whole}" in line


def find_argument(url: str, call_hash: str) -> str:
    """Return the hash of an argument of a call."""

    async def find() -> str:
        async with RedunBackendDb(url) as backend:
            statement = sa.select(Argument.value_hash).where(Argument.call_hash == call_hash)
            async with backend.session() as session:
                return str((await session.scalars(statement)).first())

    return asyncio.run(find())


def mistype(text: str, index: int) -> str:
    """Return a hash with one letter replaced."""
    return text[:index] + ("0" if text[index] != "0" else "1") + text[index + 1 :]


def test_ids_are_found_in_upper_case_and_with_blanks(aredun: Command, recorded: Recorded) -> None:
    for key in (recorded.executions[0], recorded.jobs[0], recorded.tasks[0], recorded.values[0]):
        expected = aredun("query", key, "--select", "id,type")
        assert expected
        assert key.startswith(aredun("log", f" {key.upper()}\n", "--no-pager").split()[1])
        for text in (key.upper(), key[:12].upper(), f"{key[:12]} "):
            assert aredun("query", text, "--select", "id,type") == expected
    job = recorded.jobs[0].upper()
    assert aredun("log", "--exec-id", f" {recorded.executions[0][:8].upper()} ", "--job", "--count")
    assert aredun("log", " ~2 ", "--count") == aredun("log", "~2", "--count")
    assert aredun("export", job) == aredun("export", recorded.jobs[0])
    for blank in ("", "  "):
        for command in ("log", "query", "dataflow"):
            assert "the id is empty" in aredun(command, blank, code=2)


@pytest.mark.parametrize("length", [8, 20, None])
def test_an_id_with_a_letter_off_is_named(aredun: Command, recorded: Recorded, length: int | None) -> None:
    key = recorded.jobs[0]
    text = key[:length]
    for wrong in (
        mistype(text, 1),
        mistype(text, len(text) - 2),
        text[1:],
        text[:4] + text[5:],
        text[:5] + "0" + text[5:],
        text[:2] + text[3] + text[2] + text[4:],
    ):
        if key.startswith(wrong):
            continue
        line = aredun("log", wrong.upper(), code=2)
        assert f"no record has an id that begins with {wrong.upper()!r}: did you mean Job {key}" in line
    assert f"did you mean Job {key}" in aredun("dataflow", mistype(text, 1), code=2)


def test_names_with_a_letter_off_are_named(aredun: Command) -> None:
    for arguments, name in (
        (("log", "files.wirte"), "files.write"),
        (("dataflow", "wrte"), "files.write"),
        (("query", "--task-name", "files.writ"), "files.write"),
        (("log", "--task-name", "packk"), "pack"),
        (("log", "duoble"), "first.double or second.double"),
        (("lgo",), "log"),
        (("db", "inof"), "info"),
        (("tag", "ad", "x", "a=b"), "add"),
        (("query", "--order-by", "tiem"), "time"),
    ):
        assert f"did you mean {name}?" in aredun(*arguments, code=2)
    assert "see 'aredun log --task' for tasks" in aredun("log", "--task-name", "zzz", code=2)
    assert "see 'aredun log' for ids" in aredun("log", "zzz", code=2)
