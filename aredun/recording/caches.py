"""The caches: what was computed before, found for many callers at once, and handed back as real values."""

from __future__ import annotations

import asyncio
import enum
from dataclasses import dataclass, field
from itertools import product
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

import sqlalchemy as sa

from aredun.errors import InvalidValueError, RedunDatabaseError, UsageError
from aredun.formats.tag_syntax import CONTEXT_KEY
from aredun.models import CallNode, CallSubtreeTask, Evaluation, Job, Tag, Task, Value
from aredun.storage import Coalescer
from aredun.tables.column_types import DateTimeUTC, in_list, in_parameter
from aredun.values import CacheCheckValid, CacheResult, CacheScope
from aredun.values.sizes import SMALL_BYTES

if TYPE_CHECKING:
    import logging
    from collections.abc import Collection, Iterable, Mapping, Sequence
    from datetime import datetime

    from sqlalchemy.ext.asyncio import AsyncSession

    from aredun.storage import Database

E = TypeVar("E", bound=enum.Enum)

# A statement fetches no more than about this many values at once.
VALUE_GROUP = 500


class ValueReader(Protocol):
    """The store of large values, as far as reading goes."""

    async def get(self, value_hash: str, type_name: str | None = None) -> tuple[bytes, bool]:
        """Return the data of a value, and whether there is any; raises InvalidValueError if it is damaged."""


class Check(NamedTuple):
    """One question to the caches.

    Attributes
    ----------
    task_hash, args_hash, eval_hash, execution_id : str
        What is asked for.
    cse, ultimate, single : bool
        Which caches are asked.
    context_hash : str | None
        Only calls that were made in this context count (not for `single`).
    """

    task_hash: str
    args_hash: str
    eval_hash: str
    execution_id: str
    cse: bool
    ultimate: bool
    single: bool
    context_hash: str | None


class _Stored(NamedTuple):
    """A value as it is stored."""

    value_hash: str
    type_name: str
    data: bytes


@dataclass(slots=True)
class _Candidate:
    call_hash: str
    value_hash: str
    time: datetime
    tasks: set[str] = field(default_factory=set)


@dataclass(slots=True)
class _Found:
    """What the caches know about one question, the newest first."""

    cse: list[_Candidate] = field(default_factory=list)
    ultimate: list[_Candidate] = field(default_factory=list)
    single: _Stored | None = None


# One of many candidates is used, so only its value is fetched, by a statement of its own.
_NO_VALUE: tuple[Any, ...] = (
    sa.cast(sa.null(), sa.String).label("type"),
    sa.cast(sa.null(), sa.LargeBinary).label("value"),
)


def _find_same_execution() -> sa.Select[Any]:
    return (
        sa.select(
            sa.literal_column("'cse'").label("kind"),
            CallNode.task_hash.label("key1"),
            CallNode.args_hash.label("key2"),
            Job.execution_id.label("key3"),
            CallNode.call_hash.label("call_hash"),
            CallNode.value_hash.label("value_hash"),
            sa.func.max(Job.start_time, type_=DateTimeUTC()).label("time"),
            *_NO_VALUE,
        )
        .join(Job, Job.call_hash == CallNode.call_hash)
        .where(
            in_parameter(Job.task_hash, "cse_tasks"),
            in_parameter(Job.execution_id, "executions"),
            in_list(CallNode.args_hash, "cse_args", sparse=True),
        )
        .group_by(
            CallNode.task_hash, CallNode.args_hash, Job.execution_id, CallNode.call_hash, CallNode.value_hash
        )
    )


def _find_calls() -> sa.Select[Any]:
    return (
        sa.select(
            sa.literal_column("'ultimate'"),
            CallNode.task_hash,
            CallNode.args_hash,
            # An inner join: a call whose subtree is not known (redun's sync leaves it out) is no hit.
            CallSubtreeTask.task_hash,
            CallNode.call_hash,
            CallNode.value_hash,
            CallNode.timestamp,
            *_NO_VALUE,
        )
        .join(CallSubtreeTask, CallSubtreeTask.call_hash == CallNode.call_hash)
        # PostgreSQL looks at all calls of a task, as no index has arguments: it should hash those asked for.
        .where(in_parameter(CallNode.task_hash, "tasks"), in_list(CallNode.args_hash, "args", sparse=True))
    )


