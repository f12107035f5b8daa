"""Make both repositories, and take each picture of them, after a look at what it shows."""

from __future__ import annotations

import asyncio
import base64
import os
import re
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

from playwright.async_api import expect

from aredun import RedunBackendDb
from tests.pictures.png import write_png
from tests.support.browser import check_page, open_page
from tests.support.dependencies import CHECKOUT
from tests.support.graph_pages import check_drawing, look, open_graph
from tests.support.server import serve
from tests.support.warm import warm

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
    from pathlib import Path

    from playwright.async_api import Browser

    from tests.support.browser import Watched

DEMO = CHECKOUT / "examples" / "variants"
COHORT = CHECKOUT / "tests" / "pictures" / "cohort.py"
WIDTH = 1280
HEIGHT = 800
# What fills no more than that.
HEIGHTS = {"dataflow": 480, "downstream": 480, "compare": 700}
SCHEMES = ("light", "dark")
_READ_PIXELS = """async (picture) => {
    const bitmap = await createImageBitmap(new Blob([Uint8Array.fromBase64(picture)]));
    const context = new OffscreenCanvas(bitmap.width, bitmap.height).getContext("2d");
    context.drawImage(bitmap, 0, 0);
    return new Uint8Array(context.getImageData(0, 0, bitmap.width, bitmap.height).data.buffer).toBase64();
}"""


def make_demo(folder: Path, lines: int | None) -> str:
    """Run the demo, with so many lines of each sample; returns the address of its repository."""
    shutil.copytree(DEMO, folder, ignore=shutil.ignore_patterns("run", "__pycache__"))
    for path in (folder / "data").glob("*.fastq"):
        path.write_text("".join(path.read_text().splitlines(keepends=True)[:lines]))
    subprocess.run([sys.executable, "demo.py"], cwd=folder, check=True, capture_output=True)
    return f"sqlite:///{folder}/run/.redun/redun.db"


def make_cohort(folder: Path, pace: float) -> str:
    """Run the larger example, which fails, and again with the fault mended; returns its repository."""
    folder.mkdir()
    (folder / "genome.fasta").write_text(">chr1\nACGT\n")
    source = COHORT.read_text()
    mended = re.sub(r"        await last_call.*\n        raise .*", "        return 0.0", source)
    command = ["run", "workflow.py", "main", "--genome", "genome.fasta"]
    for text, code in ((source, 1), (mended, 0)):
        (folder / "workflow.py").write_text(text.replace("PACE = 1.0", f"PACE = {pace}"))
        ran = warm("aredun").run(*command, cwd=folder, environment=dict(os.environ), timeout=120)
        assert ran.returncode == code, ran.stderr
    return f"sqlite:///{folder}/.redun/redun.db"


async def make_repositories(folder: Path, lines: int | None, pace: float) -> dict[str, str]:
    """
    Run the demo and the larger example at once.

    Parameters
    ----------
    folder : Path
        Where they run.
    lines : int | None
        How many lines of each sample the demo reads; None: all.
    pace : float
        How long the work of the larger example takes: 1 is as long as is pleasant to look at.

    Returns
    -------
    dict[str, str]
        The addresses of both repositories.
    """
    demo, cohort = await asyncio.gather(
        asyncio.to_thread(make_demo, folder / "variants", lines),
        asyncio.to_thread(make_cohort, folder / "cohort", pace),
    )
    return {"demo": demo, "cohort": cohort}


async def show_failure(watched: Watched) -> None:
    """The banner of a failed execution, and the job at fault with its traceback."""
    page = watched.page
    await watched.go("execution/~2")
    await page.get_by_role("link", name="Show the job at fault").click()
    await expect(page.locator(".panel .frame-line .code-keyword").first).to_have_text("raise")
    await expect(page.locator(".next-failed")).to_contain_text(re.compile(r"Failure \d+ of \d+"))
    await expect(page.locator(".job-row[aria-selected=true]")).to_be_in_viewport()
    await expect(page.get_by_role("region", name="Why it failed")).to_contain_text("has no reads")


