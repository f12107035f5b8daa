"""The statuses of jobs and executions, and the rule that tells an abandoned run from a running one.

redun writes a heartbeat (`execution.updated_time`) and never reads it, so a run that was killed stays
RUNNING for ever. Here a run is ABANDONED once it has given no sign of life for longer than
`DEFAULT_ABANDONED_AFTER`. A sign of life is a heartbeat, or the start or end of one of its jobs: redun's
scheduler beats only when it has nothing to do.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from aredun.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable

RUNNING: Final = "RUNNING"
FAILED: Final = "FAILED"
CACHED: Final = "CACHED"
DONE: Final = "DONE"
ABANDONED: Final = "ABANDONED"

JOB_STATUSES: Final = (RUNNING, FAILED, CACHED, DONE, ABANDONED)
EXECUTION_STATUSES: Final = (RUNNING, FAILED, DONE, ABANDONED)

ERROR_TYPE_NAME: Final = "redun.ErrorValue"

# redun's scheduler beats every 20 seconds while it waits; this forgives thirty missed beats.
DEFAULT_ABANDONED_AFTER: Final = timedelta(minutes=10)

CONFIG_KEY: Final = "abandoned_after"


def get_job_status(end_time: datetime | None, cached: bool, result_type: str | None) -> str:
    """
    Return the status of a job as its row tells it (mirrors redun's `Job.calc_status`).

    Whether an open job is ABANDONED depends on its whole execution: see `aredun.search.statuses.is_alive`.

    Parameters
    ----------
    end_time : datetime | None
        When the job ended; None while it has not.
    cached : bool
        Whether the result came from the cache.
    result_type : str | None
        Type name of the result's value; None without a result.

    Returns
    -------
    str
        FAILED, RUNNING, CACHED or DONE.
    """
    if result_type == ERROR_TYPE_NAME:
        return FAILED
    if end_time is None:
        return RUNNING
    return CACHED if cached else DONE


def get_execution_status(root_job_status: str | None) -> str:
    """
    Return the status of an execution, given that of its root job (mirrors redun's `Execution.calc_status`).

    Parameters
    ----------
    root_job_status : str | None
        One of `JOB_STATUSES`; None when the root job is not recorded, which counts as FAILED.

    Returns
    -------
    str
        One of `EXECUTION_STATUSES`.
    """
    if root_job_status is None:
        return FAILED
    return DONE if root_job_status == CACHED else root_job_status


def parse_statuses(statuses: Iterable[str], known: tuple[str, ...]) -> list[str]:
    """
    Return the statuses in upper case, each once, in the order given.

    Raises
    ------
    UsageError
        When there is none, or one that is not among `known`.
    """
    names = list(dict.fromkeys(status.strip().upper() for status in statuses))
    if not names:
        raise UsageError(f"no status given: name one of {', '.join(known)}")
    for name in names:
        if name not in known:
            raise UsageError(f"unknown status {name!r}: use one of {', '.join(known)}")
    return names


def get_abandoned_after(config: Any) -> timedelta:
    """
    Return how long a run may be silent, from a backend's configuration.

    Parameters
    ----------
    config : Any
        A `[backend]` section (a mapping of strings) or an object with the attribute `abandoned_after`, in
        seconds. Without the option it is `DEFAULT_ABANDONED_AFTER`.

    Raises
    ------
    UsageError
        When the setting is not a positive number of seconds.
    """
    setting = getattr(config, CONFIG_KEY, None)
    if setting is None and hasattr(config, "get"):
        setting = config.get(CONFIG_KEY)
    return DEFAULT_ABANDONED_AFTER if setting is None else parse_age(setting)


def get_cutoff(config: Any) -> datetime:
    """
    Return the time since which a run must have given a sign of life.

    Parameters
    ----------
    config : Any
        As for `get_abandoned_after`.

    Raises
    ------
    UsageError
        When the setting is not a positive number of seconds.
    """
    return datetime.now(UTC) - get_abandoned_after(config)


def parse_age(seconds: str | float) -> timedelta:
    """
    Return a number of seconds, as people and configuration files write it, as a timedelta.

    Raises
    ------
    UsageError
        When it is not a positive number, or is beyond what a timedelta holds.
    """
    try:
        age = timedelta(seconds=float(seconds))
    except (ValueError, OverflowError) as error:
        raise UsageError(f"invalid age {seconds!r}: give a number of seconds such as 600") from error
    if age <= timedelta(0):
        raise UsageError(f"invalid age {seconds!r}: it must be more than 0 seconds")
    return age
