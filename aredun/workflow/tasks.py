"""Tasks: functions whose calls are recorded and cached (mirrors `redun.task`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, TypeVar, cast, overload

from aredun.errors import UsageError
from aredun.values import get_func_source, stands_for
from aredun.values.task_options import (
    CacheCheckValid,
    CacheResult,
    CacheScope,
    JobInfo,
    check_given_options,
)
from aredun.values.task_value import (
    SchedulerTaskValue,
    TaskRegistry,
    TaskValue,
    get_task_registry,
    hash_args_eval,
    merge_contexts,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Protocol

    class TaskDecorator(Protocol):
        """What `task(...)` with options returns."""

        def __call__(self, func: Callable[P, R], /) -> Task[P, R]: ...


__all__ = [
    "CacheCheckValid",
    "CacheResult",
    "CacheScope",
    "JobInfo",
    "Task",
    "TaskRegistry",
    "get_default_arguments",
    "get_task_registry",
    "hash_args_eval",
    "merge_contexts",
    "scheduler_task",
    "task",
]

P = ParamSpec("P")
R = TypeVar("R")


@stands_for("redun.task", "Task")
class Task(TaskValue, Generic[P, R]):
    """A function whose calls are recorded and cached (mirrors `redun.task.Task`); make one with `task`.

    Calling it gives a lazy call, which nothing runs yet. Await it in an async task, return it from a task,
    pass it to another task, or give it to `Scheduler.run`.
    """

    type_name = "redun.Task"

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Any:
        """Return the lazy call.

        It counts as any type: it can be awaited, and it stands for its result where it is passed on.
        """
        return super().__call__(*args, **kwargs)

    def options(self, **task_options_update: Any) -> Task[P, R]:
        """Return the task with other options for its calls, such as `cache=False` or `limits=["db"]`."""
        return super().options(**task_options_update)  # type: ignore[no-any-return]  # its own class


@overload
def task(func: Callable[P, R], /) -> Task[P, R]: ...


@overload
def task(
    func: None = None,
    /,
    *,
    name: str | None = None,
    namespace: str | None = None,
    version: str | None = None,
    compat: list[str] | None = None,
    script: bool = False,
    hash_includes: list[Any] | None = None,
    source: str | None = None,
    export_options: dict[str, Any] | None = None,
    **task_options_base: Any,
) -> TaskDecorator: ...


def task(
    func: Callable[P, R] | None = None,
    /,
    *,
    name: str | None = None,
    namespace: str | None = None,
    version: str | None = None,
    compat: list[str] | None = None,
    script: bool = False,
    hash_includes: list[Any] | None = None,
    source: str | None = None,
    export_options: dict[str, Any] | None = None,
    **task_options_base: Any,
) -> Task[P, R] | TaskDecorator:
    """Make a function a task (mirrors the decorator `redun.task.task`); used as `@task` or `@task(...)`.

    Parameters
    ----------
    func : Callable
        A plain function, which runs in a thread, or an `async def`, which runs on the event loop.
    name : str | None
        By default the function's name.
    namespace : str | None
        By default the variable `redun_namespace` of the function's module.
    version : str | None
        Identifies the code; by default its source does.
    compat : list[str] | None
        Hashes of older versions whose results are still good; the first is the task's hash.
    script : bool
        Kept for redun, where the function returns a shell script.
    hash_includes : list[Any] | None
        Values that identify the task beside its source.
    source : str | None
        The source where Python cannot find it.
    export_options : dict[str, Any] | None
        Options that all calls below inherit.
    **task_options_base : Any
        Options: `cache` (False: no result of another execution), `cache_scope`, `check_valid` ("full" or
        "shallow"), `prov` (False: record nothing), `limits` (named resources), `retries` (more tries after
        the first), `retry_delay` (seconds before the second), `retry_on` (exceptions that are worth one),
        `timeout` (seconds of each), `tags`, `nout` (number of items of the result), `config_args` (arguments
        that do not identify a call).

        An `async def` is cached by its final result, as if by `check_valid="shallow"`: the result is used
        again while no task below the call has changed. What its function returned is not enough, since that
        does not show what it awaited.

    Returns
    -------
    Task
        The task, which is registered under its full name; a later one of that name in the same file, or
        notebook, replaces it.

    Raises
    ------
    UsageError
        An option is unknown, only redun's executors read it, or its value cannot be meant; the function was
        typed in, or comes from a file that is gone, and no `source` is given; or another file has a task of
        that full name.
    ValueError
        A name or an option cannot be used.
    """
    base = {**task_options_base, **(export_options or {})}

    def decorate(function: Callable[P, R]) -> Task[P, R]:
        check_given_options(base, name or function.__name__)
        made: Task[P, R] = Task(
            function,
            name=name,
            namespace=namespace,
            version=version,
            compat=compat,
            script=script,
            task_options_base=base,
            export_options=set(export_options or ()),
            hash_includes=hash_includes,
            source=_find_source(function) if source is None else source,
        )
        get_task_registry().add(made)
        return made

    if func is None:
        # The decorator is generic in the function that it is given, not in this call's.
        return cast("TaskDecorator", decorate)
    return decorate(func)


def _find_source(function: Callable[..., Any]) -> str:
    try:
        return get_func_source(function)
    except OSError as error:
        raise UsageError(
            f"cannot find the source of {function.__qualname__}, which identifies the task: "
            "define it in a file, or pass source=..."
        ) from error


def scheduler_task(
    name: str | None = None, namespace: str | None = None, version: str = "1", **task_options_base: Any
) -> Callable[[Callable[Concatenate[Any, Any, Any, P], Coroutine[Any, Any, Any]]], SchedulerTaskValue]:
    """Make a function that returns a coroutine a scheduler task (mirrors `redun.task.scheduler_task`).

    It is called with the evaluator, the scope and the expression of the call, then with the call's arguments
    as they are, expressions unevaluated; `evaluator.evaluate(argument, scope)` starts to evaluate one. What a
    plain function starts before it returns its coroutine comes in reading order among the calls around it.

    Parameters
    ----------
    name, namespace, version : str | None
        As for `task`.
    **task_options_base : Any
        Options, as for `task`.
    """

    def decorate(
        function: Callable[Concatenate[Any, Any, Any, P], Coroutine[Any, Any, Any]],
    ) -> SchedulerTaskValue:
        check_given_options(task_options_base, name or function.__name__)
        made = SchedulerTaskValue(
            function, name=name, namespace=namespace, version=version, task_options_base=task_options_base
        )
        get_task_registry().add(made)
        return made

    return decorate


def get_default_arguments(called: TaskValue, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Return the defaults of the parameters that a call leaves out (mirrors redun's `get_arg_defaults`).

    Parameters
    ----------
    called : TaskValue
        The task.
    args, kwargs : tuple[Any, ...], dict[str, Any]
        The arguments of the call.
    """
    parameters = list(called.signature.parameters.values())
    return {
        parameter.name: parameter.default
        for parameter in parameters[len(args) :]
        if parameter.name not in kwargs and parameter.default is not parameter.empty
    }
