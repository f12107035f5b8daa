"""The dataflow of real workflows: edges, text and JSON are redun's, from every start node, on both
databases."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from redun.backends import db as redun_db

from tests.support.dataflow import check_displays, check_edges, get_start_nodes
from tests.support.dataflow_workflows import run_all

if TYPE_CHECKING:
    from pathlib import Path


async def test_every_shape(backend: Any, redun_backend: Any, tmp_path: Path) -> None:
    run_all(redun_backend, tmp_path)
    assert await check_edges(backend, redun_backend, get_start_nodes(redun_backend)) > 1_000
    values = redun_backend.session.query(redun_db.Value).all()
    assert await check_displays(backend, redun_backend, values) > len(values) / 2
