"""The API holds what its schema says, whatever it is asked: schemathesis finds no server error."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.support.hostile import make_hostile_repository
from tests.support.server import serve

if TYPE_CHECKING:
    from aredun.backend import RedunBackendDb

SCHEMATHESIS = str(Path(sys.executable).with_name("schemathesis"))
OPTIONS = ["--max-examples=3", "--checks=not_a_server_error", "--phases=examples,fuzzing", "--no-color"]


async def test_schema_has_examples(backend: RedunBackendDb) -> None:
    """Whoever reads the schema sees what answers look like."""
    async with serve(backend) as served:
        schema = await served.get("/openapi.json")
    assert len(schema["paths"]) >= 20
    models = schema["components"]["schemas"]
    for name in ("Execution", "Job", "CallNode", "Value", "Task", "Tag", "Problem"):
        [example] = models[name]["examples"]
        assert set(models[name]["required"]) <= set(example)
    for route in schema["paths"].values():
        for operation in route.values():
            assert operation["description"]


async def test_no_server_errors(backend: RedunBackendDb, redun_backend: Any, tmp_path: Path) -> None:
    """Requests made up from the schema, over a hostile repository."""
    make_hostile_repository(redun_backend, tmp_path / "mark")
    async with serve(backend) as served:
        process = await asyncio.create_subprocess_exec(
            SCHEMATHESIS,
            "run",
            f"{served.url}/openapi.json",
            *OPTIONS,
            cwd=tmp_path,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await process.communicate()
        assert process.returncode == 0, output.decode()
        # It did test something.
        assert b"generated" in output
    assert not (tmp_path / "mark").exists()
