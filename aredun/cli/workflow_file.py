"""The Python file of a workflow: imported by path or module name, and asked for its tasks."""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aredun.cli.common import one_line
from aredun.errors import UsageError
from aredun.formats.spelling import ask_whether, find_near
from aredun.workflow.tasks import get_task_registry

if TYPE_CHECKING:
    from types import ModuleType

    from aredun.workflow.tasks import Task

BUILTIN_NAMESPACE = "redun"


def import_script(script: str) -> ModuleType:
    """Import the file or module that defines a workflow (mirrors redun's `import_script`).

    Parameters
    ----------
    script : str
        `path/to/workflow.py`, or a module's name such as `lib.workflow`. The file's folder, or the working
        directory, is put on the import path.

    Raises
    ------
    UsageError
        There is no such file or module, or importing it fails.
    """
    path = None
    if script.endswith(".py"):
        path = Path(script).resolve()
        if not path.is_file():
            raise UsageError(f"no file {script}: give the Python file that defines the task")
        folder, name = str(path.parent), path.stem
    else:
        folder, name = os.getcwd(), script
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        return importlib.import_module(name) if path is None else _import_file(path)
    except ModuleNotFoundError as error:
        if error.name == name:
            raise UsageError(f"no module {script}: give a file such as workflow.py, or a module") from error
        raise UsageError(f"cannot import {script}: {one_line(error)}") from error
    except SystemExit as error:
        raise UsageError(f"cannot import {script}: it calls sys.exit({error.code!r})") from error
    except Exception as error:
        raise UsageError(
            f"cannot import {script}: {type(error).__name__}: {one_line(error)}{_locate(error)}"
        ) from error


def find_task(name: str, script: str, module: ModuleType) -> Task[..., Any]:
    """Return the task of a name, which may leave out the namespace of the module (as `redun run` does).

    Parameters
    ----------
    name : str
        Name or full name.
    script : str
        The file, for the message.
    module : ModuleType
        What `import_script` returned.

    Raises
    ------
    UsageError
        There is no such task; the message lists those that there are.
    """
    namespace = getattr(module, "redun_namespace", None)
    fullname = f"{namespace}.{name}" if namespace and "." not in name else name
    task: Task[..., Any] | None = get_task_registry().get(fullname)
    if task is None:
        names = list_task_names()
        near = find_near(fullname, names)
        hint = f"; {ask_whether(near)}" if near else ""
        raise UsageError(f"no task {name!r} in {script}: its tasks are {', '.join(names) or 'none'}{hint}")
    return task


def list_task_names() -> list[str]:
    """Return the full names of the user's tasks, in alphabetical order."""
    return sorted(task.fullname for task in get_task_registry() if task.namespace != BUILTIN_NAMESPACE)


def _import_file(path: Path) -> ModuleType:
    """Import a file by its name, or by another one where that is another module's (`rich.py`)."""
    name = path.stem
    if "." not in name:
        module = importlib.import_module(name)
        if _is_from(module, path):
            return module
    name = re.sub(r"\W", "_", f"workflow_{name}")
    known = sys.modules.get(name)
    if known is not None and _is_from(known, path):
        return known
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UsageError(f"cannot import {path}: it is not a Python file")
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _is_from(module: ModuleType, path: Path) -> bool:
    file = module.__dict__.get("__file__")
    return file is not None and Path(file).resolve() == path


def _locate(error: Exception) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    if isinstance(error, SyntaxError) or not frames:
        return ""
    return f" ({frames[-1].filename}, line {frames[-1].lineno})"
