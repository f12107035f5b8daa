"""redun itself on aredun: the synchronous backend that redun's scheduler, command and console expect.

The only module that imports redun; `aredun[redun]` installs what it needs.
"""

from __future__ import annotations

import weakref
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import redun.backends.db as redun_db
import sqlalchemy as sa
from redun.backends.db import RedunBackendDb as OriginalBackend
from redun.config import create_config_section
from redun.scheduler import JobInfo
from redun.scheduler import Scheduler as OriginalScheduler
from redun.task import CacheResult, CacheScope
from redun.utils import MultiMap
from redun.value import InvalidValueError

from aredun import errors, models
from aredun.bridge.calls import BridgeCalls
from aredun.bridge.core import BridgeCore, watch_engine
from aredun.bridge.loop_thread import complete
from aredun.config import get_sync_uri, quote_config_dir
from aredun.recording.tags import is_sound, make_tag_write

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import datetime

    from aredun.recording.recorder import Arguments
    from aredun.recording.tags import TagResult

MEMORY_URI = "sqlite:///:memory:"
_JOB_COLUMNS = [column.key for column in sa.inspect(redun_db.Job).column_attrs]


@contextmanager
def _redun_errors() -> Iterator[None]:
    """Raise redun's error for aredun's of the same name: redun's callers catch those."""
    try:
        yield
    except errors.RedunVersionError as error:
        raise redun_db.RedunVersionError(str(error)) from error
    except errors.RedunDatabaseError as error:
        raise redun_db.RedunDatabaseError(str(error)) from error
    except errors.InvalidValueError as error:
        raise InvalidValueError(str(error)) from error


def _knows_itself(job: Any) -> bool:
    """Tell whether a job is told its own id, with which it can be looked up from elsewhere."""
    positional, keywords = job.args or ((), {})
    return any(isinstance(value, JobInfo) for value in (*positional, *keywords.values()))


def _read_uri(section: Any) -> str | None:
    """Return the URI of a section of redun's, which joins the path of its folder to it as it is."""
    db_uri, config_dir = section.get("db_uri"), section.get("config_dir")
    return quote_config_dir(db_uri, config_dir) if db_uri and config_dir else db_uri


def _read_back(answer: tuple[Any, bool], type_registry: Any) -> tuple[Any, bool]:
    """Return what redun's registry makes of a stored value, and whether there is one that can be read."""
    stored, is_cached = answer
    if not is_cached:
        return None, False
    try:
        return type_registry.deserialize(stored.type_name, stored.data), True
    except InvalidValueError:
        return None, False


