"""What lies behind redun's synchronous backend: aredun's own, its event loop, and the queue of writes."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import os
import re
import weakref
from typing import TYPE_CHECKING, Any

from sqlalchemy import event

from aredun.backend import RedunBackendDb
from aredun.bridge.loop_thread import get_loop_thread
from aredun.bridge.write_behind import WriteBehind
from aredun.config import BackendConfig, make_file_uri, resolve_secret
from aredun.errors import AredunError
from aredun.recording.recorder import Recorder, ValueRecorder
from aredun.values.sizes import Weight, weigh

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable
    from concurrent.futures import Future
    from contextlib import AbstractContextManager

    from aredun.storage import ValueRows


# Small values whose rows are kept at hand. No floats: 0.0 and -0.0 are equal and have different bytes.
KEPT_VALUES = 10_000
MAX_KEPT_BYTES = 1024
_IMMUTABLE = frozenset({int, str, bool, type(None)})
_FOREIGN_KEYS = re.compile(r"\s*PRAGMA\s+foreign_keys\s*=\s*(ON|OFF)", re.IGNORECASE)


class StoredValue:
    """A value as it is stored, for the thread that asked to read it back: its classes may belong there."""

    def __init__(self, type_name: str, data: bytes) -> None:
        self.type_name = type_name
        self.data = data


class _DeferringRegistry:
    """redun's registry, but for reading stored values back."""

    def __init__(self, registry: Any) -> None:
        self._registry = registry

    def __getattr__(self, name: str) -> Any:
        return getattr(self._registry, name)

    def deserialize(self, type_name: str, data: bytes) -> StoredValue:
        """Put off what the asking thread will do."""
        return StoredValue(type_name, data)


class _DirectValueRecorder(ValueRecorder):
    """Serializes in the thread that records, as redun does: what is recorded may change afterwards."""

    def __init__(self, type_registry: Any, config: BackendConfig, value_store: Any) -> None:
        super().__init__(type_registry, config, value_store)
        self._small: dict[tuple[type, Any], ValueRows] = {}

    async def prepare(self, value: Any, data: bytes | None = None) -> ValueRows:
        """Make the rows of a value without ever waiting for the loop that this does not run on."""
        # redun hands a result over once per cache, and once more wherever it is an argument.
        key = (type(value), value) if data is None and type(value) in _IMMUTABLE else None
        rows = self._small.get(key) if key is not None else None
        if rows is not None:
            return rows
        serialized = self.serialize(value, data, plain=weigh(value) is Weight.PLAIN)
        if self._value_store is not None:
            for value_hash, stored in serialized.to_store:
                get_loop_thread().run(self._value_store.put(value_hash, stored))
        if key is not None and serialized.rows.size <= MAX_KEPT_BYTES and not serialized.to_store:
            if len(self._small) >= KEPT_VALUES:
                self._small.clear()
            self._small[key] = serialized.rows
        return serialized.rows


