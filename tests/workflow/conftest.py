"""What all tests of workflows begin with."""

from __future__ import annotations

import pytest

from tests.support.scheduling import calls


@pytest.fixture(autouse=True)
def forget_calls() -> None:
    """Count anew which functions ran."""
    calls.clear()
