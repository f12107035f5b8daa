"""`aredun tag`: tags as redun reads and writes them."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import pytest
from redun.backends.db import Execution, Tag
from redun.backends.db import RedunBackendDb as OriginalBackend
from sqlalchemy import make_url

from aredun.cli import main
from tests.support.databases import redun_uri

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.call_graphs import RecordedRepository
    from tests.support.databases import PostgresCluster

    TagCommand = Callable[..., list[str]]


@pytest.fixture
def repository(
    dialect: str,
    repositories: Callable[[str], RecordedRepository],
    request: pytest.FixtureRequest,
    tmp_path: Path,
) -> Iterator[RecordedRepository]:
    """A copy of a repository that redun made, and what is in it."""
    url, recorded, folder = repositories(dialect)
    if dialect == "sqlite":
        shutil.copyfile(folder / "redun.db", tmp_path / "redun.db")
        yield f"sqlite:///{tmp_path}/redun.db", recorded, folder
        return
    cluster: PostgresCluster = request.getfixturevalue("postgres")
    name = cluster.create_database(make_url(url).database)
    yield cluster.url(name), recorded, folder
    cluster.drop_database(name)


@pytest.fixture
def tag(repository: RecordedRepository, capsys: pytest.CaptureFixture[str]) -> TagCommand:
    """Run `aredun tag` on the repository and return the lines that it wrote."""

    def run(command: str, *arguments: str, code: int = 0) -> list[str]:
        assert main(["tag", command, "--db", repository[0], *arguments]) == code
        captured = capsys.readouterr()
        assert (captured.err == "") == (code == 0)
        return (captured.err if code else captured.out).splitlines()

    return run


@pytest.fixture
def original(repository: RecordedRepository) -> Iterator[Any]:
    """A session of redun's own on the repository."""
    backend = OriginalBackend(db_uri=redun_uri(repository[0]))
    backend.load()
    yield backend.session
    assert backend.session is not None
    assert backend.engine is not None
    backend.session.close()
    backend.engine.dispose()


def get_tags(session: Any, entity_id: str) -> list[tuple[str, Any]]:
    """Return the current tags of a record as redun sees them."""
    session.rollback()
    rows = session.query(Tag).filter(Tag.entity_id == entity_id, Tag.is_current.is_(True)).all()
    return sorted(((row.key, row.value) for row in rows), key=str)


def test_tags_are_added_updated_and_deleted(
    tag: TagCommand, original: Any, repository: RecordedRepository
) -> None:
    job_id, task_hash = repository[1].jobs[4], repository[1].tasks[1]
    before = get_tags(original, job_id)
    [line, other] = tag("add", job_id[:12], task_hash, "note=first", 'parts=["a", 2]', "empty=")
    assert line == f'add tag Job:{job_id} note="first" parts=["a", 2] empty=null'
    assert other.startswith(f"add tag Task:{task_hash} ")
    added = [pair for pair in get_tags(original, job_id) if pair not in before]
    assert added == [("empty", None), ("note", "first"), ("parts", ["a", 2])]

    def get_notes() -> list[Any]:
        return sorted((value for key, value in get_tags(original, job_id) if key == "note"), key=str)

    tag("add", job_id, "note=second")
    assert get_notes() == ["first", "second"]
    assert tag("update", job_id, "note=3.5") == [f"update tag Job:{job_id} note=3.5"]
    assert get_notes() == [3.5]
    tag("add", job_id, "note=x", "note=y")
    assert tag("rm", job_id, "note=x") == [f'delete tag Job:{job_id} note="x"']
    assert get_notes() == [3.5, "y"]
    tag("rm", job_id, 'parts=["a", 2]', "--", "note", "empty")
    assert get_tags(original, job_id) == before


def test_a_path_and_a_shorthand_name_records(
    tag: TagCommand, original: Any, repository: RecordedRepository
) -> None:
    [line] = tag("add", "-", "owner=me")
    execution_id = line.split()[2].removeprefix("Execution:")
    assert original.get(Execution, execution_id) is not None
    assert ("owner", "me") in get_tags(original, execution_id)
    [line] = tag("add", str(repository[2] / "part_1.txt"), "owner=me")
    value_hash = line.split()[2].removeprefix("Value:")
    assert value_hash in repository[1].values


def test_tags_are_listed(tag: TagCommand, original: Any) -> None:
    rows = original.query(Tag).filter(Tag.is_current.is_(True), Tag.key != "").all()
    lines = tag("list")
    assert lines[0] == "Tags:"
    assert [line.split()[0] for line in lines[1:]] == sorted({row.key for row in rows})
    counts = {row["key"]: row["counts"] for row in map(json.loads, tag("list", "--json"))}
    for key, by_type in counts.items():
        for name, number in by_type.items():
            assert number == sum(row.key == key and row.entity_type.name == name for row in rows)
    values = [json.loads(line) for line in tag("list", "--values", "--json")]
    assert sum(sum(row["counts"].values()) for row in values) == len(rows)
    chosen = tag("list", "--values", "size=3", "project")
    assert {line.split()[0] for line in chosen[1:]} == {"size=3", "project=atlas", "project=other"}
    found = tag("list", "project=atlas")
    assert len(found) == 2
    assert all(line.startswith("Exec ") and "project=atlas" in line for line in found)
    assert len(tag("list", "project=atlas", "--json")) == 2


def test_bad_input_is_one_line_and_changes_nothing(
    tag: TagCommand, original: Any, repository: RecordedRepository
) -> None:
    job_id = repository[1].jobs[0]
    before = get_tags(original, job_id)
    for command, arguments, message in (
        ("add", [job_id], "no tag given"),
        ("add", ["a=b"], "no record given"),
        ("add", [job_id, "no-such-id", "a=b"], "no record has an id that begins with 'no-such-id'"),
        ("add", [job_id, "=b"], "has no key"),
        ("add", [job_id, "a=[1"], "JSON"),
        ("add", [job_id, "a=b", "c"], "no value"),
        ("rm", [job_id], "no tag given"),
        ("update", ["~77", "a=b"], "not that many executions"),
        ("list", ["=x"], "has no key"),
    ):
        [line] = tag(command, *arguments, code=2)
        assert message in line, line
    assert get_tags(original, job_id) == before
