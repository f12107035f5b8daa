"""Random call graphs as records: in any order, cut anywhere, broken off, damaged; all of it arrives, once."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from aredun.storage.rows import VALUE
from aredun.transfer.record_fields import ParsedRecord
from aredun.transfer.records import check, write
from aredun.transfer.records.check import parse_items
from aredun.transfer.records.spool import Spool
from aredun.transfer.records.write import count_records, put_records
from aredun.transfer.verify import verify_repository
from tests.support.record_graphs import Record, RecordGraph, interrupt
from tests.support.record_shapes import by_id, dispose, get_id, open_original
from tests.support.sessions import until_connections_return

if TYPE_CHECKING:
    from aredun.backend import RedunBackendDb
    from aredun.errors import InvalidRecordError

SIZES = ("WINDOW_SIZE", "FLUSH_SIZE", "READ_SIZE")
ORDER = ("Tag", "Value", "CallNode", "Execution", "Job")


async def read(backend: RedunBackendDb, records: list[Record]) -> list[Record]:
    """Return what the database has of the records."""
    return [record async for record in backend.get_records(map(get_id, records))]


async def check_sound(backend: RedunBackendDb) -> None:
    """Nothing is wrong, but that tags may wait for what they hang on."""
    problems = (await verify_repository(backend.database)).problems
    assert [problem for problem in problems if not problem.record.startswith("Tag")] == []


def shuffle(records: list[Record], random: Random) -> list[Record]:
    """Return the records in any order, and some of them again."""
    again = random.choices(records, k=random.randint(0, 9))
    return random.sample([*records, *again], len(records) + len(again))


@settings(
    max_examples=3,
    # Making an example smaller takes longer than a test may: the sizes are small as they are.
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(random=st.randoms(use_true_random=False), partly=st.booleans())
async def test_any_records_in_any_order(backend: RedunBackendDb, random: Random, partly: bool) -> None:
    records = RecordGraph(random).make()
    ids = {get_id(record) for record in records}
    with pytest.MonkeyPatch.context() as patch:
        for name in SIZES:
            patch.setattr(write, name, random.choice([1, 2, 3, 7, 50, 5000]))
        patch.setattr(check, "RECORDS_PER_PIECE", random.choice([1, 2, 3, 7, 50, 5000]))
        patch.setattr(write, "WINDOW_BYTES", random.choice([1, 100_000, 1 << 25]))
        batch_size = random.choice([1, 2, 5, 5000])
        present = set(await backend.has_records(ids))
        if partly:
            refused: list[InvalidRecordError] = []
            part = random.sample(interrupt(records, random), random.randint(0, len(records)))
            await put_records(backend.database, part, on_refused=refused.append, batch_size=batch_size)
            names = {str(error).split()[1] for error in refused}
            written = set(await backend.has_records(map(get_id, part)))
            assert written | names == {get_id(record) for record in part}
            await check_sound(backend)
        told: list[int] = []
        new = await put_records(
            backend.database,
            shuffle(records, random),
            batch_size=batch_size,
            on_written=lambda _, new: told.append(new),
        )
        assert sum(told) == new
        assert partly or new == len(ids - present)
        assert await put_records(backend.database, shuffle(records, random), batch_size=batch_size) == 0
    assert await read(backend, records) == records
    assert (await verify_repository(backend.database)).problems == []


async def test_round_trip_through_redun(backend: RedunBackendDb, tmp_path: Path) -> None:
    records = [record for seed in (23, 34) for record in RecordGraph(Random(seed)).make()]
    records = list(by_id(records).values())
    original = open_original(f"sqlite:///{tmp_path}/original.db")
    assert original.put_records(records) == len(records)
    returned = list(original.get_records([get_id(record) for record in records]))
    dispose(original)
    assert await backend.put_records(returned) == len(records)
    # redun tells the children of calls in no order, and those of a job only as far as they are in one batch.
    assert by_id(await read(backend, records)) == by_id(records)
    assert (await verify_repository(backend.database)).problems == []


def damage_call(seed: int) -> tuple[list[Record], Record, int]:
    """Return records, what is owned first, a call that no database takes, and the place of the good one."""
    records = RecordGraph(Random(seed)).make()
    records.sort(key=lambda record: (ORDER.index(record["_type"]), record.get("timestamp", "")))
    calls = [record for record in records if record["_type"] == "CallNode"]
    used = {child for record in calls for child in record["children"]}
    call = next(item.id for item in parse_items(calls, True)[0] if item.id in used)
    place = next(index for index, record in enumerate(records) if get_id(record) == call)
    return records, {**records[place], "task_name": "\ud800"}, place


@pytest.mark.parametrize("window_size", [4, 50_000])
async def test_what_was_refused_comes_again(
    backend: RedunBackendDb, window_size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What needed it has been put aside by then, and must neither be lost nor be refused."""
    monkeypatch.setattr(write, "READ_SIZE", 1)
    monkeypatch.setattr(write, "FLUSH_SIZE", 1)
    monkeypatch.setattr(write, "WINDOW_SIZE", window_size)
    records, bad, place = damage_call(23)
    refused: list[InvalidRecordError] = []
    stream = [*records[:place], bad, *records[place + 1 : place + 3], records[place], *records[place + 3 :]]
    await put_records(backend.database, stream, on_refused=refused.append)
    assert len(refused) == 1
    assert f"CallNode {get_id(bad)} was refused by the database" in str(refused[0])
    assert await read(backend, records) == records
    await check_sound(backend)


# By kind, a field that may hold any text, but none that is no Unicode.
TEXTS = {"CallNode": "task_name", "Value": "type", "Job": "execution_id", "Execution": "args", "Tag": "key"}


