"""Records that are made of rows: what the ORM would have loaded, in as few statements as there can be."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.orm.exc import DetachedInstanceError

from aredun.backend import RedunBackendDb
from aredun.models import CallNode, Execution, File, Job, Task, Value
from aredun.query import CallGraphQuery, find_file

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from tests.support.call_graphs import RecordedRepository

pytestmark = pytest.mark.parametrize("dialect", ["sqlite", "postgresql"])


@pytest.fixture
async def reader(
    dialect: str, repositories: Callable[[str], RecordedRepository]
) -> AsyncIterator[RedunBackendDb]:
    """aredun's backend on a repository of redun's with every kind of record."""
    async with RedunBackendDb(repositories(dialect)[0]) as backend:
        yield backend


async def test_records_hold_what_a_session_would_load(reader: RedunBackendDb) -> None:
    seen = set()
    async with reader.database.session() as session:
        async for record in CallGraphQuery(reader).with_values().all():
            state: Any = sa.inspect(record)
            loaded: Any = await session.get(type(record), state.identity[0])
            assert state.detached
            assert state.identity_key == sa.inspect(loaded).identity_key
            for column in state.mapper.column_attrs:
                assert getattr(record, column.key) == getattr(loaded, column.key)
            seen.add(type(record))
    assert seen == {Execution, Job, CallNode, Task, Value}


async def test_what_was_not_read_raises(reader: RedunBackendDb) -> None:
    query = CallGraphQuery(reader)
    value = await query.filter_types({"Value"}).first()
    job = await query.filter_types({"Job"}).first()
    execution = await query.filter_types({"Execution"}).first()
    node = await query.filter_types({"CallNode"}).first()
    assert value is not None
    assert job is not None
    assert node is not None
    assert execution is not None
    assert execution.job is not None
    with pytest.raises(DetachedInstanceError):
        assert value.value
    for task in (job.task, execution.job.task, node.task):
        assert task.fullname
        with pytest.raises(DetachedInstanceError):
            assert task.source
    with pytest.raises(InvalidRequestError):
        assert job.child_jobs
    with pytest.raises(InvalidRequestError):
        assert execution.jobs


async def test_records_may_go_back_into_a_session(reader: RedunBackendDb) -> None:
    value = await CallGraphQuery(reader).filter_types({"Value"}).first()
    assert value
    async with reader.database.session() as session:
        session.add(value)
        assert value not in session.dirty
        await session.refresh(value, ["value"])
        assert isinstance(value.value, bytes)


async def test_look_ups_take_one_statement_a_step(reader: RedunBackendDb) -> None:
    query = CallGraphQuery(reader)
    jobs = query.filter_types({"Job"})
    job = await jobs.first()
    async with reader.database.session() as session:
        result = (await session.scalars(sa.select(CallNode.value_hash).join(Job).limit(1))).one()
        made = sa.select(File.path).join(CallNode, CallNode.value_hash == File.value_hash)
        path = await session.scalar(made.join(Job, Job.call_hash == CallNode.call_hash).limit(1))
    assert path is not None
    assert job is not None

    async def list_jobs() -> None:
        assert [job async for job in jobs.order_by("time").limit(50)]

    async def find_result() -> None:
        use = await find_file(reader, path)
        assert use is not None
        assert (use[0].path, use[2]) == (path, "result")

    questions: list[tuple[int, Callable[[], Awaitable[Any]]]] = [
        (1, list_jobs),
        (1, jobs.filter_ids([job.id, "none"]).first),
        # How many there are, which, and the records.
        (3, jobs.filter_results([result]).first),
        (1, find_result),
    ]
    for most, ask in questions:
        before = reader.database.counts.statements
        await ask()
        assert reader.database.counts.statements - before <= most
