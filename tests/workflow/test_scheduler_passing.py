"""What is recorded of a call is what it was given and what it returned, whatever becomes of that later."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import pytest

from aredun import File, RedunBackendDb, Scheduler, task
from aredun.formats.hashing import hash_arguments
from aredun.models import Argument, CallNode, Evaluation
from aredun.values import get_type_registry
from tests.support.scheduling import select

redun_namespace = "passing"


class Box:
    """An object that functions change."""

    def __init__(self, items: list[int]) -> None:
        self.items = items


class Slow(Box):
    """A box that another thread changes while it is pickled, if it can."""

    is_watched = False
    is_changed = threading.Event()

    def __getstate__(self) -> dict[str, Any]:
        if Slow.is_watched:
            Slow.is_watched = False
            Slow.is_changed.wait(0.2)
        return dict(self.__dict__)


@dataclass
class Region:
    """A dataclass that functions change."""

    start: int


@task()
def use_up(box: Any) -> int:
    """Take all items out of what it is given."""
    total = 0
    while box.items:
        total += box.items.pop()
    Slow.is_changed.set()
    return total


@task()
def use_up_and_fail(boxes: list[Box], *, more: Any) -> None:
    """Take an item out of the first box, change the others, and fail."""
    boxes[0].items.pop()
    more["region"].start += 1000
    more["order"]["b"] = 2
    raise ValueError("used up")


@task()
def fill(items: list[int]) -> Box:
    """Return a new box."""
    return Box(items)


@task()
def count(items: list[int]) -> int:
    """Count items."""
    return len(items)


@task()
def get_list() -> list[int]:
    """Return a list."""
    return [1, 2]


@task()
async def change_results() -> list[int]:
    """Change what calls returned, and use the calls again."""
    box = await fill([5])
    box.items.clear()
    (await get_list()).append(3)
    return [*await get_list(), await count(get_list())]


@task()
def nest_calls(box: Box) -> list[Any]:
    """Return calls that change what they are given."""
    Slow.is_changed.clear()
    Slow.is_watched = True
    return [use_up(box), box]


async def get_arguments(backend: RedunBackendDb, task_name: str) -> list[Any]:
    """Return the recorded arguments of a task's only call, once all its hashes have been found to agree."""
    calls = await select(
        backend, CallNode.call_hash, CallNode.args_hash, where=CallNode.task_name == f"passing.{task_name}"
    )
    [(call_hash, args_hash)] = calls
    columns = (Argument.arg_key, Argument.value_hash, Argument.arg_position)
    rows = await select(backend, *columns, where=Argument.call_hash == call_hash)
    values: dict[Any, Any] = {}
    for key, value_hash, position in rows:
        value, is_there = await backend.get_value(value_hash)
        assert is_there
        assert get_type_registry().get_hash(value) == value_hash
        values[key if position is None else position] = value
    positional = [values[key] for key in sorted(key for key in values if isinstance(key, int))]
    keywords = {key: value for key, value in values.items() if isinstance(key, str)}
    assert hash_arguments(get_type_registry(), positional, keywords) == args_hash
    return [*positional, *keywords.values()]


async def test_an_argument_is_recorded_as_it_was_given(scheduler: Scheduler, backend: RedunBackendDb) -> None:
    assert await scheduler.run(use_up(Box([1, 2]))) == 3
    [box] = await get_arguments(backend, "use_up")
    assert box.items == [1, 2]


async def test_a_default_is_recorded_as_it_was(scheduler: Scheduler, backend: RedunBackendDb) -> None:
    default = Box([3, 4])

    @task(namespace="passing")
    def use_up_default(box: Any = default) -> int:
        return sum(box.items.pop() for _ in range(len(box.items)))

    assert await scheduler.run(use_up_default()) == 7
    [box] = await get_arguments(backend, "use_up_default")
    assert box.items == [3, 4]


async def test_arguments_of_a_call_that_failed(scheduler: Scheduler, backend: RedunBackendDb) -> None:
    more = {"region": Region(1), "order": OrderedDict(a=1)}
    with pytest.raises(ValueError, match="used up"):
        await scheduler.run(use_up_and_fail([Box([1, 2]), Box([3])], more=more))
    boxes, recorded = await get_arguments(backend, "use_up_and_fail")
    assert [box.items for box in boxes] == [[1, 2], [3]]
    assert recorded == {"region": Region(1), "order": OrderedDict(a=1)}


async def test_a_file_that_a_function_writes_is_recorded_as_it_was(
    scheduler: Scheduler, backend: RedunBackendDb, tmp_path: Any
) -> None:
    @task(namespace="passing")
    def write(file: File) -> File:
        file.write("new")
        return file

    given = File(str(tmp_path / "text"))
    given.write("old")
    before = given.hash
    result = await scheduler.run(write(given))
    [argument] = await select(backend, Argument.value_hash)
    assert argument == before != result.hash


async def test_a_result_that_its_caller_changes_stays_what_it_was(
    scheduler: Scheduler, backend: RedunBackendDb
) -> None:
    assert await scheduler.run(change_results()) == [1, 2, 2]
    assert await get_arguments(backend, "count") == [[1, 2]]
    [value_hash] = await select(backend, CallNode.value_hash, where=CallNode.task_name == "passing.fill")
    assert (await backend.get_value(value_hash))[0].items == [5]


async def test_calls_are_kept_for_the_cache_as_they_were_returned(
    scheduler: Scheduler, backend: RedunBackendDb
) -> None:
    assert (await scheduler.run(nest_calls(Slow([1, 2]))))[0] == 3
    [value_hash] = await select(backend, Evaluation.value_hash, where=Evaluation.task_hash == nest_calls.hash)
    (lazy, box), _ = await backend.get_value(value_hash)
    assert (lazy.args[0].items, box.items) == ([1, 2], [1, 2])
