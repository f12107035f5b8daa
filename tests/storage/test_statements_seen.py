"""What SQLAlchemy's events, its echo and OpenTelemetry see is what the databases themselves say was sent."""

from __future__ import annotations

import asyncio
import logging
import re
import sqlite3
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa
from opentelemetry.instrumentation.sqlalchemy import SQLAlchemyInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from sqlalchemy import event

from aredun.backend import RedunBackendDb
from aredun.dataflow import ValueRef, walk_dataflow, walk_downstream
from aredun.models import CallNode, Execution
from aredun.query import CallGraphQuery
from aredun.search.identify import infer_id
from aredun.storage.watch import open_watch
from aredun.sync import sync_records
from aredun.transfer.verify import verify_repository
from aredun.values import Handle
from tests.support.recording import record_call, start

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from tests.support.databases import PostgresCluster

    Action = Callable[[RedunBackendDb], Awaitable[Any]]

# Transactions have events of their own.
TRANSACTION = re.compile(r"(BEGIN|COMMIT|ROLLBACK)\b(?! TO)", re.IGNORECASE)
# What a new connection is set up with, by us or by the drivers; the event "connect" tells of it.
SET_UP = re.compile(
    r"PRAGMA (foreign_keys=ON|read_uncommitted|cache_size=-4096|wal_autocheckpoint|journal_mode|synchronous)"
    r"|select pg_catalog\.version\(\)|select current_schema\(\)|show standard_conforming_strings"
    r"|show transaction isolation level|SELECT current_setting\('jit'\)"
    r"|SELECT set_config\('jit'|WITH RECURSIVE typeinfo_tree|SELECT\s+t\.oid,\s+t\.typelem",
    re.IGNORECASE,
)


class SqliteWire:
    """What sqlite says that it executes of one file, each row of parameters by itself."""

    def __init__(self, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self._sent: list[str] = []
        connect = sqlite3.connect

        def connect_traced(database: str, *arguments: Any, **options: Any) -> sqlite3.Connection:
            connection: sqlite3.Connection = connect(database, *arguments, **options)
            if path in database:
                connection.set_trace_callback(self._sent.append)
            return connection

        monkeypatch.setattr(sqlite3, "connect", connect_traced)

    def take(self) -> list[str]:
        """Return what was executed since the last time."""
        sent, self._sent[:] = list(self._sent), []
        # What triggers do is shown as a comment.
        return [text for text in sent if not text.startswith("-- ")]


class PostgresWire:
    """What PostgreSQL writes into its log of what it executes in one database."""

    _ENTRY = re.compile(
        r"^[-\d]+ [\d:.]+ UTC \[\d+\] (\w+):  (.*(?:\n\t.*|\n(?![-\d]+ [\d:.]+ UTC).*)*)", re.MULTILINE
    )
    _STATEMENT = re.compile(r"(?:statement|execute [^:]+): (.*)", re.DOTALL)

    def __init__(self, cluster: PostgresCluster, url: str) -> None:
        self._log = cluster.log
        name = url.partition("@/")[2].partition("?")[0]
        for setting in ("log_statement = 'all'", "log_parameter_max_length = 0"):
            cluster.execute("postgres", f'ALTER DATABASE "{name}" SET {setting}')
        self._read = len(self._log.read_text())

    def take(self) -> list[str]:
        """Return what was executed since the last time."""
        text = self._log.read_text()
        entries = self._ENTRY.findall(text[self._read :])
        self._read = len(text)
        found = [self._STATEMENT.match(entry) for level, entry in entries if level == "LOG"]
        return [match[1].replace("\n\t", "\n") for match in found if match]


class Observers:
    """What a user may listen to, all at once."""

    def __init__(self, backend: RedunBackendDb, caplog: pytest.LogCaptureFixture) -> None:
        engine = backend.create_engine().sync_engine
        self.engine = engine
        self.seen: list[tuple[str, int]] = []
        self.transactions: Counter[str] = Counter()
        self._caplog = caplog
        self._spans = InMemorySpanExporter()
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(self._spans))
        # It says of itself that it does not know SQLAlchemy 2.1 yet.
        SQLAlchemyInstrumentor().instrument(engine=engine, tracer_provider=provider, skip_dep_check=True)
        event.listen(engine, "before_cursor_execute", self._see)
        for name in ("begin", "commit"):
            event.listen(engine, name, lambda *_, name=name: self.transactions.update([name]))

    def _see(self, _: Any, __: Any, statement: str, parameters: Any, ___: Any, executemany: bool) -> None:
        self.seen.append((statement, len(parameters) if executemany else 1))

    def take_events(self) -> list[tuple[str, int]]:
        """Return the statements of events with their number of rows of parameters."""
        seen, self.seen = self.seen, []
        return [(text, rows) for text, rows in seen if is_counted(text)]

    def take_echo(self) -> list[str]:
        """Return the statements that the engine's logger wrote."""
        texts = [
            record.getMessage()
            for record in self._caplog.records
            if record.name.startswith("sqlalchemy.engine") and not record.getMessage().startswith("[")
        ]
        return list(filter(is_counted, texts))

    def take_spans(self) -> list[str]:
        """Return the statements of OpenTelemetry's spans."""
        spans = self._spans.get_finished_spans()
        self._spans.clear()
        # A connection that is taken from the pool has a span too.
        texts = [
            str(span.attributes["db.statement"])
            for span in spans
            if span.attributes and "db.statement" in span.attributes
        ]
        return list(filter(is_counted, texts))

    def take_beside(self) -> list[str]:
        """Return what the logger tells that went to the driver directly."""
        return [
            record.getMessage()
            for record in self._caplog.records
            if record.name == "aredun.sql" and is_counted(record.getMessage())
        ]


