"""`script`: shell commands as tasks, with their files staged (mirrors `redun.scripting`)."""

from __future__ import annotations

import shlex
import shutil
import tempfile
from typing import Any

from aredun.errors import UsageError
from aredun.formats.describe import describe
from aredun.values import is_file
from aredun.values.file import File, Staging
from aredun.values.nested import iter_nested_value, map_nested_value
from aredun.values.task_options import check_given_options
from aredun.workflow.executors.scripts import ScriptError, prepare_command
from aredun.workflow.tasks import task

__all__ = ["ScriptError", "script", "script_task"]

_STDOUT = "-"


@task(name="script_task", namespace="redun", version="1", script=True)
def script_task(command: str) -> str:
    """Run a command, and return what it writes to stdout, as bytes."""
    return command


@task(name="script", namespace="redun", version="1", check_valid="shallow")
def run_staged(
    command: str, inputs: Any, outputs: Any, task_options: Any = None, temp_path: str | None = None
) -> Any:
    """Run a command that stages its files itself; `inputs` are here so that a change in them is noticed."""
    result = script_task.options(**(task_options or {}))(command)
    return postprocess_script(result, outputs, temp_path=temp_path)


@task(name="postprocess_script", namespace="redun", version="1")
def postprocess_script(result: Any, outputs: Any, temp_path: str | None = None) -> Any:
    """Return the outputs of a command that has run, as the files that there are now."""
    if temp_path:
        shutil.rmtree(temp_path)

    def resolve(value: Any) -> Any:
        return result if is_file(value) and value.path == _STDOUT else _get_remote(value)

    return map_nested_value(resolve, outputs)


def script(
    command: str | list[str],
    inputs: Any = None,
    outputs: Any = None,
    tempdir: bool = False,
    **task_options: Any,
) -> Any:
    """Return the lazy call of a shell command with its files staged (mirrors redun's `script`).

    Parameters
    ----------
    command : str | list[str]
        A script in bash, or in what its first line names (`#!/usr/bin/env python3`); a list is one command
        with its arguments.
    inputs : Any
        Pairs of files or folders, `File(url).stage(local)`, in any containers: copied before the command.
    outputs : Any
        Files, folders or such pairs, in any containers: pairs are copied back after the command.
        `File("-")`, the default, is what the command writes to stdout, as bytes.
    tempdir : bool
        Run the command in a new folder, which is removed after it.
    **task_options : Any
        Options of the task that runs it, such as `executor`, `timeout` or `limits`.

    Returns
    -------
    Any
        A lazy call, whose result has the shape of `outputs`, with the remote side of each pair.

    Raises
    ------
    UsageError
        An option is unknown, or an input is no pair.
    """
    check_given_options(task_options, script_task.fullname, of_call=True)
    inputs = [] if inputs is None else inputs
    for value in iter_nested_value(inputs):
        if not isinstance(value, Staging):
            raise UsageError(f"an input of a script is {describe(value)}: give pairs, File(url).stage()")
    temp_path = tempfile.mkdtemp(suffix=".tempdir") if tempdir else None
    outputs = map_nested_value(_pair_with_itself, File(_STDOUT) if outputs is None else outputs)
    text = shlex.join(command) if isinstance(command, list) else command
    parts = [shlex.join(["cd", temp_path])] if temp_path else []
    parts += [pair.render_stage() for pair in iter_nested_value(inputs)]
    parts.append(_wrap(prepare_command(text)))
    parts += [pair.render_unstage() for pair in iter_nested_value(outputs) if isinstance(pair, Staging)]
    sources = map_nested_value(_get_remote, inputs)
    return run_staged("\n".join(parts), sources, outputs, task_options=task_options, temp_path=temp_path)


def _pair_with_itself(value: Any) -> Any:
    return value.stage(value.path) if is_file(value) and value.path != _STDOUT else value


def _get_remote(value: Any) -> Any:
    return type(value.remote)(value.remote.path) if isinstance(value, Staging) else value


def _wrap(command: str) -> str:
    """Return shell code that runs a script in any language; its bytes are hashed, and so are redun's."""
    lines = command.split("\n")
    end, number = "EOF", 0
    while end in lines:
        number += 1
        end = f"EOF{number}"
    save = ("# Save command to temp file.", 'COMMAND_FILE="$(mktemp)"', f'cat > "$COMMAND_FILE" <<"{end}"')
    execute = ("# Execute temp file.", 'chmod +x "$COMMAND_FILE"', '"$COMMAND_FILE"', "RETCODE=$?")
    remove = ("# Remove temp file.", 'rm "$COMMAND_FILE"')
    return "\n".join(("(", *save, command, end, "", *execute, "", *remove, "", "exit $RETCODE", ")", ""))
