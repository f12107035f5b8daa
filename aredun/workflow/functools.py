"""Tasks that call and combine tasks (mirrors `redun.functools`), under redun's names and hashes.

The scheduler's own, such as `map_`, `seq` and `const`, are in `aredun.workflow.operators`.
"""

from __future__ import annotations

from itertools import chain
from textwrap import dedent
from typing import TYPE_CHECKING, Any, TypeVar

from aredun.values.expressions import QuotedExpression, quote
from aredun.workflow.operators import compose, compose_apply, map_
from aredun.workflow.tasks import task

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from aredun.workflow.tasks import Call, PartialTask

redun_namespace = "redun"

__all__ = [
    "apply_func",
    "as_task",
    "compose",
    "compose_apply",
    "delay",
    "eval_",
    "flat_map",
    "flatten",
    "force",
    "identity",
    "no_prov",
    "starmap",
    "with_export_options",
    "zip_",
]

T = TypeVar("T")

# redun hashes these tasks by their source: with its hashes either engine finds calls of the other.
_NO_PROV_HASH = "2f37567e3473c0a6aa6285e3ddfe1de3d682f03b"
_NO_PROV_HELPER_HASH = "b5770d718bb65d7c6d9135eca773128c18359d57"
_WITH_EXPORT_OPTIONS_HASH = "5d2f18e5ff6b0171fc0bfd31110a325b9bdc9b79"


@task(version="1")
def identity(x: T) -> T:
    """Return the argument."""
    return x


def delay(x: T) -> PartialTask[T]:
    """Keep a value, or a call, from being evaluated: a task without arguments, for `force`."""
    return identity.partial(x)  # type: ignore[return-value]  # it is generic in its call


def force(x: PartialTask[T]) -> Call[T]:
    """Evaluate what `delay` kept."""
    return x()


@task(version="1")
def apply_func(func: Callable[..., T], *args: Any, **kwargs: Any) -> T:
    """Call a plain function of a module on values that need not be known yet."""
    return func(*args, **kwargs)


def as_task(func: Callable[..., T]) -> PartialTask[T]:
    """Make a task of a plain function of a module: `as_task(max)(1, call)`."""
    return apply_func.partial(func)


@task(version="1")
def eval_(code: str, *args: Any, **kwargs: Any) -> Any:
    """Evaluate a Python expression, with the named arguments as its variables.

    The option `pos_args` names those that are given by position.

    Raises
    ------
    TypeError
        `pos_args` has another number of names than there are arguments by position.
    """
    names = kwargs.pop("pos_args", [])
    if len(names) != len(args):
        raise TypeError(f"eval_ has {len(args)} arguments by position, pos_args {len(names)} names for them")
    return eval(dedent(code), {**dict(zip(names, args, strict=True)), **kwargs})


def starmap(a_task: Callable[..., Any], kwargs: Any = None) -> Call[list[Any]]:
    """Call a task once for each dict of named arguments in a list, which need not be known yet."""
    given = [] if kwargs is None else kwargs
    return map_(eval_.partial("a_task(**x)", pos_args=["x"], a_task=a_task), given)


@task(version="1")
def flatten(list_of_lists: Sequence[Iterable[T]]) -> list[T]:
    """Return the items of all lists in one."""
    return list(chain.from_iterable(list_of_lists))


@task(version="1")
def flat_map(a_task: Callable[[Any], Any], values: list[Any]) -> list[Any]:
    """Call a task on each item of a list, and return the items of all results in one list."""
    return flatten(map_(a_task, values))


@task(version="1")
def zip_(*lists: list[Any]) -> list[tuple[Any, ...]]:
    """Return the tuples of the first items of some lists, the second items, and so on."""
    return list(zip(*lists, strict=False))


@task(name="no_prov_helper", prov=False, compat=[_NO_PROV_HELPER_HASH])
def _evaluate_unrecorded(expr: QuotedExpression) -> Any:
    return expr.eval()


@task(name="no_prov", check_valid="shallow", compat=[_NO_PROV_HASH])
def _evaluate_as_one(expr: QuotedExpression) -> Any:
    return _evaluate_unrecorded(expr)


def no_prov(expr: Any) -> Call[Any]:
    """Evaluate an expression as one recorded call; what it calls is not recorded."""
    return _evaluate_as_one(quote(expr))


@task(name="with_export_options", compat=[_WITH_EXPORT_OPTIONS_HASH])
def _evaluate(expr: QuotedExpression) -> Any:
    return expr.eval()


def with_export_options(expr: QuotedExpression, options: dict[str, Any]) -> Call[Any]:
    """Evaluate a quoted expression with options that all calls in it inherit."""
    return _evaluate.export_options(**options)(expr)
