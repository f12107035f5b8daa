"""The bridge where more than one process, scheduler or clone uses a repository."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import redun.backends.db as redun_db
from redun import Scheduler, task
from redun.config import Config
from redun.scheduler import JobInfo, subrun

from aredun.redun_bridge import RedunBackendDb
from tests.support.databases import redun_uri

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

redun_namespace = "tests.bridge_processes"

QUIET = {"scheduler": {"ignore_warnings": "namespace"}}
THIS_JOB = JobInfo()


@task()
def triple(number: int) -> int:
    return 3 * number


@task()
def look_up(db_uri: str, job_info: JobInfo = THIS_JOB) -> Any:
    """Look this job up on a connection that knows nothing of the bridge."""
    other = redun_db.RedunBackendDb(db_uri)
    other.load(migrate=False)
    found = other.get_job(job_info.job_id)
    other.session.close()
    other.engine.dispose()
    return found is not None


@task()
def extended(db_uri: str) -> Any:
    config = {"backend": {"db_uri": db_uri}, **QUIET}
    return subrun(triple(4), executor="default", config=config, load_modules=[])


@pytest.fixture
def bridge(database_url: str) -> Iterator[RedunBackendDb]:
    """A loaded bridge."""
    backend = RedunBackendDb(database_url)
    backend.load()
    yield backend
    backend.close()


def test_job_that_is_told_its_id_is_there_for_everybody(bridge: RedunBackendDb) -> None:
    scheduler = Scheduler(backend=bridge, config=Config(QUIET))
    for _ in range(3):
        assert scheduler.run(look_up.options(cache=False)(redun_uri(bridge.db_uri)))


def test_subrun_extends_the_execution(bridge: RedunBackendDb) -> None:
    scheduler = Scheduler(backend=bridge, config=Config(QUIET))
    assert scheduler.run(extended(redun_uri(bridge.db_uri))) == 12
    session = bridge.session
    [job] = session.query(redun_db.Job).filter_by(task_hash=triple.hash).all()
    assert job.parent_job.task.name == "subrun_root_task"
    assert session.query(redun_db.Execution).count() == 1


def test_closing_a_clone_leaves_the_others_open(bridge: RedunBackendDb) -> None:
    clone = bridge.clone()
    value_hash = clone.record_value("from a clone")
    clone.close()
    clone.close()
    assert bridge.get_value(value_hash) == ("from a clone", True)
    with pytest.raises(redun_db.RedunDatabaseError, match="call load"):
        clone.record_value("too late")


def test_loading_again_loses_nothing(bridge: RedunBackendDb) -> None:
    value_hash = bridge.record_value("before")
    bridge.load()
    assert bridge.get_value(value_hash) == ("before", True)


FORKING = """
import os, sys
from redun import Scheduler, task
from redun.backends.db import Job
from aredun.redun_bridge import RedunBackendDb

redun_namespace = "forking"

@task()
def one(i: int) -> int:
    return i

@task()
def main(n: int) -> list:
    return [one(i) for i in range(n)]

backend = RedunBackendDb(sys.argv[1])
backend.load()
assert Scheduler(backend=backend).run(main(2)) == [0, 1]
mine = backend.record_value("recorded by the parent, not written yet")
child = os.fork()
if not child:
    value_hash = backend.record_value("recorded by the child")
    assert backend.get_value(value_hash) == ("recorded by the child", True)
    assert backend.session.query(Job).count() == 3
    assert Scheduler(backend=backend).run(main(3)) == [0, 1, 2]
    sys.exit(0)
_, status = os.waitpid(child, 0)
assert status == 0, status
assert backend.get_value(mine)[1]
assert Scheduler(backend=backend).run(main(4)) == [0, 1, 2, 3]
assert backend.session.query(Job).count() == 12
print("done")
"""


def run_forking(db_uri: str, folder: Path) -> None:
    """Run the program that forks; it says when all is well."""
    program = folder / "forking.py"
    program.write_text(FORKING)
    done = subprocess.run(
        [sys.executable, str(program), db_uri], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.stdout == "done\n", done.stderr


def test_forked_process_records_on_connections_of_its_own(database_url: str, tmp_path: Path) -> None:
    run_forking(database_url, tmp_path)


def test_forked_process_leaves_a_database_in_memory_to_its_parent(tmp_path: Path) -> None:
    run_forking("sqlite:///:memory:", tmp_path)
