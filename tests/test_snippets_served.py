"""The servers that the pages have people start: they answer on a real socket, and end when they are told."""

from __future__ import annotations

import json
import re
import shlex
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import websockets
from playwright.async_api import async_playwright

from tests.support.browser import ARGUMENTS, CHROMIUM, open_page
from tests.support.snippets import adapt, find_blocks, find_pages, fork, make_repository

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.support.browser import Watched
    from tests.support.snippets import Forked

PAGE = "docs/how-to/serve.md"
COMMANDS = [
    pytest.param(shlex.split(line.partition(" # ")[0])[1:], id=f"{block}: {line}")
    for page in find_pages()
    for block in find_blocks(page)
    if block.kind == "sh"
    for line in block.text.splitlines()
    if re.match(r"\S*aredun serve", line)
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a repository."""
    make_repository(tmp_path)
    return tmp_path


def wait_for_port(process: Forked, stream: str) -> int:
    """Return where a server listens, once it says so."""
    while not (said := re.search(r"http://[^\s:]+:(\d+)", process.read(stream))):
        assert process.process.is_alive(), process.read("stderr")
        time.sleep(0.01)
    return int(said[1])


def get_shape(value: Any) -> Any:
    """Return the keys of JSON, and those below each."""
    return {key: get_shape(each) for key, each in value.items()} if isinstance(value, dict) else None


def is_part(shown: Any, real: Any) -> bool:
    """Say whether all keys that are shown are there."""
    return shown is None or (
        real is not None and all(key in real and is_part(below, real[key]) for key, below in shown.items())
    )


@pytest.mark.parametrize("arguments", COMMANDS)
def test_the_command_serves_until_it_is_terminated(arguments: list[str], folder: Path) -> None:
    with fork(["aredun", *arguments, "--port", "0"], folder, {"AREDUN_TOKEN": "abc"}) as process:
        port = wait_for_port(process, "stdout")
        url = f"http://127.0.0.1:{port}/"
        assert "<html" in httpx.get(url).text
        (execution,) = httpx.get(f"{url}api/executions", headers={"Authorization": "Bearer abc"}).json()[
            "items"
        ]
        assert execution["status"] == "DONE"
        process.process.terminate()
        assert process.wait().code == 0


def test_an_app_that_mounts_it(postgres_url: str, tmp_path: Path) -> None:
    (block,) = [block for block in find_blocks(PAGE) if "create_app" in block.text]
    (tmp_path / "service.py").write_text(adapt(block.text, postgres_url))
    program = tmp_path / "program.py"
    program.write_text("import uvicorn\nfrom service import app\n\nuvicorn.run(app, port=0)\n")
    with fork([str(program)], tmp_path) as process:
        url = f"http://127.0.0.1:{wait_for_port(process, 'stderr')}/provenance/"
        assert httpx.get(f"{url}api/executions").status_code == 401
        answer = httpx.get(f"{url}api/executions", headers={"Authorization": "Bearer ..."})
        assert (answer.status_code, answer.json()["items"]) == (200, [])
        assert "<html" in httpx.get(url).text


@asynccontextmanager
async def look(module: str, folder: Path) -> AsyncIterator[Watched]:
    """Serve the app of a module, and open its page in a browser."""
    program = folder / "program.py"
    program.write_text(f"import uvicorn\nfrom {module} import app\n\nuvicorn.run(app, port=0)\n")
    with fork([str(program)], folder) as process:
        url = f"http://127.0.0.1:{wait_for_port(process, 'stderr')}/"
        async with async_playwright() as playwright:
            browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
            watched = await open_page(browser)
            await watched.page.goto(url)
            yield watched
            await browser.close()
            assert watched.problems == []
        process.process.terminate()
        told = process.wait().stderr
        assert "Application shutdown complete" in told
        assert "ERROR" not in told


async def test_a_page_shows_lineage_as_it_is_walked(folder: Path) -> None:
    (block,) = [block for block in find_blocks("docs/how-to/stream-lineage.md") if block.kind == "python"]
    (folder / "lineage.py").write_text(block.text)
    async with look("lineage", folder) as watched:
        await watched.page.wait_for_function("/^[0-9]+ edges$/.test(document.title)")
        lines = await watched.page.locator("li").all_inner_texts()
        assert await watched.page.title() == f"{len(lines)} edges"
    assert lines[0].endswith(" came from words.report")
    assert "words.report came from words.report: counts" in lines


async def test_the_example_shows_jobs_and_lineage_of_a_run(tmp_path: Path) -> None:
    async with look("examples.live_service", tmp_path) as watched:
        await watched.page.click("button")
        await watched.page.get_by_text("live_service.main DONE").wait_for()
        lines = watched.page.locator("#lineage li")
        await lines.get_by_text("live_service.measure: city came from outside").first.wait_for()
        jobs = await watched.page.locator("#jobs li").all_inner_texts()
        assert await watched.page.inner_text("#result") in ("Oslo", "Rome", "Cairo")
    steps = [
        f"live_service.{name} DONE" for name in ("find_warmest", "main", *["mean"] * 3, *["measure"] * 3)
    ]
    assert sorted(jobs) == steps


async def test_messages_are_as_the_page_of_the_api_shows_them(folder: Path) -> None:
    blocks = [json.loads(block.text) for block in find_blocks("docs/reference/http-api.md")]
    (edge,) = [shown for shown in blocks if shown["type"] == "edge"]
    (job,) = [shown for shown in blocks if shown["type"] == "job"]
    with fork(["aredun", "serve", "--port", "0"], folder) as process:
        url = f"ws://127.0.0.1:{wait_for_port(process, 'stdout')}/ws"
        async with websockets.connect(f"{url}/dataflow/report.txt", proxy=None) as websocket:
            assert is_part(get_shape(edge), get_shape(json.loads(await websocket.recv())))
        async with websockets.connect(f"{url}/executions", proxy=None) as websocket:
            assert json.loads(await websocket.recv())["type"] == "snapshot"
            with fork(["aredun", "run", "words.py", "main", "--files", "a.txt"], folder) as run:
                while (message := json.loads(await websocket.recv()))["type"] != "job":
                    pass
                assert is_part(get_shape(job), get_shape(message))
                assert run.wait().code == 0
