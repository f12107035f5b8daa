"""The tasks that are defined in this process (mirrors `redun.task.TaskRegistry`)."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator


class TaskRegistry:
    """The tasks that are defined, by full name (mirrors `redun.task.TaskRegistry`)."""

    def __init__(self) -> None:
        self._tasks: dict[str, Any] = {}
        self._hash_counts: Counter[str] = Counter()

    @property
    def task_hashes(self) -> set[str]:
        """The hashes of all defined tasks."""
        return set(self._hash_counts)

    def add(self, task: Any) -> None:
        """Define a task; one of the same name is replaced."""
        replaced = self._tasks.pop(task.fullname, None)
        if replaced is not None:
            self._forget_hash(replaced.hash)
        self._tasks[task.fullname] = task
        self._hash_counts[task.hash] += 1

    def _forget_hash(self, task_hash: str) -> None:
        self._hash_counts[task_hash] -= 1
        if self._hash_counts[task_hash] <= 0:
            del self._hash_counts[task_hash]

    def get(self, task_name: str | None = None, hash: str | None = None) -> Any:
        """
        Find a task by its full name or by its hash.

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

    def rename(self, old_name: str, new_namespace: str, new_name: str) -> Any:
        """
        Define a task under another name; its hash stays.

        Raises
        ------
        KeyError
            If no task has the old name.
        """
        task = self._tasks.pop(old_name)
        self._forget_hash(task.hash)
        task.namespace = new_namespace
        task.name = new_name
        self.add(task)
        return task

    def __iter__(self) -> Iterator[Any]:
        return iter(list(self._tasks.values()))


_task_registry = TaskRegistry()


def get_task_registry() -> TaskRegistry:
    """Return the registry of all tasks of this process (mirrors `redun.task.get_task_registry`)."""
    return _task_registry
