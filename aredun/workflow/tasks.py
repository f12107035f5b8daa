"""Tasks: functions whose calls are recorded and cached (mirrors `redun.task`, whose names these are).

The table of tasks is the `Task` of `aredun.models`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, TypeVar, overload

from aredun.errors import UsageError
from aredun.values import get_func_source, stands_for
from aredun.values.expressions import TaskExpression
from aredun.values.task_options import (
    CacheCheckValid,
    CacheResult,
    CacheScope,
    JobInfo,
    check_given_options,
)
from aredun.values.task_registry import TaskRegistry, get_task_registry
from aredun.values.task_value import (
    PartialTaskValue,
    SchedulerTaskValue,
    TaskValue,
    hash_args_eval,
    merge_contexts,
)

P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine
    from typing import Protocol

    # The base Any lets a type checker accept a call wherever a value is expected, and any attribute of it.
    class Call(Awaitable[R_co], Any):  # type: ignore[misc]  # Any as a base is the point
        """The lazy call of a task, of which the result is an R: awaiting it gives that."""

    class TaskDecorator(Protocol):
        """What `task(...)` with options returns."""

        @overload
        def __call__(self, func: Callable[P, Coroutine[Any, Any, R]], /) -> Task[P, R]: ...
        @overload
        def __call__(self, func: Callable[P, R], /) -> Task[P, R]: ...

else:
    Call = TaskExpression

__all__ = [
    "CacheCheckValid",
    "CacheResult",
    "CacheScope",
    "Call",
    "JobInfo",
    "PartialTask",
    "SchedulerTask",
    "Task",
    "TaskRegistry",
    "get_default_arguments",
    "get_task_registry",
    "hash_args_eval",
    "merge_contexts",
    "scheduler_task",
    "task",
]


@stands_for("redun.task", "Task")
class Task(TaskValue, Generic[P, R]):
    """A function whose calls are recorded and cached (mirrors redun's `Task`); make one with `task`.

    Calling it gives a lazy call, which nothing runs yet. Await it in an async task, return it from a task,
    pass it to another task, or give it to `Scheduler.run`.
    """

    type_name = "redun.Task"

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Call[R]:
        """Return the lazy call, which stands for its result where it is passed on.

        Raises
        ------
        TypeError
            The function does not take such arguments.
        """
        _check_arguments(self, args, kwargs)
        return super().__call__(*args, **kwargs)  # type: ignore[no-any-return]  # a Call, which is no class

    def partial(self, *args: Any, **kwargs: Any) -> PartialTask[R]:
        """Return the task with some of its arguments given."""
        return PartialTask(self, args, kwargs)


@stands_for("redun.task", "PartialTask")
class PartialTask(PartialTaskValue, Generic[R]):
    """A task with some of its arguments given (mirrors redun's `PartialTask`); `Task.partial` makes one."""

    type_name = "redun.PartialTask"

    def __call__(self, *args: Any, **kwargs: Any) -> Call[R]:
        """Return the lazy call of the task with the given and the further arguments."""
        return super().__call__(*args, **kwargs)  # type: ignore[no-any-return]  # a Call, which is no class


@stands_for("redun.task", "SchedulerTask")
class SchedulerTask(SchedulerTaskValue, Generic[P, R]):
    """A task that the scheduler evaluates (mirrors redun's `SchedulerTask`); `scheduler_task` makes one."""

    type_name = "redun.task.SchedulerTask"

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Call[R]:
        """Return the lazy call, as `Task` does."""
        # The function itself takes the evaluator, the scope and the expression before them.
        _check_arguments(self, (None, None, None, *args), kwargs)
        return super().__call__(*args, **kwargs)  # type: ignore[no-any-return]  # a Call, which is no class


def _check_arguments(called: TaskValue, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    try:
        called.signature.bind(*args, **kwargs)
    except TypeError as error:
        raise TypeError(f"task {called.fullname} cannot be called so: {error}") from None


@overload
def task(func: Callable[P, Coroutine[Any, Any, R]], /) -> Task[P, R]: ...


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
    func: Callable[..., Any] | None = None,
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
) -> Any:
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
        The function returns a shell script, whose output is the result.
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

    return decorate if func is None else decorate(func)


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
) -> Callable[[Callable[Concatenate[Any, Any, Any, P], Coroutine[Any, Any, R]]], SchedulerTask[P, R]]:
    """Make a function that returns a coroutine a scheduler task (mirrors redun's `scheduler_task`).

    It is called with the evaluator, the scope and the expression of the call, then with the call's arguments
    as they are, expressions unevaluated; `evaluator.evaluate(argument, scope)` starts to evaluate one. What a
    plain function starts before it returns its coroutine comes in reading order among the calls around it.

    Parameters
    ----------
    name, namespace, version : str | None
        As for `task`.
    **task_options_base : Any
        Options, as for `task`.

    Returns
    -------
    callable
        Takes the function and returns the `SchedulerTask`.
    """

    def decorate(
        function: Callable[Concatenate[Any, Any, Any, P], Coroutine[Any, Any, R]],
    ) -> SchedulerTask[P, R]:
        check_given_options(task_options_base, name or function.__name__)
        made: SchedulerTask[P, R] = SchedulerTask(
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
