"""Arguments of a task on the command line, read by the types of its parameters (as `redun run` does)."""

from __future__ import annotations

import argparse
import inspect
import types
import typing
from collections.abc import Callable
from enum import Enum
from typing import TYPE_CHECKING, Any

from aredun.cli.common import CommandParser, one_line
from aredun.describe import describe
from aredun.errors import UsageError
from aredun.values import get_type_registry

if TYPE_CHECKING:
    from aredun.tasks import Task

_DEST_PREFIX = "task argument "


def make_task_parser(task: Task[..., Any]) -> CommandParser:
    """Build the parser of a task's own arguments: `--arg-name value`, a list takes several values.

    Parameters
    ----------
    task : Task
        The task; its type hints say how a value is read, a parameter without one takes text.
    """
    parser = CommandParser(
        prog=task.fullname,
        description=inspect.getdoc(task.func),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        repository_options=False,
    )
    hints = _get_hints(task)
    for parameter in task.signature.parameters.values():
        _add_argument(parser, parameter, hints.get(parameter.name))
    return parser


def get_task_arguments(task: Task[..., Any], args: argparse.Namespace) -> dict[str, Any]:
    """Return the arguments that were given, by the names of the task's parameters.

    Parameters
    ----------
    task : Task
        The task that `args` were parsed for.
    args : argparse.Namespace
        What the parser of `make_task_parser` returned.

    Raises
    ------
    UsageError
        An argument without a default is missing.
    """
    given = {
        name.removeprefix(_DEST_PREFIX): value
        for name, value in vars(args).items()
        if name.startswith(_DEST_PREFIX)
    }
    missing = [
        get_option_name(parameter.name)
        for parameter in task.signature.parameters.values()
        if parameter.default is parameter.empty
        and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        and parameter.name not in given
    ]
    if missing:
        raise UsageError(f"task {task.fullname} needs {', '.join(missing)}")
    return given


def get_option_name(parameter_name: str) -> str:
    """Return the option that sets a parameter, `--arg-name` for `arg_name`."""
    return "--" + parameter_name.lower().replace("_", "-")


def _get_hints(task: Task[..., Any]) -> dict[str, Any]:
    try:
        return typing.get_type_hints(task.func)
    except (NameError, TypeError, AttributeError):
        # A hint may name what is only imported for type checkers; then that parameter takes text.
        hints = {name: parameter.annotation for name, parameter in task.signature.parameters.items()}
        return {name: hint for name, hint in hints.items() if isinstance(hint, type)}


def _add_argument(parser: CommandParser, parameter: inspect.Parameter, hint: Any) -> None:
    if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
        return
    item_type, is_list = _split_hint(hint)
    settings: dict[str, Any] = {"nargs": "+"} if is_list else {}
    if parameter.default is not parameter.empty:
        settings["help"] = f"(default: {describe(parameter.default, 200)})".replace("%", "%%")
    parser.add_argument(
        get_option_name(parameter.name),
        dest=_DEST_PREFIX + parameter.name,
        type=_make_reader(item_type),
        default=argparse.SUPPRESS,
        metavar=parameter.name.upper(),
        **settings,
    )


def _split_hint(hint: Any) -> tuple[Any, bool]:
    """Return the type of one value, and whether there may be several."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        concrete = [argument for argument in arguments if argument is not type(None)]
        return _split_hint(concrete[0])
    if origin is typing.Annotated:
        return _split_hint(arguments[0])
    if origin is Callable:
        return types.FunctionType, False
    if hint is list or (isinstance(origin, type) and issubclass(origin, list)):
        return (arguments[0] if arguments else str), True
    return (str if hint is None or hint is Any else hint), False


def _make_reader(item_type: Any) -> Callable[[str], Any]:
    def read(text: str) -> Any:
        try:
            return get_type_registry().parse_arg(item_type, text)
        except Exception as error:
            name = getattr(item_type, "__name__", repr(item_type))
            choices = (
                f", choose from {', '.join(member.name for member in item_type)}"
                if isinstance(item_type, type) and issubclass(item_type, Enum)
                else ""
            )
            raise argparse.ArgumentTypeError(
                f"{text!r} is not a valid {name}{choices} ({one_line(error)})"
            ) from error

    return read
