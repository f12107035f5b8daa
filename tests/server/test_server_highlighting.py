"""Python source in colours: which parts have which, where they stand for a browser, how many at most."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from aredun.server.highlighting import MAX_HIGHLIGHTED, highlight, highlight_source
from tests.support.failing import run_failing
from tests.support.server import serve

if TYPE_CHECKING:
    from aredun.backend import RedunBackendDb
    from aredun.scheduler import Scheduler

SOURCE = '''@task(cache=False)
def align(reads: File, depth=20):
    """Not é, but 🧬."""
    if not reads:  # nobody's
        raise ValueError(f"no {reads!r}")
    return len(reads) + 0x1F
'''


def read(source: str, spans: list[tuple[int, int, str]]) -> list[tuple[str, str]]:
    """Return the parts of a text as a browser takes them out of it."""
    units = source.encode("utf-16-le", "surrogatepass")
    return [(units[2 * start : 2 * end].decode("utf-16-le"), kind) for start, end, kind in spans]


def test_parts_are_told_apart() -> None:
    parts = read(SOURCE, list(highlight(SOURCE)))
    for part in [
        ("def", "keyword"),
        ("align", "definition"),
        ("@task", "decorator"),
        ('"""Not é, but 🧬."""', "string"),
        ("not", "keyword"),
        ("# nobody's", "comment"),
        ("ValueError", "builtin"),
        ("len", "builtin"),
        ("0x1F", "number"),
    ]:
        assert part in parts
    places = [place for start, end, _ in highlight(SOURCE) for place in (start, end)]
    assert places == sorted(places)


@pytest.mark.parametrize(
    "source", ["", "\0\r\n\t", "no Python <b>at all</b> '", "'" * 99, "\ud800 = '", "f'{" * 9]
)
def test_anything_may_be_called_source(source: str) -> None:
    spans = highlight(source)
    assert all(0 <= start < end <= len(source) for start, end, _ in spans)


async def test_only_the_beginning_of_long_source_has_colours() -> None:
    line = "x = 'é'\n"
    spans = await highlight_source(line * MAX_HIGHLIGHTED)
    assert len(spans) == MAX_HIGHLIGHTED // len(line)
    assert spans[-1][1] <= MAX_HIGHLIGHTED


@pytest.mark.parametrize("dialect", ["sqlite"], indirect=True)
async def test_the_api_tells_the_parts(backend: RedunBackendDb, scheduler: Scheduler) -> None:
    """Of the source of a job, a call and a task, and of the lines of a traceback."""
    await run_failing(scheduler)
    async with serve(backend) as served:
        [job, *_] = (
            await served.get("/api/executions/-/jobs", params={"task": "lab.parse", "status": "FAILED"})
        )["items"]
        shown = await served.get(f"/api/jobs/{job['id']}")
        task = await served.get(f"/api/tasks/{job['task_hash']}")
        for each in (shown, shown["call"], task):
            assert ("parse", "definition") in read(each["source"], each["source_spans"])
        frame = shown["failure"]["frames"][-1]
        assert read(frame["line"], frame["line_spans"])[:2] == [
            ("raise", "keyword"),
            ("ValueError", "builtin"),
        ]
