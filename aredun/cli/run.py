"""`aredun run FILE TASK --arg value ...`: run a workflow (mirrors `redun run`)."""

from __future__ import annotations

import asyncio
import json
import signal
import uuid
from contextlib import nullcontext
from pathlib import Path
from pprint import pformat
from typing import TYPE_CHECKING, Any

from aredun.cli.common import (
    get_backend_config,
    get_ini,
    make_console,
    one_line,
    open_backend,
    refuse_read_only,
)
from aredun.cli.earlier_arguments import EarlierArguments, read_input, read_job
from aredun.cli.execution_tags import get_execution_tags
from aredun.cli.levels import set_level
from aredun.cli.progress import show_progress
from aredun.cli.signals import cancel_on
from aredun.cli.task_arguments import TaskParser
from aredun.cli.workflow_file import find_task, import_script, list_task_names
from aredun.config import get_config_dir, write_default_config
from aredun.errors import UsageError
from aredun.formats.describe import describe
from aredun.formats.tag_syntax import parse_tag_key_value, parse_tag_value
from aredun.models import Execution
from aredun.scheduler import Scheduler
from aredun.values.task_options import check_task_options
from aredun.workflow.executors.configured import make_executors
from aredun.workflow.tasks import merge_contexts

if TYPE_CHECKING:
    import argparse
    from collections.abc import Coroutine
    from types import ModuleType

    from rich.console import Console

    from aredun.backend import RedunBackendDb
    from aredun.config import RedunIni
    from aredun.workflow.tasks import Task

EXIT_WORKFLOW_FAILED = 1


def run(args: argparse.Namespace, console: Console) -> Coroutine[Any, Any, int]:
    """Load the workflow, and return what runs the command on an event loop.

    No loop runs meanwhile: loading may take long, and Ctrl-C ends it as usual. All that a run needs of this
    library is imported by now, so that only what the workflow makes is the garbage collector's.
    """
    return _run(args, console, import_script(args.script))


async def _run(args: argparse.Namespace, console: Console, module: ModuleType) -> int:
    """Run the command; all arguments are checked before anything is created."""
    if args.task == "help":
        for name in list_task_names():
            console.print(name)
        return 0
    # Whether the id of a job stands in the place of the task decides which arguments there are.
    if args.rerun or "--rerun" in args.arguments:
        async with open_backend(args) as backend:
            earlier = await read_job(backend, args.task)
    else:
        earlier = EarlierArguments(args.task)
    task = find_task(earlier.task_name, args.script, module)
    positional, named = await _parse_arguments(args, task, earlier)
    task = _apply_options(task, args)
    ini = get_ini(args, create=True)
    settings = _get_scheduler_settings(args, ini)
    tags = await get_execution_tags(user=args.user, project=args.project or task.namespace, doc=args.doc)
    tags += map(parse_tag_key_value, args.tag)
    execution_id = _get_execution_id(args.execution_id)
    expression = task(*positional, **named)
    if args.dryrun:
        return await _dry_run(args, console, expression, settings)
    refuse_read_only(args)
    if args.db is None:
        await asyncio.to_thread(write_default_config, get_config_dir(args.config))
    async with open_backend(args, create=True) as backend:
        if args.execution_id is not None:
            await _require_new_execution(backend, execution_id)
        errors = make_console(stderr=True)
        with show_progress(errors, enabled=args.log_level != "error") as on_status:
            async with Scheduler(backend, on_status=on_status, **settings) as scheduler:
                with cancel_on(signal.SIGTERM):
                    exit_code, result = await _run_workflow(
                        scheduler, expression, args, tags, execution_id, errors
                    )
        # A live display redraws over what is printed below it, so the result waits for its end.
        if result is not None:
            console.print(_show_result(result))
        return exit_code


