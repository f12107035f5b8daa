"""Arguments that `aredun run` takes from elsewhere than the command line: an earlier job, or a file."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from aredun.cli.common import one_line, open_backend
from aredun.errors import UsageError
from aredun.values import pickle_loads

if TYPE_CHECKING:
    import argparse
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


async def read_earlier_arguments(args: argparse.Namespace) -> EarlierArguments:
    """Read what `--rerun` and `--input` name; without them there are no arguments yet.

    Raises
    ------
    UsageError
        There is no such job or file, or it does not hold arguments.
    """
    options = vars(args)
    earlier = EarlierArguments(args.task)
    if options.get("rerun"):
        async with open_backend(args) as backend:
            earlier = await _read_job(backend, args.task)
    if "input" in options:
        given = await asyncio.to_thread(_read_file, options["input"])
        earlier = EarlierArguments(earlier.task_name, *given)
    return earlier


async def _read_job(backend: RedunBackendDb, id: str) -> EarlierArguments:
    from aredun.models import Execution, Job
    from aredun.query import infer_id
    from aredun.search.loading import load_arguments

    record = await infer_id(backend, id, False, required=True)
    job = record.job if isinstance(record, Execution) else record
    if not isinstance(job, Job):
        raise UsageError(f"{id} is no job and no execution: give the id of one after --rerun")
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


def _read_file(name: str) -> tuple[tuple[Any, ...], dict[str, Any]]:
    data = Path(name).read_bytes()
    try:
        args, kwargs = pickle_loads(data)
        return tuple(args), {str(key): value for key, value in dict(kwargs).items()}
    except Exception as error:
        # A pickle may raise anything.
        raise UsageError(f"--input {name} is no pickle of (args, kwargs): {one_line(error)}") from error
