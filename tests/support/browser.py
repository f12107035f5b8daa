"""A real Chromium, and pages that remember what went wrong on them."""

from __future__ import annotations

import contextlib
import shutil
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anyio.from_thread import start_blocking_portal

from tests.support.server import serve

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from playwright.async_api import Browser, Page

CHROMIUM = shutil.which("chromium")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
ARTIFACTS = Path(__file__).parents[2] / "artifacts"
FIND_CUT = Path(__file__).with_name("find_cut.js").read_text(encoding="utf-8")
DESKTOP = {"width": 1440, "height": 900}
PHONE = {"width": 390, "height": 844}
# A loaded machine is slow to show things.
PATIENCE = 30_000


class Watched:
    """A page, and everything that went wrong on it.

    Parameters
    ----------
    page : Page
        The page.
    url : str
        Where the viewer is.
    """

    def __init__(self, page: Page, url: str = "") -> None:
        self.page = page
        self.url = url
        self.problems: list[str] = []
        page.on("pageerror", lambda error: self.problems.append(str(error)))
        page.on("console", self._hear)
        page.set_default_timeout(PATIENCE)

    def _hear(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.problems.append(message.text)

    async def go(self, route: str) -> None:
        """Show another page of the viewer."""
        await self.page.goto(f"{self.url}/#/{route}")

    async def shoot(self, name: str) -> None:
        """Keep a screenshot among the artefacts, of a page on which all can be read."""
        await check_page(self.page)
        ARTIFACTS.mkdir(exist_ok=True)
        await self.page.screenshot(path=ARTIFACTS / f"{name}.png")


async def check_page(page: Page) -> None:
    """Assert that all fits: no text or control is cut, broken apart, out of reach or upon another."""
    found = await page.evaluate(FIND_CUT)
    assert found == [], "\n".join([page.url, *found])


@contextlib.asynccontextmanager
async def _run_browser() -> AsyncIterator[str]:
    from playwright.async_api import async_playwright

    assert CHROMIUM, "the tests need a browser: apt-get install chromium"
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    async with async_playwright() as playwright:
        arguments = [*ARGUMENTS, f"--remote-debugging-port={port}"]
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield f"http://127.0.0.1:{port}"
        await browser.close()


@contextlib.contextmanager
def keep_browser() -> Iterator[str]:
    """Run Debian's Chromium, which `make test` installs, beside the loops of tests; gives its address."""
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(_run_browser()) as address:
        yield address


async def open_page(
    browser: Browser, size: dict[str, int] = DESKTOP, scheme: Any = "light", url: str = ""
) -> Watched:
    """Open an empty page."""
    size_: Any = size
    context = await browser.new_context(viewport=size_, color_scheme=scheme)
    return Watched(await context.new_page(), url)


@contextlib.asynccontextmanager
async def view(
    browser: Browser,
    backend: Any,
    route: str = "",
    size: dict[str, int] = DESKTOP,
    scheme: Any = "light",
    **options: Any,
) -> AsyncIterator[Watched]:
    """Serve a repository, and show a page of its viewer, on which nothing may go wrong."""
    async with serve(backend, **options) as served:
        watched = await open_page(browser, size, scheme, served.url)
        await (watched.go(route) if route else watched.page.goto(served.url))
        yield watched
        assert watched.problems == [], watched.problems