class RedunBackendDb(BridgeCalls, OriginalBackend):  # type: ignore[misc]  # redun is not typed
    """redun's backend, its work on the database done by aredun (a `redun.backends.db.RedunBackendDb`).

    Its methods take, return and raise what redun's of the same names do.

    What redun's scheduler records is queued and written in groups, in the background; whatever reads, through
    this backend or through redun's `session`, first sees to it that what concerns it has been written. When
    no job is running any more, everything is written before `record_job_end` returns. An error of a queued
    write is raised by the next call that records, reads or ends.

    Parameters
    ----------
    db_uri : str, optional
        As redun takes it, with any of the drivers that redun or aredun knows; `sqlite:///:memory:` too.
    config : Section, optional
        The `[backend]` section of a `redun.ini`, with aredun's own options if there are any.
    logger : logging.Logger, optional
        redun's by default.
    *args, **kwargs : Any
        What else redun's own backend takes.
    """

    db_uri: str
    connect_args: dict[str, Any]
    _redun_errors = staticmethod(_redun_errors)
    _is_clone = False

    def __init__(
        self, db_uri: str | None = None, config: Any = None, logger: Any = None, *args: Any, **kwargs: Any
    ) -> None:
        section = config or create_config_section()
        self._base_uri = db_uri or _read_uri(section) or redun_db.DEFAULT_DB_URI
        self._section = section
        self._core: BridgeCore | None = None
        super().__init__(get_sync_uri(self._base_uri), section, logger, *args, **kwargs)

    # Opening and closing

    def create_engine(self) -> Any:
        """Set both sides up without reading anything; returns redun's engine."""
        self.flush()
        with self._locked(), _redun_errors():
            core = BridgeCore(self._base_uri, self._section, self.logger, self.type_registry)
            config = core.backend.config
            engine_uri: Any = get_sync_uri(self.db_uri)
            file = core.backend.database.file
            if file is not None:
                self.connect_args = {**self.connect_args, "timeout": config.busy_timeout}
                engine_uri = file.get_sync_url()
            db_uri, self.db_uri = self.db_uri, engine_uri
            try:
                engine = super().create_engine()
            finally:
                self.db_uri = db_uri
            watch_engine(engine, core, _redun_errors)
            self._core = core
            weakref.finalize(engine, core.abandon).atexit = False
            return engine

    def migrate(self, desired_version: Any = None, upgrade_only: bool = False) -> None:
        """Bring the schema to another version, by default the latest; aredun sets a new database up."""
        latest = self.get_all_db_versions()[-1]
        with self._locked():
            version = self.get_db_version()
            if version != redun_db.null_db_version or desired_version not in (None, latest):
                super().migrate(desired_version, upgrade_only)
                return
            self.logger.info(f"Upgrading db from version {version} to {latest}...")
            self._end_session()
            self._run(self._open_core.backend.migrate())

    def flush(self) -> None:
        """Wait until everything that has been recorded is written.

        Raises
        ------
        RedunDatabaseError
            A queued write was refused.
        """
        if self._core is not None:
            with _redun_errors():
                self._open_core.queue.flush()

    def clone(self, session: Any = None) -> Any:
        """Return another backend with a session of its own, on the same queue and connections."""
        cloned = super().clone(session)
        cloned._is_clone = True
        return cloned

    def close(self) -> None:
        """Write what is queued and close the connections of both sides; the backend may be loaded again.

        A clone leaves alone what it shares.
        """
        core, self._core = self._core, None
        if core is None:
            return
        with self._locked(), _redun_errors():
            try:
                core.get_usable().queue.flush()
            finally:
                self.session.close()
                if not self._is_clone:
                    self.engine.dispose()
                    core.loop.run(core.aclose())

    # Recording: queued

    def record_execution(self, exec_id: str, args: list[str]) -> None:
        """Note an execution; it is written together with the job at its root."""
        self._open_core.recorder.record_execution(exec_id, args)

    def record_updated_time(self, execution_id: str) -> None:
        """Set an execution's heartbeat to now."""
        with self._entered() as core:
            write = core.recorder.make_heartbeat(execution_id)
            if write is not None:
                self._put(write)

    def record_job_start(self, job: Any, now: datetime | None = None) -> Any:
        """Record that a job has started; returns redun's model of it, apart from any session."""
        with self._entered() as core:
            row, write = complete(core.recorder.make_job_start(job, now))
            if row.task_hash not in core.known_tasks:
                # redun lists tasks in the order in which they were written.
                core.known_tasks.add(row.task_hash)
                core.queue.flush()
            core.open_job(job)
            self._put(write)
            if _knows_itself(job):
                # As `subrun` does, whose scheduler extends this execution through a backend of its own.
                core.queue.flush()
            return redun_db.Job(**{name: getattr(row, name) for name in _JOB_COLUMNS})

    def record_job_end(self, job: Any, now: datetime | None = None, status: str | None = None) -> None:
        """Record that a job has ended; with the last one of an execution, all that is queued is written."""
        with self._entered() as core:
            write = complete(core.recorder.make_job_end(job, now))
            self._put(write, (job.task.hash, getattr(job, "args_hash", None)))
            if core.close_job(job):
                core.queue.flush()

    def record_value(self, value: Any, data: bytes | None = None) -> str:
        """Record a value with its file or task and its subvalues; returns its hash."""
        with self._entered() as core:
            value_hash, write = complete(core.recorder.make_value(value, data))
            self._put(write, value_hash)
            return value_hash

    def record_call_node(
        self,
        task_name: str,
        task_hash: str,
        args_hash: str,
        expr_args: Arguments,
        eval_args: Arguments,
        result_hash: str,
        child_call_hashes: list[str],
        subtree_tasks: Iterable[Any] | None = None,
    ) -> str:
        """Record a completed call with its arguments and its children, as a whole; returns its hash."""
        with self._entered() as core:
            call_hash, write = complete(
                core.recorder.make_call_node(
                    task_name,
                    task_hash,
                    args_hash,
                    expr_args,
                    eval_args,
                    result_hash,
                    child_call_hashes,
                    subtree_tasks,
                )
            )
            self._put(write, call_hash, (task_hash, args_hash))
            return call_hash

    def record_call_node_context(self, call_hash: str, context_hash: str | None, context: Any) -> str:
        """Record the context that a call was made in; returns the context's hash."""
        with self._entered() as core:
            context_hash, write = complete(core.recorder.make_context(call_hash, context_hash, context))
            self._put(write, context_hash)
            return context_hash

    def set_eval_cache(
        self, eval_hash: str, task_hash: str, args_hash: str, value: Any, value_hash: str | None = None
    ) -> None:
        """Record the result of a single step of evaluation, in place of the one before."""
        with self._entered() as core:
            write = complete(
                core.recorder.make_evaluation(eval_hash, task_hash, args_hash, value, value_hash)
            )
            self._put(write, eval_hash)

    # Caches

    def check_cache(
        self,
        task_hash: str,
        args_hash: str,
        eval_hash: str,
        execution_id: str,
        scheduler_task_hashes: set[str],
        cache_scope: Any,
        check_valid: Any,
        context_hash: str | None = None,
        allowed_cache_results: set[Any] | None = None,
    ) -> tuple[Any, str | None, Any]:
        """Ask the caches for the result of a call: same execution, whole call, single step."""
        if cache_scope == CacheScope.NONE:
            return None, None, CacheResult.MISS
        allowed = set(CacheResult) if allowed_cache_results is None else set(allowed_cache_results)
        subjects = [eval_hash, (task_hash, args_hash), (task_hash, None)]
        if context_hash:
            subjects.append(context_hash)
        found_call = None
        with self._written(*subjects) as backend:
            while True:
                stored, call_hash, kind = self._run(
                    backend.check_cache(
                        task_hash,
                        args_hash,
                        eval_hash,
                        execution_id,
                        scheduler_task_hashes,
                        cache_scope,
                        check_valid,
                        context_hash,
                        allowed,
                    )
                )
                result = CacheResult(kind.value)
                if result == CacheResult.MISS:
                    return None, None, result
                value, is_cached = _read_back((stored, True), self.type_registry)
                if is_cached:
                    return value, call_hash or found_call, result
                # A value that cannot be read back leaves the question to the caches behind this one.
                allowed -= {CacheResult.CSE, result}
                if result == CacheResult.ULTIMATE:
                    found_call = call_hash

    def get_value(self, value_hash: str) -> tuple[Any, bool]:
        """Get a recorded value, and whether there is one that can be read."""
        return _read_back(
            self._ask(lambda backend: backend.get_value(value_hash), value_hash), self.type_registry
        )

    def get_eval_cache(self, eval_hash: str) -> tuple[Any, bool]:
        """Get the result of a single step of evaluation, and whether there is one."""
        return _read_back(
            self._ask(lambda backend: backend.get_eval_cache(eval_hash), eval_hash), self.type_registry
        )

    def get_call_cache(self, call_hash: str) -> tuple[Any, bool]:
        """Get the final result of a recorded call, and whether there is one."""
        return _read_back(
            self._ask(lambda backend: backend.get_call_cache(call_hash), call_hash), self.type_registry
        )

    # Tags

    def record_tags(
        self,
        entity_type: Any,
        entity_id: str,
        tags: Iterable[tuple[str, Any]],
        parents: Iterable[str] = (),
        update: bool = False,
        new: bool = False,
    ) -> list[TagResult]:
        """Record tags of an entity: queued, unless they supersede others.

        During a run a tag that cannot be recorded is named on the log, and the run goes on.
        """
        pairs, parent_hashes = list(tags), list(parents)
        if not (update or new or parent_hashes):
            with self._entered() as core:
                is_running = core.recorder.is_running
                groups = [pairs]
                if is_running:
                    groups = [[pair] for pair in pairs if is_sound(pair, self.logger)]
                made = [make_tag_write(entity_type, entity_id, group) for group in groups if group]
                for _, write in made:
                    self._put(write, is_spare=is_running)
                return [result for results, _ in made for result in results]
        return self._ask(
            lambda backend: backend.record_tags(
                entity_type, entity_id, pairs, parent_hashes, update=update, new=new
            )
        )

    def get_tags(self, entity_ids: list[str]) -> dict[str, Any]:
        """Get the current tags of entities, by id, in redun's own kind of mapping."""
        found = self._ask(lambda backend: backend.get_tags(list(entity_ids)))
        return {entity_id: MultiMap(tags.items()) for entity_id, tags in found.items()}

    def get_child_record_ids(self, model_ids: Iterable[tuple[Any, str]]) -> Iterator[tuple[str, Any, str]]:
        """Yield the ownership edges of records as (label, redun's model, id)."""
        wanted = [(getattr(models, model.__name__), record_id) for model, record_id in model_ids]
        for label, model, record_id in self._iterate(lambda backend: backend.get_child_record_ids(wanted)):
            yield label, getattr(redun_db, model.__name__), record_id


