"""The documentation site builds without a network and a warning, and has every page and public name."""

from __future__ import annotations

import inspect
import os
import re
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
import yaml

from tests.support.dependencies import CHECKOUT

# These hand on what people use: the names of each are in its `__all__`.
DOORS = [
    "aredun",
    "aredun.dataflow",
    "aredun.query",
    "aredun.scheduler",
    "aredun.serializers",
    "aredun.server",
    "aredun.sync",
    "aredun.tasks",
    "aredun.workflow.executors",
]
# These have no `__all__`: every class that they define is public.
WHOLE = ["aredun.models", "aredun.errors"]
NAMES = [
    "aredun.redun_bridge.RedunBackendDb",
    "aredun.redun_bridge.setup_scheduler",
    "aredun.values.file.Dir",
    "aredun.values.base.Value",
]


def build(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Build the site in a folder; whoever asks another server for something gets no answer."""
    nowhere = "http://127.0.0.1:9"
    environment = {**os.environ, "http_proxy": nowhere, "https_proxy": nowhere, "NO_COLOR": "1"}
    command = [str(Path(sys.executable).with_name("zensical")), "build", "--strict", *options]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=100, check=False
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the site, and what it was built from."""
    folder = tmp_path_factory.mktemp("site")
    shutil.copy(CHECKOUT / "mkdocs.yml", folder)
    shutil.copytree(CHECKOUT / "docs", folder / "docs")
    (folder / "aredun").symlink_to(CHECKOUT / "aredun")
    built = build(folder)
    output = built.stdout + built.stderr
    # The reader of docstrings warns on its own account: strict mode does not know.
    assert (built.returncode, "griffe:" in output) == (0, False), output
    return folder


def test_every_page_is_in_the_navigation(folder: Path) -> None:
    listed = re.findall(r": (\S+\.md)$", (CHECKOUT / "mkdocs.yml").read_text(), re.MULTILINE)
    pages = [str(page.relative_to(folder / "docs")) for page in (folder / "docs").rglob("*.md")]
    assert sorted(listed) == sorted(pages), "each page has a line in the nav of mkdocs.yml"
    assert yaml.safe_load((CHECKOUT / "mkdocs.yml").read_text())["theme"]["font"] is False
    for page in pages:
        assert (folder / "site" / page).with_suffix(".html").exists()


def test_nothing_on_a_page_comes_from_another_server(folder: Path) -> None:
    for page in (folder / "site").rglob("*.html"):
        loaded = re.findall(
            r"<(?:script|link|img|iframe)\b[^>]*?\b(?:src|href)=\"?([^\s\">]+)", page.read_text()
        )
        assert loaded
        assert [address for address in loaded if re.match(r"(?:https?:)?//", address)] == [], page
        # The theme would load what draws a picture, and ask GitHub about a repository.
        assert not re.search(r'class="?mermaid|data-md-component="?source\b', page.read_text()), page


def get_public_names() -> list[str]:
    """Return the whole names of what people use, where each is defined."""
    names = [*NAMES]
    for module in DOORS:
        door = import_module(module)
        objects = [getattr(door, name) for name in door.__all__]
        names += [
            f"{each.__module__}.{each.__qualname__}" for each in objects if hasattr(each, "__qualname__")
        ]
    for module in WHOLE:
        defined = inspect.getmembers(import_module(module), inspect.isclass)
        names += [f"{module}.{name}" for name, each in defined if each.__module__ == module]
    backend = import_module("aredun.backend").RedunBackendDb
    names += [f"aredun.backend.RedunBackendDb.{name}" for name in vars(backend) if not name.startswith("_")]
    return [name for name in names if name.startswith("aredun.")]


def test_every_public_name_is_in_the_reference(folder: Path) -> None:
    pages = (folder / "site" / "reference" / "api").glob("*.html")
    there = {name for page in pages for name in re.findall(r'id="?(aredun\.[\w.]+)', page.read_text())}
    missing = sorted({*get_public_names()} - there)
    assert missing == [], "write `::: NAME` on a page of docs/reference/api"


def test_a_link_to_nowhere_ends_the_build(folder: Path) -> None:
    page = folder / "docs" / "index.md"
    page.write_text(f"{page.read_text()}\n[a](quickstart.md#nowhere) [b](nowhere.md)\n")
    built = build(folder)
    assert built.returncode != 0
    assert "anchor does not exist" in built.stdout + built.stderr
    assert "page does not exist" in built.stdout + built.stderr
