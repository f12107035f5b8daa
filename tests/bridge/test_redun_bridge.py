"""redun on aredun: the bridge beside redun's own backend, on both databases."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest
import redun.backends.db as redun_db
import sqlalchemy as sa
from redun import File, Handle, Scheduler, task
from redun.backends.base import TagEntity
from redun.backends.db import RedunBackendDb as OriginalBackend
from redun.backends.db.dataflow import walk_dataflow
from redun.config import Config
from redun.scheduler import DryRunResult
from redun.task import CacheCheckValid, CacheResult, CacheScope

from aredun.redun_bridge import RedunBackendDb, setup_scheduler
from aredun.redun_bridge import Scheduler as BridgeScheduler
from tests.support import commands
from tests.support.databases import redun_uri

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

redun_namespace = "tests.bridge"

TABLES = (
    redun_db.Value,
    redun_db.File,
    redun_db.Task,
    redun_db.Subvalue,
    redun_db.Evaluation,
    redun_db.CallNode,
    redun_db.Argument,
    redun_db.ArgumentResult,
    redun_db.CallEdge,
    redun_db.CallSubtreeTask,
    redun_db.Tag,
)
# What differs between two runs of the same workflow.
OF_A_RUN = {"timestamp", "tag_hash", "entity_id"}


class Connection(Handle):  # type: ignore[misc]  # redun is not typed
    def __init__(self, name: str) -> None:
        self.instance = None


@task()
def double(number: int) -> Any:
    return 2 * number


@task(tags=[("kind", "sum")])
def add_up(numbers: list[int], note: str = "none") -> dict[str, Any]:
    return {"total": sum(numbers), "note": note}


@task()
def read(files: list[File], content: dict[str, Any]) -> Any:
    return [file.read() for file in files] + [content]


@task()
def fail(number: int) -> int:
    raise ValueError(f"no {number}")


@task()
def workflow(path: str, count: int = 5) -> Any:
    return read([File(path)], add_up([double(number) for number in range(count)], note="some"))


@task()
def failing_workflow() -> Any:
    return [double(1), fail(double(2))]


@task(check_valid="shallow")
def shallow(number: int) -> Any:
    return double(number)


def make_scheduler(backend: Any) -> Scheduler:
    """Return redun's scheduler on a loaded backend."""
    return Scheduler(backend=backend, config=Config({"scheduler": {"ignore_warnings": "namespace"}}))


@pytest.fixture
def open_bridge(database_url: str) -> Iterator[Callable[..., RedunBackendDb]]:
    """Opens bridges, on the test's database by default; they are closed at the end."""
    opened: list[RedunBackendDb] = []

    def open_one(db_uri: str = database_url, **config: str) -> RedunBackendDb:
        backend = RedunBackendDb(db_uri, config=config or None)
        backend.load(migrate=True)
        opened.append(backend)
        return backend

    yield open_one
    for backend in opened:
        backend.close()


@pytest.fixture
def bridge(open_bridge: Callable[..., RedunBackendDb]) -> RedunBackendDb:
    """A loaded bridge."""
    return open_bridge()


def read_rows(backend: Any, model: Any) -> list[tuple[Any, ...]]:
    """Return the rows of a table, without what differs between two runs, in an order of their own."""
    columns = [column for column in model.__table__.c if column.name not in OF_A_RUN]
    return sorted((tuple(row) for row in backend.session.execute(sa.select(*columns))), key=repr)


def read_beside(database_url: str, statement: Any) -> list[Any]:
    """Read on a connection that knows nothing of the bridge."""
    engine = sa.create_engine(redun_uri(database_url))
    with engine.connect() as connection:
        rows = list(connection.execute(statement))
    engine.dispose()
    return rows


def test_workflow_leaves_the_rows_that_redun_leaves(
    bridge: RedunBackendDb,
    make_empty_database: Callable[[], str],
    tmp_path: Path,
) -> None:
    source = tmp_path / "source"
    source.write_text("text")
    original = OriginalBackend(redun_uri(make_empty_database()))
    original.load(migrate=True)
    for backend in (bridge, original):
        result = make_scheduler(backend).run(workflow(str(source)))
        assert result == ["text", {"total": 20, "note": "some"}]
    for model in TABLES:
        assert read_rows(bridge, model) == read_rows(original, model), model.__name__
    jobs = [
        sorted(backend.session.execute(sa.select(redun_db.Job.task_hash, redun_db.Job.call_hash)))
        for backend in (bridge, original)
    ]
    assert jobs[0] == jobs[1]
    original.session.close()
    original.engine.dispose()