def _find_evaluations() -> sa.Select[Any]:
    nothing: Any = sa.cast(sa.null(), sa.String)
    return (
        sa.select(
            sa.literal_column("'single'"),
            Evaluation.eval_hash,
            nothing,
            nothing,
            nothing,
            Evaluation.value_hash,
            sa.cast(sa.null(), DateTimeUTC()).label("time"),
            Value.type,
            Value.value,
        )
        .join(Value, Value.value_hash == Evaluation.value_hash)
        .where(in_list(Evaluation.eval_hash, "evals", sparse=True))
    )


def _build_statements() -> dict[tuple[bool, ...], sa.SelectBase]:
    """Build the statement of each combination of caches once: building costs more than running it."""
    parts = (_find_same_execution, _find_calls, _find_evaluations)
    statements: dict[tuple[bool, ...], sa.SelectBase] = {}
    for wanted in [*product((False, True), repeat=3)][1:]:
        chosen = [part() for part, want in zip(parts, wanted, strict=True) if want]
        statements[wanted] = chosen[0] if len(chosen) == 1 else sa.union_all(*chosen)
    return statements


_STATEMENTS = _build_statements()

# Keys go as sparse lists: PostgreSQL keeps the plan of a table from when it was small, and would go on to
# compare each of its rows with one key after the other.
_GET_VALUES = sa.select(Value.value_hash, Value.type, Value.value).where(
    in_list(Value.value_hash, "hashes", sparse=True)
)

_GET_SUBTREES = sa.select(CallSubtreeTask.call_hash, CallSubtreeTask.task_hash).where(
    in_list(CallSubtreeTask.call_hash, "hashes", sparse=True)
)
_GET_CALL_VALUES = sa.select(CallNode.call_hash, CallNode.value_hash).where(
    in_list(CallNode.call_hash, "hashes", sparse=True)
)
_GET_CONTEXTS = sa.select(Tag.entity_id, Tag.value).where(
    Tag.key == CONTEXT_KEY, in_list(Tag.entity_id, "ids", sparse=True)
)


