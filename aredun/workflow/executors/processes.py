"""Functions in processes of this machine, each of which can be killed without harm to the others."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import threading
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING

from aredun.errors import ExecutorError, UsageError
from aredun.workflow.executors.remote import RemoteExecutor, run_packed
from aredun.workflow.executors.threads import run_aside

if TYPE_CHECKING:
    from aredun.backend import RedunBackendDb
    from aredun.workflow.executors.base import FunctionCall
    from aredun.workflow.executors.remote import Outcome, TaskReference


class ProcessExecutor(RemoteExecutor):
    """Runs functions in processes that are started anew (spawn), when they are needed first.

    Each worker is a pool of its own: to kill one of a common `ProcessPoolExecutor`, or of loky, breaks the
    pool, and fails the calls of all others. A call that is cancelled, or outlives its timeout, is killed with
    its process and whatever that started; so is all when the scheduler's process has gone.

    Parameters
    ----------
    max_workers : int | None
        How many processes there are at most; by default as many as the machine has processors.
    """

    def __init__(self, max_workers: int | None = None) -> None:
        if max_workers is not None and max_workers < 1:
            raise UsageError(f"max_workers is {max_workers}: give 1 or more")
        self.capacity: int = max_workers or os.cpu_count() or 1
        self._idle: list[tuple[ProcessPoolExecutor, int]] = []
        self._ending: set[asyncio.Future[None]] = set()

    async def open(self, backend: RedunBackendDb) -> None:
        """Start with no process."""
        self._idle = []

    async def _send(self, call: FunctionCall, reference: TaskReference, data: bytes) -> Outcome:
        pool, pid = self._idle.pop() if self._idle else await self._start(call)
        try:
            call.begin()
            outcome = await asyncio.wrap_future(pool.submit(run_packed, reference, data))
        except BrokenExecutor:
            self._end(pool)
            raise ExecutorError(
                f"task {call.task.fullname} was lost: its worker process {pid} has died"
            ) from None
        except BaseException:
            with suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)
            self._end(pool)
            raise
        self._idle.append((pool, pid))
        return outcome

    async def _start(self, call: FunctionCall) -> tuple[ProcessPoolExecutor, int]:
        """Return a worker, which is a pool of one process, and the id of that."""
        pool = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), _prepare_worker)
        try:
            pid = await asyncio.wrap_future(await asyncio.to_thread(pool.submit, os.getpid))
        except BrokenExecutor:
            raise ExecutorError(
                f"task {call.task.fullname} got no worker process: does the script run its workflow without "
                'if __name__ == "__main__"?'
            ) from None
        except BaseException:
            self._end(pool)
            raise
        return pool, pid

    def _end(self, pool: ProcessPoolExecutor) -> None:
        ending = run_aside(pool.shutdown, "aredun-join")
        self._ending.add(ending)
        ending.add_done_callback(self._ending.discard)

    async def close(self) -> None:
        """End the processes, and wait for that."""
        while self._idle:
            self._end(self._idle.pop()[0])
        if self._ending:
            await asyncio.wait(self._ending)


def _prepare_worker() -> None:
    # A group of its own gets no Ctrl-C from the terminal, and is killed as a whole.
    os.setsid()
    threading.Thread(target=_end_with_parent, name="aredun-parent", daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.killpg(0, signal.SIGKILL)
