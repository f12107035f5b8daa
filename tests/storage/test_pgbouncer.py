"""A pooler in transaction mode between aredun and PostgreSQL."""

from __future__ import annotations

import asyncio
import datetime as dt
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
import sqlalchemy as sa

from aredun.backend import RedunBackendDb
from aredun.errors import RedunDatabaseError
from aredun.models import Job
from aredun.scheduler import Scheduler
from aredun.storage.watch import open_watch
from aredun.sync import sync_records
from aredun.workflow.tasks import task
from tests.support.network import open_pgbouncer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from aredun.models import RedunSession
    from tests.support.databases import PostgresCluster

pytestmark = pytest.mark.parametrize("dialect", ["postgresql"], indirect=True)
POOLED = {"prepared_statements": "false"}
calls = 0


@pytest.fixture
async def pooled_uri(database_url: str, postgres: PostgresCluster) -> AsyncIterator[str]:
    """The URI of the database behind pgbouncer."""
    async with open_pgbouncer(postgres.socket_folder) as port:
        yield f"postgresql://postgres@127.0.0.1:{port}{urlsplit(database_url).path}?sslmode=disable"


@task(namespace="pgbouncer")
def double(number: int) -> int:
    global calls
    calls += 1
    return number * 2


@task(namespace="pgbouncer")
async def main() -> list[int]:
    return list(await asyncio.gather(*(double(number) for number in range(5))))


async def test_records_caches_syncs_and_watches(pooled_uri: str, tmp_path: Path) -> None:
    """A run, its repetition from the cache, a sync and a watch go through it."""
    global calls
    calls = 0
    async with RedunBackendDb(pooled_uri, config=POOLED) as backend, Scheduler(backend) as scheduler:
        began = dt.datetime.now(dt.UTC)
        assert await scheduler.run(main()) == [0, 2, 4, 6, 8]
        assert await scheduler.run(main()) == [0, 2, 4, 6, 8]
        assert calls == 5
        async with backend.database.session() as session:
            start = await session.get_one(Job, (await _list_jobs(session))[0])
            assert abs(start.start_time.replace(tzinfo=dt.UTC) - began) < dt.timedelta(minutes=10)
        async with RedunBackendDb(f"sqlite:///{tmp_path}/copy.db") as copy:
            await sync_records(backend, copy)
            async with backend.database.session() as one, copy.database.session() as other:
                assert await _list_jobs(one) == await _list_jobs(other)
        async with open_watch(backend.database) as watch, asyncio.timeout(10):
            assert await watch.wait(0.1)
            await scheduler.run(double(7))
            assert await watch.wait(0.1)


async def test_a_refused_parameter_is_told_at_once(pooled_uri: str, caplog: pytest.LogCaptureFixture) -> None:
    """It is not tried again, and the message names the setting."""
    with pytest.raises(RedunDatabaseError, match=r"redun\.version.*prepared_statements = false"):
        await RedunBackendDb(pooled_uri).load()
    with pytest.raises(RedunDatabaseError, match=r"statement_timeout.*ignore_startup_parameters"):
        await RedunBackendDb(pooled_uri, config={**POOLED, "statement_timeout": "5"}).load()
    assert not caplog.records


async def _list_jobs(session: RedunSession) -> list[str]:
    return list((await session.execute(sa.select(Job.id).order_by(Job.id))).scalars())