class Scheduler(OriginalScheduler):  # type: ignore[misc]  # redun is not typed
    """redun's scheduler; a run does not report its end or its error before everything is written.

    Its methods take, return and raise what redun's of the same names do.
    """

    def run(self, *args: Any, **kwargs: Any) -> Any:
        """Run a workflow, and see to it that all of it is written."""
        try:
            return super().run(*args, **kwargs)
        finally:
            self.backend.flush()

    def extend_run(self, *args: Any, **kwargs: Any) -> Any:
        """Run a part of a workflow, and see to it that all of it is written."""
        try:
            return super().extend_run(*args, **kwargs)
        finally:
            self.backend.flush()


def setup_scheduler(config: Any) -> Scheduler:
    """Make redun's scheduler on aredun; `redun.ini` names it as `aredun.redun_bridge::setup_scheduler`.

    Parameters
    ----------
    config : redun.config.Config
        The whole `redun.ini`.

    Returns
    -------
    redun.scheduler.Scheduler
        Its backend is not loaded yet, except for a database in memory.
    """
    section = config.get("backend") or create_config_section()
    is_anonymous = not section.get("db_uri")
    backend = RedunBackendDb(MEMORY_URI if is_anonymous else None, config=section)
    if is_anonymous:
        backend.load()
    return Scheduler(config=config, backend=backend)
