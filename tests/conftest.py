"""Fixtures shared by every test: fresh databases on both engines, and the two backends on them."""

from __future__ import annotations

import asyncio
import copyreg
import functools
import gc
import itertools
import os
import shutil
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings

from tests.support.databases import PostgresCluster, redun_uri
from tests.support.scratch import find_scratch_folder
from tests.support.sessions import until_connections_return

# Tests whose leftovers are put aside together.
TESTS_BETWEEN = 25
_ended = itertools.count(1)
# How long an example takes says how busy the machine is; what hangs meets the timeout of its test.
settings.register_profile("aredun", deadline=None)
settings.load_profile("aredun")

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

    from aredun.backend import RedunBackendDb
    from aredun.scheduler import Scheduler
    from tests.support.call_graphs import RecordedRepository


def pytest_configure() -> None:
    """Have pytest make its folders of tests where the databases are quick."""
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(find_scratch_folder()))


def pytest_collection_finish() -> None:
    """Leave what all tests import to no collection of garbage: looking at it took a twelfth of the run."""
    _leave_to_no_collection()


def pytest_runtest_logfinish() -> None:
    """Do the same with what the tests so far have left: a collection took more than a second at the end."""
    if next(_ended) % TESTS_BETWEEN == 0:
        _leave_to_no_collection()


def _leave_to_no_collection() -> None:
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _errors_as_in_a_process_of_their_own() -> None:
    """Undo what dask does when it is imported: redun, too, would store errors with their tracebacks."""
    for kind, reduce in [*copyreg.dispatch_table.items()]:
        if getattr(reduce, "__module__", "").startswith("tblib"):
            del copyreg.dispatch_table[kind]


def _migrate(url: str) -> None:
    from aredun.backend import RedunBackendDb

    async def load() -> None:
        backend = RedunBackendDb(url)
        await backend.load(migrate=True)
        await backend.close()

    asyncio.run(load())


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresCluster]:
    """A PostgreSQL server of this run's own."""
    cluster = PostgresCluster(find_scratch_folder())
    yield cluster
    cluster.close()


@pytest.fixture(scope="session")
def postgres_template(postgres: PostgresCluster) -> str:
    """The name of a migrated database to clone."""
    name = postgres.create_database()
    _migrate(postgres.url(name))
    return name


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated sqlite file to copy."""
    path: Path = tmp_path_factory.mktemp("template") / "redun.db"
    _migrate(f"sqlite:///{path}")
    return path


@pytest.fixture(scope="session")
def shapes_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sqlite file of a repository that real redun made, with records of every shape; only to be read."""
    from tests.support.record_shapes import dispose, make_shapes, open_original

    path: Path = tmp_path_factory.mktemp("shapes") / "redun.db"
    original = open_original(f"sqlite:///{path}")
    make_shapes(original, path.parent / "files")
    dispose(original)
    return path


@pytest.fixture(scope="session")
def repositories(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], RecordedRepository]:
    """Gives, by dialect, a repository that real redun made with all kinds of records; only to be read."""
    from tests.support.call_graphs import make_repository

    @functools.cache
    def make(dialect: str) -> RecordedRepository:
        folder = tmp_path_factory.mktemp(dialect)
        if dialect == "sqlite":
            url = f"sqlite:///{folder / 'redun.db'}"
        else:
            cluster: PostgresCluster = request.getfixturevalue("postgres")
            url = cluster.url(cluster.create_database())
        return url, make_repository(url, folder), folder

    return make


@pytest.fixture(params=["sqlite", "postgresql"])
def dialect(request: pytest.FixtureRequest) -> str:
    """The database that the test runs on."""
    return str(request.param)


@pytest.fixture
def empty_database_url(dialect: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A database without any table."""
    if dialect == "sqlite":
        yield f"sqlite:///{tmp_path / 'empty.db'}"
        return
    cluster: PostgresCluster = request.getfixturevalue("postgres")
    name = cluster.create_database()
    yield cluster.url(name)
    cluster.drop_database(name)


@pytest.fixture
def make_empty_database(
    dialect: str, request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[Callable[[], str]]:
    """Makes databases without any table, as many as a test compares."""
    made: list[str] = []

    def make() -> str:
        if dialect == "sqlite":
            made.append(str(tmp_path / f"empty{len(made)}.db"))
            return f"sqlite:///{made[-1]}"
        cluster: PostgresCluster = request.getfixturevalue("postgres")
        made.append(cluster.create_database())
        return cluster.url(made[-1])

    yield make
    if dialect == "postgresql":
        for name in made:
            request.getfixturevalue("postgres").drop_database(name)


@pytest.fixture
def database_url(dialect: str, request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A migrated database without any row of work."""
    if dialect == "sqlite":
        path = tmp_path / "redun.db"
        shutil.copyfile(request.getfixturevalue("sqlite_template"), path)
        return f"sqlite:///{path}"
    url: str = request.getfixturevalue("postgres_url")
    return url


@pytest.fixture
def postgres_url(postgres: PostgresCluster, postgres_template: str) -> Iterator[str]:
    """A migrated database of PostgreSQL."""
    name = postgres.create_database(postgres_template)
    yield postgres.url(name)
    postgres.drop_database(name)


@pytest.fixture
async def backend(database_url: str) -> AsyncIterator[RedunBackendDb]:
    """aredun's backend on `database_url`; at the end no connection may be checked out."""
    from aredun.backend import RedunBackendDb

    backend = RedunBackendDb(database_url)
    await backend.load()
    yield backend
    await until_connections_return(backend.database)
    await backend.close()


@pytest.fixture
def redun_backend(database_url: str) -> Iterator[Any]:
    """redun's own backend on the same `database_url`."""
    from redun.backends.db import RedunBackendDb as OriginalBackend

    original = OriginalBackend(db_uri=redun_uri(database_url))
    original.load()
    yield original
    original.session.close()
    original.engine.dispose()


@pytest.fixture
async def scheduler(backend: RedunBackendDb) -> AsyncIterator[Scheduler]:
    """An open scheduler on `backend`."""
    from aredun.scheduler import Scheduler

    async with Scheduler(backend) as scheduler:
        yield scheduler


@pytest.fixture
async def copied(shapes_path: Path, backend: RedunBackendDb) -> RedunBackendDb:
    """The repository, synced into a fresh database."""
    from aredun.backend import RedunBackendDb
    from aredun.sync import sync_records

    async with RedunBackendDb(f"sqlite:///{shapes_path}") as source:
        await sync_records(source, backend)
    return backend


@pytest.fixture
async def original(shapes_path: Path, tmp_path: Path) -> AsyncIterator[RedunBackendDb]:
    """redun's own file, copied, to damage where PostgreSQL would refuse."""
    from aredun.backend import RedunBackendDb

    shutil.copyfile(shapes_path, tmp_path / "copy.db")
    async with RedunBackendDb(f"sqlite:///{tmp_path}/copy.db") as backend:
        yield backend
