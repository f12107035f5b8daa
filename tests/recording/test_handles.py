"""Handles: advanced and rolled back as redun does it, on redun's handles and on aredun's."""

from __future__ import annotations

import asyncio
import random
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from redun.handle import Handle as RedunHandle
from redun.value import get_type_registry as get_redun_registry

from aredun.models import Handle as HandleRow
from aredun.models import HandleEdge, Value
from aredun.recording.handles import (
    advance_handle,
    get_handles_to_record,
    get_valid_handles,
    is_valid_handle,
    mark_handles_recorded,
    rollback_handle,
)
from aredun.tables.column_types import insert_new
from aredun.values import Handle, get_type_registry
from tests.support.sessions import PlainDatabase, open_plain, redun_rows
from tests.support.twins import open_twin

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path


class TheirConnection(RedunHandle):  # type: ignore[misc]  # redun is not typed for mypy here
    """A handle as a workflow of redun's has it."""

    type_name = "lab.Connection"

    def __init__(self, name: str, host: str, namespace: str | None = None) -> None:
        self.instance = host


class OurConnection(Handle):
    """The same handle as a workflow of aredun's has it."""

    type_name = "lab.Connection"

    def __init__(self, name: str, host: str, namespace: str | None = None) -> None:
        self.instance = host


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[PlainDatabase]:
    """Plain sessions on the test's database."""
    async with open_plain(database_url) as plain:
        yield plain


