"""Options of retries and timeouts: which values are refused, and what they do to hashes and delays."""

from __future__ import annotations

from typing import Any

import pytest
import redun

from aredun import UsageError, task
from aredun.workflow.retries import RetryPolicy

redun_namespace = "retries"


@task(timeout=30)
def quick() -> int:
    return 1


def test_hashes_are_those_of_redun() -> None:
    """In the decorator the options count for nothing; those of a call are hashed by redun's rule."""
    options: dict[str, Any] = {
        "retries": 2,
        "retry_delay": 0.5,
        "retry_on": (OSError, KeyError),
        "timeout": 9,
    }

    def work(x: int) -> int:
        return x

    identity = {"name": "work", "namespace": "retries", "source": "source"}
    mine, theirs = task(**identity)(work), redun.task(**identity)(work)  # type: ignore[call-overload]
    assert task(**identity, **options)(work).hash == mine.hash == theirs.hash  # type: ignore[call-overload]
    changed, their_changed = mine.options(**options), theirs.options(**options)
    assert changed.hash == their_changed.hash
    assert changed(1).get_hash() == their_changed(1).get_hash()


class LocalLater(OSError):
    """Found by its name."""


BAD: list[tuple[dict[str, Any], str]] = [
    ({"retries": -1}, "option retries is -1: give how many more tries there are after the first, 0 or more"),
    ({"retries": True}, "option retries is True: give how many"),
    ({"retries": 1.5}, "option retries is 1.5: give how many"),
    ({"retries": None}, "option retries is None: give how many"),
    ({"retry_delay": -0.1}, "option retry_delay is -0.1: give seconds from 0 to 3600"),
    ({"retry_delay": float("nan")}, "option retry_delay is nan: give seconds from 0 to 3600"),
    ({"retry_delay": 3601}, "option retry_delay is 3601: give seconds from 0 to 3600"),
    ({"timeout": 0}, "option timeout is 0: give seconds, more than 0, or None"),
    ({"timeout": float("inf")}, "option timeout is inf: give seconds, more than 0, or None"),
    ({"timeout": "5s"}, "option timeout is '5s': give seconds, more than 0, or None"),
    ({"retry_on": ()}, "option retry_on is (): give a class of exceptions or several"),
    ({"retry_on": "OSError"}, "option retry_on is 'OSError': give a class of exceptions or several"),
    (
        {"retry_on": [OSError, KeyboardInterrupt]},
        "KeyboardInterrupt'>]: give a class of exceptions or several",
    ),
    ({"limits": 5}, "option limits is 5: give names"),
    ({"retires": 3}, "unknown option retires: did you mean retries?"),
]


@pytest.mark.parametrize(("options", "message"), BAD, ids=[str(options) for options, _ in BAD])
def test_bad_values_are_refused_where_they_are_written(options: dict[str, Any], message: str) -> None:
    def refuse(make: Any) -> None:
        with pytest.raises(UsageError) as raised:
            make()
        assert str(raised.value).startswith(("task retries.quick: ", "task new: "))
        assert message in str(raised.value)
        assert "\n" not in str(raised.value)

    refuse(lambda: task(name="new", **options)(lambda: 1))
    refuse(lambda: task(name="new", export_options=options)(lambda: 1))
    refuse(lambda: quick.options(**options))
    refuse(lambda: quick.export_options(**options))
    refuse(lambda: quick.partial().options(**options))


def test_class_that_a_call_cannot_store_is_refused() -> None:
    class Local(OSError):
        pass

    assert task(name="new", version="1", retry_on=Local)(lambda: 1).get_task_option("retry_on") is Local
    assert quick.options(retry_on=LocalLater).get_task_option("retry_on") is LocalLater
    with pytest.raises(
        UsageError, match=r"^task retries\.quick: option retry_on has a class that was made in a f"
    ):
        quick.options(retry_on=[OSError, Local])


def test_delays_double_up_to_an_hour() -> None:
    def get_longest(delay: float, attempts: int) -> float:
        policy = RetryPolicy.from_options({"retry_delay": delay})
        drawn = [policy.draw_delay(attempts) for _ in range(2000)]
        assert min(drawn) >= 0
        return max(drawn)

    assert 0.95 < get_longest(1, 1) <= 1
    assert 7.6 < get_longest(1, 4) <= 8
    assert 3400 < get_longest(3600, 10_000) <= 3600
    assert get_longest(0, 5) == 0
