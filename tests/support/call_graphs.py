"""Repositories that real redun makes: every kind of record, status and tag, on either database."""

from __future__ import annotations

import contextlib
import uuid
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import redun
from redun import File, Scheduler, task
from redun.backends.base import TagEntity
from redun.backends.db import CallNode, Execution, Job, Task, Value
from redun.backends.db import RedunBackendDb as OriginalBackend

from tests.support.databases import redun_uri


@task(name="double", namespace="first", version="1")
def double(number: int) -> int:
    """Return twice the number."""
    return 2 * number


@task(name="double", namespace="second", version="1")
def double_again(number: int) -> int:
    """Return twice the number: another task of the same name."""
    return 2 * number


@task(name="pack", version="1", tags=[("kind", "packer"), ("stage", 2)])
def pack(*numbers: int) -> list[int]:
    """Return the numbers in a list."""
    return list(numbers)


@task(name="write", namespace="files", version="1")
def write(path: str, text: str) -> File:
    """Write a file."""
    file = File(path)
    file.write(text)
    return file


@task(name="gather", namespace="files", version="1")
def gather(files: list[File], extra: dict[str, Any]) -> list[File]:
    """Hand the files on, inside a list."""
    return [*files]


@task(name="fail", version="1")
def fail(number: int) -> int:
    """Fail."""
    raise ValueError(f"no {number} today")


@task(name="main", version="1")
def main(folder: str, number: int) -> dict[str, Any]:
    """Call all of the tasks that succeed."""
    files = [write(f"{folder}/part_{index}.txt", f"text {index}") for index in range(3)]
    return {
        "files": gather(files, {"number": number, "source": File(f"{folder}/input%.txt")}),
        "numbers": pack(double(number), double(1), double_again(number)),
    }


@task(name="main_fail", version="1")
def main_fail(number: int) -> list[int]:
    """Call a task that fails beside one that does not."""
    return [double(number), fail(number)]


class Recorded:
    """The ids that a repository holds, by kind, to choose filters from."""

    def __init__(self, backend: OriginalBackend) -> None:
        session = backend.session
        assert session is not None
        self.executions = sorted(row.id for row in session.query(Execution.id))
        self.jobs = sorted(row.id for row in session.query(Job.id))
        self.call_nodes = sorted(row.call_hash for row in session.query(CallNode.call_hash))
        self.tasks = sorted(row.hash for row in session.query(Task.hash))
        self.values = sorted(row.value_hash for row in session.query(Value.value_hash))
        self.value_types = sorted({row.type for row in session.query(Value.type)})
        self.ids = [*self.executions, *self.jobs, *self.call_nodes, *self.tasks, *self.values]
        session.close()


# The URL of a repository, what is in it, and the folder of its files.
RecordedRepository = tuple[str, Recorded, Path]


TAGS: list[tuple[str, Any]] = [
    ("colour", "red"),
    ("colour", "blue"),
    ("size", 3),
    ("size", 3.5),
    ("done", True),
    ("parts", ["a", 1]),
    ("info", {"b": 1, "a": None}),
    ("project", "atlas"),
    ("kind", "packer"),
    ("absent", "x"),
]
TASK_NAMES = [
    "double",
    "first.double",
    "second.double",
    "pack",
    "files.write",
    "gather",
    "fail",
    "main",
    "no",
]


def make_repository(url: str, folder: Path) -> Recorded:
    """Run workflows with real redun into the empty database at `url`, and return what is there."""
    backend = OriginalBackend(db_uri=redun_uri(url))
    backend.load(migrate=True)
    scheduler = Scheduler(backend=backend)
    (folder / "input%.txt").write_text("input")
    scheduler.run(main(str(folder), 3), tags=[("project", "atlas"), ("size", 3)])
    scheduler.run(main(str(folder), 3), tags=[("project", "atlas")])
    scheduler.run(main(str(folder), 4), tags=[("project", "other"), ("colour", "blue")])
    scheduler.run(double(3))
    for number in (3, 5):
        with contextlib.suppress(ValueError):
            scheduler.run(main_fail(number), tags=[("done", True)])
    _start_and_abandon(backend)
    _tag_records(backend)
    recorded = Recorded(backend)
    assert backend.engine is not None
    backend.engine.dispose()
    return recorded


def _start_and_abandon(backend: OriginalBackend) -> None:
    """Record a run that has a job under way: what a killed process leaves behind."""
    execution = SimpleNamespace(id=str(uuid.uuid4()))
    backend.record_execution(execution.id, ["redun", "run", "main"])
    root: Any = SimpleNamespace(id=str(uuid.uuid4()), task=main, parent_job=None, execution=execution)
    child: Any = SimpleNamespace(id=str(uuid.uuid4()), task=double, parent_job=root, execution=execution)
    backend.record_job_start(root)
    backend.record_job_start(child)
    backend.record_updated_time(execution.id)


def _tag_records(backend: OriginalBackend) -> None:
    recorded = Recorded(backend)
    kinds = (
        (TagEntity.Execution, recorded.executions),
        (TagEntity.Job, recorded.jobs),
        (TagEntity.CallNode, recorded.call_nodes),
        (TagEntity.Task, recorded.tasks),
        (TagEntity.Value, recorded.values),
    )
    for kind, ids in kinds:
        for index, entity_id in enumerate(ids):
            backend.record_tags(kind, entity_id, [TAGS[index % 7]], new=True)
            if index % 3 == 0:
                backend.record_tags(kind, entity_id, [TAGS[(index + 1) % 7]], new=True)
            if index % 5 == 0:
                backend.delete_tags(entity_id, [TAGS[index % 7]])


__all__ = ["TAGS", "TASK_NAMES", "Recorded", "make_repository", "redun"]
