"""Arguments: the order and the names of those of a call, and the words of a command."""

from __future__ import annotations

import ast
import json
from functools import lru_cache
from textwrap import dedent


def argument_order(position: int | None, key: str | None, arg_hash: str = "") -> tuple[bool, int, str, str]:
    """Return the sort key of an argument: first those by position, then those by keyword, then by hash."""
    return position is None, position or 0, key or "", arg_hash


@lru_cache(maxsize=4096)
def read_parameters(source: str) -> tuple[tuple[str, ...] | None, str]:
    """Return the names of a task's positional parameters; None if the source tells none, and why."""
    try:
        statements = ast.parse(dedent(source)).body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        return None, str(error)
    if not statements or not isinstance(statements[0], ast.FunctionDef | ast.AsyncFunctionDef):
        return None, "it is not a function"
    return tuple(parameter.arg for parameter in statements[0].args.args), ""


def name_argument(position: int | None, key: str | None, source: str) -> str:
    """Return the name of an argument: its keyword, else the parameter at its position, else `arg0` ..."""
    place = position or 0
    names = read_parameters(source)[0] or ()
    # A variadic task has more arguments than names.
    return key or (names[place] if place < len(names) else f"arg{place}")


def read_command(args: str) -> list[str] | None:
    """Return the words of an execution's command, which redun stores as a JSON list; None of other texts."""
    try:
        words = json.loads(args)
    except (ValueError, RecursionError):
        return None
    return list(map(str, words)) if isinstance(words, list) else None
