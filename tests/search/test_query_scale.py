"""Queries on a large repository: an index behind every filter, few statements, flat memory, right answers."""

from __future__ import annotations

import re
import tracemalloc
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa
from sqlalchemy import event

from aredun.backend import RedunBackendDb
from aredun.models import Execution, Job
from aredun.query import CallGraphQuery, find_file, infer_id
from aredun.search import differences, file_versions, strategies, substrings, task_history
from aredun.search import filters as query_filters
from aredun.search.identify import find_use
from aredun.search.statements import RECENT_JOBS
from aredun.search.substrings import search
from aredun.storage.reads import read_scalars
from benchmarks.query import apply_filters, make_filters
from benchmarks.repository import REFERENCE, Generator, make_big_repository, make_hash, make_uuid

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    from tests.support.databases import PostgresCluster

JOBS, EXECUTIONS, LARGEST = 20_000, 31, 5_000
BIG_TABLES = ("job", "call_node", "value", "argument", "subvalue", "file", "tag", "task")
FILE = "/data/000003/part_00000021.bam"

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def repository(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, Generator]]:
    """A repository of 20,000 jobs, made by bulk insert."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path_factory.mktemp('scale') / 'redun.db'}"
        yield url, make_big_repository(url, JOBS, EXECUTIONS, LARGEST)
        return
    cluster: PostgresCluster = request.getfixturevalue("postgres")
    name = cluster.create_database()
    yield cluster.url(name), make_big_repository(cluster.url(name), JOBS, EXECUTIONS, LARGEST)
    cluster.drop_database(name)


@pytest.fixture
async def reader(repository: tuple[str, Generator]) -> AsyncIterator[RedunBackendDb]:
    """aredun's backend on the repository."""
    async with RedunBackendDb(repository[0]) as backend:
        yield backend
        assert backend.database.checked_out == 0


def make_questions(generator: Generator) -> dict[str, Callable[[RedunBackendDb], Awaitable[Any]]]:
    """Return what is asked: every filter, look-ups by prefix, and files by path."""
    result = make_hash("value", "result", 3, 21)
    prefixes = {
        "Execution": make_uuid("execution", 3)[:9],
        "Job": make_uuid("job", 3, 21)[:9],
        "CallNode": make_hash("call", 3, 21)[:9],
        "Task": generator.get_task_hash("align", 0)[:9],
        "Value": result[:9],
    }
    questions: dict[str, Callable[[RedunBackendDb], Awaitable[Any]]] = {}

    def ask(name: str, make: Callable[[CallGraphQuery], CallGraphQuery]) -> None:
        questions[name] = lambda backend: make(CallGraphQuery(backend)).first()

    for name, filters in make_filters(generator).items():
        ask(name, lambda query, filters=filters: apply_filters(query, filters))  # type: ignore[misc]  # bound now
    for name, prefix in prefixes.items():
        ask(
            f"prefix of {name}",
            lambda query, name=name, prefix=prefix: query.filter_types({name}).like_id(prefix),  # type: ignore[misc]
        )
    ask("one file", lambda query: query.filter_file_paths([FILE]))
    ask("open jobs", lambda query: query.filter_job_statuses(["RUNNING"]))
    ask("abandoned executions", lambda query: query.filter_execution_statuses(["ABANDONED"]))
    ask("jobs by time", lambda query: query.filter_types({"Job"}).order_by("time"))
    ask("executions by time", lambda query: query.filter_types({"Execution"}).order_by("time"))
    questions["find_file: made"] = lambda backend: find_file(backend, FILE)
    questions["find_file: given to all"] = lambda backend: find_file(backend, REFERENCE)
    questions["paths of files"] = lambda backend: file_versions.list_paths(backend, None, None, 20)
    questions["parts of paths"] = lambda backend: file_versions.list_paths(backend, "PART", None, 20)
    questions["versions of a file"] = lambda backend: file_versions.list_file_versions(backend, FILE)
    questions["makers of files"] = lambda backend: file_versions.load_makers(
        backend, [make_hash("call", 3, 21)]
    )
    questions["readers of files"] = lambda backend: file_versions.count_readers(
        backend, [generator.reference]
    )
    questions["failed jobs by task"] = task_history.count_failed
    questions["last runs of tasks"] = lambda backend: task_history.get_last_runs(backend, [])
    questions["versions of a task"] = lambda backend: task_history.list_task_versions(
        backend, "pipeline.align"
    )
    questions["infer_id"] = lambda backend: infer_id(backend, result[:9], required=True)
    questions["the newest"] = lambda backend: infer_id(backend, "-")
    return questions


