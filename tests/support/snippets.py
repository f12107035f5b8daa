"""The fenced blocks of the pages, and processes that run them as a reader would."""

from __future__ import annotations

import ast
import asyncio
import linecache
import multiprocessing
import os
import re
import runpy
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from doctest import ELLIPSIS, OutputChecker
from inspect import CO_COROUTINE
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from markdown_it import MarkdownIt

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

CHECKOUT = Path(__file__).parents[2]
QUICKSTART = "docs/quickstart.md"
# A process that has imported the library once, and that runs of snippets are forked from: they begin at once.
_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(
    ["tests.support.snippets", "aredun", "aredun.cli.run", "aredun.cli.log", "aredun.server", "uvicorn"]
)

_NORMAL = (
    (r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", "<uuid>"),
    (r"\b([0-9a-f]{40}|[0-9a-f]{8})\b", "<hash>"),
    (r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(\.\d+)?([+-]\d\d:\d\d)?", "<time>"),
    (r"\((\d+\w+ ago|now)\)", "<ago>"),
    (r"\b\d:\d\d:\d\d\.\d\d\b", "<duration>"),
    (r'"duration": [\d.e-]+', '"duration": <duration>'),
    (r"\bin \d+\.\d s\b", "in <duration>"),
    (r'\buser="?[\w.-]+"?', "user=<user>"),
    (r'"aredun \d+\.\d+\.\d+\w*"', '"aredun <version>"'),
    (r"sqlite:///\S+/\.redun/", "sqlite:////<folder>/.redun/"),
    # In a pipe the progress of a run is a line for each job; on a terminal it is the table alone.
    (r"(?m)^(RUNNING|CACHED|FAILED) +<hash>  .*\n", ""),
    (r"[ \t]+$", ""),
)


@dataclass(frozen=True)
class Block:
    """One block of code of a page.

    Attributes
    ----------
    page : str
        Path of the page in the checkout.
    line : int
        The line that the block begins on.
    kind : str
        What stands behind the fence; `indented` for a block without one.
    text : str
        What is in it.
    """

    page: str
    line: int
    kind: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


@dataclass(frozen=True)
class Ended:
    """How a process ended, and what it wrote."""

    code: int | None
    stdout: str
    stderr: str


def find_pages() -> list[str]:
    """Return the pages that people read, by their paths in the checkout."""
    pages = [CHECKOUT / "README.md", CHECKOUT / "CONTRIBUTING.md"]
    pages += sorted((CHECKOUT / "docs").rglob("*.md")) + sorted((CHECKOUT / "examples").rglob("README.md"))
    return [str(page.relative_to(CHECKOUT)) for page in pages]


def find_blocks(page: str, text: str | None = None) -> list[Block]:
    """Return the blocks of code of a page, in order; without `text` it is read from the checkout."""
    text = (CHECKOUT / page).read_text() if text is None else text
    return [
        Block(page, token.map[0] + 1, token.info or "plain", token.content)
        if token.type == "fence"
        else Block(page, token.map[0] + 1, "indented", token.content)
        for token in MarkdownIt().parse(text)
        if token.type in ("fence", "code_block") and token.map
    ]


def split_console(block: Block) -> list[tuple[str, str]]:
    """Return each command of a console and the output that is shown below it."""
    parts = re.split(r"^\$ (.+)\n", block.text, flags=re.MULTILINE)
    return [(command, output.rstrip("\n")) for command, output in zip(parts[1::2], parts[2::2], strict=True)]


def normalize(text: str) -> str:
    """Replace ids, hashes, times and names of folders, which are others in each run."""
    for pattern, replacement in _NORMAL:
        text = re.sub(pattern, replacement, text, flags=re.MULTILINE)
    return text.strip("\n") + "\n"


def is_shown(shown: str, written: str) -> bool:
    """Say whether a page shows what was written; `...` stands for any of it."""
    return OutputChecker().check_output(normalize(shown), normalize(written), ELLIPSIS)


def compile_snippet(text: str, path: str) -> object:
    """Compile Python as a notebook would: `await` may stand outside of functions."""
    return compile(text, path, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


def run_snippet(text: str, name: str, folder: Path) -> Ended:
    """Run Python as a program of its own in a folder, where it gets the file name `name`."""
    path = folder / name
    path.write_text(text)
    with fork([str(path)], folder) as process:
        return process.wait()


def run_command(arguments: list[str], folder: Path) -> Ended:
    """Run `aredun` in a folder."""
    with fork(["aredun", *arguments], folder) as process:
        return process.wait()


def adapt(text: str, url: str) -> str:
    """Return Python with a database that is there in place of each on PostgreSQL that it names."""
    return re.sub(r'"postgresql://[^"]+"', lambda _: repr(url), text)


def write_workflow(folder: Path) -> None:
    """Write the file of the quickstart's workflow, and those that it reads."""
    block = next(block for block in find_blocks(QUICKSTART) if block.kind == "python")
    (folder / "words.py").write_text(block.text)
    (folder / "a.txt").write_text("one two three\n")
    (folder / "b.txt").write_text("four five\n")


def make_repository(folder: Path) -> None:
    """Run the quickstart's workflow in a folder."""
    write_workflow(folder)
    ended = run_command(["run", "words.py", "main", "--files", "a.txt", "b.txt"], folder)
    assert ended.code == 0, ended.stderr


class Forked:
    """A process under way.

    Parameters
    ----------
    process : Process
        The process.
    folder : Path
        Where its outputs are.
    """

    def __init__(self, process: multiprocessing.process.BaseProcess, folder: Path) -> None:
        self.process = process
        self.folder = folder

    def read(self, stream: str) -> str:
        """Return what was written so far to `stdout` or `stderr`."""
        return (self.folder / stream).read_text()

    def wait(self) -> Ended:
        """Wait for the end."""
        self.process.join(60)
        return Ended(self.process.exitcode, self.read("stdout"), self.read("stderr"))


@contextmanager
def fork(
    arguments: list[str], folder: Path, environment: Mapping[str, str] | None = None
) -> Iterator[Forked]:
    """Start `aredun` or a Python file in a folder; it is terminated at the end if it is still there."""
    with tempfile.TemporaryDirectory() as output:
        process = _FORKS.Process(
            target=_be_program, args=(arguments, str(folder), output, dict(environment or {}))
        )
        for stream in ("stdout", "stderr"):
            (Path(output) / stream).touch()
        process.start()
        try:
            yield Forked(process, Path(output))
        finally:
            process.terminate()
            process.join(20)
            process.kill()
            process.join()


def _be_program(arguments: list[str], folder: str, output: str, environment: dict[str, str]) -> None:
    for number, stream in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(f"{output}/{stream}", os.O_WRONLY | os.O_APPEND), number)
    sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", buffering=1, closefd=False)
    os.environ.pop("REDUN_CONFIG", None)
    os.environ.update(environment)
    os.chdir(folder)
    sys.argv = arguments
    if arguments[0] == "aredun":
        from aredun.cli import main

        sys.exit(main(arguments[1:]))
    sys.path.insert(0, folder)
    _run_file(arguments[0])


def _run_file(path: str) -> None:
    code = compile_snippet(Path(path).read_text(), path)
    if not code.co_flags & CO_COROUTINE:  # type: ignore[attr-defined]
        runpy.run_path(path, run_name="__main__")
        return
    linecache.checkcache(path)
    main = ModuleType("__main__")
    main.__file__ = path
    sys.modules["__main__"] = main
    asyncio.run(eval(code, vars(main)))  # type: ignore[arg-type]
