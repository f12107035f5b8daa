"""Long values: what goes through them item by item does so off the event loop, or not at all."""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
from collections import namedtuple
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
import redun.utils
import redun.value

from aredun import Scheduler, task
from aredun.values import Value, get_type_registry, is_expression, pickle_dumps
from aredun.values.nested import SCALARS, holds, iter_nested_value, map_nested_value

if TYPE_CHECKING:
    from collections.abc import Callable

redun_namespace = "long_values"

SHAPES: dict[str, Callable[[int], Any]] = {
    "ints": lambda n: list(range(n)),
    "texts": lambda n: tuple(map(str, range(n))),
    "rows": lambda n: [{"a": i, "b": (str(i), None)} for i in range(n)],
    "mapping": lambda n: {str(i): [i] for i in range(n)},
}
Pair = namedtuple("Pair", "a b")


@dataclass
class Box:
    """Holds anything."""

    content: Any


@task()
def make(shape: str, n: int) -> Any:
    """Return a long value."""
    return SHAPES[shape](n)


@task()
def count(items: Any) -> int:
    """Take a long value."""
    return len(items)


@task()
async def count_awaited(shape: str, n: int) -> int:
    """Await a long value."""
    return len(await make(shape, n))


class Probe(Value):
    """Notes the threads in which it is handled."""

    type_name = "long_values.Probe"
    threads: ClassVar[dict[str, set[int]]] = {}

    def __init__(self, number: int) -> None:
        self.number = number

    def _note(self, what: str) -> None:
        self.threads.setdefault(what, set()).add(threading.get_ident())

    def __getstate__(self) -> dict[str, Any]:
        self._note("pickle")
        return {"number": self.number, "text": f"{self.number:01000}"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._note("unpickle")
        self.number = state["number"]

    def is_valid(self) -> bool:
        """Is always valid."""
        self._note("is_valid")
        return True

    def preprocess(self, preprocess_args: dict[str, Any]) -> Any:
        """Is passed as it is."""
        self._note("preprocess")
        return self

    def postprocess(self, postprocess_args: dict[str, Any]) -> Any:
        """Is recorded as it is."""
        self._note("postprocess")
        return self


SHAPES["probes"] = lambda n: [Probe(i) for i in range(n)]


async def count_steps(call: Any, scheduler: Scheduler) -> int:
    """Run a call, and count the calls of functions that the loop's thread makes meanwhile."""
    steps = 0

    def note(frame: Any, event: str, argument: Any) -> None:
        nonlocal steps
        steps += 1

    await asyncio.sleep(0)
    # Finalizers of what earlier tests left would be counted too, whenever a collection finds it.
    gc.collect()
    gc.disable()
    sys.setprofile(note)
    try:
        await scheduler.run(call, ["test"])
    finally:
        sys.setprofile(None)
        gc.enable()
    return steps


@pytest.mark.parametrize("shape", ["ints", "texts", "rows", "mapping"])
@pytest.mark.parametrize("kind", ["new", "cached", "awaited", "given"])
async def test_steps_on_the_loop_do_not_grow_with_the_value(shape: str, kind: str) -> None:
    def get_call(n: int) -> Any:
        if kind == "awaited":
            return count_awaited(shape, n)
        return count(SHAPES[shape](n)) if kind == "given" else count(make(shape, n))

    async with Scheduler() as scheduler:
        steps = []
        for n in (2_000, 12_000):
            if kind == "cached":
                await scheduler.run(get_call(n))
            steps.append(await count_steps(get_call(n), scheduler))
    # The containers in what is written into the call are copied on the loop: three calls and returns a row.
    allowed = 10_000 * (12 if kind == "given" and shape in ("rows", "mapping") else 0)
    assert steps[1] - steps[0] < allowed + 5_000


async def test_long_values_are_handled_in_threads(scheduler: Scheduler) -> None:
    Probe.threads.clear()
    for _ in range(2):
        assert await scheduler.run(count(make("probes", 2_000))) == 2_000
    assert Probe.threads.keys() >= {"pickle", "unpickle", "is_valid", "preprocess", "postprocess"}
    for what, threads in Probe.threads.items():
        assert threading.get_ident() not in threads, f"{what} on the event loop"


async def test_calls_in_long_values_are_found(scheduler: Scheduler) -> None:
    """Wherever a call stands among many other things, it is evaluated."""
    rows: list[Any] = [{"a": i} for i in range(3_000)]
    rows[2_500]["a"] = count([1, 2])
    assert (await scheduler.run(count(rows))) == 3_000
    assert (await scheduler.run(rows))[2_500] == {"a": 2}
    assert (await scheduler.run([*range(3_000), count([1])]))[-1] == 1


@pytest.mark.parametrize("depth", range(12))
def test_what_is_sought_is_found_in_plain_company(depth: int) -> None:
    for leaf, is_found in ((count(1), True), (1, False)):
        value: Any = leaf
        for level in range(depth):
            value = [[value, *range(40)], {"k": value, **SHAPES["mapping"](40)}, (value,) * 40][level % 3]
            if level % 3 == 2:
                value = value[:2]
        assert holds([*range(50), value], is_expression) is is_found
        assert holds(dict.fromkeys(range(50), value), is_expression) is is_found


def test_copies_are_as_walked() -> None:
    shared = (1, "a")
    value = {
        "rows": [{"a": i, "b": (str(i), None)} for i in range(50)],
        "shared": [shared] * 50,
        "mixed": [*range(50), Pair(1, [2]), Box([3] * 40), {4, 5}],
        "sets": [{1, 2}] * 40,
        ("key", 1): set(range(100)),
    }
    quick, walked = map_nested_value(lambda leaf: leaf, value, SCALARS), map_nested_value(_same, value)
    assert quick == walked == value
    assert pickle_dumps(quick) == pickle_dumps(walked)
    assert quick["rows"][0] is not value["rows"][0]  # type: ignore[index]
    assert quick["shared"][0] is not quick["shared"][1]
    rest = [leaf for leaf in iter_nested_value(value) if type(leaf) not in SCALARS]
    assert [leaf for leaf in iter_nested_value(value, SCALARS) if type(leaf) not in SCALARS] == rest


def _same(leaf: Any) -> Any:
    return leaf


def test_a_list_that_holds_itself_is_told() -> None:
    value: list[Any] = [*range(50)]
    value.append(value)
    with pytest.raises(ValueError, match="contains itself"):
        holds(value, is_expression)


@pytest.mark.parametrize("shape", ["ints", "texts", "rows", "mapping"])
def test_bytes_and_hash_of_long_values_are_reduns(shape: str) -> None:
    value = SHAPES[shape](3_000)
    assert pickle_dumps(value) == redun.utils.pickle_dumps(value)
    assert get_type_registry().get_hash(value) == redun.value.get_type_registry().get_hash(value)
