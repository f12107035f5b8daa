"""A pytest plugin that runs redun's own tests with aredun's bridge in place of redun's backend."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

# Every module of redun that has taken the name of the backend over.
HOLDERS = (
    "redun.backends.db",
    "redun.backends.db.dataflow",
    "redun.cli",
    "redun.console.app",
    "redun.scheduler",
)
# These patch redun's own way of writing, which the bridge does without.
PATCHES_REDUN = {
    "test_db_retries": "the session inside redun's retry decorator",
    "test_race_condition_record_value": "the commit of redun's session",
}


def pytest_configure() -> None:
    """Put the bridge where redun and its tests look for the backend, before the tests are imported."""
    from aredun.redun_bridge import RedunBackendDb

    for name in HOLDERS:
        module = importlib.import_module(name)
        assert hasattr(module, "RedunBackendDb"), name
        module.RedunBackendDb = RedunBackendDb  # type: ignore[attr-defined]  # just found to be there


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what cannot pass, by name."""
    left_out = [item for item in items if item.name in PATCHES_REDUN]
    items[:] = [item for item in items if item.name not in PATCHES_REDUN]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
