"""redun on an empty database of its own, to do the same calls on and compare."""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tests.support.databases import redun_uri

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import pytest


@contextmanager
def open_twin(dialect: str, request: pytest.FixtureRequest, folder: Path) -> Iterator[Any]:
    """Yield a loaded backend of redun's on a fresh database of the dialect."""
    from redun.backends.db import RedunBackendDb

    if dialect == "sqlite":
        path = shutil.copyfile(request.getfixturevalue("sqlite_template"), folder / "twin.db")
        url, cleanup = f"sqlite:///{path}", None
    else:
        cluster = request.getfixturevalue("postgres")
        name = cluster.create_database(request.getfixturevalue("postgres_template"))
        url, cleanup = cluster.url(name), lambda: cluster.drop_database(name)
    redun = RedunBackendDb(db_uri=redun_uri(url))
    redun.load()
    try:
        yield redun
    finally:
        redun.session.close()
        redun.engine.dispose()
        if cleanup:
            cleanup()
