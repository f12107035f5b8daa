"""The garbage collector of a process that is the command's own."""

from __future__ import annotations

import gc
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

# The collector looks at the youngest objects after so many new ones, and at older ones after so many such
# looks. Python's own numbers (700, 10, 10) suit small programs: with two hundred walks in memory, up to a
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
