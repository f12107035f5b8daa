"""What no database holds, or PostgreSQL does not: one clear error, and a run that goes on."""

from __future__ import annotations

import logging
import random
import string
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import redun
import redun.backends.db
from sqlalchemy import select

from aredun import File, Scheduler, task
from aredun.errors import RedunDatabaseError, UsageError
from aredun.models import Job, Tag
from aredun.redun_bridge import RedunBackendDb as BridgeBackend
from aredun.workflow.operators import apply_tags

if TYPE_CHECKING:
    from aredun.backend import RedunBackendDb

# No compression makes this small enough for an index.
LARGE = "".join(random.Random(12).choices(string.ascii_letters + string.digits, k=12_000))
DEEP: list[Any] = []
for _ in range(5_000):
    DEEP = [DEEP]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.int64(3), r"tag value np.int64\(3\) is not JSON .* give its .tolist\(\)"),
        (np.arange(3), r"is not JSON .* give its .tolist\(\)"),
        ({1}, "is not JSON .* give a JSON value"),
        (float("nan"), "is not JSON .* give a JSON value"),
        (10**5_000, "tag value of type int is not JSON .* give a JSON value"),
        (DEEP, "is not JSON .* give a JSON value"),
        ("a\0b", "holds a NUL or half a character: leave it out"),
        (["\ud800"], "holds a NUL or half a character: leave it out"),
    ],
    ids=["scalar", "array", "set", "nan", "digits", "deep", "nul", "surrogate"],
)
async def test_values_that_are_no_tags(value: Any, message: str, backend: RedunBackendDb) -> None:
    with pytest.raises(UsageError, match=f"tag 'broken' cannot be recorded: .*{message}") as caught:
        await backend.record_tags("Execution", "e", [("good", 1), ("broken", value)])
    assert "\n" not in str(caught.value)
    assert await backend.get_tags(["e"]) == {}


@pytest.mark.parametrize("update", [False, True])
@pytest.mark.parametrize("pair", [("k", LARGE), (LARGE, 1), ("k", LARGE[:3_000])], ids=["value", "key", "3k"])
async def test_tags_too_large_for_an_index(
    pair: tuple[str, Any], update: bool, backend: RedunBackendDb
) -> None:
    """sqlite has no such limit; PostgreSQL's hangs on how well it can be compressed."""
    if backend.database.dialect_name == "sqlite":
        await backend.record_tags("Execution", "e", [pair], update=update)
        assert list((await backend.get_tags(["e"]))["e"].items()) == [pair]
    else:
        with pytest.raises(UsageError, match=r"^tag '.* of 'e' cannot be recorded: it is too large for an"):
            await backend.record_tags("Execution", "e", [pair], update=update)
        assert await backend.get_tags(["e"]) == {}
    await backend.record_tags("Execution", "f", [("k", "a" * 100_000), ("big", 2**70), ("f", 1.5)])
    found = (await backend.get_tags(["f"]))["f"]
    assert (found["k"], found["big"], found["f"]) == (["a" * 100_000], [2**70], [1.5])


async def test_a_path_that_is_too_long(backend: RedunBackendDb) -> None:
    value = File("/tmp/" + "x" * 1_100)
    if backend.database.dialect_name == "sqlite":
        await backend.record_value([value])
        return
    message = "refused the path of a file, '/tmp/xxx.*: it has 1,105 characters, and PostgreSQL takes 1,024"
    with pytest.raises(RedunDatabaseError, match=message):
        await backend.record_value([value])


@task(tags=[("of_task", np.int64(1)), ("good", 1)])
def tagged() -> int:
    return 7


@task()
def root() -> Any:
    return apply_tags(
        tagged.options(tags=[("of_job", LARGE), ("fine", 2)])(),
        tags=[("of_value", np.arange(2))],
        execution_tags=[("of_run", LARGE)],
    )


async def test_a_run_goes_on(
    scheduler: Scheduler, backend: RedunBackendDb, caplog: pytest.LogCaptureFixture
) -> None:
    """Tags that cannot be recorded are named on the log; results and all other tags are kept."""
    lost = {"of_task", "of_value"}
    if backend.database.dialect_name == "postgresql":
        lost |= {"of_job", "of_run"}
    with caplog.at_level(logging.WARNING, "aredun"):
        assert await scheduler.run(root()) == 7
    text = "\n".join(each.getMessage() for each in caplog.records)
    assert {
        key for key in ("of_task", "of_value", "of_job", "of_run", "fine", "good") if f"'{key}'" in text
    } == lost
    async with backend.session() as session:
        keys = set(await session.scalars(select(Tag.key)))
        ended = list(await session.scalars(select(Job.end_time)))
    assert {"good", "fine"} <= keys
    assert not keys & lost
    assert len(ended) == 2
    assert all(ended)


@redun.task(name="tagged_by_redun", tags=[("odd", np.int64(1)), ("sound", 1)])
def tagged_by_redun() -> int:
    return 7


@redun.task(name="root_of_redun")
def root_of_redun() -> Any:
    return redun.apply_tags(tagged_by_redun(), job_tags=[("small", 1), ("large", LARGE)])


def test_a_run_of_redun_goes_on(database_url: str, caplog: pytest.LogCaptureFixture) -> None:
    """The bridge writes behind: what is refused there must not fail a later call."""
    bridge: Any = BridgeBackend(database_url)
    bridge.load()
    try:
        scheduler = redun.Scheduler(backend=bridge)
        with caplog.at_level(logging.WARNING):
            assert scheduler.run(root_of_redun()) == 7
            bridge.get_tags([])
        keys = {row[0] for row in bridge.session.execute(select(redun.backends.db.Tag.key))}
    finally:
        bridge.close()
    text = "\n".join(each.getMessage() for each in caplog.records)
    assert "tag 'odd' cannot be recorded: tag value np.int64(1) is not JSON" in text
    assert {"sound", "small"} <= keys
    assert "odd" not in keys
    is_large_kept = database_url.startswith("sqlite")
    assert ("large" in keys) is is_large_kept
    assert (
        "a tag was left out: the database refused the value of a tag, 'large'" in text
    ) is not is_large_kept
