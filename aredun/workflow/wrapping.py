"""Decorators that put a task around a task (mirrors redun's `wraps_task`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ParamSpec, cast

from aredun.values.task_options import check_given_options
from aredun.workflow.tasks import Task, get_task_registry, task

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Protocol

    class TaskWrapper(Protocol):
        """What decorates a function, or a task, with the wrapping task."""

        def __call__(self, wrapped: Callable[P, Any], /) -> Task[P, Any]: ...


P = ParamSpec("P")

# What `task` takes beside options, and a wrapper may be given.
_ARGUMENTS = frozenset({"compat", "export_options", "script", "source", "version"})


def wraps_task(
    wrapper_name: str | None = None,
    wrapper_hash_includes: Sequence[Any] = (),
    use_wrapper_signature: bool = False,
    **wrapper_task_options_base: Any,
) -> Callable[[Callable[[Task[..., Any]], Callable[..., Any]]], TaskWrapper]:
    """Make a decorator that puts a task around another one (mirrors redun's `wraps_task`).

    It decorates a function that is given the inner task and returns the function of the outer one. What is
    made decorates a function or a task: the outer task takes its name, and the inner one moves into a
    namespace below.

    Parameters
    ----------
    wrapper_name : str | None
        The namespace that the inner task moves to; by default the name of the decorated function.
    wrapper_hash_includes : Sequence[Any]
        Values that identify the outer task beside its source and the inner task.
    use_wrapper_signature : bool
        Whether the outer task takes what its own function takes, not what the innermost one does.
    **wrapper_task_options_base : Any
        Options of the outer task, and `version`, as for `task`.

    Raises
    ------
    UsageError
        An option is unknown, or its value cannot be meant.
    """

    options = {name: value for name, value in wrapper_task_options_base.items() if name not in _ARGUMENTS}
    check_given_options(options, wrapper_name or "of wraps_task")

    def declare(make_function: Callable[[Task[..., Any]], Callable[..., Any]]) -> TaskWrapper:
        suffix = wrapper_name or make_function.__name__

        def wrap(wrapped: Callable[..., Any], /) -> Task[..., Any]:
            inner = wrapped if isinstance(wrapped, Task) else task(wrapped)
            name, namespace = inner.name, inner.namespace
            _hide(inner, suffix)
            return task(
                name=name,
                namespace=namespace,
                hash_includes=[*wrapper_hash_includes, inner],
                wrapped_task=inner.fullname,
                use_wrapper_signature=use_wrapper_signature,
                **wrapper_task_options_base,
            )(make_function(inner))

        return cast("TaskWrapper", wrap)

    return declare


def _hide(hidden: Any, suffix: str) -> str:
    """Move a task, and those that it wraps, into a namespace below theirs; return its new name."""
    registry = get_task_registry()
    below = hidden.get_task_option("wrapped_task")
    if below is not None:
        # The innermost first: it makes room for the one around it.
        hidden._task_options_base["wrapped_task"] = _hide(registry.get(below), suffix)
    namespace = f"{hidden.namespace}.{suffix}" if hidden.namespace else suffix
    moved: str = registry.rename(hidden.fullname, namespace, hidden.name).fullname
    return moved
