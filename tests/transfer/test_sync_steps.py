"""The parts of a sync: ids in short, lists of ids as one text, what is kept from the walk, and its pace."""

from __future__ import annotations

import asyncio
import time
import uuid
from base64 import b64decode, b64encode
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from aredun.backend import RedunBackendDb
from aredun.formats.hashing import hash_argument, hash_call_node, hash_struct, hash_tag_bytes
from aredun.loop import pacing
from aredun.loop.pacing import LEAST_BATCHES, keep_pace
from aredun.storage.record_rows import find_existing, insert_rows, select_rows, write_new
from aredun.sync import sync_records
from aredun.transfer.records.groups import GroupWriter
from aredun.transfer.records.packed_ids import IdSet, pack, pack_all, unpack_all
from aredun.transfer.records.read import iter_ahead
from aredun.transfer.sync import plan, source
from aredun.values import pickle_dumps
from tests.support.record_shapes import get_id

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from sqlalchemy.ext.asyncio import AsyncSession

    from aredun.transfer.records.groups import Group

_DIGITS = st.text("0123456789abcdef", min_size=40, max_size=40)
_IDS = st.one_of(_DIGITS, _DIGITS.map(str.upper), st.uuids().map(str), st.text(max_size=41))


@given(st.lists(_IDS) | st.lists(_DIGITS))
def test_ids_in_short(ids: list[str]) -> None:
    keys = pack_all(ids)
    assert keys == list(map(pack, ids))
    assert unpack_all(keys) == ids


@given(st.lists(_IDS), st.lists(_IDS))
def test_sets_of_ids(first: list[str], second: list[str]) -> None:
    keys = IdSet()
    keys.add_all(first)
    new = [each for each in dict.fromkeys(second) if each not in set(first)]
    assert keys.find_new(dict.fromkeys(second)) == new
    assert keys.add_all(second) == new
    assert keys.add_all(second) == []
    assert len(keys) == len({*first, *second})


_TEXTS = [
    "",
    " ",
    "NULL",
    "null",
    "{",
    "}",
    ",",
    '"',
    '""',
    "\\",
    '\\"',
    "a\nb",
    "\t",
    "'",
    "ä",
    "🐍",
    "{a,b}",
]


def _make_value(value_hash: str) -> dict[str, Any]:
    return {
        "_version": 1,
        "_type": "Value",
        "value_hash": value_hash,
        "type": "builtins.int",
        "format": "application/python-pickle",
        "data": "gANLAS4=",
        "subvalues": [],
        "subtype": None,
    }


async def test_lists_of_any_texts(backend: RedunBackendDb) -> None:
    """Whatever is in an id, it is found, and nothing else is."""
    there = _TEXTS[::2]
    await backend.put_records(map(_make_value, there), verify=False)
    statement = select_rows("value", "value_hash")
    for asked in (_TEXTS, _TEXTS[:1], _TEXTS[1:2], []):
        expected = set(asked) & set(there)
        assert await find_existing(backend.database, "value", "value_hash", asked) == expected
        rows = await backend.database.fetch(statement, {"ids": asked})
        assert {row[0] for row in rows} == expected
        # Those that are there already go in by arrays, and change nothing.
        assert await backend.put_records(map(_make_value, asked), verify=False) == len(
            set(asked) - set(there) if asked is _TEXTS else ()
        )
        there = [*there, *asked]


@pytest.mark.parametrize("dialect", ["postgresql"], indirect=True)
async def test_plans_of_growing_tables_are_not_kept(backend: RedunBackendDb) -> None:
    """PostgreSQL would go on reading all of a table that was small when it was first asked."""
    columns = (sa.column("statement", sa.String), sa.column("generic_plans", sa.Integer))
    kept = sa.select(*columns).select_from(sa.table("pg_prepared_statements"))
    # After five executions PostgreSQL would settle for a plan for all times.
    for _ in range(8):
        await backend.database.fetch(select_rows("job", "id"), {"ids": ["a"]})
    plans = [row[1] for row in await backend.database.fetch(kept, {}) if "FROM job" in row[0]]
    assert sum(plans) > 0
    for _ in range(8):
        await find_existing(backend.database, "call_node", "call_hash", ["a"])
    plans = [row[1] for row in await backend.database.fetch(kept, {}) if "FROM call_node" in row[0]]
    assert sum(plans) == 0


