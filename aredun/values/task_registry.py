"""The tasks that are defined in this process (mirrors redun's `TaskRegistry`)."""

from __future__ import annotations

import inspect
import os
import sys
from typing import TYPE_CHECKING, Any

from aredun.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator


class TaskRegistry:
    """The tasks that are defined, by full name (mirrors redun's `TaskRegistry`)."""

    def __init__(self) -> None:
        self._tasks: dict[str, Any] = {}

    @property
    def task_hashes(self) -> set[str]:
        """The hashes of all defined tasks."""
        return {task.hash for task in self._tasks.values()}

    def add(self, task: Any) -> None:
        """
        Define a task; one of the same name is replaced.

        Parameters
        ----------
        task : Any
            The task.

        Raises
        ------
        UsageError
            If the one of the same name is of another file, and both are defined for as long as their modules
            are: calls are by name, so that each call of one would run the other.
        """
        replaced = self._tasks.get(task.fullname)
        if replaced is not None:
            if _stays_defined(replaced.func) and _stays_defined(task.func):
                _refuse_other_file(task, replaced)
            del self._tasks[task.fullname]
        self._tasks[task.fullname] = task

    def get(self, task_name: str | None = None, hash: str | None = None) -> Any:
        """
        Find a task by its full name or by its hash.

        Parameters
        ----------
        task_name : str, optional
            Namespace and name, with a dot between them.
        hash : str, optional
            Used where no name is given.

        Returns
        -------
        TaskValue or None
            The task, or None if none is defined under that name or hash.

        Raises
        ------
        ValueError
            If neither is given.
        """
        if task_name:
            return self._tasks.get(task_name)
        if hash:
            return next((task for task in self._tasks.values() if task.hash == hash), None)
        raise ValueError("cannot look up a task without a name or a hash: give one of them")

    def check_current(self, task: Any) -> None:
        """
        Check that a call of a task would run that task.

        Parameters
        ----------
        task : Any
            The task.

        Raises
        ------
        UsageError
            If a task of another file has its name now.
        """
        current = self._tasks.get(task.fullname)
        if current is not None and current.func is not task.func:
            _refuse_other_file(task, current)

    def rename(self, old_name: str, new_namespace: str, new_name: str) -> Any:
        """
        Define a task under another name; its hash stays.

        Parameters
        ----------
        old_name : str
            The full name that it has.
        new_namespace, new_name : str
            Those that it gets.

        Returns
        -------
        Any
            The task.

        Raises
        ------
        KeyError
            If no task has the old name.
        """
        task = self._tasks.pop(old_name)
        task.namespace = new_namespace
        task.name = new_name
        self.add(task)
        return task

    def __iter__(self) -> Iterator[Any]:
        return iter(list(self._tasks.values()))


def _refuse_other_file(task: Any, other: Any) -> None:
    """Raise if two tasks of one name come from different files; one file may define a task anew."""
    places = _find_place(other.func), _find_place(task.func)
    # What a notebook runs, files too, is one program after the other: the later one counts.
    programs = other.func.__module__ == task.func.__module__ == "__main__"
    if places[0] != places[1] and not programs:
        raise UsageError(
            f"two tasks are called {task.fullname!r}, in {places[0]} and in {places[1]}: "
            "set redun_namespace in one of the files, or give one of them another name"
        )


def _find_place(func: Any) -> str:
    """Return the file of a function, or the module of what was typed in."""
    func = inspect.unwrap(func)
    file = getattr(func, "__globals__", {}).get("__file__")
    return os.path.realpath(file) if file else f"module {func.__module__}"


def _stays_defined(func: Any) -> bool:
    """Tell whether a function is neither local to another one nor of a module that is no longer imported."""
    func = inspect.unwrap(func)
    module = sys.modules.get(func.__module__)
    alive = module is not None and module.__dict__ is getattr(func, "__globals__", None)
    return alive and "<locals>" not in func.__qualname__


_task_registry = TaskRegistry()


def get_task_registry() -> TaskRegistry:
    """Return the registry of all tasks of this process (mirrors redun's `get_task_registry`).

    Returns
    -------
    TaskRegistry
        Always the same one.
    """
    return _task_registry
