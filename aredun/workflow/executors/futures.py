"""Functions in whatever has the interface of `concurrent.futures.Executor`."""

from __future__ import annotations

import asyncio
from concurrent.futures import BrokenExecutor
from typing import TYPE_CHECKING

from aredun.errors import ExecutorError
from aredun.formats.describe import describe_error
from aredun.workflow.executors.remote import RemoteExecutor, run_packed

if TYPE_CHECKING:
    from concurrent.futures import Executor as Pool

    from aredun.workflow.executors.base import FunctionCall
    from aredun.workflow.executors.remote import Outcome, TaskReference


class FuturesExecutor(RemoteExecutor):
    """Runs functions in a pool of the caller's own, which is left alone at the end.

    The pool may be in other processes: tasks are found by their module, and values are pickled. What the pool
    has begun is left alone when it is cancelled, and the time of a try begins when the pool gets it.

    Parameters
    ----------
    pool : concurrent.futures.Executor
        A `ProcessPoolExecutor`, loky's, mpi4py's, dask's `client.get_executor()` ...
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def _send(self, call: FunctionCall, reference: TaskReference, data: bytes) -> Outcome:
        call.begin()
        try:
            # A pool may start its workers here.
            future = await asyncio.to_thread(self._pool.submit, run_packed, reference, data)
            return await asyncio.wrap_future(future)
        except (BrokenExecutor, RuntimeError) as error:
            raise ExecutorError(
                f"task {call.task.fullname} was lost by its pool: {describe_error(error)}"
            ) from error
