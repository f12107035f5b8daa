"""Arguments of a task on the command line, read by the types of its parameters (as `redun run` does)."""

from __future__ import annotations

import argparse
import inspect
import types
import typing
from collections import Counter
from typing import TYPE_CHECKING, Any

from aredun.cli.common import CommandParser, one_line
from aredun.cli.hints import Hint, read_hint, show_choice
from aredun.errors import UsageError
from aredun.formats.describe import describe

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from aredun.workflow.tasks import Task

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
        common_options=False,
        # Where an argument is called like an option, the option's other names stay.
        conflict_handler="resolve",
    )
    hints = _get_hints(task)
    options = get_option_names(task)
    for parameter in task.signature.parameters.values():
        if parameter.kind is not parameter.VAR_KEYWORD:
            _add_argument(parser, parameter, options, hints.get(parameter.name))
    return parser


def parse_task_arguments(
    task: Task[..., Any], parser: CommandParser, arguments: Sequence[str]
) -> argparse.Namespace:
    """Parse what follows a task's name; options that nobody knows go into its `**kwargs`, if it has some.

    Parameters
    ----------
    task : Task
        The task that `parser` was made for.
    parser : CommandParser
        What `make_task_parser` returned, with all other options added.
    arguments : sequence of str
        What was typed.
    """
    for parameter in task.signature.parameters.values():
        if parameter.kind is parameter.VAR_KEYWORD:
            hint = _get_hints(task).get(parameter.name)
            for option in _find_unknown(parser, arguments):
                name = option.removeprefix("--").replace("-", "_")
                _add_argument(parser, parameter.replace(name=name), {name: option}, hint)
    return parser.parse_args(arguments)


def get_task_arguments(
    task: Task[..., Any], args: argparse.Namespace, known: Collection[str] = ()
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the arguments that were given, by position and by name, as the task is called with them.

    Parameters
    ----------
    task : Task
        The task that `args` were parsed for.
    args : argparse.Namespace
        What `parse_task_arguments` returned.
    known : Collection[str]
        Parameters that have an argument from elsewhere.

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
    options = get_option_names(task)
    parameters = task.signature.parameters.values()
    missing = [
        options[parameter.name]
        for parameter in parameters
        if parameter.default is parameter.empty
        and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        and parameter.name not in {*given, *known}
    ]
    if missing:
        raise UsageError(f"task {task.fullname} needs {', '.join(missing)}")
    return _take_positional(parameters, given), given


def get_option_names(task: Task[..., Any]) -> dict[str, str]:
    """Return the options that set the parameters of a task, `--arg-name` for `arg_name`, by parameter.

    They are in lower case, as redun's are, but for parameters that differ in case only.
    """
    names = [name for name, each in task.signature.parameters.items() if each.kind is not each.VAR_KEYWORD]
    counts = Counter(name.lower() for name in names)
    return {
        name: "--" + (name if counts[name.lower()] > 1 else name.lower()).replace("_", "-") for name in names
    }


def _find_unknown(parser: CommandParser, arguments: Sequence[str]) -> list[str]:
    _, rest = parser.parse_known_args(arguments)
    options = (each.partition("=")[0] for each in rest if each.startswith("--"))
    return list(dict.fromkeys(option for option in options if option.removeprefix("--").isprintable()))


def _take_positional(
    parameters: typing.Iterable[inspect.Parameter], given: dict[str, Any]
) -> tuple[Any, ...]:
    """Take out of `given` what cannot be passed by name, with all that comes before it."""
    positional = [each for each in parameters if each.kind not in (each.KEYWORD_ONLY, each.VAR_KEYWORD)]
    last = max(
        (
            index
            for index, each in enumerate(positional, 1)
            if each.name in given and each.kind in (each.POSITIONAL_ONLY, each.VAR_POSITIONAL)
        ),
        default=0,
    )
    taken: list[Any] = []
    for each in positional[:last]:
        if each.kind is each.VAR_POSITIONAL:
            taken += given.pop(each.name)
        else:
            taken.append(given.pop(each.name, each.default))
    return tuple(taken)


def _get_hints(task: Task[..., Any]) -> dict[str, Any]:
    try:
        return typing.get_type_hints(task.func)
    except (NameError, TypeError, AttributeError):
        # A hint may name something that only type checkers import: then that parameter takes text.
        hints = {name: parameter.annotation for name, parameter in task.signature.parameters.items()}
        return {name: hint for name, hint in hints.items() if isinstance(hint, type)}


def _add_argument(
    parser: CommandParser, parameter: inspect.Parameter, options: Mapping[str, str], annotation: Any
) -> None:
    if parameter.kind is parameter.VAR_POSITIONAL:
        annotation = types.GenericAlias(tuple, (str if annotation is None else annotation, ...))
    hint = read_hint(annotation)
    option, destination = options[parameter.name], _DEST_PREFIX + parameter.name
    text: str | None = None
    if parameter.default is not parameter.empty:
        text = f"(default: {describe(parameter.default, 200)})".replace("%", "%%")
    common: dict[str, Any] = {"dest": destination, "default": argparse.SUPPRESS}
    bare: dict[str, Any] = {"const": True} if hint.is_flag else {}
    parser.add_argument(
        option,
        type=_make_reader(hint),
        action=_make_collector(hint),
        nargs=hint.nargs,
        metavar=parameter.name.upper(),
        help=text,
        **common,
        **bare,
    )
    negation = option.replace("--", "--no-", 1)
    if hint.is_flag and negation not in options.values():
        parser.add_argument(negation, action="store_const", const=False, help=f"{option} false", **common)


def _make_reader(hint: Hint) -> Callable[[str], Any]:
    def read(text: str) -> Any:
        try:
            return hint.read(text)
        except Exception as error:
            name = getattr(hint.type, "__name__", repr(hint.type))
            choices = f", choose from {', '.join(map(show_choice, hint.choices))}" if hint.choices else ""
            reason = "" if isinstance(error, KeyError) and choices else f" ({one_line(error)})"
            raise argparse.ArgumentTypeError(f"{text!r} is not a valid {name}{choices}{reason}") from error

    return read


def _make_collector(hint: Hint) -> type[argparse.Action]:
    class Collect(argparse.Action):
        """Keeps the values as the collection that the hint names."""

        def __call__(
            self,
            parser: argparse.ArgumentParser,
            namespace: argparse.Namespace,
            values: Any,
            option: Any = None,
        ) -> None:
            try:
                setattr(namespace, self.dest, values if hint.collect is None else hint.collect(values))
            except (TypeError, ValueError) as error:
                raise argparse.ArgumentError(self, one_line(error)) from error

    return Collect
