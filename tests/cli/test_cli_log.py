"""`aredun log` on repositories that redun made: what people see and what programs read."""

from __future__ import annotations

import io
import json
import pickle
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa
from redun.backends.db import Argument, Execution, Job, Value
from redun.backends.db import RedunBackendDb as OriginalBackend
from redun.backends.db.serializers import RecordSerializer
from rich.console import Console

from aredun.backend import RedunBackendDb
from aredun.cli import main
from aredun.cli.tables import Printer, clean_line, paged, show_age, show_duration
from aredun.search.job_tree import get_job_tree
from benchmarks.repository import Generator, make_big_repository, make_uuid
from tests.support.call_graphs import Recorded, make_repository
from tests.support.databases import redun_uri

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.databases import PostgresCluster

    Log = Callable[..., str]


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def repository(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Recorded, Path]:
    """The URL of a repository that redun made, what is in it, and the folder of its files."""
    folder = tmp_path_factory.mktemp("log")
    if request.param == "sqlite":
        url = f"sqlite:///{folder / 'redun.db'}"
    else:
        cluster: PostgresCluster = request.getfixturevalue("postgres")
        url = cluster.url(cluster.create_database())
    return url, make_repository(url, folder), folder


@pytest.fixture
def log(repository: tuple[str, Recorded, Path], capsys: pytest.CaptureFixture[str]) -> Log:
    """Run `aredun log` on the repository and return what it wrote."""

    def run(*arguments: str, code: int = 0) -> str:
        assert main(["log", "--db", repository[0], *arguments]) == code
        captured = capsys.readouterr()
        assert (captured.err == "") == (code == 0)
        return captured.err if code else captured.out

    return run


@pytest.fixture
def original(repository: tuple[str, Recorded, Path]) -> Any:
    """A session of redun's own on the repository, which can change it too."""
    backend = OriginalBackend(db_uri=redun_uri(repository[0]))
    backend.load()
    yield backend.session
    assert backend.session is not None
    assert backend.engine is not None
    backend.session.close()
    backend.engine.dispose()


def test_executions_are_listed_newest_first(log: Log, original: Any) -> None:
    lines = log().splitlines()
    rows = original.query(Execution).join(Job, Job.id == Execution.job_id)
    rows = rows.order_by(Job.start_time.desc()).all()
    assert [line.split()[1] for line in lines] == [row.id[:8] for row in rows]
    for line, row in zip(lines, rows, strict=True):
        assert f"[{row.status_display.center(6)}]" in line
        assert " ago)" in line or "(now)" in line
        assert " ".join(json.loads(row.args)[1:]) in line
        assert all(f"{tag.key}=" in line for tag in row.tags)


def test_an_execution_is_shown_with_its_jobs(log: Log, original: Any) -> None:
    execution = original.query(Execution).filter(Execution.args.like("%main(%4)%")).one()
    text = log(execution.id[:10])
    assert text.startswith(f"Exec {execution.id} [ DONE ]")
    for job in execution.jobs:
        line = next(line for line in text.splitlines() if f"Job {job.id[:8]}" in line)
        assert f"[{job.status_display.center(6)}]" in line
        assert job.task.fullname in line
    assert f"Jobs: {len(execution.jobs)} (DONE: " in text
    assert "first.double(4)" in text
    assert "Duration: 0:00:0" in text


def test_a_failed_job_is_shown_with_its_error_and_source(log: Log, original: Any) -> None:
    value = original.query(Value).filter(Value.type == "redun.ErrorValue").first()
    job = next(job for job in value.results[0].jobs if job.task.name in {"fail", "main_fail"})
    text = log(job.id)
    assert f"Job {job.id} [FAILED]" in text
    assert f"Exec {job.execution_id[:8]} > " in text
    assert "Raised: ValueError('no " in text
    assert "def " in text
    assert "Upstream dataflow:" in text
    assert 'raise ValueError(f"no {number} today")' in text
    assert "Traceback:" in text


