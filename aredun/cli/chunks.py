"""Records in portions: the first one is small, so that a person sees it at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

T = TypeVar("T")

FIRST_LINES, MAX_LINES = 20, 500


async def iterate(items: Iterable[T]) -> AsyncIterator[T]:
    """Yield items."""
    for item in items:
        yield item


async def take(items: AsyncIterator[T], limit: int | None) -> AsyncIterator[T]:
    """Yield the first items, all of them without a limit."""
    if limit == 0:
        return
    count = 0
    async for item in items:
        yield item
        count += 1
        if count == limit:
            return


async def in_chunks(
    items: AsyncIterator[T], size: int = FIRST_LINES, most: int = MAX_LINES
) -> AsyncIterator[list[T]]:
    """Yield lists of items, each four times as long as the one before, as far as there are so many."""
    chunk: list[T] = []
    async for item in items:
        chunk.append(item)
        if len(chunk) == size:
            yield chunk
            chunk, size = [], min(size * 4, most)
    if chunk:
        yield chunk
