"""How much a command tells on stderr beside its answer: errors always, the rest by `--log-level`."""

from __future__ import annotations

import argparse
import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Container, Iterator

DEFAULT = "warning"
_LEVELS = {
    "error": logging.ERROR,
    "warning": logging.WARNING,
    "info": logging.INFO,
    "debug": logging.DEBUG,
}
# The logger of statements, which SQLAlchemy calls INFO.
_STATEMENTS = "sqlalchemy.engine"


def add_level_options(parser: argparse.ArgumentParser, taken: Container[str] = ()) -> None:
    """Add `--log-level LEVEL`, `-v` and `-q`, of which the last one counts; absent ones leave no attribute.

    Parameters
    ----------
    parser : argparse.ArgumentParser
        The parser of a command, or of what follows it.
    taken : Container[str]
        Options that mean something else there, and are left alone.
    """
    options = parser.add_argument_group("messages")
    absent: dict[str, Any] = {"dest": "log_level", "default": argparse.SUPPRESS}
    if "--log-level" not in taken:
        text = f"what to tell on stderr: {', '.join(_LEVELS)} (default: {DEFAULT})"
        options.add_argument("--log-level", metavar="LEVEL", choices=_LEVELS, help=text, **absent)
    for letter, name, level in (("-v", "--verbose", "info"), ("-q", "--quiet", "error")):
        if name not in taken:
            options.add_argument(
                letter,
                name,
                action="store_const",
                const=level,
                help=f"short for --log-level {level}",
                **absent,
            )


def set_level(args: argparse.Namespace) -> None:
    """Tell as much from now on as the arguments say."""
    level = _LEVELS[getattr(args, "log_level", DEFAULT)]
    logging.getLogger("aredun").setLevel(level)
    # Python's last handler writes what no other takes: a workflow with its own logging has each message once.
    if logging.lastResort is not None:
        logging.lastResort.setLevel(level)
    if level == logging.DEBUG:
        logging.getLogger(_STATEMENTS).setLevel(logging.INFO)


def is_quiet(args: argparse.Namespace) -> bool:
    """Tell whether progress is left out."""
    return getattr(args, "log_level", DEFAULT) == "error"


@contextmanager
def keep_levels() -> Iterator[None]:
    """Put the levels back at the end of the block, for a program that runs a command in its own process."""
    changed: list[logging.Logger | logging.Handler] = [
        logging.getLogger("aredun"),
        logging.getLogger(_STATEMENTS),
    ]
    if logging.lastResort is not None:
        changed.append(logging.lastResort)
    levels = [each.level for each in changed]
    try:
        yield
    finally:
        for each, level in zip(changed, levels, strict=True):
            each.setLevel(level)
