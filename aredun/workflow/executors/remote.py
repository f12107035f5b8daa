"""A call on its way to another process and back: the task by name, values as they are stored."""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import inspect
import os
import sys
import threading
from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aredun.errors import ExecutorError, UsageError
from aredun.formats.describe import describe, describe_error
from aredun.values import Traceback, get_type_registry, pickle_dumps, pickle_loads
from aredun.values.sizes import SMALL_BYTES
from aredun.workflow.executors.base import Executor, FunctionCall
from aredun.workflow.executors.threads import call_function
from aredun.workflow.sizes import is_light
from aredun.workflow.tasks import get_task_registry

if TYPE_CHECKING:
    from aredun.storage.value_store import ValueStore
    from aredun.values.task_value import TaskValue

# The kind of an outcome, and its bytes.
Outcome = tuple[str, bytes]
_VALUE, _STORED, _ERROR, _REFUSAL = "value", "stored", "error", "refusal"
_importing = threading.Lock()


@dataclass(frozen=True)
class TaskReference:
    """A task as another process finds it.

    Attributes
    ----------
    name, hash : str
        Full name, and the hash that tells whether the other process has the same code.
    module, file : str
        Where it is defined; the file where the module cannot be found by its name.
    """

    name: str
    hash: str
    module: str
    file: str


@dataclass(frozen=True)
class ResultStore:
    """Where large results are left for the scheduler.

    Attributes
    ----------
    root_path : str
        Of the value store.
    min_size : int
        Bytes from which on results go there.
    """

    root_path: str
    min_size: int


def make_reference(task: TaskValue) -> TaskReference:
    """Return how another process finds a task.

    Parameters
    ----------
    task : TaskValue
        A task with a plain function.

    Raises
    ------
    UsageError
        No other process can find it.
    """
    func = inspect.unwrap(task.func)
    module = sys.modules.get(task.load_module)
    file = getattr(module, "__file__", None)
    if module is None or "<locals>" in func.__qualname__ or (module.__name__ == "__main__" and not file):
        place = "typed in" if file is None else "defined within a function"
        raise UsageError(
            f"task {task.fullname} is {place}, where no other process can import it: define it at the top of "
            "a module, or leave it to the executor 'thread'"
        )
    return TaskReference(task.fullname, task.hash, task.load_module, os.path.abspath(file) if file else "")


def run_packed(reference: TaskReference, data: bytes, storage: ResultStore | None = None) -> Outcome:
    """Run a call that came from another process; blocks, and raises nothing of the function's.

    Parameters
    ----------
    reference : TaskReference
        The task.
    data : bytes
        The arguments, pickled.
    storage : ResultStore | None
        Where large results go; by default they all go back as they are.

    Returns
    -------
    Outcome
        What came of it, for `RemoteExecutor`.
    """
    try:
        task = _find_task(reference)
        args, kwargs = pickle_loads(data)
    except Exception as error:
        return _REFUSAL, describe_error(error).encode()
    call = FunctionCall(task, args, kwargs, {}, lambda: None, is_here=False)
    try:
        result = call_function(call)
    except Exception as error:
        return _ERROR, _pack_error(error)
    try:
        return _pack_result(result, storage)
    except Exception as error:
        text = f"the result of task {reference.name} cannot leave its process: {describe_error(error)}"
        return _REFUSAL, text.encode()


def _find_task(reference: TaskReference) -> TaskValue:
    with _importing:
        task: TaskValue | None = get_task_registry().get(reference.name)
        if task is None:
            _import(reference)
            task = get_task_registry().get(reference.name)
    if task is None:
        raise UsageError(f"module {reference.module} defines no task {reference.name} where it is to run")
    if task.hash != reference.hash:
        raise UsageError(
            f"task {reference.name} has other code where it is to run: restart the workers, or install there "
            "what the scheduler has"
        )
    return task


def _import(reference: TaskReference) -> None:
    name = reference.module
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name not in (name, name.partition(".")[0]) or not os.path.isfile(reference.file):
            raise UsageError(
                f"task {reference.name} cannot be imported where it is to run: {describe_error(error)}"
            ) from error
        folder = os.path.dirname(reference.file)
        if folder not in sys.path:
            sys.path.insert(0, folder)
        spec = importlib.util.spec_from_file_location(name, reference.file)
        if spec is None or spec.loader is None:
            raise UsageError(f"task {reference.name}: {reference.file} is no Python file") from error
        module = sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)


def _pack_result(result: Any, storage: ResultStore | None) -> Outcome:
    registry = get_type_registry()
    data = registry.serialize(result) if storage else pickle_dumps(result)
    if storage is None or len(data) < storage.min_size:
        return _VALUE, pickle_dumps(result)
    # A worker that never stores anything starts in a third of the time without a database's modules.
    from aredun.storage.value_store import ValueStore

    value_hash = registry.get_hash(result, data=data)
    asyncio.run(ValueStore(storage.root_path).put(value_hash, data))
    return _STORED, pickle_dumps((value_hash, registry.get_type_name(type(result))))


def _pack_error(error: Exception) -> bytes:
    raised = Traceback.from_error(error)
    try:
        return pickle_dumps((error, raised))
    except Exception:
        # Of what pickle cannot take redun records the text, too.
        substitute = Exception(describe(error))
        return pickle_dumps((substitute, Traceback(substitute, raised.frames)))


class RemoteExecutor(Executor):
    """Runs functions in other processes: tasks are found there by their modules, values are pickled."""

    # Where large results are left.
    _store: ValueStore | None = None

    def check(self, task: TaskValue) -> None:
        """Refuse a task that another process could not import."""
        make_reference(task)

    async def submit(self, call: FunctionCall) -> Any:
        """Run a call to its end."""
        reference, data = make_reference(call.task), await _pack_arguments(call)
        kind, data = await self._send(call, reference, data)
        if kind == _REFUSAL:
            raise UsageError(data.decode().removeprefix("UsageError: "))
        if kind == _ERROR:
            error, traceback = pickle_loads(data)
            call.raised = error, traceback
            raise error
        if kind == _VALUE:
            is_small = len(data) < SMALL_BYTES
            return pickle_loads(data) if is_small else await asyncio.to_thread(pickle_loads, data)
        value_hash, type_name = pickle_loads(data)
        stored, is_there = await self._store.get(value_hash, type_name) if self._store else (b"", False)
        if not is_there:
            raise ExecutorError(
                f"the result of task {call.task.fullname} is not in the value store: its worker has to see "
                "the same value_store_path"
            )
        return await asyncio.to_thread(get_type_registry().deserialize, type_name, stored)

    @abstractmethod
    async def _send(self, call: FunctionCall, reference: TaskReference, data: bytes) -> Outcome:
        """Have a call run by `run_packed`; raises ExecutorError if it is lost."""


async def _pack_arguments(call: FunctionCall) -> bytes:
    arguments = (call.args, call.kwargs)
    try:
        if is_light(arguments):
            return pickle_dumps(arguments)
        return await asyncio.to_thread(pickle_dumps, arguments)
    except Exception as error:
        raise UsageError(
            f"an argument of task {call.task.fullname} cannot go to another process: {describe_error(error)}"
        ) from error
