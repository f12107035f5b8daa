"""The root job of an execution."""

from __future__ import annotations

from typing import Any

from aredun.values import is_expression
from aredun.values.expressions import QuotedExpression, SchedulerExpression, TaskExpression, quote
from aredun.values.nested import holds
from aredun.workflow.tasks import get_default_arguments, get_task_registry, task

# redun hashes its root task by its source; a root job must be found in the cache by either engine.
_REDUN_HASH = "d2fb66af6183efcf1b55b176d1e94b48b56f10b8"


@task(namespace="redun", compat=[_REDUN_HASH])
def root_task(expr: QuotedExpression) -> Any:
    """Evaluate the root expression of an execution that is not the call of a task with plain arguments."""
    return expr.eval()


def wrap_root(expression: Any) -> Any:
    """Return the call of a task that is the root job of an execution (mirrors redun's `needs_root_task`).

    Parameters
    ----------
    expression : Any
        What is to be evaluated: the call of a task with plain arguments is the root itself, anything else
        becomes the argument of `redun.root_task`.

    Raises
    ------
    LookupError
        The task is not defined.
    """
    if not isinstance(expression, TaskExpression) or isinstance(expression, SchedulerExpression):
        return root_task(quote(expression))
    called = get_task_registry().get(expression.task_name)
    if called is None:
        raise LookupError(f"unknown task {expression.task_name!r}: import the module that defines it first")
    defaults = get_default_arguments(called, expression.args, expression.kwargs)
    if holds((expression.args, expression.kwargs, defaults), is_expression):
        return root_task(quote(expression))
    return expression
