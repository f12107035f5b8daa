"""Groups of which some are at fault."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aredun.storage.retry import halve, split_at_fault

if TYPE_CHECKING:
    from collections.abc import Sequence


async def test_what_is_at_fault_is_found_by_halves_in_order() -> None:
    attempted: list[list[int]] = []
    kept: list[int] = []

    async def attempt(part: Sequence[int]) -> Sequence[Sequence[int]]:
        attempted.append(list(part))
        if not {3, 4}.isdisjoint(part):
            return halve(part)
        kept.extend(part)
        return ()

    numbers: Sequence[int] = list(range(8))
    await split_at_fault(numbers, attempt)
    assert kept == [0, 1, 2, 5, 6, 7]
    assert attempted == [
        [0, 1, 2, 3, 4, 5, 6, 7],
        [0, 1, 2, 3],
        [0, 1],
        [2, 3],
        [2],
        [3],
        [4, 5, 6, 7],
        [4, 5],
        [4],
        [5],
        [6, 7],
    ]
    assert halve(["alone"]) == halve([]) == []