def test_what_the_bridge_recorded_is_cached_for_redun_and_the_other_way_round(
    bridge: RedunBackendDb, redun_backend: Any
) -> None:
    assert make_scheduler(bridge).run(double(3)) == 6
    assert make_scheduler(redun_backend).run(double(4)) == 8
    for backend in (bridge, redun_backend):
        for number in (3, 4):
            scheduler = make_scheduler(backend)
            scheduler.run(double(number))
            backend.session.commit()
    cached = sorted(read_beside(bridge.db_uri, sa.select(redun_db.Job.cached)))
    assert [row[0] for row in cached] == [False, False, True, True, True, True]


def test_every_kind_of_read_sees_what_is_queued(bridge: RedunBackendDb) -> None:
    value_hash = bridge.record_value([1, 2])
    assert bridge.get_value(value_hash) == ([1, 2], True)
    task_hash = bridge.record_value(double)
    result_hash = bridge.record_value(6)
    call_hash = bridge.record_call_node(
        "double", task_hash, "a" * 40, ((3,), {}), ((3,), {}), result_hash, [], [double]
    )
    assert bridge.get_call_cache(call_hash) == (6, True)
    assert bridge.get_subtree_tasks(call_hash) == {task_hash}
    bridge.set_eval_cache("e" * 40, task_hash, "a" * 40, 7)
    assert bridge.get_eval_cache("e" * 40) == (7, True)
    bridge.record_tags(TagEntity.Value, value_hash, [("color", "red")])
    assert bridge.get_tags([value_hash])[value_hash]["color"] == ["red"]
    bridge.record_tags(TagEntity.Value, value_hash, [("color", "blue")], update=True)
    assert bridge.get_tags([value_hash])[value_hash].as_dict() == {"color": ["blue"]}
    last = bridge.record_value("last")
    assert bridge.has_records([last, "f" * 40]) == [last]
    another = bridge.record_value("another")
    assert [record["value_hash"] for record in bridge.get_records([another])] == [another]
    third = bridge.record_value("third")
    assert bridge.session.get(redun_db.Value, third).value_parsed == "third"
    node = bridge.session.query(redun_db.CallNode).one()
    assert isinstance(node, redun_db.CallNode)
    assert len(list(walk_dataflow(bridge, node))) == 2


def test_redun_session_and_bridge_see_each_other(bridge: RedunBackendDb) -> None:
    bridge.session.add(
        redun_db.Value(
            value_hash="v" * 40, type="builtins.int", format="application/python-pickle", value=b"x"
        )
    )
    # As in redun, the next thing that is recorded commits what is in the session.
    other = bridge.record_value("other")
    assert bridge.has_records(["v" * 40, other]) == ["v" * 40, other]
    row = bridge.session.get(redun_db.Value, "v" * 40)
    row.format = "changed"
    bridge.record_value("more")
    bridge.flush()
    assert read_beside(
        bridge.db_uri, sa.select(redun_db.Value.format).where(redun_db.Value.value_hash == "v" * 40)
    ) == [("changed",)]


def test_recorded_objects_are_read_again_by_the_session(bridge: RedunBackendDb) -> None:
    scheduler = make_scheduler(bridge)
    scheduler.run(double(1))
    execution = bridge.session.query(redun_db.Execution).one()
    assert execution.job.status == "DONE"
    scheduler.run(double(1))
    assert [job.status for job in bridge.session.query(redun_db.Job).order_by(redun_db.Job.start_time)] == [
        "DONE",
        "CACHED",
    ]


def test_error_of_a_run_is_on_disk_when_it_is_raised(bridge: RedunBackendDb) -> None:
    with pytest.raises(ValueError, match="no 4"):
        make_scheduler(bridge).run(failing_workflow())
    rows = read_beside(
        bridge.db_uri,
        sa.select(redun_db.Task.name, redun_db.Value.type)
        .join(redun_db.Job, redun_db.Job.task_hash == redun_db.Task.hash)
        .join(redun_db.CallNode, redun_db.CallNode.call_hash == redun_db.Job.call_hash)
        .join(redun_db.Value, redun_db.Value.value_hash == redun_db.CallNode.value_hash)
        .order_by(redun_db.Task.name, redun_db.Value.type),
    )
    error = "redun.ErrorValue"
    assert rows == [
        ("double", "builtins.int"),
        ("double", "builtins.int"),
        ("fail", error),
        ("failing_workflow", error),
    ]


def test_run_that_is_broken_off_is_on_disk_too(bridge: RedunBackendDb) -> None:
    scheduler = BridgeScheduler(backend=bridge)
    with pytest.raises(DryRunResult):
        scheduler.run(double(1), dryrun=True)
    # It was still in the queue: the job never ended.
    assert read_beside(bridge.db_uri, sa.select(redun_db.Job.end_time)) == [(None,)]
    [(heartbeat,)] = read_beside(bridge.db_uri, sa.select(redun_db.Execution.updated_time))
    assert heartbeat is not None