@pytest.mark.parametrize("dialect", ["postgresql"], indirect=True)
async def test_checks_of_foreign_keys_keep_their_plans(backend: RedunBackendDb) -> None:
    """They are statements, too: planned anew for each row they would take longer than the rows."""
    # All connections that the pool has are ones on which growing tables were asked.
    await asyncio.gather(*(find_existing(backend.database, "job", "id", ["a"]) for _ in range(20)))
    shown: list[str] = []

    async def operation(session: AsyncSession, all_new: bool) -> None:
        await insert_rows(session, {"value": [("a" * 40, "builtins.int", "x", b"1")]}, all_new=all_new)
        shown.append(await session.scalar(sa.text("SHOW plan_cache_mode")))

    await write_new(backend.database, operation)
    await backend.database.write(lambda session: operation(session, False))
    assert shown == ["auto", "auto"]
    await find_existing(backend.database, "job", "id", ["a"])


@pytest.fixture
async def shapes(shapes_path: Path) -> AsyncIterator[RedunBackendDb]:
    """aredun's backend on a repository of every shape."""
    async with RedunBackendDb(f"sqlite:///{shapes_path}") as opened:
        yield opened


async def _get_records(backend: RedunBackendDb) -> dict[str, dict[str, Any]]:
    ids = [record_id async for record_id in backend.iter_record_ids(await _get_executions(backend))]
    return {get_id(record): record async for record in backend.get_records(ids)}


async def _get_executions(backend: RedunBackendDb) -> list[str]:
    async with backend.session() as session:
        return list(await session.scalars(sa.text("SELECT id FROM execution")))


@pytest.mark.parametrize("kept", [0, 3, 24_000])
@pytest.mark.parametrize("workers", [1, 2, 4])
async def test_small_groups(
    shapes: RedunBackendDb,
    backend: RedunBackendDb,
    monkeypatch: pytest.MonkeyPatch,
    kept: int,
    workers: int,
) -> None:
    """One execution at a time, which needs calls of those before it, whatever was kept of the walk."""
    monkeypatch.setattr(plan, "GROUP_JOBS", 1)
    monkeypatch.setattr(plan, "FIRST_JOBS", 1)
    monkeypatch.setattr(plan, "STEP", 3)
    monkeypatch.setattr(source, "KEPT_RECORDS", kept)
    expected = await _get_records(shapes)
    report = await sync_records(shapes, backend, workers=workers, batch_size=4)
    assert (report.seen, report.written, report.refused) == (len(expected), len(expected), [])
    assert await _get_records(backend) == expected


async def _count_free(slots: asyncio.Semaphore) -> int:
    """Return how many slots can be had at once, and give them back."""
    taken = 0
    while not slots.locked():
        await slots.acquire()
        taken += 1
    for _ in range(taken):
        slots.release()
    return taken


async def test_a_late_loop_holds_batches_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pacing, "LOOK_SECONDS", 0.001)
    slots = asyncio.Semaphore(5)
    task = asyncio.create_task(keep_pace(slots, 5))
    try:
        await asyncio.sleep(0)
        assert await _count_free(slots) == LEAST_BATCHES
        deadline = time.monotonic() + 100
        while await _count_free(slots) < 5 and time.monotonic() < deadline:  # noqa: ASYNC110  # nobody tells
            await asyncio.sleep(0.002)
        assert await _count_free(slots) == 5
        while await _count_free(slots) > LEAST_BATCHES and time.monotonic() < deadline:
            time.sleep(0.01)  # noqa: ASYNC251  # what others on the loop should not do
            await asyncio.sleep(0)
        assert await _count_free(slots) == LEAST_BATCHES
    finally:
        task.cancel()


async def test_one_worker_is_never_held_back() -> None:
    slots = asyncio.Semaphore(1)
    task = asyncio.create_task(keep_pace(slots, 1))
    await asyncio.sleep(0.02)
    assert await _count_free(slots) == 1
    task.cancel()


@pytest.mark.parametrize("workers", [1, 2])
async def test_batches_share_slots(
    shapes: RedunBackendDb, backend: RedunBackendDb, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    """Whatever is copied side by side, no more batches are under way than there are workers."""
    running = most = 0
    write = GroupWriter.write

    async def count(self: GroupWriter, group: Group) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.002)
        await write(self, group)
        running -= 1

    monkeypatch.setattr(GroupWriter, "write", count)
    assert (await sync_records(shapes, backend, workers=workers, batch_size=2)).refused == []
    assert most == workers


async def _count(most: int) -> AsyncIterator[int]:
    for number in range(most):
        yield number