class Caches:
    """Answers the backend's questions about what was computed before.

    Questions of concurrent callers are asked together. A value is only unpickled here, for a running
    workflow.

    Parameters
    ----------
    database : Database
        Where to look.
    type_registry : Any
        Reads stored bytes back (aredun's or redun's registry).
    value_store : ValueReader, optional
        Where the data of large values is.
    logger : logging.Logger
        Hears of values that cannot be read.
    """

    def __init__(
        self,
        database: Database,
        type_registry: Any,
        value_store: ValueReader | None,
        logger: logging.Logger,
    ) -> None:
        self._database = database
        self._logger = logger
        self._type_registry = type_registry
        self._value_store = value_store
        self._checks: Coalescer[Check, _Found] = Coalescer(self._find)
        self._values: Coalescer[str, _Stored] = Coalescer(self._fetch_values)
        self._call_values: Coalescer[str, str] = Coalescer(self._fetch_call_values)
        self._subtrees: Coalescer[str, set[str]] = Coalescer(self._fetch_subtrees)

    async def close(self) -> None:
        """Wait for the reads under way."""
        for coalescer in (self._checks, self._values, self._call_values, self._subtrees):
            await coalescer.close()

    async def check(
        self, check: Check, scheduler_task_hashes: Collection[str]
    ) -> tuple[Any, str | None, CacheResult]:
        """Ask the caches that a question names, in redun's order: same execution, whole call, single step.

        Parameters
        ----------
        check : Check
            The question.
        scheduler_task_hashes : collection of str
            The tasks as they are now: a whole call counts only if all tasks in it are among them.

        Returns
        -------
        tuple[Any, str | None, CacheResult]
            The result, the call that it is of (None for a single step alone), and how it was found.
        """
        if not (check.cse or check.ultimate or check.single):
            return None, None, CacheResult.MISS
        found = await self._checks.get(check) or _Found()
        if found.cse:
            newest = found.cse[0]
            result, is_cached = await self.get_value(newest.value_hash)
            if is_cached:
                return result, newest.call_hash, CacheResult.CSE
        call_hash = None
        for candidate in found.ultimate:
            # A call without tasks has lost them: every call has at least its own.
            if candidate.tasks and candidate.tasks.issubset(scheduler_task_hashes):
                call_hash = candidate.call_hash
                result, is_cached = await self.get_value(candidate.value_hash)
                if is_cached:
                    return result, call_hash, CacheResult.ULTIMATE
                break
        if found.single is not None:
            result, is_cached = await self._read(found.single)
            if is_cached:
                return result, call_hash, CacheResult.SINGLE
        return None, None, CacheResult.MISS

    async def _find(self, checks: Sequence[Check]) -> Mapping[Check, _Found]:
        cse = [check for check in checks if check.cse]
        ultimate = [check for check in checks if check.ultimate]
        single = [check for check in checks if check.single]
        parameters: dict[str, list[str]] = {}
        if cse:
            parameters["cse_tasks"] = _distinct(check.task_hash for check in cse)
            parameters["cse_args"] = _distinct(check.args_hash for check in cse)
            parameters["executions"] = _distinct(check.execution_id for check in cse)
        if ultimate:
            parameters["tasks"] = _distinct(check.task_hash for check in ultimate)
            parameters["args"] = _distinct(check.args_hash for check in ultimate)
        if single:
            parameters["evals"] = _distinct(check.eval_hash for check in single)
        statement = _STATEMENTS[bool(cse), bool(ultimate), bool(single)]
        answers = _Answers(await self._database.fetch(statement, parameters))
        contexts: dict[str, set[Any]] = {}
        if answers.call_hashes and any(check.context_hash for check in checks):
            contexts = await self._get_contexts(answers.call_hashes)
        return {check: answers.select(check, contexts) for check in checks}

    async def get_value(self, value_hash: str) -> tuple[Any, bool]:
        """Get a value back for real, as `RedunBackendDb.get_value` says."""
        stored = await self._values.get(value_hash)
        return (None, False) if stored is None else await self._read(stored)

    async def _read(self, stored: _Stored) -> tuple[Any, bool]:
        value_hash, type_name, data = stored
        try:
            if not data:
                data, has_data = await self._get_stored_data(value_hash, type_name)
                if not has_data:
                    self._logger.warning("value %s is missing from the value store", value_hash)
                    return None, False
            if len(data) >= SMALL_BYTES:
                return await asyncio.to_thread(self._type_registry.deserialize, type_name, data), True
            return self._type_registry.deserialize(type_name, data), True
        except Exception as error:
            # redun's registry, where it is used, raises an error of its own of the same name.
            if isinstance(error, InvalidValueError) or type(error).__name__ == "InvalidValueError":
                self._logger.warning("value %s cannot be read: %s", value_hash, error)
                return None, False
            raise

    async def _get_stored_data(self, value_hash: str, type_name: str) -> tuple[bytes, bool]:
        if self._value_store is None:
            raise RedunDatabaseError(
                f"value {value_hash} is in a value store: set value_store_path to the folder or URL it is in"
            )
        return await self._value_store.get(value_hash, type_name)

    async def _fetch_values(self, hashes: Sequence[str]) -> Mapping[str, _Stored]:
        found: dict[str, _Stored] = {}
        for start in range(0, len(hashes), VALUE_GROUP):
            group = {"hashes": list(hashes[start : start + VALUE_GROUP])}
            for row in await self._database.fetch(_GET_VALUES, group):
                found[row[0]] = _Stored(*row)
        return found

    async def _get_contexts(self, call_hashes: Iterable[str]) -> dict[str, set[Any]]:
        contexts: dict[str, set[Any]] = {}
        for entity_id, value in await self._database.fetch(_GET_CONTEXTS, {"ids": list(call_hashes)}):
            if isinstance(value, str):
                contexts.setdefault(entity_id, set()).add(value)
        return contexts

    async def get_eval_cache(self, eval_hash: str) -> tuple[Any, bool]:
        """Get the result of a single step (mirrors redun's `RedunBackendDb.get_eval_cache`)."""
        found = await self._checks.get(Check("", "", eval_hash, "", False, False, True, None))
        if found is None or found.single is None:
            return None, False
        return await self._read(found.single)

    async def get_call_cache(self, call_hash: str) -> tuple[Any, bool]:
        """Get the final result of a recorded call (mirrors redun's `RedunBackendDb.get_call_cache`)."""
        value_hash = await self._call_values.get(call_hash)
        if value_hash is None:
            return None, False
        return await self.get_value(value_hash)

    async def _fetch_call_values(self, hashes: Sequence[str]) -> Mapping[str, str]:
        return dict(await self._database.fetch(_GET_CALL_VALUES, {"hashes": list(hashes)}))

    async def get_subtree_tasks(self, call_hash: str) -> set[str]:
        """Get the hashes of all tasks in a call's subtree, its own included."""
        return await self._subtrees.get(call_hash) or set()

    async def _fetch_subtrees(self, call_hashes: Sequence[str]) -> Mapping[str, set[str]]:
        subtrees: dict[str, set[str]] = {}
        for call_hash, task_hash in await self._database.fetch(_GET_SUBTREES, {"hashes": list(call_hashes)}):
            subtrees.setdefault(call_hash, set()).add(task_hash)
        return subtrees


