"""An event loop on a thread of its own, for callers that have none."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Iterator

T = TypeVar("T")

# Items that one trip to the loop brings back at most.
CHUNK_SIZE = 500


class LoopThread:
    """Runs coroutines on an event loop in a daemon thread, for threads that wait for the answer."""

    def __init__(self) -> None:
        self._pid = os.getpid()
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name="aredun-loop", daemon=True)
        self._thread.start()

    @property
    def is_usable(self) -> bool:
        """Whether the thread runs in this process: a fork leaves it behind."""
        return self._pid == os.getpid() and self._thread.is_alive()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the loop; returns what it returned, raises what it raised.

        Parameters
        ----------
        coroutine : Coroutine
            It is cancelled if the waiting thread is interrupted.
        """
        if threading.current_thread() is self._thread:
            coroutine.close()
            raise RuntimeError("the loop's own thread cannot wait for the loop: await the coroutine instead")
        future = asyncio.run_coroutine_threadsafe(coroutine, self.loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def iterate(self, items: AsyncIterator[T]) -> Iterator[T]:
        """Yield what an asynchronous generator yields, a chunk per trip; leaving early closes it."""

        async def get_chunk() -> list[T]:
            chunk: list[T] = []
            async for item in items:
                chunk.append(item)
                if len(chunk) == CHUNK_SIZE:
                    break
            return chunk

        try:
            while chunk := self.run(get_chunk()):
                yield from chunk
        finally:
            # At the very end of a program the thread is gone, and waiting for it would take for ever.
            if not sys.is_finalizing():
                self.run(_close(items))


async def _close(items: AsyncIterator[Any] | AsyncGenerator[Any, None]) -> None:
    if hasattr(items, "aclose"):
        await items.aclose()


_shared: LoopThread | None = None
_shared_lock = threading.Lock()


def get_loop_thread() -> LoopThread:
    """Return the loop thread of this process, started when it is first asked for."""
    global _shared
    with _shared_lock:
        if _shared is None or not _shared.is_usable:
            _shared = LoopThread()
        return _shared


def complete(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that never waits for anything, without an event loop; returns what it returned."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        result: T = stop.value
        return result
    coroutine.close()
    raise RuntimeError(f"{coroutine!r} waits for something: it needs an event loop")
