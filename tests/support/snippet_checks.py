"""What can be said of a block of a page without running it: each raises for what is wrong in it."""

from __future__ import annotations

import argparse
import ast
import importlib
import inspect
import json
import re
import shlex
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import yaml

import aredun
from aredun.cli.parsers import make_parser
from aredun.config import BackendConfig, load_config
from aredun.workflow.executors.configured import make_executors
from tests.support.dependencies import read_project
from tests.support.snippets import CHECKOUT, Block, compile_snippet, split_console

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

# In `limits` and `tags` each name is one of the reader's own.
_SECTIONS = {
    "backend": {field.name for field in fields(BackendConfig)} - {"url", "echo"},
    "executors": {"type", "mode", "max_workers", "address", "n_workers", "threads_per_worker", "resources"},
    "limits": set[str](),
    "repos": {"config_dir"},
    "scheduler": {"context", "context_file", "setup_scheduler"},
    "tags": set[str](),
}


def check_python(block: Block, folder: Path) -> None:
    """Python compiles; it is run by the test of its page."""
    compile_snippet(block.text, str(block))


def check_ini(block: Block, folder: Path) -> None:
    """A `redun.ini` is read by aredun itself, and has no section or option that nobody reads."""
    (folder / "redun.ini").write_text(block.text)
    ini = load_config(folder, required=True)
    for section in ini.parser.sections():
        options = set(ini.section(section))
        assert options <= _SECTIONS[section.partition(".")[0]] or section in ("limits", "tags"), section
    assert not ini.parser.has_section("backend") or ini.backend().url
    make_executors(ini.subsections("executors"))
    setup = ini.section("scheduler").get("setup_scheduler")
    if setup:
        module, _, name = setup.partition("::")
        assert callable(getattr(importlib.import_module(module), name))


def check_json(block: Block, folder: Path) -> None:
    """JSON is one value after the other."""
    text = block.text.strip()
    while text:
        _, end = json.JSONDecoder().raw_decode(text)
        text = text[end:].lstrip()


def check_yaml(block: Block, folder: Path) -> None:
    """YAML is a mapping."""
    assert isinstance(yaml.safe_load(block.text), dict)


def check_nginx(block: Block, folder: Path) -> None:
    """What nginx reads are directives that end, in blocks that do."""
    assert block.text.count("{") == block.text.count("}")
    lines = [line.strip() for line in block.text.splitlines() if line.strip()]
    assert [line for line in lines if line[-1] not in "{};"] == []


def check_console(block: Block, folder: Path) -> None:
    """A console has commands with their outputs; they are run by the test of the page."""
    commands = split_console(block)
    assert block.text.startswith("$ "), "a console begins with a command"
    for command, _ in commands:
        _check_line(command)


def check_sh(block: Block, folder: Path) -> None:
    """Each line is a command that exists, with options that it has."""
    for line in block.text.replace("\\\n", " ").splitlines():
        _check_line(line)


def check_usage(block: Block, folder: Path) -> None:
    """The commands of a usage exist and have the options and arguments that it names."""
    for line in block.text.splitlines():
        words = re.findall(r"[^\s\[\]|]+", line.partition("#")[0])
        assert words.pop(0) == "aredun"
        parser: argparse.ArgumentParser = make_parser()
        while words and words[0] in (commands := _get_commands(parser)):
            parser = commands[words.pop(0)]
        options = {option for action in parser._actions for option in action.option_strings}
        # `--arg` stands for what the task itself takes.
        assert {word for word in words if word.startswith("-")} <= {*options, "--", "--arg"}, line


def check_signature(block: Block, folder: Path) -> None:
    """A signature is the one of what it names in `aredun`."""
    found = re.findall(r"^([\w.]+)\((.*?)\)$", block.text, re.DOTALL | re.MULTILINE)
    assert len(found) == len(re.findall(r"^\w", block.text, re.MULTILINE)), "a signature is written as a call"
    for name, parameters in found:
        where: Any = aredun
        for part in name.split("."):
            where = getattr(where, part)
        shown = ast.parse(f"def shown({parameters}): ...").body[0]
        assert isinstance(shown, ast.FunctionDef)
        real = inspect.signature(where).parameters.values()
        assert ast.unparse(shown.args) == _unparse(real), name