@pytest.fixture
def twin(dialect: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    """redun on a database of its own, to do the same calls on."""
    with open_twin(dialect, request, tmp_path) as redun:
        yield redun


@pytest.fixture(params=["redun", "aredun"])
def our_class(request: pytest.FixtureRequest) -> Any:
    """The handles that aredun gets: redun's own or its own."""
    return TheirConnection if request.param == "redun" else OurConnection


async def advance(database: PlainDatabase, parents: list[Any], child: Any) -> None:
    """Record handles with their values in one transaction, as the backend does."""
    registry: Any = get_redun_registry() if isinstance(child, RedunHandle) else get_type_registry()
    handles = get_handles_to_record(parents, child)

    async def write(session: Any) -> None:
        rows = [
            {
                "value_hash": registry.get_hash(handle),
                "type": registry.get_type_name(type(handle)),
                "format": registry.get_serialization_format(handle),
                "value": registry.serialize(handle),
            }
            for handle in handles
        ]
        await session.execute(insert_new(Value), sorted(rows, key=lambda row: row["value_hash"]))
        await advance_handle(session, parents, child)

    await database.write(write)
    mark_handles_recorded(handles)


class Both:
    """Keeps the same handles twice and does every call on aredun and on redun."""

    def __init__(self, database: PlainDatabase, redun: Any, our_class: Any) -> None:
        self.database = database
        self.redun = redun
        self.our_class = our_class

    def new(self, name: str, host: str = "localhost", namespace: str = "lab") -> tuple[Any, Any]:
        arguments = (name, host)
        return (
            self.our_class(*arguments, namespace=namespace),
            TheirConnection(*arguments, namespace=namespace),
        )

    async def advance(self, parents: list[tuple[Any, Any]], child: tuple[Any, Any]) -> None:
        await advance(self.database, [parent[0] for parent in parents], child[0])
        self.redun.advance_handle([parent[1] for parent in parents], child[1])
        for ours, theirs in (*parents, child):
            assert ours.__handle__.hash == theirs.__handle__.hash
            assert ours.__handle__.is_recorded == theirs.__handle__.is_recorded
        await self.compare()

    async def rollback(self, handle: tuple[Any, Any]) -> None:
        await self.database.write(lambda session: rollback_handle(session, handle[0]))
        self.redun.rollback_handle(handle[1])
        self.redun.session.commit()
        await self.compare()

    async def valid(self, handle: tuple[Any, Any]) -> bool:
        ours = await self.database.read(lambda session: is_valid_handle(session, handle[0]))
        assert ours is bool(self.redun.is_valid_handle(handle[1]))
        return ours

    async def compare(self) -> None:
        for model in (HandleRow, HandleEdge):
            assert await self.database.rows(model) == redun_rows(self.redun, model.__tablename__)
        # The data names the class, which has to differ here.
        ours = {row[:3] for row in await self.database.rows(Value)}
        assert ours == {row[:3] for row in redun_rows(self.redun, "value")}


def fork(handle: tuple[Any, Any], key: str) -> tuple[Any, Any]:
    """Fork both handles."""
    return handle[0].fork(key), handle[1].fork(key)


def call(handle: tuple[Any, Any], name: str) -> tuple[Any, Any]:
    """Pass both handles through a call."""
    call_hash = f"{abs(hash(name)):040x}"
    return handle[0].apply_call(call_hash), handle[1].apply_call(call_hash)


@pytest.fixture
def both(database: PlainDatabase, twin: Any, our_class: Any) -> Both:
    """Both implementations, each on its own database."""
    return Both(database, twin, our_class)


async def test_a_chain(both: Both) -> None:
    first = both.new("db")
    assert not await both.valid(first)
    second, third = call(first, "two"), call(first, "three")
    await both.advance([first], second)
    await both.advance([second], third)
    await both.advance([second], third)
    assert [await both.valid(handle) for handle in (first, second, third)] == [True] * 3


async def test_rollback_invalidates_all_that_follows(both: Both) -> None:
    first = both.new("db")
    second, third = call(first, "two"), call(first, "three")
    await both.advance([first], second)
    await both.advance([second], third)
    await both.rollback(first)
    assert [await both.valid(handle) for handle in (first, second, third)] == [True, False, False]
    # Going on from there makes the new state, and what led to it, valid.
    other = call(first, "other")
    await both.advance([first], other)
    assert [await both.valid(handle) for handle in (first, second, other)] == [True, False, True]
    # So does reaching an invalid state once more.
    await both.advance([first], second)
    assert [await both.valid(handle) for handle in (second, third)] == [True, False]


async def test_unrecorded_forks_come_along(both: Both) -> None:
    first = both.new("db")
    forked = fork(fork(fork(first, "a"), "b"), "c")
    await both.advance([forked], call(forked, "end"))
    assert await both.valid(first)
    assert len(await both.database.rows(HandleRow)) == 5
    # A recorded handle does not bring its ancestors again.
    await both.rollback(first)
    again = fork(forked, "d")
    await both.advance([forked, again], call(again, "end2"))


async def test_several_parents_and_none(both: Both) -> None:
    first = both.new("db")
    left, right = fork(first, "left"), fork(first, "right")
    merged = call(left, "merge")
    await both.advance([left, right], merged)
    await both.advance([], both.new("alone"))
    await both.rollback(left)
    assert [await both.valid(handle) for handle in (left, right, merged)] == [True, True, False]


async def test_rollback_stays_within_the_full_name(both: Both) -> None:
    first = both.new("db")
    stranger = call(both.new("other"), "stranger")
    after = call(first, "after")
    await both.advance([first], stranger)
    await both.advance([stranger], after)
    await both.rollback(first)
    assert [await both.valid(handle) for handle in (stranger, after)] == [False, True]


async def test_rollback_of_what_is_not_recorded(both: Both) -> None:
    await both.rollback(both.new("nobody"))


async def test_a_circle_of_states_ends(both: Both) -> None:
    first = both.new("db")
    second = call(first, "two")
    await both.advance([first], second)
    await both.advance([second], first)
    await both.rollback(second)
    assert [await both.valid(handle) for handle in (first, second)] == [False, False]


@pytest.mark.parametrize("seed", range(2))
async def test_random_walks(both: Both, seed: int) -> None:
    chance = random.Random(seed)
    handles = [both.new(name, namespace=space) for name in ("db", "store") for space in ("lab", "")]
    for step in range(25):
        handle = chance.choice(handles)
        action = chance.random()
        if action < 0.3:
            handles.append(fork(handle, f"k{chance.randrange(3)}"))
        elif action < 0.8:
            parents = [handle, *chance.sample(handles, chance.randrange(2))]
            child = call(handle, f"call{chance.randrange(8)}")
            await both.advance(parents, child)
            handles.append(child)
        else:
            await both.rollback(handle)
        assert isinstance(await both.valid(chance.choice(handles)), bool), step


async def test_long_chains_are_followed_in_few_statements(database: PlainDatabase) -> None:
    first = OurConnection("db", "localhost")
    states = [first, *(first.apply_call(f"{index:040x}") for index in range(400))]

    async def write(session: Any) -> None:
        rows = [
            {"value_hash": state.__handle__.hash, "type": "lab.Connection", "format": "x", "value": b"x"}
            for state in states
        ]
        await session.execute(insert_new(Value), rows)
        for parent, child in pairwise(states):
            await advance_handle(session, [parent], child)

    await database.write(write)
    await database.write(lambda session: rollback_handle(session, states[100]))
    hashes = [state.__handle__.hash for state in states]
    valid = await database.read(lambda session: get_valid_handles(session, hashes))
    assert valid == set(hashes[:101])


async def test_concurrent_advances_and_rollbacks(database: PlainDatabase) -> None:
    """No deadlock, and no valid state hangs on a chain that was rolled back."""
    first = OurConnection("db", "localhost")
    second = first.apply_call("2" * 40)
    await advance(database, [first], second)
    thirds = [first.apply_call(f"{index:040x}") for index in range(12)]

    async def go_on(third: Any) -> None:
        await advance(database, [second], third)

    async def go_back() -> None:
        await database.write(lambda session: rollback_handle(session, first))

    async with asyncio.TaskGroup() as group:
        for third in thirds:
            group.create_task(go_on(third))
            group.create_task(go_back())
    hashes = [third.__handle__.hash for third in thirds]
    valid = await database.read(lambda session: get_valid_handles(session, hashes))
    if not await database.read(lambda session: is_valid_handle(session, second)):
        assert valid == set()
    await go_on(thirds[0])
    await go_back()
    assert await database.read(lambda session: get_valid_handles(session, hashes)) <= valid - {hashes[0]}
