"""A repository of real redun with records of every shape that a workflow can leave behind."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from redun import Dir, File, Handle, Scheduler, task
from redun.backends.base import TagEntity
from redun.backends.db import RedunBackendDb as OriginalBackend
from redun.scheduler import catch

from tests.support.databases import redun_uri

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

redun_namespace = "shapes"


class Connection(Handle):  # type: ignore[misc]  # redun is not typed
    """A handle."""

    def __init__(self, name: str, path: str) -> None:
        self.instance = path


@task(version="1")
def leaf(number: int, *, label: str = "plain") -> str:
    """Return a text."""
    return f"{label} {number}"


@task(version="1")
def nested(number: int) -> list[Any]:
    """Call leaves, by position, by keyword and with each other's results."""
    first = leaf(number, label="first")
    return [first, leaf(number), leaf(label=first, number=number + 1), leaf(number)]


@task(version="1", prov=False)
def unrecorded(number: int) -> int:
    """Leave no call node."""
    return number + 1


@task(version="1")
def half_recorded(number: int) -> list[Any]:
    """Call a task that is recorded and one that is not."""
    return [leaf(number), unrecorded(number)]


@task(version="1")
def only_unrecorded(number: int) -> Any:
    """Call nothing that is recorded."""
    return unrecorded(number)


@task(version="1")
def above_unrecorded(number: int) -> list[Any]:
    """Call what is not recorded, further down."""
    return [half_recorded(number), only_unrecorded(number)]


@task(version="1")
def fail(number: int) -> int:
    """Fail."""
    raise ValueError(f"no {number}")


@task(version="1")
def recover(error: Exception) -> str:
    """Take the place of what failed."""
    return f"recovered from {error}"


@task(version="1")
def caught(number: int) -> Any:
    """Call what fails, and recover."""
    return catch(fail(number), ValueError, recover)


@task(version="1")
def write_files(folder: str) -> list[Any]:
    """Return files, a directory and nested values."""
    file = File(f"{folder}/out.txt")
    file.write("out")
    return [file, {"again": file}, Dir(folder)]


@task(version="1")
def read_files(files: list[Any], numbers: set[int]) -> tuple[int, set[str]]:
    """Take files and a set; return a set."""
    return len(files), {f"n{number}" for number in numbers}


@task(version="1")
def use_handle(connection: Connection) -> Connection:
    """Advance a handle."""
    return connection


@task(version="1")
def everything(folder: str, number: int) -> dict[str, Any]:
    """Call everything that succeeds."""
    return {
        "nested": nested(number),
        "half": above_unrecorded(number),
        "caught": caught(number),
        "files": read_files(write_files(folder), {3, 1, 2}),
        "handle": use_handle(Connection("connection", folder)),
        "function": leaf,
        "large": leaf(number, label="x" * 3000),
    }


def make_shapes(backend: OriginalBackend, folder: Path) -> None:
    """Run workflows with real redun, and tag what they leave."""
    scheduler = Scheduler(backend=backend)
    folder.mkdir(exist_ok=True)
    scheduler.run(
        everything(str(folder), 3), tags=[("project", "atlas"), ("size", {"b": [1, None], "a": 2.5})]
    )
    scheduler.run(everything(str(folder), 3), tags=[("project", "atlas")])
    scheduler.run(nested(7))
    with contextlib.suppress(ValueError):
        scheduler.run(fail(1))
    tag_entities(backend)


def tag_entities(backend: OriginalBackend) -> None:
    """Tag entities of each kind, with a history of edits."""
    from redun.backends.db import CallNode, Execution, Job, Task

    assert backend.session is not None
    kinds = (
        (TagEntity.Execution, Execution.id),
        (TagEntity.Job, Job.id),
        (TagEntity.CallNode, CallNode.call_hash),
        (TagEntity.Task, Task.hash),
        # A result: a value that only the cache of single steps holds is no record of an execution.
        (TagEntity.Value, CallNode.value_hash),
    )
    for kind, column in kinds:
        (entity_id,) = backend.session.query(column).order_by(column).first()
        backend.record_tags(kind, entity_id, [("colour", "red"), ("size", 1), ("note", None)])
        backend.record_tags(kind, entity_id, [("colour", "blue")], update=True)
        backend.record_tags(kind, entity_id, [("colour", "red")], update=True)
        backend.delete_tags(entity_id, [("size", 1)])


def open_original(url: str, **config: str) -> OriginalBackend:
    """Open real redun's backend on a database."""
    from redun.config import create_config_section

    section = create_config_section(config) if config else None
    backend = OriginalBackend(db_uri=redun_uri(url), config=section)
    backend.load(migrate=True)
    return backend


def get_all(backend: OriginalBackend) -> list[dict[str, Any]]:
    """Return all records that real redun's export would write, child jobs in their order."""
    assert backend.session is not None
    from redun.backends.db import Execution

    roots = [row.id for row in backend.session.query(Execution.id)]
    return list(backend.get_records(backend.iter_record_ids(roots)))


def get_id(record: dict[str, Any]) -> str:
    """Return the id of a record."""
    names = {"Value": "value_hash", "CallNode": "call_hash", "Tag": "tag_hash"}
    record_id: str = record[names.get(record["_type"], "id")]
    return record_id


def by_id(records: Iterable[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return records by id, what redun leaves in no order sorted."""
    result = {}
    for record in records:
        record = dict(record)
        if record["_type"] == "Tag":
            record["parents"] = sorted(record["parents"])
        if record["_type"] == "CallNode":
            # The order of the calls; redun reads it on PostgreSQL, and sorts by hash on sqlite.
            record["children"] = sorted(record["children"])
        result[get_id(record)] = record
    return result


def dispose(backend: OriginalBackend) -> None:
    """Close real redun's backend."""
    assert backend.session is not None
    assert backend.engine is not None
    backend.session.close()
    backend.engine.dispose()
