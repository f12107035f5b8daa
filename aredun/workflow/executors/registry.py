"""The executors of a scheduler, by name, and whether the tasks of a workflow have the one that they name."""

from __future__ import annotations

import asyncio
import inspect
from concurrent.futures import Executor as Pool
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from types import CodeType, ModuleType
from typing import TYPE_CHECKING, Any

from aredun.errors import UsageError
from aredun.formats.describe import describe_class
from aredun.formats.spelling import suggest
from aredun.values import is_expression
from aredun.values.expressions import ApplyExpression, SchedulerExpression, TaskExpression
from aredun.values.nested import SCALARS, is_long, iter_nested_value
from aredun.values.task_value import PartialTaskValue, TaskValue
from aredun.workflow.executors.base import Executor
from aredun.workflow.executors.futures import FuturesExecutor
from aredun.workflow.executors.processes import ProcessExecutor
from aredun.workflow.executors.threads import ThreadExecutor
from aredun.workflow.tasks import get_task_registry

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from aredun.backend import RedunBackendDb
    from aredun.workflow.executors.base import FunctionCall

# Plain functions run here if nothing else is said, as in redun.
DEFAULT_NAME = "default"


@dataclass(eq=False)
class _Entry:
    """An executor in use: whether it is open, and who may submit calls."""

    executor: Executor
    places: asyncio.Semaphore | None
    opening: asyncio.Lock = field(default_factory=asyncio.Lock)
    is_open: bool = False


class Executors:
    """The executors of one scheduler; each is opened when it is needed first.

    Parameters
    ----------
    given : Mapping[str, Any]
        Executors, pools with the interface of `concurrent.futures.Executor`, or a text that says why a name
        cannot be used, by name. `default`, `thread` and `process` are there anyway.
    max_workers : int
        Threads of the executor `thread`, which is the default one, too.

    Raises
    ------
    UsageError
        Something else is given.
    """

    def __init__(self, given: Mapping[str, Any], max_workers: int) -> None:
        threads = ThreadExecutor(max_workers)
        self._refused = {name: why for name, why in given.items() if isinstance(why, str)}
        self._executors: dict[str, Executor] = {
            **{DEFAULT_NAME: threads, "thread": threads, "process": ProcessExecutor()},
            **{name: _adapt(name, each) for name, each in given.items() if name not in self._refused},
        }
        self._entries: dict[int, _Entry] = {}

    def check(self, task: TaskValue, options: Mapping[str, Any]) -> None:
        """Refuse a call that no executor can run.

        Parameters
        ----------
        task : TaskValue
            What is called.
        options : Mapping[str, Any]
            Of the call, as far as they are known.

        Raises
        ------
        UsageError
            The executor is unknown, or cannot run the task, or does nothing with its `resources`.
        """
        name = options.get("executor")
        executor = self._get(task, name)
        if options.get("resources") and (task.is_async() or not executor.has_resources):
            raise UsageError(
                f"task {task.fullname} asks for resources, of which executor {name or DEFAULT_NAME!r} knows "
                "nothing: name an executor of type dask, or use limits"
            )
        if task.script and task.is_async():
            raise UsageError(f"task {task.fullname} is a script and an async def: make it a def")
        if not task.is_async():
            executor.check(task)
        elif name is not None and not isinstance(executor, ThreadExecutor):
            raise UsageError(
                f"task {task.fullname} is an async def, which runs on the loop of the scheduler: make it a "
                f"def, or leave out executor {name!r}"
            )

    def get_places(self, task: TaskValue, options: Mapping[str, Any]) -> asyncio.Semaphore | None:
        """Return what limits the calls that an executor is given; None if it takes the scheduler's slots."""
        if task.is_async():
            return None
        return self._enter(self._get(task, options.get("executor"))).places

    async def submit(self, call: FunctionCall, backend: RedunBackendDb) -> Any:
        """Run a call on its executor, which is opened by then."""
        entry = self._enter(self._get(call.task, call.options.get("executor")))
        async with entry.opening:
            if not entry.is_open:
                await entry.executor.open(backend)
                entry.is_open = True
        return await entry.executor.submit(call)

    async def close(self) -> None:
        """Close what is open, all at once."""
        entries, self._entries = self._entries, {}
        closing = [entry.executor.close() for entry in entries.values() if entry.is_open]
        results = await asyncio.gather(*closing, return_exceptions=True)
        for error in results:
            if isinstance(error, BaseException):
                raise error

    def _get(self, task: TaskValue, name: Any) -> Executor:
        if name in self._refused:
            raise UsageError(f"task {task.fullname}: executor {name!r} {self._refused[name]}")
        executor = self._executors.get(DEFAULT_NAME if name is None else name)
        if executor is None:
            hint = suggest(str(name), self._executors)
            raise UsageError(
                f"task {task.fullname} names an unknown executor {name!r}: {hint}, or add [executors.{name}] "
                "to redun.ini"
            )
        return executor

    def _enter(self, executor: Executor) -> _Entry:
        entry = self._entries.get(id(executor))
        if entry is None:
            places = None if executor.capacity is None else asyncio.Semaphore(executor.capacity)
            entry = self._entries[id(executor)] = _Entry(executor, places)
        return entry


def _adapt(name: str, executor: Any) -> Executor:
    if isinstance(executor, Executor):
        return executor
    if isinstance(executor, ThreadPoolExecutor):
        return ThreadExecutor(pool=executor)
    if isinstance(executor, Pool) or (hasattr(executor, "submit") and hasattr(executor, "shutdown")):
        return FuturesExecutor(executor)
    raise UsageError(
        f"executor {name!r} is {describe_class(executor)}: give an Executor of aredun, or a pool with the "
        "interface of concurrent.futures.Executor"
    )


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
