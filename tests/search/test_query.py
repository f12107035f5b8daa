"""`CallGraphQuery` against redun's own, on repositories that real redun made."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redun.backends.db import RedunBackendDb as OriginalBackend
from redun.backends.db.query import CallGraphQuery as OriginalQuery
from redun.tags import ANY_VALUE as ORIGINAL_ANY_VALUE

from aredun.backend import RedunBackendDb
from aredun.errors import UsageError
from aredun.formats.tag_syntax import ANY_VALUE
from aredun.models import Execution
from aredun.query import CallGraphQuery
from aredun.search import filters as query_filters
from aredun.search import scan as query_scan
from aredun.search import strategies
from tests.support.call_graphs import TAGS, TASK_NAMES, Recorded
from tests.support.databases import redun_uri

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from tests.support.call_graphs import RecordedRepository

Step = tuple[str, Any]
Row = tuple[str, str]


class Repository:
    """One repository, open on both sides, with an event loop to run aredun's side on."""

    def __init__(self, url: str, recorded: Recorded, folder: str) -> None:
        self.url, self.recorded, self.folder = url, recorded, folder
        self.runner = asyncio.Runner()
        self.backend = RedunBackendDb(url)
        self.runner.run(self.backend.load())
        self.original = OriginalBackend(db_uri=redun_uri(url))
        self.original.load()

    def run(self, ask: Callable[[CallGraphQuery], Any]) -> Any:
        """Ask aredun something about a query."""

        async def operation() -> Any:
            answer = await ask(CallGraphQuery(self.backend))
            assert self.backend.database.checked_out == 0
            return answer

        return self.runner.run(operation())

    def original_query(self) -> OriginalQuery:
        """Start a query of redun's."""
        assert self.original.session is not None
        self.original.session.rollback()
        return OriginalQuery(self.original.session)

    def close(self) -> None:
        """Close both sides."""
        self.runner.run(self.backend.close())
        self.runner.close()
        assert self.original.session is not None
        assert self.original.engine is not None
        self.original.session.close()
        self.original.engine.dispose()


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def repository(
    request: pytest.FixtureRequest, repositories: Callable[[str], RecordedRepository]
) -> Iterator[Repository]:
    """A repository of redun's with every kind of record, on either database."""
    url, recorded, folder = repositories(request.param)
    opened = Repository(url, recorded, str(folder))
    yield opened
    opened.close()


