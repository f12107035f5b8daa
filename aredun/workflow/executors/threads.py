"""Functions in threads of this process."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from aredun.workflow.executors.base import Executor, FunctionCall
from aredun.workflow.executors.scripts import prepare_command
from aredun.workflow.failures import make_task_error

if TYPE_CHECKING:
    from collections.abc import Callable

    from aredun.backend import RedunBackendDb


class ThreadExecutor(Executor):
    """Runs functions in threads; one that has begun cannot be interrupted.

    Parameters
    ----------
    max_workers : int
        How many threads there are.
    pool : ThreadPoolExecutor | None
        Threads of the caller's own, which are left alone at the end, in place of `max_workers` new ones.
    """

    def __init__(self, max_workers: int = 1, *, pool: ThreadPoolExecutor | None = None) -> None:
        self._max_workers = max_workers
        self._given = pool
        self._pool = pool

    async def open(self, backend: RedunBackendDb) -> None:
        """Get the threads ready."""
        self._pool = self._given or ThreadPoolExecutor(self._max_workers, thread_name_prefix="aredun-task")

    async def submit(self, call: FunctionCall) -> Any:
        """Run a call; when it is cancelled, a function that has begun is left alone, a script is killed."""
        run = contextvars.copy_context().run
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, run, call_function, call)
        except asyncio.CancelledError:
            call.script.kill()
            raise

    async def close(self) -> None:
        """Wait for the threads."""
        pool, self._pool = self._pool, None
        if pool is None or pool is self._given:
            return
        pool.shutdown(wait=False, cancel_futures=True)
        await run_aside(pool.shutdown, "aredun-join")


def call_function(call: FunctionCall) -> Any:
    """Call the function of a call in this thread; blocks.

    Parameters
    ----------
    call : FunctionCall
        What to run.
    """
    call.begin()
    # A frame of this file marks where a traceback enters the user's code.
    try:
        result = call.task.func(*call.args, **call.kwargs)
        if not call.task.script:
            return result
        command, name = prepare_command(result), call.task.fullname
        return call.script.run(command, name, own_group=call.is_here)
    except BaseException as raised:
        # A future refuses StopIteration, and whoever waits for it would wait for ever; CancelledError it
        # takes for its own cancellation.
        error = make_task_error(call.task.fullname, raised)
        if error is raised:
            raise
        raise error from raised


def run_aside(function: Callable[[], object], name: str) -> asyncio.Future[None]:
    """Run what may take long in a thread that nothing waits for where nobody waits for the future.

    Parameters
    ----------
    function : Callable[[], object]
        What to call.
    name : str
        The thread's.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()

    def finish() -> None:
        if not done.done():
            done.set_result(None)

    def run() -> None:
        function()
        # The loop may be closed by now.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(finish)

    threading.Thread(target=run, name=name, daemon=True).start()
    return done
