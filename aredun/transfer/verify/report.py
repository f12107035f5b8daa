"""What a verification found."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong.

    Attributes
    ----------
    kind : str
        `wrong hash`, `missing bytes`, `missing file`, `dangling reference`, `empty subtree`, `wrong subtree`,
        `missing evaluation`, `wrong is_current`.
    record : str
        The record at fault: its kind and id.
    detail : str
        What is wrong with it.
    repaired : bool
        Whether it has been mended.
    """

    kind: str
    record: str
    detail: str
    repaired: bool = False

    def __str__(self) -> str:
        mended = " (repaired)" if self.repaired else ""
        return f"{self.record}: {self.kind}: {self.detail}{mended}"


@dataclass
class VerifyReport:
    """What a verification found.

    Attributes
    ----------
    checked : dict[str, int]
        Rows looked at, by table.
    unverifiable : int
        Hashes that cannot be computed without running something, or without rows that were never recorded.
    problems : list[Problem]
        What is wrong.
    """

    checked: dict[str, int] = field(default_factory=dict)
    unverifiable: int = 0
    problems: list[Problem] = field(default_factory=list)

    @property
    def is_sound(self) -> bool:
        """Whether nothing is wrong that has not been mended."""
        return all(problem.repaired for problem in self.problems)
