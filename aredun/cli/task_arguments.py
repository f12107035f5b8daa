"""Arguments of a task on the command line, read by the types of its parameters (as `redun run` does)."""

from __future__ import annotations

import argparse
import inspect
import types
import typing
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Any

from aredun.cli.common import one_line
from aredun.cli.hints import Hint, read_hint, show_choice
from aredun.cli.parsers import CommandParser, add_common_options, add_run_options
from aredun.errors import UsageError
from aredun.formats.describe import describe

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from aredun.workflow.tasks import Task

_DEST_PREFIX = "task argument "


class TaskParser(CommandParser):
    """Parses what follows a task's name: `--arg-name value` for its arguments, and the options of `run`.

    A list takes several values. Options whose name an argument has are left out.

    Parameters
    ----------
    task : Task
        The task; its type hints say how a value is read, a parameter without one takes text.
    """

    def __init__(self, task: Task[..., Any]) -> None:
        super().__init__(
            prog=task.fullname,
            description=inspect.getdoc(task.func),
            formatter_class=argparse.RawDescriptionHelpFormatter,
            common_options=False,
            # Where an argument is called like an option, the option's other names stay.
            conflict_handler="resolve",
        )
        self._task = task
        self._parameters = list(task.signature.parameters.values())
        self._options = _name_options(self._parameters)
        self._hints = _get_hints(task)
        # What makes the argument of several values, by destination, with the option that they come from.
        self._collectors: dict[str, tuple[str, Callable[[list[Any]], Any]]] = {}
        for parameter in self._parameters:
            if parameter.kind is not parameter.VAR_KEYWORD:
                self._add_parameter(parameter, self._options[parameter.name], parameter.name)
        taken = set(self._options.values())
        add_common_options(self, taken)
        add_run_options(self, taken)

    def parse_into(self, args: argparse.Namespace, arguments: Sequence[str]) -> None:
        """Parse what was typed; options that nobody knows go into the task's `**kwargs`, if it has some.

        Parameters
        ----------
        args : argparse.Namespace
            Gets what was given.
        arguments : sequence of str
            What was typed.
        """
        for parameter in self._parameters:
            if parameter.kind is parameter.VAR_KEYWORD:
                for option in self._find_unknown(arguments):
                    name = option.removeprefix("--").replace("-", "_")
                    self._add_parameter(parameter.replace(name=name), option, parameter.name)
        self.parse_args(arguments, args)
        for destination, (option, collect) in self._collectors.items():
            if destination in args:
                try:
                    setattr(args, destination, collect(getattr(args, destination)))
                except (TypeError, ValueError) as error:
                    self.error(f"argument {option}: {one_line(error)}")

    def get_arguments(
        self, args: argparse.Namespace, known: Collection[str] = ()
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the arguments that were given, by position and by name, as the task is called with them.

        Parameters
        ----------
        args : argparse.Namespace
            What `parse_into` filled.
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
        missing = [
            self._options[each.name]
            for each in self._parameters
            if each.default is each.empty
            and each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)
            and each.name not in {*given, *known}
        ]
        if missing:
            raise UsageError(f"task {self._task.fullname} needs {', '.join(missing)}")
        return _take_positional(self._parameters, given), given

    def _find_unknown(self, arguments: Sequence[str]) -> list[str]:
        _, rest = self.parse_known_args(arguments)
        options = (each.partition("=")[0] for each in rest if each.startswith("--"))
        return list(dict.fromkeys(option for option in options if option.removeprefix("--").isprintable()))

    def _add_parameter(self, parameter: inspect.Parameter, option: str, hinted: str) -> None:
        """Add the option of a parameter, which the hint of that name is for."""
        annotation = self._hints.get(hinted)
        if parameter.kind is parameter.VAR_POSITIONAL:
            annotation = types.GenericAlias(tuple, (str if annotation is None else annotation, ...))
        hint = read_hint(annotation)
        destination = _DEST_PREFIX + parameter.name
        if hint.collect is not None:
            self._collectors[destination] = (option, hint.collect)
        common: dict[str, Any] = {"dest": destination, "default": argparse.SUPPRESS}
        text: str | None = None
        if parameter.default is not parameter.empty:
            text = f"(default: {describe(parameter.default, 200)})".replace("%", "%%")
        self.add_argument(
            option,
            type=partial(_read_text, hint),
            nargs=hint.nargs,
            const=True if hint.nargs == "?" else None,
            metavar=parameter.name.upper(),
            help=text,
            **common,
        )
        negation = option.replace("--", "--no-", 1)
        if hint.nargs == "?" and negation not in self._options.values():
            self.add_argument(negation, action="store_const", const=False, help=f"{option} false", **common)


def _name_options(parameters: typing.Iterable[inspect.Parameter]) -> dict[str, str]:
    """Return the options that set parameters, `--arg-name` for `arg_name`, by parameter."""
    # They are in lower case, as redun's are, but for parameters that differ in case only.
    names = [each.name for each in parameters if each.kind is not each.VAR_KEYWORD]
    counts = Counter(name.lower() for name in names)
    return {
        name: "--" + (name if counts[name.lower()] > 1 else name.lower()).replace("_", "-") for name in names
    }


def _take_positional(parameters: list[inspect.Parameter], given: dict[str, Any]) -> tuple[Any, ...]:
    """Take out of `given` what cannot be passed by name, with all that comes before it."""
    positional = [each for each in parameters if each.kind not in (each.KEYWORD_ONLY, each.VAR_KEYWORD)]
    while positional:
        last = positional[-1]
        if last.name in given and last.kind in (last.POSITIONAL_ONLY, last.VAR_POSITIONAL):
            break
        positional.pop()
    taken: list[Any] = []
    for each in positional:
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


def _read_text(hint: Hint, text: str) -> Any:
    """Return what a text is by a hint; the error of one that does not fit says what would."""
    try:
        return hint.read(text)
    except Exception as error:
        name = getattr(hint.type, "__name__", repr(hint.type))
        choices = f", choose from {', '.join(map(show_choice, hint.choices))}" if hint.choices else ""
        reason = "" if isinstance(error, KeyError) and choices else f" ({one_line(error)})"
        raise argparse.ArgumentTypeError(f"{text!r} is not a valid {name}{choices}{reason}") from error