class Plans:
    """The plans of all statements that a backend sends."""

    def __init__(self, backend: RedunBackendDb) -> None:
        self._backend = backend
        self._statements: list[tuple[str, Any]] = []
        engine: Any = backend.database.session().bind
        self._engine = engine
        event.listen(self._engine.sync_engine, "before_cursor_execute", self._record)
        self._fetch = backend.database.fetch

    def _record(self, _: Any, __: Any, statement: str, parameters: Any, *___: Any) -> None:
        self._statements.append((statement, parameters))

    async def explain(self, question: Callable[[RedunBackendDb], Awaitable[Any]]) -> tuple[Any, list[str]]:
        """Ask, and return the answer with the lines of all plans."""
        self._statements.clear()
        answer = await question(self._backend)
        asked = list(self._statements)
        lines: list[str] = []
        async with self._engine.connect() as connection:
            is_postgres = self._backend.database.dialect_name == "postgresql"
            if is_postgres:
                # A small copy fits in a few pages: whether there is an index is what is asked here.
                await connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
            for statement, parameters in asked:
                explain = "EXPLAIN" if is_postgres else "EXPLAIN QUERY PLAN"
                rows = await connection.exec_driver_sql(f"{explain} {statement}", parameters)
                lines += [str(row[-1]).strip() for row in rows]
            await connection.rollback()
        return answer, lines


def find_table_scans(lines: list[str]) -> list[str]:
    """Return the lines that say that a big table is read whole."""
    tables = "|".join(BIG_TABLES)
    # sqlite names the alias, which begins or ends with the table's name; PostgreSQL names the table.
    sqlite = re.compile(rf"^SCAN (\w+_)?({tables})(_\d+)?( AS \w+)?$")
    postgres = re.compile(rf"Seq Scan on ({tables})\b")
    return [line for line in lines if sqlite.search(line) or postgres.search(line)]


async def test_every_question_has_an_index(repository: tuple[str, Generator], reader: RedunBackendDb) -> None:
    plans = Plans(reader)
    for name, question in make_questions(repository[1]).items():
        answer, lines = await plans.explain(question)
        assert answer is not None, name
        assert lines
        assert find_table_scans(lines) == [], (name, lines)


async def test_first_records_take_few_statements(
    repository: tuple[str, Generator], reader: RedunBackendDb
) -> None:
    for name, question in make_questions(repository[1]).items():
        before = reader.database.counts.statements
        await question(reader)
        assert reader.database.counts.statements - before <= 8, name


async def test_all_ways_lead_to_the_same_records(
    repository: tuple[str, Generator], reader: RedunBackendDb, monkeypatch: pytest.MonkeyPatch
) -> None:
    query = CallGraphQuery(reader)
    for name, filters in make_filters(repository[1]).items():
        answers = []
        for seek_rows in (1, 1_000, 10_000_000):
            monkeypatch.setattr(strategies, "SEEK_ROWS", seek_rows)
            monkeypatch.setattr(strategies, "RARE_SEEK_ROWS", seek_rows)
            monkeypatch.setattr(strategies, "ALL_SEEK_ROWS", seek_rows)
            monkeypatch.setattr(query_filters, "EXECUTION_SEEK_ROWS", seek_rows)
            asked = apply_filters(query, filters)
            answers.append([row async for row in asked.select("type", "id")])
            counts = {kind: number async for kind, number in asked.count()}
            assert sum(counts.values()) == len(answers[-1]), name
        assert answers[0] == answers[1] == answers[2], name
        assert answers[0], name


async def test_late_pages_cost_what_early_ones_cost(reader: RedunBackendDb) -> None:
    query = CallGraphQuery(reader).filter_types({"Job"}).order_by("time")
    cursor, seen, most = None, 0, 0
    while True:
        before = reader.database.counts.statements
        page = await query.page_after(cursor, 997)
        most = max(most, reader.database.counts.statements - before)
        seen += len(page.records)
        cursor = page.cursor
        if cursor is None:
            break
    assert seen == sum(1 for _ in range(JOBS)) - (JOBS - LARGEST) % (EXECUTIONS - 1)
    assert most <= 3


@pytest.mark.parametrize("statuses", [[], ["DONE"], ["FAILED", "RUNNING"]], ids=str)
async def test_executions_by_time_come_in_one_order_from_the_newest_jobs_and_from_all(
    reader: RedunBackendDb, statuses: list[str]
) -> None:
    """The newest jobs have the roots of some executions only: pages go on beyond these."""
    query = CallGraphQuery(reader).filter_types({"Execution"}).order_by("time")
    query = query.filter_execution_statuses(statuses) if statuses else query
    cursor, seen = None, []
    while True:
        page = await query.page_after(cursor, 3)
        seen += [record.id for record in page.records]
        cursor = page.cursor
        if cursor is None:
            break
    roots = sa.select(Execution.id).join(Job, Job.id == Execution.job_id)
    in_order = list(await read_scalars(reader.database, roots.order_by(Job.start_time.desc())))
    newest = sa.select(Job.execution_id).order_by(Job.start_time.desc()).limit(RECENT_JOBS).subquery()
    recent = set(await read_scalars(reader.database, sa.select(newest.c.execution_id)))
    assert 3 < len(recent) < len(in_order) == EXECUTIONS
    known = {record.id async for record in query.all()}
    assert seen == [key for key in in_order if key in known]
    assert seen


