"""The options of a task that mean something to a scheduler, and what a task may learn about its own job."""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any

from aredun.errors import UsageError
from aredun.formats.describe import describe, shorten
from aredun.formats.spelling import ask_whether, find_near
from aredun.values.expressions import Expression
from aredun.values.nested import holds
from aredun.values.pickling import stands_for

MAX_RETRY_DELAY = 3600.0


@stands_for("redun.task", "CacheCheckValid")
class CacheCheckValid(enum.Enum):
    """What is checked before a cached result is used (mirrors redun's `CacheCheckValid`)."""

    FULL = "full"
    """Every value in the tree of calls."""
    SHALLOW = "shallow"
    """The final result alone."""


@stands_for("redun.task", "CacheScope")
class CacheScope(enum.Enum):
    """Where a result may be taken from (mirrors redun's `CacheScope`)."""

    NONE = "NONE"
    """Nowhere."""
    CSE = "CSE"
    """The same execution."""
    BACKEND = "BACKEND"
    """Any execution in the repository."""


@stands_for("redun.task", "CacheResult")
class CacheResult(enum.Enum):
    """Which cache a result came from (mirrors redun's `CacheResult`)."""

    CSE = "CSE"
    """The same call in this execution."""
    SINGLE = "SINGLE"
    """The task's own return value, whose expressions are evaluated again."""
    ULTIMATE = "ULTIMATE"
    """The final result of the same call in another execution."""
    MISS = "MISS"
    """None: the task has to run."""


@stands_for("redun.scheduler", "JobInfo")
class JobInfo:
    """
    What a task learns about its job by having an argument of this type (mirrors redun's `JobInfo`).

    Parameters
    ----------
    execution_id, job_id : str
        Ids of the execution and the job.
    eval_hash, args_hash : str
        Hashes of the evaluation and its arguments, in which an argument of this type does not count.
    options : dict, optional
        The job's options.
    """

    def __init__(
        self,
        execution_id: str = "",
        job_id: str = "",
        eval_hash: str = "",
        args_hash: str = "",
        options: dict[str, Any] | None = None,
    ) -> None:
        self.execution_id = execution_id
        self.job_id = job_id
        self.eval_hash = eval_hash
        self.args_hash = args_hash
        self.options = {} if options is None else options

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={value}" for name, value in self.__dict__.items())
        return f"JobInfo({shown})"

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]  # the state is the constructor's arguments


def check_given_options(options: Mapping[str, Any], owner: str, *, of_call: bool = False) -> None:
    """
    Refuse options that nothing here acts on, and values that cannot be meant.

    Only what is written in code or on the command line is checked: calls that redun recorded keep the options
    of its executors.

    Parameters
    ----------
    options : Mapping[str, Any]
        Options by name; what holds a lazy call is checked when that is evaluated.
    owner : str
        Name of the task, for the message.
    of_call : bool
        They are options of a call, which cannot change what the decorator alone decides.

    Raises
    ------
    UsageError
        If one is unknown, is only for redun's executors, or is none of a call, with the nearest name if one
        is near; or if a value cannot be meant.
    """
    known = _CALL_OPTIONS if of_call else _CALL_OPTIONS | _TASK_OPTIONS
    faults = [
        _describe_fault(name, known) for name in options if name not in known and name != CONTEXT_OPTION
    ]
    concrete = {name: value for name, value in options.items() if name in _CHECKS and not _is_lazy(value)}
    faults += _find_wrong_values(concrete)
    if of_call and not faults and _are_local(concrete.get("retry_on", ())):
        # The options of a call are stored with it, a class by its name.
        faults.append("option retry_on has a class that was made in a function: define it in a module")
    if faults:
        raise UsageError(f"task {owner}: {'; '.join(faults)}")


def _is_lazy(value: Any) -> bool:
    return holds(value, lambda leaf: isinstance(leaf, Expression))


def _describe_fault(name: str, known: frozenset[str]) -> str:
    if name in _TASK_OPTIONS | _DECORATOR_ARGUMENTS:
        return f"{name} is no option of a call: give it to the decorator of the task"
    if name in _REDUN_OPTIONS:
        return (
            f"option {name} is for redun's executors and does nothing in aredun's scheduler: leave it out, "
            "or run the workflow with redun (aredun.redun_bridge)"
        )
    # In the decorator a misspelled option may be meant for any of its other arguments.
    candidates = known | _DECORATOR_ARGUMENTS if known > _CALL_OPTIONS else known
    near = find_near(name, candidates)[:1]
    hint = ask_whether(near) if near else f"give one of {', '.join(sorted(known))}"
    return f"unknown option {name}: {hint}"


