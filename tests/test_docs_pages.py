"""What pages say of the code: messages that are quoted are there, settings are told of."""

from __future__ import annotations

import ast
import functools
import re
from dataclasses import fields

import pytest

from aredun.server import ServerSettings
from tests.support.dependencies import CHECKOUT
from tests.support.snippets import find_pages

PAGE = (CHECKOUT / "docs" / "troubleshooting.md").read_text()
MESSAGES = re.findall(r"^\| `([^`]+)` ", PAGE, re.MULTILINE)


@functools.cache
def read_texts() -> list[str]:
    """Return every text of the code, with `...` for what is put into it."""
    texts = []
    for path in (CHECKOUT / "aredun").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.JoinedStr):
                parts = [str(part.value) if isinstance(part, ast.Constant) else "..." for part in node.values]
                texts.append("".join(parts))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.append(node.value)
    return texts


def is_said(message: str) -> bool:
    """Say whether the code has a text that the message is, or the beginning of."""
    pattern = re.compile(".*".join(map(re.escape, message.split("..."))), re.DOTALL)
    return any(pattern.match(text) for text in read_texts())


@pytest.mark.parametrize("message", MESSAGES)
def test_a_quoted_message_stands_in_the_code(message: str) -> None:
    assert is_said(message)


def test_a_message_of_nobody_is_found() -> None:
    assert len(MESSAGES) > 40
    assert not is_said("the database is on holiday: try ...")
    assert not is_said("no database at ...: 'aredun walk' makes one")


def test_every_setting_of_the_server_is_told_of() -> None:
    docstring = ServerSettings.__doc__ or ""
    assert [field.name for field in fields(ServerSettings) if field.name not in docstring] == []


def test_every_section_of_the_configuration_is_documented() -> None:
    """What reads a section names it as a text."""
    code = "".join(path.read_text() for path in (CHECKOUT / "aredun").rglob("*.py"))
    read = set(re.findall(r'\.section\("([\w.]+)"\)', code))
    page = (CHECKOUT / "docs" / "reference" / "configuration.md").read_text()
    assert read
    assert [section for section in sorted(read) if f"`[{section}]`" not in page] == []


@pytest.mark.parametrize("page", [*find_pages(), "SECURITY.md"])
def test_what_a_page_leads_to_is_there(page: str) -> None:
    """Links between the pages of the site, and anchors, are for the test of the site."""
    links = re.findall(r"\]\(([^)\s]+)\)", (CHECKOUT / page).read_text())
    ours = [re.sub(r"https://github.com/aredun/aredun/(blob|tree)/main/", "//", link) for link in links]
    files = [link.partition("#")[0] for link in ours if not re.match(r"https?:|#", link)]
    folder = (CHECKOUT / page).parent
    paths = {link: CHECKOUT / link[2:] if link.startswith("//") else folder / link for link in files}
    assert [link for link, path in paths.items() if not path.exists()] == []
