"""How much a command tells on stderr beside its answer: errors always, the rest by `--log-level`."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_LOGGER = logging.getLogger("aredun")
# The logger of statements, which SQLAlchemy calls INFO.
_STATEMENTS = logging.getLogger("sqlalchemy.engine")


def set_level(name: str) -> None:
    """Tell as much from now on as a level of `--log-level` says."""
    _LOGGER.setLevel(name.upper())
    # Python's last handler writes what no other takes: a workflow with its own logging has each message once.
    if logging.lastResort is not None:
        logging.lastResort.setLevel(name.upper())
    if name == "debug":
        _STATEMENTS.setLevel(logging.INFO)


@contextmanager
def keep_levels() -> Iterator[None]:
    """Put the levels back at the end of the block, for a program that runs a command in its own process."""
    changed: tuple[logging.Logger | logging.Handler | None, ...] = (_LOGGER, _STATEMENTS, logging.lastResort)
    levels = [(each, each.level) for each in changed if each is not None]
    try:
        yield
    finally:
        for each, level in levels:
            each.setLevel(level)


@contextmanager
def quiet_retries() -> Iterator[None]:
    """Keep warnings of retries off the terminal: a server that cannot be reached is one line, at the end.

    Whoever asked for more than warnings is told of the retries too.
    """
    with keep_levels():
        if not _LOGGER.isEnabledFor(logging.INFO):
            _LOGGER.setLevel(logging.ERROR)
        yield