def check_task_options(options: Mapping[str, Any]) -> None:
    """
    Check the evaluated options of a call, as far as a scheduler acts on them.

    Parameters
    ----------
    options : Mapping[str, Any]
        Options by name; those that no scheduler acts on may be anything.

    Raises
    ------
    UsageError
        If one has a value that cannot be meant.
    """
    faults = _find_wrong_values(options)
    if faults:
        raise UsageError("; ".join(faults))


def _find_wrong_values(options: Mapping[str, Any]) -> list[str]:
    return [
        f"option {name} is {shorten(describe(options[name]))}: give {usage}"
        for name, (is_valid, usage) in _CHECKS.items()
        if name in options and not is_valid(options[name])
    ]


def _are_limits(limits: Any) -> bool:
    if isinstance(limits, Mapping):
        are_counts = all(isinstance(count, Integral) and int(count) >= 0 for count in limits.values())
        return are_counts and _are_names(limits)
    return isinstance(limits, list | tuple | set | frozenset) and _are_names(limits)


def _are_names(names: Any) -> bool:
    return all(isinstance(name, str) for name in names)


def _are_tags(tags: Any) -> bool:
    return isinstance(tags, list | tuple) and all(
        isinstance(tag, list | tuple) and len(tag) == 2 and isinstance(tag[0], str) for tag in tags
    )


def _are_cache_results(allowed: Any) -> bool:
    return allowed is None or (
        isinstance(allowed, set | frozenset) and all(isinstance(kind, CacheResult) for kind in allowed)
    )


def _is_executor(name: Any) -> bool:
    return name is None or (isinstance(name, str) and bool(name))


def _are_resources(resources: Any) -> bool:
    return isinstance(resources, Mapping) and all(
        isinstance(name, str) and _is_number(amount) and amount >= 0 for name, amount in resources.items()
    )


def _is_count(count: Any) -> bool:
    return not isinstance(count, bool) and isinstance(count, Integral) and int(count) >= 0


def _is_delay(seconds: Any) -> bool:
    return _is_number(seconds) and 0 <= seconds <= MAX_RETRY_DELAY


def _is_timeout(seconds: Any) -> bool:
    return seconds is None or (_is_number(seconds) and seconds > 0)


def _is_number(number: Any) -> bool:
    return not isinstance(number, bool) and isinstance(number, Real) and math.isfinite(number)


def _are_errors(errors: Any) -> bool:
    kinds = _list_errors(errors)
    return bool(kinds) and all(isinstance(kind, type) and issubclass(kind, Exception) for kind in kinds)


def _list_errors(errors: Any) -> list[Any]:
    return list(errors) if isinstance(errors, list | tuple) else [errors]


def _are_local(errors: Any) -> bool:
    return any("<locals>" in kind.__qualname__ for kind in _list_errors(errors))


_CHECKS = {
    "limits": (_are_limits, 'names such as ["db"], or counts such as {"db": 2}'),
    "tags": (_are_tags, 'pairs such as [["key", "value"]]'),
    "allowed_cache_results": (_are_cache_results, "a set of CacheResult, in Python"),
    "retries": (_is_count, "how many more tries there are after the first, 0 or more"),
    "retry_delay": (_is_delay, f"seconds from 0 to {MAX_RETRY_DELAY:g}"),
    "retry_on": (_are_errors, "a class of exceptions or several, such as (OSError, ValueError), in Python"),
    "executor": (_is_executor, 'the name of an executor, such as "process"'),
    "resources": (_are_resources, 'amounts such as {"GPU": 1}'),
    "timeout": (_is_timeout, "seconds, more than 0, or None"),
}

# Set by `TaskValue.update_context`.
CONTEXT_OPTION = "_context_override"
_CALL_OPTIONS = frozenset({*_CHECKS, "cache", "cache_scope", "check_valid", "nout", "prov"})
# They count where the task is defined: its calls are run by the task of that name, not by a copy of it.
_TASK_OPTIONS = frozenset({"config_args", "use_wrapper_signature", "wrapped_task"})
_DECORATOR_ARGUMENTS = frozenset(
    {"compat", "export_options", "hash_includes", "name", "namespace", "script", "source", "version"}
)
# What redun's executors and its command read.
_REDUN_OPTIONS = frozenset(
    """
    additional_libs annotations async_start autocreate_job autocreate_job_def batch_tags bundle_size
    code_package debug env ephemeral_storage extra_files extra_py_files glue_version gpus image
    interactive job_def_extra job_def_name job_name_prefix job_queue k8s_labels labels load_module
    machine_type memory mode node_affinity num_nodes priority privileged project provider region role
    scheduling_priority_override service_account_email service_account_name share_id shared_memory
    spark_history_dir task_count vcpus volumes worker_type workers
    """.split()
)
