"""Where the nodes of a graph stand: layers from left to right, worked out in a process beside the server."""

from __future__ import annotations

import asyncio
import contextlib
import graphlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import orjson
from starlette.exceptions import HTTPException

from aredun.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

_WORKER = Path(__file__).with_name("layout_worker.py")
# In seconds, and for how many graphs at a time a client may wait.
_TIMEOUT = 10.0
_MAX_WAITING = 16
_MAX_ANSWER = 4 * 1024 * 1024


class LayoutProcess:
    """One process that lays graphs out, one at a time. It starts with the first graph."""

    def __init__(self) -> None:
        self._process: asyncio.subprocess.Process | None = None
        self._turn = asyncio.Lock()
        self._waiting = 0

    async def lay_out(self, size: int, edges: Sequence[tuple[int, int]]) -> bytes:
        """
        Return where the nodes of a graph stand, and where its long edges bend, as JSON.

        Raises
        ------
        UsageError
            An edge leads to no node or is given twice, or the edges form a cycle.
        HTTPException
            503: it took too long, too many wait for theirs, or the process ended.
        """
        check_graph(size, edges)
        if self._waiting >= _MAX_WAITING:
            raise HTTPException(503, "too many graphs wait for their layout: try again soon")
        self._waiting += 1
        try:
            async with self._turn, asyncio.timeout(_TIMEOUT):
                answer = await self._ask(orjson.dumps([size, edges]) + b"\n")
        except TimeoutError as error:
            raise HTTPException(503, "the layout of this graph takes too long: group its nodes") from error
        finally:
            self._waiting -= 1
        if not answer:
            raise HTTPException(503, "the process that lays graphs out ended: try again")
        return answer

    async def _ask(self, question: bytes) -> bytes:
        """Send a line and return the answer; whatever keeps it from coming ends the process."""
        answer = b""
        try:
            if self._process is None:
                # Safe path: a module of this folder must not stand for one of Python's.
                self._process = await asyncio.create_subprocess_exec(
                    sys.executable,
                    "-P",
                    str(_WORKER),
                    stdin=asyncio.subprocess.PIPE,
                    stdout=asyncio.subprocess.PIPE,
                    stderr=asyncio.subprocess.DEVNULL,
                    limit=_MAX_ANSWER,
                )
            reader, writer = self._process.stdout, self._process.stdin
            if reader is not None and writer is not None:
                writer.write(question)
                with contextlib.suppress(ConnectionError):
                    await writer.drain()
                answer = await reader.readline()
        finally:
            if not answer.endswith(b"\n"):
                await self.close()
        return answer

    async def close(self) -> None:
        """End the process, if there is one."""
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def check_graph(size: int, edges: Sequence[tuple[int, int]]) -> None:
    """Raise a UsageError if an edge leads to no node or is given twice, or if the edges form a cycle."""
    for start, end in edges:
        if not (0 <= start < size and 0 <= end < size):
            raise UsageError(f"the edge from {start} to {end} leads outside: there are {size} nodes, from 0")
    if len(set(edges)) < len(edges):
        raise UsageError("an edge is given twice: give each once")
    sorter: graphlib.TopologicalSorter[int] = graphlib.TopologicalSorter()
    for start, end in edges:
        sorter.add(end, start)
    try:
        sorter.prepare()
    except graphlib.CycleError as error:
        nodes = " → ".join(map(str, reversed(error.args[1][:20])))
        raise UsageError(f"the edges form a cycle: {nodes}") from error