def check_text(block: Block, folder: Path) -> None:
    """The output of the Python before it; it is compared by the test of the page."""


CHECKS: dict[str, Callable[[Block, Path], None]] = {
    "python": check_python,
    "ini": check_ini,
    "json": check_json,
    "console": check_console,
    "sh": check_sh,
    "usage": check_usage,
    "signature": check_signature,
    "text": check_text,
    "yaml": check_yaml,
    "nginx": check_nginx,
}


def _unparse(parameters: Any) -> str:
    plain = [each.replace(annotation=inspect.Parameter.empty) for each in parameters if each.name != "self"]
    shown = ast.parse(f"def shown{inspect.Signature(plain)}: ...").body[0]
    assert isinstance(shown, ast.FunctionDef)
    return ast.unparse(shown.args)


def _get_commands(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    return {}


def _check_line(line: str) -> None:
    """Check each command of a pipe; what sets a variable to what another command writes is one, too."""
    inner = re.fullmatch(r"export \w+=\$\((.+)\)", line)
    line = inner[1] if inner else line
    lexer = shlex.shlex(line.partition(" # ")[0], posix=True, punctuation_chars="|")
    lexer.whitespace_split = True
    command: list[str] = []
    for word in [*lexer, "|"]:
        if word != "|":
            command.append(word)
        elif command:
            _check_command(command)
            command = []


def _check_command(words: list[str]) -> None:
    while re.match(r"[A-Z_]+=", words[0]):
        words = words[1:]
    program = words[0].rpartition("/")[2]
    PROGRAMS[program](words[1:])


def _check_aredun(arguments: list[str]) -> None:
    make_parser().parse_args(arguments)


def _check_redun(arguments: list[str]) -> None:
    from redun.cli import RedunClient

    RedunClient().get_command_parser().parse_args(arguments)


def _check_make(targets: list[str]) -> None:
    for target in targets:
        assert re.search(rf"^{target}:", (CHECKOUT / "Makefile").read_text(), re.MULTILINE), target


def _check_pip(arguments: list[str]) -> None:
    assert arguments[0] == "install"
    for requirement in arguments[1:]:
        name, _, extra = requirement.rstrip("]").partition("[")
        if name == "aredun":
            assert not extra or extra in read_project()["optional-dependencies"]
        else:
            assert name.startswith("opentelemetry-"), f"what is {name} for?"


def _check_python(arguments: list[str]) -> None:
    if arguments[0] == "-m":
        assert importlib.util.find_spec(arguments[1])
        missing = [each for each in arguments[2:] if "/" in each and not (CHECKOUT / each).exists()]
        assert missing == []
    else:
        assert arguments[0] == "-c"
        compile(arguments[1], "-c", "exec")


def _check_cd(arguments: list[str]) -> None:
    # `make demo` makes the last part.
    assert (CHECKOUT / arguments[0]).parent.is_dir()


def _check_uvicorn(arguments: list[str]) -> None:
    module, _, name = arguments[0].partition(":")
    assert hasattr(importlib.import_module(module), name)


def _check_curl(arguments: list[str]) -> None:
    from examples.service import create_app

    path = re.sub(r"https?://[^/]+|\?.*", "", arguments[-1])
    routes = create_app().routes
    assert any(re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", route.path), path) for route in routes), path  # type: ignore[attr-defined]


# Whatever else a page has people type is told of here first.
PROGRAMS: dict[str, Callable[[list[str]], Any]] = {
    "aredun": _check_aredun,
    "redun": _check_redun,
    "make": _check_make,
    "pip": _check_pip,
    "python": _check_python,
    "cd": _check_cd,
    "git": lambda arguments: None,
    # These are run.
    "cat": lambda arguments: None,
    "echo": lambda arguments: None,
    "head": lambda arguments: None,
    "xargs": lambda arguments: _check_command([*arguments, "ID"]),
    "uvicorn": _check_uvicorn,
    "curl": _check_curl,
    "ssh": lambda arguments: _check_command(arguments[1:]),
    "opentelemetry-instrument": _check_command,
}
