"""What PostgreSQL makes of lookups of many keys, by a plan that it keeps from when its tables were small."""

from __future__ import annotations

import re
from typing import Any

import pytest

from aredun.backend import RedunBackendDb
from aredun.recording import caches, call_rows
from tests.support.recording import record_call, start

STATEMENTS = {
    "single steps": caches._STATEMENTS[False, False, True],
    "values": caches._GET_VALUES,
    "values of calls": caches._GET_CALL_VALUES,
    "tasks of calls": caches._GET_SUBTREES,
    "contexts": caches._GET_CONTEXTS,
    "recorded calls": call_rows._FIND_CALLS,
    "recorded calls with their tasks": call_rows._FIND_SUBTREES,
}


@pytest.mark.parametrize("name", STATEMENTS)
async def test_rows_are_not_compared_with_one_key_after_the_other(postgres_url: str, name: str) -> None:
    """The plan is as good for thousands of rows: whether keys are hashed, or looked up in an index."""
    async with RedunBackendDb(postgres_url) as backend:
        job = await start(backend)
        await record_call(backend, job, 1)
        async with backend.database.engine.connect() as connection:
            text = str(STATEMENTS[name].compile(dialect=connection.dialect))
            driver: Any = (await connection.get_raw_connection()).driver_connection
            await driver.execute("SET plan_cache_mode = force_generic_plan")
            await driver.execute(f"PREPARE lookup AS {text}")
            parameters = ", ".join(["'{a,b}'"] * len(set(re.findall(r"\$\d+", text))))
            rows = await driver.fetch(f"EXPLAIN EXECUTE lookup ({parameters})")
    plan = "\n".join(row[0] for row in rows)
    assert not re.search(r"Filter: .*= ANY", plan), plan
