"""The garbage collector of a process that is the command's own."""

from __future__ import annotations

import gc
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

# New objects that make the collector look at the youngest ones, and how many such looks make one at the next
# older. Python's own (700, 10, 10) suit small programs: where two hundred walks are in memory, up to a
# third of the time goes to looking for garbage that is not there.
_THRESHOLDS: Final = (10_000, 20, 50)


@contextmanager
def collect_rarely() -> Iterator[None]:
    """Look for garbage less often in the block, and never again among what is there at its end.

    Python looks through all of it once more when the process ends: that takes as long as a third of the
    imports. A library must not decide that for the program that uses it; a command may.
    """
    before = gc.get_threshold()
    gc.set_threshold(*_THRESHOLDS)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.freeze()