def is_counted(text: str) -> bool:
    """Tell whether a statement is neither a transaction's nor of what sets a connection up."""
    return not TRANSACTION.match(text) and not SET_UP.match(text)


def clean(text: str) -> str:
    """Return a statement in one line; of a COPY its table, which is what the log names too."""
    if text.startswith("COPY "):
        return text.replace('"', "").partition("(")[0].strip()
    return " ".join(text.split()).rstrip(";")


def count_sent(texts: list[str], known: set[str]) -> Counter[str]:
    """Count statements by what is known of them: sqlite shows parameters in their places."""
    counter: Counter[str] = Counter()
    for text in map(clean, texts):
        if not is_counted(text):
            continue
        fitting = [each for each in known if text.startswith(each)]
        counter[max(fitting, key=len, default=text)] += 1
    return counter


def shorten(text: str, dialect: str) -> str:
    """Return what of a statement shows when it is executed."""
    return clean(text).partition("?")[0] if dialect == "sqlite" else clean(text)


async def record_one(backend: RedunBackendDb, number: int = 1) -> None:
    root = await start(backend)
    await record_call(backend, root, number)
    await backend.record_job_end(root)
    await backend.record_updated_time(root.execution.id)


async def record_hundred(backend: RedunBackendDb) -> None:
    root = await start(backend)
    await asyncio.gather(*(record_call(backend, root, number) for number in range(100, 200)))
    await backend.record_job_end(root, status="FAILED")


async def record_batch(backend: RedunBackendDb) -> None:
    async with backend.batch():
        root = await start(backend)
        await backend.update_tags("Job", root.id, ["step"], [("step", 1)])
        await backend.record_job_end(root)


async def read_caches(backend: RedunBackendDb) -> None:
    value_hash = await backend.record_value({"in": "cache"})
    stored = await asyncio.gather(*(backend.get_value(value_hash) for _ in range(50)))
    assert all(found == ({"in": "cache"}, True) for found in stored)
    await asyncio.gather(*(backend.get_eval_cache(str(number)) for number in range(50)))
    await backend.get_call_cache("missing")
    await backend.get_subtree_tasks("missing")


async def use_tags(backend: RedunBackendDb) -> None:
    value_hash = await backend.record_value("tagged")
    await backend.record_tags("Value", value_hash, [("a", 1), ("b", {"c": 2})])
    await backend.update_tags("Value", value_hash, ["a"], [("a", 2)])
    await backend.delete_tags(value_hash, [], ["b"])
    assert dict((await backend.get_tags([value_hash]))[value_hash]) == {"a": [2]}


async def use_handles(backend: RedunBackendDb) -> None:
    first = Handle("seen")
    second = first.fork("next")
    await backend.advance_handle([first], second)
    assert await backend.is_valid_handle(second)
    await backend.rollback_handle(first)


async def walk(backend: RedunBackendDb) -> None:
    async with backend.session() as session:
        hashes = list(await session.scalars(sa.select(CallNode.value_hash).order_by(CallNode.call_hash)))
    for value_hash in hashes[:5]:
        assert [edge async for edge in walk_dataflow(backend, ValueRef(value_hash))]
        _ = [edge async for edge in walk_downstream(backend, ValueRef(value_hash))]


async def query(backend: RedunBackendDb) -> None:
    asked = CallGraphQuery(backend)
    assert [record async for record in asked.order_by("time").page(0, 5)]
    assert [kind async for kind in asked.filter_types({"Job"}).count()]
    _ = [record async for record in asked.filter_tags([("a", 2)]).all()]
    _ = [row async for row in asked.filter_types({"Task"}).select("id", "type")]
    await infer_id(backend, "-")