async def test_memory_stays_flat(reader: RedunBackendDb) -> None:
    query = CallGraphQuery(reader).filter_types({"Value"})
    peaks = []
    for limit in (10_000, 40_000):
        tracemalloc.start()
        count = 0
        async for _ in query.limit(limit):
            count += 1
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert count > 25_000
    assert peaks[1] < 1.3 * peaks[0]


async def test_searching_parts_looks_at_the_last_rows(
    repository: tuple[str, Generator], reader: RedunBackendDb, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A text that is nowhere costs a range of rows of each table, and as many statements as any."""
    plans, seen = Plans(reader), reader.database.counts
    await search(reader, "no such text", 8)
    before = seen.statements
    await search(reader, "no such text", 8)
    # 12 for what begins so, one for each kind of text, and two more for arguments.
    assert seen.statements - before == 18
    answer, lines = await plans.explain(lambda backend: search(backend, "no such text", 8))
    named = await search(reader, "lign", 1)
    assert [record.name for record in named.records] == ["align"]
    assert named.bound is None
    is_sqlite = reader.database.dialect_name == "sqlite"
    assert answer.records == []
    assert answer.bound == "Parts of texts: searched the arguments of the newest 500 jobs"
    text = "\n".join(lines)
    for table in ("file", "tag", "task"):
        wanted = f"SEARCH {table} USING INTEGER PRIMARY KEY" if is_sqlite else f"Tid Range Scan on {table}"
        assert wanted in text, table
    assert "ix_job_start_time" in text
    monkeypatch.setattr(substrings, "MAX_FILES", 600)
    monkeypatch.setattr(substrings, "MAX_TAGS", 60)
    newest, oldest = f"{EXECUTIONS - 1:06}/part_000000", "000000/part_000000"
    for part, is_found in ((newest, True), (oldest, False), (f"un={EXECUTIONS - 1}", True), ("un=0", False)):
        found = await search(reader, part, 8)
        assert bool(found.records) is is_found, part
        assert found.bound is not None
    counts = re.fullmatch(
        r".* newest (\d+) tags, the newest (\d+) files, the arguments .*", found.bound or ""
    )
    assert counts is not None
    tags, files = map(int, counts.groups())
    # PostgreSQL looks at whole pages, the last of which need not be full.
    assert (tags, files) == (60, 600) if is_sqlite else 0 < tags <= 100 and 500 <= files <= 1_000


async def test_rare_matches_of_frequent_filters_are_sought(
    reader: RedunBackendDb, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Few aligned jobs failed, none of them lately: they are gathered, not met by a walk over all jobs."""
    monkeypatch.setattr(strategies, "SEEK_ROWS", 1)
    plans = Plans(reader)
    query = CallGraphQuery(reader, order_by="time").filter_types({"Job"})
    failed = query.filter_job_statuses(["FAILED"])
    page, lines = await plans.explain(lambda _: failed.page_after(None, 50))
    assert len(page.records) == 50
    assert not any("matched" in line for line in lines)
    page, lines = await plans.explain(lambda _: failed.filter_task_names(["align"]).page_after(None, 50))
    assert 0 < len(page.records) < 50
    assert any("matched" in line for line in lines)
    # One of an execution's 517 jobs.
    page, lines = await plans.explain(lambda _: query.filter_task_names(["main"]).page_after(None, 50))
    assert len(page.records) == EXECUTIONS
    assert any("matched" in line for line in lines)


async def test_earlier_calls_of_frequent_tasks_are_the_latest(
    reader: RedunBackendDb, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether its jobs are gathered or met among the latest of all, the earlier call is the same."""
    plans = Plans(reader)
    for job in (make_uuid("job", 20, 21), make_uuid("job", 2, 22), make_uuid("job", 0, 4_000)):
        call = await differences.get_call(reader, job)
        assert call is not None
        expected = await differences.find_earlier_call(reader, call)
        with monkeypatch.context() as patch:
            patch.setattr(differences, "FEW_JOBS", 10)
            patch.setattr(differences, "WINDOW", 2_000)
            earlier, lines = await plans.explain(partial(differences.find_earlier_call, call=call))
        assert earlier == expected is not None
        assert any("ix_job_start_time" in line for line in lines)


async def test_job_of_a_value_is_found_by_indexes(reader: RedunBackendDb) -> None:
    """A result that is inside no other value has the job that made it."""
    value = make_hash("value", "result", 3, 22)
    found, lines = await Plans(reader).explain(lambda backend: find_use(backend, value))
    assert (found[0].id, found[1]) == (make_uuid("job", 3, 22), "result")
    assert any("ix_call_node_value_hash" in line for line in lines)
    assert find_table_scans(lines) == []
