"""Every command of `aredun` is in `docs/reference/command.md` with its options and arguments, no other is."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from aredun.cli.parsers import add_common_options, make_parser
from aredun.query import setup_query_parser

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "command.md"
OPTION = re.compile(r"(?<![\w`-])`?(--?[A-Za-z][\w-]*)")


def read_sections() -> dict[str, str]:
    """Return the text below each heading of the page, up to the next one."""
    parts = re.split(r"^#+ (.+)$", PAGE.read_text(), flags=re.MULTILINE)
    return {title.strip("`"): text for title, text in zip(parts[1::2], parts[2::2], strict=True)}


def iter_parsers(
    parser: argparse.ArgumentParser, path: tuple[str, ...] = ("aredun",)
) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Yield each command below a parser, with its name as it is typed."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, command in action.choices.items():
                yield " ".join((*path, name)), command
                yield from iter_parsers(command, (*path, name))


def list_options(actions: Iterable[argparse.Action]) -> set[str]:
    """Return all spellings of the options among the actions."""
    return {option for action in actions for option in action.option_strings}


def list_table(text: str) -> set[str]:
    """Return the options in the first column of the tables in a text."""
    rows = re.findall(r"^\| (.*?) \|", text, flags=re.MULTILINE)
    return {option for row in rows for option in OPTION.findall(row)}


SECTIONS = read_sections()
COMMANDS = dict(iter_parsers(make_parser()))
FILTERS = list_options(setup_query_parser(argparse.ArgumentParser(add_help=False))._actions)
COMMON = argparse.ArgumentParser()
add_common_options(COMMON)


def test_the_page_has_the_commands_and_no_others() -> None:
    titles = {title for title in SECTIONS if title.startswith("aredun ")}
    assert titles == set(COMMANDS)


def test_what_all_commands_share_is_documented_once() -> None:
    assert list_table(SECTIONS["Everywhere"]) == list_options(make_parser()._actions)
    assert list_table(SECTIONS["Filters"]) == FILTERS


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_and_argument_is_documented_and_no_other(name: str) -> None:
    section, actions = SECTIONS[name], COMMANDS[name]._actions
    options = list_options(actions)
    own = options - list_options(COMMON._actions)
    if FILTERS <= options:
        assert "(#filters)" in section
        own -= FILTERS
    assert list_table(section) == own
    for action in actions:
        if not action.option_strings and not isinstance(action, argparse._SubParsersAction):
            for word in re.findall(r"[\w-]*\w", str(action.metavar or action.dest)):
                assert word in section
