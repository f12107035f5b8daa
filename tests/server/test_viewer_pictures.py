"""The pictures of README and docs: they can be taken anew, show what they should, and are small."""

from __future__ import annotations

import re
import struct
import zlib
from typing import TYPE_CHECKING

import pytest

from tests.pictures.png import COLOURS, write_png
from tests.pictures.taking import (
    HEIGHT,
    HEIGHTS,
    PICTURES,
    SCHEMES,
    WIDTH,
    take_pictures,
)
from tests.support.dependencies import CHECKOUT

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.async_api import Browser

FOLDER = CHECKOUT / "docs" / "pictures"
TITLES = {title for shown in PICTURES.values() for title in shown}


def read_chunks(content: bytes) -> dict[bytes, bytes]:
    """Return the parts of a PNG file, each of which is whole."""
    assert content.startswith(b"\x89PNG\r\n\x1a\n")
    chunks, place = {}, 8
    while place < len(content):
        [length] = struct.unpack_from(">I", content, place)
        kind, part = content[place + 4 : place + 8], content[place + 8 : place + 8 + length]
        assert content[place + 8 + length :][:4] == struct.pack(">I", zlib.crc32(kind + part))
        chunks[kind] = part
        place += 12 + length
    return chunks


def check_picture(path: Path) -> None:
    """Assert that a picture has its size and its colours."""
    title, _, scheme = path.stem.rpartition("-")
    chunks = read_chunks(path.read_bytes())
    assert struct.unpack_from(">II", chunks[b"IHDR"]) == (WIDTH, HEIGHTS.get(title, HEIGHT))
    # The commonest colour comes first: the ground.
    assert (min(chunks[b"PLTE"][:3]) > 200) if scheme == "light" else (max(chunks[b"PLTE"][:3]) < 50)
    assert path.stat().st_size < 150_000


async def test_pictures_are_taken(browser: Browser, large: dict[str, str], tmp_path: Path) -> None:
    """All of them, of the demo and of the larger example; each shows what it is for."""
    taken = [path async for path in take_pictures(browser, large, tmp_path, ["dark"])]
    assert {path.stem for path in taken} == {f"{title}-dark" for title in TITLES}
    for path in taken:
        check_picture(path)


def test_pictures_of_the_docs_are_whole() -> None:
    """Each is there in both colours, is small, and is shown by a page that has it in both."""
    paths = sorted(FOLDER.glob("*.png"))
    assert [path.name for path in paths] == sorted(
        f"{title}-{scheme}.png" for title in TITLES for scheme in SCHEMES
    )
    for path in paths:
        check_picture(path)
    assert sum(path.stat().st_size for path in paths) < 1_500_000
    pages = [CHECKOUT / "README.md", *(CHECKOUT / "docs").rglob("*.md")]
    dark = [
        name
        for page in pages
        for name in re.findall(r'srcset="\S*pictures/(\S+)-dark.png"', page.read_text())
    ]
    light = [
        name for page in pages for name in re.findall(r'src="\S*pictures/(\S+)-light.png"', page.read_text())
    ]
    assert dark == light
    assert {*dark} == TITLES


@pytest.mark.parametrize("colours", [3, COLOURS, 5 * COLOURS])
def test_pictures_keep_their_colours(colours: int) -> None:
    """Few are as they were; of many, one pixel of a colour of its own keeps it."""
    pixels = b"".join(struct.pack("<I", 0xFF000000 | number % colours) for number in range(99 * 99))
    chunks = read_chunks(write_png(b"\0\0\xff\0" + pixels, 1, 99 * 99 + 1))
    lines = zlib.decompress(chunks[b"IDAT"])
    shown = [chunks[b"PLTE"][3 * index :][:3] for index in lines[1::2]]
    assert shown[0] == b"\0\0\xff"
    if colours < COLOURS:
        assert shown[1:] == [bytes([number % colours, 0, 0]) for number in range(99 * 99)]
