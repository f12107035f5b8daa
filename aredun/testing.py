"""Tests of workflows: a scheduler on a throw-away repository, and what ran on it (a pytest plugin).

pytest finds it by its entry point: a test that takes the fixture `aredun_workflow` gets a `WorkflowTester`.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Any, TypeVar, overload

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from aredun.scheduler import Job, JobStatus
    from aredun.values.task_value import TaskValue
    from aredun.workflow.tasks import Call

__all__ = ["WorkflowTester", "aredun_workflow"]

T = TypeVar("T")


class WorkflowTester:
    """Runs workflows on a repository of its own, and tells what ran.

    Parameters
    ----------
    uri : str
        The repository, made when the first workflow runs; what it holds is the cache of the next ones.
    **settings : Any
        Settings of the `Scheduler`, such as `limits` or `context`.

    Attributes
    ----------
    uri : str
        The repository, for a backend or `aredun --db`.
    ran, cached, failed : Counter[str]
        How many jobs of each task, by full name, called their function, had a result already, and failed:
        in the last run.
    """

    def __init__(self, uri: str, **settings: Any) -> None:
        self.uri = uri
        self._settings = settings
        self.ran: Counter[str] = Counter()
        self.cached: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()

    @overload
    def run(self, expression: Call[T], **options: Any) -> T: ...
    @overload
    def run(self, expression: T, **options: Any) -> T: ...
    def run(self, expression: Any, **options: Any) -> Any:
        """Run a workflow to its end, in a test that is no coroutine.

        Parameters
        ----------
        expression : Call[T] | T
            A task call, or any value with task calls in it.
        **options : Any
            As for `Scheduler.run`.

        Raises
        ------
        Exception
            What the workflow failed of.
        """
        return asyncio.run(self.arun(expression, **options))

    @overload
    async def arun(self, expression: Call[T], **options: Any) -> T: ...
    @overload
    async def arun(self, expression: T, **options: Any) -> T: ...
    async def arun(self, expression: Any, **options: Any) -> Any:
        """Run a workflow, in a test that is a coroutine; as `run`."""
        # Whoever runs no workflow in a test need not wait for the database library.
        from aredun.backend import RedunBackendDb
        from aredun.scheduler import Scheduler

        self.ran, self.cached, self.failed = Counter(), Counter(), Counter()
        backend = RedunBackendDb(self.uri)
        await backend.load(migrate=True)
        try:
            async with Scheduler(backend, on_status=self._count, **self._settings) as scheduler:
                return await scheduler.run(expression, **options)
        finally:
            await backend.close()

    def _count(self, job: Job, previous: JobStatus | None) -> None:
        counters = {"DONE": self.ran, "CACHED": self.cached, "FAILED": self.failed}
        if job.status in counters:
            counters[job.status][job.task.fullname] += 1

    def assert_ran(self, *tasks: TaskValue | str) -> None:
        """Check that these tasks, and no other, called their functions in the last run, with success.

        Parameters
        ----------
        *tasks : Task | str
            Tasks or their full names; none to check that nothing ran.

        Raises
        ------
        AssertionError
            Others did, or one did not.
        """
        _compare("ran", self.ran, tasks)

    def assert_cached(self, *tasks: TaskValue | str) -> None:
        """Check that these tasks, and no other, had a result already in the last run; as `assert_ran`."""
        _compare("came from the cache", self.cached, tasks)

    def assert_failed(self, *tasks: TaskValue | str) -> None:
        """Check that these tasks, and no other, failed in the last run; as `assert_ran`."""
        _compare("failed", self.failed, tasks)


def _compare(what: str, found: Counter[str], tasks: tuple[TaskValue | str, ...]) -> None:
    __tracebackhide__ = True
    expected = {each if isinstance(each, str) else each.fullname for each in tasks}
    if set(found) != expected:
        names = [", ".join(sorted(each)) or "nothing" for each in (found, expected)]
        raise AssertionError(f"{names[0]} {what}, not {names[1]}")


@pytest.fixture
def aredun_workflow(tmp_path: Path) -> WorkflowTester:
    """Return what runs workflows on a repository in a folder of the test's own."""
    return WorkflowTester(f"sqlite:///{tmp_path / 'redun.db'}")