async def export_and_import(backend: RedunBackendDb) -> None:
    execution = await infer_id(backend, "-")
    assert isinstance(execution, Execution)
    roots = [edge async for edge in backend.iter_record_ids([execution.id])]
    records = [record async for record in backend.get_records(roots)]
    assert await backend.put_records(records) == 0


async def verify(backend: RedunBackendDb) -> None:
    assert (await verify_repository(backend.database)).problems == []


async def watch(backend: RedunBackendDb) -> None:
    async with open_watch(backend.database) as opened:
        await opened.wait(0.01)
        await opened.wait(0.01)


async def switch_foreign_keys(backend: RedunBackendDb) -> None:
    await backend.database.set_foreign_keys(False)
    await backend.database.set_foreign_keys(True)


@pytest.fixture
def wire(
    dialect: str, empty_database_url: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> SqliteWire | PostgresWire:
    """What the database itself says of what was sent."""
    if dialect == "sqlite":
        return SqliteWire(empty_database_url.removeprefix("sqlite://"), monkeypatch)
    return PostgresWire(request.getfixturevalue("postgres"), empty_database_url)


@pytest.fixture
def observers_end() -> Iterator[None]:
    """Ends what OpenTelemetry's instrumentation, of which there is one in a process, has begun."""
    yield
    SQLAlchemyInstrumentor().uninstrument()


@dataclass
class Comparison:
    """What was sent, beside what those saw who listened."""

    dialect: str
    wire: SqliteWire | PostgresWire
    observers: Observers
    caplog: pytest.LogCaptureFixture
    copied: bool = False

    def compare(self, action: str) -> None:
        """Check what has been sent since the last time."""
        observers = self.observers
        sent, events = self.wire.take(), observers.take_events()
        beside = observers.take_beside()
        self.copied = self.copied or any(text.startswith("COPY ") for text in beside)
        texts = Counter(text for text, _ in events)
        assert Counter(observers.take_echo()) == texts, action
        assert Counter(observers.take_spans()) == texts, action
        told: Counter[str] = Counter()
        for text, rows in [*events, *((text, 1) for text in beside)]:
            told[shorten(text, self.dialect)] += rows
        assert count_sent(sent, set(told)) == told, action
        self.caplog.clear()
        if action == "watch":
            # Its connection is its own.
            return
        # A statement that is a transaction by itself has a "commit" too, which is not sent.
        begun, committed = (sum(text.startswith(word) for text in sent) for word in ("BEGIN", "COMMIT"))
        assert begun <= observers.transactions["begin"], action
        assert committed <= observers.transactions["commit"], action
        observers.transactions.clear()


@pytest.mark.usefixtures("observers_end")
async def test_every_statement_is_seen(
    dialect: str,
    empty_database_url: str,
    wire: SqliteWire | PostgresWire,
    shapes_path: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """From the first migration on: what is seen is what was sent, however it was sent."""
    caplog.set_level(logging.DEBUG, "aredun.sql")
    monkeypatch.setenv("REDUN_DB_ECHO", "1")
    backend = RedunBackendDb(empty_database_url, {"automigrate": "True"})
    observers = Observers(backend, caplog)
    monkeypatch.delenv("REDUN_DB_ECHO")
    comparison = Comparison(dialect, wire, observers, caplog)
    compare = comparison.compare

    async def sync(backend: RedunBackendDb) -> None:
        async with RedunBackendDb(f"sqlite:///{shapes_path}") as source:
            await sync_records(source, backend)

    actions: list[Action] = [
        record_hundred,
        record_batch,
        read_caches,
        use_tags,
        use_handles,
        sync,
        walk,
        query,
        export_and_import,
        verify,
        watch,
        switch_foreign_keys,
    ]
    late: list[str] = []
    async with backend:
        compare("migrate")
        await record_one(backend)
        compare("before anybody listens")
        # Who listens only now sees what goes on connections that are open already.
        event.listen(observers.engine, "before_cursor_execute", lambda *seen: late.append(seen[2]))
        await record_one(backend, 2)
        assert late == [text for text, _ in observers.seen] != []
        compare("late")
        for action in actions:
            await action(backend)
            compare(action.__name__)
    compare("close")
    assert comparison.copied == (dialect == "postgresql")


PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "see-the-sql.md"


@pytest.mark.parametrize("number", [0, 1])
def test_the_page_runs(number: int, tmp_path: Path) -> None:
    snippet = PAGE.read_text().split("```python\n")[1:][number].split("```")[0]
    done = subprocess.run(
        [sys.executable, "-c", snippet],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "INSERT INTO value" in done.stdout
    if number == 0:
        assert "1 x INSERT INTO value" in done.stdout