def test_shallow_cache_replays_a_whole_call(bridge: RedunBackendDb) -> None:
    assert make_scheduler(bridge).run(shallow(5)) == 10
    node = bridge.session.query(redun_db.CallNode).filter_by(task_name=shallow.fullname).one()
    eval_hash = "e" * 40
    answer = bridge.check_cache(
        shallow.hash,
        node.args_hash,
        eval_hash,
        "execution",
        {shallow.hash, double.hash},
        CacheScope.BACKEND,
        CacheCheckValid.SHALLOW,
    )
    assert answer == (10, node.call_hash, CacheResult.ULTIMATE)
    # A call whose tasks got lost in a sync must not be replayed (redun would).
    bridge.session.query(redun_db.CallSubtreeTask).delete()
    bridge.session.commit()
    answer = bridge.check_cache(
        shallow.hash,
        node.args_hash,
        eval_hash,
        "execution",
        {shallow.hash, double.hash},
        CacheScope.BACKEND,
        CacheCheckValid.SHALLOW,
    )
    assert answer == (None, None, CacheResult.MISS)


def test_error_of_a_queued_write_surfaces_and_spares_the_others(bridge: RedunBackendDb) -> None:
    before = bridge.record_value("before")
    # A call whose result was never recorded breaks a foreign key.
    bridge.record_call_node(
        "double", bridge.record_value(double), "a" * 40, ((), {}), ((), {}), "f" * 40, [], []
    )
    with pytest.raises(redun_db.RedunDatabaseError, match=r"(?i)foreign key"):
        bridge.flush()
    after = bridge.record_value("after")
    assert bridge.has_records([before, after]) == [before, after]
    assert bridge.session.query(redun_db.CallNode).count() == 0


def test_bad_input_is_refused_at_once(open_bridge: Callable[..., RedunBackendDb]) -> None:
    bridge = open_bridge(max_value_size="100")
    with pytest.raises(redun_db.RedunDatabaseError, match="too large"):
        bridge.record_value("x" * 1000)
    with pytest.raises((TypeError, AttributeError)):
        bridge.record_value(threading.Lock())
    bridge.flush()


def test_large_values_go_to_the_value_store(
    open_bridge: Callable[..., RedunBackendDb], redun_backend: Any, tmp_path: Path
) -> None:
    config = {"value_store_path": str(tmp_path / "values"), "value_store_min_size": "1000"}
    bridge = open_bridge(**config)
    text = "long " * 100_000
    value_hash = bridge.record_value(text)
    assert bridge.get_value(value_hash) == (text, True)
    assert bridge.session.get(redun_db.Value, value_hash).value_parsed == text
    original = OriginalBackend(redun_uri(bridge.db_uri), config=config)
    original.load()
    assert original.get_value(value_hash) == (text, True)
    original.session.close()
    original.engine.dispose()


