"""That a walk looks rows up by index, whatever the planner knows, and knows no table but the models'."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa

from aredun.backend import RedunBackendDb
from aredun.dataflow.downstream import DOWNSTREAM, USES_OF_VALUE
from aredun.dataflow.load import Direction, Loader
from aredun.dataflow.nodes import make_key
from aredun.dataflow.statements import make_edges_statement, make_reach_statement
from aredun.dataflow.upstream import ANCESTRY, CANDIDATES, UPSTREAM, make_order_statement
from aredun.models import Base
from aredun.storage.graph import GraphDialect
from tests.support.dataflow import make_chains

if TYPE_CHECKING:
    from collections.abc import Iterator


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


def list_statements() -> Iterator[str]:
    """Yield every statement of a walk that is written as text."""
    dialect = GraphDialect()
    for direction in (UPSTREAM, DOWNSTREAM):
        yield make_reach_statement(dialect, direction.transitions, direction.parent)
        yield make_edges_statement(dialect, direction.transitions, direction.parent)
    yield from (make_order_statement(dialect), CANDIDATES, ANCESTRY, USES_OF_VALUE)


def explain(metadata: sa.MetaData) -> None:
    """Have sqlite read all statements, with these tables alone."""
    parameters = dict.fromkeys(["C", "A", "R", "seeds", "stop"], "[]")
    engine = sa.create_engine("sqlite://")
    metadata.create_all(engine)
    with engine.connect() as connection:
        for statement in list_statements():
            connection.execute(
                sa.text(f"EXPLAIN {statement}"), {**parameters, "limit": 1, "value": "", "hash": ""}
            )
    engine.dispose()


def test_statements_name_tables_and_columns_of_the_models() -> None:
    explain(Base.metadata)


USED = {
    "argument": ["arg_hash", "arg_key", "arg_position", "call_hash", "value_hash"],
    "argument_result": ["arg_hash", "result_call_hash"],
    "call_edge": ["call_order", "child_id", "parent_id"],
    "call_node": ["call_hash", "task_hash", "timestamp", "value_hash"],
    "job": ["call_hash", "start_time"],
    "subvalue": ["parent_value_hash", "value_hash"],
    "task": ["hash", "name", "namespace"],
}


@pytest.mark.parametrize(
    ("table", "column"), [(table, name) for table, names in USED.items() for name in names]
)
def test_a_renamed_column_is_noticed(table: str, column: str) -> None:
    metadata = sa.MetaData()
    for name in USED:
        columns = [
            sa.Column("renamed" if (name, item.name) == (table, column) else item.name, item.type)
            for item in Base.metadata.tables[name].columns
        ]
        sa.Table(name, metadata, *columns)
    with pytest.raises(sa.exc.OperationalError, match=f"no such column: .*{column}"):
        explain(metadata)
