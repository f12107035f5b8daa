"""Every block of code of the pages: it is what it says it is, and does what is shown.

A block says what it is behind its fence: `CHECKS` has the kinds. Servers are in `test_snippets_served.py`.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sqlite3
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.support.snippet_checks import CHECKS
from tests.support.snippets import (
    QUICKSTART,
    Block,
    Ended,
    adapt,
    find_blocks,
    find_pages,
    is_shown,
    make_repository,
    normalize,
    run_command,
    run_snippet,
    split_console,
    write_workflow,
)

if TYPE_CHECKING:
    from pathlib import Path


BLOCKS = {page: find_blocks(page) for page in find_pages()}
# These make their repository themselves; every other page is tried in one of the quickstart's workflow.
FRESH = {"README.md", QUICKSTART, "docs/reference/command.md"}


def is_run(block: Block) -> bool:
    """Say whether a block is run by the test of its page; an app is served by a test of its own."""
    return block.kind == "console" or (block.kind == "python" and "create_app(" not in block.text)


@pytest.mark.parametrize("block", [block for blocks in BLOCKS.values() for block in blocks], ids=str)
def test_a_block_is_what_it_says_it_is(block: Block, tmp_path: Path) -> None:
    assert block.kind in CHECKS, f"{block}: nobody tests a block of the kind {block.kind!r}, only {[*CHECKS]}"
    CHECKS[block.kind](block, tmp_path)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a repository, only to be copied."""
    folder: Path = tmp_path_factory.mktemp("made")
    make_repository(folder)
    return folder


def put_value(text: str, folder: Path) -> str:
    """Return Python with the beginning of a hash that is there in place of the one that pages name."""
    if '"3fa8c1"' not in text:
        return text
    with sqlite3.connect(folder / ".redun" / "redun.db") as database:
        (found,) = database.execute("select value_hash from file where path = 'report.txt'").fetchone()
    return text.replace("3fa8c1", found[:12])


def run_line(command: str, folder: Path) -> Ended:
    """Run a line of a console."""
    words = shlex.split(command)
    if words[0] == "aredun" and "|" not in words:
        return run_command(words[1:], folder)
    environment = {**os.environ, "PATH": f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-c", command], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    return Ended(done.returncode, done.stdout, done.stderr)


def compare_console(block: Block, folder: Path) -> None:
    """Run the commands of a console, and compare what each writes with what is shown."""
    for command, shown in split_console(block):
        ended = run_line(command, folder)
        written = ended.stderr + ended.stdout
        assert is_shown(shown, written), f"{block}: {command}\n{normalize(shown)}\n--- but:\n{written}"


def run_python(block: Block, shown: str | None, folder: Path, url: str) -> None:
    """Run Python, unless it is a module of that name, and compare what it prints with what is shown."""
    module = re.match(r"# (\w+\.py)\n", block.text)
    if module:
        (folder / module[1]).write_text(block.text)
        return
    ended = run_snippet(adapt(put_value(block.text, folder), url), f"line_{block.line}.py", folder)
    # redun tells of its jobs there.
    told = [line for line in ended.stderr.splitlines() if not line.startswith("[redun]")]
    assert (ended.code, told) == (0, []), f"{block}: {ended.stderr}"
    assert shown is None or is_shown(shown, ended.stdout), f"{block}: {ended.stdout}"


@pytest.mark.parametrize("page", [page for page, blocks in BLOCKS.items() if any(map(is_run, blocks))])
def test_a_page_does_what_it_shows(page: str, made: Path, postgres_url: str, tmp_path: Path) -> None:
    folder = tmp_path / "words"
    if page not in FRESH:
        shutil.copytree(made, folder)
    else:
        folder.mkdir()
        if page != QUICKSTART:
            write_workflow(folder)
    for block, after in zip(BLOCKS[page], [*BLOCKS[page][1:], None], strict=True):
        if block.kind == "console":
            compare_console(block, folder)
        elif is_run(block):
            run_python(block, after.text if after and after.kind == "text" else None, folder, postgres_url)


def test_every_text_is_compared() -> None:
    for blocks in BLOCKS.values():
        for before, block in zip([None, *blocks], blocks, strict=False):
            assert block.kind != "text" or (before and before.kind == "python"), f"{block}: output of what?"


@pytest.mark.parametrize(
    ("kind", "text", "said"),
    [
        ("sh", "aredun logg", "invalid choice"),
        ("sh", "aredun log --colour", "--colour"),
        ("sh", "make it", "it"),
        ("sh", "aredum log", "aredum"),
        ("usage", "aredun log [--colour]", "--colour"),
        ("ini", "[backend]\npoolsize = 1", "backend"),
        ("ini", "[backend]\npool_size = many", "pool_size"),
        ("ini", "[backends]\npool_size = 1", "backends"),
        ("json", '{"a": {...}}', "property name"),
        ("python", "def f(:", "invalid syntax"),
        ("signature", "Scheduler(backend=None)", "Scheduler"),
        ("console", "aredun log", "begins with a command"),
    ],
)
def test_a_fault_of_a_block_is_found(kind: str, text: str, said: str, tmp_path: Path) -> None:
    (block,) = find_blocks("page.md", f"```{kind}\n{text}\n```\n")
    with pytest.raises((Exception, SystemExit), match=re.escape(said)):
        CHECKS[kind](block, tmp_path)


def test_blocks_of_no_known_kind_are_found() -> None:
    blocks = find_blocks(
        "page.md", "```\na\n```\n\n- item\n\n  ```toml\n  b = 1\n  ```\n\ntext\n\n    indented\n"
    )
    assert [(block.line, block.kind) for block in blocks] == [(1, "plain"), (7, "toml"), (13, "indented")]
    assert not {block.kind for block in blocks} & {*CHECKS}


def test_a_snippet_that_fails_or_prints_something_else_is_found(tmp_path: Path) -> None:
    blocks = find_blocks("page.md", "```python\nprint(await f())\n```\n\n```python\nprint(1)\n```\n")
    with pytest.raises(AssertionError, match="NameError: name 'f' is not defined"):
        run_python(blocks[0], None, tmp_path, "")
    with pytest.raises(AssertionError, match=r"page\.md:5: 1"):
        run_python(blocks[1], "2\n", tmp_path, "")