@pytest.mark.parametrize("width", [1, 2, 5])
async def test_steps_work_side_by_side_and_hand_on_in_order(width: int) -> None:
    events: list[tuple[str, int]] = []
    working: list[int] = []
    most = 0

    async def double(number: int) -> int:
        nonlocal most
        working.append(number)
        most = max(most, len(working))
        # The later ones are faster.
        await asyncio.sleep(0.003 - number / 10_000)
        working.remove(number)
        events.append(("double", number))
        return 2 * number

    async def note(number: int) -> int:
        events.append(("note", number))
        await asyncio.sleep(0.004)
        return number

    noted = [number async for number in iter_ahead(note, iter_ahead(double, _count(12), width - 1), 1)]
    assert noted == list(range(0, 24, 2))
    assert [number for name, number in events if name == "note"] == noted
    assert most == width
    assert events.index(("note", 2)) < events.index(("double", 11))


async def test_a_step_that_fails_ends_the_others() -> None:
    noted: list[int] = []

    async def fail(number: int) -> int:
        if number == 3:
            raise ValueError("no 3")
        return number

    async def note(number: int) -> None:
        noted.append(number)
        await asyncio.sleep(0.001)

    async def run() -> None:
        async with (
            aclosing(iter_ahead(fail, _count(100), 1)) as failing,
            aclosing(iter_ahead(note, failing, 1)) as noting,
        ):
            async for _ in noting:
                pass

    before = asyncio.all_tasks()
    with pytest.raises(ValueError, match="no 3"):
        await run()
    assert noted == [0, 1, 2]
    assert asyncio.all_tasks() == before


def _make_execution(number: int, task: str, argument: str, result: str) -> tuple[str, list[dict[str, Any]]]:
    """Return the hash of the arguments and the records of an execution of one call."""
    args_hash = hash_struct(["TaskArguments", [argument], {}])
    call_hash = hash_call_node(task, args_hash, result, [])
    execution, job = str(uuid.uuid4()), str(uuid.uuid4())
    start = f"2024-01-0{number} 00:00:00.000000"
    call = {
        "_version": 1,
        "_type": "CallNode",
        "call_hash": call_hash,
        "task_name": "steps.task",
        "task_hash": task,
        "args_hash": args_hash,
        "value_hash": result,
        "timestamp": start,
        "args": {
            "0": {
                "arg_hash": hash_argument(call_hash, 0, None, argument),
                "value_hash": argument,
                "upstream": [],
            }
        },
        "children": [],
    }
    record = {
        "_version": 1,
        "_type": "Job",
        "id": job,
        "start_time": start,
        "end_time": start,
        "task_hash": task,
        "cached": False,
        "status": "DONE",
        "call_hash": call_hash,
        "parent_id": None,
        "children": [],
        "execution_id": execution,
    }
    owner = {"_version": 1, "_type": "Execution", "id": execution, "args": "[]", "job_id": job}
    return args_hash, [call, owner, record]


async def test_a_cached_step_that_is_a_record_of_a_later_group_counts(
    backend: RedunBackendDb, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The newer execution's step is cached as what the older one returned: it goes in with the newer one."""
    monkeypatch.setattr(plan, "GROUP_JOBS", 1)
    monkeypatch.setattr(plan, "FIRST_JOBS", 1)
    task = _make_value(hash_struct(["Task", "steps.task", "source", "def task(): ..."]))
    task["type"] = "redun.Task"
    task["subtype"] = {"_type": "Task", "name": "task", "namespace": "steps", "source": "def task(): ..."}
    values = []
    for value in ("a", "b", "newer", "older"):
        data = pickle_dumps(value)
        record = {**_make_value(hash_tag_bytes("Value", data)), "type": "builtins.str"}
        values.append({**record, "data": b64encode(data).decode()})
    first, second, newer, older = (value["value_hash"] for value in values)
    args_hash, records = _make_execution(2, task["value_hash"], first, newer)
    _, more = _make_execution(1, task["value_hash"], second, older)
    async with RedunBackendDb(f"sqlite:///{tmp_path / 'source.db'}", {"automigrate": "true"}) as origin:
        await origin.put_records([task, *values, *records, *more])
        async with origin.session() as session:
            step = {"result": older, "args": args_hash}
            await session.execute(
                sa.text("UPDATE evaluation SET value_hash = :result WHERE args_hash = :args"), step
            )
            await session.commit()
        report = await sync_records(origin, backend)
    assert (report.seen, report.written, report.refused) == (11, 11, [])
    assert report.by_type == {"Value": 5, "CallNode": 2, "Job": 2, "Execution": 2}
    assert report.bytes == sum(len(b64decode(value["data"])) for value in [task, *values])
    assert report.done == report.seen
