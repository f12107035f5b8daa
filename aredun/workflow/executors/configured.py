"""The executors that redun.ini names: `[executors.NAME]`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aredun.errors import UsageError
from aredun.formats.spelling import suggest
from aredun.workflow.executors.processes import ProcessExecutor
from aredun.workflow.executors.threads import ThreadExecutor

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aredun.workflow.executors.base import Executor

# redun's default.
DEFAULT_THREADS = 20
_LOCAL_OPTIONS = frozenset({"type", "mode", "max_workers"})
# How redun starts processes, and where it keeps files of containers: neither is a question here.
_REDUN_LOCAL_OPTIONS = frozenset({"start_method", "scratch"})
_DASK_COUNTS = ("n_workers", "threads_per_worker", "capacity", "max_result_size")
_DASK_OPTIONS = frozenset({"type", "address", "resources", *_DASK_COUNTS})
_MODES = {"thread", "threads", "process", "processes"}


def make_executors(sections: Mapping[str, Mapping[str, str]]) -> dict[str, Executor | str]:
    """Make the executors of a redun.ini.

    Parameters
    ----------
    sections : Mapping[str, Mapping[str, str]]
        The options of each section `[executors.NAME]`, by name.

    Returns
    -------
    dict[str, Executor | str]
        For `Scheduler(executors=...)`. In place of one that only redun has, why it cannot be used: other
        tasks, and redun, may do without and with it.

    Raises
    ------
    UsageError
        An option is unknown, or its value cannot be meant.
    """
    return {name: _make_executor(f"[executors.{name}]", options) for name, options in sections.items()}


def _make_executor(section: str, options: Mapping[str, str]) -> Executor | str:
    kind = options.get("type", "local")
    if kind == "local":
        return _make_local(section, options)
    if kind == "dask":
        return _make_dask(section, options)
    return (
        f"is of type {kind} in redun.ini, which only redun has: make it local or dask, or run the workflow "
        "with redun (aredun.redun_bridge)"
    )


def _make_local(section: str, options: Mapping[str, str]) -> Executor:
    _refuse_unknown(section, options, _LOCAL_OPTIONS, _REDUN_LOCAL_OPTIONS)
    mode = options.get("mode", "thread")
    if mode not in _MODES:
        raise UsageError(f"{section} mode is {mode!r} in redun.ini: give thread or process")
    workers = _parse_count(section, "max_workers", options)
    if mode.startswith("process"):
        return ProcessExecutor(workers)
    return ThreadExecutor(workers or DEFAULT_THREADS)


def _make_dask(section: str, options: Mapping[str, str]) -> Executor | str:
    _refuse_unknown(section, options, _DASK_OPTIONS)
    try:
        from aredun.workflow.executors.dask import DaskExecutor
    except UsageError as error:
        return str(error)
    counts: dict[str, Any] = {
        name: _parse_count(section, name, options) for name in _DASK_COUNTS if name in options
    }
    if "address" in options and {"n_workers", "threads_per_worker"} & set(counts):
        raise UsageError(f"{section} of redun.ini has an address: n_workers is of a cluster that is started")
    return DaskExecutor(
        options.get("address") or None, resources=_parse_resources(section, options), **counts
    )


def _refuse_unknown(
    section: str, options: Mapping[str, str], known: frozenset[str], passed: frozenset[str] = frozenset()
) -> None:
    for name in options:
        if name not in known | passed:
            hint = suggest(name, known)
            raise UsageError(f"{section} of redun.ini has an unknown option {name}: {hint}")


def _parse_count(section: str, name: str, options: Mapping[str, str]) -> int | None:
    text = options.get(name)
    if text is None:
        return None
    if not text.isdecimal() or int(text) < 1:
        raise UsageError(f"{section} {name} is {text!r} in redun.ini: give a number, 1 or more")
    return int(text)


def _parse_resources(section: str, options: Mapping[str, str]) -> dict[str, float]:
    """Read `GPU=1 MEMORY=2e9`, as `dask worker --resources` does."""
    resources: dict[str, float] = {}
    for pair in options.get("resources", "").replace(",", " ").split():
        name, _, amount = pair.partition("=")
        try:
            resources[name] = float(amount)
        except ValueError:
            raise UsageError(
                f"{section} resources is {options['resources']!r} in redun.ini: give pairs such as GPU=1"
            ) from None
    return resources
