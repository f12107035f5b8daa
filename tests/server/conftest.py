"""The browser of the tests of the viewer, and a repository that is only read."""

from __future__ import annotations

import asyncio
import fcntl
import functools
import json
import os
import shutil
from typing import TYPE_CHECKING

import pytest

from tests.support.browser import PATIENCE, keep_browser
from tests.support.histories import make_histories

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

    from playwright.async_api import Browser


@pytest.fixture(scope="session")
def browser_address() -> Iterator[str]:
    """Where a browser listens that all tests of a process share: its start takes longer than most of them."""
    with keep_browser() as address:
        yield address


@pytest.fixture
async def browser(browser_address: str) -> AsyncIterator[Browser]:
    """A connection of the test's own to it; what was opened through it is closed at its end."""
    # The tests of the server's API run in an environment that has no playwright, too (`make test-lowest`).
    from playwright.async_api import async_playwright, expect

    expect.set_options(timeout=PATIENCE)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.connect_over_cdp(browser_address)
        yield browser
        await browser.close()


@pytest.fixture(scope="session")
def large(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The URIs of the demo's repository and of a cohort of 1,810 jobs, which are only read."""
    from tests.pictures.taking import make_repositories

    base = tmp_path_factory.getbasetemp()
    # All processes of a run of tests read those that the first of them makes.
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "large"
    folder.mkdir(exist_ok=True)
    with (folder / "made.json").open("a+") as made:
        fcntl.flock(made, fcntl.LOCK_EX)
        made.seek(0)
        text = made.read()
        if not text:
            text = json.dumps(asyncio.run(make_repositories(folder, lines=40, pace=0.0)))
            made.write(text)
    addresses: dict[str, str] = json.loads(text)
    return addresses


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
