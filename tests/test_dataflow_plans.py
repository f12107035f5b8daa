"""That a walk looks rows up by index, whatever the planner knows of the tables."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa

from aredun.backend import RedunBackendDb
from aredun.dataflow.downstream import DOWNSTREAM
from aredun.dataflow.keys import make_key
from aredun.dataflow.load import Direction, Loader
from aredun.dataflow.upstream import UPSTREAM
from tests.support.dataflow import make_chains


def count_scans(redun_backend: Any) -> dict[str, int]:
    """Return how often each table was read from end to end, by sessions that have ended."""
    statement = sa.text(
        "SELECT relname, seq_scan FROM pg_stat_user_tables WHERE relname "
        "IN ('argument', 'argument_result', 'call_edge', 'call_node', 'subvalue')"
    )
    with redun_backend.engine.connect() as connection:
        return {row.relname: row.seq_scan for row in connection.execute(statement)}


@pytest.mark.parametrize("dialect", ["postgresql"], indirect=True)
@pytest.mark.parametrize("direction", [UPSTREAM, DOWNSTREAM], ids=["upstream", "downstream"])
async def test_layers_are_looked_up_by_index(
    database_url: str, redun_backend: Any, direction: Direction
) -> None:
    graph, _ = make_chains(20, 5)
    graph.insert(redun_backend)
    keys = [
        *(make_key("A", row["arg_hash"], row["value_hash"]) for row in graph.arguments),
        *(make_key("C", row["call_hash"]) for row in graph.calls),
        *(make_key("R", row["call_hash"], row["value_hash"]) for row in graph.calls),
    ]
    before = count_scans(redun_backend)
    backend = RedunBackendDb(database_url)
    await backend.load()
    # Without statistics, and for tables as small as these, the planner's own choice is to read them whole.
    entries = await Loader(backend.database, direction).load_layer(keys)
    await backend.close()
    assert len(entries) == len(keys)
    assert count_scans(redun_backend) == before