@pytest.fixture(params=["seeks", "walks"])
def small_steps(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps so small that even a small repository takes many of them, by either way."""
    monkeypatch.setattr(query_scan, "FIRST_CHUNK", 2)
    monkeypatch.setattr(query_scan, "FIRST_IDS", 2)
    monkeypatch.setattr(query_scan, "MAX_RECORDS", 5)
    monkeypatch.setattr(query_scan, "MAX_IDS", 5)
    if request.param == "walks":
        monkeypatch.setattr(strategies, "SEEK_ROWS", 1)
        monkeypatch.setattr(strategies, "RARE_SEEK_ROWS", 1)
        monkeypatch.setattr(strategies, "ALL_SEEK_ROWS", 1)
        monkeypatch.setattr(query_filters, "EXECUTION_SEEK_ROWS", 1)


def make_steps(recorded: Recorded, folder: str) -> st.SearchStrategy[list[Step]]:
    """Return random combinations of filters."""

    def some(choices: list[Any], name: str) -> st.SearchStrategy[Step]:
        chosen = st.lists(st.sampled_from(choices), min_size=1, max_size=3)
        return chosen.map(lambda items: (name, items))

    tags = [*TAGS, *((key, ANY_VALUE) for key in ("colour", "size", "project", "absent"))]
    paths = [f"{folder}/part_1.txt", "*.txt", f"{folder}/*", "*part*", "no*"]
    records = st.one_of(
        some(recorded.ids, "filter_ids"),
        some(recorded.executions, "filter_execution_ids"),
        some(["RUNNING", "FAILED", "DONE"], "filter_execution_statuses"),
        some(["RUNNING", "FAILED", "CACHED", "DONE"], "filter_job_statuses"),
        some(TASK_NAMES, "filter_task_names"),
        some(recorded.tasks, "filter_task_hashes"),
        some(recorded.values, "filter_arguments"),
        some(recorded.values, "filter_results"),
        some(recorded.value_types, "filter_value_types"),
        some(paths, "filter_file_paths"),
        some(tags, "filter_tags"),
        some(tags, "filter_execution_tags"),
    )
    types = some(["Execution", "Job", "CallNode", "Task", "Value"], "filter_types")
    order = st.just(("order_by", "time"))
    first = st.lists(st.one_of(types, order), max_size=1)
    return st.tuples(first, st.lists(records, max_size=3)).map(lambda parts: [*parts[0], *parts[1]])


def apply_steps(query: Any, steps: list[Step]) -> Any:
    """Return the query with the filters."""
    for name, argument in steps:
        query = getattr(query, name)(argument)
    return query


def translate(steps: list[Step]) -> list[Step]:
    """Return the filters as redun takes them."""
    return [
        (name, [(key, ORIGINAL_ANY_VALUE if value is ANY_VALUE else value) for key, value in argument])
        if name.endswith("_tags")
        else (name, argument)
        for name, argument in steps
    ]


async def collect(rows: AsyncIterator[Any]) -> list[Any]:
    """Return what an async iterator yields."""
    return [row async for row in rows]


def name_records(records: list[Any]) -> list[Row]:
    """Return the type and id of each record."""
    return [
        (type(record).__name__, getattr(record, CallGraphQuery.MODEL_PKS[type(record)])) for record in records
    ]


SETTINGS = settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])


@SETTINGS
@given(data=st.data())
def test_random_filters_give_the_records_of_redun(
    data: st.DataObject, repository: Repository, small_steps: None
) -> None:
    steps = data.draw(make_steps(repository.recorded, repository.folder))
    expected = apply_steps(repository.original_query(), translate(steps))

    async def ask(query: CallGraphQuery) -> None:
        asked = apply_steps(query, steps)
        rows = await collect(asked.select("type", "id"))
        assert len(rows) == len(set(rows))
        assert sorted(rows) == sorted(set(expected.select("type", "id")))
        records = await collect(asked.all())
        assert name_records(records) == rows
        assert await collect(asked.count()) == list(expected.count())
        assert name_records(await collect(asked.build().all())) == rows

    repository.run(ask)


@SETTINGS
@given(data=st.data(), size=st.integers(1, 9))
def test_pages_are_all_the_records_in_order(
    data: st.DataObject, size: int, repository: Repository, small_steps: None
) -> None:
    steps = data.draw(make_steps(repository.recorded, repository.folder))

    async def ask(query: CallGraphQuery) -> None:
        asked = apply_steps(query, steps)
        rows = await collect(asked.select("type", "id"))
        pages: list[Row] = []
        number, cursor = 0, None
        while True:
            page = await asked.page_after(cursor, size)
            shown = name_records(page.records)
            assert shown == rows[number * size : (number + 1) * size]
            assert name_records(await collect(asked.page(number, size))) == shown
            pages += shown
            number, cursor = number + 1, page.cursor
            if cursor is None:
                break
        assert pages == rows
        assert await collect(asked.page(number, size)) == []
        assert name_records(await collect(asked.limit(size))) == rows[:size]

    repository.run(ask)


def test_executions_and_jobs_by_time_are_newest_first(repository: Repository) -> None:
    async def ask(query: CallGraphQuery) -> None:
        executions = await collect(query.filter_types({"Execution"}).order_by("time").all())
        starts = [execution.job.start_time for execution in executions]
        assert starts == sorted(starts, reverse=True)
        jobs = await collect(query.filter_types({"Job"}).order_by("time").all())
        assert [job.start_time for job in jobs] == sorted((job.start_time for job in jobs), reverse=True)

    repository.run(ask)


def test_like_id_keeps_the_filters_on_tasks(repository: Repository) -> None:
    hashes = repository.recorded.tasks

    async def ask(query: CallGraphQuery) -> None:
        tasks = query.filter_types({"Task"})
        for prefix in (hashes[0], hashes[0][:1], hashes[0][:7]):
            matching = [key for key in hashes if key.startswith(prefix)]
            assert await collect(tasks.like_id(prefix).select("id", flat=True)) == matching
            assert await collect(tasks.filter_ids([hashes[1]]).like_id(hashes[0]).all()) == []
        assert len(await collect(tasks.like_id("double").all())) == 2
        one = await tasks.filter_task_names(["first.double"]).like_id("double").one()
        assert one.fullname == "first.double"

    repository.run(ask)


@pytest.mark.parametrize("length", [1, 2, 8, 36, 40])
def test_like_id_finds_what_redun_finds(repository: Repository, length: int) -> None:
    for record_id in repository.recorded.ids[::5]:
        prefix = record_id[:length]
        expected = sorted(repository.original_query().like_id(prefix).select("type", "id"))

        async def ask(query: CallGraphQuery, prefix: str = prefix) -> Any:
            return await collect(query.like_id(prefix).select("type", "id"))

        assert sorted(repository.run(ask)) == expected


def test_prefixes_are_no_patterns(repository: Repository) -> None:
    async def ask(query: CallGraphQuery) -> None:
        for prefix in ("%", "_", "a%", "[a-f]", "*", "\\"):
            assert await collect(query.like_id(prefix).all()) == []

    repository.run(ask)


def test_paths_are_literal_but_for_the_star(repository: Repository) -> None:
    async def ask(query: CallGraphQuery) -> None:
        folder = repository.folder
        for pattern, count in (
            (f"{folder}/input%.txt", 1),
            (f"{folder}/input%*", 1),
            ("*t%.t*", 1),
            (f"{folder}/%", 0),
            ("*part?1.txt", 0),
            ("*part[_]1.txt", 0),
            ("*PART_1.TXT", 0),
            ("*part_1.txt", 1),
        ):
            found = await collect(query.filter_file_paths([pattern]).all())
            assert len(found) == count, pattern

    repository.run(ask)


def test_statuses_are_those_of_redun(repository: Repository) -> None:
    query = repository.original_query()
    expected = {
        row.id: row.status for name in ("Execution", "Job") for row in query.filter_types({name}).all()
    }

    async def ask(query: CallGraphQuery) -> Any:
        records = await collect(query.filter_types({"Execution", "Job"}).all())
        return {record.id: record.status for record in records}

    assert repository.run(ask) == expected
    assert {"RUNNING", "FAILED", "CACHED", "DONE"} == set(expected.values())


def test_one_first_and_empty(repository: Repository) -> None:
    recorded = repository.recorded

    async def ask(query: CallGraphQuery) -> None:
        jobs = query.filter_types(["Job"]).filter_ids([recorded.jobs[3]])
        one = await jobs.one_or_none()
        first = await query.first()
        assert one is not None
        assert (await jobs.one()).id == one.id == recorded.jobs[3]
        assert isinstance(first, Execution)
        assert first.id == recorded.executions[0]
        with pytest.raises(UsageError, match="more than one record matches"):
            await query.one()
        assert await query.one_or_none() is None
        for nothing in (query.empty(), query.filter_ids([]), query.filter_ids(["x"])):
            assert await collect(nothing.all()) == []
            assert await nothing.first() is None
            assert await nothing.one_or_none() is None
            with pytest.raises(UsageError, match="no record matches"):
                await nothing.one()
        assert await collect(query.empty().count()) == [(name, 0) for name in query.MODEL_NAMES]
        assert await collect(query.limit(0)) == []

    repository.run(ask)


def test_no_choice_matches_nothing(repository: Repository) -> None:
    async def ask(query: CallGraphQuery) -> None:
        for name in (
            *("filter_ids", "filter_execution_ids", "filter_task_names", "filter_task_hashes"),
            *("filter_arguments", "filter_results", "filter_value_types", "filter_file_paths"),
        ):
            assert await collect(getattr(query, name)([]).all()) == [], name

    repository.run(ask)


def test_no_execution_tags_leave_what_belongs_to_an_execution(repository: Repository) -> None:
    expected = repository.original_query().filter_execution_tags([])

    async def ask(query: CallGraphQuery) -> None:
        asked = query.filter_execution_tags([])
        rows = await collect(asked.select("type", "id"))
        assert sorted(rows) == sorted(set(expected.select("type", "id")))
        assert await collect(asked.count()) == list(expected.count())

    repository.run(ask)


@pytest.mark.parametrize("text", ["\0", "a\0", "\ud800", "a\udfffb"])
def test_text_that_no_database_stores_matches_nothing(repository: Repository, text: str) -> None:
    async def ask(query: CallGraphQuery) -> None:
        for asked in (
            query.filter_ids([text]),
            query.like_id(text),
            query.filter_execution_ids([text]),
            query.filter_task_names([text, f"{text}.double"]),
            query.filter_task_hashes([text]),
            query.filter_arguments([text]),
            query.filter_results([text]),
            query.filter_value_types([text]),
            query.filter_file_paths([text, f"{text}*"]),
            query.filter_tags([(text, ANY_VALUE)]),
            query.filter_execution_tags([(text, 1)]),
        ):
            assert await collect(asked.all()) == []
        known = query.filter_types(["Job"]).filter_ids([text, repository.recorded.jobs[0]])
        assert (await known.one()).id == repository.recorded.jobs[0]

    repository.run(ask)


def test_queries_are_immutable(repository: Repository) -> None:
    async def ask(query: CallGraphQuery) -> None:
        before = await collect(query.select("id", flat=True))
        query.filter_types({"Job"})
        query.filter_ids(["x"])
        query.order_by("time")
        query.empty()
        assert await collect(query.select("id", flat=True)) == before

    repository.run(ask)


def test_built_subqueries_run_in_any_session(repository: Repository) -> None:
    async def ask(query: CallGraphQuery) -> None:
        asked = query.filter_execution_ids(repository.recorded.executions[:2]).order_by("time")
        wanted = await collect(asked.select("type", "id"))
        found: list[Row] = []
        async with repository.backend.session() as session:
            for name, statement in asked.build().subqueries:
                rows = name_records(list(await session.scalars(statement)))
                assert {row[0] for row in rows} <= {name}
                found += rows
        assert found == wanted

    repository.run(ask)


def test_bases_confine_the_records(repository: Repository) -> None:
    import sqlalchemy as sa

    from aredun.models import Value

    async def ask(query: CallGraphQuery) -> None:
        files = query.clone(values=sa.select(Value.value_hash).where(Value.type == "redun.File"))
        found = await collect(files.filter_types({"Value"}).all())
        assert found
        assert {value.type for value in found} == {"redun.File"}

    repository.run(ask)


def test_values_come_without_their_data_unless_asked(repository: Repository) -> None:
    async def ask(query: CallGraphQuery) -> None:
        values = query.filter_types({"Value"})
        async for value in values.limit(3):
            assert "value" not in value.__dict__
        async for value in values.with_values().limit(3):
            assert isinstance(value.value, bytes)

    repository.run(ask)


def test_a_slow_reader_holds_no_connection(repository: Repository, small_steps: None) -> None:
    async def ask(query: CallGraphQuery) -> None:
        async for _ in query.all():
            assert repository.backend.database.checked_out == 0

    repository.run(ask)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda query: query.filter_types({"Jobs"}), "unknown record type 'Jobs'"),
        (lambda query: query.filter_job_statuses(["LOST"]), "unknown status 'LOST'"),
        (lambda query: query.filter_job_statuses([]), "no status given"),
        (lambda query: query.filter_execution_statuses(["PENDING"]), "unknown status 'PENDING'"),
        (lambda query: query.order_by("size"), "unknown order 'size'"),
        (lambda query: query.select("name"), "unknown column 'name'"),
        (lambda query: query.select("id", "type", flat=True), "exactly one column"),
        (lambda query: query.filter_ids("abc"), "must be a list"),
        (lambda query: query.filter_tags(["abc"]), "tag 'abc' is not a pair"),
        (lambda query: query.filter_execution_tags([(1, 2)]), r"tag \(1, 2\) is not a pair"),
    ],
)
def test_bad_arguments_are_refused_at_once(
    repository: Repository, wrong: Callable[[CallGraphQuery], Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        wrong(CallGraphQuery(repository.backend))
    # redun raises ValueError for most of these, so whoever catches that goes on doing so.
    assert isinstance(caught.value, ValueError)


def test_bad_cursors_and_sizes_are_refused(repository: Repository) -> None:
    async def ask(query: CallGraphQuery) -> None:
        page = await query.page_after(None, 2)
        for cursor in ("", "x", "é", "bm8=", str(page.cursor)[:-3], str(page.cursor)[3:]):
            with pytest.raises(UsageError, match="cursor"):
                await query.page_after(cursor, 2)
        for other in (query.filter_types({"Task"}), query.order_by("time")):
            with pytest.raises(UsageError, match="another query's"):
                await other.page_after(page.cursor, 2)
        for size in (0, -1):
            with pytest.raises(UsageError, match="invalid page"):
                await query.page_after(None, size)
        with pytest.raises(UsageError, match="invalid page"):
            await collect(query.page(-1, 2))

    repository.run(ask)