def test_every_kind_of_record_is_shown(log: Log, repository: tuple[str, Recorded, Path]) -> None:
    _, recorded, folder = repository
    for call_hash in recorded.call_nodes[:4]:
        text = log(call_hash[:12])
        assert text.startswith(f"CallNode {call_hash} ")
        assert "Upstream dataflow:" in text
    for task_hash in recorded.tasks[:4]:
        text = log(task_hash[:12])
        assert text.startswith(f"Task {task_hash} ")
        assert "def " in text
        assert "Value " not in text.splitlines()[0]
    text = log("double")
    assert "first.double" in text
    assert "second.double" in text
    path = str(folder / "part_1.txt")
    text = log(path)
    assert text.startswith("File ")
    assert path in text
    assert "Produced by Job" in text
    assert "files.write(" in text
    assert "Consumed by Job" in log(str(folder / "input%.txt"))
    assert all(line.startswith(("Value ", "File ")) for line in log("--value").splitlines())


def test_filters_choose_what_is_shown(log: Log, original: Any) -> None:
    failed = {job.id[:8] for job in original.query(Job).all() if job.status == "FAILED"}
    assert {line.split()[1] for line in log("--job-status", "FAILED").splitlines()} == failed
    assert log("--exec", "--exec-tag", "project=atlas", "--count").split() == ["2", "Execution"]
    assert log("--job", "--exec-id", "~1", "--count").split() == ["2", "Job"]
    assert len(log("--job", "-n", "3").splitlines()) == 3
    assert log("--job", "-n", "0") == ""
    # A filter on jobs or tasks chooses them, where redun shows every execution.
    assert {line.split()[0] for line in log("--task-name", "pack").splitlines()} == {"Job", "Task"}
    argument = original.query(Argument).first()
    lines = log("--arg", argument.value_hash).splitlines()
    jobs = original.query(Job).filter(Job.call_hash == argument.call_hash)
    assert {job.id[:8] for job in jobs} <= {line.split()[1] for line in lines}
    assert "no Task has an id that begins with 'none'" in log("--task-hash", "none", "--count", code=2)
    counts = {line.split()[1]: line.split()[0] for line in log("--all", "--count").splitlines()}
    assert counts["Job"] == str(original.query(Job).count())
    # What is counted is what is shown: executions, unless other types are chosen.
    assert log("--count").split() == [counts["Execution"], "Execution"]
    assert log("-", "--count").split()[:4] == ["1", "Execution", "0", "Job"]
    assert json.loads(log("--all", "--count", "--json"))["Job"] == int(counts["Job"])
    files = log("--file").splitlines()
    assert [line.split()[0] for line in files] == ["File"] * 4
    assert files == sorted(files, key=lambda line: line.split()[2])


def test_json_is_the_record_of_redun(log: Log, original: Any, repository: tuple[str, Recorded, Path]) -> None:
    serializer = RecordSerializer()
    shown = [json.loads(line) for line in log("--all", "--json").splitlines()]
    by_id = {next(iter(row.get(key) for key in ("id", "call_hash", "hash", "value_hash") if key in row)): row
             for row in shown if row["_type"] != "Value"}  # fmt: skip
    for model in (Execution, Job):
        for row in original.query(model).all():
            expected = serializer.serialize(row)
            found = by_id[row.id]
            assert {key: found[key] for key in expected if key != "children"} == {
                key: expected[key] for key in expected if key != "children"
            }
    assert len(shown) == len(repository[1].ids)
    newest = json.loads(log("-", "--json"))
    assert newest["_type"] == "Execution"


def test_bad_input_is_one_line(log: Log) -> None:
    for arguments, message in (
        (["no-such-id"], "no record has an id that begins with 'no-such-id'"),
        (["~99"], "there are not that many executions"),
        (["--exec-status", "LOST"], "unknown status 'LOST'"),
        (["--exec-id", "nothing"], "no Execution has an id"),
        (["--tag", "=1"], "has no key"),
        (["--limit", "-1"], "it cannot be negative"),
        (["--abandoned-after", "soon"], "give a number of seconds"),
        (["--no-such-option"], "--no-such-option"),
    ):
        text = log(*arguments, code=2)
        assert message in text
        assert text.count("\n") == 1