async def _parse_arguments(
    args: argparse.Namespace, task: Task[..., Any], earlier: EarlierArguments
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Parse what follows the task's name: its arguments, and options of `run` (they go into `args`)."""
    parser = TaskParser(task)
    parser.parse_into(args, args.arguments)
    set_level(args.log_level)
    if args.input is not None:
        earlier = await asyncio.to_thread(read_input, args.input, earlier.task_name)
    positional, named = parser.get_arguments(args, earlier.get_names(task))
    return earlier.merge(task, positional, named)


def _apply_options(task: Task[..., Any], args: argparse.Namespace) -> Task[..., Any]:
    overrides = dict(map(parse_tag_key_value, args.option))
    if args.no_prov:
        overrides["prov"] = False
    check_task_options(overrides)
    try:
        configured = task.options(**overrides) if overrides else task
    except (TypeError, ValueError) as error:
        raise UsageError(f"invalid --option: {one_line(error)}") from error
    context: dict[str, Any] = {}
    if args.context_file is not None:
        context = _read_context(Path(args.context_file))
    for key_value in args.context:
        key, value = parse_tag_key_value(key_value)
        for part in reversed(key.split(".")):
            value = {part: value}
        context = merge_contexts([context, value])
    return configured.update_context(context) if context else configured


def _read_context(path: Path) -> dict[str, Any]:
    return _parse_context(path.read_text(encoding="utf-8-sig"), str(path))


def _parse_context(text: str, source: str) -> dict[str, Any]:
    try:
        context = json.loads(text)
    except ValueError as error:
        raise UsageError(f"{source} is not JSON: {error}") from error
    if not isinstance(context, dict):
        raise UsageError(f"{source} must hold a JSON object of context variables")
    return context


def _get_scheduler_settings(args: argparse.Namespace, ini: RedunIni) -> dict[str, Any]:
    """Return the scheduler's settings from redun.ini: limits, tags, context, executors."""
    section = ini.section("scheduler")
    settings: dict[str, Any] = {
        "limits": {
            name: _parse_int(text, f"[limits] {name}") for name, text in ini.section("limits").items()
        },
        "tags": [(key, parse_tag_value(text)) for key, text in ini.section("tags").items()],
    }
    if "context" in section:
        settings["context"] = _parse_context(section["context"], "[scheduler] context")
    elif "context_file" in section:
        settings["context"] = _read_context(Path(ini.config_dir) / section["context_file"])
    settings["executors"] = make_executors(ini.subsections("executors"))
    if args.max_concurrency is not None:
        settings["max_concurrency"] = args.max_concurrency
    return settings


def _parse_int(text: str, name: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise UsageError(f"{name} is {text!r} in redun.ini: give a number") from None


def _get_execution_id(given: str | None) -> str:
    try:
        return str(uuid.uuid4() if given is None else uuid.UUID(given))
    except ValueError:
        raise UsageError(f"--execution-id is {given!r}: give a UUID") from None


async def _require_new_execution(backend: RedunBackendDb, execution_id: str) -> None:
    # Two runs under one id would be shown as one execution with two roots.
    async with backend.session() as session:
        if await session.get(Execution, execution_id) is not None:
            raise UsageError(f"execution {execution_id} is recorded already: give another --execution-id")


async def _dry_run(
    args: argparse.Namespace, console: Console, expression: Any, settings: dict[str, Any]
) -> int:
    """Tell what would run, on a database in memory where there is none yet."""
    url = get_backend_config(args).url
    is_missing = url is not None and url.file_path is not None and not url.file_path.exists()
    opened: Any = nullcontext() if is_missing else open_backend(args)
    async with opened as backend, Scheduler(backend, **settings) as scheduler:
        found = await scheduler.dry_run(expression, cache=not args.no_cache)
    for call in found.calls:
        console.print(f"would run {call}")
    if found.calls:
        return EXIT_WORKFLOW_FAILED
    if found.result is not None:
        console.print(_show_result(found.result))
    return 0


async def _run_workflow(
    scheduler: Scheduler,
    expression: Any,
    args: argparse.Namespace,
    tags: list[tuple[str, Any]],
    execution_id: str,
    errors: Console,
) -> tuple[int, Any]:
    """Run it; return the exit code and the result. A failure is told on `errors`."""
    try:
        result = await scheduler.run(
            expression,
            ["aredun", *args.argv],
            cache=not args.no_cache,
            tags=tags,
            execution_id=execution_id,
            keep_locals=args.pdb,
        )
    except Exception as error:
        traceback = scheduler.get_traceback(error)
        if traceback is None:
            raise
        errors.print(f"aredun: execution {execution_id} failed: {type(error).__name__}: {one_line(error)}")
        for text in traceback.format():
            errors.print(text.rstrip("\n"))
        if args.pdb:
            import pdb

            pdb.post_mortem(error.__traceback__)
        return EXIT_WORKFLOW_FAILED, None
    return 0, result


def _show_result(result: Any) -> str:
    try:
        return pformat(result)
    except Exception:
        # The workflow has succeeded, even if a class in its result has no text.
        return describe(result)
