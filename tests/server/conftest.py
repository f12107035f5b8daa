"""The browser of the tests of the viewer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.browser import ARGUMENTS, CHROMIUM

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

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
