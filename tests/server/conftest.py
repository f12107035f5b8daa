"""The browser of the tests of the viewer, and a repository that is only read."""

from __future__ import annotations

import functools
import shutil
from typing import TYPE_CHECKING

import pytest

from tests.support.browser import ARGUMENTS, CHROMIUM
from tests.support.histories import make_histories

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from playwright.async_api import Browser


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    """Debian's Chromium; `make test` installs it where it is missing."""
    # The tests of the server's API run in an environment that has no playwright, too (`make test-lowest`).
    from playwright.async_api import async_playwright

    assert CHROMIUM, "the tests need a browser: apt-get install chromium"
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        await browser.close()


@pytest.fixture(scope="session")
def histories(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], tuple[str, Path]]:
    """Gives, by dialect, the URI of a repository of files and tasks with several versions, and its folder."""

    @functools.cache
    def make(dialect: str) -> tuple[str, Path]:
        folder = tmp_path_factory.mktemp(f"histories_{dialect}")
        if dialect == "sqlite":
            shutil.copyfile(request.getfixturevalue("sqlite_template"), folder / "redun.db")
            url = f"sqlite:///{folder / 'redun.db'}"
        else:
            cluster = request.getfixturevalue("postgres")
            url = cluster.url(cluster.create_database(request.getfixturevalue("postgres_template")))
        make_histories(url, folder)
        return url, folder

    return make