async def show_tree(watched: Watched) -> None:
    """The jobs of an execution, most of them cached."""
    await watched.go("execution/-")
    await expect(watched.page.locator(".job-row").nth(8)).to_be_in_viewport()
    await expect(watched.page.locator(".progress-text")).to_contain_text("cached")


async def show_timeline(watched: Watched) -> None:
    """The same jobs in time."""
    await watched.go("execution/-/timeline")
    await expect(watched.page.locator(".bar-span").nth(8)).to_be_in_viewport()


async def show_dataflow(watched: Watched) -> None:
    """Where a file comes from."""
    await open_graph(watched.page, watched.url, "sample4.vcf")
    seen = await look(watched.page)
    check_drawing(seen)
    assert {"sample4.vcf", "sample4.bam", "genome.fasta"} <= {*seen["texts"]}


async def show_downstream(watched: Watched) -> None:
    """What followed from a file that hundreds of calls took."""
    await open_graph(watched.page, watched.url, "genome.fasta", "?direction=downstream")
    seen = await look(watched.page)
    check_drawing(seen)
    assert any("align" in text for text in seen["texts"])
    assert len(seen["boxes"]) < 60


async def show_why(watched: Watched) -> None:
    """Why a job ran again: the file that it read has changed."""
    page = watched.page
    await watched.go("execution/-")
    await page.locator(".job-row", has_text="align_reads(sample4.fastq").click()
    await expect(page.get_by_role("region", name="Why did it run?")).to_contain_text("has other contents")


async def show_comparison(watched: Watched) -> None:
    """Two executions side by side."""
    page = watched.page
    await watched.go("compare/~2/-")
    await expect(page.locator(".side")).to_have_count(2)
    await expect(page.locator(".both-counts tbody tr")).to_have_count(8)
    await expect(page.get_by_text("The source of the task changed").first).to_be_attached()


async def show_search(watched: Watched) -> None:
    """A file by a part of its name, and the jobs that took it."""
    page = watched.page
    await watched.go("execution/-")
    await expect(page.locator(".job-row").first).to_be_visible()
    await page.get_by_role("combobox", name="Find a record").fill("genome")
    await expect(page.locator("#found [role=option]").nth(3)).to_be_visible()


PICTURES: dict[str, dict[str, Callable[[Watched], Awaitable[None]]]] = {
    "demo": {"dataflow": show_dataflow, "why": show_why},
    "cohort": {
        "failure": show_failure,
        "job-tree": show_tree,
        "timeline": show_timeline,
        "downstream": show_downstream,
        "compare": show_comparison,
        "search": show_search,
    },
}


async def take_pictures(
    browser: Browser, repositories: dict[str, str], folder: Path, schemes: Sequence[str] = SCHEMES
) -> AsyncIterator[Path]:
    """
    Take all pictures, and yield each as it is there.

    Parameters
    ----------
    browser : Browser
        A running browser.
    repositories : dict[str, str]
        The addresses of the demo's repository and of the cohort's.
    folder : Path
        Where the pictures go.
    schemes : Sequence[str]
        The colours to take them in.
    """
    for name, url in repositories.items():
        async with RedunBackendDb(url) as backend, serve(backend) as served:
            for scheme in schemes:
                watched = await open_page(browser, scheme=scheme, url=served.url)
                for title, show in PICTURES[name].items():
                    height = HEIGHTS.get(title, HEIGHT)
                    await watched.page.set_viewport_size({"width": WIDTH, "height": height})
                    await show(watched)
                    yield await _take(watched, folder / f"{title}-{scheme}.png", height)
                await watched.page.context.close()


async def _take(watched: Watched, path: Path, height: int) -> Path:
    page = watched.page
    assert watched.problems == []
    await check_page(page)
    await page.mouse.move(0, height - 1)
    taken = await page.screenshot(animations="disabled")
    pixels = await page.evaluate(_READ_PIXELS, base64.b64encode(taken).decode())
    path.write_bytes(write_png(base64.b64decode(pixels), WIDTH, height))
    return path
