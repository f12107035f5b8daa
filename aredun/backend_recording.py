"""The part of the backend that records what a workflow does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from aredun.database import Database
    from aredun.models import Job
    from aredun.recording import Recorder, SerializedValue

    Arguments = tuple[Sequence[Any], Mapping[str, Any]]


class RecordingMixin:
    """Executions, jobs, values, calls and evaluations: what `RedunBackendDb` records."""

    _recorder: Recorder

    @property
    def database(self) -> Database:
        """The database that is open."""
        raise AttributeError("database")

    async def record_execution(self, exec_id: str, args: list[str]) -> None:
        """Note an execution; it is written together with the job at its root (mirrors redun's method).

        Parameters
        ----------
        exec_id : str
            Id of the execution; the last call for an id counts.
        args : list of str
            The command line that started it.
        """
        self._recorder.record_execution(exec_id, args)

    async def record_updated_time(self, execution_id: str | None = None) -> None:
        """Set an execution's heartbeat, `updated_time`, to now (mirrors redun's method).

        Parameters
        ----------
        execution_id : str, optional
            Default: the execution that was recorded here last.

        Raises
        ------
        UsageError
            If it is left out and no execution was recorded here.
        """
        unit = self._recorder.make_heartbeat(execution_id)
        if unit is not None:
            await self.database.write_unit(unit)

    async def record_job_start(self, job: Any, now: datetime | None = None) -> Job:
        """Record that a job has started (mirrors redun's method).

        The job, its task and, for the job at the root, its execution are one transaction. A job that is
        recorded already stays as it is.

        Parameters
        ----------
        job : Any
            With `id`, `task`, `execution` and `parent_job`; redun's jobs will do.
        now : datetime, optional
            When it started, with a time zone; default: now.

        Returns
        -------
        Job
            The job's row, in no session.

        Raises
        ------
        RedunDatabaseError
            If the execution or the parent is not recorded.
        """
        row, unit = await self._recorder.make_job_start(job, now)
        await self.database.write_unit(unit)
        return row

    async def record_job_end(self, job: Any, now: datetime | None = None, status: str | None = None) -> None:
        """Record that a job has ended (mirrors redun's method).

        A job whose start is not recorded is recorded with the same time as its start. The last call counts.

        Parameters
        ----------
        job : Any
            As for `record_job_start`, with `was_cached` and `call_hash`.
        now : datetime, optional
            When it ended, with a time zone; default: now.
        status : str, optional
            Accepted for redun's sake: the status follows from the call's result.

        Raises
        ------
        RedunDatabaseError
            If the call, the execution or the parent is not recorded.
        """
        await self.database.write_unit(await self._recorder.make_job_end(job, now))

    async def record_value(self, value: Any, data: bytes | None = None) -> str:
        """Record a value with all that belongs to it, in one transaction (mirrors redun's method).

        That is its row of `file` or `task`, its subvalues and the links to them. What is missing of a value
        that is there is added. Large values are serialized in a thread.

        Parameters
        ----------
        value : Any
            The value; it must not change until this returns.
        data : bytes, optional
            Its serialization, if it is at hand.

        Returns
        -------
        str
            The value's hash.

        Raises
        ------
        RedunDatabaseError
            If it is larger than `max_value_size` bytes.
        """
        value_hash, unit = await self._recorder.make_value(value, data)
        await self.database.write_unit(unit)
        return value_hash

    def serialize_value(self, value: Any) -> SerializedValue:
        """Serialize a value as it is now, to be recorded later; blocks.

        Whatever is recorded takes it in the value's place: as a value, an argument or a result. Its
        `value_hash` is the hash of the bytes that are recorded.

        Parameters
        ----------
        value : Any
            A value that may change before it is recorded.

        Raises
        ------
        RedunDatabaseError
            If it is larger than `max_value_size` bytes.
        """
        return self._recorder.values.serialize(value)

    async def record_call_node(
        self,
        task_name: str,
        task_hash: str,
        args_hash: str,
        expr_args: Arguments,
        eval_args: Arguments,
        result_hash: str,
        child_call_hashes: Iterable[str],
        subtree_tasks: Iterable[Any] | None = None,
    ) -> str:
        """Record a completed call, in one transaction (mirrors redun's method).

        That is the call, its arguments and their values, the calls that these came from, the edges to its
        children, and the tasks of its subtree. A call that is recorded already stays as it is.

        Parameters
        ----------
        task_name, task_hash, args_hash : str
            The task's full name, its hash, and the hash of all arguments.
        expr_args : tuple of (positional, keywords)
            The arguments as they were written: lineage is found on anything with a `call_hash` or
            `_upstreams`, nested at will.
        eval_args : tuple of (positional, keywords)
            Their values, defaults included; `serialize_value` keeps what may have changed since the call.
        result_hash : str
            Hash of the recorded result.
        child_call_hashes : iterable of str
            The calls that it made, in order, repeats included; those that are not recorded get no edge.
        subtree_tasks : iterable of tasks or task hashes, optional
            All tasks of its subtree; by default inferred from the recorded children.

        Returns
        -------
        str
            The call's hash.

        Raises
        ------
        RedunDatabaseError
            If the task or the result is not recorded.
        """
        call_hash, unit = await self._recorder.make_call_node(
            task_name,
            task_hash,
            args_hash,
            expr_args,
            eval_args,
            result_hash,
            child_call_hashes,
            subtree_tasks,
        )
        await self.database.write_unit(unit)
        return call_hash

    async def record_call_node_context(
        self, call_hash: str, context_hash: str | None, context: Mapping[str, Any]
    ) -> str:
        """Record the context that a call was made in, as a tag of it (mirrors redun's method).

        Parameters
        ----------
        call_hash : str
            The call; it need not be recorded yet.
        context_hash : str, optional
            Hash of the context if it is recorded; None records it too.
        context : mapping
            The context.

        Returns
        -------
        str
            The context's hash.
        """
        context_hash, unit = await self._recorder.make_context(call_hash, context_hash, context)
        await self.database.write_unit(unit)
        return context_hash

    async def set_eval_cache(
        self, eval_hash: str, task_hash: str, args_hash: str, value: Any, value_hash: str | None = None
    ) -> None:
        """Record the result of a single step of evaluation (mirrors redun's method); the last call counts.

        Parameters
        ----------
        eval_hash, task_hash, args_hash : str
            What was evaluated.
        value : Any
            The result.
        value_hash : str, optional
            The result's hash if it is recorded; None records it too.

        Raises
        ------
        RedunDatabaseError
            If the task, or the value of that hash, is not recorded.
        """
        unit = await self._recorder.make_evaluation(eval_hash, task_hash, args_hash, value, value_hash)
        await self.database.write_unit(unit)
