"""Take the pictures of README and docs anew: `make pictures`."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path

from playwright.async_api import async_playwright

from tests.pictures.taking import make_repositories, take_pictures
from tests.support.browser import ARGUMENTS, CHROMIUM
from tests.support.dependencies import CHECKOUT


async def main() -> None:
    """Make the repositories in a folder that is removed again, and say which pictures there are."""
    if CHROMIUM is None:
        sys.exit("pictures need a browser: apt-get install chromium")
    with tempfile.TemporaryDirectory(prefix="aredun-") as folder:
        repositories = await make_repositories(Path(folder), lines=None, pace=1.0)
        async with async_playwright() as playwright:
            browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
            async for path in take_pictures(browser, repositories, CHECKOUT / "docs" / "pictures"):
                sys.stdout.write(f"{path.relative_to(CHECKOUT)}  {path.stat().st_size // 1000} kB\n")
            await browser.close()


asyncio.run(main())