@pytest.mark.parametrize("seed", [17, 23])
async def test_nothing_is_left_out_without_a_word(
    backend: RedunBackendDb, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = Random(seed)
    for name in SIZES:
        monkeypatch.setattr(write, name, random.choice([1, 2, 7]))
    monkeypatch.setattr(check, "RECORDS_PER_PIECE", random.choice([1, 2, 7]))
    records = RecordGraph(random).make()
    bad = {get_id(record) for record in random.sample(records, 3)}
    stream = [
        {**record, TEXTS[record["_type"]]: "\ud800"} if get_id(record) in bad else record
        for record in shuffle(records, random)
    ]
    refused: list[InvalidRecordError] = []
    await put_records(backend.database, stream, on_refused=refused.append, batch_size=3)
    names = {str(error).split()[1] for error in refused}
    written = set(await backend.has_records(map(get_id, records)))
    assert bad <= names
    assert written | names == {get_id(record) for record in records}
    assert not written & names
    await check_sound(backend)
    await backend.put_records(records)
    assert await read(backend, records) == records


@pytest.mark.parametrize("field", ["id", "execution_id"])
async def test_text_that_is_no_unicode_waits_on_disk(
    backend: RedunBackendDb, field: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(write, "WINDOW_SIZE", 2)
    monkeypatch.setattr(write, "READ_SIZE", 2)
    monkeypatch.setattr(write, "FLUSH_SIZE", 2)
    records = RecordGraph(Random(23)).make()
    # It has a parent, and no children: nothing else needs it.
    job = next(record for record in records if record.get("parent_id") and not record["children"])
    others = [record for record in records if record is not job and record["_type"] != "Tag"]
    refused: list[InvalidRecordError] = []
    stream = [{**job, field: "\ud800"}, *reversed(others)]
    await put_records(backend.database, stream, on_refused=refused.append)
    assert len(refused) == 1
    assert "Job" in str(refused[0])
    assert len(await read(backend, others)) == len(others)


async def test_a_job_that_has_ended_since(backend: RedunBackendDb) -> None:
    """Two exports, one after the other, taken in at once."""
    records = RecordGraph(Random(23)).make()
    earlier = interrupt(records, Random(1))
    assert earlier != records
    assert await backend.put_records([*earlier, *records, *earlier]) == len(records)
    assert await read(backend, records) == records


async def test_a_count_is_what_an_import_does(backend: RedunBackendDb) -> None:
    records = RecordGraph(Random(23)).make()

    async def count() -> tuple[int, int]:
        refused: list[InvalidRecordError] = []
        new, known = await count_records(backend.database, records, refused.append)
        assert refused == []
        return new.total(), known

    assert await count() == (len(records), 0)
    await backend.put_records(interrupt(records, Random(1)))
    expected = await count()
    assert 0 < expected[0] < len(records)
    new = await backend.put_records(records)
    assert expected == (new, len(records) - new)
    assert await count() == (0, len(records))


async def test_inside_a_batch(backend: RedunBackendDb, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of what is in the batch can be read before its end, and it is needed all the same."""
    monkeypatch.setattr(write, "READ_SIZE", 3)
    monkeypatch.setattr(write, "FLUSH_SIZE", 3)
    records = RecordGraph(Random(23)).make()
    async with backend.batch():
        assert await backend.put_records(records) == len(records)
        assert await read(backend, records) == []
    assert await read(backend, records) == records
    await check_sound(backend)


async def test_large_values_beside_small_ones(backend: RedunBackendDb) -> None:
    values: list[Any] = [bytes([index]) * 600_000 for index in range(3)] + [b"", b"s", "\0", None]
    async with backend.batch():
        hashes = [await backend.record_value(value) for value in values]
    records = [record async for record in backend.get_records(hashes)]
    assert [await backend.get_value(each) for each in hashes] == [(value, True) for value in values]
    assert await put_records(backend.database, records) == 0


def is_of_records(task: asyncio.Task[Any]) -> bool:
    """Tell whether a task runs a function of `aredun.transfer.records`."""
    code = getattr(task.get_coro(), "cr_code", None)
    return code is not None and "records" in Path(code.co_filename).parts


@pytest.mark.parametrize("window_size", [3, 50_000])
async def test_cancelled_anywhere(
    backend: RedunBackendDb, window_size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(write, "WINDOW_SIZE", window_size)
    monkeypatch.setattr(write, "FLUSH_SIZE", 3)
    monkeypatch.setattr(write, "READ_SIZE", 2)
    random = Random(2)
    records = RecordGraph(Random(23)).make()
    before = asyncio.all_tasks()
    for turns in (2, 25):
        stream = shuffle(records, random)
        task = asyncio.create_task(put_records(backend.database, stream, batch_size=2))
        for _ in range(turns):
            await asyncio.sleep(0.0005)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        # Transactions may be shared: what is in the queue of the database is written.
        assert [task for task in asyncio.all_tasks() - before if is_of_records(task)] == []
        await until_connections_return(backend.database)
        await check_sound(backend)
    await put_records(backend.database, records)
    assert await read(backend, records) == records


def wait_for_lock(spool: Spool) -> None:
    while not spool._lock.locked():
        time.sleep(0.001)


async def test_a_spool_is_not_closed_while_a_thread_works_on_it() -> None:
    spool = Spool()
    rows = (VALUE.row(f"{number:040d}", "t", "f", b"x" * 500) for number in range(20_000))
    items = [ParsedRecord("Value", row) for row in rows]
    task = asyncio.create_task(asyncio.to_thread(spool.add, items))
    await asyncio.to_thread(wait_for_lock, spool)
    task.cancel()
    await asyncio.to_thread(spool.close)
    assert task.cancelled()
    assert spool.count == len(items)
