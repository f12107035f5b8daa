"""Finding records by id prefixes, shorthands and file paths, against redun's own look-ups."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from redun.backends.db.query import find_file as original_find_file
from redun.backends.db.query import infer_id as original_infer_id

from aredun.backend import RedunBackendDb
from aredun.errors import UsageError
from aredun.models import Execution, Task
from aredun.query import CallGraphQuery
from aredun.search.identify import describe, find_file, find_use, infer_id, infer_specialty_id
from tests.support.databases import redun_uri

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from tests.support.call_graphs import RecordedRepository


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def repository(
    request: pytest.FixtureRequest, repositories: Callable[[str], RecordedRepository]
) -> RecordedRepository:
    """A repository that redun made, on either database."""
    return repositories(request.param)


@pytest.fixture
async def reader(repository: RecordedRepository) -> AsyncIterator[RedunBackendDb]:
    """aredun's backend on the repository."""
    async with RedunBackendDb(repository[0]) as backend:
        yield backend
        assert backend.database.checked_out == 0


@pytest.fixture
def session(repository: RecordedRepository) -> Iterator[Any]:
    """A session of redun's own on the repository."""
    from redun.backends.db import RedunBackendDb as OriginalBackend

    original = OriginalBackend(db_uri=redun_uri(repository[0]))
    original.load()
    yield original.session
    assert original.session is not None
    assert original.engine is not None
    original.session.close()
    original.engine.dispose()


async def test_whole_ids_are_found(repository: RecordedRepository, reader: RedunBackendDb) -> None:
    recorded = repository[1]
    for record_id in recorded.ids:
        found = await infer_id(reader, record_id, required=True)
        assert describe(found).split()[1] == record_id
    # A task and the value that stands for it have one hash; it is the task that is meant.
    assert all([isinstance(await infer_id(reader, key, required=True), Task) for key in recorded.tasks])


async def test_prefixes_find_what_redun_finds(
    repository: RecordedRepository, reader: RedunBackendDb, session: Any
) -> None:
    for record_id in repository[1].ids[::4]:
        prefix = record_id[:8]
        ours, theirs = await infer_id(reader, prefix), original_infer_id(session, prefix)
        assert type(ours).__name__ == type(theirs).__name__
        assert describe(ours).split()[1].startswith(prefix)


async def test_ambiguous_and_unknown_ids_are_told(
    repository: RecordedRepository, reader: RedunBackendDb
) -> None:
    recorded = repository[1]
    assert await infer_id(reader, "no-such-id") is None
    with pytest.raises(UsageError, match=r"no record has an id that begins with 'no-such-id'"):
        await infer_id(reader, "no-such-id", required=True)
    with pytest.raises(UsageError, match="id is empty"):
        await infer_id(reader, "")
    for text in ("\0", "x\udc80"):
        assert await infer_id(reader, text) is None
        assert await find_file(reader, text) is None
    letters = "0123456789abcdef"
    crowded = next(
        letter
        for letter in letters
        if sum(key.startswith(letter) for key in recorded.jobs + recorded.values) > 1
    )
    with pytest.raises(UsageError, match=rf"id '{crowded}' is ambiguous, it fits .* give more characters"):
        await infer_id(reader, crowded, required=True)
    assert await infer_id(reader, crowded) is not None


async def test_recent_executions(reader: RedunBackendDb) -> None:
    query = CallGraphQuery(reader).filter_types({"Execution"}).order_by("time")
    ids = [execution_id async for execution_id in query.select("id", flat=True)]
    newest = await infer_id(reader, "-")
    assert isinstance(newest, Execution)
    assert newest.id == ids[0]
    for index, execution_id in enumerate(ids, 1):
        execution = await infer_specialty_id(reader, f"~{index}")
        assert isinstance(execution, Execution)
        assert execution.id == execution_id
    with pytest.raises(UsageError, match="~1 is the newest"):
        await infer_id(reader, "~0")
    with pytest.raises(UsageError, match=f"index ~{len(ids) + 1}: there are not that many"):
        await infer_id(reader, f"~{len(ids) + 1}")
    assert await infer_specialty_id(reader, "~2x") is None


async def test_an_empty_repository_has_no_recent_execution(backend: RedunBackendDb) -> None:
    assert await infer_id(backend, "-") is None
    with pytest.raises(UsageError, match="not that many"):
        await infer_id(backend, "~1")
    assert await find_file(backend, "x") is None
    assert await CallGraphQuery(backend).first() is None


async def test_files_are_found_as_redun_finds_them(
    repository: RecordedRepository, reader: RedunBackendDb, session: Any
) -> None:
    folder = repository[2]
    for name, kind in (("part_0.txt", "result"), ("part_1.txt", "result"), ("input%.txt", "arg")):
        path = str(folder / name)
        found = await find_file(reader, path)
        expected = original_find_file(session, path)
        assert found is not None
        assert expected is not None
        file, job, use = found
        assert (file.value_hash, file.path, job.id, use) == (
            expected[0].value_hash,
            path,
            expected[1].id,
            kind,
        )
        assert expected[2] == kind
        by_id = await infer_id(reader, path)
        assert isinstance(by_id, tuple)
        assert (by_id[0].value_hash, by_id[1].id) == (file.value_hash, job.id)
        assert await infer_id(reader, path, include_files=False) is None
    assert await find_file(reader, str(folder / "other.txt")) is None


async def test_a_file_is_told_by_the_job_that_made_it_first(
    repository: RecordedRepository, reader: RedunBackendDb
) -> None:
    path = str(repository[2] / "part_0.txt")
    found = await find_file(reader, path)
    assert found is not None
    made = await find_use(reader, found[0].value_hash)
    assert made is not None
    assert made[1] == "result"
    assert made[0].task.fullname == "files.write"
    assert made[0].status == "DONE"
    assert made[0].end_time is not None
    assert found[1].end_time is not None
    assert made[0].end_time <= found[1].end_time
    taken = await find_file(reader, str(repository[2] / "input%.txt"))
    assert taken is not None
    use = await find_use(reader, taken[0].value_hash)
    assert use is not None
    assert use[1] == "arg"
    assert await find_use(reader, "0" * 40) is None
