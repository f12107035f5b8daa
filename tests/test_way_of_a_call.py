"""CONTRIBUTING tells the way of a recorded call in ten names: the code has them, and goes that way."""

from __future__ import annotations

import ast
import re
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aredun import task

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

    from aredun.backend import RedunBackendDb

ROOT = Path(__file__).parent.parent
STEP = re.compile(r"^(\d+)\. `([\w.]+)` in `([\w/]+\.py)` ", re.MULTILINE)


@task(name="double", namespace="way_of_a_call")
def double(number: int) -> int:
    return 2 * number


def read_steps() -> list[tuple[str, Path]]:
    """Return the names of the way, and the file that each is said to be in."""
    text = (ROOT / "CONTRIBUTING.md").read_text().partition("## The way of a recorded call\n")[2]
    found = STEP.findall(text.partition("\n## ")[0])
    assert [int(number) for number, _, _ in found] == list(range(1, 11))
    return [(name, ROOT / "aredun" / file) for _, name, file in found]


def defined_names(path: Path) -> Iterator[str]:
    """Yield the functions, the classes and the methods that a file defines, as `Class.method`."""
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, (*functions, ast.ClassDef)):
            yield node.name
        if isinstance(node, ast.ClassDef):
            yield from (f"{node.name}.{inner.name}" for inner in node.body if isinstance(inner, functions))


@contextmanager
def noting_calls() -> Iterator[list[tuple[str, Path]]]:
    """Note each function that this thread enters, with its file, when it is entered first."""
    entered: dict[tuple[str, Path], None] = {}
    calls: list[tuple[str, Path]] = []

    def note(frame: FrameType, event: str, _: Any) -> None:
        if event == "call":
            entered.setdefault((frame.f_code.co_qualname, Path(frame.f_code.co_filename)))

    sys.setprofile(note)
    try:
        yield calls
    finally:
        sys.setprofile(None)
        calls += entered


def test_each_name_is_where_it_is_said_to_be() -> None:
    missing = [f"{name} in {path}" for name, path in read_steps() if name not in defined_names(path)]
    assert not missing


async def test_a_recorded_call_goes_that_way(backend: RedunBackendDb) -> None:
    await backend.record_value(double)
    result = await backend.record_value(4)
    child = await backend.record_call_node(
        "way.double", double.hash, "0" * 40, ([], {}), ([], {}), result, []
    )
    with noting_calls() as calls:
        call_hash = await backend.record_call_node(
            "way.double", double.hash, "1" * 40, ([2], {}), ([2], {}), result, [child]
        )
    assert await backend.get_call_cache(call_hash) == (4, True)
    # `Inserts` is what both databases promise; the class of each ends in that name.
    places = [
        next((at for at, (called, file) in enumerate(calls) if called.endswith(name) and file == path), None)
        for name, path in read_steps()
    ]
    assert None not in places
    assert places == sorted(places, key=lambda place: place or 0)
