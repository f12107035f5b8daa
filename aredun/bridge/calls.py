"""How redun's synchronous backend calls aredun's, and the calls that are handed on as they are."""

from __future__ import annotations

from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, TypeVar

from aredun.errors import RedunDatabaseError
from aredun.transfer.records.refusals import join_errors

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Hashable, Iterable, Iterator
    from contextlib import AbstractContextManager

    from aredun.backend import RedunBackendDb as AsyncBackend
    from aredun.bridge.core import BridgeCore
    from aredun.errors import InvalidRecordError
    from aredun.recording.tags import TagResult
    from aredun.storage import Write
    from aredun.transfer.record_fields import Record

T = TypeVar("T")


class BridgeCalls:
    """The base of the bridge that knows nothing of redun: reads wait for what is queued, then ask aredun."""

    # redun's own: its session, and the context in which that is one thread's alone.
    session: Any
    with_session: Callable[[], AbstractContextManager[Any]]
    # The context in which errors of aredun are raised as redun's.
    _redun_errors: Callable[[], AbstractContextManager[None]]
    _core: BridgeCore | None

    # Lending what is behind

    @property
    def _open_core(self) -> BridgeCore:
        if self._core is None:
            raise RedunDatabaseError("the backend is not loaded: call load() first")
        return self._core.get_usable()

    def _run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        with self._redun_errors():
            return self._open_core.loop.run(coroutine)

    def _ask(self, ask: Callable[[AsyncBackend], Coroutine[Any, Any, T]], *subjects: Hashable) -> T:
        """Ask aredun's backend, once what concerns the subjects (without any: everything) is written."""
        with self._written(*subjects) as backend:
            return self._run(ask(backend))

    def _iterate(self, ask: Callable[[AsyncBackend], AsyncIterator[T]]) -> Iterator[T]:
        with self._written() as backend:
            pass
        with self._redun_errors():
            yield from self._open_core.loop.iterate(ask(backend))

    def _end_session(self) -> None:
        """Commit the transaction of redun's session, as redun's own methods do."""
        session = self.session
        if session is not None and session.in_transaction():
            session.commit()

    def _locked(self) -> AbstractContextManager[Any]:
        """Return the context in which no other thread uses redun's session, once there is one."""
        return nullcontext() if self.session is None else self.with_session()

    @contextmanager
    def _entered(self) -> Iterator[BridgeCore]:
        with self._locked(), self._redun_errors():
            core = self._open_core
            self._end_session()
            yield core

    @contextmanager
    def _written(self, *subjects: Hashable) -> Iterator[AsyncBackend]:
        """Lend aredun's backend, once what concerns the subjects (without any: everything) is written."""
        with self._entered() as core:
            if not subjects or core.queue.concerns(*subjects):
                core.queue.flush()
            yield core.backend

    def _put(self, write: Write, *subjects: Hashable, is_spare: bool = False) -> None:
        self._open_core.queue.put(write, subjects, is_spare=is_spare)

    # Calls and jobs

    def get_subtree_tasks(self, call_hash: str) -> set[str]:
        """Get the hashes of all tasks in a call's subtree."""
        return self._ask(lambda backend: backend.get_subtree_tasks(call_hash), call_hash)

    def explain_cache_miss(self, task: Any, args_hash: str) -> dict[str, Any] | None:
        """Tell why a call is not cached."""
        return self._ask(lambda backend: backend.explain_cache_miss(task, args_hash))

    def get_job(self, job_id: str) -> dict[str, Any] | None:
        """Get a job's `job_id`, `parent_id` and `execution_id`, None if it is not recorded."""
        return self._ask(lambda backend: backend.get_job(job_id))

    # Handles

    def advance_handle(self, parent_handles: list[Any], child_handle: Any) -> None:
        """Record that a handle's state follows from others."""
        self._ask(lambda backend: backend.advance_handle(parent_handles, child_handle))

    def rollback_handle(self, handle: Any) -> None:
        """Make all states that follow from a handle's invalid."""
        self._ask(lambda backend: backend.rollback_handle(handle))

    def is_valid_handle(self, handle: Any) -> bool:
        """Tell whether a handle's state is current or leads to the current one."""
        return self._ask(lambda backend: backend.is_valid_handle(handle))

    # Tags that supersede others

    def update_tags(
        self,
        entity_type: Any,
        entity_id: str,
        old_keys: Iterable[str],
        new_tags: Iterable[tuple[str, Any]],
    ) -> list[TagResult]:
        """Supersede an entity's current tags of some keys with new ones."""
        keys, pairs = list(old_keys), list(new_tags)
        return self._ask(lambda backend: backend.update_tags(entity_type, entity_id, keys, pairs))

    def delete_tags(
        self, entity_id: str, tags: Iterable[tuple[str, Any]], keys: Iterable[str] = ()
    ) -> list[TagResult]:
        """Delete an entity's current tags, keeping their history."""
        pairs, key_list = list(tags), list(keys)
        return self._ask(lambda backend: backend.delete_tags(entity_id, pairs, key_list))

    # Records and walks

    def get_records(self, ids: Iterable[str], sorted: bool = True) -> Iterator[Record]:
        """Yield the records of the given ids, in their order if `sorted`.

        Values whose bytes are lost are left out, and named by a RedunDatabaseError at the end.
        """
        # Taken here, not on the loop: they may come from another backend of this kind.
        wanted = list(ids)
        lost: list[InvalidRecordError] = []
        yield from self._iterate(
            lambda backend: backend.get_records(wanted, sorted=sorted, on_incomplete=lost.append)
        )
        if lost:
            with self._redun_errors():
                raise join_errors(lost, "value", "left out")

    def has_records(self, record_ids: Iterable[str]) -> list[str]:
        """Return those of the ids that are in the database, in their order."""
        wanted = list(record_ids)
        return self._ask(lambda backend: backend.has_records(wanted))

    def put_records(self, records: Iterable[Record]) -> int:
        """Write records that are not in the database yet; returns how many were new."""
        new_records = list(records)
        return self._ask(lambda backend: backend.put_records(new_records))

    def iter_record_ids(self, root_ids: Iterable[str]) -> Iterator[str]:
        """Yield the ids of all records that the roots own, each once."""
        wanted = list(root_ids)
        yield from self._iterate(lambda backend: backend.iter_record_ids(wanted))
