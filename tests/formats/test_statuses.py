"""The rules of statuses, and the settings that they depend on."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from aredun.config import BackendConfig
from aredun.errors import UsageError
from aredun.formats import statuses

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("end_time", "cached", "result_type", "expected"),
    [
        (None, False, None, "RUNNING"),
        (NOW, False, "builtins.int", "DONE"),
        (NOW, True, "builtins.int", "CACHED"),
        (NOW, True, "redun.ErrorValue", "FAILED"),
        (None, False, "redun.ErrorValue", "FAILED"),
    ],
)
def test_the_status_of_a_job(
    end_time: datetime | None, cached: bool, result_type: str | None, expected: str
) -> None:
    assert statuses.get_job_status(end_time, cached, result_type) == expected


@pytest.mark.parametrize(
    ("root", "expected"),
    [(None, "FAILED"), ("CACHED", "DONE"), ("DONE", "DONE"), ("RUNNING", "RUNNING"), ("FAILED", "FAILED")],
)
def test_the_status_of_an_execution(root: str | None, expected: str) -> None:
    assert statuses.get_execution_status(root) == expected


def test_statuses_are_read_in_any_case() -> None:
    assert statuses.parse_statuses(["done", " FAILED", "DONE"], statuses.JOB_STATUSES) == ["DONE", "FAILED"]
    with pytest.raises(UsageError, match="unknown status 'LOST': use one of RUNNING, FAILED"):
        statuses.parse_statuses(["lost"], statuses.JOB_STATUSES)
    with pytest.raises(UsageError, match="no status given"):
        statuses.parse_statuses([], statuses.JOB_STATUSES)


def test_the_age_comes_from_the_configuration() -> None:
    assert statuses.get_abandoned_after({}) == statuses.DEFAULT_ABANDONED_AFTER
    assert statuses.get_abandoned_after({"abandoned_after": "90"}) == timedelta(seconds=90)
    config = BackendConfig.parse({"abandoned_after": "2.5"})
    assert statuses.get_abandoned_after(config) == timedelta(seconds=2.5)
    assert statuses.get_abandoned_after(BackendConfig.parse({})) == statuses.DEFAULT_ABANDONED_AFTER


@pytest.mark.parametrize("age", ["soon", "0", "-1", "1e30", "nan"])
def test_a_bad_age_is_refused(age: str) -> None:
    with pytest.raises(UsageError, match="invalid age"):
        statuses.parse_age(age)
