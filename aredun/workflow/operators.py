"""Tasks that steer the evaluation of expressions: conditions, error handling, order, tags.

They have the names and hashes of redun's own, so workflows that use them are cached across both engines.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from aredun.values.expressions import SchedulerExpression, derive_expression
from aredun.values.nested import map_nested_value
from aredun.workflow.outcomes import is_successful
from aredun.workflow.tasks import (
    CacheCheckValid,
    CacheResult,
    CacheScope,
    get_task_registry,
    hash_args_eval,
    scheduler_task,
    task,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Sequence

    from aredun.workflow.evaluation import Evaluator
    from aredun.workflow.jobs import Scope
    from aredun.workflow.tasks import PartialTask, Task

redun_namespace = "redun"

__all__ = [
    "apply_tags",
    "catch",
    "catch_all",
    "compose",
    "compose_apply",
    "cond",
    "const",
    "get_context",
    "map_",
    "merge_handles",
    "seq",
    "throw",
]


@scheduler_task()
def cond(
    evaluator: Evaluator, scope: Scope, _: SchedulerExpression, predicate: Any, then: Any, *rest: Any
) -> Coroutine[Any, Any, Any]:
    """Evaluate only the branch that applies.

    It is written `cond(if, then, elif, then, ..., otherwise)`.

    Parameters
    ----------
    predicate : Any
        Decides by its truth, once it is evaluated.
    then : Any
        The branch for true.
    *rest : Any
        More predicates, each with its branch, and the branch for false at last; without that, None.

    Returns
    -------
    Any
        The value of the branch: a lazy call of it.
    """

    async def choose(decision: Awaitable[Any], branches: tuple[Any, ...]) -> Any:
        if await decision:
            return await evaluator.evaluate(branches[0], scope)
        if len(branches) < 3:
            return await evaluator.evaluate(branches[1], scope) if len(branches) == 2 else None
        return await choose(evaluator.evaluate(branches[1], scope), branches[2:])

    return choose(evaluator.evaluate(predicate, scope), (then, *rest))


@scheduler_task()
def seq(
    evaluator: Evaluator, scope: Scope, _: SchedulerExpression, exprs: Sequence[Any]
) -> Coroutine[Any, Any, list[Any]]:
    """Evaluate expressions one after the other.

    Parameters
    ----------
    exprs : sequence of Any
        The expressions, in order.

    Returns
    -------
    list of Any
        Their values in that order: a lazy call of it.
    """
    first = [evaluator.evaluate(expr, scope) for expr in exprs[:1]]

    async def go_on() -> list[Any]:
        values = [await value for value in first]
        return values + [await evaluator.evaluate(expr, scope) for expr in exprs[1:]]

    return go_on()


@task(version="1")
def throw(error: Exception) -> None:
    """Raise an exception, as a lazy call.

    Parameters
    ----------
    error : Exception
        What is raised when the call is evaluated.
    """
    raise error


@task(version="1")
def const(x: Any, _: Any) -> Any:
    """Return the first argument, after both are evaluated.

    Parameters
    ----------
    x : Any
        What is returned.
    _ : Any
        What has to be evaluated too.

    Returns
    -------
    Any
        The first argument's value: a lazy call of it.
    """
    return x


@scheduler_task()
async def catch(
    evaluator: Evaluator, scope: Scope, expression: SchedulerExpression, expr: Any, *catch_args: Any
) -> Any:
    """Evaluate an expression, and a recover task if it fails.

    An error class, or a tuple of them, is followed by the task that is called with the error. An error that
    was recovered from is cached; any other is not.

    It is written `catch(expr, ValueError, recover, ...)`.

    Parameters
    ----------
    expr : Any
        The expression.
    *catch_args : Any
        Error classes, or tuples of them, each followed by the task that is called with the error.

    Returns
    -------
    Any
        The value of the expression or of the recovery: a lazy call of it.
    """
    backend = evaluator.backend
    eval_hash, args_hash = hash_args_eval(backend.type_registry, catch, (expr, *catch_args), {})

    async def remember(final: Any) -> None:
        await backend.record_value(catch)
        await backend.set_eval_cache(eval_hash, catch.hash, args_hash, final)

    async def recover(error: Exception) -> Any:
        for error_class, task_ in zip(catch_args[::2], catch_args[1::2], strict=True):
            if isinstance(error, error_class):
                # The dataflow goes from the expression through the error and the recovery to the result.
                recovery = task_(derive_expression(expr, error))
                derive_expression(recovery, expression)
                value = await evaluator.evaluate(recovery, scope)
                await remember(recovery)
                return value
        raise error

    cached, is_cached = await _find_cached_branch(evaluator, expression, eval_hash, args_hash)
    try:
        value = await evaluator.evaluate(cached if is_cached else expr, scope)
    except Exception as error:
        return await recover(error)
    if not is_cached:
        await remember(expr)
    return value


async def _find_cached_branch(
    evaluator: Evaluator, expression: SchedulerExpression, eval_hash: str, args_hash: str
) -> tuple[Any, bool]:
    cache_scope = CacheScope(expression._options.get("cache_scope", CacheScope.BACKEND))
    if not evaluator.use_cache or cache_scope is CacheScope.NONE:
        return None, False
    branch, _, kind = await evaluator.backend.check_cache(
        catch.hash,
        args_hash,
        eval_hash,
        evaluator.execution.id,
        get_task_registry().task_hashes,
        cache_scope,
        CacheCheckValid.FULL,
        allowed_cache_results={CacheResult.SINGLE},
    )
    return branch, kind is not CacheResult.MISS


@scheduler_task()
def catch_all(
    evaluator: Evaluator,
    scope: Scope,
    _: SchedulerExpression,
    exprs: Any,
    error_class: Any = None,
    recover: Callable[[Any], Any] | None = None,
) -> Coroutine[Any, Any, Any]:
    """Evaluate all expressions of a nested value to their end, whether or not some fail.

    If any failed, `recover` is called with the nested value, errors in place of results; without it, or for
    an error of another class, the first error is raised.

    Parameters
    ----------
    exprs : Any
        Expressions in lists, tuples, sets, dicts and named tuples.
    error_class : type or tuple of type, optional
        What `recover` is good for.
    recover : task, optional
        Is called with the nested value, errors in place of results.

    Returns
    -------
    Any
        The nested value with results, or what `recover` makes of it: a lazy call of it.
    """
    started: list[asyncio.Future[Any]] = []

    def start(term: Any) -> int:
        started.append(evaluator.evaluate(term, scope))
        return len(started) - 1

    shape = map_nested_value(start, exprs)

    async def collect() -> Any:
        if started:
            await asyncio.wait(started)
        errors = [error for future in started if (error := future.exception()) is not None]
        outcome = map_nested_value(lambda place: started[place].exception() or started[place].result(), shape)
        if not errors:
            return outcome
        classes, recovery = await evaluator.evaluate((error_class, recover), scope)
        unexpected = [error for error in errors if recovery is None or not isinstance(error, classes)]
        if unexpected:
            raise unexpected[0]
        return await evaluator.evaluate(recovery(outcome), scope)

    return collect()


@scheduler_task()
def apply_tags(
    evaluator: Evaluator,
    scope: Scope,
    _: SchedulerExpression,
    value: Any,
    tags: Sequence[tuple[str, Any]] = (),
    job_tags: Sequence[tuple[str, Any]] = (),
    execution_tags: Sequence[tuple[str, Any]] = (),
) -> Coroutine[Any, Any, Any]:
    """Tag a value, the current job, or the execution.

    Parameters
    ----------
    value : Any
        What is evaluated, and tagged with `tags`.
    tags, job_tags, execution_tags : sequence of (key, value)
        The tags of the value, of the job that calls this, and of its execution; values are JSON.

    Returns
    -------
    Any
        The value: a lazy call of it.
    """
    evaluated = evaluator.evaluate((value, tags, job_tags, execution_tags), scope)

    async def note() -> Any:
        final, value_pairs, job_pairs, execution_pairs = await evaluated
        if scope.job is not None:
            if value_pairs:
                tagged = (await evaluator.backend.record_value(final), list(value_pairs))
                scope.job.value_tags = [*scope.job.value_tags, tagged]
            scope.job.job_tags = [*scope.job.job_tags, *job_pairs]
            scope.job.execution_tags = [*scope.job.execution_tags, *execution_pairs]
        return final

    return note()


@scheduler_task()
def get_context(
    evaluator: Evaluator, scope: Scope, _: SchedulerExpression, var_path: str, default: Any = None
) -> Coroutine[Any, Any, Any]:
    """Return a context variable.

    Parameters
    ----------
    var_path : str
        Its name; dots lead into nested ones.
    default : Any
        What is returned where there is no such variable.

    Returns
    -------
    Any
        The variable's value: a lazy call of it.
    """
    evaluated = evaluator.evaluate(scope.context, scope)

    async def find() -> Any:
        value: Any = await evaluated
        for part in var_path.split("."):
            if not isinstance(value, dict) or part not in value:
                return default
            value = value[part]
        return value

    return find()


@scheduler_task()
def merge_handles(
    evaluator: Evaluator, scope: Scope, _: SchedulerExpression, handles_expr: Sequence[Any]
) -> Coroutine[Any, Any, Any]:
    """Make one handle of several forks of it: the first, which then comes after all of them.

    Parameters
    ----------
    handles_expr : sequence of Handle
        The forks, or expressions of them.

    Returns
    -------
    Handle
        The first: a lazy call of it.

    Raises
    ------
    ValueError
        The handles have several names.
    """
    evaluated = evaluator.evaluate(handles_expr, scope)

    async def merge() -> Any:
        first, *others = await evaluated
        if {handle.__handle__.name for handle in others} - {first.__handle__.name}:
            raise ValueError("merge_handles needs forks of one handle, not handles of several names")
        await evaluator.backend.advance_handle(others, first)
        return first

    return merge()


@task(version="1")
def compose_apply(tasks: Sequence[Task[..., Any]], *args: Any, **kwargs: Any) -> Any:
    """Call the last task with the arguments, the one before it with the result, and so on.

    Parameters
    ----------
    tasks : sequence of Task
        The tasks; the last is called first.
    *args, **kwargs : Any
        The arguments of the last task.

    Returns
    -------
    Any
        The result of the first task: a lazy call of it.
    """
    *others, last = tasks
    result = last(*args, **kwargs)
    for called in reversed(others):
        result = called(result)
    return result


def compose(*tasks: Any) -> PartialTask[Any]:
    """Return the task that calls the last of some tasks, then the others from right to left.

    Parameters
    ----------
    *tasks : Task
        The tasks; the last is called first.

    Returns
    -------
    PartialTask
        To be called with the arguments of the last task.
    """
    return compose_apply.partial(tasks)


@scheduler_task(version="1")
def map_(
    evaluator: Evaluator, scope: Scope, _: SchedulerExpression, a_task: Callable[[Any], Any], values: Any
) -> Coroutine[Any, Any, list[Any]]:
    """Call a task on each item of a list.

    Of several in one another, all tasks are called on an item at once.

    Parameters
    ----------
    a_task : Task
        Takes one item.
    values : list of Any
        The items, or an expression of them.

    Returns
    -------
    list of Any
        Results in the order of the items: a lazy call of it.
    """
    tasks = [a_task]
    while isinstance(values, SchedulerExpression) and values.task_name == map_.fullname:
        inner, values = values.args
        tasks.append(inner)
    called = a_task if len(tasks) == 1 else compose(*tasks)
    # The calls take the items of a list as they are: their lineage then leads to what makes each item.
    items = values if isinstance(values, list | tuple) else None
    evaluated = evaluator.evaluate((called, values if items is None else None), scope)

    def start(known: tuple[Any, Any]) -> asyncio.Future[Any]:
        return evaluator.evaluate([known[0](item) for item in (known[1] if items is None else items)], scope)

    started = start(evaluated.result()) if items is not None and is_successful(evaluated) else None

    async def call() -> list[Any]:
        mapped: list[Any] = await (start(await evaluated) if started is None else started)
        return mapped

    return call()
