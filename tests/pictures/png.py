"""PNG files of few colours: a third of what a browser writes, and nobody sees the difference."""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

COLOURS = 256


def write_png(pixels: bytes, width: int, height: int) -> bytes:
    """
    Write a picture with a palette.

    Parameters
    ----------
    pixels : bytes
        Four bytes each, the last of which is not looked at, row by row from the top.
    width, height : int
        In pixels.

    Returns
    -------
    bytes
        A file. Of more than 256 colours half of those that stay are the commonest, half those that are
        least like any other; the rest become the nearest of these.
    """
    rows = np.frombuffer(pixels, np.uint8).reshape(-1, 4)[:, :3].astype(np.int32)
    codes, where, counts = np.unique(
        rows @ np.array([65_536, 256, 1]), return_inverse=True, return_counts=True
    )
    colours = np.stack([codes >> 16, codes >> 8 & 255, codes & 255], axis=1)
    palette = colours[_choose(colours, counts)]
    distances = ((colours[:, None, :] - palette[None, :, :]) ** 2).sum(axis=2)
    indices = distances.argmin(axis=1).astype(np.uint8)[where].reshape(height, width)
    # Each row begins with the number of its filter: none.
    lines = np.concatenate([np.zeros((height, 1), np.uint8), indices], axis=1)
    header = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)
    parts = (
        (b"IHDR", header),
        (b"PLTE", palette.astype(np.uint8).tobytes()),
        (b"IDAT", zlib.compress(lines.tobytes(), 9)),
        (b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(_write_chunk(kind, content) for kind, content in parts)


def _choose(colours: NDArray[np.int32], counts: NDArray[np.int64]) -> list[int]:
    """Return which colours stay."""
    chosen = [int(index) for index in np.argsort(-counts)[: COLOURS // 2]]
    nearest = np.full(len(colours), np.iinfo(np.int64).max)
    for number in range(min(COLOURS, len(colours))):
        if number >= len(chosen):
            chosen.append(int(nearest.argmax()))
        distance = ((colours - colours[chosen[number]]) ** 2).sum(axis=1)
        nearest = np.minimum(nearest, distance)
    return chosen


def _write_chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
