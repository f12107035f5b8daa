"""What runs on the workers and on the scheduler of a dask cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from distributed import SchedulerPlugin, get_worker
from distributed.utils import sync

from aredun.errors import ExecutorError
from aredun.workflow.executors.remote import Outcome, ResultStore, TaskReference, run_packed

if TYPE_CHECKING:
    from distributed import Scheduler


class BeginPlugin(SchedulerPlugin):  # type: ignore[misc]  # distributed has no types
    """Knows which calls have begun: dask gives a call whose worker has died to another worker by itself."""

    name = "aredun-begin"
    idempotent = True

    async def start(self, scheduler: Scheduler) -> None:
        """Answer the workers."""
        self._scheduler = scheduler
        self._begun: set[str] = set()
        scheduler.handlers["aredun_begin"] = self.begin

    def begin(self, key: str, topic: str | None) -> bool:
        """Take note that a call begins; return whether it does for the first time.

        Parameters
        ----------
        key : str
            dask's key of the call.
        topic : str | None
            Under which its client is told, if it wants to know.
        """
        is_first = key not in self._begun
        self._begun.add(key)
        if topic is not None and is_first:
            self._scheduler.log_event(topic, key)
        return is_first

    def transition(self, key: Any, start: str, finish: str, *args: Any, **kwargs: Any) -> None:
        """Forget what dask forgets."""
        if finish == "forgotten":
            self._begun.discard(key)


def run_on_worker(
    key: str, topic: str | None, reference: TaskReference, data: bytes, storage: ResultStore | None
) -> Outcome:
    """Run a call that has not begun before; blocks.

    Parameters
    ----------
    key : str
        dask's key of the call.
    topic : str | None
        Under which the client is told that it begins.
    reference, data, storage : TaskReference, bytes, ResultStore | None
        For `run_packed`.
    """
    worker = get_worker()
    if not sync(worker.loop, worker.scheduler.aredun_begin, key=key, topic=topic):
        raise ExecutorError("the worker that had begun with it has died")
    return run_packed(reference, data, storage)