def test_a_silent_run_is_abandoned(log: Log, original: Any) -> None:
    execution = original.query(Execution).filter(Execution.args.like('["redun"%')).one()
    assert "[ RUN  ]" in log(execution.id[:8])
    assert "[ABANDONED]" in log(execution.id[:8], "--abandoned-after", "0.001")
    started = {job.id: job.start_time for job in execution.jobs}
    beat = execution.updated_time
    long_ago = beat.replace(year=beat.year - 2)
    execution.updated_time = long_ago
    for job in execution.jobs:
        job.start_time = long_ago
    original.commit()
    try:
        assert "[ABANDONED]" in next(line for line in log().splitlines() if execution.id[:8] in line)
        assert "RUN" not in log().replace("RUNNING", "")
        detail = log(execution.id)
        assert detail.count("[ABANDONED]") == 3
        assert "Last sign of life: " in detail
        assert log("--exec-status", "RUNNING") == ""
        assert log("--job-status", "RUNNING") == ""
        assert execution.id[:8] in log("--exec-status", "ABANDONED")
        assert len(log("--job-status", "ABANDONED").splitlines()) == 2
        # A job that has just ended is a sign of life too: redun beats only when it has nothing to do.
        first = next(job for job in execution.jobs if job.parent_id)
        first.end_time = beat
        original.commit()
        assert execution.id[:8] in log("--exec-status", "RUNNING,DONE")
        assert log("--exec-status", "ABANDONED") == ""
        first.end_time = None
    finally:
        execution.updated_time = beat
        for job in execution.jobs:
            job.start_time = started[job.id]
            job.end_time = None
        original.commit()


class _Bomb:
    def __reduce__(self) -> Any:
        return exec, ("raise SystemExit('the pickle was run')",)


def test_nothing_stored_is_run_or_steers_the_terminal(log: Log, original: Any) -> None:
    name, digest = "\x1b[31mred\x1b]0;title\x07", "f" * 40
    bomb = Value(
        value_hash=digest, type=name, format="application/python-pickle", value=pickle.dumps(_Bomb())
    )
    original.add(bomb)
    original.commit()
    try:
        for text in (log(digest), log("--value"), log("--value", "--detail")):
            assert "\x1b" not in text
            assert "\x07" not in text
            assert "\\x1b[31mred" in text
    finally:
        original.delete(bomb)
        original.commit()