class BridgeCore:
    """aredun's side of one open database.

    Parameters
    ----------
    db_uri : str
        As aredun takes it.
    section : mapping of strings
        The `[backend]` section.
    logger : logging.Logger
        Hears of errors of queued writes.
    type_registry : Any
        redun's registry.

    Attributes
    ----------
    loop : LoopThread
        Runs all that follows.
    backend : RedunBackendDb
        aredun's; values that it finds come as `StoredValue`.
    queue : WriteBehind
        What has been recorded and is not written yet.
    recorder : Recorder
        Turns what is recorded into writes of the queue.
    known_tasks : set[str]
        Hashes of tasks that have been recorded.
    """

    def __init__(self, db_uri: str, section: Any, logger: logging.Logger, type_registry: Any) -> None:
        self._db_uri = db_uri
        self._section = section
        self._logger = logger
        self._type_registry = type_registry
        self._open()
        self.recorder = Recorder(
            _DirectValueRecorder(type_registry, self.backend.config, self.backend.value_store)
        )
        self._open_jobs: dict[str, set[str]] = {}
        self.known_tasks: set[str] = set()
        self.is_closed = False
        _open_cores.add(self)

    def open_job(self, job: Any) -> None:
        """Note that a job of an execution has started."""
        self._open_jobs.setdefault(job.execution.id, set()).add(job.id)

    def close_job(self, job: Any) -> bool:
        """Note that a job has ended; tells whether no other of its execution is running."""
        jobs = self._open_jobs.get(job.execution.id, set())
        jobs.discard(job.id)
        if not jobs:
            self._open_jobs.pop(job.execution.id, None)
        return not jobs

    def _open(self) -> None:
        self.loop = get_loop_thread()
        config = resolve_secret(BackendConfig.parse(self._section, self._db_uri))
        self.backend = RedunBackendDb(
            config=config, logger=self._logger, type_registry=_DeferringRegistry(self._type_registry)
        )
        self.loop.run(self._create_engine())
        self.queue = WriteBehind(self.loop, self.backend.database, self._logger)

    async def _create_engine(self) -> None:
        self.backend.create_engine()

    def get_usable(self) -> BridgeCore:
        """Return this core, opened anew if the process has been forked since.

        A fork leaves the loop's thread and what was queued to its parent.
        """
        if not self.loop.is_usable:
            # Kept, so that nothing closes it: the parent process goes on with the same connections.
            _of_parents.append(self.backend)
            path = self.backend.database.file_path
            if path is not None:
                # The file that stands for `:memory:`, too.
                self._db_uri = make_file_uri(path)
            self._open()
        return self

    async def aclose(self) -> None:
        """Write what is queued and close aredun's connections."""
        if not self.is_closed:
            self.is_closed = True
            _open_cores.discard(self)
            await self.queue.drain()
            await self.backend.close()

    def abandon(self) -> None:
        """Close without waiting: garbage may be collected in the loop's own thread."""
        if not self.is_closed and self.loop.is_usable:
            # The loop itself holds tasks weakly.
            closing = asyncio.run_coroutine_threadsafe(self._aclose_quietly(), self.loop.loop)
            _closing.add(closing)
            closing.add_done_callback(_closing.discard)

    async def _aclose_quietly(self) -> None:
        # The queue has logged its errors; at the end of a program the threads that closing needs are gone.
        with contextlib.suppress(AredunError, RuntimeError):
            await self.aclose()

    def close_at_exit(self) -> None:
        """Write what is queued when the program ends, and leave sqlite nothing to tidy up."""
        if self.loop.is_usable:
            self.loop.run(self._aclose_quietly())


_open_cores: set[BridgeCore] = set()
_of_parents: list[RedunBackendDb] = []
_closing: set[Future[None]] = set()


@atexit.register
def _close_all() -> None:
    for core in list(_open_cores):
        core.close_at_exit()


_watched: weakref.WeakSet[Any] = weakref.WeakSet()


def _leave_connections() -> None:
    for engine in list(_watched):
        engine.dispose(close=False)


# Parent and child must not talk to a server on one connection.
os.register_at_fork(after_in_child=_leave_connections)


def watch_engine(
    engine: Any, core: BridgeCore, translate: Callable[[], AbstractContextManager[None]]
) -> None:
    """Let all that a synchronous engine reads see what has been recorded.

    Parameters
    ----------
    engine : sqlalchemy.Engine
        redun's, on the same database.
    core : BridgeCore
        What writes.
    translate : callable
        Makes the context manager in which errors of queued writes are raised.
    """

    def see_writes(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        # A connection that has changed something holds locks, for which the queue would wait.
        if not connection.info.get("aredun_changed"):
            with translate():
                usable = core.get_usable()
                usable.queue.flush()
                file = usable.backend.database.file
                if file is not None:
                    file.require_same()
            if not statement.lstrip()[:6].upper().startswith(("SELECT", "PRAGMA")):
                connection.info["aredun_changed"] = True
        switch = _FOREIGN_KEYS.match(statement)
        if switch is not None:
            # redun switches them off for its own writes, which go through aredun's connection, not this one.
            core.loop.run(core.backend.database.set_foreign_keys(switch[1].upper() == "ON"))

    def forget(connection: Any) -> None:
        connection.info.pop("aredun_changed", None)

    _watched.add(engine)
    event.listen(engine, "before_cursor_execute", see_writes)
    event.listen(engine, "commit", forget)
    event.listen(engine, "rollback", forget)
