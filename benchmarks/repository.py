"""Makes a repository of any number of jobs by bulk insert, for benchmarks and tests of scale.

    python -m benchmarks.repository sqlite:///big.db --jobs 1000000 --executions 200

Every execution is a root job, one job per sample below it, and the sample's steps below that. Each call has
a result and an argument of its own and takes the reference file too; every seventh result is a file, and a
sample's result is the list of its files. Some calls failed, some came from the cache, one execution is
under way and one was abandoned.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import io
import json
import pickle
import sqlite3
import time
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import psycopg2

from aredun.backend import RedunBackendDb
from aredun.values import MIME_TYPE_PICKLE, File, pickle_dumps

if TYPE_CHECKING:
    from collections.abc import Iterator

STEPS = ("trim", "align", "sort_reads", "mark_duplicates", "call_variants", "annotate", "report")
STEPS_PER_SAMPLE = 49
USERS = ("Ada", "Grace", "Barbara", "Katherine", "Mary")
REFERENCE = "/data/reference/genome.fa"
PLACE = "/data/@@@@@@/part_@@@@@@@@.bam"
COLUMNS = {
    "task": ("hash", "name", "namespace", "source"),
    "value": ("value_hash", "type", "format", "value"),
    "file": ("value_hash", "path"),
    "subvalue": ("value_hash", "parent_value_hash"),
    "call_node": ("call_hash", "task_name", "task_hash", "args_hash", "value_hash", "timestamp"),
    "argument": ("arg_hash", "call_hash", "value_hash", "arg_position", "arg_key"),
    "call_edge": ("parent_id", "child_id", "call_order"),
    "execution": ("id", "args", "updated_time", "job_id"),
    "job": (
        "id", "start_time", "end_time", "task_hash", "cached", "call_hash", "parent_id", "execution_id",
    ),
    "tag": ("tag_hash", "entity_type", "entity_id", "key", "value", "is_current"),
}  # fmt: skip

Row = tuple[Any, ...]
Rows = dict[str, list[Row]]


def make_hash(*parts: object) -> str:
    """Return 40 hexadecimal digits that stand for the parts."""
    return hashlib.sha1(":".join(map(str, parts)).encode()).hexdigest()


def make_uuid(*parts: object) -> str:
    """Return a UUID that stands for the parts."""
    digits = hashlib.md5(":".join(map(str, parts)).encode()).hexdigest()
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-a{digits[17:20]}-{digits[20:]}"


@dataclass
class Shape:
    """How large the repository is to be.

    Attributes
    ----------
    jobs, executions : int
        Totals.
    now : datetime
        When the newest execution started.
    largest : int
        Jobs of the first execution; the others share the rest equally. 0 for an equal share.
    """

    jobs: int
    executions: int
    now: datetime
    largest: int = 0

    def count_jobs(self, execution: int) -> int:
        """Return how many jobs an execution has."""
        if not self.largest:
            return max(self.jobs // self.executions, 1)
        return self.largest if execution == 0 else max((self.jobs - self.largest) // (self.executions - 1), 1)


class Generator:
    """Yields the rows of a repository, one execution at a time, parents before what refers to them."""

    def __init__(self, shape: Shape) -> None:
        self.shape = shape
        self._file_data = pickle_dumps(File(PLACE))
        self.reference = make_hash("value", "reference")

    def get_task_hash(self, name: str, execution: int) -> str:
        """Return the hash of a task's version at the time of an execution."""
        return make_hash("task", name, execution // 50)

    def make_shared_rows(self) -> Rows:
        """Return the tasks and the reference file."""
        rows: Rows = {name: [] for name in COLUMNS}
        for version in range((self.shape.executions - 1) // 50 + 1):
            for name in ("main", "sample", *STEPS):
                key = self.get_task_hash(name, version * 50)
                source = (
                    f"def {name}(item, reference):\n    return run({name!r}, item, reference, {version})\n"
                )
                rows["task"].append((key, name, "pipeline", source))
                rows["value"].append((key, "redun.Task", MIME_TYPE_PICKLE, pickle.dumps(name, 3)))
        data = pickle_dumps(File(REFERENCE))
        rows["value"].append((self.reference, "redun.File", MIME_TYPE_PICKLE, data))
        rows["file"].append((self.reference, REFERENCE))
        return rows

    def iter_executions(self) -> Iterator[Rows]:
        """Yield the rows of each execution, oldest first."""
        for execution in range(self.shape.executions):
            yield self._make_execution(execution)

    def _make_execution(self, execution: int) -> Rows:
        rows: Rows = {name: [] for name in COLUMNS}
        count = self.shape.count_jobs(execution)
        age = timedelta(hours=3 * (self.shape.executions - 1 - execution))
        start = self.shape.now - age
        self._add_job(rows, execution, 0, "main", None, start)
        parent, order = 0, 0
        for number in range(1, count):
            at = start + timedelta(milliseconds=number)
            if (number - 1) % (STEPS_PER_SAMPLE + 1) == 0:
                parent = number
                self._add_job(rows, execution, number, "sample", 0, at, number // (STEPS_PER_SAMPLE + 1))
            else:
                order = number - parent - 1
                self._add_job(rows, execution, number, STEPS[order % len(STEPS)], parent, at, order)
        # The last execution is under way; the one before it was killed without a word.
        beat = (
            start + timedelta(seconds=count / 1000)
            if execution < self.shape.executions - 1
            else self.shape.now
        )
        key, job = make_uuid("execution", execution), make_uuid("job", execution, 0)
        arguments = json.dumps(["redun", "run", "pipeline.py", "main", "--run", str(execution)])
        rows["execution"].append((key, arguments, beat, job))
        project = json.dumps(f"project_{execution % 10}")
        user = json.dumps(f"{USERS[execution % len(USERS)]} {execution // 40}")
        for tag, value in (("project", project), ("run", str(execution)), ("user", user)):
            rows["tag"].append((make_hash("tag", tag, execution), "Execution", key, tag, value, True))
        return rows

    def _add_job(
        self,
        rows: Rows,
        execution: int,
        number: int,
        name: str,
        parent: int | None,
        start: datetime,
        order: int = 0,
    ) -> None:
        task = self.get_task_hash(name, execution)
        is_open = execution >= self.shape.executions - 2 and (
            name == "main" or (name == "sample" and number > 50)
        )
        is_cached = name in STEPS and self._is_taken_from_cache(execution, number)
        # A cached job led to the call of the first execution with the same version of the task.
        origin = execution - execution % 50 if is_cached else execution
        call = make_hash("call", origin, number)
        end = None if is_open else start + timedelta(seconds=1 + number % 60)
        job_id = make_uuid("job", execution, number)
        parent_id = None if parent is None else make_uuid("job", execution, parent)
        execution_id = make_uuid("execution", execution)
        call_hash = None if is_open else call
        rows["job"].append((job_id, start, end, task, is_cached, call_hash, parent_id, execution_id))
        if number % 500 == 7:
            tag = ("batch", json.dumps(number % 7))
            rows["tag"].append((make_hash("tag", "job", execution, number), "Job", job_id, *tag, True))
        if is_open or is_cached:
            return
        result = self._add_result(rows, execution, number, name)
        rows["call_node"].append(
            (call, f"pipeline.{name}", task, make_hash("args", execution, number), result, end)
        )
        argument = make_hash("value", "argument", execution, number)
        item = execution * 1_000_000 + number
        rows["value"].append((argument, "builtins.int", MIME_TYPE_PICKLE, pickle.dumps(item, 3)))
        for position, value in ((0, argument), (1, self.reference)):
            rows["argument"].append((make_hash("argument", call, position), call, value, position, None))
        if parent is not None and not self._is_open_parent(execution, parent):
            rows["call_edge"].append((make_hash("call", execution, parent), call, order))

    def _is_open_parent(self, execution: int, number: int) -> bool:
        return execution >= self.shape.executions - 2 and (number == 0 or number > 50)

    def _add_result(self, rows: Rows, execution: int, number: int, name: str) -> str:
        result = make_hash("value", "result", execution, number)
        if name == "sample":
            rows["value"].append((result, "builtins.list", MIME_TYPE_PICKLE, pickle.dumps([number], 3)))
            first = number + len(STEPS) - (number % len(STEPS))
            last = min(number + STEPS_PER_SAMPLE, self.shape.count_jobs(execution) - 1)
            for child in range(first, last + 1, len(STEPS)):
                if not self._is_taken_from_cache(execution, child):
                    rows["subvalue"].append((make_hash("value", "result", execution, child), result))
        elif name != "main" and number % len(STEPS) == 0:
            path = f"/data/{execution:06}/part_{number:08}.bam"
            data = self._file_data.replace(PLACE.encode(), path.encode())
            rows["value"].append((result, "redun.File", MIME_TYPE_PICKLE, data))
            rows["file"].append((result, path))
        elif number % 97 == 5:
            rows["value"].append((result, "redun.ErrorValue", MIME_TYPE_PICKLE, pickle.dumps("error", 3)))
        else:
            kind = "builtins.str" if number % 3 else "builtins.float"
            data = pickle.dumps(f"result {number}" if number % 3 else number / 3, 3)
            rows["value"].append((result, kind, MIME_TYPE_PICKLE, data))
        return result

    def _is_taken_from_cache(self, execution: int, number: int) -> bool:
        return execution % 50 > 0 and number % 10 == 3


def write_sqlite(path: str, generator: Generator) -> None:
    """Fill a migrated sqlite file; its indexes are made again when all rows are in."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        execute = connection.execute
        for pragma in ("foreign_keys=OFF", "synchronous=OFF", "journal_mode=OFF", "cache_size=-400000"):
            execute(f"PRAGMA {pragma}")
        indexes = execute(
            "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL"
        ).fetchall()
        for name, _ in indexes:
            execute(f'DROP INDEX "{name}"')
        execute("BEGIN")
        for rows in _iter_all(generator):
            for table, items in rows.items():
                columns = ", ".join(COLUMNS[table])
                marks = ", ".join("?" * len(COLUMNS[table]))
                insert = f"INSERT INTO {table} ({columns}) VALUES ({marks})"
                connection.executemany(insert, sorted(map(_to_sqlite, items), key=_get_key))
        execute("COMMIT")
        for _, statement in indexes:
            execute(statement)


def _iter_all(generator: Generator) -> Iterator[Rows]:
    yield generator.make_shared_rows()
    yield from generator.iter_executions()


def _get_key(row: Any) -> str:
    return str(row[0])


def _to_sqlite(row: Row) -> Row:
    return tuple(
        value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f") if isinstance(value, datetime) else value
        for value in row
    )


def write_postgres(url: str, generator: Generator) -> None:
    """Fill a migrated PostgreSQL database with COPY; its indexes are made again when all rows are in."""
    with closing(psycopg2.connect(url)) as connection:
        connection.autocommit = True
        cursor = connection.cursor()
        cursor.execute("SET session_replication_role = replica")
        cursor.execute("SET maintenance_work_mem = '512MB'")
        cursor.execute(
            "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = current_schema()"
            " AND indexname NOT IN (SELECT conname FROM pg_constraint) AND tablename = ANY(%s)",
            (list(COLUMNS),),
        )
        indexes = cursor.fetchall()
        for name, _ in indexes:
            cursor.execute(f'DROP INDEX "{name}"')
        for rows in _iter_all(generator):
            for table, items in rows.items():
                if items:
                    columns = ", ".join(COLUMNS[table])
                    text = io.StringIO("".join(map(_to_copy, items)))
                    cursor.copy_expert(f"COPY {table} ({columns}) FROM STDIN", text)
        for _, statement in indexes:
            cursor.execute(statement)
        cursor.execute("ANALYZE")


def _to_copy(row: Row) -> str:
    return "\t".join(map(_escape, row)) + "\n"


def _escape(value: Any) -> str:
    if value is None:
        return r"\N"
    if isinstance(value, bytes):
        return r"\\x" + value.hex()
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, bool):
        return "t" if value else "f"
    return str(value).replace("\\", "\\\\").replace("\n", "\\n").replace("\t", "\\t")


async def migrate(url: str) -> None:
    """Create the schema in an empty database."""
    backend = RedunBackendDb(url)
    await backend.load(migrate=True)
    await backend.close()


def make_big_repository(url: str, jobs: int, executions: int, largest: int = 0) -> Generator:
    """Make a repository in the empty database at `url` and return the generator, which knows its ids."""
    asyncio.run(migrate(url))
    generator = Generator(Shape(jobs, executions, datetime.now(UTC), largest))
    if url.startswith("sqlite"):
        write_sqlite(url.split(":///", 1)[1], generator)
    else:
        write_postgres(url, generator)
    return generator


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("url", help="an empty database: sqlite:///path or postgresql://host/name")
    parser.add_argument("--jobs", type=int, default=1_000_000)
    parser.add_argument("--executions", type=int, default=200)
    args = parser.parse_args()
    began = time.perf_counter()
    make_big_repository(args.url, args.jobs, args.executions)
    print(f"{args.jobs:,} jobs in {args.executions} executions: {time.perf_counter() - began:.1f} s")


if __name__ == "__main__":
    main()