def test_many_threads_record_at_once(bridge: RedunBackendDb) -> None:
    hashes: list[str] = []

    def record(start: int) -> None:
        for number in range(start, start + 50):
            value_hash = bridge.record_value(f"number {number}")
            assert bridge.get_value(value_hash) == (f"number {number}", True)
            hashes.append(value_hash)

    threads = [threading.Thread(target=record, args=(start,)) for start in range(0, 200, 50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(bridge.has_records(hashes)) == 200


def test_handles_and_updates_go_through(bridge: RedunBackendDb) -> None:
    first = Connection("one")
    second = first.fork("b")
    bridge.advance_handle([first], second)
    assert bridge.is_valid_handle(second)
    bridge.rollback_handle(first)
    assert not bridge.is_valid_handle(second)


def test_records_travel_between_two_bridges(
    bridge: RedunBackendDb,
    open_bridge: Callable[..., RedunBackendDb],
    make_empty_database: Callable[[], str],
    tmp_path: Path,
) -> None:
    (tmp_path / "source").write_text("text")
    make_scheduler(bridge).run(workflow(str(tmp_path / "source")))
    target = open_bridge(make_empty_database())
    roots = [execution_id for (execution_id,) in bridge.session.query(redun_db.Execution.id)]
    count = target.put_records(bridge.get_records(bridge.iter_record_ids(roots)))
    assert count > 20
    assert target.put_records(bridge.get_records(bridge.iter_record_ids(roots))) == 0
    label, model, _ = next(bridge.get_child_record_ids([(redun_db.Execution, roots[0])]))
    assert (label, model) == ("Execution.job", redun_db.Job)


def test_start_of_a_job_is_handed_back_as_redun_models_it(
    bridge: RedunBackendDb, monkeypatch: pytest.MonkeyPatch
) -> None:
    scheduler = make_scheduler(bridge)
    started: list[Any] = []
    record = bridge.record_job_start
    monkeypatch.setattr(bridge, "record_job_start", lambda job: started.append(record(job)))
    scheduler.run(double(1))
    [job] = started
    assert isinstance(job, redun_db.Job)
    assert (job.task_hash, job.end_time, job.parent_id) == (double.hash, None, None)
    assert bridge.session.get(redun_db.Job, job.id).end_time >= job.start_time


def test_folder_of_the_program_may_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    backend = RedunBackendDb("sqlite:///relative.db")
    backend.load()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    assert make_scheduler(backend).run(double(4)) == 8
    backend.close()
    assert not list(elsewhere.iterdir())


def test_memory_belongs_to_one_backend(tmp_path: Path) -> None:
    first, second = RedunBackendDb("sqlite:///:memory:"), RedunBackendDb("sqlite:///:memory:")
    for backend in (first, second):
        backend.load()
    value_hash = first.record_value("mine")
    assert first.db_uri == "sqlite:///:memory:"
    assert first.clone().has_records([value_hash]) == [value_hash]
    assert second.has_records([value_hash]) == []
    first.close()
    second.close()
    first.load()
    assert first.has_records([value_hash]) == []
    first.close()


def test_setup_scheduler_without_a_database_is_in_memory() -> None:
    scheduler = setup_scheduler(Config({"scheduler": {"ignore_warnings": "namespace"}}))
    assert scheduler.run(double(21)) == 42
    scheduler.backend.close()


WORKFLOW_FILE = """
from redun import task

redun_namespace = "cli"

@task()
def add(x: int, y: int) -> int:
    return x + y

@task()
def main(n: int = 3) -> list:
    return [add(i, i) for i in range(n)]
"""


def run_redun(folder: Path, *arguments: str) -> str:
    """Run the command `redun` in a folder; returns what it printed."""
    done = commands.run_redun(*arguments, cwd=folder)
    return done.stdout + done.stderr


def test_redun_command_runs_on_aredun_unchanged(database_url: str, tmp_path: Path) -> None:
    folder = tmp_path / "project"
    (folder / ".redun").mkdir(parents=True)
    (folder / ".redun" / "redun.ini").write_text(
        f"[backend]\ndb_uri = {database_url}\n\n"
        "[scheduler]\nsetup_scheduler = aredun.redun_bridge::setup_scheduler\n"
    )
    (folder / "workflow.py").write_text(WORKFLOW_FILE)
    assert "[0, 2, 4]" in run_redun(folder, "run", "workflow.py", "main")
    assert len(read_beside(database_url, sa.select(redun_db.CallNode.call_hash))) == 4
    again = run_redun(folder, "run", "workflow.py", "main")
    assert re.search(r"\| ALL +0 +0 +0 +4 +0 +4", again)
    log = run_redun(folder, "log")
    assert log.count("run workflow.py main") == 2
    assert log.count("[ DONE ]") == 2


CRASHING = """
import os, sys
from redun import Scheduler, task
from aredun.redun_bridge import RedunBackendDb

redun_namespace = "crash"

@task()
def one(i: int, note: str = "x") -> list:
    return [i, note]

@task()
def crash(values: list) -> int:
    os._exit(9)

@task()
def main() -> int:
    return crash([one(i) for i in range(200)])

backend = RedunBackendDb(sys.argv[1])
backend.load()
Scheduler(backend=backend).run(main())
"""


def test_crash_leaves_no_half_recorded_call(database_url: str, tmp_path: Path) -> None:
    program = tmp_path / "crashing.py"
    program.write_text(CRASHING)
    done = subprocess.run(
        [sys.executable, str(program), database_url], capture_output=True, env=dict(os.environ), check=False
    )
    assert done.returncode == 9, done.stderr
    counted = sa.select(redun_db.CallNode.call_hash, sa.func.count(redun_db.Argument.arg_hash)).outerjoin(
        redun_db.Argument, redun_db.Argument.call_hash == redun_db.CallNode.call_hash
    )
    calls = read_beside(database_url, counted.group_by(redun_db.CallNode.call_hash))
    assert {count for _, count in calls} <= {2}
    with_tasks = read_beside(database_url, sa.select(redun_db.CallSubtreeTask.call_hash).distinct())
    assert {call for call, _ in calls} == {call for (call,) in with_tasks}
    # What a new task's first job flushed before the crash is there: all that was recorded until then.
    assert len(calls) >= 200
