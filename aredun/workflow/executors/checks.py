"""Whether the tasks of a workflow have an executor, as far as that can be seen before anything runs."""

from __future__ import annotations

import inspect
from contextlib import suppress
from types import CodeType, ModuleType
from typing import TYPE_CHECKING, Any

from aredun.values import is_expression
from aredun.values.expressions import ApplyExpression, SchedulerExpression, TaskExpression
from aredun.values.nested import SCALARS, is_long, iter_nested_value
from aredun.values.task_value import PartialTaskValue, TaskValue
from aredun.workflow.tasks import get_task_registry

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aredun.workflow.executors.registry import Executors


def check_workflow(executors: Executors, expression: Any) -> None:
    """Check the calls in an expression, and all tasks that their functions name, and so on.

    Parameters
    ----------
    executors : Executors
        Those of the scheduler.
    expression : Any
        What is to be run.

    Raises
    ------
    UsageError
        A task asks for what the executors do not have.
    """
    waiting: list[TaskValue] = []
    for call in _iter_calls(expression):
        task = get_task_registry().get(call.task_name)
        if task is not None and not isinstance(call, SchedulerExpression):
            executors.check(task, _get_known({**task.get_task_options(), **call._options}))
            waiting.append(task)
    seen = {task.fullname for task in waiting}
    while waiting:
        for task in _iter_named_tasks(waiting.pop()):
            if task.fullname not in seen:
                seen.add(task.fullname)
                # A call may name another executor than the task, hence not what only `default` refuses.
                if task.has_task_option("executor"):
                    executors.check(task, _get_known(task.get_task_options()))
                waiting.append(task)


def _get_known(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if not is_expression(value)}


def _iter_calls(value: Any) -> Iterator[TaskExpression]:
    if is_long(value):
        return
    for leaf in iter_nested_value(value, SCALARS):
        if isinstance(leaf, ApplyExpression):
            if isinstance(leaf, TaskExpression):
                yield leaf
            yield from _iter_calls((leaf.args, leaf.kwargs))


def _iter_named_tasks(task: TaskValue) -> Iterator[TaskValue]:
    """Yield the tasks that the function of a task names: globals, what it closes over, parts of modules."""
    func = inspect.unwrap(task.func)
    code = getattr(func, "__code__", None)
    if code is None:
        return
    names = set(_iter_names(code))
    known = getattr(func, "__globals__", {})
    found = [known[name] for name in names if name in known]
    for cell in func.__closure__ or ():
        # A cell may be empty still.
        with suppress(ValueError):
            found.append(cell.cell_contents)
    for module in [value for value in found if isinstance(value, ModuleType)]:
        found += [vars(module)[name] for name in names if name in vars(module)]
    for value in found:
        named = value.task if isinstance(value, PartialTaskValue) else value
        if isinstance(named, TaskValue):
            yield named


def _iter_names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _iter_names(constant)
