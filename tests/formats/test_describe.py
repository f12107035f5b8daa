"""Whatever the `repr` of a value does, runs go on and tracebacks show."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given

from aredun import RedunBackendDb, Scheduler, task
from aredun.formats.describe import describe
from aredun.models import Execution
from aredun.workflow.texts import describe_values
from tests.support.scheduling import fail, select
from tests.support.values import leaves, nest

redun_namespace = "described"
is_over = threading.Event()


class NoText:
    """A class whose text cannot be had."""

    def __repr__(self) -> str:
        raise RuntimeError("no repr")


class Slow:
    """A class whose text takes until the test is over."""

    def __repr__(self) -> str:
        is_over.wait(30)
        return "Slow()"


class Broken(Exception):
    """An error whose texts cannot be had."""

    def __str__(self) -> str:
        raise RuntimeError("no str")

    __repr__ = __str__


@task()
def use(value: Any) -> str:
    """Return that the value was there."""
    return "used"


@task()
def refuse(value: Any) -> None:
    """Fail with an error that cannot be shown."""
    raise Broken


async def get_title(backend: RedunBackendDb) -> str:
    """Return the title of the only execution."""
    [args] = await select(backend, Execution.args)
    title: str = json.loads(args)[1]
    return title


@given(nest(leaves))
def test_a_short_text_is_the_repr(value: Any) -> None:
    assert describe(value, 10**7) == repr(value)


def test_a_long_text_is_cut() -> None:
    loop: list[Any] = [1]
    loop.append(loop)
    assert describe(loop) == repr(loop)
    assert describe("a" * 100, 10) == "'aaaaaa..."
    assert describe(range(10**9), 8) == "range..."
    assert describe([0] * 10**7, 10) == "[0, 0, ..."
    assert describe([NoText(), 10**5000]) == "[<NoText>, <int of 16610 bits>]"
    assert len(repr(use([0] * 10**6))) < 11_000
    assert repr(use(NoText()) + 10**5000) == "(described.use(<NoText>) + <int of 16610 bits>)"


@pytest.mark.parametrize(
    ("value", "title"),
    [
        (10**5000, "described.use(<int of 16610 bits>)"),
        (NoText(), "described.use(<NoText>)"),
        ({"a": [Path("b"), 1.5]}, f"described.use({{'a': [{Path('b')!r}, 1.5]}})"),
        ("x" * 1000, "described.use('" + "x" * 182 + "..."),
    ],
    ids=["int", "error", "plain", "long"],
)
async def test_a_run_does_not_depend_on_the_text_of_an_argument(
    scheduler: Scheduler, backend: RedunBackendDb, value: Any, title: str
) -> None:
    assert await scheduler.run(use(value)) == "used"
    assert await get_title(backend) == title


async def test_no_run_waits_for_the_text_of_an_argument(
    scheduler: Scheduler, backend: RedunBackendDb
) -> None:
    is_over.clear()
    try:
        assert await scheduler.run(use(Slow())) == "used"
        assert await get_title(backend) == "described.use(...)"
    finally:
        is_over.set()


async def test_a_traceback_shows_what_can_be_shown(scheduler: Scheduler) -> None:
    with pytest.raises(Broken) as raised:
        await scheduler.run(refuse(NoText()))
    found = scheduler.get_traceback(raised.value)
    assert found is not None
    text = "".join(found.format())
    assert "value = <NoText>" in text
    assert text.endswith("Broken: ")
    assert repr(found) == "Traceback(error=<Broken>, frames=2)"
    with pytest.raises(ValueError, match="shown"):
        await scheduler.run(fail("shown"))


async def test_many_texts_at_once_are_all_shown() -> None:
    class Pause:
        def __repr__(self) -> str:
            time.sleep(0.001)
            return "Pause()"

    texts = await asyncio.gather(*(describe_values([Pause()], 50) for _ in range(20)))
    assert texts == [["Pause()"]] * 20
