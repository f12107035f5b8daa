"""Arguments that `aredun run` takes from elsewhere than the command line: an earlier job, or a file."""

from __future__ import annotations

from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from aredun.cli.common import one_line
from aredun.errors import UsageError
from aredun.values import pickle_loads

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aredun.backend import RedunBackendDb
    from aredun.workflow.tasks import Task


class EarlierArguments(NamedTuple):
    """What a task is called with, as far as the command line does not say otherwise.

    Attributes
    ----------
    task_name : str
        Name of the task.
    args, kwargs : tuple[Any, ...], dict[str, Any]
        Its arguments, by position and by name.
    """

    task_name: str
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = MappingProxyType({})

    def merge(
        self, task: Task[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the arguments with those of the command line in their places.

        Parameters
        ----------
        task : Task
            The task, which says which of its parameters stand where.
        args, kwargs : tuple[Any, ...], dict[str, Any]
            What the command line gives.
        """
        merged, named = [*args, *self.args[len(args) :]], {**self.kwargs}
        places = {name: place for place, name in enumerate(task.signature.parameters)}
        for name, value in kwargs.items():
            if places.get(name, len(merged)) < len(merged):
                merged[places[name]] = value
            else:
                named[name] = value
        return tuple(merged), named

    def get_names(self, task: Task[..., Any]) -> set[str]:
        """Return the parameters of a task that have an argument."""
        return {*list(task.signature.parameters)[: len(self.args)], *self.kwargs}


async def read_job(backend: RedunBackendDb, job_id: str) -> EarlierArguments:
    """Return what a job, or the root job of an execution, was called with.

    Raises
    ------
    UsageError
        There is no such job, it did not end, or an argument of it cannot be read.
    """
    # No run without --rerun waits for these.
    from aredun.models import Execution, Job
    from aredun.query import infer_id
    from aredun.search.loading import load_arguments

    record = await infer_id(backend, job_id, False, required=True)
    job = record.job if isinstance(record, Execution) else record
    if not isinstance(job, Job):
        raise UsageError(f"{job_id} is no job and no execution: give the id of one after --rerun")
    if job.call_hash is None:
        raise UsageError(f"job {job.id} did not end, so its arguments are not recorded: it cannot run again")
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    for argument in await load_arguments(backend, job.call_hash):
        value, is_there = await backend.get_value(argument.value_hash)
        if not is_there:
            name = argument.arg_key or argument.arg_position
            raise UsageError(f"argument {name} of job {job.id} cannot be read any more")
        if argument.arg_key is None:
            args.append(value)
        else:
            kwargs[argument.arg_key] = value
    return EarlierArguments(job.task.fullname, tuple(args), kwargs)


def read_input(path: str, task_name: str) -> EarlierArguments:
    """Return the arguments for a task that a file holds, a pickle of (args, kwargs).

    Raises
    ------
    UsageError
        It holds something else.
    """
    data = Path(path).read_bytes()
    try:
        args, kwargs = pickle_loads(data)
        named = {str(key): value for key, value in dict(kwargs).items()}
        return EarlierArguments(task_name, tuple(args), named)
    except Exception as error:
        # A pickle may raise anything.
        raise UsageError(f"--input {path} is no pickle of (args, kwargs): {one_line(error)}") from error