@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
def test_text_that_the_terminal_has_no_letters_for_is_escaped(
    encoding: str, repository: tuple[str, Recorded, Path], original: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A word of a command line that is not UTF-8 comes with half a character, and redun records it so.
    execution = original.query(Execution).order_by(Execution.id).first()
    args = execution.args
    execution.args = json.dumps(["redun", "run", "\u2603", "\udc9bx"])
    original.commit()
    try:
        data = io.BytesIO()
        with io.TextIOWrapper(data, encoding=encoding) as screen:
            monkeypatch.setattr("sys.stdout", screen)
            assert main(["log", "--db", repository[0], "--tag", "\u2603", "--exec"]) == 0
            assert main(["log", "--db", repository[0], execution.id]) == 0
            screen.flush()
            text = data.getvalue().decode(encoding)
        assert "run \\u2603 \\udc9bx" in text.replace("\u2603", "\\u2603")
    finally:
        execution.args = args
        original.commit()


def test_a_job_reads_its_arguments_once(log: Log, original: Any) -> None:
    """They stand on its line and on that of its call."""
    job = original.query(Job).join(Argument, Argument.call_hash == Job.call_hash).first()
    read: list[str] = []

    def see(*event: Any) -> None:
        read.extend([event[2]] if event[2].startswith("SELECT argument.call_hash, argument.arg_pos") else [])

    sa.event.listen(sa.Engine, "before_cursor_execute", see)
    try:
        assert log(job.id).count("Args:") == 1
    finally:
        sa.event.remove(sa.Engine, "before_cursor_execute", see)
    assert len(read) == 1


@pytest.fixture(scope="module")
def big_repository(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Generator]:
    """A repository with an execution of 2,000 jobs."""
    url = f"sqlite:///{tmp_path_factory.mktemp('big') / 'redun.db'}"
    return url, make_big_repository(url, 3_000, 5, 2_000)


async def test_long_trees_are_folded_and_take_few_statements(
    big_repository: tuple[str, Generator], monkeypatch: pytest.MonkeyPatch
) -> None:
    from aredun.search import job_tree
    from aredun.tables.column_types import utcnow

    execution_id = make_uuid("execution", 0)
    trees = []
    async with RedunBackendDb(big_repository[0]) as backend:
        for limit in (job_tree.FETCH_ALL, 100):
            monkeypatch.setattr(job_tree, "FETCH_ALL", limit)
            before = backend.database.counts.statements
            trees.append(await get_job_tree(backend, execution_id, utcnow(), fold=3))
            assert backend.database.counts.statements - before < 12
        full = await get_job_tree(backend, execution_id, utcnow(), fold=None, max_jobs=None)
    assert sum(1 for _ in full.walk_lines()) == 2_000
    whole, by_level = ([(line.depth, line.entry) for line in tree.walk_lines()] for tree in trees)
    jobs = [entry for _, entry in whole if isinstance(entry, job_tree.JobRow)]
    assert 20 < len(jobs) < 200
    hidden = sum(sum(entry.counts.values()) for _, entry in whole if isinstance(entry, job_tree.FoldedJobs))
    assert hidden > 30
    assert {entry.id for _, entry in by_level if isinstance(entry, job_tree.JobRow)} >= {
        job.id for job in jobs if job.status == "FAILED"
    }


def test_a_folded_tree_says_what_is_missing(
    big_repository: tuple[str, Generator], capsys: pytest.CaptureFixture[str]
) -> None:
    execution_id = make_uuid("execution", 0)
    assert main(["log", "--db", big_repository[0], execution_id]) == 0
    folded = capsys.readouterr().out
    assert "more jobs of pipeline.sample (DONE: 30)" in folded
    assert "Jobs: 2000 (" in folded
    assert main(["log", "--db", big_repository[0], execution_id, "--full"]) == 0
    full = capsys.readouterr().out
    assert "more jobs" not in full
    assert full.count("\n") > 2_000


def test_a_dataflow_is_cut_only_where_there_is_more(
    log: Log,
    repository: tuple[str, Recorded, Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    url, recorded, _ = repository
    for call_hash in recorded.call_nodes[:4]:
        assert main(["dataflow", "--db", url, call_hash, "--format", "mermaid"]) == 0
        edges = capsys.readouterr().out.count(" --> ")
        monkeypatch.setattr("aredun.cli.records.MAX_EDGES", edges)
        assert "... cut after" not in log(call_hash)
        monkeypatch.setattr("aredun.cli.records.MAX_EDGES", edges - 1)
        assert f"... cut after {edges - 1} edges: 'aredun dataflow " in log(call_hash)


def test_times_and_durations() -> None:
    from datetime import timedelta

    assert show_duration(timedelta(days=1, hours=2, seconds=3.456)) == "26:00:03.45"
    assert show_duration(None) == "Unknown"
    ages = [timedelta(seconds=0.5), timedelta(seconds=59), timedelta(minutes=3), timedelta(days=9)]
    assert [show_age(age) for age in ages] == ["now", "59s ago", "3m ago", "9d ago"]
    assert show_age(timedelta(hours=-2)) == "in 2h"
    assert clean_line("a\nb\tc\x9b\u202e") == "a\\nb\\tc\\x9b\\u202e"


def set_pager(folder: Path, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    """Make a shell command the pager."""
    script = folder / "pager"
    script.write_text(f"#!/bin/sh\n{command}\n")
    script.chmod(0o755)
    monkeypatch.setenv("AREDUN_PAGER", str(script))


def test_whoever_leaves_the_pager_early_has_seen_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_pager(tmp_path, monkeypatch, "exit 0")
    with closing(io.StringIO()) as screen:
        console = Console(file=screen, force_terminal=True, color_system="standard")
        with paged(console) as output:
            for _ in range(1_000):
                printer = Printer(output)
                printer.line("x" * 1_000)
                printer.flush()
            pytest.fail("the pager is still there")


def test_the_pager_gets_the_lines_of_a_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "paged.txt"
    set_pager(tmp_path, monkeypatch, f"cat > {target}")
    with closing(io.StringIO()) as screen:
        console = Console(file=screen, force_terminal=True)
        with paged(console) as output:
            output.print("hello")
        assert screen.getvalue() == ""
        assert target.read_text() == "hello\n"
        with paged(console, enabled=False) as output:
            assert output is console
        with paged(Console(file=screen)) as output:
            assert output.file is screen