class _Answers:
    """The rows that the caches answered with, by what was asked for."""

    def __init__(self, rows: Sequence[Any]) -> None:
        self._same: dict[tuple[str, str, str], list[_Candidate]] = {}
        self._calls: dict[tuple[str, str], dict[str, _Candidate]] = {}
        self._single: dict[str, _Stored] = {}
        self.call_hashes: set[str] = set()
        for kind, key1, key2, key3, call_hash, value_hash, time, type_name, data in rows:
            if kind == "single":
                self._single[key1] = _Stored(value_hash, type_name, data)
                continue
            self.call_hashes.add(call_hash)
            if kind == "cse":
                candidate = _Candidate(call_hash, value_hash, time)
                self._same.setdefault((key1, key2, key3), []).append(candidate)
            else:
                calls = self._calls.setdefault((key1, key2), {})
                calls.setdefault(call_hash, _Candidate(call_hash, value_hash, time)).tasks.add(key3)

    def select(self, check: Check, contexts: Mapping[str, set[Any]]) -> _Found:
        """Return what concerns one question, the newest first, ties by hash."""

        def choose(candidates: Iterable[_Candidate]) -> list[_Candidate]:
            chosen = sorted(candidates, key=lambda candidate: candidate.call_hash)
            chosen.sort(key=lambda candidate: candidate.time, reverse=True)
            if check.context_hash:
                chosen = [
                    candidate
                    for candidate in chosen
                    if check.context_hash in contexts.get(candidate.call_hash, ())
                ]
            return chosen

        found = _Found()
        if check.cse:
            key = (check.task_hash, check.args_hash, check.execution_id)
            found.cse = choose(self._same.get(key, ()))
        if check.ultimate:
            found.ultimate = choose(self._calls.get((check.task_hash, check.args_hash), {}).values())
        if check.single:
            found.single = self._single.get(check.eval_hash)
        return found


def _distinct(values: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(values))


def make_check(
    task_hash: str,
    args_hash: str,
    eval_hash: str,
    execution_id: str,
    cache_scope: Any,
    check_valid: Any,
    context_hash: str | None,
    allowed_cache_results: Iterable[Any] | None,
) -> Check:
    """Work out which caches a call of `check_cache` asks (aredun's enums, redun's, or their values).

    Raises
    ------
    UsageError
        If one of them is none of the known values.
    """
    scope = _parse(CacheScope, cache_scope)
    valid = _parse(CacheCheckValid, check_valid)
    allowed = set(CacheResult)
    if allowed_cache_results is not None:
        allowed = {_parse(CacheResult, result) for result in allowed_cache_results}
    everything = scope is CacheScope.BACKEND
    return Check(
        task_hash,
        args_hash,
        eval_hash,
        execution_id,
        cse=scope is not CacheScope.NONE and CacheResult.CSE in allowed,
        ultimate=everything and valid is CacheCheckValid.SHALLOW and CacheResult.ULTIMATE in allowed,
        single=everything and CacheResult.SINGLE in allowed,
        context_hash=context_hash or None,
    )


def _parse(kind: type[E], value: Any) -> E:
    if type(value) is kind:
        return value
    try:
        return kind(getattr(value, "value", value))
    except ValueError:
        known = ", ".join(member.name for member in kind)
        raise UsageError(f"{value!r} is not a {kind.__name__}: give one of {known}") from None


async def explain_cache_miss(session: AsyncSession, task: Any, args_hash: str) -> dict[str, Any]:
    """Tell why a call is not cached, as `RedunBackendDb.explain_cache_miss` says."""
    calls = sa.select(CallNode).order_by(CallNode.timestamp.desc(), CallNode.call_hash).limit(1)
    same_args = calls.join(Task, Task.hash == CallNode.task_hash).where(
        CallNode.args_hash == args_hash, Task.name == task.name, Task.namespace == task.namespace
    )
    for reason, statement in (
        ("new_task", same_args),
        ("new_args", calls.where(CallNode.task_hash == task.hash)),
    ):
        call = await session.scalar(statement)
        if call is not None:
            return {
                "reason": reason,
                "call_hash": call.call_hash,
                "call_task_hash": call.task_hash,
                "call_args_hash": call.args_hash,
            }
    return {"reason": "new_call"}
